//! The commands, one file each.

mod access;
mod config;
mod dead_letters;
mod deliveries;
mod directory;
mod doctor;
mod events;
mod ids;
mod listen;
mod migrate;
mod probe;
mod publish;
pub(crate) mod reference;
mod roles;
mod secrets;
mod users;
mod webhooks;

use crate::settings::Settings;

/// What `fanfare` can do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Bring the database's tables up to date; waits for the database
    Migrate,
    /// Run a router: decide who is told of each event
    Router,
    /// Run a worker: send notifications, and send them again when that fails
    Worker,
    /// Run a console: the API at which users register their webhooks
    Console,
    /// Run a router, a worker and a console in one process, for a small installation
    All,
    /// Accounts that may sign in
    #[command(subcommand)]
    Users(users::Command),
    /// Users, roles and permissions, as the report server publishes them
    #[command(subcommand)]
    Directory(directory::Command),
    /// Who is notified of what, and where
    #[command(subcommand)]
    Webhooks(webhooks::Command),
    /// The keys that seal what webhooks keep secret
    #[command(subcommand)]
    Secrets(secrets::Command),
    /// What was published, where it went, and why it did not go elsewhere
    #[command(subcommand)]
    Events(events::Command),
    /// Who may read what, and why
    #[command(subcommand)]
    Access(access::Command),
    /// What was sent, what is on its way, and how it went
    #[command(subcommand)]
    Deliveries(deliveries::Command),
    /// What nobody could take further, kept for a person
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Publish events as the report server does
    Publish(publish::Args),
    /// Receive notifications on this machine and show them, for people who build receivers
    Listen(listen::Args),
    /// Check settings, database, broker and keys, and say how to mend what is wrong
    Doctor(doctor::Args),
    /// Ask a process on this machine how it is, as supervisors do; fails unless it is well
    Probe(probe::Args),
    /// Show the settings and where each comes from
    Config(config::Args),
}

impl Command {
    /// Whether it is a process that runs until it is stopped.
    pub(crate) fn is_role(&self) -> bool {
        matches!(self, Self::Migrate | Self::Router | Self::Worker | Self::Console | Self::All)
    }

    /// The name of the process, if it takes part in traces.
    pub(crate) fn traced_role(&self) -> Option<&'static str> {
        match self {
            Self::Router => Some("router"),
            Self::Worker => Some("worker"),
            Self::All => Some("all"),
            _ => None,
        }
    }

    /// Runs it to its end.
    pub(crate) async fn run(self, settings: &Settings) -> anyhow::Result<()> {
        match self {
            Self::Migrate => migrate::run(settings).await,
            Self::Router => roles::router(settings).await,
            Self::Worker => roles::worker(settings).await,
            Self::Console => roles::console(settings).await,
            Self::All => roles::all(settings).await,
            Self::Users(command) => users::run(command, settings).await,
            Self::Directory(command) => directory::run(command, settings).await,
            Self::Webhooks(command) => webhooks::run(command, settings).await,
            Self::Secrets(command) => secrets::run(command, settings).await,
            Self::Events(command) => events::run(command, settings).await,
            Self::Access(command) => access::run(command, settings).await,
            Self::Deliveries(command) => deliveries::run(command, settings).await,
            Self::DeadLetters(command) => dead_letters::run(command, settings).await,
            Self::Publish(args) => publish::run(&args, settings).await,
            Self::Listen(args) => listen::run(args).await,
            Self::Doctor(args) => doctor::run(&args, settings).await,
            Self::Probe(args) => probe::run(&args, settings).await,
            Self::Config(args) => config::run(&args, settings),
        }
    }
}
