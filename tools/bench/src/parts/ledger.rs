//! The ledger's limit: rows of attempts that one connection writes as a worker does.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use chrono::Utc;
use fanfare_core::ids::{BatchKey, EventKey, WebhookId};
use fanfare_core::job::AttemptRef;
use fanfare_core::outcome::{Outcome, State};
use fanfare_store::attempts::{Entry, Post};
use fanfare_store::{PlanMode, Store};
use uuid::Uuid;

use crate::plan::Plan;
use crate::report::Report;
use crate::stage::Stage;
use crate::world::{World, per_thousand};
use crate::{number, usage};

const PART: &str = "ledger";

/// The number of rows in a statement: as many as a busy worker writes at a time.
const AT_A_TIME: usize = 512;

pub(super) async fn run(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    for (name, fan_out) in plan.by_fan_out() {
        let world = World::new(stage, &[]).await?;
        let mut rows = Rows::new(&world, fan_out.webhooks)?;
        rows.write(plan.ledger_rows / 10).await?;
        for _ in 0..plan.rounds {
            let (start, before) = (Instant::now(), postgresql(stage));
            rows.write(plan.ledger_rows).await?;
            let (seconds, used) = (start.elapsed().as_secs_f64(), postgresql(stage) - before);
            let rate = number::float(plan.ledger_rows) / seconds;
            report.add(PART, &format!("{name}: one connection"), "rows/s", rate);
            let used = per_thousand(used, plan.ledger_rows);
            report.add(PART, &format!("{name}: CPU of the PostgreSQL"), "s/1,000 rows", used);
        }
        drop(rows);
        world.close(stage).await?;
    }
    Ok(())
}

fn postgresql(stage: &Stage) -> f64 {
    usage::sum(&stage.servers.process_ids(), "postgres").cpu
}

/// Writes rows of successful first attempts, always to the same webhooks.
pub(super) struct Rows {
    store: Store,
    webhooks: Vec<WebhookId>,
    /// The number of events so far; each has a row for every webhook.
    n_events: u64,
}

impl Rows {
    /// Rows for this number of webhooks.
    pub(super) fn new(world: &World, webhooks: u64) -> Result<Self> {
        let webhooks = (0..webhooks).map(|_| WebhookId(Uuid::new_v4())).collect();
        Ok(Self { store: world.store(PlanMode::Generic)?, webhooks, n_events: 0 })
    }

    /// Writes at least `count` rows; the rows of the last event are complete.
    pub(super) async fn write(&mut self, count: u64) -> Result<()> {
        let mut left = count.div_ceil(number::count(self.webhooks.len()));
        let mut entries = Vec::with_capacity(AT_A_TIME + self.webhooks.len());
        while left > 0 {
            while left > 0 && entries.len() < AT_A_TIME {
                let event = EventKey::of("/bench", &self.n_events.to_string());
                self.n_events += 1;
                left -= 1;
                entries.extend(self.webhooks.iter().map(|id| succeeded(event, *id)));
            }
            let twice = self.store.attempts_record(&entries).await?;
            ensure!(twice.is_empty(), "{} rows were there already", twice.len());
            entries.clear();
        }
        Ok(())
    }
}

fn succeeded(event: EventKey, webhook: WebhookId) -> Entry {
    let now = Utc::now();
    let post = Post {
        duration: Duration::from_millis(5),
        outcome: Outcome::Delivered.code(),
        status: Some(200),
        error: None,
        response_body: None,
        trace: None,
    };
    Entry {
        due: AttemptRef::first(BatchKey::single(event), webhook, now),
        attempt: 1,
        tries: 1,
        since: now,
        state: State::Delivered,
        reason: None,
        detail: None,
        post: Some(post),
        at: now,
        next_attempt_at: None,
        revision: 0,
    }
}
