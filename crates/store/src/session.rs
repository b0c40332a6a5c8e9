//! One session with the database, from its beginning: what it must be like, what is set for it, and
//! whether it still is this client's own.
//!
//! Settings are made after connecting. A server takes them at login as well, but poolers refuse them
//! there.
//!
//! A pooler that hands one session to several clients in turn loses what a session holds: prepared
//! statements, settings, `listen`, advisory locks. It can be recognised without asking what it is:
//! each session gets a mark, and one that finds another client's, or misses its own, is shared.

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

/// How long a second connection is waited for. A pooler may have no session left for it, and then
/// nothing can be said.
const SECOND: Duration = Duration::from_secs(2);

/// Whether this process has seen that its sessions are its own.
static PROVEN: AtomicBool = AtomicBool::new(false);

/// A connection that somebody has to drive, with or without TLS.
pub(crate) type SocketDriver =
    Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// What a session is recognised by.
pub(crate) struct Session {
    mark: String,
}

/// What a session was found to be like.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SessionState {
    /// It can be used.
    Usable,
    /// Its server does not allow writes.
    ReadOnly,
    /// It is not the one that this client began.
    Shared,
}

impl Session {
    /// Begins a session that has just been opened: with its mark, and these settings, which are
    /// calls of `set_config`.
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

    /// Looks what has become of a session.
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

    /// Whether this process has yet to see that its sessions are its own.
    pub(crate) fn is_unproven() -> bool {
        !PROVEN.load(Ordering::Relaxed)
    }

    /// Fails if the session is shared, as far as a second connection shows. A pooler gives that one
    /// the session that was used last: it finds a mark there. If it is given another one, and holds
    /// it by a transaction, this client may miss its own mark.
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
            // It was not let in: nothing is shown.
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

/// The two columns of a first row.
fn first_row(answer: &[SimpleQueryMessage]) -> [&str; 2] {
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let column = |at| row.and_then(|row| row.try_get(at).ok().flatten()).unwrap_or_default();
    [column(0), column(1)]
}
