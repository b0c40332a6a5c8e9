//! The export of traces.

use clap::Args;
use fanfare_trace::sampling::Sampling;
use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use super::value::{OrOff, by};

/// The headers of a request, by name.
pub(crate) type Headers = Vec<(String, String)>;

/// The export of traces.
#[derive(Debug, Args)]
#[command(next_help_heading = "Metrics and traces")]
pub(crate) struct Traces {
    /// The address to which routers and workers send their spans. Fanfare adds the path /v1/traces
    #[arg(long, env = "FANFARE_OTLP_ENDPOINT", value_name = "URL", hide_env_values = true)]
    #[arg(default_value = "off", value_parser = by(endpoint_or_off))]
    #[arg(long_help = "the address of an OTLP/HTTP receiver that accepts JSON, such as \
        http://127.0.0.1:4318, or off")]
    pub(crate) otlp_endpoint: OrOff<Url>,
    /// Headers of the requests that send spans, for example for authentication
    #[arg(long, env = "OTEL_EXPORTER_OTLP_HEADERS", value_name = "HEADERS")]
    #[arg(hide_env_values = true, hide_default_value = true, default_value = "")]
    #[arg(value_parser = by(headers))]
    #[arg(long_help = "name=value[,name=value…] with values percent-encoded, such as \
        authorization=Bearer%20secret")]
    pub(crate) otel_exporter_otlp_headers: Headers,
    /// The sampler, which decides what traces are recorded. With `parentbased_` the publisher decides,
    /// and the rest of the name is for traces that begin in Fanfare
    #[arg(long, env = "OTEL_TRACES_SAMPLER", value_name = "SAMPLER")]
    #[arg(default_value = "parentbased_always_on", value_parser = by(sampler))]
    #[arg(long_help = "always_on, always_off, traceidratio, parentbased_always_on, \
        parentbased_always_off, or parentbased_traceidratio")]
    otel_traces_sampler: String,
    /// The share of traces that the samplers with `traceidratio` record
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", value_name = "RATIO", default_value = "1")]
    #[arg(value_parser = by(ratio), long_help = "a number from 0 to 1, such as 0.1")]
    otel_traces_sampler_arg: f64,
}

impl Traces {
    /// The sampler; `None` if its name is unknown, which the parser of the setting rules out.
    pub(crate) fn sampling(&self) -> Option<Sampling> {
        Sampling::parse(&self.otel_traces_sampler, self.otel_traces_sampler_arg)
    }
}

/// Parses the address for spans and adds the path of traces; `None` inside for `off`.
fn endpoint_or_off(text: &str) -> Option<OrOff<Url>> {
    if matches!(text.trim(), "" | "off") {
        return Some(None);
    }
    let mut url = Url::parse(text.trim()).ok()?;
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() {
        return None;
    }
    let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Some(Some(url))
}

/// Checks the name of a sampler.
fn sampler(text: &str) -> Option<String> {
    let name = text.trim();
    Sampling::parse(name, 1.0).map(|_| name.to_owned())
}

/// Parses `name=value[,…]` with percent-encoded values, as OpenTelemetry specifies it for the exporter
/// (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>).
fn headers(text: &str) -> Option<Headers> {
    let header = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let name = HeaderName::try_from(name.trim()).ok()?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        HeaderValue::try_from(value.as_ref()).ok()?;
        Some((name.to_string(), value.into_owned()))
    };
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(header).collect()
}

/// Parses a number from 0 to 1.
fn ratio(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_completed_with_the_path_of_traces() {
        for (text, expected) in [
            ("off", Some(None)),
            ("http://127.0.0.1:4318", Some(Some("http://127.0.0.1:4318/v1/traces"))),
            ("https://otel.example.org/a/", Some(Some("https://otel.example.org/a/v1/traces"))),
            ("grpc://otel:4317", None),
            ("otel:4318", None),
        ] {
            let read = endpoint_or_off(text);
            let read = read.as_ref().map(|endpoint| endpoint.as_ref().map(Url::as_str));
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn headers_are_pairs_with_percent_encoded_values() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (text, expected) in [
            ("", Some(vec![])),
            (
                "Authorization=Bearer%20a%2Cb, x-tenant = main,",
                Some(vec![pair("authorization", "Bearer a,b"), pair("x-tenant", "main")]),
            ),
            ("x-key=a=b", Some(vec![pair("x-key", "a=b")])),
            ("x-key", None),
            ("x key=a", None),
            ("=a", None),
            ("x-key=a%0ab", None),
            ("x-key=%ff", None),
        ] {
            assert_eq!(headers(text), expected, "{text}");
        }
    }

    #[test]
    fn ratios_are_from_0_to_1() {
        for (text, expected) in [
            ("0", Some(0.0)),
            (" 0.25 ", Some(0.25)),
            ("1.0", Some(1.0)),
            ("1.01", None),
            ("-0.1", None),
            ("NaN", None),
            ("", None),
        ] {
            assert_eq!(ratio(text), expected, "{text}");
        }
    }
}
