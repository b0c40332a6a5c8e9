//! The JSON form of a comparison with another server.

use fanfare_core::parity::{Key, What};
use serde::Serialize;

use crate::clock::rfc3339;
use crate::shadow::{Explained, Parity};

/// A comparison.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Json<'a> {
    /// Whether nothing differs.
    equal: bool,
    webhooks: usize,
    /// The notifications that the receivers got from the other server.
    there: usize,
    /// The notifications that Fanfare sends, or would send.
    here: usize,
    same: usize,
    differences: Vec<DifferenceJson<'a>>,
}

/// A difference.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DifferenceJson<'a> {
    at: String,
    what: &'static str,
    webhook: Option<String>,
    owner: Option<&'a str>,
    #[serde(rename = "type")]
    event_type: Option<&'a str>,
    resource: Option<&'a str>,
    event: Option<&'a str>,
    /// The members that differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<&'a [String]>,
    reason: Option<&'a str>,
    detail: &'a str,
}

/// A comparison in JSON.
#[must_use]
pub fn json(parity: &Parity) -> Json<'_> {
    let Parity { webhooks, there, here, same, ref differences } = *parity;
    let equal = differences.is_empty();
    let differences = differences.iter().map(difference).collect();
    Json { equal, webhooks, there, here, same, differences }
}

fn difference(explained: &Explained) -> DifferenceJson<'_> {
    let it = &explained.difference;
    let key: Option<&Key> = it.what.key();
    let members = match &it.what {
        What::Members(_, members) => Some(members.as_slice()),
        _ => None,
    };
    DifferenceJson {
        at: rfc3339(it.at),
        what: it.what.code(),
        webhook: it.webhook.map(|id| id.to_string()),
        owner: explained.owner.as_deref(),
        event_type: key.map(|key| key.event_type.as_str()),
        resource: key.map(|key| key.resource.as_str()),
        event: explained.event.as_deref(),
        members,
        reason: explained.reason.as_deref(),
        detail: &explained.detail,
    }
}
