//! The broker's limit: messages are published with confirms to a queue like `fanfare.deliveries`,
//! and consumed from it with acknowledgements at the same time. As in Fanfare, the messages of a
//! batch are acknowledged in one frame.

use std::time::Instant;

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, Consumer};
use serde::{Deserialize, Serialize};

use crate::number;
use crate::publisher::{Outstanding, connect, send};

/// Messages to send through.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Command {
    /// The virtual host's URL.
    pub(crate) amqp_url: String,
    pub(crate) count: u64,
    /// The size of each message, in bytes.
    pub(crate) size: usize,
    /// The most messages that wait for a confirm.
    pub(crate) in_flight: usize,
    /// The most messages that are not acknowledged.
    pub(crate) prefetch: u16,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The time from the first publish to the last acknowledgement.
    pub(crate) seconds: f64,
}

const QUEUE: &str = "bench.jobs";
const DEAD: &str = "bench.dead";

/// The largest batch of a router.
const BATCH: usize = 64;

/// Runs until its standard input ends.
pub(crate) fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    crate::wire::serve(|command: Command| runtime.block_on(pass(&command)))
}

async fn pass(command: &Command) -> Result<Answer> {
    let (publishing, to) = connect(&command.amqp_url).await?;
    let (consuming, from) = connect(&command.amqp_url).await?;
    declare(&to).await.context("declaring the queues")?;
    from.basic_qos(command.prefetch, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let consumer =
        from.basic_consume(QUEUE.into(), "bench".into(), options, FieldTable::default()).await?;
    let start = Instant::now();
    tokio::try_join!(publish(&to, command), consume(consumer, command.count))?;
    let seconds = start.elapsed().as_secs_f64();
    publishing.close(200, "done".into()).await?;
    consuming.close(200, "done".into()).await?;
    Ok(Answer { seconds })
}

/// Declares the queues with the arguments of `fanfare.deliveries`.
async fn declare(channel: &Channel) -> Result<()> {
    let text = |text: &str| AMQPValue::LongString(LongString::from(text));
    let mut dead = FieldTable::default();
    dead.insert("x-queue-type".into(), text("quorum"));
    let mut arguments = dead.clone();
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(1000));
    arguments.insert("x-dead-letter-exchange".into(), text(""));
    arguments.insert("x-dead-letter-routing-key".into(), text(DEAD));
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(DEAD.into(), options, dead).await?;
    channel.queue_declare(QUEUE.into(), options, arguments).await?;
    channel.queue_purge(QUEUE.into(), QueuePurgeOptions::default()).await?;
    Ok(())
}

async fn publish(channel: &Channel, command: &Command) -> Result<()> {
    let body = vec![b'x'; command.size];
    let mut outstanding = Outstanding::new(command.in_flight);
    for _ in 0..command.count {
        outstanding.add(send(channel, "", QUEUE, "application/json", &body).await?).await?;
    }
    outstanding.all().await
}

/// Consumes in batches, and acknowledges each batch in one frame, as Fanfare does.
async fn consume(consumer: Consumer, count: u64) -> Result<()> {
    let mut batches = consumer.ready_chunks(BATCH);
    let mut done = 0;
    while done < count {
        let batch = batches.next().await.context("the consumer ended")?;
        done += number::count(batch.len());
        let last = batch.into_iter().next_back().transpose().context("consuming")?;
        let last = last.context("the consumer gave nothing")?;
        last.acker.ack(BasicAckOptions { multiple: true }).await.context("acknowledging")?;
    }
    Ok(())
}
