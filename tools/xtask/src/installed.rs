//! The Debian package, installed into a folder instead of the root of the machine.
//!
//! dpkg keeps its list of packages in that folder too, and the scripts of the package get the
//! folder as `DPKG_ROOT`, so the machine itself is not changed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::cargo::{output_of, program, succeeds};

/// The files that an operator looks for, with their modes.
const FILES: [(&str, u32); 17] = [
    ("usr/bin/fanfare", 0o755),
    ("usr/share/man/man1/fanfare.1.gz", 0o644),
    ("usr/share/man/man1/fanfare-webhooks-add.1.gz", 0o644),
    ("usr/share/bash-completion/completions/fanfare", 0o644),
    ("usr/share/zsh/vendor-completions/_fanfare", 0o644),
    ("usr/share/fish/vendor_completions.d/fanfare.fish", 0o644),
    ("usr/lib/systemd/system/fanfare-all.service", 0o644),
    ("usr/lib/systemd/system/fanfare-bridge.service", 0o644),
    ("usr/lib/systemd/system/fanfare-console.service", 0o644),
    ("usr/lib/systemd/system/fanfare-migrate.service", 0o644),
    ("usr/lib/systemd/system/fanfare-router.service", 0o644),
    ("usr/lib/systemd/system/fanfare-worker@.service", 0o644),
    ("usr/lib/sysusers.d/fanfare.conf", 0o644),
    ("usr/lib/tmpfiles.d/fanfare.conf", 0o644),
    ("usr/share/doc/fanfare/copyright", 0o644),
    ("usr/share/fanfare/postgres/roles.sql", 0o644),
    (SETTINGS, 0o640),
];

const SETTINGS: &str = "etc/fanfare/fanfare.toml";

/// An installed package.
pub(crate) struct Installed<'a> {
    root: &'a Path,
    package: &'a Path,
}

impl<'a> Installed<'a> {
    /// Installs the package into an empty folder.
    pub(crate) fn new(root: &'a Path, package: &'a Path) -> Result<Self> {
        let list = root.join("var/lib/dpkg");
        for folder in ["info", "updates"] {
            fs::create_dir_all(list.join(folder)).context("making the folder of dpkg")?;
        }
        // The files to which `systemd-sysusers` adds the user.
        fs::create_dir_all(root.join("etc")).context("making the folder of settings")?;
        fs::write(list.join("status"), "").context("making the list of packages")?;
        let installed = Self { root, package };
        installed.dpkg("--install", package)?;
        Ok(installed)
    }

    /// Checks that each file has its mode and that the user was created.
    pub(crate) fn check_files(&self) -> Result<()> {
        for (path, mode) in FILES {
            let found = self.root.join(path).metadata();
            let found = found.with_context(|| format!("looking for /{path}"))?;
            let found = found.permissions().mode() & 0o7777;
            ensure!(found == mode, "/{path} has the mode {found:o}, not {mode:o}");
        }
        let users = self.read("etc/passwd")?;
        let user = users.lines().find(|line| line.starts_with("fanfare:"));
        let user = user.context("there is no user fanfare")?;
        ensure!(user.contains(":/var/lib/fanfare:"), "the user is {user}");
        let wanted = self.root.join("etc/systemd/system/multi-user.target.wants");
        ensure!(!wanted.exists(), "a unit is enabled before it was set up");
        Ok(())
    }

    /// Checks that the program runs and accepts the settings file as it is installed.
    pub(crate) fn check_program(&self) -> Result<()> {
        let fanfare = self.root.join("usr/bin/fanfare");
        let version = output_of(program(&fanfare).arg("--version"))?;
        ensure!(version.starts_with("fanfare "), "its version is {version}");
        let settings = self.root.join(SETTINGS);
        output_of(program(&fanfare).arg("config").arg("--config").arg(settings))?;
        Ok(())
    }

    /// Checks that systemd finds no fault in a unit.
    pub(crate) fn check_units(&self) -> Result<()> {
        if !succeeds(program("systemd-analyze").arg("--version")) {
            println!("the units are NOT checked: this machine has no systemd-analyze");
            return Ok(());
        }
        let mut verify = program("systemd-analyze");
        // A fault about a unit of another package does not count, because the folder lacks that
        // package.
        verify.args(["verify", "--man=no", "--recursive-errors=no", "--root"]).arg(self.root);
        for unit in ["all", "console", "migrate", "router", "worker@1"] {
            verify.arg(format!("fanfare-{unit}.service"));
        }
        let output = verify.output().context("running systemd-analyze")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("fanfare")).collect();
        ensure!(output.status.success() && ours.is_empty(), "systemd-analyze said:\n{said}");
        Ok(())
    }

    /// Checks that a new installation keeps the settings file of an operator.
    pub(crate) fn check_settings_survive_a_reinstallation(&self) -> Result<()> {
        let written = "database_url = \"postgres://somewhere/else\"\n";
        fs::write(self.root.join(SETTINGS), written).context("writing the settings")?;
        self.dpkg("--install", self.package)?;
        ensure!(self.read(SETTINGS)? == written, "a new installation changed the settings");
        Ok(())
    }

    /// Checks that a removal keeps the settings, and that a purge removes everything but the user.
    pub(crate) fn check_purge(&self) -> Result<()> {
        let state = self.root.join("var/lib/fanfare");
        fs::create_dir_all(&state).context("making the state folder")?;
        fs::write(state.join("secret-keys"), "k").context("making a key ring")?;
        self.dpkg("--remove", Path::new("fanfare"))?;
        ensure!(self.root.join(SETTINGS).exists(), "a removal took the settings");
        ensure!(state.join("secret-keys").exists(), "a removal took the key ring");
        ensure!(!self.root.join("usr/bin/fanfare").exists(), "a removal left the program");
        self.dpkg("--purge", Path::new("fanfare"))?;
        let mut left = Vec::new();
        files_of(self.root, &mut left)?;
        let is_ours = |file: &&PathBuf| file.to_string_lossy().contains("fanfare");
        let inside = left.iter().filter_map(|file| file.strip_prefix(self.root).ok());
        let ours: Vec<PathBuf> = inside.map(Path::to_owned).collect();
        let ours: Vec<&PathBuf> = ours.iter().filter(is_ours).collect();
        ensure!(ours.is_empty(), "a purge left {ours:?}");
        Ok(())
    }

    fn dpkg(&self, action: &str, what: &Path) -> Result<()> {
        let mut dpkg = program("dpkg");
        // The folder has no other package: dependencies are missing, and scripts use the machine's
        // shell.
        dpkg.args(["--force-depends", "--force-script-chrootless", "--force-confold"]);
        dpkg.arg("--root").arg(self.root).arg(action).arg(what);
        output_of(&mut dpkg).map(drop)
    }

    fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.root.join(path)).with_context(|| format!("reading /{path}"))
    }
}

fn files_of(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files_of(&entry.path(), files)?;
        }
        files.push(entry.path());
    }
    Ok(())
}
