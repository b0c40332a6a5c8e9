//! What the database holds, what a day adds, and when its disk will be full: for administrators.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use fanfare_app::storage::{self, Storage, StorageError};
use fanfare_store::sizes::{Kind, KindSize};

use super::error::PageError;
use super::page::{Frame, page};
use super::visitor::Visitor;
use crate::app::Shared;

#[derive(Template)]
#[template(path = "storage.html")]
struct StoragePage {
    frame: Frame,
    rows: Vec<Row>,
    total: Row,
    disk: Option<Disk>,
}

/// A kind of data as it is shown.
struct Row {
    label: &'static str,
    size: String,
    rows: String,
    per_day: String,
}

/// The database's disk.
struct Disk {
    size: String,
    /// How much of it is used, from 0 to 100 percent.
    percent: u64,
    full_on: Option<String>,
    /// Whether the growth is known.
    grows: bool,
}

/// `GET`: shows the page.
pub(crate) async fn show(
    State(app): State<Shared>,
    visitor: Visitor,
) -> Result<Response, PageError> {
    let shown = storage::show(&app.context, &visitor.actor(), app.storage).await?;
    let sizes = &shown.sizes;
    let total = Row {
        label: "All",
        size: bytes(sizes.bytes()),
        rows: String::new(),
        per_day: growth(sizes.per_day()),
    };
    let page_shown = StoragePage {
        frame: visitor.frame().of_storage(),
        rows: sizes.kinds.iter().map(row).collect(),
        total,
        disk: disk(&shown),
    };
    Ok(page(StatusCode::OK, &page_shown))
}

fn disk(shown: &Storage) -> Option<Disk> {
    let size = shown.disk?;
    let used = u64::try_from(shown.sizes.bytes()).unwrap_or_default();
    Some(Disk {
        size: bytes(i64::try_from(size).unwrap_or(i64::MAX)),
        percent: (u128::from(used) * 100 / u128::from(size.max(1))).min(100).try_into().ok()?,
        grows: shown.sizes.per_day().is_some(),
        full_on: shown.full_on.map(|day| day.format("%-d %B %Y").to_string()),
    })
}

fn row(kind: &KindSize) -> Row {
    let label = match kind.kind {
        Kind::Events => "Events and their plans",
        Kind::Attempts => "Attempts",
        Kind::Keys => "Keys of events",
        Kind::Audit => "Audit trail",
        Kind::Rest => "Everything else",
    };
    Row {
        label,
        size: bytes(kind.bytes),
        rows: kind.rows.map_or_else(|| "–".to_owned(), |rows| rows.to_string()),
        per_day: growth(kind.per_day),
    }
}

fn growth(per_day: Option<i64>) -> String {
    per_day.map_or_else(|| "–".to_owned(), bytes)
}

/// A size in the largest decimal unit in which it is at least 1, with one digit after the point.
pub(super) fn bytes(bytes: i64) -> String {
    let (mut tenths, mut unit) = (u128::try_from(bytes).unwrap_or_default() * 10, "B");
    for larger in ["kB", "MB", "GB", "TB"] {
        if tenths < 10_000 {
            break;
        }
        (tenths, unit) = (tenths / 1000, larger);
    }
    match unit {
        "B" => format!("{} B", tenths / 10),
        _ => format!("{}.{} {unit}", tenths / 10, tenths % 10),
    }
}

impl From<StorageError> for PageError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::NotAdministrator(_) => Self::Unknown,
            StorageError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_the_largest_unit_that_fits() {
        let shown = [0, 999, 1000, 12_345_678, 200_000_000_000, i64::MAX].map(bytes);
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "12.3 MB", "200.0 GB", "9223372.0 TB"]);
    }
}
