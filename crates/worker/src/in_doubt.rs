//! Deliveries that may not be attempted now, because their attempts may be under way elsewhere, or
//! because one of them may have ended its workers. They are published again by reference.

use std::time::Duration;

use fanfare_broker::Delay;
use fanfare_core::job::{AttemptRef, DeliveryGroup};
use fanfare_failpoints::failpoint;
use fanfare_metrics::Deferral;

use crate::act::AT_ONCE;
use crate::context::Context;
use crate::delivery::DueDelivery;
use crate::error::WorkerError;
use crate::follow_up::{AttemptKind, FollowUp};
use crate::follow_up_publisher::FollowUpPublisher;
use crate::ledger_lost;
use crate::load::{Known, NO_PAYLOAD, read};

/// Defers first attempts that are in doubt, because another worker may have made them or be making
/// them. An attempt without a row in the ledger comes back as a job by reference after `wait`, when
/// the doubt is over. `groups` are the events that their job carries.
pub(crate) async fn defer(
    context: &Context,
    publisher: &FollowUpPublisher,
    dues: &[AttemptRef],
    groups: &[DeliveryGroup],
    wait: Duration,
) -> Result<(), WorkerError> {
    let known = read(context, dues, NO_PAYLOAD).await?;
    failpoint!(WorkerBegins, dues);
    let mut follow_ups = Vec::new();
    for (due, known) in dues.iter().zip(known) {
        let Known { history, webhook, .. } = known;
        if history.last.is_some() {
            follow_ups.extend(FollowUp::of_row(context, *due).await?);
        } else if history.events.is_empty() {
            follow_ups.push(ledger_lost::letter(context, *due, groups, webhook.as_deref())?);
        } else {
            context.config.metrics.deferred(Deferral::Uncertain);
            let (kind, delay) = (AttemptKind::First, Delay::at_least(wait));
            follow_ups.push(FollowUp::InDoubt { due: *due, kind, delay });
        }
    }
    publisher.publish(follow_ups).await?;
    failpoint!(WorkerPublishes, dues);
    Ok(())
}

/// Publishes each delivery of a job that was redelivered several times as a job of its own: one of
/// them may end its worker each time, and the others must not end with it. For an attempt that has
/// its row, the follow-up is published again.
pub(crate) async fn split(
    context: &Context,
    publisher: &FollowUpPublisher,
    deliveries: &[DueDelivery],
) -> Result<(), WorkerError> {
    let dues: Vec<AttemptRef> = deliveries.iter().map(|delivery| delivery.due).collect();
    let mut follow_ups = Vec::with_capacity(deliveries.len());
    for (delivery, known) in deliveries.iter().zip(read(context, &dues, NO_PAYLOAD).await?) {
        if known.history.last.is_some_and(|last| last.entry >= delivery.due.sequence) {
            follow_ups.extend(FollowUp::of_row(context, delivery.due).await?);
        } else {
            follow_ups.push(delivery.again(AT_ONCE));
        }
    }
    publisher.publish(follow_ups).await
}
