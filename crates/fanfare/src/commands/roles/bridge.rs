//! `fanfare bridge`: follows a report server that publishes nothing to a broker.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use fanfare_app::{Publisher, clock};
use fanfare_bridge::clock::Clock;
use fanfare_bridge::folder::Folder;
use fanfare_bridge::{Bridge, Config};
use fanfare_core::webhook::Secret;
use fanfare_store::random;

use crate::lifecycle::Role;
use crate::observe::Observer;
use crate::settings::Settings;
use crate::wiring;

/// Runs a bridge until a signal stops it.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<()> {
    let mut observer = Observer::without_database(settings, "bridge").await?;
    let bridge = &settings.bridge;
    let folder = Folder::open(&settings.bridge_folder()?)?;
    let config = Config {
        api: wiring::report_server(settings)?,
        publisher: Publisher::new(wiring::broker(settings, "bridge")?),
        url: bridge.url()?.clone(),
        secret: secret(folder.path())?,
        source: bridge.source.clone(),
        journal_limit: bridge.journal_limit(),
        rules: bridge.rules()?,
        poll_every: bridge.poll,
        clock: Clock::new(clock::now),
        metrics: observer.bridge(),
        folder,
    };
    let wanted = bridge.listen;
    let listener = fanfare_http::listen(wanted).with_context(|| {
        format!(
            "failed to listen on {wanted}; set FANFARE_BRIDGE_LISTEN to an address of this machine \
             and a port that is free"
        )
    })?;
    let address = listener.local_addr().context("failed to find out the port")?;
    tracing::info!("listening on http://{address} for the report server");
    let bridge = Bridge::open(config)?;
    observer.check(bridge.problem());
    let role = Role::new("bridge", |stop| bridge.run(listener, stop));
    observer.run(settings, vec![role]).await
}

/// The secret with which the report server signs. It is made once, and kept in the folder.
fn secret(folder: &Path) -> anyhow::Result<Secret> {
    let path = folder.join("secret");
    let failed = || format!("failed to use {}", path.display());
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // 64 characters: the most that every version of the report server takes.
            let halves = [random::bytes::<128>()?, random::bytes::<128>()?];
            let halves = halves.iter().filter_map(|half| Secret::generate(half));
            let text: String = halves.map(|half| half.reveal().to_owned()).collect();
            let draft = folder.join("secret.new");
            let mut options = OpenOptions::new();
            let file = options.create(true).truncate(true).write(true).mode(0o600).open(&draft);
            let mut file = file.with_context(failed)?;
            file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(failed)?;
            fs::rename(&draft, &path).with_context(failed)?;
            text
        }
        other => other.with_context(failed)?,
    };
    text.trim().parse().with_context(failed)
}
