//! Use cases of bulk operations on dead letters: plan, begin, list, show, change, undo. Routers make
//! their steps.

use std::collections::BTreeMap;

use fanfare_core::dead_letter::Choice;
use fanfare_core::operation::{Change, Kind, Rate, State};
use fanfare_store::StoreError;
use fanfare_store::operations::{NewOperation, Operation};
use uuid::Uuid;

use crate::{Actor, Context, NotAdministrator};

/// The longest remark, in characters.
pub const LONGEST_NOTE: usize = 500;

/// A request for an operation.
#[derive(Debug, Clone)]
pub struct Request {
    pub kind: Kind,
    /// The letters: all those that are open, unless a field narrows the choice.
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
    /// The number of letters that would be replayed or discarded.
    pub settle: i64,
    /// The numbers of letters that would be kept, by the code of the reason.
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
    /// The operation's state does not allow the change.
    #[error("the operation is {}, so it can't {} now", .0.code(), .1.code())]
    NotNow(State, Change),
    /// The operation has nothing that can be restored.
    #[error(
        "nothing of this operation can be restored: it discarded no deliveries that are still known, \
         or it ended more than 7 days ago"
    )]
    NothingToUndo,
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
    actor.administrator()?;
    let mut plan = Plan::default();
    for (refusal, letters) in context.store.operation_plan(kind, choice).await? {
        match refusal {
            None => plan.settle = letters,
            Some(why) => drop(plan.keep.insert(why, letters)),
        }
    }
    Ok(plan)
}

/// Begins an operation with the letters that are dead now. It goes on by itself, step by step.
///
/// # Errors
///
/// [`OperationError`]
pub async fn begin(
    context: &Context,
    actor: &Actor,
    request: &Request,
) -> Result<Operation, OperationError> {
    actor.administrator()?;
    let Request { kind, choice, note, rate, canary } = request;
    let note = note.trim();
    if note.chars().count() > LONGEST_NOTE {
        return Err(OperationError::LongNote);
    }
    let new = NewOperation {
        kind: *kind,
        choice,
        note: (!note.is_empty()).then_some(note),
        rate: *rate,
        canary: *canary,
        author: &actor.author(),
    };
    let operation = context.store.operation_ask(&new).await?;
    tracing::info!(
        operation.id = %operation.id.simple(), by = %actor, kind = kind.code(),
        letters = operation.counts.total, "began an operation on dead letters"
    );
    Ok(operation)
}

/// Lists operations, the newest first.
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
    actor.administrator()?;
    // One more than the page has says whether there is another page.
    let mut operations = context.store.operations(after, limit.saturating_add(1)).await?;
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
    actor.administrator()?;
    context.store.operation_find(id).await?.ok_or(OperationError::Unknown)
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
    actor.administrator()?;
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
