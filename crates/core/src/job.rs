//! Jobs: messages on the broker that ask a worker for attempts.
//!
//! A job of the kind `FirstInline` carries its events, so that a first attempt reads nothing from
//! the ledger. Every later attempt is by reference, since the worker reads the ledger for it
//! anyway. Attempts that are due at the same time share a job, because the cost of a message for
//! the broker hardly depends on its size.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ids::{BatchKey, DeliveryId, WebhookId};
use crate::reject::shortened;

/// The most deliveries in one job.
pub const MAX_DELIVERIES: usize = 64;

/// A message on a delivery queue ([`shard`](crate::shard)) or on `fanfare.retries`.
#[derive(Debug, Serialize, Deserialize)]
pub enum Job {
    /// First attempts, inline.
    #[serde(rename = "Fresh")]
    FirstInline(Vec<DeliveryGroup>),
    /// A recheck: first attempts, by reference, for which another job may still exist. It is in the
    /// same queue behind that job, so when a worker receives it, the other job has been received or
    /// is lost.
    #[serde(rename = "Copy")]
    Recheck(Vec<AttemptRef>),
    /// First attempts, by reference: another job for them may exist, or their events are too large
    /// to be inline. The plan has decided about access.
    #[serde(rename = "First")]
    FirstByReference(Vec<AttemptRef>),
    /// Retries, and deferred attempts, by reference: access is decided again.
    #[serde(rename = "Due")]
    Retry(Vec<AttemptRef>),
}

/// The number of the format in which this version writes jobs and dead letters. It grows with a change
/// that the version before could misread. Each version reads the formats just before and after its own.
pub const FORMAT: i64 = 1;

/// The names of the kinds, as they are in a message.
const KINDS: [&str; 4] = ["Fresh", "Copy", "First", "Due"];

/// The most characters of an unknown kind's name in an error.
const LONGEST_KIND: usize = 64;

/// Why a message can't be read as a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The message has the form of a job of a kind that only a newer version knows.
    #[error("this version does not know jobs of the kind {0:?}")]
    UnknownKind(String),
    /// The message is of a later format, and this version can't read it.
    #[error("this version does not know the format {0}")]
    LaterFormat(i64),
    /// The message is not a job of any version.
    #[error("the message is not a job: {0}")]
    NotAJob(String),
}

impl JobError {
    /// The kind or the format that only a newer version knows; `None` for what is not a job.
    #[must_use]
    pub fn newer(&self) -> Option<String> {
        match self {
            Self::UnknownKind(kind) => Some(kind.clone()),
            Self::LaterFormat(format) => Some(format!("format {format}")),
            Self::NotAJob(_) => None,
        }
    }
}

/// The deliveries of a batch, or of a single event, with the content that they have in common.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeliveryGroup {
    pub batch: BatchKey,
    /// When a router accepted it: the deadline of its deliveries counts from this time.
    pub received_at: DateTime<Utc>,
    /// The trace context that is passed to receivers.
    pub traceparent: Option<String>,
    /// The events' `CloudEvents` ids, in order.
    pub event_ids: Vec<String>,
    /// The events' notifications, in order.
    pub notifications: Vec<Box<RawValue>>,
    /// The webhooks of its deliveries.
    pub deliveries: Vec<Recipient>,
}

/// A webhook that gets notifications of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    pub webhook: WebhookId,
    /// The indexes of the group's notifications that it gets; `None` for all.
    pub only: Option<Vec<usize>>,
}

/// A reference to the next attempt of a delivery. Two references are equal when delivery and sequence
/// number are.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct AttemptRef {
    pub batch: BatchKey,
    pub webhook: WebhookId,
    /// The sequence number of the row that this attempt will write to the ledger. If the ledger has
    /// that row already, the job is obsolete.
    #[serde(rename = "entry")]
    pub sequence: i32,
    /// When the delivery's events were routed, by which the ledger finds the delivery's partition.
    /// `None` in a job of a version that did not write it; the ledger then looks it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<DateTime<Utc>>,
}

/// The result of a request to send a delivery again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// A new series of attempts has begun; this is its first.
    Begun(AttemptRef),
    /// An attempt is being made at this moment, and its outcome is not known yet.
    UnderWay,
    /// No series was begun: a first attempt is still to be made, or the request was for dead
    /// deliveries only and this one is not dead any more.
    MovedOn,
    /// The payload of one of its events was removed, so that there is nothing to send.
    PayloadRemoved,
    /// There is no such delivery.
    Unknown,
}

/// The first attempts of the deliveries of groups, in their order.
#[must_use]
pub fn first_attempts(groups: &[DeliveryGroup]) -> Vec<AttemptRef> {
    groups.iter().flat_map(DeliveryGroup::first_attempts).collect()
}

impl DeliveryGroup {
    /// The first attempts of its deliveries, in their order.
    pub fn first_attempts(&self) -> impl Iterator<Item = AttemptRef> {
        let (batch, received_at) = (self.batch, self.received_at);
        self.deliveries.iter().map(move |to| AttemptRef::first(batch, to.webhook, received_at))
    }

    /// The notifications that a recipient gets, in order.
    #[must_use]
    pub fn notifications_for(&self, to: &Recipient) -> Vec<&str> {
        let all: Vec<&str> = self.notifications.iter().map(|raw| raw.get()).collect();
        match &to.only {
            None => all,
            Some(only) => only.iter().filter_map(|index| all.get(*index).copied()).collect(),
        }
    }
}

impl PartialEq for AttemptRef {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for AttemptRef {}

impl Hash for AttemptRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl AttemptRef {
    /// The first attempt of a delivery whose events were routed at this time.
    #[must_use]
    pub fn first(batch: BatchKey, webhook: WebhookId, received_at: DateTime<Utc>) -> Self {
        Self { batch, webhook, sequence: 1, received_at: Some(received_at) }
    }

    fn identity(&self) -> (BatchKey, WebhookId, i32) {
        (self.batch, self.webhook, self.sequence)
    }

    /// The delivery's id.
    #[must_use]
    pub fn id(&self) -> DeliveryId {
        DeliveryId::of(self.batch, self.webhook)
    }
}

impl Job {
    /// Serialises the job as the body of a message.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Parses the body of a message. Members that this version does not know are ignored.
    ///
    /// # Errors
    ///
    /// The message is a job of a newer version, or not a job at all.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, JobError> {
        // The second attempt ignores members that a newer version may have added next to the kind.
        let job = serde_json::from_slice(bytes).or_else(|error| known_kind(bytes, &error))?;
        let impossible = |dues: &[AttemptRef]| dues.iter().any(|due| due.sequence < 1);
        match &job {
            Self::Recheck(dues) | Self::FirstByReference(dues) | Self::Retry(dues)
                if impossible(dues) =>
            {
                Err(JobError::NotAJob("it names an entry below 1".to_owned()))
            }
            _ => Ok(job),
        }
    }
}

/// Parses a job from an object that has other members too.
fn known_kind(bytes: &[u8], error: &serde_json::Error) -> Result<Job, JobError> {
    // The error may quote a value that is as large as the message.
    let not_a_job = |error: &serde_json::Error| JobError::NotAJob(shortened(error.to_string()));
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_slice(bytes).map_err(|_| not_a_job(error))?;
    let mut known = members.iter().filter(|(kind, _)| KINDS.contains(&kind.as_str()));
    match (known.next(), known.next(), members.keys().next()) {
        (Some((kind, content)), None, _) => {
            serde_json::from_str(&format!("{{\"{kind}\":{content}}}")).map_err(|e| not_a_job(&e))
        }
        (None, _, Some(kind)) => {
            Err(JobError::UnknownKind(kind.chars().take(LONGEST_KIND).collect()))
        }
        _ => Err(not_a_job(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_job_reads_back_with_its_notifications_untouched() {
        let text = r#"{"Action":"tasks","N":1.50,"S":"\u00e4"}"#;
        let group = DeliveryGroup {
            batch: BatchKey(uuid::Uuid::from_u128(1)),
            received_at: DateTime::from_timestamp(1_800_000_000, 123_000).unwrap(),
            traceparent: None,
            event_ids: vec!["1".to_owned()],
            notifications: vec![RawValue::from_string(text.to_owned()).unwrap()],
            deliveries: vec![Recipient {
                webhook: WebhookId(uuid::Uuid::from_u128(2)),
                only: Some(vec![0]),
            }],
        };
        let bytes = Job::FirstInline(vec![group]).to_bytes().unwrap();
        match Job::from_bytes(&bytes).unwrap() {
            Job::FirstInline(groups) => {
                assert_eq!(groups[0].notifications[0].get(), text);
                assert_eq!(groups[0].received_at.timestamp_subsec_micros(), 123);
            }
            other => panic!("a fresh job read back as {other:?}"),
        }
    }

    const BATCH: BatchKey = BatchKey(uuid::Uuid::from_u128(1));
    const WEBHOOK: WebhookId = WebhookId(uuid::Uuid::from_u128(2));

    #[test]
    fn jobs_have_the_same_form_in_every_version() {
        let (batch, webhook) = (to_text(&BATCH), to_text(&WEBHOOK));
        let received_at = DateTime::from_timestamp(1_800_000_000, 123_000);
        let attempts =
            vec![AttemptRef { batch: BATCH, webhook: WEBHOOK, sequence: 3, received_at }];
        let group = DeliveryGroup {
            batch: BATCH,
            received_at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            traceparent: None,
            event_ids: vec!["1".to_owned()],
            notifications: vec![RawValue::from_string("{}".to_owned()).unwrap()],
            deliveries: vec![Recipient { webhook: WEBHOOK, only: Some(vec![0]) }],
        };
        let received_at = "2027-01-15T08:00:00.000123Z";
        let form = format!(
            r#"[{{"batch":{batch},"webhook":{webhook},"entry":3,"received_at":"{received_at}"}}]"#
        );
        let inline = format!(
            r#"[{{"batch":{batch},"received_at":"2027-01-15T08:00:00Z","traceparent":null,"#
        ) + r#""event_ids":["1"],"notifications":[{}],"#
            + &format!(r#""deliveries":[{{"webhook":{webhook},"only":[0]}}]}}]"#);
        for (job, kind, content) in [
            (Job::FirstInline(vec![group]), "Fresh", &inline),
            (Job::Recheck(attempts.clone()), "Copy", &form),
            (Job::FirstByReference(attempts.clone()), "First", &form),
            (Job::Retry(attempts), "Due", &form),
        ] {
            assert_eq!(to_text(&job), format!(r#"{{"{kind}":{content}}}"#));
        }
    }

    #[test]
    fn an_attempt_of_an_earlier_version_equals_the_same_attempt_with_its_time() {
        let due = AttemptRef::first(BATCH, WEBHOOK, DateTime::UNIX_EPOCH);
        let earlier = AttemptRef { received_at: None, ..due };
        let text = to_text(&earlier);
        assert!(!text.contains("received_at"), "{text}");
        let read: AttemptRef = serde_json::from_str(&text).unwrap();
        assert_eq!((read, read.received_at), (due, None));
        assert_eq!(HashSet::from([read, due]).len(), 1);
    }

    fn to_text(value: &impl Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }

    #[test]
    fn a_job_of_an_unknown_kind_is_not_confused_with_a_malformed_message() {
        let due = AttemptRef { batch: BATCH, webhook: WEBHOOK, sequence: 3, received_at: None };
        let due = serde_json::to_string(&due).unwrap().replace('{', r#"{"color":"red","#);
        let read = |text: &str| Job::from_bytes(text.replace("DUE", &due).as_bytes());
        for job in [r#"{"Due":[DUE]}"#, r#"{"Due":[DUE],"Version":2}"#] {
            assert!(matches!(read(job), Ok(Job::Retry(dues)) if dues[0].sequence == 3), "{job}");
        }
        for job in [r#"{"Digest":[DUE]}"#, r#"{"Digest":null,"Version":2}"#] {
            assert_eq!(read(job).unwrap_err(), JobError::UnknownKind("Digest".to_owned()));
        }
        for text in [
            "",
            "7",
            "\"Due\"",
            "[]",
            "{}",
            "{",
            r#"{"Due":7}"#,
            r#"{"Due":[DUE],"First":[DUE]}"#,
            r#"{"Due":[{"entry":1}]}"#,
        ] {
            assert!(matches!(read(text), Err(JobError::NotAJob(_))), "{text}");
        }
        let huge =
            read(&format!(r#"{{"Due":"{}"}}"#, "x".repeat(100_000))).unwrap_err().to_string();
        assert!(huge.len() < 1024, "{} bytes", huge.len());
        let impossible = due.replace(r#""entry":3"#, r#""entry":0"#);
        let impossible = Job::from_bytes(format!("{{\"Due\":[{impossible}]}}").as_bytes());
        assert!(matches!(impossible, Err(JobError::NotAJob(_))));
    }
}
