//! The log: on stderr, as text or JSON, filtered by the setting. Spans go beside it to a collector.

use std::io::{self, IsTerminal as _};

use fanfare_core::spans;
use fanfare_trace::exporter::Exporter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

use crate::settings::Log;

/// What commands that are no roles log when nobody chose: their own output tells the rest.
const QUIET: &str = "warn";

/// Libraries whose failures are handled, and told, by our own code; one of them logs whole messages.
/// Who wants them names them in the filter, which then counts.
const SILENT: &str = "lapin=off,deadpool=off,deadpool_postgres=off";

/// Starts the log of this process, and the export of its spans if there is one. A `role` runs for
/// long and logs all that the filter says.
pub(crate) fn start(log: &Log, role: bool, exporter: Option<&Exporter>) {
    let filter = if role || log.chosen { log.filter.as_str() } else { QUIET };
    // Last, so that no filter brings exported spans into the log.
    let filter = EnvFilter::new(format!("{SILENT},{filter},{}=off", spans::TARGET));
    let layer =
        fmt::layer().with_ansi(log.colours && io::stderr().is_terminal()).with_writer(io::stderr);
    let layer = if log.json {
        layer.json().flatten_event(true).with_ansi(false).boxed()
    } else {
        layer.boxed()
    };
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter));
    subscriber.with(exporter.map(Exporter::layer)).init();
}
