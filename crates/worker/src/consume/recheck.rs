//! Rechecks that come back: first attempts for which an inline job may exist that another worker has
//! received.
//!
//! The doubt is over as soon as no worker can have such a job open, which each worker's row says, or its
//! death. Until then the recheck goes round through the delay ladder.

use std::sync::Arc;

use fanfare_core::job::AttemptRef;

use super::group::{Group, add_job, attempt_group};
use super::{Lane, Received, settle_jobs};
use crate::follow_up::{AttemptKind, in_doubt_since};
use crate::in_doubt::{Doubt, come_back};

/// Attempts the deliveries of a recheck if the doubt about them is over. If it is not, the recheck is put
/// off as it is.
pub(super) async fn recheck(lane: Arc<Lane>, received: Received, dues: Vec<AttemptRef>) {
    let since = in_doubt_since(&received.incoming.message);
    let since = since.unwrap_or_else(|| lane.context.now());
    let result = match lane.context.doubt_is_over(since).await {
        Ok(true) => {
            let mut group = Group::default();
            add_job(&lane, &mut group, received, &dues, AttemptKind::First);
            return attempt_group(&lane, group).await;
        }
        Ok(false) => {
            let again = come_back(&lane.context, dues, Doubt::Recheck { since });
            lane.publisher.publish(again).await
        }
        Err(error) => Err(error),
    };
    settle_jobs(vec![(received.incoming.settle, result)]).await;
}
