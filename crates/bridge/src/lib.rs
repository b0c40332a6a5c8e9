//! The bridge to a report server that publishes nothing to a broker.
//!
//! It registers one webhook at the report server, writes what is posted to it into a [journal], and
//! publishes each [notification] as an event. It reads the server's users, roles and permissions
//! ([`answers`]), makes a [directory] of them, and publishes the documents that [change](changes) it.
//!
//! What the report server does is not documented in full. What is a guess never decides that something
//! is lost, or that access is given.

pub mod answers;
pub mod api;
pub mod changes;
pub mod check;
pub mod clock;
pub mod directory;
pub mod folder;
mod inbound;
pub mod journal;
pub mod notification;
mod outbox;
mod polling;
mod reading;
mod registration;
mod routes;
mod silence;
pub mod state;
pub mod takeover;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fanfare_app::Publisher;
use fanfare_core::webhook::Secret;
use fanfare_metrics::Bridge as Metrics;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::api::Api;
use crate::clock::Clock;
use crate::directory::Rules;
use crate::folder::Folder;
use crate::inbound::Inbound;
use crate::journal::{Journal, JournalError};
use crate::outbox::{Outbox, Seen};
use crate::polling::Polling;
use crate::routes::Routes;
use crate::silence::Silence;
use crate::state::{State, StateFile};

/// The limits of the server: the report server posts eight notifications at once.
const LIMITS: fanfare_http::Limits = fanfare_http::Limits {
    connections: 64,
    head: Duration::from_secs(10),
    idle: Duration::from_mins(1),
    life: Duration::from_hours(1),
    max_head: 64 * 1024,
};

/// How many readings of the directory come to one reading of the reports.
const READINGS: u32 = 5;

/// How a bridge runs.
pub struct Config {
    pub api: Api,
    pub publisher: Publisher,
    /// The address of the bridge as the report server reaches it, with the path.
    pub url: Url,
    /// With it the report server signs.
    pub secret: Secret,
    /// The attribute `source` of all events: names the report server.
    pub source: String,
    /// The folder of the journal and of the state.
    pub folder: Folder,
    /// The largest size of the journal, in bytes.
    pub journal_limit: u64,
    /// How the directory is made.
    pub rules: Rules,
    /// How often the directory is read.
    pub poll_every: Duration,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
}

/// A bridge that is ready to run.
pub struct Bridge {
    config: Config,
    journal: Journal,
    file: StateFile,
    state: State,
}

/// Why a bridge can't begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the state of the bridge in {} can't be read: {error}", folder.display())]
    State { folder: PathBuf, error: io::Error },
}

impl Bridge {
    /// Opens the journal and the state.
    ///
    /// # Errors
    ///
    /// [`StartError`]
    pub fn open(config: Config) -> Result<Self, StartError> {
        let folder = config.folder.path();
        let journal = Journal::open(&folder.join("journal"), config.journal_limit)?;
        let failed = |error| StartError::State { folder: folder.to_owned(), error };
        let file = StateFile::in_folder(folder).map_err(failed)?;
        let state = file.read().map_err(failed)?;
        config.metrics.settings(config.journal_limit, config.poll_every);
        config.metrics.revision(state.published());
        Ok(Self { config, journal, file, state })
    }

    /// A function that says why the bridge takes no POSTs; `None` while it does. Nothing else makes a
    /// bridge unready: what it accepts is safe while the broker or the report server's API is away.
    pub fn problem(&self) -> impl Fn() -> Option<String> + use<> {
        let journal = self.journal.clone();
        move || journal.problem()
    }

    /// Runs until `stop` is cancelled. What is in the journal then is published after the next start.
    pub async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let Self { config, journal, file, state } = self;
        // It is locked until the end.
        let _folder = config.folder;
        let (revision, newest) = watch::channel(state.published());
        let (api, routes) = (Arc::new(config.api), Arc::new(Routes::new()));
        let (posted, newest_post) = watch::channel(None);
        let metrics = config.metrics;
        let (publisher, seen) = (Arc::new(config.publisher), Arc::new(Seen::default()));
        let inbound = Inbound {
            secret: config.secret.clone(),
            journal: journal.clone(),
            revision: newest.clone(),
            clock: config.clock.clone(),
            metrics: Arc::clone(&metrics),
            newest: posted,
        };
        let silence = Silence {
            api: Arc::clone(&api),
            routes: Arc::clone(&routes),
            seen: Arc::clone(&seen),
            metrics: Arc::clone(&metrics),
            clock: config.clock.clone(),
            newest: newest_post,
            every: config.poll_every * READINGS,
        };
        let outbox = Outbox {
            api: Arc::clone(&api),
            routes: Arc::clone(&routes),
            publisher: Arc::clone(&publisher),
            journal,
            source: config.source.clone(),
            revision: newest,
            seen: Arc::clone(&seen),
            clock: config.clock.clone(),
            metrics: Arc::clone(&metrics),
            listed_at: None,
        };
        let polling = Polling {
            api: Arc::clone(&api),
            routes,
            publisher,
            file,
            state,
            rules: config.rules,
            source: config.source,
            every: config.poll_every,
            clock: config.clock.clone(),
            revision,
            seen,
            metrics: Arc::clone(&metrics),
            left_out: Vec::new(),
        };
        let server = inbound::routes(config.url.path(), inbound);
        let work = async {
            // The report server verifies the address when it is registered, so the server is there.
            let registration =
                registration::run(&api, &config.url, &config.secret, &config.clock, &metrics);
            tokio::join!(outbox.run(), polling.run(), registration, silence.run());
        };
        let serving = fanfare_http::serve(listener, server, LIMITS, &stop);
        let working = stop.run_until_cancelled(work);
        let ((), _) = tokio::join!(serving, working);
    }
}

#[cfg(test)]
mod directory_tests;
