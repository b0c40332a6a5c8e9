//! The endpoint's limits, breaker, rate and deferrals.

use super::*;
use proptest::prelude::*;
use proptest::sample::Index;

const HANG: Duration = Duration::from_secs(15);
const QUICK: Duration = Duration::from_millis(2);

fn go(endpoint: &mut Endpoint, now: Instant) -> Admission {
    endpoint.admit(now, 0, 0.5)
}

#[test]
fn an_endpoint_that_hangs_is_probed_once_a_minute() {
    let (mut endpoint, start) = (Endpoint::new(64), Instant::now());
    for _ in 0..FIRST_LIMIT {
        assert_eq!(go(&mut endpoint, start), Admission::Go { probe: false });
    }
    // All slots are in use and nothing answers: a later delivery is deferred and does not wait.
    let later = start + Duration::from_secs(2);
    assert!(matches!(go(&mut endpoint, later), Admission::Defer { cause: Cause::Silent, .. }));
    let end = start + HANG;
    (0..FIRST_LIMIT).for_each(|_| endpoint.end(end, false, HANG, false));
    assert!(endpoint.is_open());
    let early = go(&mut endpoint, end + Duration::from_secs(59));
    assert!(matches!(early, Admission::Defer { cause: Cause::Failing, .. }));
    let probe = end + Duration::from_mins(1);
    assert_eq!(go(&mut endpoint, probe), Admission::Go { probe: true });
    assert!(matches!(go(&mut endpoint, probe), Admission::Defer { .. }), "one probe at a time");
    endpoint.end(probe, false, HANG, true);
    assert!(matches!(go(&mut endpoint, probe + HANG), Admission::Defer { .. }));
    let again = probe + Duration::from_mins(1);
    assert_eq!(go(&mut endpoint, again), Admission::Go { probe: true });
    endpoint.end(again, true, QUICK, true);
    assert_eq!(go(&mut endpoint, again), Admission::Go { probe: false });
}

#[test]
fn an_endpoint_that_stops_answering_gets_no_request_until_it_answers() {
    let (mut endpoint, start) = (Endpoint::new(64), Instant::now());
    for _ in 0..SILENT_REQUESTS {
        assert_eq!(go(&mut endpoint, start), Admission::Go { probe: false });
    }
    let later = start + Duration::from_secs(2);
    assert!(matches!(go(&mut endpoint, later), Admission::Defer { cause: Cause::Silent, .. }));
    endpoint.end(later, true, QUICK, false);
    assert_eq!(go(&mut endpoint, later), Admission::Go { probe: false });
}

#[test]
fn a_limit_that_is_not_used_does_not_grow() {
    let (mut endpoint, now) = (Endpoint::new(64), Instant::now());
    for _ in 0..1000 {
        assert_eq!(go(&mut endpoint, now), Admission::Go { probe: false });
        endpoint.end(now, true, QUICK, false);
    }
    let begun = (0..64).filter(|_| go(&mut endpoint, now) == Admission::Go { probe: false });
    assert_eq!(begun.count(), FIRST_LIMIT as usize);
}

#[test]
fn quick_failures_open_the_breaker_late_and_for_a_second() {
    let (mut endpoint, now) = (Endpoint::new(64), Instant::now());
    for _ in 0..FAILURES {
        assert_eq!(go(&mut endpoint, now), Admission::Go { probe: false });
        endpoint.end(now, false, QUICK, false);
    }
    assert!(matches!(go(&mut endpoint, now), Admission::Defer { .. }));
    let later = now + Duration::from_secs(1);
    assert_eq!(go(&mut endpoint, later), Admission::Go { probe: true });
    // A probe that was not sent leaves room for another one.
    endpoint.abandon(true);
    assert_eq!(go(&mut endpoint, later), Admission::Go { probe: true });
}

#[test]
fn a_large_backlog_comes_back_slowly() {
    let (mut endpoint, now) = (Endpoint::new(1), Instant::now());
    (0..FAILURES).for_each(|_| endpoint.end(now, false, QUICK, false));
    let waits: Vec<Duration> = (0..20_000)
        .map(|_| match endpoint.admit(now, 0, 0.999) {
            Admission::Defer { wait, .. } => wait,
            other => panic!("expected a deferral, got {other:?}"),
        })
        .collect();
    assert!(waits[0] < Duration::from_secs(2));
    assert!(waits[10_000] > Duration::from_secs(15));
    assert!(waits[19_999] < Duration::from_secs(42));
    (0..20_000).for_each(|_| endpoint.came_back());
    assert!(matches!(endpoint.admit(now, 0, 0.999),
        Admission::Defer { wait, .. } if wait < Duration::from_secs(2)));
}

#[test]
fn deferrals_are_long_after_a_long_outage_and_short_after_a_short_one() {
    let (mut endpoint, start) = (Endpoint::new(1), Instant::now());
    (0..FAILURES).for_each(|_| endpoint.end(start, false, QUICK, false));
    let hour = start + Duration::from_hours(1);
    // Its probes fail all the time.
    assert_eq!(go(&mut endpoint, hour), Admission::Go { probe: true });
    endpoint.end(hour, false, QUICK, true);
    let wait = |admission| match admission {
        Admission::Defer { wait, .. } => wait,
        other => panic!("expected a deferral, got {other:?}"),
    };
    let after_an_hour = wait(go(&mut endpoint, hour));
    assert!(after_an_hour >= LONGEST_PAUSE, "{after_an_hour:?}");
    assert!(after_an_hour < 2 * LONGEST_PAUSE, "{after_an_hour:?}");
    endpoint.end(hour, true, QUICK, false);
    (0..FAILURES).for_each(|_| endpoint.end(hour, false, QUICK, false));
    let after_reopening = wait(go(&mut endpoint, hour));
    assert!(after_reopening < Duration::from_secs(2), "{after_reopening:?}");
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Ask,
    End(bool, u64, Index),
    Abandon(Index),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Ask),
        4 => (any::<bool>(), 0u64..20_000, any::<Index>())
            .prop_map(|(success, ms, which)| Step::End(success, ms, which)),
        1 => any::<Index>().prop_map(Step::Abandon),
        2 => (0u64..90_000).prop_map(Step::Pass),
    ]
}

fn take(in_flight: &mut Vec<bool>, which: Index) -> Option<bool> {
    (!in_flight.is_empty()).then(|| in_flight.remove(which.index(in_flight.len())))
}

proptest! {
    #[test]
    fn requests_in_flight_never_exceed_the_limit_and_probes_never_exceed_one(
        most in 1u32..70, steps in prop::collection::vec(step(), 0..300)
    ) {
        let (mut endpoint, mut now) = (Endpoint::new(most), Instant::now());
        let mut in_flight: Vec<bool> = Vec::new();
        for step in steps {
            match step {
                Step::Ask => match endpoint.admit(now, 0, 0.5) {
                    Admission::Go { probe } => in_flight.push(probe),
                    Admission::Defer { wait, .. } => prop_assert!(wait >= COOLDOWN.0),
                    Admission::Wait => prop_assert!(!endpoint.has_room()),
                },
                Step::End(success, ms, which) => {
                    if let Some(probe) = take(&mut in_flight, which) {
                        endpoint.end(now, success, Duration::from_millis(ms), probe);
                        prop_assert!(!success || !endpoint.is_open());
                    }
                }
                Step::Abandon(which) => {
                    if let Some(probe) = take(&mut in_flight, which) {
                        endpoint.abandon(probe);
                    }
                }
                Step::Pass(ms) => now += Duration::from_millis(ms),
            }
            // A probe is sent in addition to those in flight when the breaker opened.
            prop_assert!(in_flight.len() <= most as usize + 1);
            let probes = in_flight.iter().filter(|probe| **probe).count();
            prop_assert!(probes <= 1 || !endpoint.is_open());
        }
    }
}
