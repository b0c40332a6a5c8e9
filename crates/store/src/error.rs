//! The errors of this crate, and the remedy for each.

use fanfare_core::chain::{causes, chain};
use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::generation::discard_open_connections;
use crate::misconfigured::Misconfiguration;
use crate::unreachable::Unreachable;

/// The remedy for a statement that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// There is none: the database refused the data of this call, and would refuse it again.
    NeverRepeat,
    /// Repeat it at once: it lost against another transaction.
    Repeat,
    /// Wait: the database is unavailable, or a person has to correct something.
    Wait,
    /// Try a smaller call: this one needs too much time or memory, or meets a fault of the server.
    /// The cause may also be the state of the database.
    Reduce,
}

/// The remedy for an error code.
fn remedy(code: &SqlState) -> Remedy {
    // PostgreSQL's Appendix A; the first two characters are the class.
    match code.code() {
        // A full disk, too many connections, missing rights, and a character that the database's
        // encoding does not have: no other call would succeed either.
        "53100" | "53300" | "42501" | "22P05" => Remedy::Wait,
        // The last two concern a statement that was prepared for an earlier schema or session.
        "40001" | "40P01" | "26000" | "42P05" => Remedy::Repeat,
        // `statement_timeout`, cancelled by a person, and `lock_timeout`.
        "57014" | "55P03" => Remedy::Reduce,
        code => match code.get(..2) {
            // Data exceptions, integrity, and limits of the program.
            Some("22" | "23" | "54") => Remedy::NeverRepeat,
            // Not supported, access rule or syntax, resources, and internal errors.
            Some("0A" | "42" | "53" | "XX") => Remedy::Reduce,
            _ => Remedy::Wait,
        },
    }
}

/// Whether a statement failed only because it was prepared before the schema changed, or because
/// its session has lost it. It had no effect, and may succeed when it is prepared again.
pub(crate) fn is_stale(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| match error.code().code() {
        "26000" | "42P05" => true,
        // "cached plan must not change result type", in any language. The code has other meanings;
        // the function that reports it has only this one.
        "0A000" => error.routine() == Some("RevalidateCachedQuery"),
        _ => false,
    })
}

/// Whether a row did not fit into its partition, because a better one was made at this moment. The next
/// try finds that one. (The violation of a table's own condition names a constraint.)
fn lacks_partition(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| {
        *error.code() == SqlState::CHECK_VIOLATION && error.constraint().is_none()
    })
}

/// Whether an error shows that the open connections can't be used any more: their server only
/// reads, is shutting down, or has lost their prepared statements.
fn ends_connections(error: &tokio_postgres::Error) -> bool {
    use std::error::Error as _;
    let is_cut = error.source().is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
    let says_so = error.as_db_error().is_some_and(is_of_connection);
    says_so || is_cut || error.is_closed() || is_stale(error)
}

fn is_of_connection(error: &DbError) -> bool {
    let code = error.code().code();
    // 25006 is a standby, 25P02 a failed transaction that was not rolled back. 57P01 to 57P05,
    // 25P03 and every fatal error end the session.
    matches!(code, "25006" | "25P02" | "25P03")
        || code.starts_with("57P")
        || code.starts_with("08")
        || matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
}

/// A statement that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The connection string can't be used.
    #[error("the database URL can't be used")]
    BadUrl(#[source] tokio_postgres::Error),
    /// A part of the connection string can't be used.
    #[error("the {name} of the database URL can't be used; give {form}")]
    BadParameter {
        /// The part's name.
        name: &'static str,
        /// The form that the part must have.
        form: &'static str,
    },
    /// The files for TLS that the connection string names can't be used.
    #[error("TLS to the database can't be set up")]
    Tls(#[source] fanfare_tls::TlsError),
    /// No connection could be opened, or none became free in time.
    #[error("failed to reach the database")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database answers, but can't be used until a person corrects the installation.
    #[error("the database can't be used")]
    Misconfigured {
        what: Misconfiguration,
        #[source]
        source: Unreachable,
    },
    /// The database was migrated by a newer program.
    #[error("the database is at version {database}, newer than this program's {program}")]
    SchemaAhead { database: i32, program: i32 },
    /// The database was migrated by a version whose migrations this program does not have.
    #[error("this database was made by a version before 0.1.0, and its schema can't be upgraded")]
    SchemaUnreleased,
    /// A statement failed.
    #[error("failed to {doing}")]
    Statement {
        /// The action, to follow "failed to".
        doing: &'static str,
        #[source]
        source: tokio_postgres::Error,
    },
    /// A connection that should answer often was silent for some seconds.
    #[error("failed to {doing}: the connection is silent")]
    Silent {
        /// The action, to follow "failed to".
        doing: &'static str,
    },
    /// The server does not allow writes any more, so another one is the primary.
    #[error("failed to {doing}: the server does not allow writes any more")]
    ReadOnly {
        /// The action, to follow "failed to".
        doing: &'static str,
    },
    /// A statement that always has a row had none.
    #[error("failed to {doing}: the database answered no row")]
    NoRow {
        /// The action, to follow "failed to".
        doing: &'static str,
    },
    /// A row has no such column, or its value has another type than this program expects.
    #[error("failed to read the column {name}")]
    Column {
        name: &'static str,
        #[source]
        source: tokio_postgres::Error,
    },
    /// A row has a value that this program never writes.
    #[error("the column {column} of table {table} has a value that no version of Fanfare writes")]
    Inconsistent { table: &'static str, column: &'static str },
    /// A secret was sealed with a key that the key ring does not have.
    #[error("a secret is sealed with the key '{0}', which FANFARE_SECRET_KEYS does not hold")]
    UnknownKey(String),
    /// A secret can't be opened with the key whose id it has.
    #[error("a secret can't be opened with the key '{0}': the key or the row was changed")]
    WrongKey(String),
    /// The operating system gave no random bytes.
    #[error("failed to get random bytes: {0}")]
    Random(String),
    /// A password can't be hashed.
    #[error("failed to hash the password: {0}")]
    Password(String),
    /// The owner has the highest number of webhooks that is allowed.
    #[error("the user '{owner}' has the highest number of webhooks that is allowed ({most})")]
    TooManyWebhooks { owner: String, most: u32 },
    /// Another process is importing a snapshot.
    #[error("another snapshot is being imported; wait until it is done and try again")]
    ImportUnderWay,
    /// The revision of a directory document is too far ahead to be credible.
    #[error(
        "the revision {revision} is too far ahead to be credible; if it is correct, run `fanfare \
         directory accept-revision {revision}` and try again"
    )]
    RevisionJump { revision: i64 },
    /// The migrations could not be applied.
    #[error("failed to migrate the database")]
    Migrate(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    pub(crate) fn at(doing: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| {
            if ends_connections(&source) {
                // Idle connections, and those that only read, would go on using that server.
                discard_open_connections();
            }
            Self::Statement { doing, source }
        }
    }

    /// Whether the database refused the data of this call, so that it would refuse the same call
    /// again.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.remedy() == Remedy::NeverRepeat
    }

    /// The remedy for this error.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        if self.is_missing_schema() {
            return Remedy::Wait;
        }
        match self {
            Self::Statement { source, .. } if is_stale(source) || lacks_partition(source) => {
                Remedy::Repeat
            }
            _ => self.sql_state().map_or(Remedy::Wait, remedy),
        }
    }

    /// The action by which a person makes the database usable; `None` when waiting may help.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Misconfigured { what, .. } => Some(what.advice()),
            Self::SchemaAhead { .. } => Some("install the newer Fanfare"),
            Self::SchemaUnreleased => Some(
                "create an empty database, run `fanfare migrate` there, import the directory and add \
                 the webhooks and accounts again; or keep using the version that created this one",
            ),
            _ if self.is_missing_schema() => Some("run `fanfare migrate`"),
            _ if self.sql_state() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                Some(Misconfiguration::Rights.advice())
            }
            _ => None,
        }
    }

    /// Whether the call may have taken effect although no success was reported: its answer was
    /// lost, or the server ended the connection.
    #[must_use]
    pub fn may_have_taken_effect(&self) -> bool {
        let source = match self {
            Self::Statement { source, .. } => source,
            // The answer has arrived, but can't be used.
            Self::Column { .. } | Self::NoRow { .. } => return true,
            _ => return false,
        };
        source.as_db_error().is_none_or(|error| {
            let code = error.code().code();
            // A connection may be ended after the commit and before its answer.
            let is_ending =
                matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
            is_ending || code.starts_with("08") || code == "40003"
        })
    }

    /// Whether the database ended the statement, because it took too long or was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.sql_state() == Some(&SqlState::QUERY_CANCELED)
    }

    /// Whether tables or columns are missing, because `fanfare migrate` was not run.
    #[must_use]
    pub fn is_missing_schema(&self) -> bool {
        let Self::Statement { source, .. } = self else { return false };
        source.code().is_some_and(|code| {
            *code == SqlState::UNDEFINED_TABLE || *code == SqlState::UNDEFINED_COLUMN
        })
    }

    pub(crate) fn sql_state(&self) -> Option<&SqlState> {
        match self {
            Self::Statement { source, .. } => source.code(),
            Self::Migrate(source) => state_of(source.as_ref()),
            _ => None,
        }
    }

    /// The error with its causes, in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        match self.advice() {
            Some(advice) => format!("{} ({advice})", chain(self)),
            None => chain(self),
        }
    }
}

impl From<Unreachable> for StoreError {
    fn from(unreachable: Unreachable) -> Self {
        match unreachable.misconfigured() {
            Some(what) => Self::Misconfigured { what, source: unreachable },
            None => Self::Connect(Box::new(unreachable)),
        }
    }
}

/// The SQLSTATE of the database's error among the causes of a library's error.
fn state_of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a SqlState> {
    causes(error).find_map(|cause| cause.downcast_ref::<tokio_postgres::Error>())?.code()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedy_of_an_error_code_is_that_of_its_class_or_its_own() {
        let codes = [
            ("22021", Remedy::NeverRepeat),
            ("22P05", Remedy::Wait),
            ("26000", Remedy::Repeat),
            ("23505", Remedy::NeverRepeat),
            ("54000", Remedy::NeverRepeat),
            ("40001", Remedy::Repeat),
            ("40P01", Remedy::Repeat),
            ("57014", Remedy::Reduce),
            ("53200", Remedy::Reduce),
            ("XX000", Remedy::Reduce),
            ("0A000", Remedy::Reduce),
            ("42883", Remedy::Reduce),
            ("53100", Remedy::Wait),
            ("53300", Remedy::Wait),
            ("42501", Remedy::Wait),
            ("25006", Remedy::Wait),
            ("57P01", Remedy::Wait),
            ("08006", Remedy::Wait),
        ];
        for (code, expected) in codes {
            assert_eq!(remedy(&SqlState::from_code(code)), expected, "{code}");
        }
    }
}
