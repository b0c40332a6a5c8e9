//! `fanfare directory`: imports users, roles and permissions from a file, if the report server has not
//! published them or its documents were lost. Also accepts revisions and refusals, which only an
//! administrator may do.

mod snapshot;

use anyhow::{Context as _, bail};
use fanfare_core::directory::{Content, Document};
use fanfare_core::event::{access_revision, parse_document};
use fanfare_store::directory::{Applied, ImportMode, Refusal};
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny};
use serde_json::value::RawValue;

use crate::input::{self, Entry};
use crate::operator::author;
use crate::output::{self, Misuse};
use crate::settings::Settings;
use crate::wiring;

/// The commands about the directory.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Import documents from a file: {"users": […], "roles": […]} as a snapshot, or directory.* events
    Import(ImportArgs),
    /// Accept revisions up to this one, however far they are ahead of the newest one
    AcceptRevision(AcceptRevisionArgs),
    /// Accept that snapshots were refused, and decide events without them
    AcceptRefused,
}

/// The arguments of `fanfare directory accept-revision`.
#[derive(Debug, clap::Args)]
pub(crate) struct AcceptRevisionArgs {
    /// The highest revision to accept
    #[arg(value_name = "REVISION", value_parser = clap::value_parser!(i64).range(1..))]
    revision: i64,
}

/// The arguments of `fanfare directory import`.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// The file, or - for stdin
    file: String,
    /// The revision of a snapshot without an envelope [default: its accessrevision, or the next]
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(i64).range(1..))]
    revision: Option<i64>,
    /// Delete the directory, its history and its revision, and begin again with this snapshot
    #[arg(long)]
    reset_revision: bool,
}

/// Runs a command about the directory.
pub(crate) async fn run(command: Command, settings: &Settings) -> anyhow::Result<()> {
    match command {
        Command::Import(args) => import(&args, settings).await,
        Command::AcceptRevision(args) => accept_revision(args.revision, settings).await,
        Command::AcceptRefused => accept_refused(settings).await,
    }
}

async fn import(args: &ImportArgs, settings: &Settings) -> anyhow::Result<()> {
    let store = wiring::store(settings, "directory")?;
    if let Some(snapshot) = snapshot::Snapshot::in_file(&args.file) {
        let mode = if args.reset_revision { ImportMode::Reset } else { ImportMode::Continue };
        return snapshot.import(args.revision, mode, &store).await;
    }
    if args.reset_revision {
        let text = "--reset-revision needs a file with one snapshot and nothing else";
        return Err(Misuse(text.to_owned()).into());
    }
    let text = input::read(&args.file)?;
    let file = input::shown(&args.file);
    let entries =
        input::entries(&text).with_context(|| format!("nothing of {file} was imported"))?;
    if entries.is_empty() {
        bail!("{file} is empty; give a snapshot or directory.* events");
    }
    let next = store.directory_revision().await?.saturating_add(1);
    let documents = documents(&entries, args.revision, next)
        .with_context(|| format!("nothing of {file} was imported"))?;
    let applied = store
        .directory_apply_all(&documents, &author())
        .await
        .with_context(|| format!("nothing of {file} was imported"))?;
    report(&count(&documents), &applied)
}

/// Prints the result of an import.
fn report(counted: &str, applied: &Applied) -> anyhow::Result<()> {
    output::print(&format!(
        "imported {counted}: {} new; the directory is at revision {}\n",
        applied.versions, applied.revision,
    ))?;
    if applied.paused > 0 {
        output::note(&format!(
            "fanfare: paused {} webhooks as owner-recreated: their owners were deleted, and the users \
             of the same names are new; `fanfare webhooks resume ID` gives a webhook to the new user",
            applied.paused
        ));
    }
    Ok(())
}

async fn accept_revision(revision: i64, settings: &Settings) -> anyhow::Result<()> {
    let store = wiring::store(settings, "directory")?;
    let newest = store.directory_accept_revision(revision, &author()).await?;
    output::print(&format!(
        "revisions up to {revision} are accepted; the directory is at revision {newest}; \
         `fanfare dead-letters replay --reason revision-jump` replays the documents that were \
         refused for it\n"
    ))
}

async fn accept_refused(settings: &Settings) -> anyhow::Result<()> {
    let store = wiring::store(settings, "directory")?;
    let accepted = store.directory_accept_refused(&author()).await?;
    if accepted.is_empty() {
        return output::print("no snapshot was refused\n");
    }
    let line = |refusal: &Refusal| {
        let why = output::plain(&refusal.why);
        format!(
            "accepted: events are decided without the snapshot of revision {}: {why}\n",
            refusal.revision
        )
    };
    output::print(&accepted.iter().map(line).collect::<String>())
}

/// The members that distinguish an event from a snapshot without an envelope.
#[derive(serde::Deserialize)]
struct Form {
    #[serde(rename = "type")]
    event_type: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "revision")]
    accessrevision: Option<i64>,
    users: Option<IgnoredAny>,
    roles: Option<IgnoredAny>,
}

/// Parses an `accessrevision` in any form that is valid in an event.
fn revision<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let Some(raw) = Option::<Box<RawValue>>::deserialize(deserializer)? else { return Ok(None) };
    let bad = || D::Error::custom("accessrevision must be an integer that is not negative");
    access_revision(&raw).map(Some).ok_or_else(bad)
}

fn documents(
    entries: &[Entry<'_>],
    revision: Option<i64>,
    next: i64,
) -> anyhow::Result<Vec<Document>> {
    let one = |entry: &Entry<'_>| {
        document(entry.raw, revision, next)
            .with_context(|| format!("the document at line {} is not usable", entry.line))
    };
    entries.iter().map(one).collect()
}

fn document(raw: &RawValue, given: Option<i64>, next: i64) -> anyhow::Result<Document> {
    let form: Form = serde_json::from_str(raw.get())?;
    if form.event_type.is_some() {
        return Ok(parse_document(raw)?);
    }
    if form.users.is_none() && form.roles.is_none() {
        bail!("it has neither a type, as an event has, nor users or roles, as a snapshot has");
    }
    let revision = given.or(form.accessrevision).unwrap_or(next);
    Ok(Document::bare_snapshot(revision, raw)?)
}

fn count(documents: &[Document]) -> String {
    let (mut snapshots, mut users, mut roles) = (0, 0, 0);
    for document in documents {
        match &document.content {
            Content::User(_) => users += 1,
            Content::Role(_) => roles += 1,
            Content::RefusedSnapshot { .. } => {}
            Content::Snapshot { users: more_users, roles: more_roles } => {
                snapshots += 1;
                users += more_users.len();
                roles += more_roles.len();
            }
        }
    }
    let snapshots = match snapshots {
        0 => String::new(),
        1 => "a snapshot with ".to_owned(),
        n => format!("{n} snapshots with "),
    };
    format!("{snapshots}{users} users and {roles} roles")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, revision: Option<i64>) -> Result<Vec<Document>, String> {
        let entries = input::entries(text).unwrap();
        documents(&entries, revision, 8).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn snapshots_without_an_envelope_get_a_revision() {
        let bare = r#"{"users":[{"name":"anna"}],"roles":[{"name":"r"}]}"#;
        assert_eq!(read(bare, None).unwrap()[0].revision, 8);
        assert_eq!(read(bare, Some(5)).unwrap()[0].revision, 5);
        let own = r#"{"accessrevision":3,"users":[]}"#;
        assert_eq!(read(own, None).unwrap()[0].revision, 3);
        assert_eq!(read(own, Some(5)).unwrap()[0].revision, 5);
        assert_eq!(count(&read(bare, None).unwrap()), "a snapshot with 1 users and 1 roles");
    }

    #[test]
    fn events_keep_their_revision() {
        let user = r#"{"type":"directory.user","accessrevision":4,"data":{"name":"anna"}}"#;
        let role = r#"{"type":"directory.role","accessrevision":5,"data":{"name":"r"}}"#;
        for text in [format!("[{user},{role}]"), format!("{user}\n{role}\n")] {
            let documents = read(&text, Some(9)).unwrap();
            let revisions: Vec<i64> = documents.iter().map(|document| document.revision).collect();
            assert_eq!(revisions, [4, 5]);
            assert_eq!(count(&documents), "1 users and 1 roles");
        }
    }

    #[test]
    fn revisions_are_accepted_in_every_form_of_events() {
        for revision in ["7", "7.0", "\"7\""] {
            let text = format!(
                "\u{feff}{{\"accessrevision\":{revision},\"users\":[]}}\n\u{feff}{{\"type\":\
                 \"directory.user\",\"accessrevision\":{revision},\"data\":{{\"name\":\"a\"}}}}"
            );
            let documents = read(&text, None).unwrap();
            assert!(documents.iter().all(|document| document.revision == 7), "{text}");
        }
    }

    #[test]
    fn invalid_document_is_reported_with_its_line() {
        for (text, words) in [
            ("{\"users\":[]}\n{\"a\":1}", "line 2 is not usable: it has neither"),
            (
                "\n{\"type\":\"directory.user\",\"data\":{\"name\":\"a\"}}",
                "line 2 is not usable: missing-attribute: the attribute accessrevision",
            ),
            (
                "{\"type\":\"reports.upload\",\"accessrevision\":1,\"data\":{}}",
                "line 1 is not usable: bad-type",
            ),
            ("{\"users\":[{\"enabled\":true}]}", "line 1 is not usable: bad-data"),
            ("{\"users\":[],\"accessRevision\":7}", "must be accessrevision"),
            ("{\"users\":[],\"accessrevision\":-7}", "not negative"),
            (
                "{\"type\":\"directory.user\",\"accessRevision\":7,\"data\":{\"name\":\"a\"}}",
                "must be named accessrevision",
            ),
        ] {
            let error = read(text, None).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
