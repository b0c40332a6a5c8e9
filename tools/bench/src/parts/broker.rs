//! The broker's limit, for one of the two queues of each event.

use std::time::Duration;

use anyhow::Result;

use crate::number;
use crate::plan::Plan;
use crate::process::Helper;
use crate::queue::{Answer, Command};
use crate::report::Report;
use crate::stage::Stage;
use crate::usage;
use crate::world::per_thousand;

const PART: &str = "broker";
const TIMEOUT: Duration = Duration::from_mins(5);

/// The approximate size of a job with one delivery, in bytes.
const JOB: usize = 800;

/// The prefetch of Fanfare's processes.
const PREFETCH: u16 = 256;

pub(super) async fn run(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    let mut messages = Messages::start(stage, plan)?;
    messages.pass(plan.broker_messages / 10).await?;
    for _ in 0..plan.rounds {
        let before = messages.cpu(stage)?;
        let seconds = messages.pass(plan.broker_messages).await?;
        let after = messages.cpu(stage)?;
        let rate = number::float(plan.broker_messages) / seconds;
        report.add(PART, "one quorum queue, in and out", "messages/s", rate);
        for ((name, before), (_, after)) in before.into_iter().zip(after) {
            let used = per_thousand(after - before, plan.broker_messages);
            report.add(PART, name, "s/1,000 messages", used);
        }
    }
    messages.end(stage).await
}

/// A queue, and the process that publishes to it and consumes from it.
pub(super) struct Messages {
    ends: Helper,
    vhost: String,
    amqp_url: String,
    in_flight: usize,
}

impl Messages {
    /// Creates the queue's virtual host and starts the process.
    pub(super) fn start(stage: &mut Stage, plan: &Plan) -> Result<Self> {
        let vhost = stage.next_name();
        stage.servers.create_vhost(&vhost)?;
        let amqp_url = stage.servers.amqp_url(&vhost);
        Ok(Self {
            ends: Helper::start(&stage.home, "queue")?,
            vhost,
            amqp_url,
            in_flight: plan.in_flight,
        })
    }

    /// Publishes `count` messages and consumes them; returns the seconds that this took.
    pub(super) async fn pass(&mut self, count: u64) -> Result<f64> {
        let command = Command {
            amqp_url: self.amqp_url.clone(),
            count,
            size: JOB,
            in_flight: self.in_flight,
            prefetch: PREFETCH,
        };
        let Answer { seconds } = self.ends.ask(&command, TIMEOUT).await?;
        Ok(seconds)
    }

    /// Ends the process and drops the virtual host.
    pub(super) async fn end(self, stage: &Stage) -> Result<()> {
        self.ends.end().await;
        stage.servers.drop_vhost(&self.vhost)
    }

    /// Seconds of CPU so far.
    fn cpu(&self, stage: &Stage) -> Result<[(&'static str, f64); 2]> {
        let broker = usage::sum(&stage.servers.process_ids(), "beam.smp").cpu;
        let ends = usage::cpu(self.ends.id())?;
        Ok([("CPU of the RabbitMQ", broker), ("CPU of who publishes and consumes", ends)])
    }
}
