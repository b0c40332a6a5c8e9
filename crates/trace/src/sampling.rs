//! Sampling: the choice of traces that are recorded.

use opentelemetry::trace::{Link, SpanKind, TraceContextExt as _, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};

/// A sampler by OpenTelemetry's names (SDK environment variables, `OTEL_TRACES_SAMPLER`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Whether a trace that began in another process is recorded exactly if that process records
    /// it.
    pub follows_parent: bool,
    /// The part of the traces that is recorded, from 0 to 1. If
    /// [`follows_parent`](Self::follows_parent) is true, it applies only to traces that begin here.
    pub ratio: f64,
}

impl Sampling {
    /// Parses the name of a sampler. `ratio` is used by the samplers that have one.
    #[must_use]
    pub fn parse(name: &str, ratio: f64) -> Option<Self> {
        let (follows_parent, kind) = match name.strip_prefix("parentbased_") {
            Some(kind) => (true, kind),
            None => (false, name),
        };
        let ratio = match kind {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => ratio,
            _ => return None,
        };
        Some(Self { follows_parent, ratio })
    }

    fn sampler(self) -> Sampler {
        let by_ratio = Sampler::TraceIdRatioBased(self.ratio);
        if self.follows_parent { Sampler::ParentBased(Box::new(by_ratio)) } else { by_ratio }
    }
}

/// A sampler by which only a received message begins a trace. Otherwise each statement that runs
/// every second would be a trace of one span.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedOnly(Sampler);

impl ReceivedOnly {
    pub(crate) fn new(sampling: Sampling) -> Self {
        Self(sampling.sampler())
    }
}

impl ShouldSample for ReceivedOnly {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let has_parent = parent.is_some_and(|it| it.span().span_context().is_valid());
        if !has_parent && *kind != SpanKind::Consumer {
            return SamplingResult {
                decision: SamplingDecision::Drop,
                attributes: Vec::new(),
                trace_state: TraceState::default(),
            };
        }
        self.0.should_sample(parent, trace, name, kind, attributes, links)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samplers_have_opentelemetry_names() {
        for (name, follows_parent, ratio) in [
            ("always_on", false, 1.0),
            ("always_off", false, 0.0),
            ("traceidratio", false, 0.25),
            ("parentbased_always_on", true, 1.0),
            ("parentbased_always_off", true, 0.0),
            ("parentbased_traceidratio", true, 0.25),
        ] {
            assert_eq!(
                Sampling::parse(name, 0.25),
                Some(Sampling { follows_parent, ratio }),
                "{name}"
            );
        }
        for name in ["", "parentbased_", "ALWAYS_ON", "jaeger_remote", "xray"] {
            assert_eq!(Sampling::parse(name, 1.0), None, "{name}");
        }
    }
}
