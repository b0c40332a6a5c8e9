//! The folder of a bridge: its journal, its state and its secret. One process uses it at a time.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// A folder that this process uses alone, until it is dropped or the process ends.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

/// Why a folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Two processes would publish from one journal, and give the same revisions twice.
    #[error(
        "another bridge uses the folder {}; stop it, or give each report server's bridge a folder of \
         its own with FANFARE_BRIDGE_FOLDER",
        .0.display()
    )]
    InUse(PathBuf),
    /// It can't be made or written.
    #[error("the bridge's folder {} can't be used: {error}", path.display())]
    Disk { path: PathBuf, error: io::Error },
}

impl Folder {
    /// Makes the folder if it is missing, for this user alone, because events may have passwords in
    /// them; and locks it.
    ///
    /// # Errors
    ///
    /// [`FolderError`]
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let disk = |error| FolderError::Disk { path: path.to_owned(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(disk)?;
        let lock = File::create(path.join("lock")).map_err(disk)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(disk(error)),
        }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_used_by_one_at_a_time() {
        let path = std::env::temp_dir().join(format!("fanfare-folder-{}", std::process::id()));
        let first = Folder::open(&path).unwrap();
        assert!(matches!(Folder::open(&path), Err(FolderError::InUse(_))));
        drop(first);
        drop(Folder::open(&path).unwrap());
        drop(std::fs::remove_dir_all(&path));
    }
}
