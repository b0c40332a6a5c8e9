//! Puts dead events back that their queue has lost, from the ledger.

use chrono::TimeDelta;
use fanfare_broker::Queue;
use fanfare_broker::dead_letters::{EncodedLetter, restore as put_back};
use fanfare_store::kept::Kept;

use super::{Stopped, Stores};
use crate::{Actor, clock};

/// How long ago a letter must have been kept. A router may not have published a newer one yet.
const SETTLED_FOR: TimeDelta = TimeDelta::minutes(1);

/// Puts the dead events back into their queue that the ledger keeps and the queue does not have, and
/// returns how many. With `dry_run` they are only counted.
///
/// Routers do this by themselves for a queue that was lost as a whole. This is for one that exists and
/// lost its letters, which looks like a queue that a person emptied.
///
/// # Errors
///
/// [`Stopped`]
pub async fn restore(stores: Stores<'_>, actor: &Actor, dry_run: bool) -> Result<u64, Stopped> {
    actor.administrator()?;
    let Stores { session, store } = stores;
    let before = clock::now() - SETTLED_FOR;
    let page = async |after| {
        let page = store.kept_letters(before, after).await?;
        Ok::<_, Stopped>(page.into_iter().map(encoded).collect())
    };
    let count = put_back(session, Queue::EventsDead, dry_run, page).await?;
    tracing::info!(count, dry_run, by = %actor, "put dead letters back");
    Ok(count)
}

pub(crate) fn encoded(Kept { id, properties, body, .. }: Kept) -> EncodedLetter {
    EncodedLetter { id, properties, body }
}
