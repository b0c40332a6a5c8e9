//! Directory documents that come by the events' queue.
//!
//! Most are copies of what the directory's own queue has. The documents of a batch with another
//! routing key, and those of a message that was set aside or replayed, come here only.

use std::collections::HashSet;

use fanfare_core::directory::Document;
use fanfare_core::reject::{Reason, Reject};
use fanfare_store::patience::{Answered, Impatient, answered};
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::documents::log_paused;
use crate::error::RouterError;
use crate::refused::with_consequences;
use crate::taken::TakenMessage;

/// Takes the directory documents that came with the events, so that an event published after a
/// document is judged by it also when the directory's own queue lags behind. Returns which messages
/// are to be set aside.
pub(super) async fn take_documents(
    config: &Config,
    stop: &CancellationToken,
    messages: &mut [TakenMessage],
) -> Result<HashSet<usize>, RouterError> {
    let mut failing = HashSet::new();
    match apply_documents(config, stop, messages).await {
        Ok(()) => return Ok(failing),
        Err(Impatient::Refused(_) | Impatient::Failing(_)) => {}
        Err(error) => return Err(error.into()),
    }
    // One of them is to blame. Readers of the directory's own queue find out which, of the messages
    // that it has too; the others come here, and only here.
    for (index, message) in messages.iter_mut().enumerate().filter(|(_, it)| it.is_only_copy()) {
        match apply_singly(config, stop, message).await {
            Ok(()) => {}
            Err(Impatient::Failing(error)) => {
                tracing::warn!(
                    error = error.chain(),
                    "a directory document can't be applied; it is set aside and tried again"
                );
                failing.insert(index);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(failing)
}

/// Takes the documents of a message one by one. One that the database refuses becomes a refusal of
/// its message, and what it names has no grants until it is mended.
async fn apply_singly(
    config: &Config,
    stop: &CancellationToken,
    message: &mut TakenMessage,
) -> Result<(), Impatient> {
    let apply = async |document: &Document| {
        let document = std::slice::from_ref(document);
        answered(stop, || config.store.directory_apply(document)).await
    };
    let mut at = 0;
    while let Some(document) = message.documents.get(at) {
        match apply(document).await {
            Ok(Answered { value: applied, .. }) => {
                log_paused(&applied);
                if applied.jumps.is_empty() {
                    at += 1;
                } else {
                    message.refuse_jump(at, applied.revision);
                }
            }
            Err(Impatient::Refused(error)) => {
                let why = error.chain();
                let reject = Reject::new(Reason::BadData, &why);
                let away = document.voided(&why);
                message.refuse(at, with_consequences(reject, std::slice::from_ref(&away)));
                message.taken_away.push(away);
            }
            Err(error) => return Err(error),
        }
    }
    for away in &message.taken_away {
        match apply(away).await {
            Ok(_) | Err(Impatient::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes the documents of messages together. Those whose revisions are not believed become refusals
/// of their messages.
async fn apply_documents(
    config: &Config,
    stop: &CancellationToken,
    messages: &mut [TakenMessage],
) -> Result<(), Impatient> {
    let (mut documents, mut sources) = (Vec::<Document>::new(), Vec::new());
    for (owner, message) in messages.iter().enumerate() {
        documents.extend(message.documents.iter().cloned());
        sources.extend((0..message.documents.len()).map(|at| (owner, at)));
    }
    documents.extend(messages.iter().flat_map(|message| message.taken_away.iter().cloned()));
    if documents.is_empty() {
        return Ok(());
    }
    let apply = async || config.store.directory_apply(&documents).await;
    let applied = answered(stop, apply).await?.value;
    log_paused(&applied);
    let mut jumps: Vec<(usize, usize)> =
        applied.jumps.iter().filter_map(|place| sources.get(*place).copied()).collect();
    // From the last one on, so that the places of the others stay what they are.
    jumps.sort_unstable_by(|one, other| other.cmp(one));
    for (owner, at) in jumps {
        if let Some(message) = messages.get_mut(owner) {
            message.refuse_jump(at, applied.revision);
        }
    }
    Ok(())
}
