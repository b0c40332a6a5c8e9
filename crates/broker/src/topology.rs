//! Every exchange, queue and binding of Fanfare, in one table.
//!
//! The named queues have names that scripts rely on, and there may be several delivery queues. The
//! queues of the delay ladder follow from its levels. No other module names a queue. `declare`
//! declares the table each time a session opens, `expect` is for users that may not declare,
//! `check` compares the broker with the table and changes nothing, and [`render`] prints the table.

mod apply;

pub(crate) use apply::{check, declare, declare_one, expect};

use crate::error::BrokerError;
use crate::ladder::{BITS, BackTo, DUE, HELD_LEVELS, LEVELS, held_name, level_name, level_word};
use fanfare_core::shard::{Shard, ShardCount};
use lapin::types::{AMQPValue, FieldTable, LongString};
use std::fmt;
use std::fmt::Write as _;

/// The exchange that the report server publishes to.
pub const EVENTS_EXCHANGE: &str = "reportserver.events";

/// The exchange that notices are published to. Nothing is bound to it: who wants notices binds a queue.
pub const NOTICES_EXCHANGE: &str = "fanfare.notices";

/// Redeliveries after which the broker moves a message to the dead letters. It is a last resort:
/// Fanfare itself dead-letters messages that it refuses, and an outage of a few hours, in which
/// each reconnect counts, must not reach the limit.
const DELIVERY_LIMIT: i64 = 1000;

/// The limit of a queue that needs none. Inspecting a queue requeues its messages, which counts,
/// and from version 4 on the broker sets a limit of 20 if no other one is given.
const NO_DELIVERY_LIMIT: i64 = i32::MAX as i64;

/// The delivery queues by their numbers. The first one has the same name if it is the only one.
const DELIVERIES: [&str; 16] = [
    "fanfare.deliveries",
    "fanfare.deliveries.2",
    "fanfare.deliveries.3",
    "fanfare.deliveries.4",
    "fanfare.deliveries.5",
    "fanfare.deliveries.6",
    "fanfare.deliveries.7",
    "fanfare.deliveries.8",
    "fanfare.deliveries.9",
    "fanfare.deliveries.10",
    "fanfare.deliveries.11",
    "fanfare.deliveries.12",
    "fanfare.deliveries.13",
    "fanfare.deliveries.14",
    "fanfare.deliveries.15",
    "fanfare.deliveries.16",
];

/// Fanfare's named queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queue {
    /// Events from the report server.
    Events,
    /// Users, roles and permissions from the report server.
    Directory,
    /// Jobs for first attempts. Large installations spread them over several queues.
    Deliveries(Shard),
    /// Jobs for retries and deferred attempts that are due.
    Retries,
    /// Events and directory documents that were refused.
    EventsDead,
    /// Deliveries that were given up.
    DeliveriesDead,
}

impl Queue {
    /// The delivery queue that always exists.
    pub const DELIVERIES: Self = Self::Deliveries(Shard::FIRST);

    /// All queues, with this number of delivery queues.
    pub fn all(delivery_queues: ShardCount) -> impl Iterator<Item = Self> {
        let before = [Self::Events, Self::Directory];
        let after = [Self::Retries, Self::EventsDead, Self::DeliveriesDead];
        before.into_iter().chain(delivery_queues.all().map(Self::Deliveries)).chain(after)
    }

    /// The name in the broker.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "fanfare.events",
            Self::Directory => "fanfare.directory",
            Self::Deliveries(shard) => DELIVERIES[shard.number() as usize - 1],
            Self::Retries => "fanfare.retries",
            Self::EventsDead => "fanfare.events.dead",
            Self::DeliveriesDead => "fanfare.deliveries.dead",
        }
    }

    /// The queue of its dead letters; `None` for the dead letter queues themselves.
    #[must_use]
    pub const fn dead_letters(self) -> Option<Self> {
        match self {
            Self::Events | Self::Directory => Some(Self::EventsDead),
            Self::Deliveries(_) | Self::Retries => Some(Self::DeliveriesDead),
            Self::EventsDead | Self::DeliveriesDead => None,
        }
    }

    /// The pattern of the report server's routing keys that are bound to this queue, if there is
    /// one.
    const fn events_pattern(self) -> Option<&'static str> {
        match self {
            Self::Events => Some("#"),
            Self::Directory => Some("directory.*"),
            _ => None,
        }
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The whole table. Every exchange is a durable topic exchange without arguments, every queue a
/// durable quorum queue.
struct Table {
    exchanges: Vec<String>,
    queues: Vec<QueueRow>,
    bindings: Vec<Binding>,
}

pub(crate) struct QueueRow {
    pub(crate) name: String,
    delivery_limit: i64,
    /// The time to live of a message, in seconds.
    stay: Option<i64>,
    dead_letters_to: Option<Target>,
    /// Whether it carries only jobs. The ledger has them too, so the queue's messages may be lost.
    pub(crate) carries_jobs: bool,
}

impl QueueRow {
    /// Whether events wait in it that no other place has, and no process consumes it.
    pub(crate) fn holds_events(&self) -> bool {
        self.stay.is_some() && !self.carries_jobs
    }
}

struct Binding {
    exchange: String,
    pattern: String,
    queue: String,
}

enum Target {
    Queue(String),
    Exchange(String),
}

/// A difference between the broker and the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Such as `queue fanfare.events`.
    pub what: String,
    /// What is wrong, and what to do.
    pub problem: String,
}

/// Every queue of the table.
pub(crate) fn queue_rows(delivery_queues: ShardCount) -> Vec<QueueRow> {
    table(delivery_queues).queues
}

fn table(delivery_queues: ShardCount) -> Table {
    let mut table = Table {
        exchanges: vec![EVENTS_EXCHANGE.to_owned(), NOTICES_EXCHANGE.to_owned(), DUE.to_owned()],
        queues: Vec::new(),
        bindings: Vec::new(),
    };
    // The dead letter queues come first, because the others dead-letter to them.
    let (last, first): (Vec<Queue>, Vec<Queue>) =
        Queue::all(delivery_queues).partition(|queue| queue.dead_letters().is_some());
    for queue in first.into_iter().chain(last) {
        table.add_named(queue);
    }
    for level in 0..LEVELS {
        table.add_level(level);
    }
    for level in HELD_LEVELS {
        table.add_held(level);
    }
    table
}

impl Table {
    fn add_named(&mut self, queue: Queue) {
        let dead = queue.dead_letters();
        self.queues.push(QueueRow {
            name: queue.name().to_owned(),
            delivery_limit: if dead.is_some() { DELIVERY_LIMIT } else { NO_DELIVERY_LIMIT },
            stay: None,
            dead_letters_to: dead.map(|dead| Target::Queue(dead.name().to_owned())),
            carries_jobs: matches!(queue, Queue::Deliveries(_) | Queue::Retries),
        });
        if let Some(pattern) = queue.events_pattern() {
            self.bind(EVENTS_EXCHANGE, pattern, queue.name());
        }
    }

    /// Adds a level of the ladder. A message enters it by the level's exchange if its routing key
    /// begins with the level. It leaves by the exchange below, which routes it to the next level
    /// that the key names, or to the end of the wait. A key skips no more than a few levels at a
    /// time.
    ///
    /// Each level has an exchange and keys are short, because matching a long key with wildcards at
    /// each level cost the broker more than everything else that it does for a message.
    fn add_level(&mut self, level: u32) {
        let name = level_name(level);
        let word = level_word(level);
        let below = level.checked_sub(1).map_or_else(|| DUE.to_owned(), level_name);
        self.exchanges.push(name.clone());
        self.queues.push(QueueRow {
            name: name.clone(),
            delivery_limit: NO_DELIVERY_LIMIT,
            stay: Some(1 << level),
            dead_letters_to: Some(Target::Exchange(below.clone())),
            carries_jobs: true,
        });
        self.bind(&name, &format!("{word}.#"), &name);
        for next in level.saturating_sub(BITS - 1)..level {
            let pattern = format!("#.{word}.{}.#", level_word(next));
            self.bind(&below, &pattern, &level_name(next));
        }
        // Events have queues of their own; those that an earlier release delayed may still come by.
        for back_to in BackTo::ALL {
            let queue = match back_to {
                BackTo::Retries => Queue::Retries,
                BackTo::Events => Queue::Events,
            };
            let pattern = format!("#.{word}.{}", back_to.word());
            self.bind(&below, &pattern, queue.name());
        }
    }

    /// Adds a queue in which events wait that can't be decided yet. They are not in the ledger, so
    /// they must not share a queue with jobs, which may be deleted when it is broken.
    fn add_held(&mut self, level: u32) {
        self.queues.push(QueueRow {
            name: held_name(level),
            delivery_limit: NO_DELIVERY_LIMIT,
            stay: Some(1 << level),
            dead_letters_to: Some(Target::Queue(Queue::Events.name().to_owned())),
            carries_jobs: false,
        });
    }

    fn bind(&mut self, exchange: &str, pattern: &str, queue: &str) {
        self.bindings.push(Binding {
            exchange: exchange.to_owned(),
            pattern: pattern.to_owned(),
            queue: queue.to_owned(),
        });
    }
}

/// The argument for what a full queue does with new messages.
const OVERFLOW: &str = "x-overflow";

impl QueueRow {
    fn arguments(&self) -> FieldTable {
        let mut arguments = FieldTable::default();
        let text = |text: &str| AMQPValue::LongString(LongString::from(text));
        arguments.insert("x-queue-type".into(), text("quorum"));
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(self.delivery_limit));
        if let Some(seconds) = self.stay {
            arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(seconds * 1000));
        }
        // A full queue refuses new messages instead of dropping old ones. At-least-once
        // dead-lettering requires it.
        arguments.insert(OVERFLOW.into(), text("reject-publish"));
        let (exchange, key) = match &self.dead_letters_to {
            None => return arguments,
            Some(Target::Exchange(exchange)) => (exchange.as_str(), None),
            Some(Target::Queue(queue)) => ("", Some(queue)),
        };
        arguments.insert("x-dead-letter-exchange".into(), text(exchange));
        if let Some(key) = key {
            arguments.insert("x-dead-letter-routing-key".into(), text(key));
        }
        arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
        arguments
    }
}

/// The table as text, with this number of delivery queues.
#[must_use]
pub fn render(delivery_queues: ShardCount) -> String {
    let table = table(delivery_queues);
    let mut text = String::from("Exchanges (durable, topic)\n");
    for exchange in &table.exchanges {
        let _ = writeln!(text, "  {exchange}");
    }
    text.push_str("\nQueues (durable, quorum)\n");
    for row in &table.queues {
        let _ = writeln!(text, "  {:<24}{}", row.name, row.describe());
    }
    text.push_str("\nBindings\n");
    for Binding { exchange, pattern, queue } in &table.bindings {
        let _ = writeln!(text, "  {exchange:<20} {pattern:<13} -> {queue}");
    }
    text
}

impl QueueRow {
    /// Whether the queue may be one that an earlier version declared: dead letter queues had no
    /// `x-overflow`. It can't be changed while it holds letters, and it serves as well if its other
    /// arguments are [those of the earlier version](Self::earlier_arguments).
    fn may_be_of_earlier_version(&self, error: &BrokerError) -> bool {
        self.dead_letters_to.is_none()
            && matches!(error, BrokerError::Different { argument, .. } if argument == OVERFLOW)
    }

    fn earlier_arguments(&self) -> FieldTable {
        let mut arguments = self.arguments().inner().clone();
        arguments.remove(OVERFLOW);
        FieldTable::from(arguments)
    }

    fn describe(&self) -> String {
        let mut parts = Vec::new();
        if let Some(seconds) = self.stay {
            parts.push(format!("stay {seconds} s"));
        }
        if self.delivery_limit == DELIVERY_LIMIT {
            parts.push(format!("{DELIVERY_LIMIT} redeliveries"));
        }
        parts.push(match &self.dead_letters_to {
            Some(target) => format!("then {target}"),
            None => "kept until a person decides".to_owned(),
        });
        parts.join(", ")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(name) => write!(f, "queue {name}"),
            Self::Exchange(name) => write!(f, "exchange {name}"),
        }
    }
}
