//! A walk over a dead letter queue, letter by letter.

use crate::error::BrokerError;
use crate::letter::DeadLetter;
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
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

/// The letters that the broker sends ahead. Large bodies are admitted while there is room for them.
/// If more letters are returned together, not every version of RabbitMQ's quorum queues keeps their
/// order.
const WINDOW: u16 = 32;

/// The windows that are returned before a wait for the broker. Beyond 32 commands of a channel, the
/// broker combines their requests to a queue in any order (`SOFT_LIMIT` of its
/// `rabbit_fifo_client`).
const RETURNED_AT_ONCE: usize = 16;

/// How long the end of a walk waits until the broker has all returned letters.
const RETURN_TIMEOUT: Duration = Duration::from_secs(5);

/// The time without a letter after which the broker is asked whether there is one.
const QUIET: Duration = Duration::from_millis(500);

/// The number of such times after which the queue is considered empty.
const LONGEST_QUIET: u32 = 8;

/// The counts of a walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Letters that were read.
    pub seen: u64,
    /// Letters that left the queue.
    pub taken: u64,
}

/// Receives letters without acknowledging them. When it ends or is dropped, all letters that were
/// not removed return to the queue.
pub struct Walk {
    session: Session,
    channel: Channel,
    /// The queue's name.
    queue: &'static str,
    length: u64,
    walked: Walked,
    window: Option<Window>,
    /// The letter that was returned last, until it is removed.
    shown: Option<Shown>,
    /// The letters that stay, of the windows that have ended.
    kept: Vec<Kept>,
    /// Letters for whose bodies there was no room.
    returns: Returns,
    /// The number of letters in the next window. After a letter whose body was left out it is one,
    /// and then it grows, because the letters behind a body that was left out are sent twice.
    ahead: u16,
}

/// A consumer that gets a limited number of letters. Then the broker waits for an acknowledgement
/// that may never come, and the next window replaces this one. So letters arrive fast, and few of
/// them are in memory.
struct Window {
    letters: Consumer,
    /// Letters that it may still get.
    room: u16,
    kept: Kept,
}

/// Letters of a window that stay in the queue.
#[derive(Clone, Copy, Default)]
struct Kept {
    letters: u64,
    /// The delivery tag of the last one.
    last: u64,
}

/// The letter that was returned last, and the share of the room that its body has.
struct Shown {
    acker: Acker,
    tag: u64,
    _share: Option<Share>,
}

impl Walk {
    /// Begins a walk over a queue. If it is dropped in the middle, its letters return to the queue
    /// too. A queue that does not exist has no letters: a router declares it when it starts.
    pub async fn begin(session: &Session, queue: Queue) -> Result<Self, BrokerError> {
        Self::begin_named(session, queue.name()).await
    }

    /// Begins a walk over the queue of this name.
    pub(crate) async fn begin_named(
        session: &Session,
        queue: &'static str,
    ) -> Result<Self, BrokerError> {
        let length = match session.depth_of(queue).await {
            Ok(depth) => u64::from(depth.ready),
            Err(BrokerError::Missing { .. }) => 0,
            Err(error) => return Err(error),
        };
        let channel = session.channel().await?;
        let returns = Returns::new(session.arrivals());
        let (session, walked) = (session.clone(), Walked::default());
        let (window, shown, kept, ahead) = (None, None, Vec::new(), WINDOW);
        Ok(Self { session, channel, queue, length, walked, window, shown, kept, returns, ahead })
    }

    /// The next letter. The one before it stays in the queue unless it was removed.
    pub async fn next(&mut self) -> Result<Option<DeadLetter>, BrokerError> {
        self.keep_shown();
        while let Some(delivery) = self.receive(u64::from(self.ahead)).await? {
            if let Some(size) = left_out(&delivery.properties) {
                self.put_back(size, delivery.acker).await?;
                self.ahead = 1;
                continue;
            }
            if self.window.as_ref().is_some_and(|window| window.room == 0) {
                self.ahead = WINDOW.min(self.ahead * 2);
            }
            let (acker, tag) = (delivery.acker.clone(), delivery.delivery_tag);
            let share = self.session.arrivals().share(self.channel.id(), tag);
            self.shown = Some(Shown { acker, tag, _share: share });
            return Ok(Some(DeadLetter::read(delivery)));
        }
        Ok(None)
    }

    /// Returns a letter whose body was left out to the front of its queue when there is room for
    /// it. The letters behind it in this window follow it, so that all are redelivered in their
    /// order.
    async fn put_back(&mut self, size: u64, acker: Acker) -> Result<(), BrokerError> {
        let queue = self.queue;
        let lost = move || BrokerError::Lost {
            doing: format!("putting letters back to {queue}"),
            source: None,
        };
        self.walked.seen -= 1;
        let mut ackers = vec![acker];
        ackers.extend(self.end_window().await?);
        let (done, is_done) = oneshot::channel();
        self.returns.add(size, async move {
            for acker in ackers {
                let options = BasicNackOptions { multiple: false, requeue: true };
                if !acker.nack(options).await.is_ok_and(|sent| sent) {
                    return Err(lost());
                }
            }
            let _ = done.send(());
            Ok(())
        });
        is_done.await.map_err(|_| lost())
    }

    /// Ends the window when all of its letters have arrived, and returns those that were not read.
    async fn end_window(&mut self) -> Result<Vec<Acker>, BrokerError> {
        let Some(mut window) = self.window.take() else { return Ok(Vec::new()) };
        let queue = self.queue;
        let failed =
            |error: &lapin::Error| BrokerError::of(format!("looking through {queue}"), error);
        let mut rest = Vec::new();
        // Other walks may have removed some.
        while window.room > 0
            && let Ok(Some(delivery)) = timeout(QUIET, window.letters.next()).await
        {
            rest.push(delivery.map_err(|error| failed(&error))?);
            window.room -= 1;
        }
        self.cancel(&window).await.map_err(|error| failed(&error))?;
        // Letters that the broker sent before it answered.
        while let Some(delivery) = window.letters.next().await {
            rest.push(delivery.map_err(|error| failed(&error))?);
        }
        let acker = |letter: Delivery| {
            self.session.arrivals().share(self.channel.id(), letter.delivery_tag);
            letter.acker
        };
        Ok(rest.into_iter().map(acker).collect())
    }

    /// Removes the letter that was returned last from the queue.
    pub async fn take(&mut self) -> Result<(), BrokerError> {
        let Some(Shown { acker, .. }) = self.shown.take() else { return Ok(()) };
        let queue = self.queue;
        let doing = || format!("taking a letter from {queue}");
        if self.ahead < WINDOW
            && let Some(window) = self.window.take_if(|window| window.room == 0)
        {
            // The next one is larger.
            self.cancel(&window).await.map_err(|error| BrokerError::of(doing(), &error))?;
        }
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

    /// The counts so far.
    #[must_use]
    pub fn walked(&self) -> Walked {
        self.walked
    }

    /// Ends the walk. All letters that were not removed are back in the queue, in their order.
    pub async fn end(mut self) -> Result<Walked, BrokerError> {
        let (queue, expected) = (self.queue, self.length - self.walked.taken);
        let failed = |error| BrokerError::of(format!("returning letters to {queue}"), &error);
        self.keep_shown();
        if let Some(window) = self.window.take() {
            self.cancel(&window).await.map_err(failed)?;
        }
        self.give_back().await?;
        self.channel.close(200, "OK".into()).await.map_err(failed)?;
        is_back(&self.session, queue, expected).await?;
        Ok(self.walked)
    }

    /// Returns the letters that stay to the front of the queue, window by window. A channel that is
    /// closed returns its letters too, but not in the order of its consumers.
    async fn give_back(&self) -> Result<(), BrokerError> {
        let mut expected = u64::from(self.session.depth_of(self.queue).await?.ready);
        let mut are_alone = true;
        for windows in self.kept.chunks(RETURNED_AT_ONCE) {
            for kept in windows {
                let options = BasicNackOptions { multiple: true, requeue: true };
                self.channel.basic_nack(kept.last, options).await.map_err(|error| {
                    BrokerError::of(format!("returning letters to {}", self.queue), &error)
                })?;
                expected += kept.letters;
            }
            // If others remove letters in the meantime, there is no order to keep.
            are_alone = are_alone && is_back(&self.session, self.queue, expected).await?;
        }
        Ok(())
    }

    /// Lets the letter that was returned last stay.
    fn keep_shown(&mut self) {
        if let Some(shown) = self.shown.take() {
            self.keep(shown.tag);
        }
    }

    /// Lets a letter of this window stay.
    fn keep(&mut self, tag: u64) {
        if let Some(window) = &mut self.window {
            window.kept = Kept { letters: window.kept.letters + 1, last: tag };
        }
    }

    /// The next message. A new window requests at most `most` messages.
    async fn receive(&mut self, most: u64) -> Result<Option<Delivery>, BrokerError> {
        let left = self.length.saturating_sub(self.walked.seen);
        if left == 0 {
            return Ok(None);
        }
        let queue = self.queue;
        let failed =
            |error: &lapin::Error| BrokerError::of(format!("looking through {queue}"), error);
        let room = u16::try_from(most.min(left)).map_or(WINDOW, |most| most.min(WINDOW));
        let mut quiet = 0;
        let delivery = loop {
            let window = self.window(room).await.map_err(|error| failed(&error))?;
            match timeout(QUIET, window.letters.next()).await {
                Ok(Some(delivery)) => {
                    window.room = window.room.saturating_sub(1);
                    break delivery.map_err(|error| failed(&error))?;
                }
                Ok(None) => return Err(BrokerError::ConsumerGone { queue }),
                // Some are about to be redelivered, the broker is slow, or others have removed
                // some.
                Err(_) if self.returns.is_waiting() => quiet = 0,
                Err(_) if self.session.depth_of(queue).await?.ready > 0 => quiet = 0,
                Err(_) if quiet < LONGEST_QUIET => quiet += 1,
                Err(_) => return Ok(None),
            }
        };
        self.walked.seen += 1;
        Ok(Some(delivery))
    }

    /// The present window if it may still get letters, or a new one.
    async fn window(&mut self, room: u16) -> Result<&mut Window, lapin::Error> {
        let window = match self.window.take() {
            Some(window) if window.room > 0 => window,
            before => {
                if let Some(window) = before {
                    self.cancel(&window).await?;
                }
                self.channel.basic_qos(room, BasicQosOptions::default()).await?;
                let consume = self.channel.basic_consume(
                    self.queue.into(),
                    "".into(),
                    BasicConsumeOptions::default(),
                    FieldTable::default(),
                );
                Window { letters: consume.await?, room, kept: Kept::default() }
            }
        };
        Ok(self.window.insert(window))
    }

    /// Ends a window's consumer. Its letters stay with the channel.
    async fn cancel(&mut self, window: &Window) -> Result<(), lapin::Error> {
        self.kept.extend(Some(window.kept).filter(|kept| kept.letters > 0));
        self.channel.basic_cancel(window.letters.tag(), BasicCancelOptions::default()).await
    }
}

/// Waits until the queue has its letters back, so that the next walk sees all of them. Another walk
/// may hold some, so the wait has a time-out. Returns whether they are back.
async fn is_back(
    session: &Session,
    queue: &'static str,
    expected: u64,
) -> Result<bool, BrokerError> {
    let until = Instant::now() + RETURN_TIMEOUT;
    while u64::from(session.depth_of(queue).await?.ready) < expected {
        if Instant::now() >= until {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(true)
}
