//! Deliveries that the database does not know: a failover or a restore lost the commit on which their
//! job was published. The job's content is kept as a dead letter, because nothing else is left.

use fanfare_broker::dead_letters::DeadDelivery;
use fanfare_core::ids::WebhookId;
use fanfare_core::job::{AttemptRef, DeliveryGroup, Job};
use fanfare_core::notification::render;
use fanfare_core::outcome::DeadReason;
use fanfare_core::webhook::{Properties, Webhook};

use crate::context::Context;
use crate::error::WorkerError;
use crate::follow_up::FollowUp;

/// The dead letter of a delivery whose events the database does not know. Its body is the one to be
/// sent if the job carried events (`groups`), and otherwise the job.
pub(crate) fn letter(
    context: &Context,
    due: AttemptRef,
    groups: &[DeliveryGroup],
    webhook: Option<&Webhook>,
) -> Result<FollowUp, WorkerError> {
    let reason = DeadReason::LedgerLost;
    tracing::warn!(
        webhook.id = %due.webhook, delivery.id = %due.id(), reason = reason.code(),
        "the database does not know the events of a job: was it restored, or did it fail over \
         without its last commits? The job becomes a dead letter"
    );
    context.config.metrics.dead_letter(reason);
    let (events, body) = match first_attempt(groups, due, webhook) {
        Some(first_attempt) => first_attempt,
        None if due.sequence == 1 => (Vec::new(), Job::FirstByReference(vec![due]).to_bytes()?),
        None => (Vec::new(), Job::Retry(vec![due]).to_bytes()?),
    };
    Ok(FollowUp::Dead(Box::new(DeadDelivery {
        due,
        reason: reason.code().to_owned(),
        owner: webhook.map(|webhook| webhook.owner.to_string()).unwrap_or_default(),
        events,
        attempts: due.sequence - 1,
        last_status: None,
        body: body.into(),
    })))
}

/// The events' ids and the body of a first attempt, if the job carries its events.
fn first_attempt(
    groups: &[DeliveryGroup],
    due: AttemptRef,
    webhook: Option<&Webhook>,
) -> Option<(Vec<String>, Vec<u8>)> {
    let group = groups.iter().find(|group| group.batch == due.batch)?;
    let is_it = |webhook: WebhookId| webhook == due.webhook;
    let to = group.deliveries.iter().find(|to| is_it(to.webhook))?;
    let none = Properties::default();
    let properties = webhook.map_or(&none, |webhook| &webhook.properties);
    let body = render(due.id(), 1, properties, group.notifications_for(to));
    Some((group.event_ids.clone(), body.into()))
}
