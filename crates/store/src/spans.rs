//! A span for each statement, with the attributes of OpenTelemetry's conventions for databases.
//!
//! A span has the name of the statement, which is in its first line, and none of its values.

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

/// Records that a statement failed. Only the error's code is recorded, since its text may have
/// values.
pub(crate) fn fail(span: &Span, error: &Error) {
    let code = error.code().map_or("connection", |code| code.code());
    span.record("otel.status_code", "ERROR").record("error.type", code);
    if error.code().is_some() {
        span.record("db.response.status_code", code);
    }
}

/// The name of a statement, which is in a comment before it, or else its first word.
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
    fn name_of_a_statement_is_its_first_line() {
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
