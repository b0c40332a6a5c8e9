//! Entries about accounts, publishers, deliveries, dead letters and the directory.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Action;
use super::text::{bounded, text};
use crate::erasure::ErasureTarget;
use crate::ids::{DeliveryId, WebhookId};
use crate::name::Name;
use crate::operation::{Kind, Rate, State};

/// The kind of the object that an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    Webhook,
    /// A list of webhooks: those of one owner, or all.
    Webhooks,
    /// The channels that an owner chose for notices.
    NoticeSettings,
    Account,
    Publisher,
    Delivery,
    /// A dead letter that is not of a delivery.
    DeadLetter,
    Resend,
    /// A bulk operation on dead letters.
    Operation,
    Directory,
    /// A resource of the report server, by its path.
    Resource,
}

impl ObjectKind {
    /// The stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Webhooks => "webhooks",
            Self::NoticeSettings => "notice-settings",
            Self::Account => "account",
            Self::Publisher => "publisher",
            Self::Delivery => "delivery",
            Self::DeadLetter => "dead-letter",
            Self::Resend => "resend",
            Self::Operation => "operation",
            Self::Directory => "directory",
            Self::Resource => "resource",
        }
    }
}

/// What was done to which object. [`Author`](super::Author) says who did it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub(super) action: Action,
    pub(super) kind: ObjectKind,
    pub(super) id: String,
    pub(super) webhook: Option<WebhookId>,
    pub(super) owner: Option<Name>,
    pub(super) before: Option<Value>,
    pub(super) after: Option<Value>,
    pub(super) note: Option<String>,
}

impl Entry {
    pub(super) fn new(action: Action, kind: ObjectKind, id: String) -> Self {
        Self { action, kind, id, webhook: None, owner: None, before: None, after: None, note: None }
    }

    #[must_use]
    pub fn action(&self) -> Action {
        self.action
    }

    #[must_use]
    pub fn kind(&self) -> ObjectKind {
        self.kind
    }

    /// The object's id: hex digits, an account's folded name, or a text of that kind of objects.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The webhook that the entry concerns.
    #[must_use]
    pub fn webhook(&self) -> Option<WebhookId> {
        self.webhook
    }

    /// The owner of the webhook, who may read the entry. When it is `None`, the store finds the owner
    /// by the webhook.
    #[must_use]
    pub fn owner(&self) -> Option<&Name> {
        self.owner.as_ref()
    }

    /// What changed, as it was before.
    #[must_use]
    pub fn before(&self) -> Option<&Value> {
        self.before.as_ref()
    }

    /// What changed, as it is now.
    #[must_use]
    pub fn after(&self) -> Option<&Value> {
        self.after.as_ref()
    }

    /// A remark for a person.
    #[must_use]
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// An account was added with a password and a role.
    #[must_use]
    pub fn account_created(name: &Name, administrator: bool) -> Self {
        let after = json!({ "name": bounded(name.as_str()), "administrator": administrator });
        Self { after: Some(after), ..account(Action::AccountCreated, name.key()) }
    }

    /// An existing account got a password and a role, and is enabled.
    #[must_use]
    pub fn account_replaced(name: &Name, before: AccountState, after: AccountState) -> Self {
        let action =
            if before == after { Action::AccountPasswordChanged } else { Action::AccountChanged };
        let changed = before != after;
        Self {
            before: changed.then(|| before.json()),
            after: changed.then(|| after.json()),
            ..account(action, name.key())
        }
    }

    /// An account got another password.
    #[must_use]
    pub fn account_password_changed(name: &Name) -> Self {
        account(Action::AccountPasswordChanged, name.key())
    }

    /// An account was disabled for a reason.
    #[must_use]
    pub fn account_disabled(name: &Name, reason: &str) -> Self {
        let after = json!({ "disabled": true, "disabledReason": bounded(reason) });
        Self {
            before: Some(json!({ "disabled": false })),
            after: Some(after),
            ..account(Action::AccountDisabled, name.key())
        }
    }

    /// A disabled account was enabled again. The reason is that of the end.
    #[must_use]
    pub fn account_enabled(name: &Name, reason: Option<&str>) -> Self {
        let before = json!({ "disabled": true, "disabledReason": reason.map(bounded) });
        Self {
            before: Some(before),
            after: Some(json!({ "disabled": false })),
            ..account(Action::AccountEnabled, name.key())
        }
    }

    /// A publisher account was added.
    #[must_use]
    pub fn publisher_added(name: &Name) -> Self {
        publisher(Action::PublisherAdded, name.key())
    }

    /// The access token of a publisher was revoked.
    #[must_use]
    pub fn publisher_revoked(name: &Name) -> Self {
        publisher(Action::PublisherRevoked, name.key())
    }

    /// An account was removed.
    #[must_use]
    pub fn account_removed(name: &Name, before: AccountState) -> Self {
        Self { before: Some(before.json()), ..account(Action::AccountRemoved, name.key()) }
    }

    /// A new series of attempts of a delivery began, which was in the state `before`.
    #[must_use]
    pub fn delivery_retried(id: DeliveryId, webhook: WebhookId, before: &str) -> Self {
        Self {
            webhook: Some(webhook),
            before: Some(json!({ "state": before })),
            after: Some(json!({ "state": "pending" })),
            ..Self::new(Action::DeliveryRetried, ObjectKind::Delivery, id.to_string())
        }
    }

    /// A person requested to send dead deliveries of a webhook again.
    #[must_use]
    pub fn resend_begun(id: Uuid, webhook: WebhookId, since: DateTime<Utc>, total: i64) -> Self {
        let since = since.to_rfc3339_opts(SecondsFormat::Millis, true);
        Self {
            webhook: Some(webhook),
            after: Some(json!({ "since": since, "total": total })),
            ..Self::new(Action::ResendBegun, ObjectKind::Resend, id.simple().to_string())
        }
    }

    /// A request to send deliveries again was cancelled after `begun` of `total` deliveries.
    #[must_use]
    pub fn resend_cancelled(id: Uuid, webhook: WebhookId, begun: i64, total: i64) -> Self {
        Self {
            webhook: Some(webhook),
            after: Some(json!({ "begun": begun, "total": total })),
            ..Self::new(Action::ResendCancelled, ObjectKind::Resend, id.simple().to_string())
        }
    }

    /// An administrator began a bulk operation.
    #[must_use]
    pub fn operation_begun(id: Uuid, begun: &OperationBegun<'_>) -> Self {
        let after = json!({
            "kind": begun.kind.code(),
            "filter": begun.filter,
            "total": begun.total,
            "rate": begun.rate.map(Rate::letters_per_second),
            "canary": begun.canary,
        });
        let note = begun.note.map(bounded);
        Self { after: Some(after), note, ..operation(Action::OperationBegun, id) }
    }

    /// The state of a bulk operation changed, by a person or by itself. `counts` has its progress.
    #[must_use]
    pub fn operation_changed(id: Uuid, before: State, after: State, counts: &Value) -> Self {
        let action = match after {
            State::Running => Action::OperationResumed,
            State::Paused => Action::OperationPaused,
            State::Cancelled => Action::OperationCancelled,
            State::Done | State::Stopped => Action::OperationEnded,
        };
        Self {
            before: Some(json!({ "state": before.code() })),
            after: Some(json!({ "state": after.code(), "counts": counts })),
            ..operation(action, id)
        }
    }

    /// Dead letters that an operation discarded were restored.
    #[must_use]
    pub fn operation_undone(id: Uuid, restored: i64) -> Self {
        let after = json!({ "restored": restored });
        Self { after: Some(after), ..operation(Action::OperationUndone, id) }
    }

    /// A dead letter left its queue.
    #[must_use]
    pub fn dead_letter(action: Action, letter: &Letter<'_>) -> Self {
        let mut before = Map::new();
        before.insert("letter".to_owned(), text(letter.id));
        before.insert("queue".to_owned(), text(letter.queue));
        before.insert("reason".to_owned(), text(letter.reason));
        if let Some(event) = &letter.event {
            before.insert("event".to_owned(), text(event));
        }
        let (kind, id) = match letter.delivery {
            Some(delivery) => (ObjectKind::Delivery, delivery.to_string()),
            None => (ObjectKind::DeadLetter, bounded(letter.id)),
        };
        Self {
            webhook: letter.webhook,
            before: Some(Value::Object(before)),
            ..Self::new(action, kind, id)
        }
    }

    /// A dead event was corrected and published again as another message.
    #[must_use]
    pub fn dead_letter_mended(letter: &Letter<'_>, mended: &Mended<'_>) -> Self {
        let entry = Self::dead_letter(Action::DeadLetterMended, letter);
        let mut before = entry.before.unwrap_or_default();
        if let Some(members) = before.as_object_mut() {
            members.insert("digest".to_owned(), text(mended.digest_before));
        }
        let events: Vec<Value> = mended.events.iter().map(|id| text(id)).collect();
        let after = json!({
            "message": mended.message.simple().to_string(),
            "events": events,
            "digest": mended.digest_after,
        });
        Self { before: Some(before), after: Some(after), ..entry }
    }

    /// The erasure of a user's or a resource's payloads began.
    #[must_use]
    pub fn erasure_begun(target: &ErasureTarget, drop_pending: bool) -> Self {
        let after = json!({ "dropPending": drop_pending });
        Self { after: Some(after), ..erasure(Action::ErasureBegun, target) }
    }

    /// The erasure of a user's or a resource's payloads has ended, with these counts.
    #[must_use]
    pub fn erasure_done(target: &ErasureTarget, counts: Value) -> Self {
        Self { after: Some(counts), ..erasure(Action::ErasureDone, target) }
    }

    /// The directory was imported from a file. It was at the revision `before`.
    #[must_use]
    pub fn directory_imported(before: i64, imported: Imported) -> Self {
        let Imported { revision, documents, reset } = imported;
        Self {
            before: Some(json!({ "revision": before })),
            after: Some(json!({ "revision": revision, "newDocuments": documents, "reset": reset })),
            ..directory(Action::DirectoryImported)
        }
    }

    /// All revisions up to `after` were accepted.
    #[must_use]
    pub fn directory_revision_accepted(before: i64, after: i64) -> Self {
        Self {
            before: Some(json!({ "acceptedRevision": before })),
            after: Some(json!({ "acceptedRevision": after })),
            ..directory(Action::DirectoryRevisionAccepted)
        }
    }

    /// The refused snapshots of these revisions were accepted as missing.
    #[must_use]
    pub fn directory_refused_accepted(revisions: &[i64]) -> Self {
        Self {
            after: Some(json!({ "revisions": revisions })),
            ..directory(Action::DirectoryRefusedAccepted)
        }
    }
}

/// The role of an account, and whether it is disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountState {
    pub administrator: bool,
    pub disabled: bool,
}

impl AccountState {
    fn json(self) -> Value {
        json!({ "administrator": self.administrator, "disabled": self.disabled })
    }
}

/// The result of an import of the directory.
#[derive(Debug, Clone, Copy)]
pub struct Imported {
    /// The revision of the directory after it.
    pub revision: i64,
    /// The number of new documents.
    pub documents: usize,
    /// Whether the history was removed before.
    pub reset: bool,
}

/// A new bulk operation.
#[derive(Debug, Clone, Copy)]
pub struct OperationBegun<'a> {
    pub kind: Kind,
    /// Which letters were asked for.
    pub filter: &'a Value,
    pub note: Option<&'a str>,
    /// The number of its letters.
    pub total: i64,
    pub rate: Option<Rate>,
    pub canary: bool,
}

/// A dead letter, as far as an entry has it.
#[derive(Debug, Clone)]
pub struct Letter<'a> {
    pub id: &'a str,
    /// `events` or `deliveries`.
    pub queue: &'a str,
    pub reason: &'a str,
    /// The publisher's id of its event.
    pub event: Option<String>,
    /// The delivery that was given up.
    pub delivery: Option<DeliveryId>,
    pub webhook: Option<WebhookId>,
}

/// The correction of a dead event.
#[derive(Debug, Clone, Copy)]
pub struct Mended<'a> {
    /// The row that keeps the corrected message.
    pub message: Uuid,
    /// The publisher's ids of its events, the first ones of a large batch.
    pub events: &'a [&'a str],
    /// The digest of the stored body before.
    pub digest_before: &'a str,
    /// The digest of the stored body that is published.
    pub digest_after: &'a str,
}

fn account(action: Action, key: &str) -> Entry {
    Entry::new(action, ObjectKind::Account, bounded(key))
}

fn publisher(action: Action, key: &str) -> Entry {
    Entry::new(action, ObjectKind::Publisher, bounded(key))
}

fn erasure(action: Action, target: &ErasureTarget) -> Entry {
    match target {
        ErasureTarget::User(name) => Entry::new(action, ObjectKind::Account, bounded(name.key())),
        ErasureTarget::Resource(resource) => {
            Entry::new(action, ObjectKind::Resource, bounded(&resource.to_string()))
        }
    }
}

fn operation(action: Action, id: Uuid) -> Entry {
    Entry::new(action, ObjectKind::Operation, id.simple().to_string())
}

fn directory(action: Action) -> Entry {
    Entry::new(action, ObjectKind::Directory, "directory".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_with_another_role_is_changed_and_else_has_a_new_password() {
        let name = Name::parse("Anna").unwrap();
        let (user, root) = (
            AccountState { administrator: false, disabled: true },
            AccountState { administrator: true, disabled: false },
        );
        let changed = Entry::account_replaced(&name, user, root);
        assert_eq!((changed.action(), changed.id()), (Action::AccountChanged, name.key()));
        assert_eq!(changed.before(), Some(&json!({ "administrator": false, "disabled": true })));
        let same = Entry::account_replaced(&name, root, root);
        assert_eq!((same.action(), same.after()), (Action::AccountPasswordChanged, None));
    }

    #[test]
    fn a_dead_letter_of_a_delivery_is_about_the_delivery() {
        let delivery: DeliveryId = "0f8fad5bd9cb469fa16570867728950e".parse().unwrap();
        let letter = Letter {
            id: "7",
            queue: "deliveries",
            reason: "exhausted",
            event: Some("e".to_owned()),
            delivery: Some(delivery),
            webhook: None,
        };
        let entry = Entry::dead_letter(Action::DeadLetterDiscarded, &letter);
        assert_eq!((entry.kind(), entry.id()), (ObjectKind::Delivery, &*delivery.to_string()));
        let other = Letter { delivery: None, queue: "events", ..letter };
        let entry = Entry::dead_letter(Action::DeadLetterReplayed, &other);
        assert_eq!((entry.kind(), entry.id()), (ObjectKind::DeadLetter, "7"));
        assert_eq!(entry.before().unwrap()["event"], "e");
    }
}
