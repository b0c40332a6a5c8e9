//! The publisher: a process that publishes events as the report server does, persistent and
//! confirmed, as fast as the broker confirms or at a given rate.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fanfare_core::event::CONTENT_TYPE;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};

use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, PublisherConfirm};
use serde::{Deserialize, Serialize};

use crate::event::{self, Stamp};
use crate::number;

/// The exchange of the report server.
const EXCHANGE: &str = "reportserver.events";

/// How often a publisher with a rate checks whether the next event is due.
const TICK: Duration = Duration::from_millis(1);

/// Events to publish.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Command {
    /// The virtual host's URL.
    pub(crate) amqp_url: String,
    /// The types of the events in turn, such as `tasks.execute`.
    pub(crate) event_types: Vec<String>,
    /// The subject of all events, such as `tasks/t1`.
    pub(crate) subject: String,
    /// The number of the first event.
    pub(crate) from: u64,
    pub(crate) count: u64,
    /// The size of each event's data, in bytes.
    pub(crate) size: usize,
    /// The most events that wait for a confirm.
    pub(crate) in_flight: usize,
    /// Events a second; `None` for as fast as possible.
    pub(crate) rate: Option<f64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The most that the publisher was behind its rate, in milliseconds.
    pub(crate) behind_ms: f64,
}

/// Runs until its standard input ends.
pub(crate) fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let mut open: Option<(String, Connection, Channel)> = None;
    crate::wire::serve(|command: Command| {
        runtime.block_on(async {
            if open.as_ref().is_none_or(|(url, ..)| *url != command.amqp_url) {
                let (connection, channel) = connect(&command.amqp_url).await?;
                open = Some((command.amqp_url.clone(), connection, channel));
            }
            let (_, _, channel) = open.as_ref().context("there is no connection")?;
            publish(channel, &command).await
        })
    })
}

/// Opens a connection and a channel with confirms.
pub(crate) async fn connect(url: &str) -> Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default())
        .await
        .context("connecting to the broker")?;
    let channel = connection.create_channel().await.context("opening a channel")?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.context("asking for confirms")?;
    Ok((connection, channel))
}

async fn publish(channel: &Channel, command: &Command) -> Result<Answer> {
    let mut outstanding = Outstanding::new(command.in_flight);
    let start = Instant::now();
    let mut behind = Duration::ZERO;
    for index in 0..command.count {
        if let Some(rate) = command.rate {
            let due = Duration::from_secs_f64(number::float(index) / rate);
            while start.elapsed() < due {
                tokio::time::sleep(TICK).await;
            }
            behind = behind.max(start.elapsed().saturating_sub(due));
        }
        let stamp = Stamp { number: command.from + index, sent: number::now() };
        let number = usize::try_from(stamp.number)? % command.event_types.len().max(1);
        let kind = command.event_types.get(number).context("no type of events is named")?;
        let subject = &command.subject;
        let event = event::event(kind, subject, "/bench", stamp, command.size);
        let confirm = send(channel, EXCHANGE, kind, CONTENT_TYPE, event.as_bytes()).await?;
        outstanding.add(confirm).await?;
    }
    outstanding.all().await?;
    Ok(Answer { behind_ms: behind.as_secs_f64() * 1e3 })
}

/// Publishes a persistent, mandatory message.
pub(crate) async fn send(
    channel: &Channel,
    exchange: &str,
    key: &str,
    content_type: &str,
    body: &[u8],
) -> Result<PublisherConfirm> {
    let properties =
        BasicProperties::default().with_content_type(content_type.into()).with_delivery_mode(2);
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    channel
        .basic_publish(exchange.into(), key.into(), options, body, properties)
        .await
        .context("publishing")
}

/// The messages that wait for a confirm, up to a limit.
pub(crate) struct Outstanding {
    confirms: VecDeque<PublisherConfirm>,
    most: usize,
}

impl Outstanding {
    /// No messages, with the limit `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self { confirms: VecDeque::with_capacity(most), most }
    }

    /// Adds a message. If the limit is exceeded, waits for the confirm of the oldest one.
    pub(crate) async fn add(&mut self, confirm: PublisherConfirm) -> Result<()> {
        self.confirms.push_back(confirm);
        if self.confirms.len() > self.most { self.oldest().await } else { Ok(()) }
    }

    /// Waits for all confirms.
    pub(crate) async fn all(&mut self) -> Result<()> {
        while !self.confirms.is_empty() {
            self.oldest().await?;
        }
        Ok(())
    }

    async fn oldest(&mut self) -> Result<()> {
        let Some(confirm) = self.confirms.pop_front() else { return Ok(()) };
        let confirmation = confirm.await.context("waiting for the broker's confirm")?;
        ensure!(confirmation.is_ack(), "the broker refused a message");
        ensure!(confirmation.take_message().is_none(), "no queue is bound for the events");
        Ok(())
    }
}
