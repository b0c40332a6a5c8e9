//! A database on a disk of its own, which can be full: a tablespace on a `tmpfs`.
//!
//! It needs the right to mount. [`in_own_mounts`] gives a program mounts that end with it, so that
//! nothing stays behind however it ends.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::endpoints::{Endpoints, check_name};
use crate::postgres::unprivileged;
use crate::servers::Servers;

/// Set in a program that has mounts of its own.
const OWN_MOUNTS: &str = "FANFARE_TESTKIT_OWN_MOUNTS";

/// The size of a disk with room. Only what is used takes memory.
const ROOMY: &str = "8g";

/// Starts this program again with mounts of its own, if it may have them; returns whether it has.
///
/// # Errors
///
/// If the program can't be started again.
pub fn in_own_mounts() -> Result<bool> {
    if std::env::var_os(OWN_MOUNTS).is_some() {
        return Ok(true);
    }
    let unshare = ["--mount", "--propagation", "private"];
    // The answer is in advance: a program that took the place of this one could not come back.
    let mut mount = Command::new("unshare");
    mount.args(unshare).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
    mount.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if !mount.status().is_ok_and(|status| status.success()) {
        return Ok(false);
    }
    let own = std::env::current_exe().context("looking for this program")?;
    let mut again = Command::new("unshare");
    again.args(unshare).arg(own).args(std::env::args_os().skip(1)).env(OWN_MOUNTS, "1");
    Err(again.exec()).context("starting this program with mounts of its own")
}

/// The disk of one database.
#[derive(Clone, Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl Servers {
    /// Moves a database, which must have no sessions, to a disk of its own. Its log stays where it is.
    ///
    /// # Errors
    ///
    /// If the disk can't be mounted, or the database not be moved.
    pub fn put_on_small_disk(&self, database: &str) -> Result<SmallDisk> {
        check_name(database)?;
        let disk = SmallDisk { folder: self.folder().join("small-disk") };
        fs::create_dir(&disk.folder)?;
        let size = format!("size={ROOMY}");
        mount(&["-t", "tmpfs", "-o", &size, "tmpfs"], &disk)?;
        let tables = disk.folder.join("tables");
        fs::create_dir(&tables)?;
        fs::set_permissions(&tables, fs::Permissions::from_mode(0o700))?;
        if let Some((user, group)) = unprivileged()? {
            chown(&tables, Some(user), Some(group))?;
        }
        move_to(self.endpoints(), database, &tables.display().to_string())?;
        Ok(disk)
    }
}

fn move_to(endpoints: &Endpoints, database: &str, folder: &str) -> Result<()> {
    ensure!(!folder.contains('\''), "the folder {folder} has a quote in its name");
    endpoints
        .sql("postgres", &format!("create tablespace small_disk location '{folder}'"))
        .and_then(|_| {
            endpoints
                .sql("postgres", &format!("alter database {database} set tablespace small_disk"))
        })
        .context("moving the database to its own disk")?;
    Ok(())
}

impl SmallDisk {
    /// Takes all room from it: nothing that is there can grow.
    ///
    /// # Errors
    ///
    /// If its size can't be changed.
    pub fn fill(&self) -> Result<()> {
        // A disk can't be smaller than what is on it. What grows meanwhile makes this fail, so it is
        // tried again.
        for _ in 0..10 {
            let used = used_kilobytes(&self.folder)?;
            if mount(&["-o", &format!("remount,size={used}k")], self).is_ok() {
                return Ok(());
            }
        }
        bail!("the disk grows faster than it can be filled")
    }

    /// Gives it room again.
    ///
    /// # Errors
    ///
    /// If its size can't be changed.
    pub fn make_room(&self) -> Result<()> {
        mount(&["-o", &format!("remount,size={ROOMY}")], self)
    }
}

fn used_kilobytes(folder: &std::path::Path) -> Result<u64> {
    let output = Command::new("df").args(["--output=used", "-k"]).arg(folder).output();
    let printed = String::from_utf8(output.context("running df")?.stdout)?;
    let used = printed.lines().last().unwrap_or_default().trim();
    used.parse().with_context(|| format!("reading {used:?}, which df printed"))
}

fn mount(args: &[&str], disk: &SmallDisk) -> Result<()> {
    let output = Command::new("mount").args(args).arg(&disk.folder).output();
    let output = output.context("running mount")?;
    ensure!(
        output.status.success(),
        "mount failed: {}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(())
}
