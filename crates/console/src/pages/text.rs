//! What is said of codes and states; all other English is in the templates.

use fanfare_core::explain::OwnerState;
use fanfare_core::outcome::State;
use fanfare_store::deliveries::Ended;

use super::denied::Denied;
use crate::oidc::claims::Nameless;

/// A state with how good it is, as the class of its badge.
pub(super) fn state(state: State) -> (&'static str, &'static str) {
    match state {
        State::Pending => ("Pending", ""),
        State::Retrying => ("Retrying", "warn"),
        State::Delivered => ("Delivered", "good"),
        State::Dropped => ("Dropped", ""),
        State::Dead => ("Dead", "bad"),
    }
}

/// Why a webhook is paused; `None` when its owner did it.
pub(super) fn paused(reason: Option<&str>) -> String {
    match reason {
        None => "by its owner".to_owned(),
        Some("gone") => "the receiver answered 410: it wants nothing more".to_owned(),
        Some("failing") => "all attempts failed for too long".to_owned(),
        Some("owner-recreated") => {
            "it was another person's of the same name; an administrator decides".to_owned()
        }
        Some(other) => other.to_owned(),
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
        "exhausted" => "All attempts failed.",
        "expired" => "The next attempt would have come after the deadline.",
        "poison" => "It ended its workers, even when they attempted nothing else.",
        "ledger-lost" => "The database does not know its events: publish them again.",
        other => other,
    }
}

/// How an attempt ended.
pub(super) fn outcome(code: &str) -> &str {
    match code {
        "delivered" => "The receiver took it.",
        "gone" => "The receiver answered 410: it wants nothing more, and the webhook was paused.",
        "status" => "The receiver did not take it: anything but 2xx is a failure.",
        "timeout" => "The receiver did not answer in time.",
        "connect" => "No connection: it was refused, or broke before an answer came.",
        "dns" => "The host's name could not be resolved.",
        "tls" => "The TLS handshake failed, for example for an untrusted certificate.",
        "protocol" => "The receiver did not speak HTTP as the standard asks.",
        "blocked-target" => "The host is at an address that webhooks may not reach.",
        other => other,
    }
}

/// Why sending again what failed came to its end.
pub(super) fn resend_ended(ended: Ended) -> &'static str {
    match ended {
        Ended::Done => "Done.",
        Ended::Cancelled => "Cancelled: the rest stays as it was.",
        Ended::WebhookPaused => "Ended, since the webhook was paused: the rest stays as it was.",
        Ended::WebhookDeleted => "Ended, since the webhook was deleted.",
    }
}

/// What is wrong with a webhook's owner, if anything.
pub(super) fn owner(state: OwnerState) -> Option<&'static str> {
    match state {
        OwnerState::Enabled => None,
        OwnerState::Disabled => Some("Disabled: gets nothing"),
        OwnerState::Deleted => Some("Not in the directory: gets nothing"),
    }
}

/// What was done, after a redirect; the code comes from the address and may be anything.
pub(super) fn done(code: &str) -> Option<&'static str> {
    match code {
        "created" => Some(
            "The webhook was created. Give its secret to the receiver, so that it can check who \
             calls.",
        ),
        "saved" => Some("The webhook was saved."),
        "deleted" => Some("The webhook was deleted. It gets nothing more."),
        "paused" => Some("The webhook was paused. Events of this time are not sent later."),
        "resumed" => Some("The webhook was resumed."),
        "resent" => Some("The delivery is attempted again."),
        "not-resent" => Some("The delivery is about to be attempted anyway."),
        "tested" => Some("A test event is on its way; it appears below."),
        "rotated" => Some(
            "There is a new secret. Both sign until the old one runs out: give the new one to the \
             receiver before.",
        ),
        _ => None,
    }
}

/// Why something was not done, after a redirect.
pub(super) fn problem(code: &str) -> Option<&'static str> {
    match code {
        "paused" => Some("The webhook is paused: resume it first."),
        "under-way" => Some("An attempt is being made now; wait until it has ended."),
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
             webhook asks for, so that it gets no events at all.",
        ),
        _ => None,
    }
}

/// Why somebody is not signed in by the identity provider, which people call `label`.
pub(super) fn denied(why: &Denied, label: &str) -> String {
    match why {
        Denied::NotOurs => "That sign-in did not begin in this browser, took too long, or is over \
                            already. Sign in again."
            .to_owned(),
        Denied::Cancelled => format!("You were not signed in: {label} did not agree, or you."),
        Denied::Away => {
            format!("Signing in with {label} does not work for now: there is no answer. Try again.")
        }
        Denied::Refused | Denied::Failed(_) => format!(
            "Signing in with {label} does not work as it is set up. The log of the service says \
             more; tell whoever runs it."
        ),
        Denied::Nameless(Nameless::NotVerified) => {
            format!("You are known to {label}, but your e-mail address is not verified there.")
        }
        Denied::Nameless(_) => format!(
            "You are known to {label}, but it does not say by which name the report server knows \
             you. Tell whoever runs the service."
        ),
        Denied::Unknown(name) => format!(
            "You are known to {label} as {name}, but the report server has no user of that name. \
             Tell whoever runs it, or sign in as somebody else."
        ),
        Denied::Disabled(name) => {
            format!("The user {name} is disabled at the report server.")
        }
    }
}
