//! Parses the texts of settings.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanfare_core::duration;
use fanfare_core::shard::ShardCount;
use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

/// Keys with their ids. The first one encrypts.
pub(crate) type Keys = Vec<(String, [u8; 32])>;

/// A value, or `None` for the text `off`.
pub(crate) type OrOff<T> = Option<T>;

/// The form of a duration.
pub(super) const DURATION: &str = "a whole number with a unit, such as 500ms, 5s, 2m, 12h or 3d";

/// The form of an age that a partition of a day can have.
pub(super) const DAYS_OR_OFF: &str = "a duration of at least 1d, such as 30d, or off for never";

/// The form of the size of a disk.
pub(super) const SIZE: &str = "a whole number with a unit, such as 500MB, 200GB, 200GiB or 2TB";

/// The form of a count.
pub(super) const COUNT: &str = "a whole number, at least 1";

/// Makes an argument's parser from a function that returns `None` for an invalid text. The error has
/// no text of its own, because the argument's `long_help` gives the form.
pub(super) fn by<T>(
    read: fn(&str) -> Option<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: 'static,
{
    move |text| read(text).ok_or_else(String::new)
}

/// Parses a duration of at least a millisecond.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let within = Duration::from_millis(1)..=duration::LONGEST;
    duration::parse(text.trim()).filter(|duration| within.contains(duration))
}

/// Parses a duration of at least a day, or `off`.
pub(crate) fn days_or_off(text: &str) -> Option<OrOff<Duration>> {
    match text.trim() {
        "off" => Some(None),
        text => duration(text).filter(|age| *age >= Duration::from_hours(24)).map(Some),
    }
}

/// Parses a size in bytes with a decimal or binary unit.
pub(crate) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = match unit.trim_start() {
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit).filter(|size| *size > 0)
}

/// Parses a whole number from 1 to a million, or to the maximum of the type if that is less.
pub(crate) fn count<T: TryFrom<u32>>(text: &str) -> Option<T> {
    // Semaphores and pools accept numbers up to this bound.
    let count = text.trim().parse().ok().filter(|number| (1..=1_000_000).contains(number))?;
    T::try_from(count).ok()
}

/// Parses the number of delivery queues.
pub(crate) fn delivery_queues(text: &str) -> Option<ShardCount> {
    text.trim().parse().ok().and_then(ShardCount::new)
}

/// Parses the address of a socket.
pub(crate) fn listen(text: &str) -> Option<SocketAddr> {
    text.trim().parse().ok()
}

/// Parses the address of a socket, or `off`.
pub(crate) fn listen_or_off(text: &str) -> Option<OrOff<SocketAddr>> {
    match text.trim() {
        "" | "off" => Some(None),
        text => listen(text).map(Some),
    }
}

/// Parses one of two words; true for the first one.
pub(crate) fn either(text: &str, first: &str, second: &str) -> Option<bool> {
    let text = text.trim();
    (text == first || text == second).then_some(text == first)
}

/// Checks a filter of the log. It is parsed again when the log starts.
pub(crate) fn log_filter(text: &str) -> Option<String> {
    EnvFilter::try_new(text).is_ok().then(|| text.to_owned())
}

/// Checks that a text looks like a URL or like `key=value`. The library parses it when it is used.
pub(crate) fn database_url(text: &str) -> Option<String> {
    let url = ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
    (url || (text.contains('=') && !text.contains("://"))).then(|| text.to_owned())
}

/// Checks the scheme of the broker's URL. The rest is parsed when it is used.
pub(crate) fn amqp_url(text: &str) -> Option<String> {
    let url = ["amqp://", "amqps://"].iter().any(|scheme| text.starts_with(scheme));
    url.then(|| text.to_owned())
}

/// Parses networks and single addresses, separated by commas. The list may be empty.
pub(crate) fn networks(text: &str) -> Option<Vec<IpNet>> {
    let one = |text: &str| {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse().or_else(|_| address()).ok()
    };
    parts(text).map(one).collect()
}

/// Networks, as one value.
#[derive(Debug, Clone)]
pub(crate) struct Networks(pub(crate) Vec<IpNet>);

/// Parses the path of a file. The file is read later.
pub(crate) fn file(text: &str) -> Option<PathBuf> {
    let text = text.trim();
    let fits = !text.is_empty() && !text.chars().any(char::is_control);
    fits.then(|| PathBuf::from(text))
}

/// Parses `id:base64[,…]` with unique ids and keys of 32 bytes. White space at either end is ignored,
/// so that the text may come from a file.
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

/// Formats keys as [`keys`] parses them.
pub(crate) fn write_keys(keys: &Keys) -> String {
    let one = |(id, key): &(String, [u8; 32])| format!("{id}:{}", STANDARD.encode(key));
    keys.iter().map(one).collect::<Vec<_>>().join(",")
}

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
    fn sizes_have_decimal_or_binary_units() {
        for (text, expected) in [
            ("200GB", Some(200_000_000_000)),
            (" 2 TiB ", Some(2 << 40)),
            ("500MB", Some(500_000_000)),
            ("0GB", None),
            ("200", None),
            ("GB", None),
            ("-1GB", None),
            ("1.5TB", None),
            ("99999999999999999999GB", None),
            ("18446744073709551615TB", None),
        ] {
            assert_eq!(size(text), expected, "{text}");
        }
    }

    #[test]
    fn delivery_queues_are_from_1_to_16() {
        for (text, expected) in
            [("1", Some(1)), (" 16 ", Some(16)), ("0", None), ("17", None), ("300", None)]
        {
            assert_eq!(delivery_queues(text).map(ShardCount::count), expected, "{text}");
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
}
