//! The log: on stderr, as text or JSON, filtered as the setting says. Spans are exported to a
//! collector, not logged.

use std::io::{self, IsTerminal as _};

use fanfare_core::spans;
use fanfare_trace::exporter::Exporter;
use tracing::Dispatch;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, registry};

use crate::settings::Log;

/// The default filter of commands that are not roles. Their own output says the rest.
const QUIET: &str = "warn";

/// Libraries that are not logged by default: our own code handles and logs their failures, and one of
/// them logs whole messages. The setting's filter can turn them on.
const SILENT: &str = "lapin=off,deadpool=off,deadpool_postgres=off";

/// Starts the log of this process, and the export of its spans if there is an exporter. A `role` uses
/// the whole filter; another command does so only if the filter was set.
pub(crate) fn start(log: &Log, role: bool, exporter: Option<&Exporter>) {
    dispatch(log, role, exporter).init();
}

fn dispatch(log: &Log, role: bool, exporter: Option<&Exporter>) -> Dispatch {
    let filter = if role || log.chosen { log.filter.as_str() } else { QUIET };
    // This comes last, so that no filter adds exported spans to the log.
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
        // Not `None` as a layer: the library would enable every span for it.
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
    fn trace_spans_without_an_exporter_are_disabled_by_every_filter() {
        for filter in ["info", "trace", "fanfare=trace", "info,fanfare::spans=trace"] {
            let log = Log { filter: filter.into(), chosen: true, json: false, colours: false };
            with_default(&dispatch(&log, true, None), || {
                assert!(!span_enabled!(target: spans::TARGET, Level::INFO), "{filter}");
                assert!(span_enabled!(target: "fanfare_worker", Level::INFO), "{filter}");
            });
        }
    }

    #[test]
    fn maximum_level_without_an_exporter_is_that_of_the_log() {
        let log = Log { filter: "info".into(), chosen: true, json: true, colours: false };
        with_default(&dispatch(&log, true, None), || {
            assert_eq!(LevelFilter::current(), LevelFilter::INFO);
        });
    }
}
