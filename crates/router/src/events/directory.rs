//! Directory documents that come by the queue of events.
//!
//! Most of them are in the directory's own queue too. The documents of a batch with another routing
//! key, and those of a message that was set aside or replayed, come only by the queue of events.

use std::collections::HashSet;

use fanfare_core::directory::Document;
use fanfare_core::reject::{Reason, Reject};
use fanfare_failpoints::failpoint;
use fanfare_store::retry::{Answered, QueryError, retry_divisible};
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::directory::note_paused;
use crate::error::RouterError;
use crate::inbound::InboundMessage;
use crate::refusal::with_consequences;

/// Applies the directory documents that came with the events. So an event that was published after a
/// document is decided by it even if the directory's own queue lags behind. Returns the messages that
/// are to be set aside.
pub(super) async fn apply_from_events(
    config: &Config,
    stop: &CancellationToken,
    messages: &mut [InboundMessage],
) -> Result<HashSet<usize>, RouterError> {
    let mut failing = HashSet::new();
    match apply_documents(config, stop, messages).await {
        Ok(()) => return Ok(failing),
        Err(QueryError::Rejected(_) | QueryError::Failing(_)) => {}
        Err(error) => return Err(error.into()),
    }
    // One of the documents is the cause. Those that the directory's own queue has too are examined
    // there. The others are only here.
    for (index, message) in messages.iter_mut().enumerate().filter(|(_, it)| it.is_only_copy()) {
        match apply_singly(config, stop, message).await {
            Ok(()) => {}
            Err(QueryError::Failing(error)) => {
                tracing::warn!(
                    error = error.chain(),
                    "failed to apply a directory document; it is set aside and tried again"
                );
                failing.insert(index);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(failing)
}

/// Applies the documents of a message one by one. One that the database rejects becomes a refusal of
/// its message, and the user or role that it names has no grants until the next valid document.
async fn apply_singly(
    config: &Config,
    stop: &CancellationToken,
    message: &mut InboundMessage,
) -> Result<(), QueryError> {
    let apply = async |document: &Document| {
        let document = std::slice::from_ref(document);
        retry_divisible(stop, || config.store.directory_apply(document)).await
    };
    let mut at = 0;
    while let Some(document) = message.documents.get(at) {
        match apply(document).await {
            Ok(Answered { value: applied, .. }) => {
                note_paused(config, &applied);
                if applied.jumps.is_empty() {
                    at += 1;
                } else {
                    message.refuse_implausible_revision(at, applied.revision);
                }
            }
            Err(QueryError::Rejected(error)) => {
                let why = error.chain();
                let reject = Reject::new(Reason::BadData, &why);
                let away = document.voided(&why);
                message.refuse(at, with_consequences(reject, std::slice::from_ref(&away)));
                message.voided.push(away);
            }
            Err(error) => return Err(error),
        }
    }
    for away in &message.voided {
        match apply(away).await {
            Ok(_) | Err(QueryError::Rejected(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Applies the documents of messages together. Those whose revisions are not plausible become refusals
/// of their messages.
async fn apply_documents(
    config: &Config,
    stop: &CancellationToken,
    messages: &mut [InboundMessage],
) -> Result<(), QueryError> {
    let (mut documents, mut sources) = (Vec::<Document>::new(), Vec::new());
    for (owner, message) in messages.iter().enumerate() {
        documents.extend(message.documents.iter().cloned());
        sources.extend((0..message.documents.len()).map(|at| (owner, at)));
    }
    documents.extend(messages.iter().flat_map(|message| message.voided.iter().cloned()));
    if documents.is_empty() {
        return Ok(());
    }
    let apply = async || config.store.directory_apply(&documents).await;
    let applied = retry_divisible(stop, apply).await?.value;
    failpoint!(RouterAppliesDocuments);
    note_paused(config, &applied);
    let mut jumps: Vec<(usize, usize)> =
        applied.jumps.iter().filter_map(|position| sources.get(*position).copied()).collect();
    // From the last one to the first, so that the positions of the others stay valid.
    jumps.sort_unstable_by(|one, other| other.cmp(one));
    for (owner, at) in jumps {
        if let Some(message) = messages.get_mut(owner) {
            message.refuse_implausible_revision(at, applied.revision);
        }
    }
    Ok(())
}
