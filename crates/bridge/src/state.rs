//! What the bridge remembers: the directory that was published, and the documents that follow it.
//!
//! The documents are stored with their revisions before they are published, so that a bridge that dies
//! in between publishes the same ones again, and no revision is left out.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::directory::Directory;

/// A document to be published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// `directory.user`, `directory.role` or `directory.snapshot`.
    pub event_type: String,
    pub revision: i64,
    /// The document, JSON.
    pub data: String,
}

/// The state of a bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The newest revision that is given to a document; 0 before the first.
    pub revision: i64,
    /// The directory that is published when `pending` is.
    pub directory: Directory,
    /// Documents of which the broker may not have confirmed all.
    pub pending: Vec<Pending>,
    /// Whether the directory is whole only when all of the pending documents are published.
    #[serde(default)]
    pub together: bool,
}

impl State {
    /// The newest revision that was published; `None` before the first, and until documents are
    /// published that only together are the directory.
    #[must_use]
    pub fn published(&self) -> Option<i64> {
        if self.together && !self.pending.is_empty() {
            return None;
        }
        let pending = self.pending.first().map(|first| first.revision - 1);
        Some(pending.unwrap_or(self.revision)).filter(|revision| *revision > 0)
    }
}

/// The file of the state.
#[derive(Debug)]
pub struct StateFile(PathBuf);

impl StateFile {
    /// The file in a folder, which is made.
    ///
    /// # Errors
    ///
    /// The folder can't be made.
    pub fn in_folder(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self(folder.join("directory.json")))
    }

    /// Reads the state; an empty one if there is no file.
    ///
    /// # Errors
    ///
    /// The file can't be read, or is not the file of a bridge.
    pub fn read(&self) -> io::Result<State> {
        match fs::read(&self.0) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
            Err(error) => Err(error),
        }
    }

    /// Replaces the state. It is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// It can't be written; the state is the one before.
    pub fn write(&self, state: &State) -> io::Result<()> {
        let new = self.0.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(state)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.0)?;
        let folder = self.0.parent().unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}
