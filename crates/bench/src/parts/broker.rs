//! The broker's limit, for one of the two queues that each event passes.

use std::time::Duration;

use anyhow::Result;

use crate::number;
use crate::plan::Plan;
use crate::queue::{Answer, Command};
use crate::report::Report;
use crate::stage::Stage;
use crate::usage;
use crate::world::per_thousand;

const PART: &str = "broker";
const CPU: &str = "CPU of the RabbitMQ";
const PATIENCE: Duration = Duration::from_mins(5);

/// About what a job with one delivery has.
const JOB: usize = 800;

/// What Fanfare's processes take ahead.
const PREFETCH: u16 = 256;

pub(super) async fn run(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    let name = stage.next_name();
    stage.servers.create_vhost(&name)?;
    let mut queue = stage.home.helper("queue")?;
    let command = |count| Command {
        amqp_url: stage.servers.amqp_url(&name),
        count,
        size: JOB,
        in_flight: plan.in_flight,
        prefetch: PREFETCH,
    };
    let _: Answer = queue.ask(&command(plan.broker_messages / 10), PATIENCE).await?;
    for _ in 0..plan.rounds {
        let before = rabbitmq(stage);
        let Answer { seconds } = queue.ask(&command(plan.broker_messages), PATIENCE).await?;
        let rate = number::float(plan.broker_messages) / seconds;
        report.add(PART, "one quorum queue, in and out", "messages/s", rate);
        let used = per_thousand(rabbitmq(stage) - before, plan.broker_messages);
        report.add(PART, CPU, "s/1,000 messages", used);
    }
    queue.end().await;
    stage.servers.drop_vhost(&name)
}

/// The CPU time that the broker takes for a thousand messages, in seconds, if it was measured.
pub(super) fn cpu_of_a_thousand(report: &Report) -> Option<f64> {
    report.median(PART, CPU)
}

fn rabbitmq(stage: &Stage) -> f64 {
    usage::sum(&stage.servers.process_ids(), "beam.smp").cpu
}
