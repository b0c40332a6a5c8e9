//! The text that is scraped.

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::{Metric, Registry as Families, Unit};

/// The media type of [`Registry::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The families of one process.
#[derive(Debug)]
pub struct Registry {
    families: Families,
}

impl Registry {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self { families: Families::with_prefix("fanfare") }
    }

    /// All families with their present values, as `OpenMetrics` 1.0.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string fails only where a value can't be shown, which none of ours is.
        let _ = encode(&mut text, &self.families);
        text
    }

    /// Registers a family; the exposition adds `fanfare_` before its name, and `_total` after that
    /// of a counter.
    pub(crate) fn family<M: Metric + Clone>(&mut self, name: &str, help: &str, family: M) -> M {
        self.families.register(name, help, family.clone());
        family
    }

    /// Registers a family that is measured in seconds, as its name will say.
    pub(crate) fn seconds<M: Metric + Clone>(&mut self, name: &str, help: &str, family: M) -> M {
        self.families.register_with_unit(name, help, Unit::Seconds, family.clone());
        family
    }

    /// Registers what never changes.
    pub(crate) fn constant(&mut self, name: &str, help: &str, family: impl Metric) {
        self.families.register(name, help, family);
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}
