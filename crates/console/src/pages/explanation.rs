//! Why webhooks got an event, or did not: for administrators on the event's page, and for owners on a page
//! of their own webhook.

use askama::Template;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use fanfare_app::Actor;
use fanfare_app::events::{self, EventError, Explanation, may_know};
use fanfare_app::json::explanation::detail_seen_by;
use fanfare_core::resource::Resource;
use fanfare_store::events::EventSummary;
use fanfare_store::explain::{ExplainFilter, Explained, WebhookExplained};

use super::WEBHOOKS;
use super::components::Moment;
use super::deliveries::query;
use super::error::PageError;
use super::fields;
use super::page::{Frame, page};
use super::text;
use super::visitor::{Id, Visitor};
use crate::app::{App, Shared};

/// A webhook's verdict on an event.
pub(super) struct Verdict {
    pub(super) webhook: String,
    pub(super) webhook_path: String,
    pub(super) owner: String,
    pub(super) is_sent: bool,
    pub(super) label: String,
    pub(super) detail: String,
    /// The state of the delivery with the class of its badge, and the delivery's path.
    pub(super) delivery: Option<((&'static str, &'static str), String)>,
}

/// The verdicts on an event as the actor may see them.
pub(super) fn verdicts(actor: &Actor, explained: &Explained) -> Vec<Verdict> {
    explained.webhooks.iter().map(|one| verdict(actor, one)).collect()
}

fn verdict(actor: &Actor, one: &WebhookExplained) -> Verdict {
    let path = format!("{WEBHOOKS}/{}", one.webhook);
    let code = one.explanation.verdict();
    Verdict {
        webhook: one.webhook.to_string(),
        owner: one.owner.clone(),
        is_sent: code == "sent",
        label: text::verdict(code).to_owned(),
        detail: text::sentence(detail_seen_by(actor, one)),
        delivery: one.delivery.as_ref().map(|sent| {
            let delivery = format!("{path}/deliveries/{}", sent.id);
            (text::state(sent.state), delivery)
        }),
        webhook_path: path,
    }
}

#[derive(Template)]
#[template(path = "explain.html")]
struct Explain {
    frame: Frame,
    /// The webhook's path and URL.
    webhook: String,
    url: String,
    asked: String,
    /// What was asked about is a resource.
    is_resource: bool,
    problem: Option<String>,
    events: Vec<Answered>,
}

/// An event with the webhook's verdict on it.
struct Answered {
    /// The event, unless the visitor may not know of it.
    event: Option<Known>,
    verdict: Verdict,
}

/// An event that the visitor may know of.
struct Known {
    id: String,
    event_type: String,
    subject: String,
    received_at: Moment,
    /// The page of the event, for administrators.
    path: Option<String>,
}

/// What an owner asks about, and the answer.
enum Answer {
    Explanations(Vec<Explanation>),
    Problem(String),
}

/// `GET`: explains an event, or the newest events of a resource, for one webhook.
pub(crate) async fn show(
    State(app): State<Shared>,
    visitor: Visitor,
    Id(id): Id,
    uri: Uri,
) -> Result<Response, PageError> {
    let webhook = visitor.webhook(&app, id).await?;
    let query = query(&uri);
    let (asked, source) = (query.text("about").replace('\0', ""), query.text("source").to_owned());
    let actor = visitor.actor();
    let resource = Resource::parse(&asked).ok();
    let filter = ExplainFilter { webhook: Some(id), owner: None, limit: 1 };
    let answer = if asked.is_empty() {
        Answer::Explanations(Vec::new())
    } else {
        answer(&app, &actor, &asked, (&source, resource.clone()), filter).await?
    };
    let (explanations, problem) = match answer {
        Answer::Explanations(explanations) => (explanations, None),
        Answer::Problem(problem) => (Vec::new(), Some(problem)),
    };
    let shown = Explain {
        frame: visitor.frame(),
        webhook: format!("{WEBHOOKS}/{id}"),
        url: webhook.uri.as_str().to_owned(),
        asked,
        is_resource: resource.is_some(),
        problem,
        events: explanations.iter().filter_map(|it| explained(&actor, it)).collect(),
    };
    Ok(page(StatusCode::OK, &shown))
}

async fn answer(
    app: &App,
    actor: &Actor,
    asked: &str,
    (source, resource): (&str, Option<Resource>),
    filter: ExplainFilter,
) -> Result<Answer, PageError> {
    let webhook = filter.webhook;
    let source = Some(source).filter(|source| !source.is_empty());
    if let (Some(resource), Some(webhook)) = (resource, webhook) {
        let found = events::explain_resource(&app.context, actor, resource, webhook).await?;
        return Ok(if found.is_empty() {
            Answer::Problem(
                "No event about this resource was received in the last 7 days that the webhook’s \
                 owner may know of: there was none, or its owner may not read the resource."
                    .to_owned(),
            )
        } else {
            Answer::Explanations(found)
        });
    }
    match events::explain(&app.context, actor, asked, source, filter).await {
        Ok(explanation) => Ok(Answer::Explanations(vec![explanation])),
        Err(EventError::Unknown) => Ok(Answer::Problem(
            "There is no event with this id. It was not received yet, it is a dead letter, or it is \
             too old."
                .to_owned(),
        )),
        Err(EventError::Ambiguous(sources)) => Ok(Answer::Problem(format!(
            "Several sources have an event with this id: {}. Choose a source.",
            sources.join(", ")
        ))),
        Err(error) => Err(error.into()),
    }
}

fn explained(actor: &Actor, explanation: &Explanation) -> Option<Answered> {
    let one = explanation.explained.webhooks.first()?;
    let is_known = actor.is_administrator() || may_know(one);
    let event = is_known.then(|| known(actor, &explanation.event));
    Some(Answered { event, verdict: verdict(actor, one) })
}

fn known(actor: &Actor, event: &EventSummary) -> Known {
    Known {
        id: event.id.clone(),
        event_type: event.event_type.clone(),
        subject: event.subject.clone(),
        received_at: Moment(event.received_at),
        path: actor.is_administrator().then(|| event_path(event)),
    }
}

/// The path of an event's page.
pub(super) fn event_path(event: &EventSummary) -> String {
    fields::path("/events/event", &[("id", &event.id), ("source", &event.source)])
}

impl From<EventError> for PageError {
    fn from(error: EventError) -> Self {
        match error {
            EventError::NotAdministrator(_)
            | EventError::Unknown
            | EventError::UnknownWebhook
            | EventError::Ambiguous(_) => Self::Unknown,
            EventError::Store(error) => error.into(),
        }
    }
}
