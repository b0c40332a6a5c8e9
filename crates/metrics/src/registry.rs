//! The text that is scraped.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry as Families, Unit};

use crate::labels::{Counters, Labels};

/// The media type of [`Registry::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The families of one process.
#[derive(Debug)]
pub struct Registry {
    families: Families,
    // Routers and workers share these. A process with both roles registers each once.
    dead_letters: Option<Counters<2>>,
    webhooks_paused: Option<Counters<1>>,
    clock_offset: Option<Gauge<f64, AtomicU64>>,
}

impl Registry {
    #[must_use]
    pub fn new() -> Self {
        let families = Families::with_prefix("fanfare");
        Self { families, dead_letters: None, webhooks_paused: None, clock_offset: None }
    }

    /// All families with their present values, as `OpenMetrics` 1.0.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string fails only for values that have no text, and there are none.
        let _ = encode(&mut text, &self.families);
        text
    }

    /// Registers a family. The exposition adds the prefix `fanfare_` to its name, and the suffix
    /// `_total` to that of a counter.
    pub(crate) fn family<M: Metric + Clone>(&mut self, name: &str, help: &str, family: M) -> M {
        self.families.register(name, help, family.clone());
        family
    }

    /// Registers a family in seconds. The exposition adds the suffix `_seconds` to its name.
    pub(crate) fn seconds<M: Metric + Clone>(&mut self, name: &str, help: &str, family: M) -> M {
        self.families.register_with_unit(name, help, Unit::Seconds, family.clone());
        family
    }

    /// Registers a counter that begins with zero.
    pub(crate) fn counter(&mut self, name: &str, help: &str) -> Counter {
        self.family(name, help, Counter::default())
    }

    /// Registers a gauge that begins with zero.
    pub(crate) fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        self.family(name, help, Gauge::default())
    }

    /// Registers a histogram of times.
    pub(crate) fn times(
        &mut self,
        name: &str,
        help: &str,
        buckets: impl IntoIterator<Item = f64>,
    ) -> Histogram {
        self.seconds(name, help, Histogram::new(buckets))
    }

    /// The dead letters, by queue and reason. The counts of these labels begin with zero.
    pub(crate) fn dead_letters(
        &mut self,
        labels: impl IntoIterator<Item = Labels<2>>,
    ) -> Counters<2> {
        let known = self.dead_letters.take();
        let family = known.unwrap_or_else(|| {
            self.family(
                "dead_letters",
                "Messages that were put into a dead letter queue, by queue and reason",
                Counters::default(),
            )
        });
        for labels in labels {
            drop(family.get_or_create(&labels));
        }
        self.dead_letters = Some(family.clone());
        family
    }

    /// The webhooks that the service has paused, by reason. The counts of these reasons begin with zero.
    pub(crate) fn webhooks_paused(
        &mut self,
        reasons: impl IntoIterator<Item = &'static str>,
    ) -> Counters<1> {
        let known = self.webhooks_paused.take();
        let family = known.unwrap_or_else(|| {
            self.family(
                "webhooks_paused",
                "Webhooks that Fanfare has paused, by reason",
                Counters::default(),
            )
        });
        for reason in reasons {
            drop(family.get_or_create(&[("reason", reason)]));
        }
        self.webhooks_paused = Some(family.clone());
        family
    }

    /// The offset of the database's clock from this machine's.
    pub(crate) fn clock_offset(&mut self) -> Gauge<f64, AtomicU64> {
        let known = self.clock_offset.take();
        let gauge = known.unwrap_or_else(|| {
            self.seconds(
                "clock_offset",
                "By how much the database's clock is ahead of this machine's; negative when it is \
                 behind",
                Gauge::default(),
            )
        });
        self.clock_offset = Some(gauge.clone());
        gauge
    }

    /// Registers a family whose value never changes.
    pub(crate) fn constant(&mut self, name: &str, help: &str, family: impl Metric) {
        self.families.register(name, help, family);
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}
