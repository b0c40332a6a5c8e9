//! Groups of dead letters: what they have in common, when they died, and what would happen if they were
//! replayed now.

use fanfare_core::dead_letter::{Choice, GroupBy};
use fanfare_store::Store;
use fanfare_store::letters::Groups;

use super::Stopped;
use crate::Actor;

/// The most groups that are returned.
const MOST: usize = 100;

/// Groups the open dead letters of a choice, the largest group first. It reads the ledger alone.
///
/// # Errors
///
/// [`Stopped`]
pub async fn groups(
    store: &Store,
    actor: &Actor,
    choice: &Choice,
    by: GroupBy,
) -> Result<Groups, Stopped> {
    actor.administrator()?;
    Ok(store.letters_groups(choice, by, MOST).await?)
}
