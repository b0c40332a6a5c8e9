//! The import of webhooks from the list of another server's API: a plan first, then the registration.
//! Ids and secrets are kept, so that receivers notice no difference.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use chrono::{DateTime, Utc};
use fanfare_core::explain::OwnerState;
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::registration::{Malformed, Members, Registration, RegistrationError};
use fanfare_core::webhook::{PauseReason, Webhook};
use fanfare_outbound::VerifyError;
use fanfare_store::{Store, StoreError};
use futures_util::{StreamExt as _, stream};

use super::{Verification, owners};
use crate::{Actor, Context, NotAdministrator, clock};

/// The number of addresses that are verified at a time.
const VERIFIED_AT_A_TIME: usize = 8;

/// An entry of the list: a webhook in JSON.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The line of the file at which the entry begins, from 1.
    pub line: usize,
    pub json: &'a str,
}

/// The position of an entry: its line and its number, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryPosition {
    line: usize,
    number: usize,
}

impl EntryPosition {
    /// The number of the entry, from 1.
    #[must_use]
    pub fn number(self) -> usize {
        self.number
    }
}

impl fmt::Display for EntryPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, entry {}", self.line, self.number)
    }
}

/// What an import would do. Nothing is changed before it is [carried out](carry_out).
#[derive(Debug, Default)]
pub struct Plan {
    /// The webhooks that would be registered.
    pub new: Vec<(EntryPosition, Webhook)>,
    /// The entries whose webhooks are registered already, and stay as they are.
    pub known: Vec<EntryPosition>,
    /// The entries that can't be imported.
    pub wrong: Vec<(EntryPosition, EntryError)>,
}

/// The result of an import.
#[derive(Debug)]
pub struct Imported {
    /// The number of new webhooks.
    pub new: u64,
    /// The number of webhooks that were registered before.
    pub known: u64,
    /// The owners who are disabled or not in the directory, with their states.
    pub absent_owners: Vec<(Name, OwnerState)>,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The actor is neither an operator nor a System Administrator.
    #[error(transparent)]
    NotAdministrator(#[from] NotAdministrator),
    /// The database did not answer, or an owner has too many webhooks.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an entry can't be imported.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// The entry is not a valid webhook.
    #[error(transparent)]
    Invalid(#[from] RegistrationError),
    #[error("it has no Id")]
    NoId,
    /// The id is not 32 hex digits.
    #[error("its Id '{0}' is not 32 hex digits")]
    BadId(String),
    /// Another entry has the same id.
    #[error("its Id is the one of {0}")]
    SameId(EntryPosition),
    /// The entry names no owner, and no owner was given for such entries.
    #[error("it has no User")]
    NoOwner,
    /// The owner's name is not valid.
    #[error("its User '{0}' is not a valid name")]
    BadOwner(String),
    /// The entry has no secret. With a new one, its receiver would refuse every notification.
    #[error("it has no Secret")]
    NoSecret,
    /// The webhook is registered for another user, who must not lose it.
    #[error("its webhook is registered here for another user, {0}")]
    OtherOwner(Name),
    /// The reason of the pause can't be stored.
    #[error("its PausedReason is not valid: it holds the character U+0000")]
    BadPausedReason,
    /// The verification of the address failed.
    #[error(transparent)]
    NotVerified(#[from] VerifyError),
}

impl From<Malformed> for EntryError {
    fn from(error: Malformed) -> Self {
        Self::Invalid(error.into())
    }
}

/// Finds out what an import of these entries would do. `owner` is the owner of entries that name none.
/// The addresses of new webhooks are verified.
///
/// # Errors
///
/// [`ImportError`]
pub async fn plan(
    context: &Context,
    actor: &Actor,
    entries: &[Entry<'_>],
    owner: Option<&Name>,
    verification: Verification<'_>,
) -> Result<Plan, ImportError> {
    actor.administrator()?;
    let Parsed { whole, without_secret, wrong } = parse(entries, owner, clock::now());
    let ids = whole.iter().map(|(_, webhook)| webhook.id);
    let ids: Vec<WebhookId> = ids.chain(without_secret.iter().map(|(_, id)| *id)).collect();
    let owners = registered(&context.store, &ids).await?;
    let mut plan = Plan { wrong, ..Plan::default() };
    for (place, id) in without_secret {
        if owners.contains_key(&id) {
            plan.known.push(place);
        } else {
            plan.wrong.push((place, EntryError::NoSecret));
        }
    }
    let mut new = Vec::new();
    for (place, webhook) in whole {
        match owners.get(&webhook.id) {
            None => new.push((place, webhook)),
            Some(owner) if *owner == webhook.owner => plan.known.push(place),
            Some(owner) => plan.wrong.push((place, EntryError::OtherOwner(owner.clone()))),
        }
    }
    for (place, webhook, verified) in verify(new, verification).await {
        match verified {
            Ok(()) => plan.new.push((place, webhook)),
            Err(error) => plan.wrong.push((place, error.into())),
        }
    }
    plan.wrong.sort_by_key(|(place, _)| place.number);
    Ok(plan)
}

/// Registers the new webhooks of a plan: all of them, or none.
///
/// # Errors
///
/// [`ImportError`]
pub async fn carry_out(
    context: &Context,
    actor: &Actor,
    plan: Plan,
) -> Result<Imported, ImportError> {
    actor.administrator()?;
    let webhooks: Vec<Webhook> = plan.new.into_iter().map(|(_, webhook)| webhook).collect();
    let absent_owners = absent_owners(context, &webhooks).await?;
    let (most, author) = (context.webhooks_per_owner, actor.author());
    let new = context.store.webhooks_import(&webhooks, most, &author).await?;
    tracing::info!(count = new, by = %actor, "imported webhooks");
    let all = u64::try_from(webhooks.len() + plan.known.len()).unwrap_or(u64::MAX);
    Ok(Imported { new, known: all.saturating_sub(new), absent_owners })
}

/// The entries of a list, parsed.
#[derive(Default)]
struct Parsed {
    /// The entries that can be imported.
    whole: Vec<(EntryPosition, Webhook)>,
    /// The entries without a secret. They are accepted only if the webhook is registered already:
    /// an administrator's list has such entries for other users' webhooks.
    without_secret: Vec<(EntryPosition, WebhookId)>,
    /// The entries that can't be imported.
    wrong: Vec<(EntryPosition, EntryError)>,
}

/// An entry that is valid.
enum Valid {
    Whole(Box<Webhook>),
    WithoutSecret(WebhookId),
}

fn parse(entries: &[Entry<'_>], owner: Option<&Name>, now: DateTime<Utc>) -> Parsed {
    let mut parsed = Parsed::default();
    let mut places = HashMap::new();
    for (number, entry) in (1..).zip(entries) {
        let place = EntryPosition { line: entry.line, number };
        let valid = match parse_one(entry, owner, now) {
            Ok(valid) => valid,
            Err(error) => {
                parsed.wrong.push((place, error));
                continue;
            }
        };
        let id = match &valid {
            Valid::Whole(webhook) => webhook.id,
            Valid::WithoutSecret(id) => *id,
        };
        if let Some(other) = places.insert(id, place) {
            parsed.wrong.push((place, EntryError::SameId(other)));
            continue;
        }
        match valid {
            Valid::Whole(webhook) => parsed.whole.push((place, *webhook)),
            Valid::WithoutSecret(id) => parsed.without_secret.push((place, id)),
        }
    }
    parsed
}

fn parse_one(
    entry: &Entry<'_>,
    owner: Option<&Name>,
    now: DateTime<Utc>,
) -> Result<Valid, EntryError> {
    let members = Members::parse(entry.json.as_bytes())?;
    let id = members.text("Id")?.ok_or(EntryError::NoId)?;
    let id: WebhookId = id.parse().map_err(|_| EntryError::BadId(id.into_owned()))?;
    let owner = match members.text("User")? {
        Some(user) => Name::parse(&user).ok_or_else(|| EntryError::BadOwner(user.into_owned()))?,
        None => owner.cloned().ok_or(EntryError::NoOwner)?,
    };
    let mut wanted = Registration::parse(&members)?;
    let Some(secret) = wanted.secret.take() else {
        return Ok(Valid::WithoutSecret(id));
    };
    let reason = members.text("PausedReason")?.filter(|_| wanted.paused);
    if reason.as_ref().is_some_and(|code| code.contains('\0')) {
        return Err(EntryError::BadPausedReason);
    }
    let reason = reason.map(|code| PauseReason::parse(&code));
    let webhook = wanted.into_webhook(id, owner, secret, now);
    Ok(Valid::Whole(Box::new(Webhook { paused_reason: reason, ..webhook })))
}

/// Verifies the addresses of new webhooks.
async fn verify(
    new: Vec<(EntryPosition, Webhook)>,
    verification: Verification<'_>,
) -> Vec<(EntryPosition, Webhook, Result<(), VerifyError>)> {
    stream::iter(new)
        .map(async |(place, webhook)| {
            let verified = verification.check(&webhook).await;
            (place, webhook, verified)
        })
        .buffered(VERIFIED_AT_A_TIME)
        .collect()
        .await
}

/// The owners of those webhooks that are registered.
async fn registered(
    store: &Store,
    ids: &[WebhookId],
) -> Result<HashMap<WebhookId, Name>, StoreError> {
    let webhooks = store.webhooks_get(ids).await?;
    Ok(webhooks.into_iter().map(|webhook| (webhook.id, webhook.owner)).collect())
}

async fn absent_owners(
    context: &Context,
    webhooks: &[Webhook],
) -> Result<Vec<(Name, OwnerState)>, StoreError> {
    let states = owners(context, webhooks).await?;
    let names: BTreeSet<&Name> = webhooks.iter().map(|webhook| &webhook.owner).collect();
    let owners = names.into_iter().map(|name| (name.clone(), states.state(name)));
    Ok(owners.filter(|(_, state)| *state != OwnerState::Enabled).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = r#"{"Id":"0F8FAD5BD9CB469FA16570867728950E","WebHookUri":"https://x/",
        "Secret":"0123456789abcdef0123456789abcdef","IsPaused":true,"Filters":["*"],
        "Headers":{},"Properties":{"A":1},"Description":"d","User":"Anna"}"#;

    #[track_caller]
    fn check(texts: &[&str], owner: Option<&str>, expected_wrong: &[&str]) -> Vec<Webhook> {
        let owner = owner.and_then(Name::parse);
        let lines = (1..).step_by(3);
        let entries: Vec<Entry<'_>> =
            lines.zip(texts).map(|(line, json)| Entry { line, json }).collect();
        let Parsed { whole, wrong, .. } = parse(&entries, owner.as_ref(), DateTime::UNIX_EPOCH);
        let wrong: Vec<String> =
            wrong.iter().map(|(place, error)| format!("{place}: {error}")).collect();
        assert_eq!(wrong.len(), expected_wrong.len(), "{wrong:?}");
        for (wrong, expected) in wrong.iter().zip(expected_wrong) {
            assert!(wrong.contains(expected), "{wrong}");
        }
        whole.into_iter().map(|(_, webhook)| webhook).collect()
    }

    #[test]
    fn an_entry_without_a_secret_is_kept_apart() {
        let json = ENTRY.replace("\"Secret\"", "\"X\"");
        let read = parse(&[Entry { line: 1, json: &json }], None, DateTime::UNIX_EPOCH);
        assert!(read.whole.is_empty() && read.wrong.is_empty());
        let id = "0f8fad5bd9cb469fa16570867728950e".parse().unwrap();
        assert_eq!(read.without_secret, [(EntryPosition { line: 1, number: 1 }, id)]);
    }

    #[test]
    fn an_import_keeps_ids_secrets_and_owners() {
        let read = check(&[ENTRY], Some("bob"), &[]);
        let webhook = &read[0];
        assert_eq!(webhook.id.to_string(), "0f8fad5bd9cb469fa16570867728950e");
        assert_eq!(webhook.secrets[0].reveal(), "0123456789abcdef0123456789abcdef");
        assert_eq!((webhook.owner.as_str(), webhook.paused), ("Anna", true));
        let others = check(&[&ENTRY.replace("\"User\"", "\"X\"")], Some("bob"), &[]);
        assert_eq!(others[0].owner.as_str(), "bob");
    }

    #[test]
    fn an_invalid_entry_is_reported_by_line_and_number() {
        let texts = [
            ENTRY.to_owned(),
            ENTRY.replace("0F8F", "0f8f"),
            ENTRY.replace("0F8F", "1F8F").replace("\"User\"", "\"X\""),
            ENTRY.replace("0F8F", "3F8F").replace("https:", "ftp:"),
            "5".to_owned(),
            ENTRY.replace("0F8F", "4F8F").replace("\"d\"", r#""d","PausedReason":"a\u0000b""#),
        ];
        let expected = [
            "line 4, entry 2: its Id is the one of line 1, entry 1",
            "line 7, entry 3: it has no User",
            "entry 4: The WebHook URI must be absolute",
            "entry 5: The body is not a webhook",
            "entry 6: its PausedReason is not valid",
        ];
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        check(&texts, None, &expected);
    }
}
