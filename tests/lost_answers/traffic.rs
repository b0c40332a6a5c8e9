//! Traffic that uses every statement: retries, deferrals, large events, batches, lost jobs, changes
//! of the directory, webhooks whose receiver is gone, and dead deliveries that are sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanfare_testkit::amqp::Amqp;
use fanfare_testkit::receiver::{Receiver, Reply, Request};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::world::{World, publish_on};

/// The time between two rounds of events.
const ROUND: Duration = Duration::from_millis(400);

/// The owners. Each has a webhook path and a task of the same name.
const OWNERS: [&str; 6] = ["anna", "rob", "rhea", "gina", "dora", "lena"];

/// A size that no inline job carries.
const LARGE: usize = 100_000;

/// The expected end of an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Arrives,
    /// Either, depending on the time of the attempt.
    MayArrive,
    /// It must not arrive, since its owner may not read it.
    Forbidden,
}

struct Published {
    at: Instant,
    fate: Fate,
}

/// Whether an event's job was never published, so that a reconciler has to find it.
fn is_lost_job(event: &str) -> bool {
    event.starts_with("lost")
}

/// An event that did not end as expected.
pub(crate) struct Wrong {
    event: String,
    pub(crate) published: Instant,
    what: String,
}

impl Wrong {
    /// Whether a reconciler had to find it.
    pub(crate) fn is_lost_job(&self) -> bool {
        is_lost_job(&self.event)
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.event, self.what)
    }
}

pub(crate) struct Traffic {
    receiver: Receiver,
    report_server: Amqp,
    dead: String,
    published: Mutex<BTreeMap<String, Published>>,
    /// Whether published events are expected to arrive.
    counts: AtomicBool,
}

impl Traffic {
    pub(crate) async fn new(world: &World) -> Self {
        let receiver = Receiver::start().await;
        receiver.answer_with(|request, _| Reply::status(answer(request)));
        let mut webhooks = BTreeMap::new();
        for owner in OWNERS {
            let more: &[&str] = if owner == "rhea" { &["--rate-limit", "120"] } else { &[] };
            let url = receiver.url(&format!("/{owner}"));
            webhooks.insert(owner, world.webhook_of(owner, &url, more).await);
        }
        let report_server = Amqp::connect(&world.report_server_url()).await.unwrap();
        let dead = webhooks["dora"].clone();
        Self {
            receiver,
            report_server,
            dead,
            published: Mutex::default(),
            counts: AtomicBool::new(true),
        }
    }

    /// Publishes until `work` is done.
    pub(crate) async fn run_during(&self, world: &World, work: impl Future<Output = ()>) {
        tokio::pin!(work);
        let mut revision = 0;
        for owner in OWNERS {
            revision += 1;
            self.directory(revision, owner, true).await;
        }
        for round in 0_usize.. {
            self.round(world, round, &mut revision).await;
            if tokio::time::timeout(ROUND, &mut work).await.is_ok() {
                return;
            }
        }
    }

    async fn round(&self, world: &World, round: usize, revision: &mut i64) {
        self.one("anna", round, 10).await;
        self.one("rob", round, if round.is_multiple_of(5) { LARGE } else { 10 }).await;
        if round.is_multiple_of(5) {
            self.one("anna", round + 1_000_000, LARGE).await;
            self.batch(round).await;
            let lena_reads = round.is_multiple_of(2);
            *revision += 1;
            self.directory(*revision, "lena", lena_reads).await;
            let event = event("lena", round, 10, Some(*revision));
            // A later change may revoke what is attempted late, and grants nothing.
            let fate = if lena_reads { Fate::MayArrive } else { Fate::Forbidden };
            self.publish(&event, fate).await;
        }
        if round.is_multiple_of(8) {
            for n in 0..4 {
                self.one("rhea", round + n, 10).await;
            }
        }
        if round.is_multiple_of(3) && round > 0 {
            self.lost_job(world, round);
        }
        if round.is_multiple_of(10) {
            self.one("dora", round, 10).await;
            self.resend(world).await;
        }
        if round.is_multiple_of(6) {
            // The webhook was paused when its receiver answered 410.
            let again = "update webhooks set paused = false, paused_reason = null where paused";
            world.sql(again);
            self.one("gina", round, 10).await;
        }
    }

    /// Events that are published from now on are only load, and need not arrive.
    pub(crate) fn is_light_load_from_now(&self) {
        self.counts.store(false, Ordering::Relaxed);
    }

    /// Publishes an event that should arrive.
    async fn one(&self, owner: &str, number: usize, size: usize) {
        // An event for a paused webhook is not sent.
        let fate = if owner == "gina" { Fate::MayArrive } else { Fate::Arrives };
        self.publish(&event(owner, number, size, None), fate).await;
    }

    /// Inserts an event that a router stored five minutes ago, and whose job it did not publish
    /// before it died. A reconciler finds it.
    fn lost_job(&self, world: &World, number: usize) {
        let event = event("lost", number, 0, None);
        let id = event["id"].as_str().unwrap();
        let insert = format!(
            "insert into events (key, batch, position, source, event_id, event_type, subject,
                                 decided_revision, notification, webhooks, received_at, look_at)
             select k, k, 0, source, '{id}', event_type, subject, decided_revision,
                    replace(notification, event_id, '{id}'), webhooks,
                    now() - interval '5 minutes', now()
             from gen_random_uuid() as k, events where event_id = 'anna-0'
             returning 'inserted'"
        );
        if world.sql(&insert).starts_with("inserted") {
            self.note(&event, Fate::Arrives);
        }
    }

    async fn publish(&self, event: &Value, fate: Fate) {
        self.note(event, fate);
        publish_on(&self.report_server, event).await;
    }

    async fn batch(&self, round: usize) {
        let events: Vec<Value> =
            (0..3).map(|n| event("anna", round * 10 + n + 2_000_000, 10, None)).collect();
        for event in &events {
            self.note(event, Fate::Arrives);
        }
        let (body, kind) = (json!(events).to_string(), "application/cloudevents-batch+json");
        self.report_server
            .publish("reportserver.events", "tasks.execute", kind, &[], body.as_bytes())
            .await
            .unwrap();
    }

    fn note(&self, event: &Value, fate: Fate) {
        let id = event["id"].as_str().unwrap().to_owned();
        let is_load = fate == Fate::Arrives && !self.counts.load(Ordering::Relaxed);
        let fate = if is_load { Fate::MayArrive } else { fate };
        self.lock().insert(id, Published { at: Instant::now(), fate });
    }

    async fn directory(&self, revision: i64, name: &str, reads: bool) {
        let permission = json!({ "access": ["read"], "scope": "task", "target": name });
        let permissions = if reads { vec![permission] } else { Vec::new() };
        let document = json!({
            "specversion": "1.0", "id": format!("d{revision}"), "source": "/tests",
            "type": "directory.user", "accessrevision": revision,
            "data": { "name": name, "roles": [], "permissions": permissions }
        });
        publish_on(&self.report_server, &document).await;
    }

    /// Retries the dead deliveries.
    async fn resend(&self, world: &World) {
        let dead = ["deliveries", "list", "--webhook", &self.dead, "--state", "dead"];
        for delivery in world.json(&dead).await.as_array().unwrap() {
            world.fanfare(&["deliveries", "retry", delivery["id"].as_str().unwrap()]).await;
        }
    }

    /// Waits until every expected event has arrived, but not for longer than `time`.
    pub(crate) async fn arrives(&self, world: &World, time: Duration) {
        let until = Instant::now() + time;
        eventually("all has arrived, or the time is over", time * 2, async || {
            self.resend(world).await;
            self.missing().is_empty() || Instant::now() > until
        })
        .await;
    }

    /// The expected events that have not arrived.
    fn missing(&self) -> Vec<String> {
        let arrived = self.arrived();
        let published = self.lock();
        let is_missing = |(id, it): &(&String, &Published)| {
            it.fate == Fate::Arrives && !arrived.contains_key(*id)
        };
        published.iter().filter(is_missing).map(|(id, _)| id.clone()).collect()
    }

    /// The events that did not arrive in time, arrived although they must not, or arrived twice.
    /// For jobs that were never published, the time counts from `calm`, if it is later: a
    /// reconciler publishes nothing until the database has answered for a while, and faults hit it
    /// several times a second.
    pub(crate) fn wrong(&self, time: Duration, calm: Instant) -> Vec<Wrong> {
        let arrived = self.arrived();
        let mut wrong = Vec::new();
        let published = self.lock();
        let mut say = |event: &str, what: String| {
            let published = published.get(event).map_or_else(Instant::now, |it| it.at);
            wrong.push(Wrong { event: event.to_owned(), published, what });
        };
        for (id, it) in published.iter() {
            let from = if is_lost_job(id) { it.at.max(calm) } else { it.at };
            match arrived.get(id) {
                None if it.fate == Fate::Arrives => say(id, "it did not arrive".to_owned()),
                Some(at) if it.fate == Fate::Arrives && at.duration_since(from) > time => {
                    say(id, format!("it took {:?}", at.duration_since(from)));
                }
                Some(_) if it.fate == Fate::Forbidden => {
                    say(id, "its owner may not read it".to_owned());
                }
                _ => {}
            }
        }
        let mut seen = BTreeSet::new();
        for request in self.receiver.requests() {
            let body = body(&request);
            if !seen.insert((body["Id"].to_string(), body["Attempt"].to_string())) {
                let id = ids(&body).next().unwrap_or_default();
                say(&id, format!("attempt {} came twice", body["Attempt"]));
            }
        }
        wrong
    }

    /// The times at which the events were published.
    pub(crate) fn published(&self) -> Vec<Instant> {
        self.lock().values().map(|it| it.at).collect()
    }

    /// The time at which each event was accepted by its receiver.
    fn arrived(&self) -> BTreeMap<String, Instant> {
        let mut arrived = BTreeMap::new();
        for request in self.receiver.requests() {
            if matches!(answer(&request), 200 | 410) {
                for id in ids(&body(&request)) {
                    arrived.entry(id).or_insert(request.at);
                }
            }
        }
        arrived
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Published>> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The receivers' answers: some accept an event at once, some at the third attempt, one is gone,
/// and one accepts only deliveries that were dead and are sent again.
fn answer(request: &Request) -> u16 {
    let attempt = body(request)["Attempt"].as_i64().unwrap_or_default();
    match request.path.trim_start_matches('/') {
        "rob" if attempt < 3 => 500,
        "dora" if attempt < 5 => 500,
        "gina" => 410,
        _ => 200,
    }
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

/// The events of a POST.
fn ids(body: &Value) -> impl Iterator<Item = String> {
    let notifications = body["Notifications"].as_array().cloned().unwrap_or_default();
    notifications.into_iter().map(|it| it["Event"].as_str().unwrap_or_default().to_owned())
}

fn event(owner: &str, number: usize, size: usize, revision: Option<i64>) -> Value {
    let id = format!("{owner}-{number}");
    let mut event = json!({
        "specversion": "1.0", "id": id, "source": "/tests", "type": "tasks.execute",
        "subject": format!("tasks/{owner}"),
        "data": { "Id": owner, "Event": id, "Padding": "x".repeat(size) }
    });
    if let Some(revision) = revision {
        event["accessrevision"] = json!(revision);
    }
    event
}
