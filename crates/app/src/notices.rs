//! The use cases of notices: list them, and choose the channels of the own ones.

pub mod settings;

use fanfare_core::name::Name;
use fanfare_core::notice::Channel;
use fanfare_store::StoreError;
use fanfare_store::notices::{Listed, Send, SendState};
use uuid::Uuid;

use crate::{Actor, Context, NotAdministrator};

/// A page of notices.
#[derive(Debug)]
pub struct NoticePage {
    pub notices: Vec<Listed>,
    /// The notice after which the next page begins; `None` on the last page.
    pub next: Option<Uuid>,
}

/// Why notices can't be listed.
#[derive(Debug, thiserror::Error)]
pub enum NoticeError {
    /// The actor asks about another user's webhooks.
    #[error(transparent)]
    NotAdministrator(#[from] NotAdministrator),
    /// The database did not answer, or refused the statement.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Lists a page of notices, the newest first. A user gets those about the user's own webhooks, without
/// the channels of operators.
///
/// # Errors
///
/// [`NoticeError`]
pub async fn list(
    context: &Context,
    actor: &Actor,
    owner: Option<Name>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<NoticePage, NoticeError> {
    let owner = actor.owner_filter(owner)?;
    let most = usize::try_from(limit).unwrap_or_default();
    // One more than the page has says whether there is another page.
    let mut notices = context.store.notices(owner.as_ref(), after, limit.saturating_add(1)).await?;
    let more = notices.len() > most;
    notices.truncate(most);
    let next = notices.last().map(|listed| listed.notice.id).filter(|_| more);
    if !actor.is_administrator() {
        for listed in &mut notices {
            listed.sends.retain(|send| send.channel.is_owners());
            listed.sends.iter_mut().for_each(hide_mail_server);
        }
    }
    Ok(NoticePage { notices, next })
}

/// Replaces the failure of a mail, which may show the operator's mail server.
fn hide_mail_server(send: &mut Send) {
    if send.channel == Channel::OwnerMail && send.state == SendState::Waiting {
        send.failure = send.failure.take().map(|_| "the mail server did not take it".to_owned());
    }
}
