//! The conditions of a choice of letters, as SQL. Only those that narrow it are in the statement, so that
//! the planner chooses the index by them.

use fanfare_core::dead_letter::{Choice, Kind};
use tokio_postgres::types::ToSql;

use super::Value;

/// Conditions with the values of their parameters.
pub(crate) struct Conditions {
    sql: String,
    values: Vec<Value>,
}

impl Conditions {
    /// The open letters of a choice.
    pub(crate) fn of(choice: &Choice) -> Self {
        let mut it = Self { sql: "settled_at is null".to_owned(), values: Vec::new() };
        let Choice { ids, kind, reason, webhook, owner, host, event_type, .. } = choice;
        if !ids.is_empty() {
            let ids: Vec<String> = ids.iter().map(|id| storable(id)).collect();
            it.matches("id = any(", Some(ids), ")");
        }
        it.matches("kind = ", kind.map(Kind::name), "");
        it.matches("reason = ", reason.as_deref().map(storable), "");
        it.matches("webhook = ", webhook.map(|id| id.0), "");
        it.matches("owner_key = ", owner.as_ref().map(|owner| owner.key().to_owned()), "");
        it.matches("host = lower(", host.clone(), ")");
        it.matches("lower(event_type) = lower(", event_type.clone(), ")");
        it.matches("status = ", choice.status, "");
        it.matches("cause = ", choice.cause.clone(), "");
        it.matches("died_at >= ", choice.since, "");
        it.matches("died_at < ", choice.until, "");
        it.matches("noted_at < ", choice.noted_before, "");
        it.matches(
            "strpos(lower(concat_ws(' ', id, event_id, event_type, owner, host, reason, detail, error)), lower(",
            choice.text.clone(),
            ")) > 0",
        );
        it
    }

    /// Adds a condition about a value, if there is one.
    fn matches<T>(&mut self, before: &str, value: Option<T>, after: &str)
    where
        T: ToSql + Sync + Send + 'static,
    {
        if let Some(value) = value {
            let parameter = self.parameter(value);
            self.add(&format!("{before}{parameter}{after}"));
        }
    }

    pub(crate) fn add(&mut self, condition: &str) {
        self.sql.push_str(" and ");
        self.sql.push_str(condition);
    }

    /// Adds a parameter, and returns its name in the statement.
    pub(crate) fn parameter(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        self.values.push(Box::new(value));
        format!("${}", self.values.len())
    }

    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    pub(crate) fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values.iter().map(|value| value.as_ref() as &(dyn ToSql + Sync)).collect()
    }
}

/// PostgreSQL stores no NUL, so a text with one matches nothing either way.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
