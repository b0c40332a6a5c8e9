//! The parsers of this crate, as the fuzzing of Fanfare calls them. Nothing else does.

use crate::config::PlanMode;
use crate::target::Target;

/// The hosts of a connection string, for messages.
///
/// # Errors
///
/// The text of the error about a connection string that can't be used.
pub fn hosts(connection: &str) -> Result<Vec<String>, String> {
    let target = Target::parse(connection, "fuzzing", PlanMode::Custom);
    let target = target.map_err(|error| error.chain())?;
    Ok(target.hosts.into_iter().map(|host| host.name).collect())
}
