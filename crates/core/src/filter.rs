//! Filters: the kinds of events that a webhook subscribes to.

use std::collections::HashSet;
use std::fmt;

/// The kind of an event, which is also the kind of its resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filter {
    /// Reports.
    Reports,
    /// Report categories.
    Categories,
    /// Data connections.
    Connections,
    /// Scheduled tasks.
    Tasks,
    /// Data alerts.
    Alerts,
}

impl Filter {
    /// All filters, in the order in which they are listed.
    pub const ALL: [Self; 5] =
        [Self::Reports, Self::Categories, Self::Connections, Self::Tasks, Self::Alerts];

    /// The canonical name, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reports => "reports",
            Self::Categories => "categories",
            Self::Connections => "connections",
            Self::Tasks => "tasks",
            Self::Alerts => "alerts",
        }
    }

    /// The filter's description, for people who choose filters.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Reports => "Events of reports: created, uploaded, edited, deleted and so on.",
            Self::Categories => "Events of report categories.",
            Self::Connections => "Events of data connections.",
            Self::Tasks => "Events of scheduled tasks, such as a task that has been executed.",
            Self::Alerts => "Events of data alerts.",
        }
    }

    /// The filter with this name, compared without case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|filter| filter.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The action of an event: the second part of its type, shown as published and compared without
/// case.
#[derive(Debug, Clone)]
pub struct Action(String);

impl Action {
    /// Accepts 1 to 64 characters: ASCII letters, digits, `-` and `_`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= 64;
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        (fits && plain).then(|| Self(text.to_owned()))
    }

    /// The action in an event's type; `None` if it has none.
    #[must_use]
    pub fn of_type(event_type: &str) -> Option<Self> {
        event_type.split_once('.').and_then(|(_, action)| Self::parse(action))
    }

    /// The action as published.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the event says that its resource was deleted. Access to a deleted resource can't be
    /// decided again.
    #[must_use]
    pub fn is_delete(&self) -> bool {
        self.0.eq_ignore_ascii_case("delete")
    }
}

/// Whether events of a type say that their resource was deleted. It is the only exception to the
/// rule that access is decided again before a retry: only the owner's state is. A text that is not
/// an event's type returns false.
#[must_use]
pub fn is_delete(event_type: &str) -> bool {
    Action::of_type(event_type).is_some_and(|action| action.is_delete())
}

impl PartialEq for Action {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Action {}

/// The filters of one webhook, in the order in which its owner gave them, without duplicates: in
/// the forms `reports` and `reports.delete`, and `*` for all events. An empty list means all events
/// too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filters(Vec<String>);

/// The filter that matches every event.
const EVERYTHING: &str = "*";

/// Filters that don't exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("The following filters are not valid: '{}'.", .0.join(", "))]
pub struct UnknownFilters(pub Vec<String>);

impl Filters {
    /// Parses the filters that a user gives.
    pub fn parse<S: AsRef<str>>(wanted: &[S]) -> Result<Self, UnknownFilters> {
        let mut forms: Vec<String> = Vec::new();
        let mut known = HashSet::new();
        let mut unknown = Vec::new();
        for text in wanted.iter().map(|text| text.as_ref().trim()) {
            match parse_one(text) {
                Some(form) => {
                    if known.insert(form.clone()) {
                        forms.push(form);
                    }
                }
                None => unknown.push(text.to_owned()),
            }
        }
        if !unknown.is_empty() {
            return Err(UnknownFilters(unknown));
        }
        // `*` alone and no filter mean the same, and are stored alike.
        Ok(Self(if forms == [EVERYTHING] { Vec::new() } else { forms }))
    }

    /// The filters as stored: empty means all events.
    #[must_use]
    pub fn stored(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }

    /// The filters as shown to users.
    #[must_use]
    pub fn shown(&self) -> Vec<&str> {
        if self.0.is_empty() { vec![EVERYTHING] } else { self.stored() }
    }

    /// Whether the filters match all events.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0.is_empty() || self.0.iter().any(|form| form == EVERYTHING)
    }

    /// Whether the filters match an event of this filter and action.
    #[must_use]
    pub fn accept(&self, filter: Filter, action: &Action) -> bool {
        self.is_everything()
            || matching_forms(filter, action).iter().any(|form| self.0.contains(form))
    }
}

/// The stored filters that match such an event: for example `reports` and `reports.delete`.
#[must_use]
pub fn matching_forms(filter: Filter, action: &Action) -> [String; 2] {
    let with_action = format!("{filter}.{}", action.as_str().to_ascii_lowercase());
    [filter.name().to_owned(), with_action]
}

/// One filter in its canonical form.
fn parse_one(text: &str) -> Option<String> {
    if text == EVERYTHING {
        return Some(text.to_owned());
    }
    match text.split_once('.') {
        None => Filter::parse(text).map(|filter| filter.name().to_owned()),
        Some((filter, action)) => {
            let [_, form] = matching_forms(Filter::parse(filter)?, &Action::parse(action)?);
            Some(form)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(wanted: &[&str], shown: &[&str]) {
        assert_eq!(Filters::parse(wanted).unwrap().shown(), shown, "{wanted:?}");
    }

    #[test]
    fn only_types_with_the_action_delete_are_deletes() {
        assert!(is_delete("reports.delete"));
        assert!(is_delete("Reports.DELETE"));
        for other in ["reports.undelete", "reports.soft.delete", "reports.", "delete", ".", ""] {
            assert!(!is_delete(other), "{other}");
        }
    }

    #[test]
    fn filters_keep_their_order_and_become_canonical_without_duplicates() {
        check(
            &["tasks.Execute", "Reports", "alerts", "REPORTS"],
            &["tasks.execute", "reports", "alerts"],
        );
        check(&["reports.delete", "reports"], &["reports.delete", "reports"]);
        check(&[], &["*"]);
        check(&["*", " * "], &["*"]);
        check(&["tasks", "*", "reports"], &["tasks", "*", "reports"]);
    }

    #[test]
    fn an_asterisk_among_other_filters_matches_all_events() {
        let delete = Action::parse("delete").unwrap();
        for wanted in [&["tasks", "*"][..], &["*"], &[]] {
            let filters = Filters::parse(wanted).unwrap();
            assert!(filters.is_everything() && filters.accept(Filter::Alerts, &delete));
        }
        assert!(!Filters::parse(&["tasks"]).unwrap().is_everything());
    }

    #[test]
    fn unknown_filters_are_named() {
        let error = Filters::parse(&["reports", "x", "y.z"]).unwrap_err();
        assert_eq!(error.to_string(), "The following filters are not valid: 'x, y.z'.");
    }

    #[test]
    fn a_filter_with_an_action_matches_that_action_only() {
        let filters = Filters::parse(&["reports.delete"]).unwrap();
        assert!(filters.accept(Filter::Reports, &Action::parse("Delete").unwrap()));
        assert!(!filters.accept(Filter::Reports, &Action::parse("upload").unwrap()));
        assert!(!filters.accept(Filter::Tasks, &Action::parse("delete").unwrap()));
    }
}
