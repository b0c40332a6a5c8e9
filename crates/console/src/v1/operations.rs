//! Every operation of the APIs, as the description tells of it.

/// An operation.
pub(crate) struct Operation {
    /// Under which heading people look for it.
    pub(crate) tag: &'static str,
    /// In lower case.
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) summary: &'static str,
    /// More about it; may be empty.
    pub(crate) about: &'static str,
    /// Parameters of the query.
    pub(crate) query: &'static [Parameter],
    /// The schema of the body, if it takes one.
    pub(crate) body: Option<&'static str>,
    pub(crate) success: Success,
    /// The statuses of its failures, those of every operation apart.
    pub(crate) failures: &'static [u16],
}

/// A parameter of a query.
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    /// Its JSON type, or a format of texts.
    pub(crate) kind: &'static str,
    pub(crate) about: &'static str,
}

/// The answer when all went well.
pub(crate) struct Success {
    pub(crate) status: u16,
    pub(crate) about: &'static str,
    pub(crate) shape: Shape,
}

/// What a body holds.
pub(crate) enum Shape {
    /// Nothing.
    Empty,
    /// One of a schema.
    One(&'static str),
    /// An array of a schema.
    Array(&'static str),
    /// A page of a schema.
    Page(&'static str),
    /// All that was found of a schema, and whether that is all.
    Found(&'static str),
}

const fn p(name: &'static str, kind: &'static str, about: &'static str) -> Parameter {
    Parameter { name, kind, about }
}

const fn ok(status: u16, about: &'static str, shape: Shape) -> Success {
    Success { status, about, shape }
}

const LIMIT: Parameter = p("limit", "integer", "At most so many, 1 to 1000; 100 when left out.");
const CURSOR: Parameter = p("cursor", "string", "The `next` of the page before.");
const WEBHOOK: Parameter = p("webhook", "string", "Only of this webhook, by its id.");
const OWNER: Parameter =
    p("owner", "string", "Only of this user's webhooks; others' for System Administrators.");
const SOURCE: Parameter = p("source", "string", "The event's source, when several have its id.");
const USER: Parameter = p("user", "string", "`all`, or a user's name; for System Administrators.");

const TOKENS: &str = "Tokens";
const REGISTRATIONS: &str = "Webhooks";
const UPKEEP: &str = "Webhooks: upkeep";
const DELIVERIES: &str = "Deliveries";
const EVENTS: &str = "Events";
const DEAD: &str = "Dead letters";
const NUMBERS: &str = "Statistics";

const PLAIN: Operation = Operation {
    tag: "",
    method: "get",
    path: "",
    summary: "",
    about: "",
    query: &[],
    body: None,
    success: ok(200, "Done.", Shape::Empty),
    failures: &[],
};

/// All operations.
pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        tag: TOKENS,
        method: "post",
        path: "/Token",
        summary: "Sign in",
        about: "The form has `grant_type=password`, `username` and `password`. Failures are \
                OAuth error objects.",
        body: Some("TokenRequest"),
        success: ok(200, "An access token.", Shape::One("AccessToken")),
        failures: &[400, 429],
        ..PLAIN
    },
    Operation {
        tag: REGISTRATIONS,
        path: "/api/webhooks/filters",
        summary: "List what webhooks can ask for",
        success: ok(200, "`*` and the five kinds of events.", Shape::Array("Filter")),
        ..PLAIN
    },
    Operation {
        tag: REGISTRATIONS,
        path: "/api/webhooks/registrations",
        summary: "List webhooks",
        query: &[USER],
        success: ok(200, "The caller's own, or those asked for.", Shape::Array("WebHook")),
        failures: &[403],
        ..PLAIN
    },
    Operation {
        tag: REGISTRATIONS,
        method: "post",
        path: "/api/webhooks/registrations",
        summary: "Register a webhook",
        about: "Its address is asked to echo a text first, unless it has the parameter `noecho`.",
        body: Some("WebHookRequest"),
        success: ok(201, "The webhook; `Location` names it.", Shape::One("WebHook")),
        failures: &[400],
        ..PLAIN
    },
    Operation {
        tag: REGISTRATIONS,
        method: "delete",
        path: "/api/webhooks/registrations",
        summary: "Delete all webhooks of the caller's",
        ..PLAIN
    },
    Operation {
        tag: REGISTRATIONS,
        path: "/api/webhooks/registrations/{id}",
        summary: "Show a webhook",
        success: ok(200, "The webhook.", Shape::One("WebHook")),
        failures: &[404],
        ..PLAIN
    },
    Operation {
        tag: REGISTRATIONS,
        method: "put",
        path: "/api/webhooks/registrations/{id}",
        summary: "Change a webhook as a whole",
        body: Some("WebHookRequest"),
        failures: &[400, 404],
        ..PLAIN
    },
    Operation {
        tag: REGISTRATIONS,
        method: "delete",
        path: "/api/webhooks/registrations/{id}",
        summary: "Delete a webhook",
        failures: &[404],
        ..PLAIN
    },
    Operation {
        tag: UPKEEP,
        path: "/api/v1/webhooks/{id}",
        summary: "Show how fast a webhook gets its notifications",
        about: "What else there is to a webhook, its registration has.",
        success: ok(200, "The webhook.", Shape::One("Webhook")),
        failures: &[404],
        ..PLAIN
    },
    Operation {
        tag: UPKEEP,
        method: "patch",
        path: "/api/v1/webhooks/{id}",
        summary: "Limit the attempts a minute",
        about: "The limit counts for the webhook as a whole, however many workers there are. What \
                exceeds it waits, without counting as an attempt.",
        body: Some("WebhookChange"),
        success: ok(200, "The webhook as it is now.", Shape::One("Webhook")),
        failures: &[400, 404],
        ..PLAIN
    },
    Operation {
        tag: UPKEEP,
        method: "post",
        path: "/api/v1/webhooks/{id}/test",
        summary: "Send a test event",
        about: "The event takes the way of every event, to this webhook alone. It is about \
                something that the owner may read, of a kind that the webhook asks for; without \
                such a thing it is refused, as no event would be sent.",
        success: ok(202, "It is on its way.", Shape::One("Tested")),
        failures: &[404, 409, 429],
        ..PLAIN
    },
    Operation {
        tag: UPKEEP,
        method: "post",
        path: "/api/v1/webhooks/{id}/secret",
        summary: "Replace the secret",
        about: "Until `previousUntil` the old secret signs too, in a further entry of \
                `webhook-signature`; `ms-signature` has room for the new one alone.",
        body: Some("Rotation"),
        success: ok(200, "The new secret.", Shape::One("Rotated")),
        failures: &[400, 404],
        ..PLAIN
    },
    Operation {
        tag: UPKEEP,
        method: "post",
        path: "/api/v1/webhooks/{id}/retry-failed",
        summary: "Attempt again what is dead",
        about: "It goes on by itself, step by step, the oldest first. A webhook has one such \
                resend at a time: while one goes on, that one is answered. A user has at most 5.",
        query: &[
            p("since", "date-time", "Only what began at this time or later."),
            p("dryRun", "boolean", "Only count; answered with 200."),
        ],
        success: ok(202, "The resend has begun.", Shape::One("RetriedFailed")),
        failures: &[400, 404, 409],
        ..PLAIN
    },
    Operation {
        tag: UPKEEP,
        path: "/api/v1/webhooks/{id}/retry-failed",
        summary: "Show how far the newest resend has come",
        success: ok(200, "The resend.", Shape::One("Resend")),
        failures: &[404],
        ..PLAIN
    },
    Operation {
        tag: UPKEEP,
        method: "delete",
        path: "/api/v1/webhooks/{id}/retry-failed",
        summary: "Cancel the resend that goes on",
        about: "What was not begun stays dead. A resend that has ended stays as it is.",
        success: ok(200, "The resend.", Shape::One("Resend")),
        failures: &[404],
        ..PLAIN
    },
    Operation {
        tag: DELIVERIES,
        path: "/api/v1/deliveries",
        summary: "List deliveries, the newest first",
        about: "The dead and dropped are in the order in which their last chain of attempts \
                began; that is later for those that were begun again.",
        query: &[
            WEBHOOK,
            p("event", "string", "Only of the event with this id of its publisher."),
            OWNER,
            p("state", "string", "`pending`, `retrying`, `delivered`, `dropped` or `dead`."),
            p("since", "date-time", "Only what was taken in at this time or later."),
            p("until", "date-time", "Only what was taken in before this time."),
            LIMIT,
            CURSOR,
        ],
        success: ok(200, "A page.", Shape::Page("Delivery")),
        failures: &[400, 403],
        ..PLAIN
    },
    Operation {
        tag: DELIVERIES,
        path: "/api/v1/deliveries/{id}",
        summary: "Show a delivery with its attempts",
        success: ok(200, "The delivery.", Shape::One("Delivery")),
        failures: &[404],
        ..PLAIN
    },
    Operation {
        tag: DELIVERIES,
        method: "post",
        path: "/api/v1/deliveries/{id}/retry",
        summary: "Attempt a delivery again now",
        success: ok(202, "It is on its way.", Shape::One("Retried")),
        failures: &[404, 409],
        ..PLAIN
    },
    Operation {
        tag: EVENTS,
        path: "/api/v1/events",
        summary: "List events, the newest first",
        about: "For System Administrators.",
        query: &[
            p("type", "string", "Only of this type or filter, such as `reports.upload`."),
            p("subject", "string", "Only of this resource, by its path."),
            p("webhook", "string", "Only what goes to this webhook."),
            p("since", "date-time", "Only what was taken in at this time or later."),
            LIMIT,
            CURSOR,
        ],
        success: ok(200, "A page.", Shape::Page("Event")),
        failures: &[400, 403],
        ..PLAIN
    },
    Operation {
        tag: EVENTS,
        path: "/api/v1/events/{id}",
        summary: "Show an event with its deliveries",
        about: "For System Administrators.",
        query: &[SOURCE],
        success: ok(200, "The event.", Shape::One("Event")),
        failures: &[400, 403, 404, 409],
        ..PLAIN
    },
    Operation {
        tag: EVENTS,
        path: "/api/v1/events/{id}/explain",
        summary: "Say why webhooks were told of an event, or why not",
        about: "Users are told of their own webhooks. With the header `x-fanfare-cut` the answer \
                leaves some out.",
        query: &[
            SOURCE,
            WEBHOOK,
            OWNER,
            p("limit", "integer", "At most so many webhooks, 1 to 10000, the oldest first."),
        ],
        success: ok(200, "A verdict for each webhook.", Shape::Array("Explanation")),
        failures: &[400, 403, 404, 409],
        ..PLAIN
    },
    Operation {
        tag: DEAD,
        path: "/api/v1/dead-letters",
        summary: "List dead letters, the oldest of each queue first",
        about: "For System Administrators. A long queue takes several requests: as long as an \
                answer is not complete, ask again with its `next` as `cursor`.",
        query: &[
            p("queue", "string", "`events` or `deliveries`."),
            p("reason", "string", "Only with this reason, such as `unknown-filter`."),
            WEBHOOK,
            LIMIT,
            CURSOR,
        ],
        success: ok(200, "What was found.", Shape::Found("DeadLetter")),
        failures: &[400, 403],
        ..PLAIN
    },
    Operation {
        tag: DEAD,
        method: "post",
        path: "/api/v1/dead-letters/replay",
        summary: "Bring dead letters back into the flow",
        about: "For System Administrators. Events are routed again, deliveries attempted again. \
                As long as an answer is not complete, ask again with its `next` as `cursor`.",
        body: Some("DeadLetterChoice"),
        success: ok(200, "How many.", Shape::One("DeadLettersTaken")),
        failures: &[400, 403],
        ..PLAIN
    },
    Operation {
        tag: DEAD,
        method: "post",
        path: "/api/v1/dead-letters/discard",
        summary: "Throw dead letters away for good",
        about: "For System Administrators. As long as an answer is not complete, ask again with \
                its `next` as `cursor`.",
        body: Some("DeadLetterChoice"),
        success: ok(200, "How many.", Shape::One("DeadLettersTaken")),
        failures: &[400, 403],
        ..PLAIN
    },
    Operation {
        tag: NUMBERS,
        path: "/api/v1/statistics",
        summary: "Count attempts by hour and outcome",
        query: &[
            WEBHOOK,
            OWNER,
            p(
                "hours",
                "integer",
                "The last hours, 1 to 744, with the one that has begun; 24 when left out.",
            ),
        ],
        success: ok(200, "The numbers.", Shape::One("Statistics")),
        failures: &[400, 403, 404],
        ..PLAIN
    },
];
