//! A group of dead letters in JSON.

use fanfare_core::dead_letter::GroupBy;
use fanfare_store::letters::{Group, Groups};
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock;

/// Dead letters that have a property in common.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetterGroup)]
pub struct Json<'a> {
    /// The property: `reason`, `webhook`, `owner`, `host`, `type`, `status` or `cause`.
    by: &'static str,
    /// Its value; null for letters without it.
    value: Option<&'a str>,
    /// The number of letters.
    count: i64,
    /// When the first of them died.
    #[schema(format = DateTime)]
    first: String,
    /// When the last of them died.
    #[schema(format = DateTime)]
    last: String,
    /// How many deliveries would not be sent if they were replayed now.
    refused: RefusedJson,
    /// The numbers of letters that died in each part of the chart's time.
    chart: &'a [i64],
    /// The beginning of the chart's time.
    #[schema(format = DateTime)]
    chart_since: String,
    /// The length of each part in seconds.
    chart_part: i64,
}

/// The deliveries of a group that would not be sent, by the reason.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetterGroupRefused)]
struct RefusedJson {
    /// Their webhook is deleted.
    webhook_deleted: i64,
    /// Their webhook is paused.
    webhook_paused: i64,
    /// Their owner is disabled, or not in the directory.
    owner_disabled: i64,
}

/// Groups in JSON, in their order.
#[must_use]
pub fn json(by: GroupBy, groups: &Groups) -> Vec<Json<'_>> {
    let group = |group| json_of(by, group, groups);
    groups.groups.iter().map(group).collect()
}

fn json_of<'a>(by: GroupBy, group: &'a Group, all: &Groups) -> Json<'a> {
    let refused = group.refused;
    Json {
        by: by.name(),
        value: group.value.as_deref(),
        count: group.count,
        first: clock::rfc3339(group.first),
        last: clock::rfc3339(group.last),
        refused: RefusedJson {
            webhook_deleted: refused.webhook_deleted,
            webhook_paused: refused.webhook_paused,
            owner_disabled: refused.owner_disabled,
        },
        chart: &group.chart,
        chart_since: clock::rfc3339(all.since),
        chart_part: all.part.num_seconds(),
    }
}
