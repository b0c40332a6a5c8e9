//! The commands, one file each.

pub(crate) mod config;
pub(crate) mod listen;

/// What `fanfare` can do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Receive notifications on this machine and show them, for people who build receivers
    Listen(listen::Args),
    /// Show the settings and where each comes from
    Config(config::Args),
}

impl Command {
    /// Whether it is a process that runs until it is stopped.
    pub(crate) fn is_role(&self) -> bool {
        false
    }
}
