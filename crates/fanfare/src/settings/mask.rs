//! Masks the secret parts of a setting before it is shown.

use fanfare_core::hosts;
use url::{Position, Url};

/// Replaces a secret part of a value.
const MASK: &str = "***";

/// Replaces a list of hosts while the URL is parsed, because the parser accepts one host only.
const ONE_HOST: &str = "one.host.instead";

/// How much of a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    Whole,
    /// A URL without its password.
    WithoutPassword,
    Nothing,
}

/// The value with its secret parts masked.
pub(crate) fn mask(value: &str, shown: Shown) -> String {
    match shown {
        Shown::Whole => value.to_owned(),
        Shown::WithoutPassword => mask_password(value),
        Shown::Nothing => MASK.to_owned(),
    }
}

/// Masks the passwords of a URL. A text that is not a URL is masked as a whole, because its password
/// can't be found.
fn mask_password(text: &str) -> String {
    let several = hosts::split(text).filter(|(_, hosts, _)| hosts.contains(','));
    let one_host = several.map(|(before, _, after)| [before, ONE_HOST, after].concat());
    let Ok(mut url) = Url::parse(one_host.as_deref().unwrap_or(text)) else {
        return MASK.to_owned();
    };
    // In `anna:12/pw@db` the password has a character that should have been escaped. A URL parser
    // takes `anna:12` for a host and a port; those that connect take all of `12/pw`.
    if url[Position::AfterHost..].contains('@') {
        return MASK.to_owned();
    }
    if url.password().is_some() && url.set_password(Some(MASK)).is_err() {
        return MASK.to_owned();
    }
    let secret = |name: &str| name.to_ascii_lowercase().contains("password");
    if url.query_pairs().any(|(name, _)| secret(&name)) {
        let pairs: Vec<(String, String)> = url
            .query_pairs()
            .map(|(name, value)| {
                let masked = secret(&name);
                let value = if masked { MASK.into() } else { value };
                (name.into_owned(), value.into_owned())
            })
            .collect();
        url.query_pairs_mut().clear().extend_pairs(pairs);
    }
    match several {
        Some((_, hosts, _)) => url.as_str().replacen(ONE_HOST, hosts, 1),
        None => url.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked() {
        for (value, expected) in [
            ("postgres://anna:pw@db/x", "postgres://anna:***@db/x"),
            ("postgres://db/x?user=a&password=pw", "postgres://db/x?user=a&password=***"),
            ("amqp://localhost:5672/a", "amqp://localhost:5672/a"),
            ("host=db user=a password='p w'", "***"),
            (
                "postgres://a:pw@one:1,two:2/x?password=pw",
                "postgres://a:***@one:1,two:2/x?password=***",
            ),
            ("amqps://a:pw@[::1]:1,two", "amqps://a:***@[::1]:1,two"),
            ("postgres://a:p/w@one:1,two:2/x", "***"),
            ("postgres://anna:12/pw@db/x", "***"),
            ("postgres://anna:12?pw@db/x", "***"),
            ("amqp://anna:12#pw@mq", "***"),
            ("amqp://anna:p%40w@mq/a%40b", "amqp://anna:***@mq/a%40b"),
        ] {
            assert_eq!(mask(value, Shown::WithoutPassword), expected);
        }
        assert_eq!(mask("k:AAAA", Shown::Nothing), "***");
    }
}
