//! A bulk operation in JSON.

use std::collections::BTreeMap;

use fanfare_core::operation::Rate;
use fanfare_store::operations::Operation;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::clock::rfc3339;

/// A bulk operation, with its progress. Its letters are dead letters, or the deliveries that it
/// recovers or sends again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Operation)]
pub struct Json<'a> {
    /// 32 hex digits.
    id: String,
    /// `replay`, `discard`, `recover` or `resend`.
    kind: &'static str,
    /// `running`, `paused`, `done`, `cancelled`, or `stopped`: it kept letters because their receivers
    /// failed again.
    state: &'static str,
    /// The conditions that chose the letters.
    #[schema(value_type = Object)]
    filter: &'a Value,
    /// A remark of the person.
    note: Option<&'a str>,
    /// The most letters a second; `null`: as fast as possible.
    rate: Option<u32>,
    /// Whether each webhook gets one letter first, then up to ten at a time, and no more when its
    /// receiver fails again.
    canary: bool,
    /// The user who asked for it, or the operating system's user for a command.
    asked_by: Option<&'a str>,
    /// `console`, `api` or `cli`.
    door: &'static str,
    /// When it was asked for.
    #[schema(format = DateTime)]
    asked_at: String,
    /// When it ended; `null` while it has not.
    #[schema(format = DateTime)]
    ended_at: Option<String>,
    /// The number of its letters. Those of a recover operation are counted step by step.
    total: i64,
    /// Letters that it has not reached.
    waiting: i64,
    /// Letters that were replayed, discarded or recovered.
    settled: i64,
    /// Replayed letters whose outcome is not known yet.
    open: i64,
    /// Replayed letters that were delivered, or routed.
    delivered: i64,
    /// Replayed letters that are dead again.
    failed: i64,
    /// Replayed letters that were dropped, such as those whose owner has no access any more.
    dropped: i64,
    /// The numbers of letters that it kept or left out, by the code of the reason.
    kept: &'a BTreeMap<String, i64>,
    /// Whether the letters that it discarded can be restored.
    can_be_undone: bool,
}

/// An operation in JSON.
#[must_use]
pub fn json(operation: &Operation) -> Json<'_> {
    let counts = &operation.counts;
    Json {
        id: operation.id.simple().to_string(),
        kind: operation.kind.code(),
        state: operation.state.code(),
        filter: &operation.filter,
        note: operation.note.as_deref(),
        rate: operation.rate.map(Rate::letters_per_second),
        canary: operation.canary,
        asked_by: operation.author.actor.as_deref(),
        door: operation.author.via.door.code(),
        asked_at: rfc3339(operation.asked_at),
        ended_at: operation.ended_at.map(rfc3339),
        total: counts.total,
        waiting: counts.waiting(),
        settled: counts.settled,
        open: operation.open(),
        delivered: counts.delivered,
        failed: counts.failed,
        dropped: counts.dropped,
        kept: &counts.refused,
        can_be_undone: operation.can_be_undone,
    }
}
