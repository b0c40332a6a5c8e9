//! Addresses: of webhooks, of the broker and of the database.

use fanfare_core::webhook::WebhookUri;
use fanfare_outbound::fuzzing::{authorization, request_uri};
use fanfare_outbound::skips_verification;
use fanfare_store::fuzzing::hosts;
use url::Url;

use super::check_sentence;
use crate::Target;

pub(super) const WEBHOOK_URI: Target = Target {
    name: "webhook-uri",
    about: "the URI of a webhook: the request goes to the host, the path and the query that its URL \
            names, and nothing of its user or fragment is in the request line",
    check: webhook_uri,
};

pub(super) const BROKER_URL: Target = Target {
    name: "broker-url",
    about: "the address of the broker: a password is in no message about it",
    check: broker_url,
};

pub(super) const DATABASE_URL: Target = Target {
    name: "database-url",
    about: "the address of the database, as URL or pairs: a password is in no message about it",
    check: database_url,
};

fn webhook_uri(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let uri: WebhookUri = match text.parse() {
        Ok(uri) => uri,
        Err(error) => return assert!(error.to_string().contains("http")),
    };
    let url = uri.url();
    assert!(matches!(url.scheme(), "http" | "https") && url.has_host());
    let _ = skips_verification(url);
    if let Some(value) = authorization(&uri) {
        assert!(value.starts_with(b"Basic ") && value.is_ascii());
    }
    let Some(sent) = request_uri(&uri, None) else {
        // The URL library accepts hosts with characters that HTTP does not; their requests fail.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
        return assert!(!uri.host().chars().all(plain), "{text:?} can't be sent");
    };
    let sent = Url::parse(&sent).unwrap_or_else(|error| panic!("{sent:?}: {error}"));
    assert_eq!(sent.origin(), url.origin(), "{text:?}");
    assert_eq!(decoded(sent.path()), decoded(url.path()), "{text:?} is sent as {sent}");
    let query = |url: &Url| url.query().map(decoded);
    assert_eq!(query(&sent), query(url), "{text:?} is sent as {sent}");
    let echo = request_uri(&uri, Some("0123")).and_then(|it| Url::parse(&it).ok());
    let echo = echo.unwrap_or_else(|| panic!("{text:?} can't be verified"));
    assert_eq!(echo.path(), sent.path());
    assert!(echo.query().is_some_and(|query| query.ends_with("echo=0123")), "{echo}");
}

/// The bytes of a text with percent-encoding.
fn decoded(text: &str) -> Vec<u8> {
    percent_encoding::percent_decode_str(text).collect()
}

/// The password, at the place of `*` in the input.
const PASSWORD: &str = "S3CRET";

fn broker_url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if text.matches('*').count() > 1 || reads_files(text) {
        return;
    }
    let text = text.replace('*', PASSWORD);
    // Without an `@` behind it, it is no password, but a host, a virtual host or a parameter.
    let is_password = text.split_once(PASSWORD).is_some_and(|(_, after)| after.contains('@'));
    let shown = match fanfare_broker::Config::new(&text, "fuzzing") {
        Ok(config) => format!("{} {config:?}", config.broker()),
        Err(error) => {
            check_sentence(&error.to_string());
            format!("{error} {error:?}")
        }
    };
    assert!(!is_password || !shown.contains(PASSWORD), "{text}: {shown}");
}

/// Whether the parameters of TLS name files, which the fuzzing is not to open.
fn reads_files(text: &str) -> bool {
    text.contains("amqps")
}

fn database_url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // A host or an option of this name is no password.
    if text.contains(PASSWORD) {
        return;
    }
    let url = format!("postgres://anna:{PASSWORD}@{text}");
    let pairs = format!("host=db password={PASSWORD} {text}");
    let unescaped = format!("postgres://anna:a@{PASSWORD}@{text}");
    for connection in [&url, &pairs, &unescaped] {
        match hosts(connection) {
            Ok(hosts) => {
                assert!(!hosts.is_empty());
                assert!(!hosts.concat().contains(PASSWORD), "{connection}: {hosts:?}");
            }
            Err(error) => {
                check_sentence(&error);
                assert!(!error.contains(PASSWORD), "{connection}: {error}");
            }
        }
    }
    let _ = hosts(text);
}
