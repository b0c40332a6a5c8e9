//! The letter of a delivery that the ledger has.

use fanfare_broker::dead_letters::DeadDelivery;
use fanfare_core::job::AttemptRef;
use fanfare_core::notification::render;
use fanfare_core::webhook::{Properties, Webhook};
use fanfare_store::attempts::{DeliveryHistory, Last};

/// The letter of a delivery that is dead in the ledger.
#[must_use]
pub fn dead_delivery(
    due: AttemptRef,
    last: &Last,
    history: &DeliveryHistory,
    webhook: Option<&Webhook>,
) -> DeadDelivery {
    let notifications = history.events.iter().filter_map(|event| event.notification.as_deref());
    let none = Properties::default();
    let properties = webhook.map_or(&none, |webhook| &webhook.properties);
    DeadDelivery {
        due,
        reason: last.reason.clone().unwrap_or_default(),
        owner: webhook.map(|webhook| webhook.owner.to_string()).unwrap_or_default(),
        events: history.events.iter().map(|event| event.event_id.clone()).collect(),
        attempts: last.attempt,
        last_status: last.status,
        body: render(due.id(), last.attempt, properties, notifications).into(),
    }
}
