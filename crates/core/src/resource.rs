//! The resources of the report server, and the scopes that permissions have.
//!
//! Events and permissions both build on these types, and neither knows the other.

use std::fmt;

use crate::filter::Filter;
use crate::reject::{Reason, Reject};

/// A resource of the report server, named by the path that events have as their subject.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Resource {
    /// A report in its category.
    Report {
        /// The category's id.
        category: String,
        /// The report's own id.
        id: String,
    },
    /// A category.
    Category(String),
    /// A data connection.
    Connection(String),
    /// A scheduled task.
    Task(String),
    /// A data alert.
    Alert(String),
}

impl Resource {
    /// Parses a subject such as `categories/c1/reports/r1` or `tasks/t1`.
    pub fn parse(subject: &str) -> Result<Self, Reject> {
        let parts: Vec<&str> = subject.split('/').collect();
        let whole = parts.iter().all(|part| !part.is_empty());
        match parts.as_slice() {
            ["categories", category, "reports", id] if whole => {
                Ok(Self::Report { category: (*category).to_owned(), id: (*id).to_owned() })
            }
            ["categories", id] if whole => Ok(Self::Category((*id).to_owned())),
            ["connections", id] if whole => Ok(Self::Connection((*id).to_owned())),
            ["tasks", id] if whole => Ok(Self::Task((*id).to_owned())),
            ["alerts", id] if whole => Ok(Self::Alert((*id).to_owned())),
            _ => {
                let detail = format!(
                    "the subject {subject:?} is not categories/{{id}}/reports/{{id}}, \
                     categories/{{id}}, connections/{{id}}, tasks/{{id}} or alerts/{{id}}"
                );
                Err(Reject::new(Reason::BadSubject, detail))
            }
        }
    }

    /// The filter of this resource's events.
    #[must_use]
    pub fn filter(&self) -> Filter {
        match self {
            Self::Report { .. } => Filter::Reports,
            Self::Category(_) => Filter::Categories,
            Self::Connection(_) => Filter::Connections,
            Self::Task(_) => Filter::Tasks,
            Self::Alert(_) => Filter::Alerts,
        }
    }

    /// Every scope, with its target, through which a permission can grant `read` on this resource.
    #[must_use]
    pub fn read_scopes(&self) -> Vec<(Scope, &str)> {
        match self {
            Self::Report { category, id } => vec![
                (Scope::AnyReport, ""),
                (Scope::Report, id),
                (Scope::ReportsInCategory, category),
            ],
            Self::Category(id) => vec![(Scope::AnyCategory, ""), (Scope::Category, id)],
            Self::Connection(id) => vec![(Scope::AnyConnection, ""), (Scope::Connection, id)],
            Self::Task(id) => vec![(Scope::AnyTask, ""), (Scope::Task, id)],
            Self::Alert(id) => vec![(Scope::AnyAlert, ""), (Scope::Alert, id)],
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Report { category, id } => write!(f, "categories/{category}/reports/{id}"),
            Self::Category(id) => write!(f, "categories/{id}"),
            Self::Connection(id) => write!(f, "connections/{id}"),
            Self::Task(id) => write!(f, "tasks/{id}"),
            Self::Alert(id) => write!(f, "alerts/{id}"),
        }
    }
}

/// The resources that a permission covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All reports.
    AnyReport,
    /// One report.
    Report,
    /// The reports of one category.
    ReportsInCategory,
    /// All categories.
    AnyCategory,
    /// One category itself, not its reports.
    Category,
    /// All data connections.
    AnyConnection,
    /// One data connection.
    Connection,
    /// All scheduled tasks.
    AnyTask,
    /// One scheduled task.
    Task,
    /// All data alerts.
    AnyAlert,
    /// One data alert.
    Alert,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 11] = [
        Self::AnyReport,
        Self::Report,
        Self::ReportsInCategory,
        Self::AnyCategory,
        Self::Category,
        Self::AnyConnection,
        Self::Connection,
        Self::AnyTask,
        Self::Task,
        Self::AnyAlert,
        Self::Alert,
    ];

    /// The name in directory documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AnyReport => "any-report",
            Self::Report => "report",
            Self::ReportsInCategory => "reports-in-category",
            Self::AnyCategory => "any-category",
            Self::Category => "category",
            Self::AnyConnection => "any-connection",
            Self::Connection => "connection",
            Self::AnyTask => "any-task",
            Self::Task => "task",
            Self::AnyAlert => "any-alert",
            Self::Alert => "alert",
        }
    }

    /// The scope with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }

    /// Whether a permission of this scope names a single target, as opposed to all of a kind.
    #[must_use]
    pub fn has_target(self) -> bool {
        !matches!(
            self,
            Self::AnyReport
                | Self::AnyCategory
                | Self::AnyConnection
                | Self::AnyTask
                | Self::AnyAlert
        )
    }
}
