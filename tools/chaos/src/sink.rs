//! The receivers: one server for all webhooks, which remembers every POST.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use fanfare_core::ids::DeliveryId;
use fanfare_testkit::receiver::{Receiver, Request};
use serde_json::Value;

use crate::clock::{Time, now};
use crate::mood::Mood;
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
struct Seen {
    posts: Mutex<Vec<Post>>,
    /// POSTs that no webhook of the run can have sent.
    strange: Mutex<Vec<String>>,
    /// Whether every receiver is well.
    calm: AtomicBool,
}

/// The receivers of all webhooks.
pub(crate) struct Sink {
    receiver: Receiver,
    seen: Arc<Seen>,
}

impl Sink {
    /// Starts the receivers, whose moods follow from the seed.
    pub(crate) async fn start(seed: u64) -> Self {
        let receiver = Receiver::start().await;
        receiver.keep_no_requests();
        let seen = Arc::new(Seen::default());
        let (shared, began) = (Arc::clone(&seen), Instant::now());
        receiver.answer_with(move |request, _| {
            let mood = |webhook| match shared.calm.load(Ordering::SeqCst) {
                true => Mood::Well,
                false => Mood::at(seed, webhook, began.elapsed()),
            };
            match post(request, mood) {
                Some(post) => {
                    let mood = post.mood;
                    lock(&shared.posts).push(post);
                    mood.reply()
                }
                None => {
                    lock(&shared.strange).push(format!("{} {}", request.method, request.path));
                    Mood::Well.reply()
                }
            }
        });
        Self { receiver, seen }
    }

    pub(crate) fn addr(&self) -> std::net::SocketAddr {
        self.receiver.addr()
    }

    /// Makes every receiver well from now on.
    pub(crate) fn calm(&self) {
        self.seen.calm.store(true, Ordering::SeqCst);
    }

    pub(crate) fn count(&self) -> usize {
        lock(&self.seen.posts).len()
    }

    /// All POSTs so far, in the order in which they arrived.
    pub(crate) fn posts(&self) -> Vec<Post> {
        lock(&self.seen.posts).clone()
    }

    /// Requests that were none of the run's.
    pub(crate) fn strange(&self) -> Vec<String> {
        lock(&self.seen.strange).clone()
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
