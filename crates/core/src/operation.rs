//! Bulk operations: what they are, and how many letters their next step may take.
//!
//! An operation has a list of dead letters, or of deliveries that were missed, which are called letters
//! here as well. A step replays, discards or recovers some of them. Its size depends on the operation's
//! rate and, with a canary, on how each receiver answers.

use chrono::{DateTime, TimeDelta, Utc};

/// The most letters that one step takes: one transaction, and one wait for the broker's confirms.
pub const STEP: u32 = 500;

/// The highest rate, in letters a second.
pub const MOST_RATE: u32 = 10_000;

/// The most deliveries of a resend that are begun and not attempted yet: the rest can still be cancelled,
/// and a receiver that has just recovered is not flooded.
pub const RESEND_WINDOW: u32 = 250;

/// With a canary: the most letters of one webhook that are under way or have failed since its last
/// success. So a receiver that relapses gets no more POSTs than this.
pub const CANARY_WINDOW: u32 = 10;

/// With a canary: after this number of failures in a row, the rest of a webhook's letters is kept.
pub const CANARY_FAILURES: u32 = 3;

/// The attempts that a series begins with when it has a single attempt: more than any policy allows, so
/// that a letter of a canary that fails is dead at once, and its receiver gets no further POST.
pub const ALL_BUT_ONE: i32 = 1_000_000;

/// Declares a closed set of values with stable codes.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$case_doc:meta])* $case:ident = $code:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$case_doc])* $case,)*
        }

        impl $name {
            /// All values.
            pub const ALL: &'static [Self] = &[$(Self::$case,)*];

            /// The stable code.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$case => $code,)*
                }
            }

            /// The value with this code.
            #[must_use]
            pub fn parse(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| it.code() == code)
            }
        }
    };
}

codes! {
    /// What an operation does with its letters.
    Kind {
        /// Deliveries are attempted again, and events are routed again.
        Replay = "replay",
        /// The letters are removed.
        Discard = "discard",
        /// Deliveries that were never planned, or were dropped, are attempted.
        Recover = "recover",
        /// The dead deliveries of one webhook are attempted again.
        Resend = "resend",
    }
}

impl Kind {
    /// Whether owners have operations of this kind, for their own webhooks.
    #[must_use]
    pub fn is_of_owners(self) -> bool {
        match self {
            Self::Recover | Self::Resend => true,
            Self::Replay | Self::Discard => false,
        }
    }

    /// Whether its letters are sent, so that they have an outcome.
    #[must_use]
    pub fn sends(self) -> bool {
        match self {
            Self::Replay | Self::Recover | Self::Resend => true,
            Self::Discard => false,
        }
    }
}

codes! {
    /// The state of an operation.
    State {
        /// Routers make its steps.
        Running = "running",
        /// A person paused it.
        Paused = "paused",
        /// All of its letters are settled or refused.
        Done = "done",
        /// A person cancelled it.
        Cancelled = "cancelled",
        /// It ended with letters that it kept because their receivers relapsed.
        Stopped = "stopped",
    }
}

impl State {
    /// Whether the operation has ended.
    #[must_use]
    pub fn has_ended(self) -> bool {
        match self {
            Self::Running | Self::Paused => false,
            Self::Done | Self::Cancelled | Self::Stopped => true,
        }
    }
}

codes! {
    /// Why an operation keeps a letter.
    Refusal {
        /// The webhook is paused.
        WebhookPaused = "webhook-paused",
        /// The webhook is deleted.
        WebhookDeleted = "webhook-deleted",
        /// The payload is gone, so that there is nothing to send.
        PayloadRemoved = "payload-removed",
        /// The letter was settled in another way after the operation began.
        Settled = "settled",
        /// An attempt is in progress, and its outcome is not known yet.
        UnderWay = "attempt-under-way",
        /// The ledger does not know the delivery.
        Unknown = "unknown-delivery",
        /// Only its queue has the message: it is replayed or discarded alone.
        OnlyInQueue = "only-in-queue",
        /// The receiver failed again, and the canary stopped the webhook's letters.
        Relapsed = "relapsed",
    }
}

codes! {
    /// A change that a person makes to an operation.
    Change {
        /// No further step is made.
        Pause = "pause",
        /// Steps are made again.
        Resume = "resume",
        /// The operation ends. Letters that it has not reached stay dead.
        Cancel = "cancel",
    }
}

impl Change {
    /// The state that follows; `None` if the change is not possible in this state.
    #[must_use]
    pub fn of(self, state: State) -> Option<State> {
        match (self, state) {
            (Self::Pause, State::Running) => Some(State::Paused),
            (Self::Resume, State::Paused) => Some(State::Running),
            (Self::Cancel, State::Running | State::Paused) => Some(State::Cancelled),
            (Self::Pause, State::Paused | State::Done | State::Cancelled | State::Stopped)
            | (Self::Resume, State::Running | State::Done | State::Cancelled | State::Stopped)
            | (Self::Cancel, State::Done | State::Cancelled | State::Stopped) => None,
        }
    }
}

/// A rate in letters a second: from 1 to [`MOST_RATE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(u32);

/// A rate is out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rate must be a whole number of letters a second from 1 to {MOST_RATE}")]
pub struct BadRate;

impl Rate {
    /// Checks a rate in letters a second.
    ///
    /// # Errors
    ///
    /// [`BadRate`]
    pub fn of(letters_per_second: u32) -> Result<Self, BadRate> {
        let is_right = (1..=MOST_RATE).contains(&letters_per_second);
        is_right.then_some(Self(letters_per_second)).ok_or(BadRate)
    }

    /// Letters a second.
    #[must_use]
    pub fn letters_per_second(self) -> u32 {
        self.0
    }

    /// The time of this number of letters.
    fn time_of(self, letters: u32) -> TimeDelta {
        TimeDelta::nanoseconds(i64::from(letters) * 1_000_000_000 / i64::from(self.0))
    }
}

/// The letters that a step may take by the operation's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// The number of letters, up to [`STEP`].
    pub letters: u32,
    /// The time up to which the rate was used before this step. Time that a step does not use counts
    /// for one second at most, so that a pause is not followed by a flood.
    pub from: DateTime<Utc>,
}

impl Allowance {
    /// The allowance at `now`. `used_to` is the time up to which the rate was used: see [`Self::after`];
    /// `None` before the first step.
    #[must_use]
    pub fn at(rate: Option<Rate>, used_to: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Self {
        let Some(rate) = rate else {
            return Self { letters: STEP, from: now };
        };
        let second = TimeDelta::seconds(1);
        let from = used_to.unwrap_or(now - rate.time_of(1)).max(now - second);
        let elapsed = (now - from).max(TimeDelta::zero());
        let nanoseconds = elapsed.num_nanoseconds().unwrap_or(1_000_000_000);
        // Rounded up to a microsecond, because the database has no smaller times.
        let letters = (nanoseconds + 1000) * i64::from(rate.0) / 1_000_000_000;
        let letters = u32::try_from(letters).unwrap_or(0).min(rate.0);
        Self { letters: letters.min(STEP), from }
    }

    /// The allowance of a resend of which `untried` deliveries are begun and not attempted yet.
    #[must_use]
    pub fn within_window(self, untried: u32) -> Self {
        Self { letters: self.letters.min(RESEND_WINDOW.saturating_sub(untried)), ..self }
    }

    /// The time up to which the rate is used when the step has taken this number of letters.
    #[must_use]
    pub fn after(self, rate: Option<Rate>, taken: u32) -> DateTime<Utc> {
        rate.map_or(self.from, |rate| self.from + rate.time_of(taken))
    }
}

/// How a webhook's letters have fared in an operation with a canary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Receiver {
    /// Letters that are under way.
    pub open: u32,
    /// Whether one of the operation's letters was delivered.
    pub has_delivered: bool,
    /// Failed letters whose attempt began after that of the last delivered one.
    pub failed_since: u32,
}

/// What a canary decides about a webhook's letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canary {
    /// This number of further letters may be sent; 0: wait for those that are under way.
    Send(u32),
    /// The receiver has relapsed, or never recovered. The rest of its letters is kept.
    Relapsed,
}

/// Decides about a webhook's letters: one is sent first, then up to ten at a time, until all are sent or
/// several in a row have failed.
#[must_use]
pub fn canary(receiver: Receiver) -> Canary {
    let Receiver { open, has_delivered, failed_since } = receiver;
    let (window, failures) = if has_delivered { (CANARY_WINDOW, CANARY_FAILURES) } else { (1, 1) };
    if failed_since >= failures {
        return Canary::Relapsed;
    }
    Canary::Send(window.saturating_sub(open).saturating_sub(failed_since))
}

/// What is left of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "these facts are independent of each other")]
pub struct Rest {
    /// Letters that no step has reached, that are not chosen yet or, of a resend, not attempted yet.
    pub waiting: bool,
    /// Letters that are under way.
    pub open: bool,
    /// Whether the operation has a canary.
    pub canary: bool,
    /// Whether a receiver has relapsed.
    pub relapsed: bool,
}

/// The state in which a running operation ends now; `None` if it goes on. An operation with a canary
/// waits for the outcome of its last letters.
#[must_use]
pub fn end(rest: Rest) -> Option<State> {
    let Rest { waiting, open, canary, relapsed } = rest;
    if waiting || (canary && open) {
        return None;
    }
    Some(if relapsed { State::Stopped } else { State::Done })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time(milliseconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_800_000_000_000 + milliseconds).unwrap()
    }

    #[test]
    fn codes_read_back() {
        for state in State::ALL {
            assert_eq!(State::parse(state.code()), Some(*state));
        }
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::parse(refusal.code()), Some(*refusal));
        }
        assert_eq!(Kind::parse("paint"), None);
    }

    #[test]
    fn an_operation_that_has_ended_can_not_be_changed() {
        for (change, state, expected) in [
            (Change::Pause, State::Running, Some(State::Paused)),
            (Change::Resume, State::Paused, Some(State::Running)),
            (Change::Cancel, State::Running, Some(State::Cancelled)),
            (Change::Cancel, State::Paused, Some(State::Cancelled)),
            (Change::Resume, State::Running, None),
            (Change::Pause, State::Paused, None),
        ] {
            assert_eq!(change.of(state), expected, "{change:?} {state:?}");
        }
        for change in Change::ALL {
            for state in State::ALL.iter().filter(|state| state.has_ended()) {
                assert_eq!(change.of(*state), None, "{change:?} {state:?}");
            }
        }
    }

    #[test]
    fn a_canary_sends_one_then_ten_then_stops_when_the_receiver_relapses() {
        let receiver =
            |open, has_delivered, failed_since| Receiver { open, has_delivered, failed_since };
        for (receiver, expected) in [
            (receiver(0, false, 0), Canary::Send(1)),
            (receiver(1, false, 0), Canary::Send(0)),
            (receiver(0, false, 1), Canary::Relapsed),
            (receiver(0, true, 0), Canary::Send(10)),
            (receiver(4, true, 0), Canary::Send(6)),
            (receiver(4, true, 2), Canary::Send(4)),
            (receiver(9, true, 2), Canary::Send(0)),
            (receiver(7, true, 3), Canary::Relapsed),
        ] {
            assert_eq!(canary(receiver), expected, "{receiver:?}");
        }
    }

    #[test]
    fn an_operation_ends_when_nothing_waits_and_its_canary_knows_the_outcome() {
        let rest = |waiting, open, canary, relapsed| Rest { waiting, open, canary, relapsed };
        for (rest, expected) in [
            (rest(true, false, false, false), None),
            (rest(false, true, false, false), Some(State::Done)),
            (rest(false, true, true, false), None),
            (rest(false, false, true, false), Some(State::Done)),
            (rest(false, false, true, true), Some(State::Stopped)),
        ] {
            assert_eq!(end(rest), expected, "{rest:?}");
        }
    }

    #[test]
    fn a_rate_is_a_number_of_letters_a_second() {
        assert_eq!(Rate::of(0), Err(BadRate));
        assert_eq!(Rate::of(MOST_RATE + 1), Err(BadRate));
        let rate = Some(Rate::of(10).unwrap());
        let first = Allowance::at(rate, None, time(0));
        assert_eq!(first.letters, 1);
        let used_to = Some(first.after(rate, 1));
        assert_eq!(Allowance::at(rate, used_to, time(99)).letters, 0);
        assert_eq!(Allowance::at(rate, used_to, time(500)).letters, 5);
        assert_eq!(Allowance::at(None, None, time(0)).within_window(249).letters, 1);
        assert_eq!(Allowance::at(None, None, time(0)).within_window(9999).letters, 0);
        // An hour's pause is followed by the letters of one second.
        assert_eq!(Allowance::at(rate, used_to, time(3_600_000)).letters, 10);
        assert_eq!(Allowance::at(None, None, time(0)).letters, STEP);
    }

    proptest! {
        #[test]
        fn no_more_letters_are_taken_than_the_rate_allows(
            rate in 1u32..2000, pauses in prop::collection::vec(0u32..3000, 1..60),
        ) {
            let limit = Rate::of(rate).unwrap();
            let (mut now, mut used_to, mut taken) = (0u32, None, 0u32);
            for pause in pauses {
                now += pause;
                let allowance = Allowance::at(Some(limit), used_to, time(now.into()));
                used_to = Some(allowance.after(Some(limit), allowance.letters));
                taken += allowance.letters;
                let most = f64::from(rate) * (f64::from(now) / 1000.0 + 1.0) + 1.0;
                prop_assert!(f64::from(taken) <= most, "{taken} letters in {now} ms");
            }
        }

        #[test]
        fn a_rate_is_reached_when_steps_are_frequent(rate in 1u32..1000) {
            let limit = Rate::of(rate).unwrap();
            let (mut used_to, mut taken) = (None, 0u32);
            for now in (0..10_000).step_by(100) {
                let allowance = Allowance::at(Some(limit), used_to, time(now));
                used_to = Some(allowance.after(Some(limit), allowance.letters));
                taken += allowance.letters;
            }
            prop_assert!(taken + rate / 5 + 2 >= rate * 10, "{taken} of {}", rate * 10);
        }

        // Attempts begin and are recorded in any order, and some letters fail before the relapse, too.
        #[test]
        fn a_receiver_that_relapses_gets_at_most_ten_more_posts(
            relapse_at in 0usize..120,
            choices in prop::collection::vec((0u8..4, any::<prop::sample::Index>(), 0u8..12), 1..600),
        ) {
            // The letters under way without a POST; POSTs that are not recorded; recorded ones.
            let mut unsent = 0u32;
            let mut sent: Vec<(usize, bool)> = Vec::new();
            let mut recorded: Vec<(usize, bool)> = Vec::new();
            let (mut posts, mut after_relapse) = (0usize, 0u32);
            for (choice, index, luck) in choices {
                match choice {
                    0 | 1 if unsent > 0 => {
                        unsent -= 1;
                        let is_delivered = posts < relapse_at && luck > 0;
                        after_relapse += u32::from(posts >= relapse_at);
                        sent.push((posts, is_delivered));
                        posts += 1;
                    }
                    2 if !sent.is_empty() => recorded.push(sent.swap_remove(index.index(sent.len()))),
                    _ => {
                        let newest = recorded.iter().filter(|it| it.1).map(|it| it.0).max();
                        let failed = recorded.iter().filter(|it| !it.1 && Some(it.0) > newest);
                        let receiver = Receiver {
                            open: unsent + u32::try_from(sent.len()).unwrap(),
                            has_delivered: newest.is_some(),
                            failed_since: u32::try_from(failed.count()).unwrap(),
                        };
                        match canary(receiver) {
                            Canary::Send(letters) => unsent += letters,
                            Canary::Relapsed => break,
                        }
                    }
                }
            }
            // What is under way at the end is sent, too.
            let rest = if posts + usize::try_from(unsent).unwrap() > relapse_at {
                posts + usize::try_from(unsent).unwrap() - relapse_at.max(posts)
            } else {
                0
            };
            prop_assert!(after_relapse as usize + rest <= 10, "{after_relapse} + {rest}");
        }
    }
}
