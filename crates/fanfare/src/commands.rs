//! The commands, one file each.

mod access;
mod audit;
mod config;
mod dead_letters;
mod deliveries;
mod directory;
mod doctor;
mod erase;
mod events;
mod ids;
mod listen;
mod migrate;
mod notices;
mod operations;
mod probe;
mod publish;
mod publishers;
pub(crate) mod reference;
mod retention;
mod roles;
mod secrets;
mod shadow;
mod users;
mod webhooks;

use crate::settings::Settings;

/// The commands that read the settings.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Create or update the database's tables; waits until the database can be reached
    Migrate,
    /// Run a router: decide which webhooks get each event
    Router,
    /// Run a worker: send notifications, and retry those that fail
    Worker,
    /// Run a console: the web pages and the API with which users manage their webhooks
    Console,
    /// Run a router, a worker and a console in one process, for a small installation
    All,
    /// Run a bridge: follow a report server that publishes nothing, by its webhooks and its API
    Bridge,
    /// Manage the accounts that may sign in
    #[command(subcommand)]
    Users(users::Command),
    /// Manage the report servers that may publish events over HTTP
    #[command(subcommand)]
    Publishers(publishers::Command),
    /// Import the directory (users, roles and permissions), and accept refused revisions
    #[command(subcommand)]
    Directory(directory::Command),
    /// List, add, change and test webhooks
    #[command(subcommand)]
    Webhooks(webhooks::Command),
    /// Manage the keys that encrypt the webhooks' secrets
    #[command(subcommand)]
    Secrets(secrets::Command),
    /// List the audit trail: who did what, when, and from where
    #[command(subcommand)]
    Audit(audit::Command),
    /// List and show events, and explain which webhooks got them and why
    #[command(subcommand)]
    Events(events::Command),
    /// Show who may read a resource, and why
    #[command(subcommand)]
    Access(access::Command),
    /// List, show and retry deliveries
    #[command(subcommand)]
    Deliveries(deliveries::Command),
    /// List, show, replay and discard dead letters: events and deliveries that were given up
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// List, show, pause, resume and cancel bulk operations on dead letters
    #[command(subcommand)]
    Operations(operations::Command),
    /// List notices: what is wrong with the installation and its webhooks, and to whom that was sent
    #[command(subcommand)]
    Notices(notices::Command),
    /// Show the partitions of the ledger and of the audit trail with their ages and sizes, drop those
    /// that are no longer kept, and remove payloads that are too old, as routers do by themselves
    Retention(retention::Args),
    /// Erase the payloads of one user's or one resource's events: their data and the answers to them
    Erase(erase::Args),
    /// Publish events as the report server does
    Publish(publish::Args),
    /// Receive notifications on this machine, check and print them, for developers of receivers
    Listen(listen::Args),
    /// Compare with another server before a switch, without sending
    #[command(subcommand)]
    Shadow(shadow::Command),
    /// Check settings, database, broker and keys, and say how to fix each problem
    Doctor(doctor::Args),
    /// Check the health of a process on this machine; exits with 1 if it is unhealthy
    Probe(probe::Args),
    /// Show the settings and the source of each value
    Config(config::Args),
}

impl Command {
    /// Whether the command is a process that logs as a role does. A migration is one, since it may
    /// wait for the database.
    pub(crate) fn is_role(&self) -> bool {
        matches!(
            self,
            Self::Migrate | Self::Router | Self::Worker | Self::Console | Self::All | Self::Bridge
        )
    }

    /// The name of the process, if it sends spans.
    pub(crate) fn traced_role(&self) -> Option<&'static str> {
        match self {
            Self::Router => Some("router"),
            Self::Worker => Some("worker"),
            Self::All => Some("all"),
            _ => None,
        }
    }

    pub(crate) async fn run(self, settings: &Settings) -> anyhow::Result<()> {
        match self {
            Self::Migrate => migrate::run(settings).await,
            Self::Router => roles::router(settings).await,
            Self::Worker => roles::worker(settings).await,
            Self::Console => roles::console(settings).await,
            Self::All => roles::all(settings).await,
            Self::Bridge => roles::bridge::run(settings).await,
            Self::Users(command) => users::run(command, settings).await,
            Self::Publishers(command) => publishers::run(command, settings).await,
            Self::Directory(command) => directory::run(command, settings).await,
            Self::Webhooks(command) => webhooks::run(command, settings).await,
            Self::Secrets(command) => secrets::run(command, settings).await,
            Self::Audit(command) => audit::run(command, settings).await,
            Self::Events(command) => events::run(command, settings).await,
            Self::Access(command) => access::run(command, settings).await,
            Self::Deliveries(command) => deliveries::run(command, settings).await,
            Self::DeadLetters(command) => dead_letters::run(command, settings).await,
            Self::Operations(command) => operations::run(command, settings).await,
            Self::Notices(command) => notices::run(command, settings).await,
            Self::Retention(args) => retention::run(&args, settings).await,
            Self::Erase(args) => erase::run(args, settings).await,
            Self::Publish(args) => publish::run(&args, settings).await,
            Self::Listen(args) => listen::run(args).await,
            Self::Shadow(command) => shadow::run(command, settings).await,
            Self::Doctor(args) => doctor::run(&args, settings).await,
            Self::Probe(args) => probe::run(&args, settings).await,
            Self::Config(args) => config::run(&args, settings),
        }
    }
}
