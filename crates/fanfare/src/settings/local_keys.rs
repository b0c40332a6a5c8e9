//! The key of a machine for which no keys are set: created once, and kept in the state directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use fanfare_store::random;

use super::SettingsError;
use super::value::{self, Keys};

/// The file's name in its directory.
const FILE: &str = "secret-keys";

/// The key file that is used if no keys are set.
#[derive(Debug, Clone)]
pub(crate) struct LocalKeys {
    directory: PathBuf,
}

impl LocalKeys {
    /// In `$XDG_STATE_HOME/fanfare`, or `$HOME/.local/state/fanfare`; `None` when neither is set.
    /// Relative directories are ignored, as the XDG base directory specification asks.
    pub(crate) fn new(xdg_state_home: Option<PathBuf>, home: Option<PathBuf>) -> Option<Self> {
        let absolute = |path: &PathBuf| path.is_absolute();
        let state = xdg_state_home
            .filter(absolute)
            .or_else(|| home.filter(absolute).map(|home| home.join(".local/state")))?;
        Some(Self { directory: state.join("fanfare") })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// Reads the keys, or creates the first one. Also returns whether it created one.
    pub(crate) fn read_or_create(&self) -> Result<(Keys, bool), SettingsError> {
        let path = self.path();
        let failed = |source| SettingsError::KeyFile { path: path.clone(), source };
        if let Some(keys) = read(&path)? {
            return Ok((keys, false));
        }
        let created = self.create(&path).map_err(failed)?;
        let keys = read(&path)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        Ok((keys, created))
    }

    /// Writes a new key to a draft and links the draft to the file's name. Only one of several
    /// processes succeeds with the link; the others read its key, and none reads half a file.
    fn create(&self, path: &Path) -> io::Result<bool> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let (id, key) = (random::bytes(), random::bytes());
        let (id, key) = (id.map_err(io::Error::other)?, key.map_err(io::Error::other)?);
        // The id is random, so that one ring can hold the first keys of two machines.
        let id = format!("local-{:08x}", u32::from_be_bytes(id));
        let draft = self.directory.join(format!("{FILE}.{id}"));
        let text = value::write_keys(&vec![(id, key)]);
        let linked = write_new(&draft, &text).and_then(|()| std::fs::hard_link(&draft, path));
        // The draft is not needed any more. If it can't be removed, it does no harm.
        let _ = std::fs::remove_file(&draft);
        match linked {
            Ok(()) => File::open(&self.directory)?.sync_all().map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn read(path: &Path) -> Result<Option<Keys>, SettingsError> {
    match std::fs::read_to_string(path) {
        Ok(text) => value::keys(&text)
            .map(Some)
            .ok_or_else(|| SettingsError::KeyFileDamaged { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SettingsError::KeyFile { path: path.to_owned(), source }),
    }
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A directory that is removed at the end of the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("fanfare-{}", uuid::Uuid::now_v7()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn first_key_is_created_once_and_readable_by_its_owner_only() {
        let scratch = Scratch::new();
        let local = LocalKeys::new(Some(scratch.0.clone()), None).unwrap();
        let (keys, created) = local.read_or_create().unwrap();
        assert!(created && keys.len() == 1);
        assert_eq!(local.read_or_create().unwrap(), (keys, false));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&local.path()), 0o600);
        assert_eq!(mode(&scratch.0.join("fanfare")), 0o700);
        assert_eq!(std::fs::read_dir(scratch.0.join("fanfare")).unwrap().count(), 1);
    }

    #[test]
    fn concurrent_processes_create_one_key() {
        let scratch = Scratch::new();
        let local = LocalKeys::new(Some(scratch.0.clone()), None).unwrap();
        let rings: Vec<(Keys, bool)> = std::thread::scope(|scope| {
            let starts: Vec<_> =
                (0..8).map(|_| scope.spawn(|| local.read_or_create().unwrap())).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(rings.iter().all(|(keys, _)| *keys == rings[0].0));
        assert_eq!(rings.iter().filter(|(_, created)| *created).count(), 1);
    }

    #[test]
    fn damaged_key_file_is_not_overwritten() {
        let scratch = Scratch::new();
        let local = LocalKeys::new(None, Some(scratch.0.clone())).unwrap();
        std::fs::create_dir_all(local.path().parent().unwrap()).unwrap();
        std::fs::write(local.path(), "half a ke").unwrap();
        let error = local.read_or_create().unwrap_err();
        assert!(matches!(error, SettingsError::KeyFileDamaged { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(local.path()).unwrap(), "half a ke");
    }

    #[test]
    fn relative_directories_are_ignored() {
        let home = LocalKeys::new(Some("state".into()), Some("/home/anna".into())).unwrap();
        assert_eq!(home.path(), Path::new("/home/anna/.local/state/fanfare/secret-keys"));
        assert!(LocalKeys::new(None, None).is_none());
    }
}
