//! The use case of the audit trail: list it.

use fanfare_core::audit::Door;
use fanfare_core::name::Name;
use fanfare_store::StoreError;
use fanfare_store::audit::{AuditFilter, AuditPosition, AuditRecord};

use crate::{Actor, Context, NotAdministrator};

/// A page of the audit trail.
#[derive(Debug)]
pub struct AuditPage {
    pub entries: Vec<AuditRecord>,
    /// The position at which the next page begins; `None` on the last one.
    pub next: Option<AuditPosition>,
}

/// Why the audit trail can't be listed.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The actor asks about another user's webhooks.
    #[error(transparent)]
    NotAdministrator(#[from] NotAdministrator),
    /// The database did not answer, or refused the statement.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Lists a page of the audit trail, the newest entry first. A user gets what concerns the user's own
/// webhooks.
///
/// # Errors
///
/// [`AuditError`]
pub async fn list(
    context: &Context,
    actor: &Actor,
    filter: AuditFilter,
) -> Result<AuditPage, AuditError> {
    let owner = actor.owner_filter(filter.owner)?;
    let limit = usize::try_from(filter.limit).unwrap_or_default();
    // One more than the page has says whether there is another page.
    let filter = AuditFilter { owner, limit: filter.limit.saturating_add(1), ..filter };
    let mut entries = context.store.audit_list(&filter).await?;
    let more = entries.len() > limit;
    entries.truncate(limit);
    let next = entries.last().map(|entry| entry.position).filter(|_| more);
    for entry in &mut entries {
        hide_address(actor, entry);
    }
    Ok(AuditPage { entries, next })
}

/// Removes the address of another person, which concerns only administrators.
fn hide_address(actor: &Actor, entry: &mut AuditRecord) {
    let by_user = [Door::Console, Door::Api].map(Door::code).contains(&entry.door.as_str());
    let own =
        by_user && entry.actor.as_deref().and_then(Name::parse).is_some_and(|name| actor.is(&name));
    if !actor.is_administrator() && !own {
        entry.address = None;
        entry.correlation = None;
    }
}
