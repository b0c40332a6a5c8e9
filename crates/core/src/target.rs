//! The addresses that webhooks may reach: the public internet, and what the operator allows.
//!
//! Anyone who may create a webhook chooses an address that the service connects to, so the service
//! must not give access to its own network. The rule follows the IANA special-purpose address
//! registries: an address that is not globally reachable unicast is blocked. An IPv6 address that
//! embeds an IPv4 address is also checked as that IPv4 address. Names are not checked here: the
//! HTTP client checks each resolved address at the moment of connecting.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;

/// The networks that webhooks may reach beyond the public internet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetPolicy {
    allow: Vec<IpNet>,
}

/// An address that webhooks may not reach, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{address} is {reason}")]
pub struct BlockedTarget {
    address: IpAddr,
    reason: &'static str,
}

impl BlockedTarget {
    /// The refused address, in the form in which it was checked.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The kind of address, with its article: `a private address`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.reason
    }
}

impl TargetPolicy {
    /// A policy that allows addresses in the networks `allow` although they are not public.
    ///
    /// An IPv4 network also allows the IPv4-mapped form of its addresses, and vice versa.
    #[must_use]
    pub fn new(allow: Vec<IpNet>) -> Self {
        Self { allow: allow.into_iter().map(unmap).collect() }
    }

    /// Checks whether a webhook may reach `ip`.
    ///
    /// # Errors
    ///
    /// The address is not public, and not in an allowed network.
    pub fn check(&self, ip: IpAddr) -> Result<(), BlockedTarget> {
        match self.refusal(ip.to_canonical()) {
            None => Ok(()),
            Some(reason) => Err(BlockedTarget { address: ip, reason }),
        }
    }

    fn refusal(&self, ip: IpAddr) -> Option<&'static str> {
        if self.allow.iter().any(|net| net.contains(&ip)) {
            return None;
        }
        match ip {
            IpAddr::V4(ip) => special_v4(ip),
            IpAddr::V6(ip) => {
                let embedded = embedded_v4(ip).and_then(|v4| self.refusal(v4.into()));
                embedded.or_else(|| special_v6(ip))
            }
        }
    }
}

/// Converts a network of IPv4-mapped addresses to the IPv4 network.
fn unmap(net: IpNet) -> IpNet {
    if let IpNet::V6(v6) = net
        && let Some(v4) = v6.network().to_ipv4_mapped()
        && let Some(len) = v6.prefix_len().checked_sub(96)
        && let Ok(v4) = Ipv4Net::new(v4, len)
    {
        return v4.into();
    }
    net
}

/// The IPv4 address to which a translator or tunnel forwards packets for `ip`.
///
/// IPv4-mapped addresses are converted to IPv4 addresses before.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    if ip.is_unspecified() || ip.is_loopback() {
        return None;
    }
    let o = ip.octets();
    if COMPATIBLE.contains(&ip) || NAT64.contains(&ip) || NAT64_LOCAL.contains(&ip) {
        Some(Ipv4Addr::new(o[12], o[13], o[14], o[15]))
    } else if SIX_TO_FOUR.contains(&ip) {
        Some(Ipv4Addr::new(o[2], o[3], o[4], o[5]))
    } else {
        None
    }
}

fn special_v4(ip: Ipv4Addr) -> Option<&'static str> {
    SPECIAL_V4.iter().find(|(net, _)| net.contains(&ip)).map(|(_, reason)| *reason)
}

fn special_v6(ip: Ipv6Addr) -> Option<&'static str> {
    if let Some((_, reason)) = SPECIAL_V6.iter().find(|(net, _)| net.contains(&ip)) {
        return Some(reason);
    }
    // An address that is not assigned for global unicast today may get any purpose later.
    let global = GLOBAL_UNICAST.contains(&ip) || NAT64.contains(&ip);
    (!global).then_some("an unassigned address")
}

const fn v4(a: u8, b: u8, c: u8, d: u8, len: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), len)
}

/// A network from its first four groups; the others are zero.
const fn v6(a: u16, b: u16, c: u16, d: u16, len: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), len)
}

/// From the IANA IPv4 special-purpose and multicast registries; the first match gives the reason.
/// The last three are public according to the registries. Like link-local addresses, they reach
/// services of the cloud that a process runs in: Azure's `WireServer` (learn.microsoft.com, "What
/// is IP address 168.63.129.16?") and the service endpoints of IBM Cloud (cloud.ibm.com/docs/vpc,
/// "Service endpoints"). Those of other clouds are in special ranges.
const SPECIAL_V4: &[(Ipv4Net, &str)] = &[
    (v4(0, 0, 0, 0, 8), "an address of this network only"),
    (v4(10, 0, 0, 0, 8), "a private address"),
    (v4(100, 64, 0, 0, 10), "a shared carrier address"),
    (v4(127, 0, 0, 0, 8), "a loopback address"),
    (v4(169, 254, 0, 0, 16), "a link-local address"),
    (v4(172, 16, 0, 0, 12), "a private address"),
    (v4(192, 0, 0, 0, 24), "an address for protocol assignments"),
    (v4(192, 0, 2, 0, 24), "a documentation address"),
    (v4(192, 88, 99, 0, 24), "a relay address"),
    (v4(192, 168, 0, 0, 16), "a private address"),
    (v4(198, 18, 0, 0, 15), "a benchmarking address"),
    (v4(198, 51, 100, 0, 24), "a documentation address"),
    (v4(203, 0, 113, 0, 24), "a documentation address"),
    (v4(224, 0, 0, 0, 4), "a multicast address"),
    (v4(255, 255, 255, 255, 32), "the broadcast address"),
    (v4(240, 0, 0, 0, 4), "a reserved address"),
    (v4(161, 26, 0, 0, 16), "an address of the cloud's own services"),
    (v4(166, 8, 0, 0, 14), "an address of the cloud's own services"),
    (v4(168, 63, 129, 16, 32), "an address of the cloud's own services"),
];

/// RFC 4291, 2.4: everything else is reserved or has a purpose of its own.
const GLOBAL_UNICAST: Ipv6Net = v6(0x2000, 0, 0, 0, 3);
/// RFC 4291, 2.5.5.1, deprecated.
const COMPATIBLE: Ipv6Net = v6(0, 0, 0, 0, 96);
/// RFC 6052, 2.1.
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 0, 96);
/// RFC 8215. The prefix of a translator may be shorter than 96 bits, so the position of the
/// embedded address is unknown. All of the block is for local use, so it is refused.
const NAT64_LOCAL: Ipv6Net = v6(0x64, 0xff9b, 1, 0, 48);
/// RFC 3056.
const SIX_TO_FOUR: Ipv6Net = v6(0x2002, 0, 0, 0, 16);

/// From the IANA IPv6 special-purpose and address space registries; the first match gives the
/// reason, so a block inside a wider one precedes it.
const SPECIAL_V6: &[(Ipv6Net, &str)] = &[
    (v6(0, 0, 0, 0, 128), "the unspecified address"),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), "a loopback address"),
    (COMPATIBLE, "a deprecated IPv4-compatible address"),
    (NAT64_LOCAL, "a local translation address"),
    (v6(0x100, 0, 0, 0, 64), "a discard address"),
    (v6(0x100, 0, 0, 1, 64), "a dummy address"),
    (v6(0x2001, 0, 0, 0, 32), "a tunnel address"),
    (v6(0x2001, 2, 0, 0, 48), "a benchmarking address"),
    (v6(0x2001, 0x10, 0, 0, 28), "an overlay identifier"),
    (v6(0x2001, 0x20, 0, 0, 28), "an overlay identifier"),
    (v6(0x2001, 0, 0, 0, 23), "an address for protocol assignments"),
    (v6(0x2001, 0xdb8, 0, 0, 32), "a documentation address"),
    (v6(0x3fff, 0, 0, 0, 20), "a documentation address"),
    (v6(0x5f00, 0, 0, 0, 16), "a segment identifier"),
    (v6(0xfc00, 0, 0, 0, 7), "a unique local address"),
    (v6(0xfe80, 0, 0, 0, 10), "a link-local address"),
    (v6(0xfec0, 0, 0, 0, 10), "a site-local address"),
    (v6(0xff00, 0, 0, 0, 8), "a multicast address"),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(allow: &[&str]) -> TargetPolicy {
        TargetPolicy::new(allow.iter().map(|net| net.parse().expect("a network")).collect())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[track_caller]
    fn blocked(address: &str, reason: &str) {
        let error = policy(&[]).check(ip(address)).expect_err("must be blocked");
        assert_eq!(error.to_string(), format!("{address} is {reason}"));
        assert_eq!(error.address(), ip(address));
        assert_eq!(error.reason(), reason);
    }

    #[track_caller]
    fn passes(allow: &[&str], address: &str) {
        assert_eq!(policy(allow).check(ip(address)), Ok(()), "{address} with {allow:?}");
    }

    #[track_caller]
    fn stays_blocked(allow: &[&str], address: &str) {
        assert!(policy(allow).check(ip(address)).is_err(), "{address} with {allow:?}");
    }

    #[test]
    fn each_special_ipv4_range_is_blocked_to_its_edges() {
        for (address, reason) in [
            ("0.0.0.0", "an address of this network only"),
            ("0.255.255.255", "an address of this network only"),
            ("10.0.0.1", "a private address"),
            ("10.255.255.255", "a private address"),
            ("100.64.0.0", "a shared carrier address"),
            ("100.127.255.255", "a shared carrier address"),
            ("127.0.0.1", "a loopback address"),
            ("127.255.255.254", "a loopback address"),
            ("169.254.169.254", "a link-local address"),
            ("172.16.0.1", "a private address"),
            ("172.31.255.255", "a private address"),
            ("192.0.0.8", "an address for protocol assignments"),
            ("192.0.2.1", "a documentation address"),
            ("192.88.99.1", "a relay address"),
            ("192.168.1.1", "a private address"),
            ("198.18.0.1", "a benchmarking address"),
            ("198.19.255.255", "a benchmarking address"),
            ("198.51.100.7", "a documentation address"),
            ("203.0.113.7", "a documentation address"),
            ("224.0.0.1", "a multicast address"),
            ("239.255.255.255", "a multicast address"),
            ("240.0.0.1", "a reserved address"),
            ("255.255.255.254", "a reserved address"),
            ("255.255.255.255", "the broadcast address"),
            ("161.26.0.10", "an address of the cloud's own services"),
            ("166.11.255.255", "an address of the cloud's own services"),
            ("168.63.129.16", "an address of the cloud's own services"),
        ] {
            blocked(address, reason);
        }
    }

    #[test]
    fn each_special_ipv6_range_is_blocked() {
        for (address, reason) in [
            ("::", "the unspecified address"),
            ("::1", "a loopback address"),
            ("::808:808", "a deprecated IPv4-compatible address"),
            ("64:ff9b:1::808:808", "a local translation address"),
            ("100::1", "a discard address"),
            ("100:0:0:1::1", "a dummy address"),
            ("2001::1", "a tunnel address"),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "a tunnel address"),
            ("2001:2::1", "a benchmarking address"),
            ("2001:10::1", "an overlay identifier"),
            ("2001:2f:ffff::1", "an overlay identifier"),
            ("2001:1ff::1", "an address for protocol assignments"),
            ("2001:db8::1", "a documentation address"),
            ("3fff:fff::1", "a documentation address"),
            ("5f00::1", "a segment identifier"),
            ("fc00::1", "a unique local address"),
            ("fdff::1", "a unique local address"),
            ("fe80::1", "a link-local address"),
            ("febf::1", "a link-local address"),
            ("fec0::1", "a site-local address"),
            ("ff02::1", "a multicast address"),
            ("::ffff:0:808:808", "an unassigned address"),
            ("4000::1", "an unassigned address"),
            ("200::1", "an unassigned address"),
        ] {
            blocked(address, reason);
        }
    }

    #[test]
    fn embedded_ipv4_addresses_are_checked() {
        for (address, reason) in [
            ("::ffff:10.0.0.1", "a private address"),
            ("::ffff:169.254.169.254", "a link-local address"),
            ("::127.0.0.1", "a loopback address"),
            ("64:ff9b::c0a8:101", "a private address"),
            ("64:ff9b:1::a00:1", "a private address"),
            ("2002:7f00:1::1", "a loopback address"),
            ("2002:a9fe:a9fe::", "a link-local address"),
        ] {
            blocked(&ip(address).to_string(), reason);
        }
    }

    #[test]
    fn public_addresses_pass() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2606:4700:4700::1111",
            "2a00:1450:4001::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            passes(&[], address);
        }
    }

    #[test]
    fn allowed_networks_pass_and_nothing_else() {
        passes(&["10.1.0.0/16"], "10.1.2.3");
        passes(&["10.1.0.0/16"], "::ffff:10.1.2.3");
        passes(&["10.1.0.0/16"], "64:ff9b::a01:203");
        passes(&["::ffff:10.1.0.0/112"], "10.1.2.3");
        passes(&["::ffff:10.1.0.0/112"], "::ffff:10.1.2.3");
        passes(&["127.0.0.0/8", "::1/128"], "127.0.0.1");
        passes(&["127.0.0.0/8", "::1/128"], "::1");
        passes(&["fd00::/8"], "fd00::1");
        passes(&["10.1.0.0/16"], "8.8.8.8");
        stays_blocked(&["10.1.0.0/16"], "10.2.0.1");
        stays_blocked(&["127.0.0.0/8"], "::1");
        stays_blocked(&["127.0.0.0/8"], "169.254.169.254");
        stays_blocked(&["::/0"], "10.0.0.1");
        stays_blocked(&["::/0"], "::ffff:10.0.0.1");
        stays_blocked(&["0.0.0.0/0"], "fe80::1");
    }

    /// An address in one of the special ranges, with the range.
    fn special() -> impl Strategy<Value = (IpNet, IpAddr)> {
        let v4 = (prop::sample::select(SPECIAL_V4), any::<u32>()).prop_map(|((net, _), bits)| {
            let host = bits & u32::from(net.hostmask());
            (net.into(), Ipv4Addr::from(u32::from(net.network()) | host).into())
        });
        let v6 = (prop::sample::select(SPECIAL_V6), any::<u128>()).prop_map(|((net, _), bits)| {
            let host = bits & u128::from(net.hostmask());
            (net.into(), Ipv6Addr::from(u128::from(net.network()) | host).into())
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn no_special_address_passes_unless_allowed((net, address) in special()) {
            prop_assert!(TargetPolicy::default().check(address).is_err());
            prop_assert!(TargetPolicy::new(vec![net]).check(address).is_ok());
        }

        #[test]
        fn ipv6_forms_of_an_ipv4_address_have_the_same_verdict(bits in any::<u32>()) {
            let v4 = Ipv4Addr::from(bits);
            let [hi, lo] = [(bits >> 16) as u16, (bits & 0xffff) as u16];
            let verdict = |ip: IpAddr| TargetPolicy::default().check(ip).map_err(|e| e.reason());
            let expected = verdict(v4.into());
            prop_assert_eq!(verdict(v4.to_ipv6_mapped().into()), expected);
            let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, hi, lo);
            prop_assert_eq!(verdict(nat64.into()), expected);
            let six_to_four = Ipv6Addr::new(0x2002, hi, lo, 0, 0, 0, 0, 1);
            prop_assert_eq!(verdict(six_to_four.into()), expected);
        }
    }
}
