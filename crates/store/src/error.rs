//! Why a statement did not succeed, and whether waiting helps.

use fanfare_core::chain::chain;
use tokio_postgres::error::SqlState;

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
    /// A statement failed.
    #[error("failed to {doing}")]
    Statement {
        /// What was being done, to follow "failed to".
        doing: &'static str,
        /// What the database said.
        #[source]
        source: tokio_postgres::Error,
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
        move |source| Self::Statement { doing, source }
    }

    /// Whether the data of this very call is what the database refused, so that the same call
    /// would be refused again.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        // Classes 22 (data exception), 23 (integrity) and 54 (a limit of the program).
        self.sql_state().is_some_and(|code| {
            ["22", "23", "54"].iter().any(|class| code.code().starts_with(class))
        })
    }

    /// Whether the tables are not there: `fanfare migrate` was not run.
    #[must_use]
    pub fn is_missing_schema(&self) -> bool {
        self.sql_state().is_some_and(|code| {
            *code == SqlState::UNDEFINED_TABLE || *code == SqlState::UNDEFINED_COLUMN
        })
    }

    fn sql_state(&self) -> Option<&SqlState> {
        match self {
            Self::Statement { source, .. } => source.code(),
            _ => None,
        }
    }

    /// The error with its causes, in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let text = chain(self);
        if self.is_missing_schema() { format!("{text} (run `fanfare migrate`)") } else { text }
    }
}
