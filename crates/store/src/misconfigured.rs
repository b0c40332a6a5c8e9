//! Why the database can't be used until a person has changed something.
//!
//! Waiting helps against a server that is away, starting, or full. It does not help against a wrong
//! password; so these reasons are told apart while a connection is opened, where nothing is at stake
//! yet.

use tokio_postgres::Error;

/// A fault of the installation: the database answers, and will give the same answer again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misconfiguration {
    /// The server does not let this user in.
    Login,
    /// The server has no such database.
    NoDatabase,
    /// The account may not do what it has to do.
    Rights,
    /// The server, or a pooler before it, refuses a setting of the connection string.
    Setting,
    /// The database does not store text as UTF-8.
    Encoding,
    /// Client and server do not agree about TLS.
    Tls,
    /// A pooler gives one session of the server to several clients in turn.
    SharedSessions,
}

impl Misconfiguration {
    /// What a person has to do.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::Login => {
                "correct the user and password in FANFARE_DATABASE_URL, or let this user log in \
                 (alter role, pg_hba.conf, or the pooler's auth_file)"
            }
            Self::NoDatabase => {
                "correct the database's name in FANFARE_DATABASE_URL, or create it with `createdb \
                 --encoding=UTF8 --template=template0`"
            }
            Self::Rights => {
                "run `fanfare migrate` as the owner of the tables, which grants the roles their \
                 rights, and let this process log in as the role that deploy/postgres makes for it"
            }
            Self::Setting => {
                "take this setting out of FANFARE_DATABASE_URL; what a session needs can be set with \
                 `alter role ... set`"
            }
            Self::Encoding => {
                "create another database with `createdb --encoding=UTF8 --template=template0`, and \
                 move the data there, if there is any, with pg_dump and pg_restore"
            }
            Self::Tls => {
                "correct sslmode, sslrootcert, sslcert and sslkey in FANFARE_DATABASE_URL, or the \
                 server's TLS settings"
            }
            Self::SharedSessions => {
                "set pool_mode = session in the pooler for this database, with server_reset_query = \
                 DISCARD ALL, or connect to PostgreSQL itself"
            }
        }
    }

    /// What an attempt to connect failed with, if waiting does not help.
    pub(crate) fn of_connecting(error: &Error) -> Option<Self> {
        let Some(database) = error.as_db_error() else {
            return of_client(error);
        };
        // PostgreSQL's Appendix A.
        match database.code().code() {
            "28P01" | "28000" => Some(Self::Login),
            "3D000" => Some(Self::NoDatabase),
            "42501" => Some(Self::Rights),
            // Not known, can't be changed now, a value that it can't have, and a bad `options`.
            "42704" | "55P02" | "22023" | "42601" => Some(Self::Setting),
            "08P01" => of_pooler(database.message()),
            _ => None,
        }
    }
}

/// `PgBouncer` has one code for nearly everything; its words, which are never translated, differ
/// (`src/client.c` and `src/objects.c` of its source). What is not named here may pass.
fn of_pooler(message: &str) -> Option<Misconfiguration> {
    const WORDS: [(&str, Misconfiguration); 8] = [
        ("unsupported startup parameter", Misconfiguration::Setting),
        ("unsupported options startup parameter", Misconfiguration::Setting),
        ("no such database", Misconfiguration::NoDatabase),
        ("no such user", Misconfiguration::Login),
        ("auth failed", Misconfiguration::Login),
        ("authentication failed", Misconfiguration::Login),
        ("login rejected", Misconfiguration::Login),
        ("SSL required", Misconfiguration::Tls),
    ];
    // What the server said to the pooler: the pooler tries again, and so do we.
    if message.starts_with("server login failed") {
        return None;
    }
    WORDS.iter().find(|(words, _)| message.contains(words)).map(|(_, what)| *what)
}

/// The client's own reasons. The library tells them apart by nothing but its words; the tests of the
/// commands show that they still are these.
fn of_client(error: &Error) -> Option<Misconfiguration> {
    match error.to_string().as_str() {
        // The server asks for a password, and none is given; or it can't do what was agreed.
        "invalid configuration" | "authentication error" => Some(Misconfiguration::Login),
        "error performing TLS handshake" if fanfare_tls::is_of_tls(error) => {
            Some(Misconfiguration::Tls)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pooler_is_understood_by_its_words() {
        for (words, expected) in [
            ("unsupported startup parameter: options", Some(Misconfiguration::Setting)),
            ("no such database: x", Some(Misconfiguration::NoDatabase)),
            ("no such user: x", Some(Misconfiguration::Login)),
            ("password authentication failed", Some(Misconfiguration::Login)),
            ("SASL authentication failed", Some(Misconfiguration::Login)),
            ("SSL required", Some(Misconfiguration::Tls)),
            ("server login failed: FATAL password authentication failed", None),
            ("no more connections allowed (max_client_conn)", None),
            ("query_wait_timeout", None),
            ("pgbouncer cannot connect to server", None),
        ] {
            assert_eq!(of_pooler(words), expected, "{words}");
        }
    }
}
