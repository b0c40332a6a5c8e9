//! Jobs: what the router asks of a worker, as messages on the broker.
//!
//! A fresh job carries its events, so that a first attempt needs no question to the ledger. Every
//! later attempt is in a due job: a reference, for which the worker asks the ledger anyway. Those that
//! are due at the same time share one: a message costs the broker the same whatever is in it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ids::{BatchKey, DeliveryId, WebhookId};

/// The most deliveries in one job.
pub const MAX_DELIVERIES: usize = 64;

/// A message on a delivery queue ([`share`](crate::share)) or on `fanfare.retries`.
#[derive(Debug, Serialize, Deserialize)]
pub enum Job {
    /// First attempts.
    Fresh(Vec<Unit>),
    /// First attempts for which another job may be about. It takes the same way through the same
    /// queue as that one, so when it comes out the other has come out, or is lost.
    Copy(Vec<Due>),
    /// First attempts that go round: another job for them may be about, or their events are too large
    /// to be carried twice. The plan decided about them.
    First(Vec<Due>),
    /// The next attempts of deliveries, or deferred ones: whether their owners may still have them is
    /// decided again.
    Due(Vec<Due>),
}

/// The names of the kinds.
const KINDS: [&str; 4] = ["Fresh", "Copy", "First", "Due"];

/// The most characters of an unknown kind's name that are kept.
const LONGEST_KIND: usize = 64;

/// Why a message can't be taken as a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// It has the form of a job, but a kind that this version does not know: a newer version's.
    #[error("the job's kind {0:?} is not known to this version")]
    UnknownKind(String),
    /// It is not a job of any version.
    #[error("the message is not a job: {0}")]
    NotAJob(String),
}

/// A batch (or single event) with its deliveries.
#[derive(Debug, Serialize, Deserialize)]
pub struct Unit {
    /// The batch.
    pub batch: BatchKey,
    /// When it was taken in: its deliveries' deadline counts from here.
    pub received_at: DateTime<Utc>,
    /// The trace context to hand on.
    pub traceparent: Option<String>,
    /// The events' `CloudEvents` ids, in order.
    pub event_ids: Vec<String>,
    /// The events' notifications, in order.
    pub notifications: Vec<Box<RawValue>>,
    /// Whom it goes to.
    pub deliveries: Vec<Addressee>,
}

/// A webhook that a unit goes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addressee {
    /// The webhook.
    pub webhook: WebhookId,
    /// Which of the unit's notifications; `None` for all.
    pub only: Option<Vec<usize>>,
}

/// The next attempt of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Due {
    /// The batch.
    pub batch: BatchKey,
    /// The webhook.
    pub webhook: WebhookId,
    /// The number of the ledger entry that this attempt will write. A delivery whose ledger has
    /// gone past it has moved on without this job.
    pub entry: i32,
}

/// What asking for a delivery again came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// A new chain of attempts has begun; this is its first.
    Begun(Due),
    /// An attempt is being made at this moment, and its outcome is not known yet.
    UnderWay,
    /// There is nothing to begin: a first attempt is owed anyway, or the delivery is not dead any
    /// more and only a dead one was asked for.
    MovedOn,
    /// There is no such delivery.
    Unknown,
}

impl Due {
    /// The delivery's id.
    #[must_use]
    pub fn id(&self) -> DeliveryId {
        DeliveryId::of(self.batch, self.webhook)
    }
}

impl Job {
    /// As the body of a message.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// From the body of a message. Members that this version does not know are ignored.
    ///
    /// # Errors
    ///
    /// [`JobError`] tells a job of a newer version from what is not a job at all.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, JobError> {
        // The second look is for what a newer version may have added beside the kind.
        let job = serde_json::from_slice(bytes).or_else(|error| known_kind(bytes, &error))?;
        let impossible = |dues: &[Due]| dues.iter().any(|due| due.entry < 1);
        match &job {
            Self::Copy(dues) | Self::First(dues) | Self::Due(dues) if impossible(dues) => {
                Err(JobError::NotAJob("it names an entry below 1".to_owned()))
            }
            _ => Ok(job),
        }
    }
}

/// Reads a job among members that are not known.
fn known_kind(bytes: &[u8], error: &serde_json::Error) -> Result<Job, JobError> {
    let not_a_job = |error: &serde_json::Error| JobError::NotAJob(error.to_string());
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
    use super::*;

    #[test]
    fn a_job_reads_back_with_its_notifications_untouched() {
        let text = r#"{"Action":"tasks","N":1.50,"S":"\u00e4"}"#;
        let unit = Unit {
            batch: BatchKey(uuid::Uuid::from_u128(1)),
            received_at: DateTime::from_timestamp(1_800_000_000, 123_000).unwrap(),
            traceparent: None,
            event_ids: vec!["1".to_owned()],
            notifications: vec![RawValue::from_string(text.to_owned()).unwrap()],
            deliveries: vec![Addressee {
                webhook: WebhookId(uuid::Uuid::from_u128(2)),
                only: Some(vec![0]),
            }],
        };
        let bytes = Job::Fresh(vec![unit]).to_bytes().unwrap();
        match Job::from_bytes(&bytes).unwrap() {
            Job::Fresh(units) => {
                assert_eq!(units[0].notifications[0].get(), text);
                assert_eq!(units[0].received_at.timestamp_subsec_micros(), 123);
            }
            other => panic!("a fresh job read back as {other:?}"),
        }
    }
    const BATCH: BatchKey = BatchKey(uuid::Uuid::from_u128(1));
    const WEBHOOK: WebhookId = WebhookId(uuid::Uuid::from_u128(2));

    #[test]
    fn a_newer_job_is_told_from_what_is_no_job() {
        let due = Due { batch: BATCH, webhook: WEBHOOK, entry: 3 };
        let due = serde_json::to_string(&due).unwrap().replace('{', r#"{"color":"red","#);
        let read = |text: &str| Job::from_bytes(text.replace("DUE", &due).as_bytes());
        for job in [r#"{"Due":[DUE]}"#, r#"{"Due":[DUE],"Version":2}"#] {
            assert!(matches!(read(job), Ok(Job::Due(dues)) if dues[0].entry == 3), "{job}");
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
        let impossible = due.replace(r#""entry":3"#, r#""entry":0"#);
        let impossible = Job::from_bytes(format!("{{\"Due\":[{impossible}]}}").as_bytes());
        assert!(matches!(impossible, Err(JobError::NotAJob(_))));
    }
}
