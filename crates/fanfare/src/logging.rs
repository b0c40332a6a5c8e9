//! The log: on stderr, as text or JSON, filtered by the setting.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::settings::Log;

/// What commands that are no roles log when nobody chose: their own output tells the rest.
const QUIET: &str = "warn";

/// Libraries whose failures are handled, and told, by our own code; one of them logs whole messages.
/// Who wants them names them in the filter, which then counts.
const SILENT: &str = "lapin=off,deadpool=off,deadpool_postgres=off";

/// Starts the log of this process. A `role` runs for long and logs all that the filter says.
pub(crate) fn start(log: &Log, role: bool) {
    let filter = if role || log.chosen { log.filter.as_str() } else { QUIET };
    let builder = fmt()
        .with_env_filter(EnvFilter::new(format!("{SILENT},{filter}")))
        .with_ansi(log.colours && io::stderr().is_terminal())
        .with_writer(io::stderr);
    if log.json {
        builder.json().flatten_event(true).with_ansi(false).init();
    } else {
        builder.init();
    }
}
