//! Finds the server programs on this machine, and installs them where that is possible.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::tree::Tree;

const PACKAGES: [&str; 2] = ["postgresql", "rabbitmq-server"];

/// The package of `prometheus` and `promtool`.
const PROMETHEUS: &str = "prometheus";

/// The package of a library that fakes the time.
const FAKETIME: &str = "libfaketime";

/// The package of `nginx`, and the program's name.
const NGINX: &str = "nginx";

/// The packages of `chromedriver` and the browser that it drives.
const CHROMIUM: [&str; 2] = ["chromium", "chromium-driver"];

/// The package, and the program, of a pooler of database connections.
const PGBOUNCER: &str = "pgbouncer";

/// The program that Debian's maintainer scripts ask before they start a service.
const SERVICE_POLICY: &str = "/usr/sbin/policy-rc.d";

/// The paths of the programs in the system that they are taken from.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    tree: Tree,
    /// The folder that holds `postgres` and `initdb`.
    pub(crate) postgres: PathBuf,
    /// The plain start script; the one that packages put on the `PATH` switches users.
    pub(crate) rabbitmq_server: PathBuf,
    pub(crate) epmd: PathBuf,
}

impl Programs {
    /// A command that runs one of the programs, as this user if there is one.
    pub(crate) fn command(&self, program: &Path, user: Option<(u32, u32)>) -> Command {
        self.tree.command(program, user)
    }
}

/// Finds the servers' programs; installs them first if they are missing and this is root on Debian.
pub(crate) fn find_or_install() -> Result<Programs> {
    if let Some(programs) = find() {
        return Ok(programs);
    }
    if !Tree::selected().is_machine() {
        bail!("the folder in FANFARE_TEST_TREE lacks PostgreSQL or RabbitMQ");
    }
    if !can_install() {
        bail!(
            "PostgreSQL or RabbitMQ is not installed: install the packages `{}` (as root on Debian \
             or Ubuntu: apt-get install {}), or set FANFARE_TEST_DATABASE_URL and \
             FANFARE_TEST_AMQP_URL to servers that run already",
            PACKAGES.join("` and `"),
            PACKAGES.join(" "),
        );
    }
    install(&PACKAGES, || find().is_some())?;
    find().context("PostgreSQL or RabbitMQ is still missing after its packages were installed")
}

/// Finds `prometheus` or `promtool`; installs both first if they are missing, as above.
pub(crate) fn find_or_install_prometheus(program: &str) -> Result<PathBuf> {
    if let Some(found) = on_path(program) {
        return Ok(found);
    }
    if !can_install() {
        bail!(
            "{program} is not installed: install Prometheus (Debian: apt-get install {PROMETHEUS})"
        );
    }
    install(&[PROMETHEUS], || on_path(program).is_some())?;
    on_path(program).with_context(|| format!("{program} is still missing after its installation"))
}

/// Finds `pgbouncer`; installs it first if it is missing, as above.
pub(crate) fn find_or_install_pgbouncer() -> Result<PathBuf> {
    // On Debian its folder is only in root's PATH.
    let beside = || Some(PathBuf::from("/usr/sbin/pgbouncer")).filter(|it| it.is_file());
    let find = || on_path(PGBOUNCER).or_else(beside);
    if let Some(found) = find() {
        return Ok(found);
    }
    if !can_install() {
        bail!("PgBouncer is not installed (Debian: apt-get install {PGBOUNCER})");
    }
    install(&[PGBOUNCER], || find().is_some())?;
    find().context("PgBouncer is still missing after its installation")
}

/// Finds `chromedriver`, and Chromium beside it; installs both first if they are missing, as above.
pub(crate) fn find_or_install_chromedriver() -> Result<PathBuf> {
    let find = || on_path("chromium").and_then(|_| on_path("chromedriver"));
    if let Some(found) = find() {
        return Ok(found);
    }
    let packages = CHROMIUM.join(" ");
    if !can_install() {
        bail!("Chromium or its driver is not installed (Debian: apt-get install {packages})");
    }
    install(&CHROMIUM, || find().is_some())?;
    find().context("Chromium or its driver is still missing after their installation")
}

/// Installs `libfaketime` if it is missing, as above.
pub(crate) fn install_faketime(is_there: impl Fn() -> bool) -> Result<()> {
    if is_there() {
        return Ok(());
    }
    if !can_install() {
        bail!("libfaketime is not installed (Debian: apt-get install {FAKETIME})");
    }
    install(&[FAKETIME], &is_there)?;
    ensure!(is_there(), "libfaketime is still missing after its installation");
    Ok(())
}

/// Finds nginx, which is not on every user's path; installs it first if it is missing, as above.
pub(crate) fn find_or_install_nginx() -> Result<PathBuf> {
    let find = || {
        let usual = Some(PathBuf::from("/usr/sbin/nginx"));
        on_path(NGINX).or_else(|| usual.filter(|it| it.is_file()))
    };
    if let Some(found) = find() {
        return Ok(found);
    }
    if !can_install() {
        bail!("nginx is not installed (Debian: apt-get install {NGINX})");
    }
    install(&[NGINX], || find().is_some())?;
    find().context("nginx is still missing after its installation")
}

/// A client program of the servers' PostgreSQL, such as `pg_dump`, which refuses newer servers.
///
/// # Errors
///
/// If it is not installed.
pub fn postgres_client(program: &str) -> Result<Command> {
    let tree = Tree::selected();
    let folder =
        newest_postgres(&tree, program).with_context(|| format!("{program} is not installed"))?;
    Ok(tree.command(&folder.join(program), None))
}

/// Finds PostgreSQL's client program, which is the machine's own: it speaks with newer servers too.
pub(crate) fn find_psql() -> Result<PathBuf> {
    newest_postgres(&Tree::machine(), "psql")
        .map(|folder| folder.join("psql"))
        .context("psql is not installed: install the package `postgresql-client`")
}

fn find() -> Option<Programs> {
    let tree = Tree::selected();
    let programs = Programs {
        postgres: newest_postgres(&tree, "initdb")?,
        rabbitmq_server: rabbitmq_server(&tree)?,
        epmd: epmd(&tree)?,
        tree,
    };
    Some(programs)
}

/// The folder of the newest PostgreSQL that has `program`.
fn newest_postgres(tree: &Tree, program: &str) -> Option<PathBuf> {
    let debian = matching(tree, "/usr/lib/postgresql", "").into_iter().map(|it| it.join("bin"));
    let red_hat = matching(tree, "/usr", "pgsql-").into_iter().map(|it| it.join("bin"));
    debian
        .chain(red_hat)
        .find(|folder| folder.join(program).is_file())
        .map(|folder| tree.inside(&folder))
        .or_else(|| machine_program(tree, program)?.parent().map(Path::to_path_buf))
}

fn rabbitmq_server(tree: &Tree) -> Option<PathBuf> {
    let plain = tree.outside("/usr/lib/rabbitmq/bin");
    let versions = matching(tree, "/usr/lib/rabbitmq/lib", "rabbitmq_server-");
    std::iter::once(plain)
        .chain(versions.into_iter().map(|it| it.join("sbin")))
        .map(|folder| folder.join("rabbitmq-server"))
        .find(|it| it.is_file())
        .map(|it| tree.inside(&it))
        .or_else(|| machine_program(tree, "rabbitmq-server"))
}

fn epmd(tree: &Tree) -> Option<PathBuf> {
    machine_program(tree, "epmd").or_else(|| {
        matching(tree, "/usr/lib/erlang", "erts-")
            .into_iter()
            .map(|it| it.join("bin/epmd"))
            .find(|it| it.is_file())
            .map(|it| tree.inside(&it))
    })
}

/// A program on this machine's path, if the system is this machine.
fn machine_program(tree: &Tree, program: &str) -> Option<PathBuf> {
    tree.is_machine().then(|| on_path(program)).flatten()
}

/// The entries of a system's `folder` that start with `prefix`, the highest version first, as they
/// are found on this machine.
fn matching(tree: &Tree, folder: &str, prefix: &str) -> Vec<PathBuf> {
    let version = |path: &PathBuf| -> Vec<u32> {
        let name = path.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
        name.trim_start_matches(prefix).split('.').map(|it| it.parse().unwrap_or(0)).collect()
    };
    let entries = fs::read_dir(tree.outside(folder)).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect();
    found.sort_by_key(version);
    found.reverse();
    found
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|it| it.is_file())
}

fn can_install() -> bool {
    rustix::process::geteuid().is_root() && on_path("apt-get").is_some()
}

/// Installs packages, unless another process has installed them while this one waited for the lock.
fn install(packages: &[&str], is_done: impl Fn() -> bool) -> Result<()> {
    let turn = env::temp_dir().join("fanfare-install.lock");
    let turn = fs::File::create(&turn).with_context(|| format!("making {}", turn.display()))?;
    turn.lock().context("waiting for another process to install packages")?;
    if is_done() {
        return Ok(());
    }
    eprintln!("installing {} with apt-get…", packages.join(" and "));
    let _quiet = NoServiceStarts::begin()?;
    apt_get(&["update"])?;
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    apt_get(&arguments)
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        // Another process may be installing too.
        .args(["-q", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .context("running apt-get")?;
    if !output.status.success() {
        bail!(
            "apt-get {} failed ({}):\n{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end(),
        );
    }
    Ok(())
}

/// Keeps newly installed packages from starting as system services: tests start private instances.
struct NoServiceStarts {
    is_ours: bool,
}

impl NoServiceStarts {
    fn begin() -> Result<Self> {
        let policy = Path::new(SERVICE_POLICY);
        let is_ours = !policy.exists();
        if is_ours {
            fs::write(policy, "#!/bin/sh\nexit 101\n")
                .and_then(|()| fs::set_permissions(policy, fs::Permissions::from_mode(0o755)))
                .with_context(|| format!("writing {SERVICE_POLICY}"))?;
        }
        Ok(Self { is_ours })
    }
}

impl Drop for NoServiceStarts {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = fs::remove_file(SERVICE_POLICY);
        }
    }
}
