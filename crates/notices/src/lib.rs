//! Notices: the check of the installation for causes, and the sending of what follows from it.
//!
//! A [`round`] checks the conditions of the installation, which one process at a time does, and then
//! sends what is due by each [`Channel`]. The channels work side by side, so that one that fails does
//! not delay the others. A notice that could not be sent is tried again in a later round, with the same
//! id. An [`owners_round`] does the same for the channels of owners, apart from those of operators.

mod error;
mod exchange;
mod mail;
mod owners;
mod webhook;

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_broker::Session;
use fanfare_core::chain::chain;
use fanfare_core::mail_address::MailDomains;
use fanfare_core::notice::{Channel, Limits, Notice};
use fanfare_failpoints::failpoint;
use fanfare_outbound::Client;
use fanfare_store::{Store, StoreError};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

pub use error::NotSent;
pub use lettre::message::{Mailbox, Mailboxes};
pub use mail::{BadServer, Mail, Server, address, addresses};
pub use owners::round as owners_round;
pub use webhook::Webhook;

/// The most notices of a channel that are taken at a time.
const AT_ONCE: i64 = 8;
/// The longest time for sending them. The store offers them again after half a minute.
const SEND_TIME: Duration = Duration::from_secs(20);

/// When conditions count, and by what notices are sent.
#[derive(Debug, Clone)]
pub struct Config {
    /// From which times on conditions count.
    pub limits: Limits,
    /// The time between two checks of the installation.
    pub every: Duration,
    /// The operator's webhook.
    pub webhook: Option<Webhook>,
    /// The mail server with the sender.
    pub mail: Option<Mail>,
    /// The operators who get mail.
    pub operators: Option<Mailboxes>,
    /// The client towards the addresses that owners chose, with its rules for addresses.
    pub client: Client,
    /// The domains to which owners may have mail sent.
    pub domains: MailDomains,
}

impl Config {
    /// The channels of operators.
    #[must_use]
    pub fn channels(&self) -> Vec<Channel> {
        let webhook = self.webhook.as_ref().map(|_| Channel::Webhook);
        let mail = self.mail.as_ref().and(self.operators.as_ref()).map(|_| Channel::Mail);
        [Some(Channel::Exchange), webhook, mail].into_iter().flatten().collect()
    }

    /// Sends notices by a channel. One that is not set any more has nothing to do.
    async fn send(
        &self,
        channel: Channel,
        notices: &[Notice],
        session: &Session,
        now: DateTime<Utc>,
    ) -> Result<(), NotSent> {
        match (channel, &self.webhook, &self.mail, &self.operators) {
            (Channel::Exchange, ..) => exchange::send(session, notices).await,
            (Channel::Webhook, Some(webhook), ..) => webhook.send(notices, now).await,
            (Channel::Mail, _, Some(mail), Some(operators)) => mail.send(operators, notices).await,
            (Channel::Webhook | Channel::Mail | Channel::OwnerWebhook | Channel::OwnerMail, ..) => {
                Ok(())
            }
        }
    }
}

/// What became of the notices of a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Those that were sent.
    pub sent: usize,
    /// Those that could not be sent, and are tried later.
    pub failed: usize,
}

/// Checks the installation if it is time, and sends what is due by the channels of operators. `on_sent`
/// is called with what became of the notices of a channel.
///
/// # Errors
///
/// [`StoreError`]: the rest is sent in the next round.
pub async fn round(
    config: &Config,
    store: &Store,
    session: &Session,
    on_sent: impl Fn(Channel, Sent),
) -> Result<(), StoreError> {
    let channels = config.channels();
    if let Some(new) = store.notices_check(&config.limits, config.every, &channels).await? {
        if new > 0 {
            tracing::info!(notices = new, "there are new notices");
        }
        store.notices_sweep().await?;
    }
    let sender = Sender { config, store, session };
    let [exchange, webhook, mail] = Channel::OPERATORS;
    tokio::try_join!(
        sender.channel(exchange, &on_sent),
        sender.channel(webhook, &on_sent),
        sender.channel(mail, &on_sent)
    )?;
    Ok(())
}

/// The sending of notices by the channels of operators.
struct Sender<'a> {
    config: &'a Config,
    store: &'a Store,
    session: &'a Session,
}

impl Sender<'_> {
    /// Sends everything that is due by a channel, up to the first failure: a server that does not answer
    /// costs one time-out, and not one for each notice.
    async fn channel(
        &self,
        channel: Channel,
        on_sent: &impl Fn(Channel, Sent),
    ) -> Result<(), StoreError> {
        loop {
            let due = self.store.notices_due(channel, AT_ONCE).await?;
            if due.is_empty() {
                return Ok(());
            }
            let sent = self.batch(channel, &due).await?;
            on_sent(channel, sent);
            if sent.failed > 0 {
                return Ok(());
            }
        }
    }

    async fn batch(&self, channel: Channel, due: &[Notice]) -> Result<Sent, StoreError> {
        let send = async |some: &[Notice]| {
            let now = self.store.clock().now();
            self.config.send(channel, some, self.session, now).await
        };
        batch(self.store, channel, due, SEND_TIME, send).await
    }
}

/// Sends notices by a channel within a time, up to the first failure, and notes what became of them.
async fn batch(
    store: &Store,
    channel: Channel,
    due: &[Notice],
    time: Duration,
    send: impl AsyncFn(&[Notice]) -> Result<(), NotSent>,
) -> Result<Sent, StoreError> {
    let deadline = Instant::now() + time;
    let mut done = 0;
    for some in due.chunks(at_a_time(channel)) {
        let result = match timeout_at(deadline, send(some)).await {
            Ok(result) => result,
            Err(_) => Err(NotSent::Late { seconds: time.as_secs() }),
        };
        if let Err(error) = result {
            let rest = due.get(done..).unwrap_or_default();
            note_failed(store, channel, rest, &error).await?;
            return Ok(Sent { sent: done, failed: rest.len() });
        }
        failpoint!(NoticesSent);
        note_sent(store, channel, some).await?;
        done += some.len();
    }
    Ok(Sent { sent: done, failed: 0 })
}

/// How many notices a channel sends together.
fn at_a_time(channel: Channel) -> usize {
    match channel {
        Channel::Exchange | Channel::Webhook | Channel::OwnerWebhook => 1,
        Channel::Mail | Channel::OwnerMail => 100,
    }
}

async fn note_sent(store: &Store, channel: Channel, notices: &[Notice]) -> Result<(), StoreError> {
    for notice in notices {
        let (id, kind) = (notice.id.simple(), notice.kind.code());
        tracing::info!(notice.id = %id, notice.r#type = kind, channel = channel.code(), "sent a notice");
    }
    store.notices_sent(&ids(notices), channel).await
}

async fn note_failed(
    store: &Store,
    channel: Channel,
    notices: &[Notice],
    error: &NotSent,
) -> Result<(), StoreError> {
    let (count, error) = (notices.len(), chain(error));
    let code = channel.code();
    tracing::warn!(
        channel = code,
        notices = count,
        error,
        "failed to send notices; they are tried again"
    );
    store.notices_failed(&ids(notices), channel, &error).await
}

fn ids(notices: &[Notice]) -> Vec<Uuid> {
    notices.iter().map(|notice| notice.id).collect()
}
