//! The Debian package, built by cargo-deb as `crates/fanfare/Cargo.toml` says.
//!
//! `cargo xtask deb` builds the package of a release. [`check`] builds a package of the binary
//! under test, installs it into a folder, removes it again, and checks what an operator would find.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fanfare_testkit::build::workspace;

use crate::cargo::{self, cargo, output_of, program, run as show, succeeds};
use crate::installed::Installed;

/// A fixed version, so that the package is the same everywhere.
const VERSION: &str = "3.8.0";
const TOOL: &str = "target/tools/cargo-deb/bin/cargo-deb";

/// The package and the files that it is built from.
const FOLDER: &str = "target/deb";

/// The shells that get completions, and the file names under which they look for them.
const COMPLETIONS: [(&str, &str); 3] =
    [("bash", "fanfare"), ("zsh", "_fanfare"), ("fish", "fanfare.fish")];

/// Builds the package of a release.
pub(crate) fn run() -> Result<()> {
    show(cargo().args(["build", "--release", "--locked", "--package", "fanfare"]))?;
    let package = make(&workspace().join("target/release/fanfare"), &[])?;
    println!("{}", package.display());
    Ok(())
}

/// Builds a package of this binary, and tests it in a folder of its own.
pub(crate) fn check(binary: &Path) -> Result<()> {
    if !succeeds(program("dpkg").arg("--version")) {
        println!("NOT checked: this machine has no dpkg");
        return Ok(());
    }
    // Fast compression: the package is not kept.
    let package = make(binary, &["--fast", "--compress-type", "gz"])?;
    let root = workspace().join(FOLDER).join("root");
    let installed = Installed::new(&root, &package)?;
    installed.check_files()?;
    installed.check_program()?;
    installed.check_units()?;
    installed.check_settings_survive_a_reinstallation()?;
    installed.check_purge()?;
    fs::remove_dir_all(&root).context("removing the folder of the installation")?;
    println!("installed, checked, removed: {}", package.display());
    Ok(())
}

fn make(binary: &Path, options: &[&str]) -> Result<PathBuf> {
    let tool = find_or_get()?;
    collect(binary)?;
    let mut deb = program(tool);
    deb.args(["--quiet", "--package", "fanfare", "--no-build", "--no-strip"]);
    // The machine's compressor: that of cargo-deb is not optimised and would take minutes.
    deb.arg("--compress-system");
    deb.args(["--output", FOLDER]).args(options);
    let said = output_of(&mut deb)?;
    let path = said.lines().last().context("cargo-deb did not say where the package is")?;
    Ok(PathBuf::from(path))
}

/// Creates the files that the package has and the repository has not.
fn collect(binary: &Path) -> Result<()> {
    let folder = workspace().join(FOLDER);
    if folder.exists() {
        fs::remove_dir_all(&folder).context("removing the former package")?;
    }
    fs::create_dir_all(folder.join("completions")).context("making the folder of the package")?;
    let fanfare = folder.join("fanfare");
    fs::copy(binary, &fanfare).with_context(|| format!("copying {}", binary.display()))?;
    let reads_failpoints = program("grep").args(["-qaF", "FAILPOINTS"]).arg(&fanfare).status();
    let is_without = reads_failpoints.context("running grep")?.code() == Some(1);
    ensure!(is_without, "{} has failpoints, which are for tests alone", binary.display());
    show(program("deploy/separate-symbols").arg(&fanfare))?;
    output_of(program(&fanfare).arg("man").arg(folder.join("man")))?;
    for (shell, file) in COMPLETIONS {
        let script = output_of(program(&fanfare).args(["completions", shell]))?;
        fs::write(folder.join("completions").join(file), script).context("writing completions")?;
    }
    Ok(())
}

fn find_or_get() -> Result<String> {
    let own = workspace().join(TOOL).display().to_string();
    if !is_right(&own) {
        println!("getting cargo-deb {VERSION}");
        let mut install = cargo();
        // Without optimisation it is built in half the time, and is fast enough.
        install.args(["install", "cargo-deb", "--debug", "--locked", "--version", VERSION]);
        cargo::run(install.args(["--root", "target/tools/cargo-deb"]))
            .context("getting cargo-deb from its sources")?;
    }
    ensure!(is_right(&own), "{own} is not cargo-deb {VERSION}");
    Ok(own)
}

fn is_right(tool: &str) -> bool {
    let said = output_of(program(tool).arg("--version"));
    said.is_ok_and(|said| said.trim().ends_with(VERSION))
}
