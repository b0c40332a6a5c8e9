//! Addresses with several hosts between commas, such as `amqps://user:password@one:1,two/path`, which
//! URLs in general can't have.

/// An address, split around its hosts.
#[derive(Clone, Copy)]
pub struct HostList<'a> {
    before: &'a str,
    hosts: &'a str,
    after: &'a str,
}

impl<'a> HostList<'a> {
    /// Splits an address; `None` when it has no scheme.
    #[must_use]
    pub fn of(address: &'a str) -> Option<Self> {
        let start = address.find("://")? + 3;
        let end = address[start..].find(['/', '?']).map_or(address.len(), |end| start + end);
        let start = address[start..end].rfind('@').map_or(start, |at| start + at + 1);
        let (before, rest) = address.split_at(start);
        let (hosts, after) = rest.split_at(end - start);
        Some(Self { before, hosts, after })
    }

    /// The hosts with their ports, as they are written.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        self.hosts
    }

    /// Whether there is more than one.
    #[must_use]
    pub fn is_several(&self) -> bool {
        self.hosts.contains(',')
    }

    /// Each host with its port; empty where there is none between two commas.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> {
        self.hosts.split(',').map(str::trim)
    }

    /// The same address with this host alone.
    #[must_use]
    pub fn with(&self, host: &str) -> String {
        [self.before, host, self.after].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_around_their_hosts() {
        for (address, hosts) in [
            ("amqp://a:p,w@one:1, [::1]:2,,two/v?x=@b", "one:1, [::1]:2,,two"),
            ("amqp://a@b@one?x=1,2", "one"),
            ("amqp://", ""),
            ("p\u{e4}://\u{e4}@\u{e4},\u{e4}/\u{e4}", "\u{e4},\u{e4}"),
        ] {
            let list = HostList::of(address).unwrap();
            assert_eq!(list.as_str(), hosts, "{address}");
            assert_eq!(list.with(hosts), address);
            assert_eq!(list.is_several(), list.iter().count() > 1);
        }
        let list = HostList::of("amqp://a:p,w@one:1, [::1]:2,,two/v").unwrap();
        assert_eq!(list.iter().collect::<Vec<_>>(), ["one:1", "[::1]:2", "", "two"]);
        assert_eq!(list.with("three"), "amqp://a:p,w@three/v");
        assert!(HostList::of("host=one,two").is_none());
    }
}
