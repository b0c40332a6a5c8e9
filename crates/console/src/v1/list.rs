//! Lists in pages.
//!
//! A cursor is the position at which a page ended. It has no secrets and gives no access:
//! permissions are checked again for each page.

use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use fanfare_core::ids::{BatchKey, WebhookId};
use fanfare_store::audit::AuditPosition;
use fanfare_store::deliveries::Position;
use fanfare_store::events::EventPosition;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::{Array, Ref};
use uuid::Uuid;

use super::request::{Parameter, Within};
use crate::api::json::json;

/// The default and the maximum number of entries in a page.
const PAGE: u32 = 100;
const LARGEST_PAGE: u32 = 1000;

/// The `limit` parameter of a list.
pub(crate) type Limit = Within<1, LARGEST_PAGE>;

/// Returns the number of entries in a page for this `limit` parameter.
pub(crate) fn limit(wanted: Option<Limit>) -> i64 {
    i64::from(wanted.map_or(PAGE, |limit| limit.0))
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub(crate) struct Page<T: ToSchema> {
    #[schema(schema_with = references::<T>)]
    items: Vec<T>,
    /// The cursor of the next page; null on the last one.
    #[schema(required)]
    next: Option<String>,
}

/// The schema of an array whose entries refer to a named schema.
fn references<T: ToSchema>() -> Array {
    Array::new(Ref::from_schema_name(T::name()))
}

/// Makes the answer with a page.
pub(crate) fn page<T: Serialize + ToSchema>(items: Vec<T>, next: Option<String>) -> Response {
    json(StatusCode::OK, &Page { items, next })
}

/// The key of an entry that a cursor can contain.
pub(crate) trait CursorKey: Sized {
    /// The parts of the key. Their texts have no dot.
    fn parts(&self) -> [String; 3];
    /// Reads the key from its parts.
    fn from_parts(parts: [&str; 3]) -> Option<Self>;
}

/// The cursor of a key.
pub(crate) fn cursor(key: &impl CursorKey) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(key.parts().join("."))
}

/// The place of a cursor.
fn key<K: CursorKey>(cursor: &str) -> Result<K, String> {
    let read = || {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let parts: Vec<&str> = text.split('.').collect();
        K::from_parts(parts.try_into().ok()?)
    };
    read().ok_or_else(|| "it is not one that a page of this list gave as next".to_owned())
}

impl CursorKey for Position {
    fn parts(&self) -> [String; 3] {
        [micros(self.at), self.batch.to_string(), self.webhook.to_string()]
    }

    fn from_parts([at, batch, webhook]: [&str; 3]) -> Option<Self> {
        let (at, batch) = (time(at)?, BatchKey(uuid(batch)?));
        Some(Self { at, batch, webhook: WebhookId(uuid(webhook)?) })
    }
}

impl CursorKey for EventPosition {
    fn parts(&self) -> [String; 3] {
        [micros(self.received_at), self.batch.to_string(), self.position.to_string()]
    }

    fn from_parts([at, batch, position]: [&str; 3]) -> Option<Self> {
        let (received_at, batch) = (time(at)?, BatchKey(uuid(batch)?));
        Some(Self { received_at, batch, position: position.parse().ok()? })
    }
}

impl CursorKey for AuditPosition {
    fn parts(&self) -> [String; 3] {
        [micros(self.at), self.id.to_string(), "audit".to_owned()]
    }

    fn from_parts([at, id, list]: [&str; 3]) -> Option<Self> {
        (list == "audit").then_some(())?;
        Some(Self { at: time(at)?, id: id.parse().ok()? })
    }
}

impl Parameter for AuditPosition {
    fn read(text: &str) -> Result<Self, String> {
        key(text)
    }
}

impl Parameter for Position {
    fn read(text: &str) -> Result<Self, String> {
        key(text)
    }
}

impl Parameter for EventPosition {
    fn read(text: &str) -> Result<Self, String> {
        key(text)
    }
}

/// As exact as the database's times are.
fn micros(time: DateTime<Utc>) -> String {
    time.timestamp_micros().to_string()
}

fn time(micros: &str) -> Option<DateTime<Utc>> {
    // Between the years that the database knows.
    let micros = micros.parse().ok().filter(|micros| (0..253_402_300_800_000_000).contains(micros));
    DateTime::from_timestamp_micros(micros?)
}

fn uuid(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back() {
        let position = Position {
            at: DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap(),
            batch: BatchKey(Uuid::from_u128(1)),
            webhook: WebhookId(Uuid::from_u128(2)),
        };
        assert_eq!(key(&cursor(&position)), Ok(position));
        let other = EventPosition { received_at: position.at, batch: position.batch, position: 3 };
        assert_eq!(key(&cursor(&other)), Ok(other));
        let audit = AuditPosition { at: position.at, id: 7 };
        assert_eq!(key(&cursor(&audit)), Ok(audit));
        assert!(key::<AuditPosition>(&cursor(&other)).is_err());
        for wrong in ["", "a", "äöü", &cursor(&other)] {
            assert!(key::<Position>(wrong).is_err(), "{wrong}");
        }
    }
}
