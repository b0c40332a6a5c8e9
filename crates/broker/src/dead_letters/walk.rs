//! A walk through a dead letter queue, step by step.

use super::{DeadLetter, RETURN_TIMEOUT};
use crate::error::BrokerError;
use crate::session::Session;
use crate::topology::Queue;
use futures_util::StreamExt as _;
use lapin::Channel;
use lapin::message::BasicGetMessage;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicQosOptions,
};
use lapin::types::FieldTable;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long a letter that is passed over may take to come. Others may have taken some meanwhile.
const SKIP_TIMEOUT: Duration = Duration::from_secs(2);

/// What a walk did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Letters that were looked at or passed over.
    pub seen: u64,
    /// Letters that left the queue.
    pub taken: u64,
}

/// Takes letters one by one without acknowledging them. Ended or dropped, it gives back all that
/// were not taken.
pub struct Walk {
    session: Session,
    channel: Channel,
    /// Channels of the letters that were passed over, kept open until the end.
    passed: Vec<Channel>,
    queue: Queue,
    length: u64,
    walked: Walked,
    /// The letter that was shown last, until it is taken.
    shown: Option<BasicGetMessage>,
}

impl Walk {
    /// Begins a walk through a queue. One that is dropped in the middle gives its letters back too.
    pub async fn begin(session: &Session, queue: Queue) -> Result<Self, BrokerError> {
        let length = u64::from(session.depth(queue).await?.ready);
        let channel = session.channel().await?;
        let (session, walked, passed) = (session.clone(), Walked::default(), Vec::new());
        Ok(Self { session, channel, passed, queue, length, walked, shown: None })
    }

    /// Passes over letters from the front. Far faster than looking at each: the broker sends them
    /// without being asked for every one.
    pub async fn skip(&mut self, count: u64) -> Result<(), BrokerError> {
        let mut left = count.min(self.length - self.walked.seen);
        while left > 0 {
            // The broker sends as many as it may and then stops, so none comes out of turn.
            let some = u16::try_from(left).unwrap_or(u16::MAX);
            let passed = self.skip_some(some).await?;
            self.walked.seen += u64::from(passed);
            if passed < some {
                // There are no more.
                self.length = self.walked.seen;
                return Ok(());
            }
            left -= u64::from(some);
        }
        Ok(())
    }

    /// Passes over so many, on a channel of their own; returns how many came.
    async fn skip_some(&mut self, count: u16) -> Result<u16, BrokerError> {
        let doing = |error: &lapin::Error| {
            BrokerError::of(format!("looking through {}", self.queue), error)
        };
        let channel = self.session.channel().await?;
        let qos = channel.basic_qos(count, BasicQosOptions::default());
        qos.await.map_err(|error| doing(&error))?;
        let consume = channel.basic_consume(
            self.queue.name().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let mut letters = consume.await.map_err(|error| doing(&error))?;
        let mut passed = 0;
        while passed < count {
            match timeout(SKIP_TIMEOUT, letters.next()).await {
                Ok(Some(Ok(_))) => passed += 1,
                Ok(Some(Err(error))) => return Err(doing(&error)),
                Ok(None) | Err(_) => break,
            }
        }
        let cancel = channel.basic_cancel(letters.tag(), BasicCancelOptions::default());
        cancel.await.map_err(|error| doing(&error))?;
        self.passed.push(channel);
        Ok(passed)
    }

    /// The next letter; the one before stays, unless it was taken.
    pub async fn next(&mut self) -> Result<Option<DeadLetter>, BrokerError> {
        self.shown = None;
        if self.walked.seen >= self.length {
            return Ok(None);
        }
        let Some(mut got) = get(&self.channel, self.queue).await? else {
            return Ok(None);
        };
        self.walked.seen += 1;
        let letter = DeadLetter::read(&mut got);
        self.shown = Some(got);
        Ok(Some(letter))
    }

    /// Takes the letter that was shown last out of the queue.
    pub async fn take(&mut self) -> Result<(), BrokerError> {
        if let Some(got) = self.shown.take() {
            ack(&got, self.queue).await?;
            self.walked.taken += 1;
        }
        Ok(())
    }

    /// What was done so far.
    #[must_use]
    pub fn walked(&self) -> Walked {
        self.walked
    }

    /// Ends the walk: all others are back in the queue.
    pub async fn end(self) -> Result<Walked, BrokerError> {
        let expected = self.length - self.walked.taken;
        for channel in self.passed.iter().chain([&self.channel]) {
            channel.close(200, "OK".into()).await.map_err(|error| {
                BrokerError::of(format!("returning letters to {}", self.queue), &error)
            })?;
        }
        give_back(&self.session, self.queue, expected).await?;
        Ok(self.walked)
    }
}

async fn get(channel: &Channel, queue: Queue) -> Result<Option<BasicGetMessage>, BrokerError> {
    channel
        .basic_get(queue.name().into(), BasicGetOptions::default())
        .await
        .map_err(|error| BrokerError::of(format!("looking through {queue}"), &error))
}

async fn ack(got: &BasicGetMessage, queue: Queue) -> Result<(), BrokerError> {
    let doing = || format!("taking a letter from {queue}");
    match got.delivery.acker.ack(BasicAckOptions::default()).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(BrokerError::Lost { doing: doing(), source: None }),
        Err(error) => Err(BrokerError::of(doing(), &error)),
    }
}

/// Waits until the queue has its letters back, so that a look right after this one sees them all.
/// Another walker may hold some: the wait has an end.
async fn give_back(session: &Session, queue: Queue, expected: u64) -> Result<(), BrokerError> {
    let until = Instant::now() + RETURN_TIMEOUT;
    while u64::from(session.depth(queue).await?.ready) < expected && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
