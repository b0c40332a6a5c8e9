//! Sessions: how one is begun, and how a session that is shared with other clients is recognised.
//!
//! Settings are made after connecting. A server accepts them at login as well, but poolers refuse
//! them there.
//!
//! A pooler that gives one session to several clients in turn loses the state of the session:
//! prepared statements, settings, `listen` and advisory locks. It is recognised by marks, whatever
//! its product: each client marks its session, and a session is shared when a client finds
//! another's mark, or does not find its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Connection, Error, SimpleQueryMessage, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;
use uuid::Uuid;

use crate::misconfigured::Misconfiguration;
use crate::unreachable::HostError;

/// The only encoding in which every event can be stored.
const ENCODING: &str = "UTF8";

/// The time limit for a second connection. A pooler may have no session left for it, and then the
/// proof is not possible.
const SECOND: Duration = Duration::from_secs(2);

/// Whether it was shown that this process's sessions are not shared.
static PROVEN: AtomicBool = AtomicBool::new(false);

/// The half of a connection that does its input and output, with or without TLS. A task has to
/// drive it.
pub(crate) type SocketDriver =
    Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// A session, recognised by its mark.
pub(crate) struct Session {
    mark: String,
}

/// The state of a session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SessionState {
    Usable,
    /// Its server does not allow writes.
    ReadOnly,
    /// It is not the session that this client began.
    Shared,
}

impl Session {
    /// Marks a session that has just been opened, and makes its settings, which are calls of
    /// `set_config`.
    pub(crate) async fn begin(client: &Client, settings: &str) -> Result<Self, HostError> {
        let mark = Uuid::new_v4().simple().to_string();
        let statement = format!(
            "-- session_begin\nselect current_setting('server_encoding'), {MARK};
             select set_config('fanfare.session', '{mark}', false){settings}"
        );
        let answer = client.simple_query(&statement).await?;
        let [encoding, former] = first_row(&answer);
        if encoding != ENCODING {
            let reason = format!("the database's encoding is {encoding}, and not {ENCODING}");
            return Err(HostError::misconfigured(Misconfiguration::Encoding, reason));
        }
        if former.is_empty() { Ok(Self { mark }) } else { Err(shared()) }
    }

    /// Checks the state of a session.
    pub(crate) async fn inspect(&self, client: &Client) -> Result<SessionState, Error> {
        let statement =
            format!("-- session_look\nselect current_setting('transaction_read_only'), {MARK}");
        let answer = client.simple_query(&statement).await?;
        let [read_only, mark] = first_row(&answer);
        Ok(match (read_only, mark) {
            ("off", mark) if mark == self.mark => SessionState::Usable,
            ("off", _) => {
                PROVEN.store(false, Ordering::Relaxed);
                SessionState::Shared
            }
            _ => SessionState::ReadOnly,
        })
    }

    /// Whether it still has to be shown that this process's sessions are not shared.
    pub(crate) fn is_unproven() -> bool {
        !PROVEN.load(Ordering::Relaxed)
    }

    /// Fails if a second connection shows that the session is shared. A pooler gives the second
    /// connection the session that was used last, where it finds a mark. If it gets another session
    /// and holds it by a transaction, this client may not find its own mark.
    pub(crate) async fn prove(
        &self,
        client: &Client,
        second: impl Future<Output = Result<(Client, SocketDriver), Error>>,
    ) -> Result<(), HostError> {
        let Ok(Ok((second, driver))) = timeout(SECOND, second).await else {
            return Ok(());
        };
        tokio::spawn(driver);
        let statement = format!("-- session_prove\nselect '', {MARK}");
        let Ok(Ok(answer)) = timeout(SECOND, second.simple_query(&statement)).await else {
            // The second connection was refused, so there is no proof.
            return Ok(());
        };
        if !first_row(&answer)[1].is_empty() {
            return Err(shared());
        }
        let held = timeout(SECOND, second.simple_query("-- session_hold\nbegin; select 1")).await;
        if matches!(held, Ok(Ok(_))) && self.inspect(client).await? == SessionState::Shared {
            return Err(shared());
        }
        PROVEN.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// A session's mark, or nothing.
const MARK: &str = "coalesce(current_setting('fanfare.session', true), '')";

fn shared() -> HostError {
    let reason = "a pooler gives one session to several clients in turn (pool_mode transaction or \
                statement), and Fanfare needs sessions of its own";
    HostError::misconfigured(Misconfiguration::SharedSessions, reason.to_owned())
}

/// The two columns of the first row.
fn first_row(answer: &[SimpleQueryMessage]) -> [&str; 2] {
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let column = |at| row.and_then(|row| row.try_get(at).ok().flatten()).unwrap_or_default();
    [column(0), column(1)]
}
