//! What the texts of settings mean, and how much of them may be shown.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanfare_core::share::Shares;
use fanfare_core::{duration, hosts};
use ipnet::IpNet;
use tracing_subscriber::EnvFilter;
use url::Url;

use super::setting::Shown;

/// Keys with their ids; the first one encrypts.
pub(crate) type Keys = Vec<(String, [u8; 32])>;

/// A value, or `None` for the text `off`.
pub(crate) type OrOff<T> = Option<T>;

/// What a duration must be.
pub(super) const DURATION: &str = "a whole number with a unit, such as 500ms, 5s, 2m, 12h or 3d";

/// What a count must be.
pub(super) const COUNT: &str = "a whole number, at least 1";

/// What stands in place of what may not be shown.
const MASK: &str = "***";

/// The parser of an argument, from a function that knows only whether a text is of its form. The
/// argument says what the form is.
pub(super) fn by<T>(
    read: fn(&str) -> Option<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: 'static,
{
    move |text| read(text).ok_or_else(String::new)
}

/// Reads a duration; nothing shorter than a millisecond.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let within = Duration::from_millis(1)..=duration::LONGEST;
    duration::parse(text.trim()).filter(|duration| within.contains(duration))
}

/// Reads a whole number from 1 to a million, or to what the type holds.
pub(crate) fn count<T: TryFrom<u32>>(text: &str) -> Option<T> {
    // The bound keeps it within what semaphores and pools take.
    let count = text.trim().parse().ok().filter(|number| (1..=1_000_000).contains(number))?;
    T::try_from(count).ok()
}

/// Reads how many delivery queues there are.
pub(crate) fn delivery_queues(text: &str) -> Option<Shares> {
    text.trim().parse().ok().and_then(Shares::new)
}

/// Reads the address of a socket.
pub(crate) fn listen(text: &str) -> Option<SocketAddr> {
    text.trim().parse().ok()
}

/// Reads the address of a socket, or `off`.
pub(crate) fn listen_or_off(text: &str) -> Option<OrOff<SocketAddr>> {
    match text.trim() {
        "" | "off" => Some(None),
        text => listen(text).map(Some),
    }
}

/// Reads one of two words: whether it is the first.
pub(crate) fn either(text: &str, first: &str, second: &str) -> Option<bool> {
    let text = text.trim();
    (text == first || text == second).then_some(text == first)
}

/// What is not a filter of the log is refused here; it is read again when the log starts.
pub(crate) fn log_filter(text: &str) -> Option<String> {
    EnvFilter::try_new(text).is_ok().then(|| text.to_owned())
}

/// The library reads URLs and `key=value` texts; only what is neither is refused here.
pub(crate) fn database_url(text: &str) -> Option<String> {
    let url = ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
    (url || (text.contains('=') && !text.contains("://"))).then(|| text.to_owned())
}

/// What is not a URL of the broker is refused here; its parts are read when it is used.
pub(crate) fn amqp_url(text: &str) -> Option<String> {
    let url = ["amqp://", "amqps://"].iter().any(|scheme| text.starts_with(scheme));
    url.then(|| text.to_owned())
}

/// Reads networks and single addresses, separated by commas; none is fine.
pub(crate) fn networks(text: &str) -> Option<Vec<IpNet>> {
    let one = |text: &str| {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse().or_else(|_| address()).ok()
    };
    parts(text).map(one).collect()
}

/// The path of a file, which is read later.
pub(crate) fn file(text: &str) -> Option<PathBuf> {
    let text = text.trim();
    let fits = !text.is_empty() && !text.chars().any(char::is_control);
    fits.then(|| PathBuf::from(text))
}

/// Reads `id:base64[,…]` with unique ids and keys of 32 bytes; white space at either end is
/// ignored, so that a file can hold one.
pub(crate) fn keys(text: &str) -> Option<Keys> {
    let mut keys = Keys::new();
    for part in parts(text) {
        let (id, key) = part.split_once(':')?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let fits = (1..=32).contains(&id.len()) && id.bytes().all(plain);
        if !fits || keys.iter().any(|(known, _)| known == id) {
            return None;
        }
        keys.push((id.to_owned(), STANDARD.decode(key).ok()?.try_into().ok()?));
    }
    (!keys.is_empty()).then_some(keys)
}

/// Writes keys as [`keys`] reads them.
pub(crate) fn write_keys(keys: &Keys) -> String {
    let one = |(id, key): &(String, [u8; 32])| format!("{id}:{}", STANDARD.encode(key));
    keys.iter().map(one).collect::<Vec<_>>().join(",")
}

/// The value as it may be shown.
pub(crate) fn mask(value: &str, shown: Shown) -> String {
    match shown {
        Shown::Whole => value.to_owned(),
        Shown::WithoutPassword => mask_password(value),
        Shown::Nothing => MASK.to_owned(),
    }
}

/// A URL without its password; nothing of what is not a URL, since nobody knows where in it a
/// password is.
fn mask_password(text: &str) -> String {
    let several = hosts::split(text).filter(|(_, hosts, _)| hosts.contains(','));
    let one_host = several.map(|(before, _, after)| [before, ONE_HOST, after].concat());
    let Ok(mut url) = Url::parse(one_host.as_deref().unwrap_or(text)) else {
        return MASK.to_owned();
    };
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

/// Stands in for several hosts, which a URL in general can't have.
const ONE_HOST: &str = "one.host.instead";

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_from_a_millisecond_to_a_hundred_years() {
        for (text, expected) in [
            ("1ms", Some(Duration::from_millis(1))),
            (" 2m ", Some(Duration::from_mins(2))),
            ("36500d", Some(duration::LONGEST)),
            ("36501d", None),
            ("0s", None),
            ("5", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn delivery_queues_are_from_1_to_16() {
        for (text, expected) in
            [("1", Some(1)), (" 16 ", Some(16)), ("0", None), ("17", None), ("300", None)]
        {
            assert_eq!(delivery_queues(text).map(Shares::count), expected, "{text}");
        }
    }

    #[test]
    fn networks_and_addresses_are_read() {
        let nets = networks("10.0.0.0/8, 127.0.0.1,::1/128,").unwrap();
        let shown: Vec<String> = nets.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.0/8", "127.0.0.1/32", "::1/128"]);
        assert_eq!(networks(""), Some(vec![]));
        assert_eq!(networks("10.0.0.0/33"), None);
        assert_eq!(networks("localhost"), None);
    }

    #[test]
    fn keys_read_back_as_written() {
        let ring = vec![("new".to_owned(), [1; 32]), ("old_2-x".to_owned(), [2; 32])];
        assert_eq!(keys(&format!("{}\n", write_keys(&ring))), Some(ring));
    }

    #[test]
    fn invalid_keys_are_refused() {
        let key = STANDARD.encode([7; 32]);
        let long = "i".repeat(33);
        for text in [
            String::new(),
            key.clone(),
            format!(":{key}"),
            format!("{long}:{key}"),
            format!("a b:{key}"),
            format!("a:{key},a:{key}"),
            format!("a:{}", STANDARD.encode([7; 31])),
            "a:not base64".to_owned(),
        ] {
            assert_eq!(keys(&text), None, "{text}");
        }
    }

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
        ] {
            assert_eq!(mask(value, Shown::WithoutPassword), expected);
        }
        assert_eq!(mask("k:AAAA", Shown::Nothing), "***");
    }
}
