//! The moods of receivers: how each answers, which changes every few seconds. A pure function of
//! the seed.

use std::time::Duration;

use fanfare_testkit::receiver::Reply;
use fastrand::Rng;

use crate::world::Webhook;

/// How long a receiver keeps its mood.
const LASTS: Duration = Duration::from_secs(15);

/// The time between two notifications that a busy receiver accepts. Its webhook gets fewer on average,
/// so that it is refused bursts only: the pace that refusals teach lasts for minutes.
pub(crate) const BUSY_INTERVAL: Duration = Duration::from_millis(150);

/// How a receiver answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mood {
    /// 200.
    Well,
    /// 200, but later.
    Slow(Duration),
    /// 500.
    Failing,
    /// Accepts one notification in [`BUSY_INTERVAL`], and answers 429 with a `Retry-After` to others.
    Busy,
    /// 410.
    Gone,
    /// No answer at all.
    Hanging,
    Closing,
    Resetting,
}

impl Mood {
    /// The mood of a webhook's receiver at a time of the run.
    pub(crate) fn at(seed: u64, webhook: Webhook, time: Duration) -> Self {
        let period = time.as_secs() / LASTS.as_secs();
        // Each receiver and each period has a generator of its own, so that the order of requests
        // changes nothing.
        let own = seed ^ (webhook as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (period << 40);
        let mut rng = Rng::with_seed(own);
        match rng.u32(..200) {
            0..140 => Self::Well,
            140..158 => Self::Slow(Duration::from_millis(rng.u64(300..=3000))),
            158..172 => Self::Failing,
            172..180 => Self::Busy,
            180..181 => Self::Gone,
            181..189 => Self::Hanging,
            189..194 => Self::Closing,
            _ => Self::Resetting,
        }
    }

    /// Whether a receiver that answers so accepts the notification.
    pub(crate) fn accepts(self) -> bool {
        matches!(self, Self::Well | Self::Slow(_) | Self::Gone)
    }

    pub(crate) fn reply(self) -> Reply {
        match self {
            Self::Well => Reply::status(200),
            Self::Slow(time) => Reply::status(200).after(time),
            Self::Failing => Reply::status(500),
            Self::Busy => Reply::status(429).with_header("retry-after", "1"),
            Self::Gone => Reply::status(410),
            Self::Hanging => Reply::Hang,
            Self::Closing => Reply::Close,
            Self::Resetting => Reply::Reset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moods_repeat_with_the_seed_and_change_with_time() {
        let moods = |seed| -> Vec<Mood> {
            (0..400).map(|n| Mood::at(seed, n % 40, Duration::from_secs(n as u64 * 7))).collect()
        };
        assert_eq!(moods(1), moods(1));
        assert_ne!(moods(1), moods(2));
        let well = moods(1).into_iter().filter(|mood| *mood == Mood::Well).count();
        assert!((200..360).contains(&well), "{well} of 400");
    }
}
