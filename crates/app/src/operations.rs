//! Use cases of bulk operations on dead letters, on what webhooks missed, and on the dead deliveries of a
//! webhook: plan, begin, list, show, change, undo. Routers make their steps.
//!
//! An owner may recover what a webhook of the owner missed, and see and change the resends of the owner's
//! webhooks, which [`resends`](crate::resends) begins. All else is for administrators.

use std::collections::BTreeMap;

use fanfare_core::dead_letter::Choice;
use fanfare_core::ids::WebhookId;
use fanfare_core::operation::{Change, Kind, Rate, State};
use fanfare_core::recover::{BadMissed, Missed, ROUTED_WITHIN, Verdict};
use fanfare_core::webhook::Webhook;
use fanfare_store::StoreError;
use fanfare_store::operations::{NewOperation, NewRecovery, Operation};
use uuid::Uuid;

use crate::clock::now;
use crate::webhooks::{self, WebhookError};
use crate::{Actor, Context, NotAdministrator};

/// The longest remark, in characters.
pub const LONGEST_NOTE: usize = 500;

/// The most slices of the ledger that are read to count what a webhook holds.
const SLICES: u32 = 3;

/// A request for an operation.
#[derive(Debug, Clone)]
pub struct Request {
    pub kind: Kind,
    /// The letters: all those that are open, unless a field narrows the choice. For a recover operation
    /// what was missed, by the webhook, the owner and the time alone.
    pub choice: Choice,
    /// A remark for others; empty: none.
    pub note: String,
    /// `None`: as fast as possible.
    pub rate: Option<Rate>,
    /// Whether each webhook gets one letter first, then up to ten at a time, and no more when its
    /// receiver fails again.
    pub canary: bool,
}

/// What an operation would do now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The number of letters that would be replayed, discarded or recovered.
    pub settle: i64,
    /// The numbers of letters that would be kept or left out, by the code of the reason.
    pub keep: BTreeMap<String, i64>,
}

/// A page of a list of operations.
#[derive(Debug)]
pub struct OperationPage {
    pub operations: Vec<Operation>,
    /// The operation after which the next page begins; `None` on the last page.
    pub next: Option<Uuid>,
}

/// Why an operation did not begin, or can't be shown or changed.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The actor is neither an operator nor a System Administrator.
    #[error(transparent)]
    NotAdministrator(#[from] NotAdministrator),
    /// There is no such operation.
    #[error("there is no such operation")]
    Unknown,
    /// A resend begins at its webhook.
    #[error("a resend is begun at its webhook, not as an operation of another kind")]
    Resend,
    /// The operation's state does not allow the change.
    #[error("the operation is {}, so it can't {} now", .0.code(), .1.code())]
    NotNow(State, Change),
    /// The operation has nothing that can be restored.
    #[error(
        "nothing of this operation can be restored: it discarded no deliveries that are still known, \
         or it ended more than 7 days ago"
    )]
    NothingToUndo,
    /// The conditions don't choose what was missed.
    #[error(transparent)]
    BadMissed(#[from] BadMissed),
    /// The remark is too long.
    #[error("the note may have at most {LONGEST_NOTE} characters")]
    LongNote,
    /// The database did not answer, or refused the statement.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Counts the letters of a choice by what an operation would do with them now. A webhook may be paused
/// and an owner may lose access later; that is decided again for each letter.
///
/// # Errors
///
/// [`OperationError`]
pub async fn plan(
    context: &Context,
    actor: &Actor,
    kind: Kind,
    choice: &Choice,
) -> Result<Plan, OperationError> {
    check_may_begin(context, actor, kind, choice.webhook).await?;
    let mut plan = Plan::default();
    if kind == Kind::Recover {
        let missed = Missed::of(choice, now())?;
        for (verdict, deliveries) in context.store.recover_plan(&missed, None).await?.0 {
            match verdict {
                Verdict::Send => plan.settle = deliveries,
                why if deliveries > 0 => drop(plan.keep.insert(why.code().to_owned(), deliveries)),
                _ => {}
            }
        }
        return Ok(plan);
    }
    for (refusal, letters) in context.store.operation_plan(kind, choice).await? {
        match refusal {
            None => plan.settle = letters,
            Some(why) => drop(plan.keep.insert(why, letters)),
        }
    }
    Ok(plan)
}

/// Begins an operation with the letters that are dead now, or with what was missed. It goes on by itself,
/// step by step.
///
/// # Errors
///
/// [`OperationError`]
pub async fn begin(
    context: &Context,
    actor: &Actor,
    request: &Request,
) -> Result<Operation, OperationError> {
    let Request { kind, choice, note, rate, canary } = request;
    check_may_begin(context, actor, *kind, choice.webhook).await?;
    let note = note.trim();
    if note.chars().count() > LONGEST_NOTE {
        return Err(OperationError::LongNote);
    }
    let note = (!note.is_empty()).then_some(note);
    let (kind, rate, canary, author) = (*kind, *rate, *canary, &actor.author());
    let operation = if kind == Kind::Recover {
        let missed = &Missed::of(choice, now())?;
        context.store.recover_ask(&NewRecovery { missed, note, rate, canary, author }).await?
    } else {
        let new = NewOperation { kind, choice, note, rate, canary, author };
        context.store.operation_ask(&new).await?
    };
    tracing::info!(
        operation.id = %operation.id.simple(), by = %actor, kind = kind.code(),
        letters = operation.counts.total, "began an operation"
    );
    Ok(operation)
}

/// What a webhook would get if it were resumed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The number of deliveries.
    pub count: i64,
    /// Whether there may be more: only the oldest were counted.
    pub more: bool,
}

/// Counts what a webhook would get if it were resumed now; `None` if it is not paused, or drops what
/// happens meanwhile.
///
/// # Errors
///
/// [`OperationError`]
pub async fn held(
    context: &Context,
    actor: &Actor,
    webhook: &Webhook,
) -> Result<Option<Held>, OperationError> {
    check_may_use(context, actor, Kind::Recover, Some(webhook.id)).await?;
    let Some(since) = webhook.held_since else { return Ok(None) };
    let (from, until) = (since - ROUTED_WITHIN, now());
    let missed = Missed { webhook: Some(webhook.id), owner: None, from, until };
    let (counts, all) = context.store.recover_plan(&missed, Some(SLICES)).await?;
    let count = counts.get(&Verdict::Send).copied().unwrap_or(0);
    Ok(Some(Held { count, more: !all }))
}

/// Fails unless the actor may begin an operation of this kind here.
async fn check_may_begin(
    context: &Context,
    actor: &Actor,
    kind: Kind,
    webhook: Option<WebhookId>,
) -> Result<(), OperationError> {
    check_may_use(context, actor, kind, webhook).await?;
    if kind == Kind::Resend { Err(OperationError::Resend) } else { Ok(()) }
}

/// Fails unless the actor is an administrator, or the operation is one of those that owners have and about
/// a webhook of the actor's.
async fn check_may_use(
    context: &Context,
    actor: &Actor,
    kind: Kind,
    webhook: Option<WebhookId>,
) -> Result<(), OperationError> {
    if let Err(refused) = actor.administrator() {
        let Some(webhook) = webhook.filter(|_| kind.is_of_owners()) else {
            return Err(refused.into());
        };
        match webhooks::find(context, actor, webhook).await {
            Ok(_) => {}
            Err(WebhookError::Store(error)) => return Err(error.into()),
            Err(_) => return Err(refused.into()),
        }
    }
    Ok(())
}

/// Lists operations, the newest first: all of them, or those of the actor's webhooks.
///
/// # Errors
///
/// [`OperationError`]
pub async fn list(
    context: &Context,
    actor: &Actor,
    after: Option<Uuid>,
    limit: i64,
) -> Result<OperationPage, OperationError> {
    let owner = actor.owner_filter(None)?;
    // One more than the page has says whether there is another page.
    let mut operations =
        context.store.operations(owner.as_ref(), after, limit.saturating_add(1)).await?;
    let most = usize::try_from(limit).unwrap_or_default();
    let has_more = operations.len() > most;
    operations.truncate(most);
    let next = operations.last().map(|operation| operation.id).filter(|_| has_more);
    Ok(OperationPage { operations, next })
}

/// Shows an operation with its progress.
///
/// # Errors
///
/// [`OperationError`]
pub async fn show(context: &Context, actor: &Actor, id: Uuid) -> Result<Operation, OperationError> {
    let Some(operation) = context.store.operation_find(id).await? else {
        actor.administrator()?;
        return Err(OperationError::Unknown);
    };
    check_may_use(context, actor, operation.kind, operation.webhook).await?;
    Ok(operation)
}

/// Pauses, resumes or cancels an operation. One that is in that state already stays so.
///
/// # Errors
///
/// [`OperationError`]
pub async fn change(
    context: &Context,
    actor: &Actor,
    id: Uuid,
    change: Change,
) -> Result<Operation, OperationError> {
    show(context, actor, id).await?;
    let changed = context.store.operation_change(id, change, &actor.author()).await?;
    let (operation, has_changed) = changed.ok_or(OperationError::Unknown)?;
    if has_changed {
        let change = change.code();
        tracing::info!(operation.id = %id.simple(), by = %actor, change, "changed an operation");
        return Ok(operation);
    }
    let is_so = matches!(
        (change, operation.state),
        (Change::Pause, State::Paused)
            | (Change::Resume, State::Running)
            | (Change::Cancel, State::Cancelled)
    );
    if is_so { Ok(operation) } else { Err(OperationError::NotNow(operation.state, change)) }
}

/// Restores the dead deliveries that an operation discarded. Returns how many.
///
/// # Errors
///
/// [`OperationError`]
pub async fn undo(context: &Context, actor: &Actor, id: Uuid) -> Result<i64, OperationError> {
    let operation = show(context, actor, id).await?;
    if !operation.can_be_undone {
        return Err(OperationError::NothingToUndo);
    }
    let restored = context.store.operation_undo(id, &actor.author()).await?;
    tracing::info!(operation.id = %id.simple(), by = %actor, restored, "restored discarded letters");
    Ok(restored)
}
