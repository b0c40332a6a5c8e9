//! A walk through a dead letter queue, step by step.

use super::{DeadLetter, RETURN_TIMEOUT};
use crate::error::BrokerError;
use crate::session::Session;
use crate::topology::Queue;
use crate::wire::envelope::left_out;
use crate::wire::room::{Returns, Share};
use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::types::FieldTable;
use lapin::{Acker, Channel, Consumer};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Letters that the broker sends ahead. The bodies of large ones come while there is room for them.
const WINDOW: u16 = 64;

/// After this without a letter the broker is asked whether there is one.
const QUIET: Duration = Duration::from_millis(500);

/// After so many times without one there is none.
const LONGEST_QUIET: u32 = 8;

/// What a walk did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Letters that were looked at or passed over.
    pub seen: u64,
    /// Letters that left the queue.
    pub taken: u64,
}

/// Takes letters without acknowledging them. Ended or dropped, it gives back all that were not taken.
pub struct Walk {
    session: Session,
    channel: Channel,
    queue: Queue,
    length: u64,
    walked: Walked,
    window: Option<Window>,
    /// The letter that was shown last, until it is taken, and what its body takes of the room.
    shown: Option<(Acker, Option<Share>)>,
    /// Letters whose bodies there was no room for.
    returns: Returns,
}

/// A consumer that gets only so many letters: then the broker waits for an acknowledgement that may
/// never come, and the next window takes its place. So letters come fast, and few are in memory.
struct Window {
    letters: Consumer,
    /// Letters that it may still get.
    room: u16,
}

impl Walk {
    /// Begins a walk through a queue. One that is dropped in the middle gives its letters back too.
    pub async fn begin(session: &Session, queue: Queue) -> Result<Self, BrokerError> {
        let length = u64::from(session.depth(queue).await?.ready);
        let channel = session.channel().await?;
        let returns = Returns::new(session.arrivals());
        let (session, walked) = (session.clone(), Walked::default());
        Ok(Self { session, channel, queue, length, walked, window: None, shown: None, returns })
    }

    /// Passes over letters from the front, without reading them.
    pub async fn skip(&mut self, count: u64) -> Result<(), BrokerError> {
        let until = self.walked.seen + count;
        // The rest of this window is for the next letters.
        self.shown = None;
        while self.walked.seen < until
            && let Some(passed) = self.receive(until - self.walked.seen).await?
        {
            self.session.arrivals().share(self.channel.id(), passed.delivery_tag);
        }
        Ok(())
    }

    /// The next letter; the one before stays, unless it was taken.
    pub async fn next(&mut self) -> Result<Option<DeadLetter>, BrokerError> {
        self.shown = None;
        while let Some(delivery) = self.receive(u64::from(WINDOW)).await? {
            let acker = delivery.acker.clone();
            if let Some(size) = left_out(&delivery.properties) {
                self.put_back(size, acker);
                continue;
            }
            let share = self.session.arrivals().share(self.channel.id(), delivery.delivery_tag);
            self.shown = Some((acker, share));
            return Ok(Some(DeadLetter::read(delivery)));
        }
        Ok(None)
    }

    /// Lets a letter whose body was left out come again, behind those that were sent with it.
    fn put_back(&mut self, size: u64, acker: Acker) {
        self.walked.seen -= 1;
        if let Some(window) = &mut self.window {
            window.room = window.room.saturating_add(1);
        }
        let queue = self.queue;
        self.returns.add(size, async move {
            let back = acker.nack(BasicNackOptions { multiple: false, requeue: true }).await;
            let doing = || format!("putting a letter back to {queue}");
            match back {
                Ok(true) => Ok(()),
                Ok(false) => Err(BrokerError::Lost { doing: doing(), source: None }),
                Err(error) => Err(BrokerError::of(doing(), &error)),
            }
        });
    }

    /// Takes the letter that was shown last out of the queue.
    pub async fn take(&mut self) -> Result<(), BrokerError> {
        let Some((acker, _share)) = self.shown.take() else { return Ok(()) };
        let doing = || format!("taking a letter from {}", self.queue);
        match acker.ack(BasicAckOptions::default()).await {
            Ok(true) => {}
            Ok(false) => return Err(BrokerError::Lost { doing: doing(), source: None }),
            Err(error) => return Err(BrokerError::of(doing(), &error)),
        }
        self.walked.taken += 1;
        if let Some(window) = &mut self.window {
            window.room = window.room.saturating_add(1);
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
        self.channel.close(200, "OK".into()).await.map_err(|error| {
            BrokerError::of(format!("returning letters to {}", self.queue), &error)
        })?;
        give_back(&self.session, self.queue, expected).await?;
        Ok(self.walked)
    }

    /// The next message. At most `most` are asked for when a new window begins.
    async fn receive(&mut self, most: u64) -> Result<Option<Delivery>, BrokerError> {
        let left = self.length.saturating_sub(self.walked.seen);
        if left == 0 {
            return Ok(None);
        }
        let queue = self.queue;
        let failed =
            |error: &lapin::Error| BrokerError::of(format!("looking through {queue}"), error);
        let room = u16::try_from(most.min(left)).unwrap_or(u16::MAX);
        let mut quiet = 0;
        let delivery = loop {
            let window = self.window(room).await.map_err(|error| failed(&error))?;
            match timeout(QUIET, window.letters.next()).await {
                Ok(Some(delivery)) => {
                    window.room = window.room.saturating_sub(1);
                    break delivery.map_err(|error| failed(&error))?;
                }
                Ok(None) => return Err(BrokerError::ConsumerGone { queue: queue.name() }),
                // Some are on their way back, the broker is slow, or others have taken some.
                Err(_) if self.returns.is_waiting() => quiet = 0,
                Err(_) if self.session.depth(queue).await?.ready > 0 => quiet = 0,
                Err(_) if quiet < LONGEST_QUIET => quiet += 1,
                Err(_) => return Ok(None),
            }
        };
        self.walked.seen += 1;
        Ok(Some(delivery))
    }

    /// A window that may still get letters.
    async fn window(&mut self, room: u16) -> Result<&mut Window, lapin::Error> {
        let window = match self.window.take() {
            Some(window) if window.room > 0 => window,
            before => {
                if let Some(Window { letters, .. }) = before {
                    let cancel = BasicCancelOptions::default();
                    self.channel.basic_cancel(letters.tag(), cancel).await?;
                }
                self.channel.basic_qos(room, BasicQosOptions::default()).await?;
                let consume = self.channel.basic_consume(
                    self.queue.name().into(),
                    "".into(),
                    BasicConsumeOptions::default(),
                    FieldTable::default(),
                );
                Window { letters: consume.await?, room }
            }
        };
        Ok(self.window.insert(window))
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
