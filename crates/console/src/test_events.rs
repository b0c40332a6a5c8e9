//! Sending a test event to a webhook: the same for the API and for the pages.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use fanfare_core::event::Event;
use fanfare_core::explain::OwnerState;
use fanfare_core::job::Due;
use fanfare_core::name::Name;
use fanfare_core::test_event;
use fanfare_core::webhook::Webhook;
use fanfare_store::StoreError;
use uuid::Uuid;

use crate::app::App;
use crate::auth::throttle::{Limit, Spending};

/// Test events of one owner: ten at once, then one every 6 s. Each console counts its own.
const OF_AN_OWNER: Limit = Limit { burst: 10, every: Duration::from_secs(6) };

/// How many test events were sent.
#[derive(Default)]
pub(crate) struct Sending(Mutex<Spending<String>>);

impl Sending {
    /// Counts one. An error says how long to wait for the next one.
    fn take(&self, owner: &Name, now: Instant) -> Result<(), Duration> {
        let mut spending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spending.take(owner.key().to_owned(), OF_AN_OWNER, now)
    }
}

/// A test event that is on its way.
pub(crate) struct Sent {
    pub(crate) event: Event,
    pub(crate) due: Due,
    /// When it was taken in.
    pub(crate) received_at: DateTime<Utc>,
}

/// Why none was sent.
#[derive(Debug)]
pub(crate) enum NotSent {
    /// There were too many for this owner.
    TooMany {
        /// How long to wait for the next one.
        wait: Duration,
    },
    /// The webhook is paused.
    Paused,
    /// The owner is disabled.
    OwnerDisabled,
    /// The owner is not in the directory.
    OwnerDeleted,
    /// The owner may read nothing of what the webhook asks for: it would get no event at all.
    NothingReadable,
    /// The database did not answer.
    Store(StoreError),
}

impl From<StoreError> for NotSent {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Sends a test event that this user asked for, by the way of every event, to this webhook alone.
/// It is about something that the owner may read, of a kind that the webhook asks for.
pub(crate) async fn send(app: &App, by: &Name, webhook: &Webhook) -> Result<Sent, NotSent> {
    if webhook.paused {
        return Err(NotSent::Paused);
    }
    app.test_events
        .take(&webhook.owner, Instant::now())
        .map_err(|wait| NotSent::TooMany { wait })?;
    let reach = app.store.reach(&webhook.owner).await?;
    match reach.state {
        OwnerState::Enabled => {}
        OwnerState::Disabled => return Err(NotSent::OwnerDisabled),
        OwnerState::Deleted => return Err(NotSent::OwnerDeleted),
    }
    let resource = test_event::resource(&webhook.filters, &reach.readable);
    let event = resource.and_then(|resource| {
        let id = Uuid::new_v4().to_string();
        test_event::event(&id, &resource, by, reach.revision)
    });
    let event = event.ok_or(NotSent::NothingReadable)?;
    let (due, received_at) = app.store.test_event_add(&event, webhook.id, reach.revision).await?;
    app.context.publisher.enqueue(&[due]).await;
    Ok(Sent { event, due, received_at })
}
