//! What must be known of due deliveries before any of them is attempted: which are deferred, which are
//! claimed, and what the ledger says of these.

use fanfare_core::job::Due;
use fanfare_core::suspect::Unrecorded;
use fanfare_store::attempts::Standing;
use fanfare_store::claims::Claim;

use super::entry::Entry;
use super::{INLINE, NO_PAYLOAD, Taken, chain, look};
use crate::context::{Context, Held};
use crate::error::WorkerError;
use crate::follow_up::FollowUp;
use crate::gate::Deferred;
use crate::hand_on::HandOn;
use crate::verdict::{Verdict, verdicts};
use crate::webhooks::Found;

/// What is known of deliveries before they are attempted.
pub(super) struct Prepared {
    /// Which of them are deferred, in their order.
    pub(super) deferred: Vec<Option<Deferred>>,
    /// What the ledger says of the others, and what is to be done.
    pub(super) standings: Vec<Standing>,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) found: Found,
    pub(super) held: Held,
}

/// Claims what may go, and reads what the ledger knows; `None` when all of it was deferred.
pub(super) async fn prepare(
    context: &Context,
    hand_on: &HandOn,
    taken: &[Taken],
    entries: &[Entry],
) -> Result<Option<Prepared>, WorkerError> {
    let deferred = still_owed(context, taken, entries).await?;
    let (going, dues): (Vec<Taken>, Vec<Due>) = taken
        .iter()
        .zip(&deferred)
        .filter_map(|(taken, deferred)| deferred.is_none().then_some((*taken, taken.due)))
        .unzip();
    if dues.is_empty() {
        let again = |(taken, deferred): (&Taken, Option<Deferred>)| {
            deferred.map(|it| FollowUp::deferred(context, taken.due, it))
        };
        hand_on.hand_on(taken.iter().zip(deferred).filter_map(again)).await?;
        return Ok(None);
    }
    let (claims, held) = context.claim(&dues).await?;
    // Read after the claim: what was recorded just before it is seen here.
    let (standings, found) = look(context, &dues, INLINE).await?;
    let verdicts = verdicts(context, &going, &claims, &standings, &found).await?;
    Ok(Some(Prepared { deferred, standings, verdicts, found, held }))
}

/// Which deliveries go round once more: those that were deferred, unless they are not owed any
/// more, which is then recorded as for any other.
async fn still_owed(
    context: &Context,
    taken: &[Taken],
    entries: &[Entry],
) -> Result<Vec<Option<Deferred>>, WorkerError> {
    let of = |(taken, entry): (&Taken, &Entry)| match entry {
        Entry::Deferred(deferred) => Some((*taken, *deferred)),
        Entry::Pass(_) | Entry::Soon(_) | Entry::NoNeed | Entry::Unreadable => None,
    };
    let deferred: Vec<Option<(Taken, Deferred)>> = taken.iter().zip(entries).map(of).collect();
    let (asked, dues): (Vec<Taken>, Vec<Due>) =
        deferred.iter().flatten().map(|(taken, _)| (*taken, taken.due)).unzip();
    let unreadable =
        |entry: &Entry| matches!(entry, Entry::Unreadable).then_some(Deferred::UNREADABLE);
    if asked.is_empty() {
        return Ok(entries.iter().map(unreadable).collect());
    }
    let (standings, found) = look(context, &dues, NO_PAYLOAD).await?;
    let claims = vec![Claim::Ours(Unrecorded::default()); asked.len()];
    let verdicts = verdicts(context, &asked, &claims, &standings, &found).await?;
    let (mut verdicts, mut standings) = (verdicts.into_iter(), standings.iter());
    let again = |(deferred, entry): (Option<(Taken, Deferred)>, &Entry)| {
        let Some((taken, deferred)) = deferred else { return unreadable(entry) };
        let is_owed = matches!(verdicts.next(), Some(Verdict::Attempt { .. }));
        let since = chain(standings.next()?).since;
        let pacer = &context.pacer;
        // One that must not wait any longer goes the way of those that were let through.
        pacer.but_for_deadline(context, taken.due.webhook, deferred, since).filter(|_| is_owed)
    };
    Ok(deferred.into_iter().zip(entries).map(again).collect())
}
