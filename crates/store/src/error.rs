//! Why a statement did not succeed, and whether waiting helps.

use fanfare_core::chain::{causes, chain};
use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::generation::discard_open_connections;
use crate::misconfigured::Misconfiguration;
use crate::unreachable::Unreachable;

/// What may help a statement that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing: the database refused the data of this call, and would do so again.
    NeverRepeat,
    /// Repeating it at once: it lost against another transaction.
    Repeat,
    /// Time: the database is away or unwell, or a person must do something.
    Wait,
    /// Perhaps a smaller call: this one takes too long or too much, or meets a fault of the
    /// server. It may be the database's state as well.
    Reduce,
}

/// What may help after this error code.
fn remedy(code: &SqlState) -> Remedy {
    // PostgreSQL's Appendix A; the first two characters are the class.
    match code.code() {
        // A full disk, too many connections, missing rights, and a character that the database's
        // encoding does not have, are nobody's call.
        "53100" | "53300" | "42501" | "22P05" => Remedy::Wait,
        // The latter two are about a prepared statement of an earlier schema or session.
        "40001" | "40P01" | "26000" | "42P05" => Remedy::Repeat,
        // `statement_timeout`, a person's cancel, and a conflict on a standby.
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

/// Whether a statement failed only because it was prepared before the schema changed, or on a session
/// that has forgotten it: prepared again, it may succeed. It has had no effect.
pub(crate) fn is_stale(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| match error.code().code() {
        "26000" | "42P05" => true,
        // "cached plan must not change result type", in whatever language: the code has other
        // meanings, the function that says so has none.
        "0A000" => error.routine() == Some("RevalidateCachedQuery"),
        _ => false,
    })
}

/// Whether an error says that the connections that are open now are of no use any more: their server
/// only reads, is ending, or has lost what they prepared.
fn ends_connections(error: &tokio_postgres::Error) -> bool {
    use std::error::Error as _;
    let is_cut = error.source().is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
    let says_so = error.as_db_error().is_some_and(is_of_connection);
    says_so || is_cut || error.is_closed() || is_stale(error)
}

fn is_of_connection(error: &DbError) -> bool {
    let code = error.code().code();
    // 25006 is a standby, 25P02 a transaction that was left failed; 57P01 to 57P05 and 25P03 end
    // the session, as does whatever is fatal.
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
        /// What it must be.
        form: &'static str,
    },
    /// What the connection string says of TLS can't be used.
    #[error("TLS to the database can't be set up")]
    Tls(#[source] fanfare_tls::TlsError),
    /// No connection could be had.
    #[error("failed to reach the database")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database is there, and can't be used until a person has changed something.
    #[error("the database can't be used")]
    Misconfigured {
        /// What is wrong.
        what: Misconfiguration,
        /// What each host answered.
        #[source]
        source: Unreachable,
    },
    /// The database was migrated by a newer program.
    #[error("the database is at version {database}, newer than this program's {program}")]
    SchemaAhead {
        /// The database's version.
        database: i32,
        /// This program's.
        program: i32,
    },
    /// The database was migrated by a version whose migrations this program does not have.
    #[error("this database was made by a version before 0.1.0, and its schema can't be upgraded")]
    SchemaUnreleased,
    /// A statement failed.
    #[error("failed to {doing}")]
    Statement {
        /// What was being done, to follow "failed to".
        doing: &'static str,
        /// What the database said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A connection that should answer often said nothing for some seconds.
    #[error("failed to {doing}: the connection is silent")]
    Silent {
        /// What was being done, to follow "failed to".
        doing: &'static str,
    },
    /// The server does not allow writes any more, and so is not the one to ask.
    #[error("failed to {doing}: the server does not allow writes any more")]
    ReadOnly {
        /// What was being done, to follow "failed to".
        doing: &'static str,
    },
    /// A row holds what the program never writes.
    #[error("the column {column} of table {table} holds what no version of Fanfare writes")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
    },
    /// A secret was sealed with a key that the key ring does not have.
    #[error("a secret is sealed with the key '{0}', which FANFARE_SECRET_KEYS does not hold")]
    UnknownKey(String),
    /// A secret can't be opened with the key that it names.
    #[error("a secret can't be opened with the key '{0}': the key or the row was changed")]
    WrongKey(String),
    /// The operating system gave no random bytes.
    #[error("failed to get random bytes: {0}")]
    Random(String),
    /// A password can't be hashed.
    #[error("failed to hash the password: {0}")]
    Password(String),
    /// The owner has as many webhooks as one may have.
    #[error("the user '{owner}' has as many webhooks as one may have ({most})")]
    TooManyWebhooks {
        /// Who.
        owner: String,
        /// How many that is.
        most: u32,
    },
    /// Another process takes a snapshot.
    #[error("another snapshot is being taken; wait until it is done and try again")]
    ImportUnderWay,
    /// A directory document's revision is too far ahead to be believed.
    #[error(
        "the revision {revision} is too far ahead to be believed; if it is right, run `fanfare \
         directory accept-revision {revision}` and try again"
    )]
    RevisionJump {
        /// The revision.
        revision: i64,
    },
    /// The migrations could not be applied.
    #[error("failed to migrate the database")]
    Migrate(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    pub(crate) fn at(doing: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| {
            if ends_connections(&source) {
                // Those that are not asked now, or that only read, would keep to that server.
                discard_open_connections();
            }
            Self::Statement { doing, source }
        }
    }

    /// Whether the data of this very call is what the database refused, so that the same call
    /// would be refused again.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.remedy() == Remedy::NeverRepeat
    }

    /// What may help.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        if self.is_missing_schema() {
            return Remedy::Wait;
        }
        match self {
            Self::Statement { source, .. } if is_stale(source) => Remedy::Repeat,
            _ => self.sql_state().map_or(Remedy::Wait, remedy),
        }
    }

    /// What a person has to change before the database can be used; `None` where time may help.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Misconfigured { what, .. } => Some(what.advice()),
            Self::SchemaAhead { .. } => Some("install the newer Fanfare"),
            Self::SchemaUnreleased => Some(
                "create an empty database, run `fanfare migrate` there, import the directory and add \
                 the webhooks and accounts again; or go on with the version that made this one",
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
        let Self::Statement { source, .. } = self else { return false };
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

    /// Whether the tables are not there: `fanfare migrate` was not run.
    #[must_use]
    pub fn is_missing_schema(&self) -> bool {
        let Self::Statement { source, .. } = self else { return false };
        source.code().is_some_and(|code| {
            *code == SqlState::UNDEFINED_TABLE || *code == SqlState::UNDEFINED_COLUMN
        })
    }

    fn sql_state(&self) -> Option<&SqlState> {
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
    fn codes_say_what_may_help() {
        let expected = [
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
        for (code, helps) in expected {
            assert_eq!(remedy(&SqlState::from_code(code)), helps, "{code}");
        }
    }
}
