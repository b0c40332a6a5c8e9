//! The texts for codes and states. All other texts are in the templates.

use fanfare_app::operations::Held;
use fanfare_app::resends::ResendEnd;
use fanfare_core::audit::{Action, Door};
use fanfare_core::explain::OwnerState;
use fanfare_core::notice::{About, Channel, Kind, Stage};
use fanfare_core::operation::{Refusal, State as OperationState};
use fanfare_core::outcome::State;
use fanfare_core::recover::Verdict;
use fanfare_core::webhook::PauseReason;

use super::provider_error::ProviderError;
use crate::oidc::claims::UserClaimError;

/// A message as a sentence.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(char::to_uppercase).into_iter().flatten();
    let mut sentence: String = first.chain(letters).collect();
    if !sentence.ends_with(['.', '…']) {
        sentence.push('.');
    }
    sentence
}

/// Why an event was sent to a webhook or not, by the code of the verdict.
pub(super) fn verdict(code: &str) -> &str {
    match code {
        "sent" => "Sent",
        "test-of-another" => "A test of another webhook",
        "not-created" => "The webhook did not exist yet",
        "webhook-deleted" => "The webhook was deleted",
        "webhook-paused" => "The webhook was paused",
        "filter" => "Its filters do not match",
        "owner-disabled" => "Its owner was disabled",
        "owner-deleted" => "Its owner was not in the directory",
        "no-access" => "Its owner may not read the resource",
        "unknown" => "The reason is not known any more",
        other => other,
    }
}

/// The name of a channel of notices.
pub(super) fn channel(channel: Channel) -> &'static str {
    match channel {
        Channel::Exchange => "Exchange",
        Channel::Webhook => "Operator’s webhook",
        Channel::Mail => "Operators’ mail",
        Channel::OwnerWebhook => "Owner’s address",
        Channel::OwnerMail => "Owner’s mail",
    }
}

/// The label of a type of notices.
pub(super) fn notice(kind: Kind) -> &'static str {
    match kind {
        Kind::Open(Stage::Failing) => "A webhook has failed for an hour",
        Kind::Open(Stage::FailingForADay) => "A webhook has failed for a day",
        Kind::Open(Stage::NearPause) => "A webhook will soon be paused",
        Kind::Open(Stage::Paused) => "A webhook was paused",
        Kind::Open(Stage::SecretEnding) => "A former secret will soon end",
        Kind::Open(Stage::Arriving) => "Dead letters arrive",
        Kind::Open(Stage::Late) => "First attempts are late",
        Kind::Open(Stage::Behind) => "The directory is behind",
        Kind::Open(Stage::Incomplete) => "The directory is not complete",
        Kind::Open(Stage::SnapshotRefused) => "A snapshot of the directory was refused",
        Kind::Resolved(About::Webhook) => "A webhook works again",
        Kind::Resolved(About::Secret) => "A webhook has one secret again",
        Kind::Resolved(About::DeadLetters) => "No more dead letters arrive",
        Kind::Resolved(About::Deliveries) => "First attempts are in time again",
        Kind::Resolved(About::Directory) => "The directory is up to date again",
    }
}

/// The label of a state, and the class of its badge.
pub(super) fn state(state: State) -> (&'static str, &'static str) {
    match state {
        State::Pending => ("Pending", ""),
        State::Retrying => ("Retrying", "warn"),
        State::Delivered => ("Delivered", "good"),
        State::Dropped => ("Dropped", ""),
        State::Dead => ("Dead", "bad"),
    }
}

/// Why a webhook is paused. Without a reason, its owner paused it.
pub(super) fn paused(reason: Option<&PauseReason>) -> String {
    match reason {
        None => "by its owner".to_owned(),
        Some(PauseReason::Gone) => {
            "the receiver answered 410: it accepts no more notifications".to_owned()
        }
        Some(PauseReason::Failing) => "all attempts failed for too long".to_owned(),
        Some(PauseReason::OwnerRecreated) => {
            "it belonged to a former user of the same name; an administrator decides".to_owned()
        }
        Some(PauseReason::Other(code)) => code.clone(),
    }
}

/// What becomes of what happens while a webhook is paused: what it holds so far, or nothing.
pub(super) fn meanwhile(held: Option<Held>) -> String {
    match held {
        None => "what happens meanwhile is dropped".to_owned(),
        Some(Held { count, more }) => {
            let (more, one) = (if more { " or more" } else { "" }, count == 1 && !more);
            let (noun, verb) = if one { ("delivery", "waits") } else { ("deliveries", "wait") };
            format!("{count}{more} {noun} {verb} for it to be resumed")
        }
    }
}

/// Why a delivery is not sent any more.
pub(super) fn reason(code: &str) -> &str {
    match code {
        "webhook-deleted" => "The webhook was deleted.",
        "webhook-paused" => "The webhook was paused.",
        "owner-disabled" => "The owner was disabled.",
        "owner-deleted" => "The owner is not in the directory any more.",
        "access-revoked" => "The owner may not read the resource any more.",
        "payload-removed" => "Its payload was removed before it was sent.",
        "shadow" => "It would have been sent, but shadow mode sends nothing.",
        "exhausted" => "All attempts failed.",
        "expired" => "The next attempt would have come after the deadline.",
        "poison" => "Workers ended each time they attempted it, even with nothing else to do.",
        "ledger-lost" => "The database has lost its events: publish them again.",
        other => other,
    }
}

/// How an attempt ended.
pub(super) fn outcome(code: &str) -> &str {
    match code {
        "delivered" => "The receiver accepted it.",
        "gone" => {
            "The receiver answered 410: it accepts no more notifications. The webhook was paused."
        }
        "status" => "The receiver refused it: every status but 2xx is a failure.",
        "timeout" => "The receiver did not answer in time.",
        "connect" => "The connection was refused, or broke before an answer came.",
        "dns" => "The host's name could not be resolved.",
        "tls" => "The TLS handshake failed, for example for an untrusted certificate.",
        "protocol" => "The receiver's answer is not valid HTTP.",
        "blocked-target" => "Webhooks may not reach the address of this host.",
        other => other,
    }
}

/// The state of a bulk operation.
pub(super) fn operation_state(state: OperationState) -> &'static str {
    match state {
        OperationState::Running => "Running.",
        OperationState::Paused => "Paused.",
        OperationState::Done => "Done.",
        OperationState::Cancelled => "Cancelled.",
        OperationState::Stopped => "Stopped: receivers failed again.",
    }
}

/// Why a bulk operation keeps letters. A code of a later version is shown as it is.
pub(super) fn refusal(code: &str) -> String {
    let Some(refusal) = Refusal::parse(code) else { return left_out(code).to_owned() };
    match refusal {
        Refusal::WebhookPaused => "the webhook is paused",
        Refusal::WebhookDeleted => "the webhook is deleted",
        Refusal::PayloadRemoved => "the payload was removed, so there is nothing to send",
        Refusal::Settled => "settled in another way meanwhile",
        Refusal::UnderWay => "an attempt is being made now",
        Refusal::Unknown => "the database does not know the delivery",
        Refusal::OnlyInQueue => "only the queue has the message; replay or discard it by its id",
        Refusal::Relapsed => "the receiver failed again",
    }
    .to_owned()
}

/// Why a recover operation leaves deliveries out.
fn left_out(code: &str) -> &str {
    let Some(verdict) = Verdict::parse(code) else { return code };
    match verdict {
        Verdict::Send => "missed",
        Verdict::AlreadyDelivered => "the receiver has them",
        Verdict::Pending => "they are waiting for an attempt",
        Verdict::Dead => "they are dead letters: replay them",
        Verdict::NotNow => "the owner may not read the resource now",
        Verdict::NotThen => "the owner could not read the resource then",
        Verdict::ThenUnknown => "it is not known any more who could read the resource then",
        Verdict::PayloadRemoved => "the payload was removed, so there is nothing to send",
        Verdict::Filter => "the webhook\u{2019}s filters don\u{2019}t match",
        Verdict::WebhookPaused => "the webhook is paused",
        Verdict::Shadow => "shadow mode was on: the report server sent them",
    }
}

/// Why a resend of failed deliveries ended.
pub(super) fn resend_ended(ended: ResendEnd) -> &'static str {
    match ended {
        ResendEnd::Done => "Done.",
        ResendEnd::Cancelled => "Cancelled: the rest stays as it was.",
        ResendEnd::WebhookPaused => {
            "Ended because the webhook was paused: the rest stays as it was."
        }
        ResendEnd::WebhookDeleted => "Ended because the webhook was deleted.",
    }
}

/// The way by which a request came in, to follow the name of the person.
pub(super) fn door(code: &str) -> &'static str {
    match Door::parse(code) {
        Some(Door::Console) => "console",
        Some(Door::Api) => "API",
        Some(Door::Cli) => "command line",
        Some(Door::System) => "by itself",
        None => "another version of the service",
    }
}

/// What was done, by the code of the audit trail. A later version may have written another code.
pub(super) fn action(code: &str) -> &str {
    match Action::parse(code) {
        Some(action) => known_action(action),
        None => code,
    }
}

/// The label of an action.
pub(super) fn known_action(action: Action) -> &'static str {
    match action {
        Action::WebhookCreated => "Webhook created",
        Action::WebhookImported => "Webhook imported",
        Action::WebhookChanged => "Webhook changed",
        Action::WebhookPaused => "Webhook paused",
        Action::WebhookResumed => "Webhook resumed",
        Action::WebhookDeleted => "Webhook deleted",
        Action::WebhookSecretRevealed => "Secret shown",
        Action::WebhookSecretsListed => "Secrets listed",
        Action::WebhookSecretRotated => "Secret replaced",
        Action::NoticeSettingsChanged => "Channels of notices changed",
        Action::AccountCreated => "Account added",
        Action::AccountChanged => "Account changed",
        Action::AccountPasswordChanged => "Password changed",
        Action::AccountDisabled => "Account disabled",
        Action::AccountEnabled => "Account enabled",
        Action::AccountRemoved => "Account removed",
        Action::PublisherAdded => "Publisher added",
        Action::PublisherRevoked => "Token of a publisher revoked",
        Action::DeliveryRetried => "Delivery sent again",
        Action::ResendBegun => "Failed deliveries sent again",
        Action::ResendCancelled => "Sending again cancelled",
        Action::OperationBegun => "Operation begun",
        Action::OperationPaused => "Operation paused",
        Action::OperationResumed => "Operation resumed",
        Action::OperationCancelled => "Operation cancelled",
        Action::OperationEnded => "Operation ended",
        Action::OperationUndone => "Discarded letters restored",
        Action::DeadLetterReplayed => "Dead letter replayed",
        Action::DeadLetterMended => "Dead letter mended",
        Action::DeadLetterDiscarded => "Dead letter discarded",
        Action::ErasureBegun => "Erasure begun",
        Action::ErasureDone => "Payloads erased",
        Action::DirectoryImported => "Directory imported",
        Action::DirectoryRevisionAccepted => "Directory revision accepted",
        Action::DirectoryRefusedAccepted => "Refused snapshots accepted",
    }
}

/// The problem with a webhook's owner, if there is one.
pub(super) fn owner(state: OwnerState) -> Option<&'static str> {
    match state {
        OwnerState::Enabled => None,
        OwnerState::Disabled => Some("Disabled: gets nothing"),
        OwnerState::Deleted => Some("Not in the directory: gets nothing"),
    }
}

/// The confirmation shown after a redirect; the code comes from the address and may be anything.
pub(super) fn done(code: &str) -> Option<&'static str> {
    match code {
        "created" => Some(
            "The webhook was created. Give its secret to the receiver, so that it can check the \
             sender.",
        ),
        "saved" => Some("The webhook was saved."),
        "deleted" => Some("The webhook was deleted. No more notifications are sent to it."),
        "paused" => {
            Some("The webhook was paused. Events that happen meanwhile are not sent later.")
        }
        "held" => Some(
            "The webhook was paused. Events that happen meanwhile are sent when it is resumed.",
        ),
        "resumed" => Some("The webhook was resumed."),
        "resent" => Some("The delivery is attempted again."),
        "not-resent" => Some("An attempt of the delivery was already due."),
        "tested" => Some("A test event was sent; its delivery appears below."),
        "rotated" => Some(
            "There is a new secret. Notifications are signed with both secrets until the old one \
             expires. Give the new one to the receiver before then.",
        ),
        _ => None,
    }
}

/// The refusal shown after a redirect.
pub(super) fn problem(code: &str) -> Option<&'static str> {
    match code {
        "paused" => Some("The webhook is paused: resume it first."),
        "payload-removed" => {
            Some("It can't be sent again: the data of one of its events was removed.")
        }
        "under-way" => Some("An attempt is running. Wait until it has ended."),
        "former-owner" => Some(
            "The webhook belonged to a former user of the same name, so only a System Administrator \
             may resume it.",
        ),
        "owner" => Some(
            "Nothing is sent: the owner is disabled, or is not in the report server's directory.",
        ),
        "too-many-tests" => Some(
            "There were too many test events for this user within a short time. Try again in a \
             minute.",
        ),
        "resends" => Some(
            "Failed deliveries of several other webhooks of this user are being sent again. Wait \
             until one is done, or cancel one.",
        ),
        "no-test" => Some(
            "A test event could not be sent: the owner may not read anything of the kinds that the \
             webhook asks for, so it gets no events at all.",
        ),
        _ => None,
    }
}

/// Why the identity provider, which the sign-in page calls `label`, did not sign a person in.
pub(super) fn provider_error(why: &ProviderError, label: &str) -> String {
    match why {
        ProviderError::NotOurs => {
            "This sign-in was started in another browser, took too long, or has ended \
                            already. Sign in again."
                .to_owned()
        }
        ProviderError::Cancelled => format!("You were not signed in: you or {label} cancelled it."),
        ProviderError::Unavailable => {
            format!("{label} does not answer, so signing in with it does not work now. Try again.")
        }
        ProviderError::Refused | ProviderError::Page(_) => format!(
            "Signing in with {label} does not work as it is set up. Tell the operators of the \
             service; its log has the reason."
        ),
        ProviderError::UserClaim(UserClaimError::NotVerified) => {
            format!("{label} knows you, but has not verified your e-mail address.")
        }
        ProviderError::UserClaim(_) => format!(
            "{label} knows you, but does not send your user name at the report server. Tell the \
             operators of the service."
        ),
        ProviderError::Unknown(name) => format!(
            "{label} knows you as {name}, but the report server has no user of that name. Tell its \
             operators, or sign in as another user."
        ),
        ProviderError::Disabled(name) => {
            format!("The user {name} is disabled at the report server.")
        }
    }
}
