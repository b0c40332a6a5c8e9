//! Growth: the performance of a large installation, by [`webhooks`], [`attempts`], and
//! [`directory`].

mod attempts;
mod directory;
mod webhooks;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use fanfare_core::event::{Entry, Event, parse};
use fanfare_core::ids::BatchKey;
use fanfare_core::mask::MaskPolicy;
use fanfare_store::Store;
use fanfare_store::routing::{Arrival, Routed};

use crate::event::{self, Stamp};
use crate::number;
use crate::plan::Plan;
use crate::report::{Report, median};
use crate::stage::Stage;

const PART: &str = "growth";

/// The number of webhooks that get an event.
const MATCHING: usize = 20;

/// Events that a router under load routes in one statement.
const BATCH: u64 = 64;

/// The default of a router.
const GAP_WAIT: Duration = Duration::from_secs(5);

pub(super) async fn run(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    webhooks::run(stage, plan, report).await?;
    attempts::run(stage, plan, report).await?;
    directory::run(stage, plan, report).await
}

/// Routes events directly in the database, one by one and in batches.
struct Routing<'a> {
    store: &'a Store,
    event_type: &'a str,
    subject: &'a str,
    next: u64,
}

impl Routing<'_> {
    /// Measures the time of an event, and adds it to the report under this name.
    async fn measure(&mut self, plan: &Plan, report: &mut Report, name: &str) -> Result<()> {
        // The first events load pages from the disk, which then stay in memory.
        self.route(1).await?;
        self.route(BATCH).await?;
        for _ in 0..plan.rounds {
            let mut alone = Vec::new();
            for _ in 0..plan.growth_calls {
                alone.push(self.route(1).await?.as_secs_f64() * 1e3);
            }
            report.add(PART, &format!("{name}: one event"), "ms", median(&alone));
            let taken = self.route(BATCH).await?.as_secs_f64();
            let rate = number::float(BATCH) / taken;
            report.add(PART, &format!("{name}: {BATCH} at a time"), "events/s", rate);
        }
        Ok(())
    }

    /// Routes `count` new events in one statement; returns the time that this took.
    async fn route(&mut self, count: u64) -> Result<Duration> {
        let numbers = self.next..self.next + count;
        self.next = numbers.end;
        let events: Vec<Event> = numbers.map(|n| self.event(n)).collect::<Result<_>>()?;
        let arrival = |event| Arrival { event, batch: BatchKey::single(event.key), position: 0 };
        let arrivals: Vec<Arrival<'_>> = events.iter().map(arrival).collect();
        let start = Instant::now();
        let routed = self.store.route(&arrivals, Some(GAP_WAIT)).await?;
        let taken = start.elapsed();
        for routed in routed {
            let Routed::Accepted { webhooks, .. } = routed else {
                bail!("an event was {routed:?}")
            };
            ensure!(webhooks.len() == MATCHING, "an event goes to {} webhooks", webhooks.len());
        }
        Ok(taken)
    }

    fn event(&self, number: u64) -> Result<Event> {
        let stamp = Stamp { number, sent: number::now() };
        let text = event::event(self.event_type, self.subject, "/bench", stamp, 400);
        let published = parse(text.as_bytes(), None, &MaskPolicy::off());
        let entry = published.ok().and_then(|mut published| published.entries.pop());
        match entry.context("the event could not be parsed")? {
            Entry::Event(event) => Ok(*event),
            other => bail!("an event was read as {other:?}"),
        }
    }
}
