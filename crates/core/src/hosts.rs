//! Addresses with several hosts separated by commas, such as
//! `amqps://user:password@one:1,two/path`. URLs have one host only, so a URL library can't parse
//! them.

/// Splits an address into three parts: the text before its hosts, the hosts with their ports, and
/// the text after them. Returns `None` if it has no scheme.
#[must_use]
pub fn split(address: &str) -> Option<(&str, &str, &str)> {
    let start = address.find("://")? + 3;
    let end = address[start..].find(['/', '?']).map_or(address.len(), |end| start + end);
    let start = address[start..end].rfind('@').map_or(start, |at| start + at + 1);
    Some((&address[..start], &address[start..end], &address[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_around_their_hosts() {
        for (address, expected) in [
            ("amqp://a:p,w@b:1,[::1]:2/v?x=@b", Some(("amqp://a:p,w@", "b:1,[::1]:2", "/v?x=@b"))),
            ("amqp://a@b@one?x=1,2", Some(("amqp://a@b@", "one", "?x=1,2"))),
            ("amqp://", Some(("amqp://", "", ""))),
            ("ä://ä@ä,ä/ä", Some(("ä://ä@", "ä,ä", "/ä"))),
            ("host=one,two", None),
        ] {
            assert_eq!(split(address), expected);
        }
    }
}
