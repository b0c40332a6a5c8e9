//! The use case that sends a test event to a webhook.

use std::num::NonZeroU32;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::event::Event;
use fanfare_core::explain::OwnerState;
use fanfare_core::ids::WebhookId;
use fanfare_core::job::AttemptRef;
use fanfare_core::name::Name;
use fanfare_core::test_event;
use fanfare_core::webhook::Webhook;
use fanfare_store::StoreError;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use uuid::Uuid;

use crate::webhooks::{self, WebhookError};
use crate::{Actor, Context, NotReceiving};

/// The number of test events that one owner may send at once; after that, one every [`EVERY`]. Each
/// process counts separately.
const BURST: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// The time between two test events of an owner who has used up the burst.
const EVERY: Duration = Duration::from_secs(6);
/// The number of owners that are remembered. Beyond it, owners whose full burst is available again
/// are forgotten.
const MAX_OWNERS: usize = 10_000;

/// The rate limiter for the test events of each owner.
pub(crate) struct Limiter(DefaultKeyedRateLimiter<String>);

impl Limiter {
    pub(crate) fn new() -> Self {
        let quota = Quota::with_period(EVERY).unwrap_or(Quota::per_minute(BURST));
        Self(RateLimiter::keyed(quota.allow_burst(BURST)))
    }

    /// Counts one test event. The error is the time to wait for the next one.
    fn acquire(&self, owner: &Name) -> Result<(), Duration> {
        if self.0.len() > MAX_OWNERS {
            self.0.retain_recent();
            self.0.shrink_to_fit();
        }
        let checked = self.0.check_key(&owner.key().to_owned());
        checked.map_err(|until| until.wait_time_from(DefaultClock::default().now()))
    }
}

/// A test event that was sent.
#[derive(Debug)]
pub struct Sent {
    pub event: Event,
    /// The first attempt of its delivery.
    pub due: AttemptRef,
    /// The time at which the ledger recorded the event.
    pub received_at: DateTime<Utc>,
}

/// Why no test event was sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The actor may not see the webhook, or it could not be read.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// The webhook receives nothing.
    #[error(transparent)]
    NotReceiving(#[from] NotReceiving),
    /// The owner has sent too many test events.
    #[error("too many test events; wait {} s", wait.as_secs())]
    TooMany {
        /// How long to wait for the next one.
        wait: Duration,
    },
    /// The owner is disabled, so nothing is sent to their webhooks.
    #[error("{0} is disabled")]
    OwnerDisabled(Name),
    /// The owner is not in the directory, so nothing is sent to their webhooks.
    #[error("{0} is not in the directory")]
    OwnerDeleted(Name),
    /// The owner may read no resource of the kinds that the webhook's filters select, so the
    /// webhook gets no events.
    #[error("{0} may read nothing that the webhook asks for")]
    NothingReadable(Name),
    /// The database did not answer, or refused the statement.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Sends a test event to this webhook alone, in the same way as every event. The event is about a
/// resource that the owner may read, of a kind that the webhook's filters select.
///
/// # Errors
///
/// [`SendError`]
pub async fn send(context: &Context, actor: &Actor, id: WebhookId) -> Result<Sent, SendError> {
    let webhook = webhooks::find(context, actor, id).await?;
    if webhook.paused {
        return Err(NotReceiving::Paused(id).into());
    }
    context.test_events.acquire(&webhook.owner).map_err(|wait| SendError::TooMany { wait })?;
    let (event, revision) = event(context, actor, &webhook).await?;
    let (due, received_at) = context.store.test_event_add(&event, id, revision).await?;
    context.publisher.enqueue(&[due]).await;
    tracing::info!(webhook.id = %id, event.id = %event.id, by = %actor, "sent a test event");
    Ok(Sent { event, due, received_at })
}

/// Makes the event, and returns it with the directory revision at which the owner may read its
/// resource.
async fn event(
    context: &Context,
    actor: &Actor,
    webhook: &Webhook,
) -> Result<(Event, i64), SendError> {
    let owner = &webhook.owner;
    let scopes = context.store.readable_scopes(owner).await?;
    match scopes.state {
        OwnerState::Enabled => {}
        OwnerState::Disabled => return Err(SendError::OwnerDisabled(owner.clone())),
        OwnerState::Deleted => return Err(SendError::OwnerDeleted(owner.clone())),
    }
    let resource = test_event::resource(&webhook.filters, &scopes.readable);
    let event = resource.and_then(|resource| {
        let id = Uuid::new_v4().to_string();
        test_event::event(&id, &resource, &actor.to_string(), scopes.revision)
    });
    let event = event.ok_or_else(|| SendError::NothingReadable(owner.clone()))?;
    Ok((event, scopes.revision))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_has_ten_test_events_at_once_and_then_waits() {
        let limiter = Limiter::new();
        let (anna, bob) = (Name::parse("anna").unwrap(), Name::parse("bob").unwrap());
        for _ in 0..10 {
            assert_eq!(limiter.acquire(&anna), Ok(()));
        }
        let wait = limiter.acquire(&anna).unwrap_err();
        assert!(wait <= EVERY && wait > Duration::ZERO, "{wait:?}");
        assert_eq!(limiter.acquire(&bob), Ok(()));
    }
}
