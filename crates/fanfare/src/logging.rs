//! The log: on stderr, as text or JSON, filtered by the setting. Spans go beside it to a collector.

use std::io::{self, IsTerminal as _};

use fanfare_core::spans;
use fanfare_trace::exporter::Exporter;
use tracing::Dispatch;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, registry};

use crate::settings::Log;

/// What commands that are no roles log when nobody chose: their own output tells the rest.
const QUIET: &str = "warn";

/// Libraries whose failures are handled, and told, by our own code; one of them logs whole messages.
/// Who wants them names them in the filter, which then counts.
const SILENT: &str = "lapin=off,deadpool=off,deadpool_postgres=off";

/// Starts the log of this process, and the export of its spans if there is one. A `role` runs for
/// long and logs all that the filter says.
pub(crate) fn start(log: &Log, role: bool, exporter: Option<&Exporter>) {
    dispatch(log, role, exporter).init();
}

fn dispatch(log: &Log, role: bool, exporter: Option<&Exporter>) -> Dispatch {
    let filter = if role || log.chosen { log.filter.as_str() } else { QUIET };
    // Last, so that no filter brings exported spans into the log.
    let filter = EnvFilter::new(format!("{SILENT},{filter},{}=off", spans::TARGET));
    let lines =
        fmt::layer().with_ansi(log.colours && io::stderr().is_terminal()).with_writer(io::stderr);
    let lines = if log.json {
        lines.json().flatten_event(true).with_ansi(false).boxed()
    } else {
        lines.boxed()
    };
    let lines = lines.with_filter(filter);
    match exporter {
        Some(exporter) => registry().with(lines).with(exporter.layer()).into(),
        // Not an absent layer: the library takes that for one that wants every span.
        None => registry().with(lines).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::dispatcher::with_default;
    use tracing::level_filters::LevelFilter;
    use tracing::{Level, span_enabled};

    #[test]
    fn without_an_exporter_no_filter_enables_the_spans_of_traces() {
        for filter in ["info", "trace", "fanfare=trace", "info,fanfare::spans=trace"] {
            let log = Log { filter: filter.into(), chosen: true, json: false, colours: false };
            with_default(&dispatch(&log, true, None), || {
                assert!(!span_enabled!(target: spans::TARGET, Level::INFO), "{filter}");
                assert!(span_enabled!(target: "fanfare_worker", Level::INFO), "{filter}");
            });
        }
    }

    #[test]
    fn without_an_exporter_the_log_s_own_level_bounds_all() {
        let log = Log { filter: "info".into(), chosen: true, json: true, colours: false };
        with_default(&dispatch(&log, true, None), || {
            assert_eq!(LevelFilter::current(), LevelFilter::INFO);
        });
    }
}
