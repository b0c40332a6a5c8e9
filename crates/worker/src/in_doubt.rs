//! Deliveries that may not be attempted now, because their attempts may be under way elsewhere, or
//! because one of them may have ended its workers. They are published again by reference.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_broker::Delay;
use fanfare_core::job::{AttemptRef, DeliveryGroup, MAX_DELIVERIES};
use fanfare_failpoints::failpoint;
use fanfare_metrics::Deferral;
use fanfare_store::holder::GRACE;

use crate::act::AT_ONCE;
use crate::context::Context;
use crate::delivery::DueDelivery;
use crate::error::WorkerError;
use crate::follow_up::{AttemptKind, FollowUp};
use crate::follow_up_publisher::FollowUpPublisher;
use crate::ledger_lost;
use crate::load::{Known, NO_PAYLOAD, read};

/// How long a worker whose session is lost needs to claim its attempts in flight. Until then their
/// jobs, which the broker redelivers to other workers, must wait.
const TAKEOVER_DELAY: Duration = Duration::from_secs(4);

/// Why a first attempt is in doubt.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Doubt {
    /// Its job was redelivered, or waited for too long. The worker that had it may be making the attempt.
    Redelivered,
    /// A router has published a second job for it. A worker may have received the first one, at this time
    /// at the latest.
    Recheck { since: DateTime<Utc> },
}

/// Defers first attempts that are in doubt, because another worker may have made them or be making
/// them. An attempt without a row in the ledger comes back when the doubt may be over. `groups` are the
/// events that their job carries.
pub(crate) async fn defer(
    context: &Context,
    publisher: &FollowUpPublisher,
    dues: &[AttemptRef],
    groups: &[DeliveryGroup],
    doubt: Doubt,
) -> Result<(), WorkerError> {
    let known = read(context, dues, NO_PAYLOAD).await?;
    failpoint!(WorkerBegins, dues);
    let (mut follow_ups, mut open) = (Vec::new(), Vec::new());
    for (due, known) in dues.iter().zip(known) {
        let Known { history, webhook, .. } = known;
        if history.last.is_some() {
            follow_ups.extend(FollowUp::of_row(context, *due).await?);
        } else if history.events.is_empty() {
            follow_ups.push(ledger_lost::letter(context, *due, groups, webhook.as_deref())?);
        } else {
            context.config.metrics.deferred(Deferral::Uncertain);
            open.push(*due);
        }
    }
    follow_ups.extend(come_back(context, open, doubt));
    publisher.publish(follow_ups).await?;
    failpoint!(WorkerPublishes, dues);
    Ok(())
}

/// The jobs with which attempts in doubt come back.
pub(crate) fn come_back(context: &Context, dues: Vec<AttemptRef>, doubt: Doubt) -> Vec<FollowUp> {
    match doubt {
        Doubt::Redelivered => {
            let (kind, delay) = (AttemptKind::First, Delay::at_least(TAKEOVER_DELAY));
            dues.into_iter().map(|due| FollowUp::InDoubt { due, kind, delay }).collect()
        }
        Doubt::Recheck { since } => {
            let passed = (context.now() - since).to_std().unwrap_or_default();
            let delay = Delay::at_least(until_next_recheck(passed, context.in_doubt_window()));
            let job = |dues: &[AttemptRef]| FollowUp::Recheck { dues: dues.to_vec(), since, delay };
            dues.chunks(MAX_DELIVERIES).map(job).collect()
        }
    }
}

/// The wait until it is asked again whether a doubt is over that has lasted for `passed`: not before a
/// worker that died can be known to be dead, then less and less often, and once at the end of `window`,
/// when it is over in any case.
fn until_next_recheck(passed: Duration, window: Duration) -> Duration {
    let wait = GRACE.saturating_sub(passed).max(passed / 4);
    wait.min(window.saturating_sub(passed)).max(AT_ONCE)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rechecks_come_after_the_grace_then_less_often_and_at_the_end_of_the_window() {
        let window = Duration::from_secs(30);
        let (mut passed, mut asked) = (Duration::ZERO, Vec::new());
        while passed < window {
            passed += until_next_recheck(passed, window);
            asked.push(passed.as_secs());
        }
        assert_eq!(asked[..4], [3, 4, 5, 6]);
        assert!(asked.len() < 15, "{asked:?}");
        assert!((30..=31).contains(asked.last().unwrap()), "{asked:?}");
    }
}
