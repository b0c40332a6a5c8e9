//! A span for each statement, with the attributes of OpenTelemetry's conventions for databases.
//!
//! It says which statement ran, by the name in its first line, and nothing of its values.

use fanfare_core::spans::TARGET;
use tokio_postgres::Error;
use tracing::field::Empty;
use tracing::{Span, info_span};

/// Begins the span of a statement.
pub(crate) fn statement(sql: &str) -> Span {
    info_span!(
        target: TARGET,
        "statement",
        otel.kind = "client",
        otel.name = name(sql),
        otel.status_code = Empty,
        db.system.name = "postgresql",
        db.query.summary = name(sql),
        db.response.status_code = Empty,
        "error.type" = Empty,
    )
}

/// Says that a statement failed. An error's text may hold values: only its code is passed on.
pub(crate) fn fail(span: &Span, error: &Error) {
    let code = error.code().map_or("connection", |code| code.code());
    span.record("otel.status_code", "ERROR").record("error.type", code);
    if error.code().is_some() {
        span.record("db.response.status_code", code);
    }
}

/// The name of a statement, which stands in a comment before it; else its first word.
fn name(sql: &str) -> &str {
    let sql = sql.trim_start();
    match sql.strip_prefix("-- ") {
        Some(rest) => rest.lines().next().unwrap_or_default().trim_end(),
        None => sql.split_whitespace().next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_named_by_their_first_line() {
        for (sql, expected) in [
            ("-- route\n  with arrival as (select 1)", "route"),
            ("\n -- ping\nselect 1", "ping"),
            ("select secret from webhooks", "select"),
            ("", ""),
        ] {
            assert_eq!(name(sql), expected, "{sql}");
        }
    }
}
