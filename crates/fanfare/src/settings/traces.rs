//! Which spans are sent, and where.

use fanfare_trace::sampling::Sampling;
use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use super::SettingsError;
use super::resolve::Values;

/// Which spans are sent, and where.
#[derive(Debug)]
pub(crate) struct Traces {
    /// The whole address of the collector; `None` when there is none.
    pub(crate) endpoint: Option<Url>,
    /// What requests to it carry beside the spans, such as what authenticates them.
    pub(crate) headers: Vec<(String, String)>,
    /// Which traces are recorded.
    pub(crate) sampling: Sampling,
}

impl Traces {
    pub(super) fn read(values: &Values) -> Result<Self, SettingsError> {
        let ratio = values.read("otel_traces_sampler_arg", ratio)?;
        let sampling = |text: &str| Sampling::parse(text.trim(), ratio);
        Ok(Self {
            endpoint: values.read("otlp_endpoint", endpoint_or_off)?.0,
            headers: values.read("otel_exporter_otlp_headers", headers)?,
            sampling: values.read("otel_traces_sampler", sampling)?,
        })
    }
}

/// A collector's address, if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Endpoint(Option<Url>);

/// Reads where spans go, as the whole address, or `off`.
fn endpoint_or_off(text: &str) -> Option<Endpoint> {
    if matches!(text.trim(), "" | "off") {
        return Some(Endpoint(None));
    }
    let mut url = Url::parse(text.trim()).ok()?;
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() {
        return None;
    }
    let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Some(Endpoint(Some(url)))
}

/// Reads `name=value[,…]` with values percent-encoded, as OpenTelemetry's specification of the
/// exporter has it.
fn headers(text: &str) -> Option<Vec<(String, String)>> {
    let header = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let name = HeaderName::try_from(name.trim()).ok()?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        HeaderValue::try_from(value.as_ref()).ok()?;
        Some((name.to_string(), value.into_owned()))
    };
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(header).collect()
}

/// Reads a share, from 0 to 1.
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
            let read = read.as_ref().map(|endpoint| endpoint.0.as_ref().map(Url::as_str));
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
