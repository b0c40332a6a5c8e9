//! The sample that the demo plays: a directory, events, and webhooks, with the expected results.
//!
//! The expected results are computed by the rule in `core` from the directory in memory; the router
//! decides in the database. The demo compares the two.

use std::fmt;

use anyhow::{Context as _, Result, bail};
use fanfare_core::access::may_read;
use fanfare_core::directory::{Content, Document, RoleDocument, UserDocument};
use fanfare_core::event::{self, Entry, Event};
use fanfare_core::filter::Filters;
use fanfare_core::mask::MaskPolicy;
use fanfare_core::name::Name;

/// The directory, as `fanfare directory import` reads it.
pub(crate) const DIRECTORY: &str = include_str!("../../../../examples/directory.json");

/// The events, one on each line, as `fanfare publish` reads them.
pub(crate) const EVENTS: &str = include_str!("../../../../examples/events.jsonl");

/// After this number of attempts a delivery of the demo is dead.
pub(crate) const ATTEMPTS: u32 = 4;

/// The number of notifications that a receiver refuses that fails at first.
const FAILURES: u32 = 2;

/// How a receiver behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It accepts everything.
    Healthy,
    /// It refuses the first two notifications.
    FailsTwice,
    /// It refuses everything.
    AlwaysFails,
}

impl Manner {
    pub(crate) const ALL: [Self; 3] = [Self::Healthy, Self::FailsTwice, Self::AlwaysFails];

    /// The receiver's name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::FailsTwice => "fails twice",
            Self::AlwaysFails => "always fails",
        }
    }

    /// The receiver's name in file names.
    pub(crate) fn slug(self) -> String {
        format!("receiver-{}", self.name().replace(' ', "-"))
    }

    /// The options of its `fanfare listen`.
    pub(crate) fn arguments(self) -> Vec<String> {
        match self {
            Self::Healthy => Vec::new(),
            Self::FailsTwice => vec!["--fail-first".to_owned(), FAILURES.to_string()],
            Self::AlwaysFails => vec!["--status".to_owned(), "500".to_owned()],
        }
    }

    /// How a delivery to it ends.
    pub(crate) fn end(self) -> End {
        match self {
            Self::Healthy => End::Delivered { attempts: 1 },
            Self::FailsTwice => End::Delivered { attempts: FAILURES + 1 },
            Self::AlwaysFails => End::Dead { attempts: ATTEMPTS },
        }
    }
}

/// A webhook of the sample.
#[derive(Debug)]
pub(crate) struct Hook {
    pub(crate) owner: &'static str,
    /// Its filters; all events if it has none.
    pub(crate) filters: &'static [&'static str],
    pub(crate) receiver: Manner,
    /// Whether it is registered as paused.
    pub(crate) paused: bool,
}

impl Hook {
    /// Its filters as they are shown.
    pub(crate) fn asks(&self) -> String {
        if self.filters.is_empty() { "*".to_owned() } else { self.filters.join(", ") }
    }
}

const fn hook(owner: &'static str, filters: &'static [&'static str], receiver: Manner) -> Hook {
    Hook { owner, filters, receiver, paused: false }
}

/// The webhooks. A receiver that fails at first counts all notifications that it gets. Exactly one
/// event may go to it, so that the number of attempts is known beforehand.
pub(crate) const HOOKS: [Hook; 7] = [
    hook("olga", &[], Manner::Healthy),
    hook("anna", &["reports", "categories"], Manner::Healthy),
    hook("ben", &[], Manner::Healthy),
    hook("carl", &[], Manner::Healthy),
    Hook { paused: true, ..hook("anna", &[], Manner::Healthy) },
    hook("dora", &["alerts", "connections"], Manner::FailsTwice),
    hook("dora", &["tasks.execute"], Manner::AlwaysFails),
];

/// How a delivery ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The receiver accepted it.
    Delivered {
        /// At this attempt.
        attempts: u32,
    },
    /// It was given up.
    Dead {
        /// After this number of attempts.
        attempts: u32,
    },
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, attempts) = match self {
            Self::Delivered { attempts } => ("delivered", attempts),
            Self::Dead { attempts } => ("dead", attempts),
        };
        write!(f, "{state} after {attempts} attempt{}", plural(*attempts))
    }
}

/// The plural ending of a noun after a number.
pub(crate) fn plural(count: u32) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Why an event does not go to a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Withheld {
    /// The webhook is paused.
    Paused,
    /// Its owner is unknown or disabled, and may read nothing.
    OwnerDisabled,
    /// Its owner may not read the event's resource.
    MayNotRead,
    /// It has no filter for such events.
    NotAsked,
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Paused => "webhook is paused",
            Self::OwnerDisabled => "owner is disabled",
            Self::MayNotRead => "owner may not read",
            Self::NotAsked => "not asked for",
        })
    }
}

/// The parsed sample.
#[derive(Debug)]
pub(crate) struct Sample {
    users: Vec<UserDocument>,
    roles: Vec<RoleDocument>,
    /// The events in order.
    pub(crate) events: Vec<Event>,
}

impl Sample {
    /// Parses the files that are part of this program.
    pub(crate) fn load() -> Result<Self> {
        let raw = serde_json::from_str(DIRECTORY).context("reading the sample directory")?;
        let directory = Document::bare_snapshot(1, raw).context("reading the sample directory")?;
        let Content::Snapshot { users, roles } = directory.content else {
            bail!("the sample directory is not a snapshot");
        };
        let events = EVENTS.lines().map(event).collect::<Result<_>>();
        Ok(Self { users, roles, events: events.context("reading the sample events")? })
    }

    /// Why an event must not go to a webhook; `None` if it must.
    pub(crate) fn withheld(&self, hook: &Hook, event: &Event) -> Result<Option<Withheld>> {
        let owner = Name::parse(hook.owner);
        let owner = self.users.iter().find(|user| Some(&user.name) == owner.as_ref());
        let owner = owner.with_context(|| format!("{} is not in the directory", hook.owner))?;
        Ok(if hook.paused {
            Some(Withheld::Paused)
        } else if !owner.enabled {
            Some(Withheld::OwnerDisabled)
        } else if !Filters::parse(hook.filters)?.accept(event.filter, &event.action) {
            Some(Withheld::NotAsked)
        } else if may_read(owner, &self.roles, &event.resource) {
            None
        } else {
            Some(Withheld::MayNotRead)
        })
    }
}

/// A sample event as a new event: its JSON with a new id.
pub(crate) fn again(round: usize) -> Result<String> {
    let lines: Vec<&str> = EVENTS.lines().collect();
    let line = lines.get(round % lines.len().max(1)).copied();
    let mut event: serde_json::Value = serde_json::from_str(line.unwrap_or_default())?;
    event["id"] = format!("more-{}", round + 1).into();
    Ok(event.to_string())
}

/// Parses one event as the router does.
pub(crate) fn event(json: &str) -> Result<Event> {
    let published = event::parse(json.as_bytes(), None, &MaskPolicy::default())
        .context("parsing a sample event")?;
    match published.entries.into_iter().next() {
        Some(Entry::Event(event)) => Ok(*event),
        _ => bail!("not an event: {json}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_core::filter::Filter;
    use std::collections::BTreeMap;

    fn counts(sample: &Sample, hook: &Hook) -> (usize, BTreeMap<Withheld, usize>) {
        let mut withheld = BTreeMap::new();
        let mut delivered = 0;
        for event in &sample.events {
            match sample.withheld(hook, event).unwrap() {
                Some(why) => *withheld.entry(why).or_default() += 1,
                None => delivered += 1,
            }
        }
        (delivered, withheld)
    }

    #[test]
    fn the_sample_shows_every_reason() {
        use Withheld::{MayNotRead, NotAsked, OwnerDisabled, Paused};
        let sample = Sample::load().unwrap();
        let found: Vec<_> = HOOKS.iter().map(|hook| counts(&sample, hook)).collect();
        let expected = [
            (8, BTreeMap::new()),
            (4, BTreeMap::from([(NotAsked, 4)])),
            (2, BTreeMap::from([(MayNotRead, 6)])),
            (0, BTreeMap::from([(OwnerDisabled, 8)])),
            (0, BTreeMap::from([(Paused, 8)])),
            (1, BTreeMap::from([(MayNotRead, 1), (NotAsked, 6)])),
            (1, BTreeMap::from([(NotAsked, 7)])),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_sample_has_events_of_every_filter() {
        let sample = Sample::load().unwrap();
        for filter in Filter::ALL {
            assert!(sample.events.iter().any(|event| event.filter == filter));
        }
    }

    #[test]
    fn a_sample_event_can_be_published_again_as_another_one() {
        let sample = Sample::load().unwrap();
        let first = event(&again(0).unwrap()).unwrap();
        let later = event(&again(sample.events.len()).unwrap()).unwrap();
        assert_eq!(first.resource, later.resource);
        assert_ne!(first.key, later.key);
        assert_ne!(first.key, sample.events[0].key);
    }
}
