//! What the database holds, in JSON.

use fanfare_store::sizes::KindSize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::storage::Storage;

/// What the database holds, what a day adds, and when its disk will be full.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Storage)]
pub struct Json {
    /// Events, attempts, keys of events, the audit trail, and the rest.
    kinds: Vec<Part>,
    /// The size of all, in bytes.
    bytes: i64,
    /// The bytes that a day adds; `null` before the first whole day.
    growth_per_day: Option<i64>,
    /// The size of the database's disk in bytes; `null` if it was not set.
    disk: Option<u64>,
    /// The day (UTC) on which the disk will be full; `null` when it won't be, or is not known.
    full_on: Option<String>,
}

/// The size of one kind of data.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StorageKind)]
pub struct Part {
    /// `events`, `attempts`, `keys`, `audit` or `rest`.
    kind: &'static str,
    /// Its size with its indexes.
    bytes: i64,
    /// The number of rows, as the database estimates it; `null` when it is not known.
    rows: Option<i64>,
    /// The bytes that a day adds; `null` when it is not known.
    growth_per_day: Option<i64>,
}

/// Storage in JSON.
#[must_use]
pub fn json(storage: &Storage) -> Json {
    Json {
        kinds: storage.sizes.kinds.iter().map(kind).collect(),
        bytes: storage.sizes.bytes(),
        growth_per_day: storage.sizes.per_day(),
        disk: storage.disk,
        full_on: storage.full_on.map(|day| day.format("%Y-%m-%d").to_string()),
    }
}

fn kind(kind: &KindSize) -> Part {
    Part {
        kind: kind.kind.name(),
        bytes: kind.bytes,
        rows: kind.rows,
        growth_per_day: kind.per_day,
    }
}
