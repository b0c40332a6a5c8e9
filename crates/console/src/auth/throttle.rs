//! Rate limits for password attempts, and for wrong access tokens of publishers.
//!
//! Passwords are limited in three ways: from one source, for one account from one source, and for one
//! account from all sources.
//!
//! Each attempt takes a token, and tokens come back with time. A correct password gives its token
//! back at once, so only wrong passwords count. The token is taken before the password is checked,
//! so that a thousand simultaneous attempts count as a thousand.
//!
//! There is no limit for all sources together, because one source could use it up and lock every
//! user out. `passwords` limits how many passwords are hashed at a time. For an account whose owner
//! has signed in from this source before, only the limit for this pair of account and source
//! applies. So neither strangers elsewhere nor those behind the same proxy can lock the owner out.
//!
//! `governor` has the same algorithm (GCRA), but it can't give a token back, check three limits
//! before it takes from any, or keep the busiest keys when there are too many.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use fanfare_store::sessions::TokenDigest;

/// Wrong passwords, or wrong tokens, from one source: 200 at once, then 10 a second.
const OF_A_SOURCE: Limit = Limit { burst: 200, every: Duration::from_millis(100) };
/// Wrong passwords for one account from one source: ten at once, then one every 30 s.
const OF_A_PAIR: Limit = Limit { burst: 10, every: Duration::from_secs(30) };
/// Wrong passwords for one account from everywhere: 500 at once, then one every 5 s.
const OF_AN_ACCOUNT: Limit = Limit { burst: 500, every: Duration::from_secs(5) };
/// The maximum number of entries of each kind. The entries with the fewest missing tokens are
/// forgotten first.
const MAX_ENTRIES: usize = 10_000;

/// A rate limit.
#[derive(Debug, Clone, Copy)]
struct Limit {
    /// The number of attempts at once.
    burst: u32,
    /// The time after which one more attempt is allowed.
    every: Duration,
}

/// The source of attempts: an IPv4 address, or a /64 of IPv6, which is what a provider gives to one
/// customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source(IpAddr);

/// The state of all limits.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    sources: Spending<Source>,
    pairs: Spending<(String, Source)>,
    accounts: Spending<String>,
    /// The sources from which owners have signed in, with the time of the last sign-in.
    familiar: HashMap<(String, Source), Instant>,
}

/// The limit of wrong access tokens from one source.
///
/// An access token can't be guessed; the limit protects the database. A token that was accepted
/// before is exempt, so that strangers behind the same proxy can't keep a publisher out.
#[derive(Debug, Default)]
pub(crate) struct TokenThrottle {
    sources: Spending<Source>,
    /// The access tokens that were accepted and not revoked since. Operators make each, so there
    /// are few.
    accepted: HashSet<TokenDigest>,
}

/// The check of an access token.
#[derive(Debug)]
pub(crate) struct TokenCheck {
    digest: TokenDigest,
    /// The source that it counts for; `None` for a token that is exempt.
    source: Option<Source>,
}

/// The time at which all tokens are back (the theoretical arrival time of GCRA); `None` when none
/// was ever taken.
#[derive(Debug, Default, Clone, Copy)]
struct Spent(Option<Instant>);

/// The spent tokens of each key.
#[derive(Debug)]
struct Spending<K>(HashMap<K, Spent>);

impl<K> Default for Spending<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

impl Throttle {
    /// Takes a token for an attempt on an account. The error is the time to wait for the next
    /// token; then nothing is taken.
    pub(crate) fn take(
        &mut self,
        account: &str,
        source: Source,
        now: Instant,
    ) -> Result<(), Duration> {
        let pair = (account.to_owned(), source);
        let of_pair = self.pairs.after(&pair, OF_A_PAIR, now)?;
        if !self.familiar.contains_key(&pair) {
            let of_source = self.sources.after(&source, OF_A_SOURCE, now)?;
            let of_account = self.accounts.after(&pair.0, OF_AN_ACCOUNT, now)?;
            self.sources.put(source, of_source, now);
            self.accounts.put(pair.0.clone(), of_account, now);
        }
        self.pairs.put(pair, of_pair, now);
        Ok(())
    }

    /// Gives back the token of an attempt that was not a wrong password.
    pub(crate) fn give_back(&mut self, account: &str, source: Source, now: Instant) {
        let pair = (account.to_owned(), source);
        if !self.familiar.contains_key(&pair) {
            self.sources.give_back(&source, OF_A_SOURCE, now);
            self.accounts.give_back(&pair.0, OF_AN_ACCOUNT, now);
        }
        self.pairs.give_back(&pair, OF_A_PAIR, now);
    }

    /// Whether the owner of an account has signed in from this source before.
    pub(crate) fn is_familiar(&self, account: &str, source: Source) -> bool {
        self.familiar.contains_key(&(account.to_owned(), source))
    }

    /// Records that the owner of an account signed in from this source.
    pub(crate) fn signed_in(&mut self, account: &str, source: Source, now: Instant) {
        if self.familiar.len() >= MAX_ENTRIES {
            let mut times: Vec<Instant> = self.familiar.values().copied().collect();
            let (_, median, _) = times.select_nth_unstable(MAX_ENTRIES / 2);
            let median = *median;
            self.familiar.retain(|_, at| *at > median);
        }
        self.familiar.insert((account.to_owned(), source), now);
    }
}

impl TokenThrottle {
    /// Begins the check of an access token. The error is the time to wait.
    pub(crate) fn begin(
        &mut self,
        digest: TokenDigest,
        source: Source,
        now: Instant,
    ) -> Result<TokenCheck, Duration> {
        if self.accepted.contains(&digest) {
            return Ok(TokenCheck { digest, source: None });
        }
        let spent = self.sources.after(&source, OF_A_SOURCE, now)?;
        self.sources.put(source, spent, now);
        Ok(TokenCheck { digest, source: Some(source) })
    }

    /// Records that the access token is a publisher's.
    pub(crate) fn accepted(&mut self, check: &TokenCheck, now: Instant) {
        self.undecided(check, now);
        self.accepted.insert(check.digest);
    }

    /// Records that no publisher has the access token.
    pub(crate) fn refused(&mut self, check: &TokenCheck) {
        self.accepted.remove(&check.digest);
    }

    /// Records that the access token could not be checked. This does not count as a wrong one.
    pub(crate) fn undecided(&mut self, check: &TokenCheck, now: Instant) {
        if let Some(source) = &check.source {
            self.sources.give_back(source, OF_A_SOURCE, now);
        }
    }
}

impl<K: Hash + Eq> Spending<K> {
    /// Returns the state after one more token is taken. The error is the time to wait.
    fn after(&self, key: &K, limit: Limit, now: Instant) -> Result<Spent, Duration> {
        let mut spent = self.0.get(key).copied().unwrap_or_default();
        spent.take(limit, now)?;
        Ok(spent)
    }

    fn put(&mut self, key: K, spent: Spent, now: Instant) {
        if self.0.len() >= MAX_ENTRIES && !self.0.contains_key(&key) {
            self.0.retain(|_, spent| spent.is_anything(now));
            if self.0.len() >= MAX_ENTRIES {
                self.forget_half();
            }
        }
        self.0.insert(key, spent);
    }

    /// Forgets the half of the entries with the fewest missing tokens.
    fn forget_half(&mut self) {
        let mut times: Vec<Option<Instant>> = self.0.values().map(|spent| spent.0).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        self.0.retain(|_, spent| spent.0 > median);
    }

    fn give_back(&mut self, key: &K, limit: Limit, now: Instant) {
        if let Some(spent) = self.0.get_mut(key) {
            spent.give_back(limit);
            if !spent.is_anything(now) {
                self.0.remove(key);
            }
        }
    }
}

impl Spent {
    /// Takes a token. The error is the time to wait for the next one.
    fn take(&mut self, limit: Limit, now: Instant) -> Result<(), Duration> {
        let back_at = self.0.map_or(now, |back_at| back_at.max(now));
        let all_but_one = limit.every * limit.burst.saturating_sub(1);
        let wait = back_at.saturating_duration_since(now).saturating_sub(all_but_one);
        if !wait.is_zero() {
            return Err(wait);
        }
        self.0 = Some(back_at + limit.every);
        Ok(())
    }

    fn give_back(&mut self, limit: Limit) {
        self.0 = self.0.and_then(|back_at| back_at.checked_sub(limit.every));
    }

    fn is_anything(self, now: Instant) -> bool {
        self.0.is_some_and(|back_at| back_at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: u32) -> Source {
        IpAddr::from(n.to_be_bytes()).into()
    }

    #[test]
    fn an_account_has_ten_attempts_from_a_source_and_then_one_every_30_seconds() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let here = source(1);
        for _ in 0..10 {
            throttle.take("anna", here, now).unwrap();
        }
        assert_eq!(throttle.take("anna", here, now), Err(Duration::from_secs(30)));
        throttle.take("bob", here, now).unwrap();
        throttle.take("anna", source(2), now).unwrap();
        let later = now + Duration::from_secs(20);
        assert_eq!(throttle.take("anna", here, later), Err(Duration::from_secs(10)));
        let later = now + Duration::from_secs(30);
        throttle.take("anna", here, later).unwrap();
        assert_eq!(throttle.take("anna", here, later), Err(Duration::from_secs(30)));
    }

    #[test]
    fn correct_passwords_do_not_count() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..1000 {
            throttle.take("anna", source(1), now).unwrap();
            throttle.give_back("anna", source(1), now);
        }
        assert!(throttle.pairs.0.is_empty() && throttle.accounts.0.is_empty());
    }

    #[test]
    fn a_flood_from_one_source_blocks_only_that_source() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let flood = source(1);
        throttle.signed_in("bob", flood, now);
        for n in 0..200 {
            throttle.take(&format!("user {n}"), flood, now).unwrap();
        }
        assert_eq!(throttle.take("anna", flood, now), Err(Duration::from_millis(100)));
        throttle.take("anna", source(2), now).unwrap();
        // A user who signed in from there before still can.
        throttle.take("bob", flood, now).unwrap();
        throttle.take("anna", flood, now + Duration::from_millis(100)).unwrap();
    }

    #[test]
    fn strangers_can_not_lock_out_a_user_who_signed_in_before() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let home = source(1);
        throttle.take("anna", home, now).unwrap();
        throttle.give_back("anna", home, now);
        throttle.signed_in("anna", home, now);
        for n in 0..500 {
            throttle.take("anna", source(1000 + n), now).unwrap();
        }
        assert_eq!(throttle.take("anna", source(2), now), Err(Duration::from_secs(5)));
        throttle.take("anna", home, now).unwrap();
    }

    #[test]
    fn wrong_access_tokens_block_their_source_but_no_token_that_was_accepted() {
        let (mut throttle, now) = (TokenThrottle::default(), Instant::now());
        let (here, right, wrong) = (source(1), [1; 32], [2; 32]);
        for _ in 0..1000 {
            let check = throttle.begin(right, here, now).unwrap();
            throttle.accepted(&check, now);
        }
        for _ in 0..200 {
            let check = throttle.begin(wrong, here, now).unwrap();
            throttle.refused(&check);
        }
        assert_eq!(throttle.begin(wrong, here, now).unwrap_err(), Duration::from_millis(100));
        throttle.begin(wrong, source(2), now).unwrap();
        let check = throttle.begin(right, here, now).unwrap();
        // A revoked token is a wrong one from then on.
        throttle.refused(&check);
        assert_eq!(throttle.begin(right, here, now).unwrap_err(), Duration::from_millis(100));
    }

    #[test]
    fn an_access_token_that_could_not_be_checked_does_not_count() {
        let (mut throttle, now) = (TokenThrottle::default(), Instant::now());
        for _ in 0..1000 {
            let check = throttle.begin([1; 32], source(1), now).unwrap();
            throttle.undecided(&check, now);
        }
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_64_bits_of_ipv6() {
        let source = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::2:3"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.2"), source("192.0.2.1"));
    }

    #[test]
    fn the_number_of_entries_is_bounded_and_the_busiest_entries_stay() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..5 {
            throttle.take("anna", source(n), now).unwrap();
        }
        for n in 0..25_000 {
            throttle.take(&format!("user {n}"), source(100 + n), now).unwrap();
            throttle.signed_in(&format!("user {n}"), source(100 + n), now);
        }
        assert!(throttle.sources.0.len() <= MAX_ENTRIES);
        assert!(throttle.pairs.0.len() <= MAX_ENTRIES);
        assert!(throttle.accounts.0.len() <= MAX_ENTRIES);
        assert!(throttle.familiar.len() <= MAX_ENTRIES);
        assert!(throttle.accounts.0.contains_key("anna"));
    }
}
