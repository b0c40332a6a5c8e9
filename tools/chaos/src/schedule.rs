//! The schedule of faults: a pure function of the seed.

use std::time::Duration;

use fanfare_testkit::{Break, Shortage};
use fastrand::Rng;

use crate::fault::{Fault, Link, LinkFault, Queue, Resource};
use crate::spec::{PROCESSES, has_own_clock};
use crate::world::OWNERS;

/// The mean time between the beginnings of two faults.
const MEAN_GAP: Duration = Duration::from_millis(2700);

/// Work flows for this long before the first fault.
const LEAD: Duration = Duration::from_secs(10);

/// A server that is started again needs about this long, whatever the schedule says.
const RESTART: Duration = Duration::from_secs(20);

/// A process that ends and starts again needs about this long.
const RESPAWN: Duration = Duration::from_secs(4);

/// How often a fault is chosen again whose part is broken already.
const MAX_TRIES: usize = 30;

/// Queues that carry jobs only. The others hold what no ledger has: events, documents, dead letters.
const QUEUES: [Queue; 6] = [
    "fanfare.deliveries",
    "fanfare.retries",
    "fanfare.delay.00",
    "fanfare.delay.01",
    "fanfare.delay.02",
    "fanfare.delay.03",
];

/// A fault with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// When it begins, from the beginning of the run.
    pub(crate) at: Duration,
    /// How long it lasts.
    pub(crate) lasts: Duration,
    pub(crate) fault: Fault,
}

/// The faults of a run of this length, in the order in which they begin. All end within it.
///
/// `can_fill_disk` says whether the machine allows a full disk.
pub(crate) fn schedule(seed: u64, length: Duration, can_fill_disk: bool) -> Vec<Planned> {
    let mut rng = Rng::with_seed(seed);
    let mut planned: Vec<Planned> = Vec::new();
    let mut at = LEAD;
    while at < length {
        let next = (0..MAX_TRIES)
            .map(|_| choose(&mut rng, at))
            .find(|it| is_free(&planned, it) && it.at + it.lasts <= length);
        // A full disk needs rights that not every machine gives; the other faults stay the same.
        let is_possible = |it: &Planned| can_fill_disk || it.fault != Fault::DatabaseDiskFull;
        planned.extend(next.filter(is_possible));
        at += gap(&mut rng);
    }
    planned
}

/// An exponentially distributed time: faults come in bursts, too.
fn gap(rng: &mut Rng) -> Duration {
    MEAN_GAP.mul_f64(-(1.0 - rng.f64()).ln())
}

fn choose(rng: &mut Rng, at: Duration) -> Planned {
    let fault = choose_fault(rng);
    let (shortest, longest) = fault.lasts();
    // Short ones are more frequent than long ones.
    let share = rng.f64().powi(2);
    Planned { at, lasts: shortest + longest.saturating_sub(shortest).mul_f64(share), fault }
}

fn choose_fault(rng: &mut Rng) -> Fault {
    let process = rng.usize(..PROCESSES.len());
    match rng.u32(..100) {
        0..18 => Fault::Kill(process),
        18..28 => Fault::Terminate(process),
        28..42 => Fault::Stop(process),
        42..46 => step_clock(rng),
        46..70 => Fault::Link(link(rng), link_fault(rng)),
        70..73 => Fault::BrokerKilled,
        73..75 => Fault::BrokerRestarted,
        75..78 => Fault::ConnectionsClosed,
        78..80 => Fault::Alarm(Shortage::Memory),
        80..82 => Fault::Alarm(Shortage::Disk),
        82..85 => Fault::QueuePurged(queue(rng)),
        85..87 => Fault::QueueDeleted(queue(rng)),
        87..88 => Fault::QueueBroken(queue(rng), Break::Dead),
        88..89 => Fault::QueueBroken(queue(rng), Break::Silent),
        89..91 => Fault::DatabaseCrashed,
        91..92 => Fault::DatabaseRestarted,
        92..94 => Fault::BackendKilled,
        94..96 => Fault::BackendsTerminated,
        96..98 => Fault::DatabaseReadOnly,
        _ => Fault::DatabaseDiskFull,
    }
}

fn step_clock(rng: &mut Rng) -> Fault {
    let with_clock: Vec<usize> = (0..PROCESSES.len()).filter(|at| has_own_clock(*at)).collect();
    let minutes = rng.i64(1..=30) * if rng.bool() { 1 } else { -1 };
    Fault::StepClock(with_clock[rng.usize(..with_clock.len())], minutes)
}

fn link(rng: &mut Rng) -> Link {
    let process = rng.usize(..PROCESSES.len());
    match rng.u32(..5) {
        0..2 => Link::Broker(process),
        2..4 => Link::Database(process),
        _ => Link::Receivers(rng.usize(..OWNERS)),
    }
}

fn link_fault(rng: &mut Rng) -> LinkFault {
    match rng.u32(..4) {
        0 => LinkFault::Cut,
        1 => LinkFault::Silent,
        2 => LinkFault::Slow(rng.u64(50..=1500)),
        _ => LinkFault::Reset,
    }
}

fn queue(rng: &mut Rng) -> Queue {
    QUEUES[rng.usize(..QUEUES.len())]
}

/// Whether nothing that was planned before has the same part broken at that time.
fn is_free(planned: &[Planned], next: &Planned) -> bool {
    let resource = next.fault.resource();
    !planned.iter().any(|it| it.fault.resource() == resource && next.at < free_at(it))
}

/// When the part of a fault works again.
fn free_at(it: &Planned) -> Duration {
    let more = match it.fault.resource() {
        Resource::Broker | Resource::Database => RESTART,
        Resource::Process(_) => RESPAWN,
        _ => Duration::ZERO,
    };
    it.at + it.lasts + more
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn same_seed_gives_the_same_schedule() {
        assert_eq!(schedule(7, HOUR, true), schedule(7, HOUR, true));
        assert_ne!(schedule(7, HOUR, true), schedule(8, HOUR, true));
    }

    #[test]
    fn an_hour_has_a_thousand_faults_of_every_kind() {
        for seed in 0..20 {
            let planned = schedule(seed, HOUR, true);
            assert!(planned.len() > 1000, "{} faults with the seed {seed}", planned.len());
            let kinds: BTreeSet<&str> = planned.iter().map(|it| it.fault.kind()).collect();
            assert_eq!(kinds.len(), 23, "{kinds:?}");
        }
    }

    #[test]
    fn faults_end_within_the_run_and_no_part_is_broken_twice_at_once() {
        for seed in 0..20 {
            let planned = schedule(seed, HOUR, true);
            assert!(planned.iter().all(|it| it.at >= LEAD && it.at + it.lasts <= HOUR));
            for (at, it) in planned.iter().enumerate() {
                assert!(is_free(&planned[..at], it), "{it:?}");
            }
        }
    }
}
