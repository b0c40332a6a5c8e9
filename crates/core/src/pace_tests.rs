//! The pace with receivers of every kind, and its stored form.

use super::*;
use proptest::prelude::*;

const LATENCY: Duration = Duration::from_millis(5);
const LONGEST_SLOT_WAIT: Duration = Duration::from_millis(1500);
const LONGEST_WAIT: Duration = Duration::from_hours(63);

fn at(seconds: f64) -> DateTime<Utc> {
    let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    later(start, Duration::from_secs_f64(seconds))
}

fn seconds_of(time: DateTime<Utc>) -> f64 {
    between(at(0.0), time)
}

fn response(status: u16, retry_after: Option<&str>) -> Answer {
    let retry_after = retry_after.map(str::to_owned);
    Answer::Response { status, retry_after, exhausted: None, body: String::new() }
}

/// A receiver: the time in seconds at which a request comes, and its answer.
type Receiver = Box<dyn FnMut(f64) -> Answer>;

fn one_each(every: f64, retry_after: Option<&'static str>) -> Receiver {
    let mut last = f64::NEG_INFINITY;
    Box::new(move |time| {
        if time - last < every {
            return response(429, retry_after);
        }
        last = time;
        response(200, None)
    })
}

/// Accepts `most` requests in each window of the clock, and asks to wait for the rest of the
/// window.
fn window(most: u32, length: f64, says_when: bool) -> Receiver {
    let (mut current, mut count) = (f64::NEG_INFINITY, 0);
    Box::new(move |time| {
        let this = (time / length).floor();
        if this > current {
            (current, count) = (this, 0);
        }
        count += 1;
        if count <= most {
            return response(200, None);
        }
        let rest = ((this + 1.0) * length - time).ceil().to_string();
        response(429, Some(rest.as_str()).filter(|_| says_when))
    })
}

fn bucket(rate: f64, burst: f64, retry_after: Option<&'static str>) -> Receiver {
    let (mut tokens, mut last) = (burst, 0.0);
    Box::new(move |time| {
        tokens = f64::min(burst, tokens + (time - last) * rate);
        last = time;
        if tokens < 1.0 {
            return response(429, retry_after);
        }
        tokens -= 1.0;
        response(200, None)
    })
}

/// Asks for a wait as an HTTP date, whose seconds are whole.
fn one_each_by_date(every: f64, wait: f64) -> Receiver {
    let mut receiver = one_each(every, Some("1"));
    Box::new(move |time| match receiver(time) {
        Answer::Response { status: 429, .. } => {
            let until = at(time + wait);
            response(429, Some(&httpdate::fmt_http_date(until.into())))
        }
        answer => answer,
    })
}

#[derive(Debug, Default)]
struct Run {
    refused: u32,
    /// When the last of the events arrived.
    seconds: f64,
    paced: bool,
}

/// Delivers events one after the other, as fast as the pace lets them go.
fn deliver(pace: &mut Pace, receiver: &mut Receiver, events: u32, from: f64) -> Run {
    let (mut now, mut run) = (from, Run::default());
    let mut delivered = 0;
    while delivered < events {
        let slot = match pace.take(at(now), None, LONGEST_SLOT_WAIT) {
            Turn::At(slot) => slot,
            Turn::NotBefore { at: slot, .. } => {
                now = seconds_of(slot);
                continue;
            }
        };
        // Some requests are sent late, which must not disturb the pace.
        let time = seconds_of(slot) + f64::from(delivered % 4) * 0.01;
        let answer = receiver(time);
        now = time + LATENCY.as_secs_f64();
        let is_refused = matches!(answer, Answer::Response { status: 429, .. });
        run.refused += u32::from(is_refused);
        delivered += u32::from(!is_refused);
        pace.learn(&Feedback::of(&answer, at(time), at(now), LONGEST_WAIT));
        assert!(now < from + 100_000.0, "it starves: {run:?} {pace:?}");
    }
    Run { seconds: now - from, paced: pace.interval.is_some(), ..run }
}

#[track_caller]
fn check(mut receiver: Receiver, events: u32, refused: u32, within: f64) {
    let run = deliver(&mut Pace::default(), &mut receiver, events, 0.0);
    assert!(run.refused <= refused && run.seconds <= within, "{run:?}");
}

#[test]
fn a_steady_limit_is_met_with_few_refusals() {
    check(one_each(1.0, Some("3")), 40, 6, 60.0);
    check(one_each(1.0, Some("3")), 200, 12, 260.0);
    check(one_each(1.0, Some("3")), 2000, 60, 2400.0);
    check(one_each(1.0, None), 200, 14, 280.0);
    check(one_each(1.0, Some("60")), 200, 8, 700.0);
    check(one_each(60.0, Some("60")), 20, 8, 1800.0);
    check(one_each_by_date(1.0, 3.0), 200, 12, 300.0);
}

#[test]
fn limits_by_window_or_token_bucket_are_used_nearly_in_full() {
    check(window(30, 60.0, true), 300, 20, 700.0);
    check(window(30, 60.0, false), 300, 60, 1000.0);
    check(bucket(10.0, 20.0, Some("1")), 1000, 60, 250.0);
    check(bucket(10.0, 20.0, None), 1000, 60, 250.0);
    check(window(5, 2.0, true), 500, 60, 300.0);
    check(window(5, 2.0, false), 500, 60, 300.0);
}

#[test]
fn a_limit_that_is_lifted_is_forgotten_within_minutes() {
    let mut pace = Pace::default();
    let limited = deliver(&mut pace, &mut one_each(1.0, Some("3")), 60, 0.0);
    assert!(limited.paced);
    let mut open: Receiver = Box::new(|_| response(200, None));
    let free = deliver(&mut pace, &mut open, 1000, limited.seconds);
    assert!(!free.paced && free.refused == 0 && free.seconds < 240.0, "{free:?}");
}

#[test]
fn a_limit_that_is_lowered_is_learned_again() {
    let mut pace = Pace::default();
    let fast = deliver(&mut pace, &mut one_each(0.2, Some("1")), 200, 0.0);
    let slow = deliver(&mut pace, &mut one_each(5.0, Some("5")), 40, fast.seconds);
    assert!(slow.refused <= 15 && slow.seconds < 350.0, "{slow:?}");
}

fn feedback(began: f64, now: f64, signal: Signal) -> Feedback {
    Feedback { began: at(began), now: at(now), signal, exhausted: None }
}

fn refused(seconds: u64) -> Signal {
    Signal::Refused(Some(Duration::from_secs(seconds)))
}

#[test]
fn refusals_of_concurrent_attempts_count_as_one() {
    let mut pace = Pace::default();
    pace.learn(&feedback(0.0, 0.5, refused(3)));
    let once = pace.clone();
    for more in [0.1, 0.4, 3.0] {
        pace.learn(&feedback(more, 0.5, refused(2)));
    }
    assert_eq!(pace, once);
    // A longer wait still extends the hold, and a success does not shorten it.
    pace.learn(&feedback(0.1, 0.5, refused(10)));
    pace.learn(&feedback(0.2, 0.6, Signal::Accepted));
    assert_eq!(pace.hold_until, Some(at(10.5)));
    assert_eq!(pace.interval, once.interval);
}

#[test]
fn rate_limit_headers_hold_a_webhook_and_set_no_interval() {
    let mut pace = Pace::default();
    let exhausted = Some(Duration::from_secs(30));
    let answer =
        Answer::Response { status: 200, retry_after: None, exhausted, body: String::new() };
    let feedback = Feedback::of(&answer, at(0.0), at(0.1), LONGEST_WAIT);
    assert!(feedback.matters());
    pace.learn(&feedback);
    assert_eq!(pace.held_until(at(1.0)), Some(at(30.1)));
    let turn = pace.take(at(1.0), None, LONGEST_SLOT_WAIT);
    assert!(matches!(turn, Turn::NotBefore { cause: Cause::Held, .. }), "{turn:?}");
    assert!(!pace.is_over(at(30.0)) && pace.is_over(at(30.2)));
}

#[test]
fn answers_of_an_overloaded_gateway_slow_down_and_do_not_hold() {
    let mut pace = Pace::default();
    let mut time = 0.0;
    for _ in 0..50 {
        pace.learn(&feedback(time, time + 0.1, Signal::Overloaded));
        assert!(pace.hold_until.is_none());
        time += 1.0;
    }
    assert_eq!(pace.interval, Some(HINTED.1));
    let mut open: Receiver = Box::new(|_| response(200, None));
    let well = deliver(&mut pace, &mut open, 100, time);
    assert!(!well.paced && well.seconds < 90.0, "{well:?}");
}

#[test]
fn answers_give_the_signal_of_their_status_and_retry_after() {
    let signal = |status, retry_after| {
        Feedback::of(&response(status, retry_after), at(0.0), at(0.0), LONGEST_WAIT).signal
    };
    assert_eq!(signal(200, Some("9")), Signal::Accepted);
    assert_eq!(signal(404, Some("9")), Signal::Accepted);
    assert_eq!(signal(429, None), Signal::Refused(None));
    assert_eq!(signal(429, Some("1.5")), refused(2));
    assert_eq!(signal(503, Some("9")), refused(9));
    assert_eq!(signal(503, None), Signal::Silent);
    assert_eq!(signal(500, Some("9")), Signal::Silent);
    assert_eq!(signal(504, None), Signal::Overloaded);
    let far = Signal::Refused(Some(LONGEST_WAIT));
    assert_eq!(signal(429, Some("99999999999999999999")), far);
    assert_eq!(signal(503, Some("Fri, 31 Dec 9999 23:59:59 GMT")), far);
}

#[test]
fn an_owner_limit_bounds_the_attempts_of_any_minute() {
    for (limit, most) in [(60, 61), (1, 2), (300, 305), (6000, 6100)] {
        let mut pace = Pace::default();
        let mut slots = Vec::new();
        for millis in (0..180_000).step_by(5) {
            let now = at(f64::from(millis) / 1000.0);
            if let Turn::At(slot) = pace.take(now, Some(limit), LONGEST_SLOT_WAIT) {
                slots.push(seconds_of(slot));
            }
        }
        let ends = |from: &f64| slots.partition_point(|slot| *slot < from + 60.0);
        let in_minute = slots.iter().enumerate().map(|(index, from)| ends(from) - index);
        let found = in_minute.max().unwrap();
        assert!(found <= most && slots.len() + 5 >= 3 * limit as usize, "{limit}: {found}");
    }
}

#[test]
fn a_raised_owner_limit_applies_at_once() {
    let mut pace = Pace::default();
    assert_eq!(pace.take(at(0.0), Some(1), LONGEST_SLOT_WAIT), Turn::At(at(0.0)));
    assert!(matches!(
        pace.take(at(0.1), Some(1), LONGEST_SLOT_WAIT),
        Turn::NotBefore { cause: Cause::RateLimit, .. }
    ));
    let turn = pace.take(at(0.3), Some(600), LONGEST_SLOT_WAIT);
    assert!(matches!(turn, Turn::At(slot) if slot <= at(2.0)), "{turn:?}");
}

#[test]
fn a_raised_owner_limit_is_not_exceeded_from_the_start() {
    let mut pace = Pace::default();
    pace.take(at(0.0), Some(1), LONGEST_SLOT_WAIT);
    let slots = (1..1000).filter(|n| {
        let now = at(f64::from(*n) * 0.02);
        matches!(pace.take(now, Some(60), Duration::ZERO), Turn::At(_))
    });
    assert!((19..=22).contains(&slots.count()), "a slot a second in 20 s");
}

#[test]
fn a_clock_that_is_set_back_delays_no_attempt() {
    let mut pace = Pace::default();
    deliver(&mut pace, &mut one_each(1.0, Some("3")), 20, 10_000.0);
    pace.hold_until = None;
    assert!(
        matches!(pace.take(at(0.0), Some(60), LONGEST_SLOT_WAIT), Turn::At(slot) if slot <= at(3.0))
    );
    assert!(matches!(
        pace.take(at(0.0), Some(60), LONGEST_SLOT_WAIT),
        Turn::At(_) | Turn::NotBefore { .. }
    ));
}

#[test]
fn a_sign_of_overload_is_forgotten_after_a_minute_of_little_traffic() {
    let mut pace = Pace::default();
    pace.learn(&feedback(0.0, 0.1, Signal::Overloaded));
    assert!(pace.interval.is_some());
    for n in 1..8 {
        let time = f64::from(n) * 10.0;
        pace.take(at(time), None, LONGEST_SLOT_WAIT);
        pace.learn(&feedback(time, time + 0.1, Signal::Accepted));
    }
    assert_eq!(pace.interval, None);
    assert!(pace.is_over(at(80.0)));
}

#[test]
fn an_interval_is_forgotten_after_an_hour_of_rare_attempts() {
    let mut pace = Pace::default();
    deliver(&mut pace, &mut one_each(1.0, Some("3")), 20, 0.0);
    assert!(pace.interval.is_some());
    for n in 1..=60 {
        let time = 100.0 + f64::from(n) * 60.0;
        pace.take(at(time), None, LONGEST_SLOT_WAIT);
        pace.learn(&feedback(time, time + 0.1, Signal::Accepted));
    }
    assert_eq!(pace.interval, None);
}

#[test]
fn a_hold_beyond_the_deadline_of_a_delivery_allows_one_attempt() {
    let deadline = Duration::from_secs(80);
    assert_eq!(last_chance(at(80.0), at(0.0), deadline), None);
    assert_eq!(last_chance(at(80.1), at(0.0), deadline), Some(at(70.0)));
    assert_eq!(longest_hold(deadline), Duration::from_secs(70));
    assert_eq!(longest_hold(Duration::MAX), LONGEST_HOLD);
}

#[test]
fn a_pace_reads_back_its_own_json_and_that_of_an_older_version() {
    let mut pace = Pace::default();
    deliver(&mut pace, &mut one_each(1.0, Some("3")), 20, 0.0);
    let text = serde_json::to_string(&pace).unwrap();
    let mut read: Pace = serde_json::from_str(&text).unwrap();
    // The skipped fields are stored in columns of their own; numbers are exact except for the last
    // digit.
    (read.hold_until, read.interval) = (pace.hold_until, pace.interval);
    assert!((read.good.unwrap() - pace.good.unwrap()).abs() < 1e-9);
    (read.good, read.refused) = (pace.good, pace.refused);
    assert_eq!(read, pace);
    assert_eq!(serde_json::from_str::<Pace>("{}").unwrap(), Pace::default());
}

fn signals() -> impl Strategy<Value = Signal> {
    prop_oneof![
        3 => Just(Signal::Accepted),
        1 => (0u64..4_000_000).prop_map(refused),
        1 => Just(Signal::Refused(None)),
        1 => Just(Signal::Overloaded),
        1 => Just(Signal::Silent),
    ]
}

proptest! {
    #[test]
    fn any_answers_lead_to_further_attempts_and_never_before_the_hold_ends(
        answers in proptest::collection::vec((signals(), 0.0f64..30.0, 0.0f64..5.0), 1..200),
        limit in proptest::option::of(1u32..100_000),
    ) {
        let (mut pace, mut now, mut last) = (Pace::default(), at(0.0), None);
        for (signal, pause, took) in answers {
            let slot = match pace.take(now, limit, LONGEST_SLOT_WAIT) {
                Turn::At(slot) => slot,
                Turn::NotBefore { at: next, .. } => {
                    prop_assert!(next > now);
                    match pace.take(next, limit, LONGEST_SLOT_WAIT) {
                        Turn::At(slot) => slot,
                        other @ Turn::NotBefore { .. } => {
                            return Err(TestCaseError::fail(format!("{other:?}")));
                        }
                    }
                }
            };
            prop_assert!(pace.hold_until.is_none_or(|until| slot >= until));
            if let (Some(last), Some(interval)) = (last, pace.interval) {
                prop_assert!(interval <= LONGEST && slot >= last);
            }
            let longest = later(now.max(pace.hold_until.unwrap_or(now)), seconds(LONGEST));
            prop_assert!(slot <= later(longest, Duration::from_mins(1)), "{pace:?}");
            last = Some(slot);
            now = later(slot, Duration::from_secs_f64(took));
            pace.learn(&Feedback { began: slot, now, signal, exhausted: None });
            now = later(now, Duration::from_secs_f64(pause));
        }
    }
}
