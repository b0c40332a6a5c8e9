//! Servers of another version than this machine's, from a folder that holds the files of another
//! Debian release, as `cargo xtask servers` makes it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The variable that names the folder. Without it the servers are those of this machine.
const VARIABLE: &str = "FANFARE_TEST_TREE";

/// Puts the folder's `/usr` in the place of the machine's, then becomes the program. Everything else
/// is the machine's own: `/etc`, `/proc`, the working directory and the network.
const ENTER: &str = "mount --bind \"$0/usr\" /usr && exec \"$@\"";

/// The system whose servers are started.
#[derive(Clone, Debug)]
pub(crate) struct Tree(Option<PathBuf>);

impl Tree {
    /// The one that the environment names, or this machine.
    pub(crate) fn selected() -> Self {
        Self(env::var_os(VARIABLE).filter(|it| !it.is_empty()).map(PathBuf::from))
    }

    /// This machine's own system.
    pub(crate) fn machine() -> Self {
        Self(None)
    }

    pub(crate) fn is_machine(&self) -> bool {
        self.0.is_none()
    }

    /// What tells the servers of this tree from others, as part of a file name; empty for the
    /// machine's own.
    pub(crate) fn suffix(&self) -> String {
        let name = self.0.as_deref().and_then(Path::file_name);
        name.map(|it| format!("-{}", it.to_string_lossy())).unwrap_or_default()
    }

    /// Where a path of the system is on this machine.
    pub(crate) fn outside(&self, path: &str) -> PathBuf {
        match &self.0 {
            None => PathBuf::from(path),
            Some(tree) => tree.join(path.trim_start_matches('/')),
        }
    }

    /// The path within the system; the opposite of [`outside`](Self::outside).
    pub(crate) fn inside(&self, path: &Path) -> PathBuf {
        match self.0.as_deref().and_then(|tree| path.strip_prefix(tree).ok()) {
            Some(rest) => Path::new("/").join(rest),
            None => path.to_path_buf(),
        }
    }

    /// A command that runs a program of the system, which keeps the command's process id.
    ///
    /// The mount belongs to a mount namespace of the program's own and ends with it, so that
    /// nothing else on the machine sees it. It needs root.
    pub(crate) fn command(&self, program: &Path, user: Option<(u32, u32)>) -> Command {
        let Some(tree) = &self.0 else {
            return machine_command(program, user);
        };
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", ENTER]).arg(tree);
        if let Some((user, group)) = user {
            command.arg("setpriv").args(["--reuid", &user.to_string()]);
            command.args(["--regid", &group.to_string(), "--clear-groups"]);
        }
        command.arg(program);
        command
    }
}

fn machine_command(program: &Path, user: Option<(u32, u32)>) -> Command {
    use std::os::unix::process::CommandExt as _;

    let mut command = Command::new(program);
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    command
}
