//! How often passwords may be tried, for one account and by everybody together.
//!
//! Each try costs something that comes back with time; a right password gives it back at once, so
//! that only wrong ones count. It is taken before the password is looked at: a thousand tries at
//! the same moment are a thousand tries.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Wrong passwords for one account: ten at once, then one every 30 s.
const OF_AN_ACCOUNT: Limit = Limit { burst: 10, every: Duration::from_secs(30) };
/// Wrong passwords of everybody: 200 at once, then 20 a second.
const OF_EVERYBODY: Limit = Limit { burst: 200, every: Duration::from_millis(50) };
/// Accounts that are remembered. The limit for everybody keeps their number far below.
const MAX_ACCOUNTS: usize = 10_000;

/// How often something may be done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    /// At once.
    pub(crate) burst: u32,
    /// And then one in this time.
    pub(crate) every: Duration,
}

/// What has been tried.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    accounts: HashMap<String, Spent>,
    everybody: Spent,
}

/// When all that was spent has come back.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Spent(Option<Instant>);

impl Throttle {
    /// Takes a try for an account. An error says how long to wait for the next one.
    pub(crate) fn take(&mut self, account: &str, now: Instant) -> Result<(), Duration> {
        if self.accounts.len() >= MAX_ACCOUNTS && !self.accounts.contains_key(account) {
            self.accounts.retain(|_, spent| spent.is_anything(now));
            if self.accounts.len() >= MAX_ACCOUNTS {
                return Err(OF_AN_ACCOUNT.every);
            }
        }
        let mut everybody = self.everybody;
        everybody.take(OF_EVERYBODY, now)?;
        self.accounts.entry(account.to_owned()).or_default().take(OF_AN_ACCOUNT, now)?;
        self.everybody = everybody;
        Ok(())
    }

    /// Gives a try back.
    pub(crate) fn give_back(&mut self, account: &str, now: Instant) {
        self.everybody.give_back(OF_EVERYBODY);
        if let Some(spent) = self.accounts.get_mut(account) {
            spent.give_back(OF_AN_ACCOUNT);
            if !spent.is_anything(now) {
                self.accounts.remove(account);
            }
        }
    }
}

impl Spent {
    /// Takes one. An error says how long to wait for the next one.
    pub(crate) fn take(&mut self, limit: Limit, now: Instant) -> Result<(), Duration> {
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

    #[test]
    fn an_account_has_ten_tries_and_then_one_every_30_seconds() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..10 {
            throttle.take("anna", now).unwrap();
        }
        assert_eq!(throttle.take("anna", now), Err(Duration::from_secs(30)));
        throttle.take("bob", now).unwrap();
        let later = now + Duration::from_secs(20);
        assert_eq!(throttle.take("anna", later), Err(Duration::from_secs(10)));
        let later = now + Duration::from_secs(30);
        throttle.take("anna", later).unwrap();
        assert_eq!(throttle.take("anna", later), Err(Duration::from_secs(30)));
    }

    #[test]
    fn right_passwords_don_t_count() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..1000 {
            throttle.take("anna", now).unwrap();
            throttle.give_back("anna", now);
        }
        assert!(throttle.accounts.is_empty());
    }

    #[test]
    fn everybody_together_is_limited_too() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..200 {
            throttle.take(&format!("user {n}"), now).unwrap();
        }
        assert_eq!(throttle.take("anna", now), Err(Duration::from_millis(50)));
        throttle.take("anna", now + Duration::from_millis(50)).unwrap();
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut throttle, mut now) = (Throttle::default(), Instant::now());
        for n in 0..=MAX_ACCOUNTS {
            now += Duration::from_secs(1);
            throttle.take(&format!("user {n}"), now).unwrap();
        }
        assert!(throttle.accounts.len() < 100);
    }
}
