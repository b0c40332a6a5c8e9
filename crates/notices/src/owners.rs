//! The sending of notices to owners, by the channels that they chose.
//!
//! It is apart from the channels of operators, and each owner's channel has its own time, so that a
//! receiver that does not answer delays neither operators nor, for long, other owners. The directory
//! and the owner's choice are asked when a notice is sent, and not when it was made.

use std::time::Duration;

use fanfare_core::explain::OwnerState;
use fanfare_core::notice::{Channel, Notice, OwnerChannels, may_send};
use fanfare_store::notices::OwnerDue;
use fanfare_store::{Store, StoreError};
use futures_util::future::try_join_all;
use lettre::message::{Mailbox, Mailboxes};
use uuid::Uuid;

use crate::webhook::Webhook;
use crate::{Config, NotSent, Sent, batch};

/// The most channels of owners that are served side by side.
const OWNERS: i64 = 32;
/// The most notices of each.
const EACH: i64 = 20;
/// The time for them. The store offers them again after half a minute.
const SEND_TIME: Duration = Duration::from_secs(10);

/// Sends what is due by the channels of owners. `on_sent` is called with what became of the notices of
/// a channel. While the directory is not known, nothing is sent.
///
/// # Errors
///
/// [`StoreError`]: the rest is sent in the next round.
pub async fn round(
    config: &Config,
    store: &Store,
    on_sent: impl Fn(Channel, Sent),
) -> Result<(), StoreError> {
    loop {
        if store.directory_state().await?.hold.is_some() {
            return Ok(());
        }
        let due = store.notices_owners_due(OWNERS, EACH).await?;
        if due.is_empty() {
            return Ok(());
        }
        let keys: Vec<&str> = due.iter().map(|due| due.owner_key.as_str()).collect();
        let users = store.user_status(&keys).await?;
        let chosen = store.notice_settings(&keys).await?;
        let sends = due.iter().map(async |due| {
            let status = users.get(&due.owner_key);
            let owner = status.map_or(OwnerState::Deleted, |status| (*status).into());
            let sent = send(config, store, due, owner, chosen.get(&due.owner_key)).await?;
            on_sent(due.channel, sent);
            Ok::<(), StoreError>(())
        });
        try_join_all(sends).await?;
    }
}

/// Sends the notices of one owner by one channel.
async fn send(
    config: &Config,
    store: &Store,
    due: &OwnerDue,
    owner: OwnerState,
    chosen: Option<&OwnerChannels>,
) -> Result<Sent, StoreError> {
    let OwnerDue { owner_key, channel, notices } = due;
    if let Err(why) = may_send(owner, chosen, *channel, &config.domains) {
        let ids: Vec<Uuid> = notices.iter().map(|notice| notice.id).collect();
        tracing::info!(
            channel = channel.code(),
            owner = owner_key,
            notices = ids.len(),
            reason = why.code(),
            "notices are not sent to an owner"
        );
        store.notices_withheld(&ids, *channel, why).await?;
        return Ok(Sent::default());
    }
    let Some(chosen) = chosen else { return Ok(Sent::default()) };
    if *channel == Channel::OwnerMail {
        store.notices_mail_begins(owner_key).await?;
    }
    let send = async |some: &[Notice]| match channel {
        Channel::OwnerWebhook => post(config, store, chosen, some).await,
        Channel::OwnerMail => mail(config, chosen, some).await,
        Channel::Exchange | Channel::Webhook | Channel::Mail => Ok(()),
    };
    batch(store, *channel, notices, SEND_TIME, send).await
}

async fn post(
    config: &Config,
    store: &Store,
    chosen: &OwnerChannels,
    notices: &[Notice],
) -> Result<(), NotSent> {
    let Some(own) = &chosen.webhook else { return Ok(()) };
    let (client, uri, secret) = (config.client.clone(), own.uri.clone(), own.secret.clone());
    Webhook { client, uri, secret }.send(notices, store.clock().now()).await
}

async fn mail(config: &Config, chosen: &OwnerChannels, notices: &[Notice]) -> Result<(), NotSent> {
    let (Some(mail), Some(address)) = (&config.mail, &chosen.mail) else {
        return Err(NotSent::NoMailServer);
    };
    let to: Mailbox = address.as_str().parse().map_err(NotSent::BadAddress)?;
    mail.send(&Mailboxes::new().with(to), notices).await
}
