//! The receivers: one server for all webhooks, which remembers every POST.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanfare_core::ids::DeliveryId;
use fanfare_testkit::receiver::{Receiver, Request};
use serde_json::Value;

use crate::clock::{Time, now};
use crate::mood::{BUSY_INTERVAL, Mood};
use crate::world::{WEBHOOKS, Webhook};

/// A POST that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) at: Time,
    pub(crate) webhook: Webhook,
    pub(crate) id: DeliveryId,
    pub(crate) attempt: u32,
    /// The numbers of its events.
    pub(crate) events: Vec<usize>,
    pub(crate) mood: Mood,
}

#[derive(Default)]
struct Record {
    posts: Mutex<Vec<Post>>,
    /// POSTs that no webhook of the run can have sent.
    strange: Mutex<Vec<String>>,
    /// When a busy receiver last accepted a notification.
    accepted: Mutex<HashMap<Webhook, Instant>>,
    /// Whether every receiver is well.
    calm: AtomicBool,
}

impl Record {
    /// The mood in which the receiver of a webhook meets a request.
    fn mood(&self, seed: u64, webhook: Webhook, time: Duration) -> Mood {
        if self.calm.load(Ordering::SeqCst) {
            return Mood::Well;
        }
        let mood = Mood::at(seed, webhook, time);
        let mut accepted = lock(&self.accepted);
        let is_free = accepted.get(&webhook).is_none_or(|at| at.elapsed() >= BUSY_INTERVAL);
        if mood == Mood::Busy && is_free {
            accepted.insert(webhook, Instant::now());
            return Mood::Well;
        }
        mood
    }
}

/// The receivers of all webhooks.
pub(crate) struct Sink {
    receiver: Receiver,
    record: Arc<Record>,
}

impl Sink {
    /// Starts the receivers, whose moods follow from the seed.
    pub(crate) async fn start(seed: u64) -> Self {
        let receiver = Receiver::start().await;
        receiver.keep_no_requests();
        let record = Arc::new(Record::default());
        let (shared, began) = (Arc::clone(&record), Instant::now());
        receiver.answer_with(move |request, _| {
            let mood = |webhook| shared.mood(seed, webhook, began.elapsed());
            let Some(post) = post(request, mood) else {
                lock(&shared.strange).push(format!("{} {}", request.method, request.path));
                return Mood::Well.reply();
            };
            let mood = post.mood;
            lock(&shared.posts).push(post);
            mood.reply()
        });
        Self { receiver, record }
    }

    pub(crate) fn addr(&self) -> std::net::SocketAddr {
        self.receiver.addr()
    }

    /// Makes every receiver well from now on.
    pub(crate) fn calm(&self) {
        self.record.calm.store(true, Ordering::SeqCst);
    }

    pub(crate) fn count(&self) -> usize {
        lock(&self.record.posts).len()
    }

    /// All POSTs so far, in the order in which they arrived.
    pub(crate) fn posts(&self) -> Vec<Post> {
        lock(&self.record.posts).clone()
    }

    /// Requests that were none of the run's.
    pub(crate) fn strange(&self) -> Vec<String> {
        lock(&self.record.strange).clone()
    }
}

/// The path of a webhook.
pub(crate) fn path(webhook: Webhook) -> String {
    format!("/{webhook}")
}

fn post(request: &Request, mood: impl Fn(Webhook) -> Mood) -> Option<Post> {
    let webhook: Webhook = request.path.strip_prefix('/')?.parse().ok()?;
    let body: Value = serde_json::from_slice(&request.body).ok()?;
    let number = |it: &Value| it["Number"].as_u64().and_then(|it| usize::try_from(it).ok());
    let events: Option<Vec<usize>> = body["Notifications"].as_array()?.iter().map(number).collect();
    (webhook < WEBHOOKS).then_some(Post {
        at: now(),
        webhook,
        id: body["Id"].as_str()?.parse().ok()?,
        attempt: body["Attempt"].as_u64()?.try_into().ok()?,
        events: events?,
        mood: mood(webhook),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
