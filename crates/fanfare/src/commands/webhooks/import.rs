//! `fanfare webhooks import`: takes over what another server's API lists, ids and secrets included,
//! so that receivers notice nothing.

use std::collections::{BTreeSet, HashMap};

use anyhow::anyhow;
use chrono::{DateTime, Utc};
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::registration::{Members, Registration};
use fanfare_core::webhook::{PauseReason, Webhook};
use fanfare_outbound::{Client, skips_verification};
use fanfare_store::Store;
use futures_util::{StreamExt as _, stream};
use uuid::Uuid;

use super::add;
use crate::clock;
use crate::commands::users;
use crate::input::{self, Entry};
use crate::output;
use crate::parts;
use crate::settings::Settings;

/// Addresses verified side by side.
const VERIFIED_AT_A_TIME: usize = 8;
/// Entries of which it is told what is wrong; with more, the file is another one altogether.
const MAX_TOLD: usize = 20;

/// The arguments of `fanfare webhooks import`.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// What `GET /api/webhooks/registrations` answered, best with `?user=all`; `-` for stdin
    file: String,
    /// The owner of entries that have no `User`
    #[arg(long, value_name = "NAME", value_parser = users::name)]
    owner: Option<Name>,
    /// Don't ask the URLs to return an echo first
    #[arg(long)]
    no_verify: bool,
}

/// A webhook of the file.
struct Imported {
    /// Where it stands there.
    place: String,
    webhook: Webhook,
}

/// What the entries of a file are.
#[derive(Default)]
struct Entries {
    /// Those that can be imported.
    whole: Vec<Imported>,
    /// The places and ids of those without a secret: they can only be webhooks that are here, as an
    /// administrator sees those of others.
    without_secret: Vec<(String, WebhookId)>,
    /// What is wrong with the others.
    wrong: Vec<String>,
}

/// An entry that is right.
enum Parsed {
    Whole(Box<Webhook>),
    WithoutSecret(WebhookId),
}

/// Imports all webhooks of a file, or none.
pub(super) async fn import(
    args: &ImportArgs,
    store: &Store,
    settings: &Settings,
) -> anyhow::Result<()> {
    let text = input::read(&args.file)?;
    let entries = input::entries(&text)?;
    let Entries { whole: read, without_secret, mut wrong } =
        webhooks(&entries, args.owner.as_ref(), clock::now());
    let n_without_secret = u64::try_from(without_secret.len())?;
    wrong.extend(unknown(&without_secret, store).await?);
    if wrong.is_empty() && !args.no_verify {
        wrong = verify(&read, store, settings).await?;
    }
    if !wrong.is_empty() {
        return Err(refuse(&wrong, entries.len(), input::shown(&args.file)));
    }
    let webhooks: Vec<Webhook> = read.into_iter().map(|imported| imported.webhook).collect();
    for owner in webhooks.iter().map(|webhook| &webhook.owner).collect::<BTreeSet<_>>() {
        add::warn_about_owner(owner, store).await?;
    }
    let n_new = store.webhooks_import(&webhooks, settings.load.webhooks_per_owner).await?;
    let n_known = u64::try_from(webhooks.len())?.saturating_sub(n_new) + n_without_secret;
    output::print(&format!("imported {n_new}; skipped {n_known} that were here before\n"))
}

/// What is wrong with entries that have no secret: they are not here.
async fn unknown(
    without_secret: &[(String, WebhookId)],
    store: &Store,
) -> anyhow::Result<Vec<String>> {
    let ids: Vec<WebhookId> = without_secret.iter().map(|(_, id)| *id).collect();
    let known: BTreeSet<WebhookId> =
        store.webhooks_get(&ids).await?.iter().map(|webhook| webhook.id).collect();
    let unknown = without_secret.iter().filter(|(_, id)| !known.contains(id));
    Ok(unknown.map(|(place, _)| format!("{place}: it has no Secret")).collect())
}

/// Reads all entries.
fn webhooks(entries: &[Entry<'_>], owner: Option<&Name>, now: DateTime<Utc>) -> Entries {
    let mut read = Entries::default();
    let mut places = HashMap::new();
    for (n, entry) in (1..).zip(entries) {
        let place = format!("line {}, entry {n}", entry.line);
        let parsed = match webhook(entry, owner, now) {
            Err(error) => {
                read.wrong.push(format!("{place}: {error}"));
                continue;
            }
            Ok(parsed) => parsed,
        };
        let id = match &parsed {
            Parsed::Whole(webhook) => webhook.id,
            Parsed::WithoutSecret(id) => *id,
        };
        if let Some(other) = places.insert(id, place.clone()) {
            read.wrong.push(format!("{place}: its Id is the one of {other}"));
            continue;
        }
        match parsed {
            Parsed::Whole(webhook) => read.whole.push(Imported { place, webhook: *webhook }),
            Parsed::WithoutSecret(id) => read.without_secret.push((place, id)),
        }
    }
    read
}

fn webhook(entry: &Entry<'_>, owner: Option<&Name>, now: DateTime<Utc>) -> anyhow::Result<Parsed> {
    let members = Members::parse(entry.raw.get().as_bytes())?;
    let id = members.text("Id")?.ok_or_else(|| anyhow!("it has no Id"))?;
    let id: WebhookId = id.parse().map_err(|_| anyhow!("its Id '{id}' has not 32 hex digits"))?;
    let owner = match members.text("User")? {
        Some(user) => Name::parse(&user).ok_or_else(|| anyhow!("its User '{user}' is no name"))?,
        None => owner.cloned().ok_or_else(|| anyhow!("it has no User; give --owner NAME"))?,
    };
    let mut wanted = Registration::parse(&members)?;
    let secret = wanted.secret.take();
    // With a new one its receiver would refuse every notification.
    let Some(secret) = secret else {
        return Ok(Parsed::WithoutSecret(id));
    };
    let reason = members.text("PausedReason")?.filter(|_| wanted.paused);
    let paused_reason = reason.map(|code| PauseReason::parse(&code));
    let webhook = wanted.into_webhook(id, owner, secret, now);
    Ok(Parsed::Whole(Box::new(Webhook { paused_reason, ..webhook })))
}

/// Asks all new addresses to return an echo, and says which did not.
async fn verify(
    read: &[Imported],
    store: &Store,
    settings: &Settings,
) -> anyhow::Result<Vec<String>> {
    let ids: Vec<WebhookId> = read.iter().map(|imported| imported.webhook.id).collect();
    let known: BTreeSet<WebhookId> =
        store.webhooks_get(&ids).await?.iter().map(|webhook| webhook.id).collect();
    let client = &parts::outbound(settings)?;
    let new = read.iter().filter(|imported| {
        let webhook = &imported.webhook;
        !known.contains(&webhook.id) && !skips_verification(webhook.uri.url())
    });
    let verified = stream::iter(new)
        .map(|imported| verify_one(client, imported))
        .buffered(VERIFIED_AT_A_TIME)
        .collect::<Vec<_>>()
        .await;
    Ok(verified.into_iter().filter_map(Result::err).collect())
}

async fn verify_one(client: &Client, imported: &Imported) -> Result<(), String> {
    let webhook = &imported.webhook;
    let echo = Uuid::new_v4().simple().to_string();
    client.verify(&webhook.uri, webhook.headers.as_slice(), &echo).await.map_err(|error| {
        format!("{}: {error} (--no-verify imports without asking)", imported.place)
    })
}

fn refuse(wrong: &[String], n_entries: usize, file: &str) -> anyhow::Error {
    for problem in wrong.iter().take(MAX_TOLD) {
        output::note(&format!("fanfare: {}", output::plain(problem)));
    }
    let n_wrong = wrong.len();
    anyhow!("{n_wrong} of {n_entries} entries of {file} can't be taken; nothing was imported")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = r#"{"Id":"0F8FAD5BD9CB469FA16570867728950E","WebHookUri":"https://x/",
        "Secret":"0123456789abcdef0123456789abcdef","IsPaused":true,"Filters":["*"],
        "Headers":{},"Properties":{"A":1},"Description":"d","User":"Anna"}"#;

    #[track_caller]
    fn check(text: &str, owner: Option<&str>, expected_wrong: &[&str]) -> Vec<Webhook> {
        let owner = owner.and_then(Name::parse);
        let entries = input::entries(text).unwrap();
        let Entries { whole, wrong, .. } = webhooks(&entries, owner.as_ref(), DateTime::UNIX_EPOCH);
        assert_eq!(wrong.len(), expected_wrong.len(), "{wrong:?}");
        for (wrong, expected) in wrong.iter().zip(expected_wrong) {
            assert!(wrong.contains(expected), "{wrong}");
        }
        whole.into_iter().map(|imported| imported.webhook).collect()
    }

    #[test]
    fn an_entry_without_a_secret_can_only_be_known() {
        let file = ENTRY.replace("\"Secret\"", "\"X\"");
        let read = webhooks(&input::entries(&file).unwrap(), None, DateTime::UNIX_EPOCH);
        assert!(read.whole.is_empty() && read.wrong.is_empty());
        let id = "0f8fad5bd9cb469fa16570867728950e".parse().unwrap();
        assert_eq!(read.without_secret, [("line 1, entry 1".to_owned(), id)]);
    }

    #[test]
    fn ids_secrets_and_owners_are_kept() {
        let read = check(&format!("[{ENTRY}]"), Some("bob"), &[]);
        let webhook = &read[0];
        assert_eq!(webhook.id.to_string(), "0f8fad5bd9cb469fa16570867728950e");
        assert_eq!(webhook.secrets[0].reveal(), "0123456789abcdef0123456789abcdef");
        assert_eq!((webhook.owner.as_str(), webhook.paused), ("Anna", true));
        let others = check(&ENTRY.replace("\"User\"", "\"X\""), Some("bob"), &[]);
        assert_eq!(others[0].owner.as_str(), "bob");
    }

    #[test]
    fn what_is_wrong_is_told_by_line_and_entry() {
        let file = format!(
            "[{ENTRY},\n{},\n{},\n{},\n5]",
            ENTRY.replace("0F8F", "0f8f"),
            ENTRY.replace("0F8F", "1F8F").replace("\"User\"", "\"X\""),
            ENTRY.replace("0F8F", "3F8F").replace("https:", "ftp:"),
        );
        let expected = [
            "line 4, entry 2: its Id is the one of line 1, entry 1",
            "line 7, entry 3: it has no User; give --owner",
            "entry 4: The WebHook URI must be absolute",
            "entry 5: The body is no webhook",
        ];
        check(&file, None, &expected);
    }
}
