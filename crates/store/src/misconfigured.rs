//! Faults of the installation that a person has to correct before the database can be used.
//!
//! Waiting helps when a server is unavailable, starting, or has no free connections. It does not
//! help when the password is wrong. These faults are recognised while a connection is opened,
//! before any statement runs.

use tokio_postgres::Error;

/// A fault of the installation: the database refuses the connection, and would refuse it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misconfiguration {
    /// The server refuses this user or password.
    Login,
    /// The server has no such database.
    NoDatabase,
    /// The account lacks rights.
    Rights,
    /// The server, or a pooler in front of it, refuses a setting of the connection string.
    Setting,
    /// The database does not store text as UTF-8.
    Encoding,
    /// Client and server do not agree about TLS.
    Tls,
    /// A pooler gives one session of the server to several clients in turn.
    SharedSessions,
}

impl Misconfiguration {
    /// The action that corrects the fault.
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

    /// The fault for which a connection failed; `None` when waiting may help.
    pub(crate) fn of_connecting(error: &Error) -> Option<Self> {
        let Some(database) = error.as_db_error() else {
            return of_client(error);
        };
        // PostgreSQL's Appendix A.
        match database.code().code() {
            "28P01" | "28000" => Some(Self::Login),
            "3D000" => Some(Self::NoDatabase),
            "42501" => Some(Self::Rights),
            // A setting that is not known, can't be changed now or can't have this value, and an
            // invalid `options`.
            "42704" | "55P02" | "22023" | "42601" => Some(Self::Setting),
            "08P01" => of_pooler(database.message()),
            _ => None,
        }
    }
}

/// Recognises a fault by the message of `PgBouncer`, which has one code for nearly all errors and
/// never translates its messages (`src/client.c` and `src/objects.c` of its source). Other messages
/// may be about a fault that passes.
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
    // The server refused the pooler, which tries again.
    if message.starts_with("server login failed") {
        return None;
    }
    WORDS.iter().find(|(words, _)| message.contains(words)).map(|(_, what)| *what)
}

/// Recognises an error of the client. The library's errors differ only in their messages; the tests
/// of the commands show that these have not changed.
fn of_client(error: &Error) -> Option<Misconfiguration> {
    match error.to_string().as_str() {
        // The server asks for a password and none is given, or the authentication failed.
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
    fn fault_is_recognised_by_the_poolers_message() {
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
