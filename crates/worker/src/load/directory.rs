//! What the directory says about deliveries: the states of their owners, and what these may read.

use std::sync::Arc;

use fanfare_core::delivery::{Decision, Permitted, decide};
use fanfare_core::explain::OwnerState;
use fanfare_core::filter::is_delete;
use fanfare_core::resource::Resource;
use fanfare_core::webhook::Webhook;
use fanfare_store::access::Question;
use fanfare_store::attempts::{DeliveryHistory, PlannedEvent};

use super::{Content, Loaded};
use crate::context::Context;
use crate::error::WorkerError;

/// Reads the states of the owners, and what they may read if the decisions depend on that.
pub(super) async fn ask_directory(
    context: &Context,
    mut loaded: Vec<&mut Loaded<'_>>,
) -> Result<(), WorkerError> {
    let webhooks = loaded.iter().filter_map(|loaded| loaded.webhook.as_deref());
    let mut keys: Vec<&str> = webhooks.map(|webhook| webhook.owner.key()).collect();
    keys.sort_unstable();
    keys.dedup();
    let store = &context.config.store;
    let users = context.retry_until_available(|| store.user_status(&keys)).await?;
    for loaded in &mut loaded {
        let webhook = loaded.webhook.as_deref();
        let status = webhook.and_then(|webhook| users.get(webhook.owner.key()));
        loaded.facts.owner = status.map_or(OwnerState::Deleted, |status| (*status).into());
    }
    check_access(context, loaded).await
}

/// An event about which the directory is asked.
struct Checked {
    /// The index of its delivery.
    delivery: usize,
    /// Its index in the delivery.
    event: usize,
    webhook: Arc<Webhook>,
    resource: Resource,
}

impl Checked {
    fn question(&self) -> Question<'_> {
        let scopes = self.resource.read_scopes().into_iter();
        let scopes = scopes.map(|(scope, target)| (scope.name(), target)).collect();
        Question { user_key: self.webhook.owner.key(), scopes }
    }
}

/// Asks which events the owners may read, for the deliveries whose decision depends on it. An event
/// that is not allowed by an answer is denied.
async fn check_access(
    context: &Context,
    mut loaded: Vec<&mut Loaded<'_>>,
) -> Result<(), WorkerError> {
    let mut checked = Vec::new();
    for (delivery, loaded) in loaded.iter_mut().enumerate() {
        let (Decision::CheckAccess, Some(webhook), Content::Ledger(history)) =
            (decide(&loaded.facts), &loaded.webhook, &loaded.content)
        else {
            continue;
        };
        let open = open_events(history);
        let check = |(event, planned): (usize, &PlannedEvent)| {
            let resource = Resource::parse(&planned.subject).ok()?;
            Some(Checked { delivery, event, webhook: Arc::clone(webhook), resource })
        };
        checked.extend(open.iter().copied().filter_map(check));
        loaded.facts.denied = Some(open.into_iter().map(|(event, _)| event).collect());
    }
    if checked.is_empty() {
        return Ok(());
    }
    let questions: Vec<Question<'_>> = checked.iter().map(Checked::question).collect();
    let store = &context.config.store;
    let answers = context.retry_until_available(|| store.may_read(&questions)).await?;
    for (Checked { delivery, event, .. }, may_read) in checked.iter().zip(answers) {
        let loaded = loaded.get_mut(*delivery);
        if may_read && let Some(denied) = loaded.and_then(|it| it.facts.denied.as_mut()) {
            denied.retain(|denied| denied != event);
        }
    }
    Ok(())
}

/// The events about which the directory has to be asked, with their indexes. An event that was decided
/// by the present directory need not be, and neither does the deletion of a resource, about which the
/// plan has the last word.
fn open_events(history: &DeliveryHistory) -> Vec<(usize, &PlannedEvent)> {
    let last = history.last.as_ref().filter(|last| last.whole);
    let last = last.map(|last| Permitted { revision: last.revision, at: last.at });
    let is_open = |event: &PlannedEvent| {
        let plan = Permitted { revision: event.decided_revision, at: event.received_at };
        let holds = |it: Permitted| it.holds(history.revision, history.late_at);
        !is_delete(&event.event_type) && !holds(plan) && !last.is_some_and(holds)
    };
    history.events.iter().enumerate().filter(|(_, event)| is_open(event)).collect()
}
