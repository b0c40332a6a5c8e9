//! Mail addresses that owners may choose for notices.
//!
//! Anyone who may create a webhook may also enter an address, so the service must not send mail to
//! whomever they like: only to the domains that the operator allows. An address has the plain form of
//! almost all addresses. What mail servers may read as a route to another domain (`%`, `!`, quotes) is
//! refused.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The longest address (RFC 5321) and the longest part before the `@`.
const LONGEST: usize = 254;
const LONGEST_LOCAL: usize = 64;

/// A mail address, without a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailAddress(String);

/// A text that is not such an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("write a mail address such as anna@example.org")]
pub struct BadMailAddress;

impl FromStr for MailAddress {
    type Err = BadMailAddress;

    fn from_str(text: &str) -> Result<Self, BadMailAddress> {
        let (local, domain) = text.split_once('@').ok_or(BadMailAddress)?;
        let is_dotted = |text: &str, fits: fn(char) -> bool| {
            text.split('.').all(|part| !part.is_empty() && part.chars().all(fits))
        };
        let local_fits = local.len() <= LONGEST_LOCAL
            && !local.starts_with('-')
            && is_dotted(local, |letter| {
                letter.is_ascii_alphanumeric() || "+-_'=".contains(letter)
            });
        let fits = text.len() <= LONGEST && local_fits && is_domain(domain);
        if fits { Ok(Self(text.to_owned())) } else { Err(BadMailAddress) }
    }
}

fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        let fits = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        (1..=63).contains(&label.len())
            && label.chars().all(fits)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.contains('.') && text.split('.').all(is_label)
}

impl MailAddress {
    /// The address as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn domain(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, domain)| domain)
    }
}

impl fmt::Display for MailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The domains to whose addresses owners may have notices sent; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MailDomains(Vec<String>);

impl MailDomains {
    /// Parses domains that are separated by commas; `None` if one of them is not a domain.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let domains = text.split(',').map(str::trim).filter(|domain| !domain.is_empty());
        let domain = |domain: &str| is_domain(domain).then(|| domain.to_ascii_lowercase());
        domains.map(domain).collect::<Option<_>>().map(Self)
    }

    /// Whether no domain is allowed, so that owners can't choose mail.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The domains, in lower case.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// Whether the address is of one of these domains itself; their subdomains have to be named, too.
    #[must_use]
    pub fn allow(&self, address: &MailAddress) -> bool {
        self.0.iter().any(|domain| domain.eq_ignore_ascii_case(address.domain()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_addresses_are_accepted_and_routes_are_not() {
        for text in ["anna@example.org", "a.b+c@Sub.Example.org", "o'neil_1@x-y.de"] {
            assert_eq!(text.parse::<MailAddress>().unwrap().as_str(), text);
        }
        let long = format!("{}@example.org", "a".repeat(65));
        for text in [
            "",
            "anna",
            "@example.org",
            "anna@",
            "anna@localhost",
            "a@b@example.org",
            "victim%other.org@example.org",
            "other.org!victim@example.org",
            "\"a b\"@example.org",
            "a..b@example.org",
            ".a@example.org",
            "anna@-example.org",
            "anna@[127.0.0.1]",
            "anna@example.org,bob@other.org",
            "anna@example.org\r\nBcc: x@y.org",
            "-f@example.org",
            "Anna <anna@example.org>",
            "änna@example.org",
            &long,
        ] {
            assert_eq!(text.parse::<MailAddress>(), Err(BadMailAddress), "{text}");
        }
    }

    #[test]
    fn only_the_named_domains_are_allowed() {
        let domains = MailDomains::parse("Example.org, mail.example.com").unwrap();
        let allows = |text: &str| domains.allow(&text.parse().unwrap());
        assert!(allows("anna@EXAMPLE.ORG") && allows("anna@mail.example.com"));
        for text in ["anna@sub.example.org", "anna@example.com", "anna@example.org.evil.net"] {
            assert!(!allows(text), "{text}");
        }
        assert!(MailDomains::parse("").unwrap().is_empty());
        assert_eq!(MailDomains::parse("example.org, @x"), None);
    }
}
