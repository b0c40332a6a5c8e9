//! The use case of shadow mode: comparing what Fanfare sends, or would send, with what receivers got
//! from another server, and saying why it differs.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use fanfare_core::ids::{BatchKey, EventKey, WebhookId};
use fanfare_core::outcome::{DropReason, State};
use fanfare_core::parity::{
    Attributed, Compared, Comparing, Difference, Key, Ours, Post, What, compare,
};
use fanfare_core::webhook::Webhook;
use fanfare_store::StoreError;
use fanfare_store::events::EventPosition;
use fanfare_store::explain::ExplainFilter;
use fanfare_store::shadow::{ComparedDelivery, ComparedEvent};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{Actor, Context, NotAdministrator};

/// The events that are read at a time.
const PAGE: usize = 1000;
/// The most events of a comparison, all of which are in memory: about a hundred megabytes.
const MOST_EVENTS: usize = 200_000;
/// The most differences that are explained. The ledger is asked about each.
const MOST_EXPLAINED: usize = 1000;

/// What is to be compared.
#[derive(Debug)]
pub struct Wanted {
    /// The POSTs that receivers got from the other server.
    pub posts: Vec<Post>,
    /// The webhooks to compare; if it is empty, those that the POSTs were for.
    pub webhooks: Vec<WebhookId>,
    /// The time in which the receivers were recording.
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    /// How far apart the times of a notification may be.
    pub window: TimeDelta,
}

/// The result of a comparison.
#[derive(Debug)]
pub struct Parity {
    /// The number of webhooks that were compared.
    pub webhooks: usize,
    /// The notifications that the receivers got, that Fanfare sends, and that are the same.
    pub there: usize,
    pub here: usize,
    pub same: usize,
    pub differences: Vec<Explained>,
}

/// A difference with its reason.
#[derive(Debug)]
pub struct Explained {
    pub difference: Difference,
    /// The owner of the webhook.
    pub owner: Option<String>,
    /// The `CloudEvents` id of the event here.
    pub event: Option<String>,
    /// A stable code of the reason, as far as it is known.
    pub reason: Option<String>,
    /// The reason in words.
    pub detail: String,
}

/// Why nothing was compared.
#[derive(Debug, thiserror::Error)]
pub enum ShadowError {
    /// It concerns administrators only.
    #[error(transparent)]
    NotAdministrator(#[from] NotAdministrator),
    /// There is no webhook with this id.
    #[error("there is no webhook {0}")]
    UnknownWebhook(WebhookId),
    /// More events came than fit into memory.
    #[error("more than {MOST_EVENTS} events came in this time; compare a shorter time")]
    TooMany,
    /// The database did not answer, or refused the statement.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Compares. Only an operator or a System Administrator may.
///
/// # Errors
///
/// [`ShadowError`]
pub async fn parity(
    context: &Context,
    actor: &Actor,
    wanted: Wanted,
) -> Result<Parity, ShadowError> {
    actor.administrator()?;
    let all = context.store.webhooks_list(None).await?;
    let Wanted { posts, webhooks: chosen, from, to, window } = wanted;
    if let Some(unknown) = chosen.iter().find(|id| all.iter().all(|it| it.id != **id)) {
        return Err(ShadowError::UnknownWebhook(*unknown));
    }
    let is_within = |post: &Post| post.at >= from && post.at <= to;
    let posts = posts.into_iter().filter(is_within).map(|post| post.attributed(&all));
    let is_chosen = |post: &Attributed<'_>| {
        chosen.is_empty() || post.webhooks.iter().any(|it| chosen.contains(&it.id))
    };
    let posts: Vec<Attributed<'_>> = posts.filter(is_chosen).collect();
    let of_posts = posts.iter().flat_map(|it| &it.webhooks).map(|it| it.id);
    let compared: BTreeSet<WebhookId> = chosen.iter().copied().chain(of_posts).collect();
    let compared: Vec<WebhookId> = compared.into_iter().collect();
    let ledger = Ledger::read(context, &compared, (from - window, to + window)).await?;
    let comparing = Comparing { ours: &ledger.ours, posts: &posts, window, from, to };
    let Compared { there, here, same, differences } = compare(&comparing);
    let mut explained = Vec::with_capacity(differences.len());
    for (number, difference) in differences.into_iter().enumerate() {
        let why = if number < MOST_EXPLAINED {
            ledger.why(context, &difference, window).await?
        } else {
            Why { detail: "not looked up, because so much differs".to_owned(), ..Why::default() }
        };
        explained.push(why.of(difference, &all));
    }
    Ok(Parity { webhooks: compared.len(), there, here, same, differences: explained })
}

/// What the ledger has of the time that is compared.
#[derive(Default)]
struct Ledger {
    ours: Vec<Ours>,
    /// The events of `ours`, at the same positions.
    events: Vec<(EventKey, String)>,
    /// All events, by what their notifications are recognised by.
    all: HashMap<Key, Vec<Known>>,
}

/// An event with the deliveries that are compared.
struct Known {
    key: EventKey,
    id: String,
    at: DateTime<Utc>,
    deliveries: Vec<ComparedDelivery>,
}

/// The reason of a difference.
#[derive(Default)]
struct Why {
    event: Option<String>,
    reason: Option<String>,
    detail: String,
}

impl Why {
    fn of(self, difference: Difference, webhooks: &[Webhook]) -> Explained {
        let webhook = webhooks.iter().find(|it| Some(it.id) == difference.webhook);
        let owner = webhook.map(|it| it.owner.to_string());
        let Self { event, reason, detail } = self;
        Explained { difference, owner, event, reason, detail }
    }

    fn known(reason: &str, detail: &str) -> Self {
        Self { event: None, reason: Some(reason.to_owned()), detail: detail.to_owned() }
    }
}

/// Whether a delivery is sent, or would be.
fn is_ours(delivery: &ComparedDelivery) -> bool {
    let is_shadow = delivery.reason.as_deref() == Some(DropReason::Shadow.code());
    delivery.state != State::Dropped || is_shadow
}

impl Ledger {
    async fn read(
        context: &Context,
        webhooks: &[WebhookId],
        (from, until): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Self, ShadowError> {
        let mut ledger = Self::default();
        let start = EventPosition { received_at: from, batch: BatchKey(Uuid::nil()), position: -1 };
        let (mut after, mut count) = (Some(start), 0);
        while let Some(position) = after {
            let page = context.store.shadow_events(webhooks, position, until, PAGE).await?;
            count += page.events.len();
            if count > MOST_EVENTS {
                return Err(ShadowError::TooMany);
            }
            page.events.into_iter().for_each(|event| ledger.add(event));
            after = page.next;
        }
        Ok(ledger)
    }

    fn add(&mut self, event: ComparedEvent) {
        // Removed payloads are null: nothing is known of their notifications.
        let notification: Map<String, Value> =
            serde_json::from_str(&event.notification).unwrap_or_default();
        for delivery in event.deliveries.iter().filter(|it| is_ours(it)) {
            let (webhook, at) = (delivery.webhook, event.received_at);
            self.ours.push(Ours { webhook, at, notification: notification.clone() });
            self.events.push((event.key, event.id.clone()));
        }
        let ComparedEvent { key, id, received_at: at, deliveries, .. } = event;
        let known = Known { key, id, at, deliveries };
        self.all.entry(Key::of(&notification)).or_default().push(known);
    }

    /// Why there is a difference, as far as the ledger and the directory know it.
    async fn why(
        &self,
        context: &Context,
        difference: &Difference,
        window: TimeDelta,
    ) -> Result<Why, StoreError> {
        let settings = |count: &usize, text: &str| Why {
            detail: format!("{text}, in {count} POSTs"),
            ..Why::default()
        };
        Ok(match (&difference.what, difference.webhook) {
            (What::MissingHere(key), Some(webhook)) => {
                let known = self.all.get(key).into_iter().flatten();
                let distance = |known: &&Known| (known.at - difference.at).abs();
                let known = known.filter(|it| distance(it) <= window).min_by_key(distance);
                let Some(known) = known else { return Ok(no_event()) };
                not_sent(context, known, webhook).await?
            }
            (What::MissingThere(_, index), Some(webhook)) => {
                let Some((key, id)) = self.events.get(*index) else { return Ok(Why::default()) };
                planned(context, *key, id, webhook).await?
            }
            (What::Members(_, names), _) => {
                Why { detail: format!("different: {}", names.join(", ")), ..Why::default() }
            }
            (What::Secret(count), _) => settings(
                count,
                "the other server signs with a secret that the webhook does not have here",
            ),
            (What::Properties(count), _) => settings(count, "the properties are others here"),
            (What::Header(name, count), _) => settings(
                count,
                &format!("the header {name} is missing there, or has another value"),
            ),
            (What::NoWebhook(_) | What::MissingHere(_) | What::MissingThere(..), _) => Why::known(
                "no-webhook",
                "no webhook here has this address or this secret; was it imported?",
            ),
        })
    }
}

fn no_event() -> Why {
    Why::known(
        "no-event",
        "no such event was decided here; if it came, `fanfare dead-letters list --queue events` has \
         it with the reason",
    )
}

/// Why an event was not sent to a webhook.
async fn not_sent(context: &Context, known: &Known, webhook: WebhookId) -> Result<Why, StoreError> {
    let event = Some(known.id.clone());
    let delivery = known.deliveries.iter().find(|it| it.webhook == webhook);
    Ok(match delivery {
        Some(delivery) if is_ours(delivery) => {
            let text = "Fanfare sends it once, and the receiver got it more often";
            Why { event, ..Why::known("repeated", text) }
        }
        Some(ComparedDelivery { reason, detail, .. }) => {
            Why { event, reason: reason.clone(), detail: detail.clone().unwrap_or_default() }
        }
        None => planned(context, known.key, &known.id, webhook).await?,
    })
}

/// The verdict of the plan.
async fn planned(
    context: &Context,
    key: EventKey,
    id: &str,
    webhook: WebhookId,
) -> Result<Why, StoreError> {
    let filter = ExplainFilter { webhook: Some(webhook), owner: None, limit: 1 };
    let explained = context.store.explain(key, &filter).await?;
    let one = explained.and_then(|it| it.webhooks.into_iter().next());
    Ok(Why {
        event: Some(id.to_owned()),
        reason: one.as_ref().map(|it| it.explanation.verdict().to_owned()),
        detail: one.map(|it| it.explanation.detail).unwrap_or_default(),
    })
}
