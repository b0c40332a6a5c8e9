//! The sealed part of a webhook, and the rotation of its secret.
//!
//! After a rotation the old secret signs together with the new one until its end, so that receivers
//! have time to learn the new one. The end is a time of the database's clock. Reading a webhook
//! returns the secrets that are valid then, and the time for which these stay the same.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fanfare_core::audit::webhook::secret_rotated;
use fanfare_core::audit::{Author, fingerprint};
use fanfare_core::ids::WebhookId;
use fanfare_core::webhook::{Headers, Secret, Webhook};
use serde::{Deserialize, Serialize};

use super::{inconsistent, owner};
use crate::audit;
use crate::error::StoreError;
use crate::keyring::Keyring;
use crate::pool::Store;
use crate::rows::Columns as _;

/// The most secrets that sign at a time. One more replaces the oldest.
const MOST: usize = 5;

/// The sealed part of a webhook: the secrets that sign for it, and the headers that authenticate it
/// at its receiver.
#[derive(Serialize, Deserialize)]
pub(super) struct Confidential {
    secrets: Vec<Valid>,
    headers: Vec<(String, String)>,
}

/// A secret, and the time until which it signs together with a newer one; `None` for the newest.
#[derive(Clone, Serialize, Deserialize)]
struct Valid {
    secret: String,
    until: Option<DateTime<Utc>>,
}

impl Confidential {
    pub(super) fn open(
        keyring: &Keyring,
        sealed: &[u8],
        webhook: WebhookId,
    ) -> Result<Self, StoreError> {
        let plain = keyring.open(sealed, webhook.0.as_bytes())?;
        serde_json::from_slice(&plain).map_err(|_| inconsistent("sealed"))
    }

    pub(super) fn seal(
        &self,
        keyring: &Keyring,
        webhook: WebhookId,
    ) -> Result<Vec<u8>, StoreError> {
        let plain = serde_json::to_vec(self).map_err(|_| inconsistent("sealed"))?;
        keyring.seal(&plain, webhook.0.as_bytes())
    }

    /// The secrets that are valid at `now`, the newest first.
    pub(super) fn secrets(&self, now: DateTime<Utc>) -> Result<Vec<Secret>, StoreError> {
        let valid = self.valid(now).map(|valid| valid.secret.parse());
        valid.collect::<Result<_, _>>().map_err(|_| inconsistent("sealed"))
    }

    /// The time from `now` on for which the same secrets are valid; `None` when none of them ends.
    pub(super) fn holds(&self, now: DateTime<Utc>) -> Option<Duration> {
        self.next_end(now).map(|end| (end - now).to_std().unwrap_or_default())
    }

    /// When the next of the secrets that are valid at `now` ends; `None` when none of them does.
    pub(super) fn next_end(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.valid(now).filter_map(|valid| valid.until).min()
    }

    pub(super) fn headers(self) -> Result<Headers, StoreError> {
        Headers::parse(self.headers).map_err(|_| inconsistent("sealed"))
    }

    /// The fingerprints of the secrets that are valid at `now`, the newest first.
    fn fingerprints(&self, webhook: WebhookId, now: DateTime<Utc>) -> Vec<String> {
        self.valid(now).map(|valid| fingerprint(webhook, &valid.secret)).collect()
    }

    fn valid(&self, now: DateTime<Utc>) -> impl Iterator<Item = &Valid> {
        self.secrets.iter().filter(move |valid| valid.until.is_none_or(|until| until > now))
    }
}

/// A webhook's secrets and headers, to be sealed. Secrets that it had `before` keep their end.
pub(super) fn to_seal(webhook: &Webhook, before: Option<&Confidential>) -> Confidential {
    let valid = |secret: &Secret| {
        let known = before.and_then(|it| it.secrets.iter().find(|it| secret.is(&it.secret)));
        known.cloned().unwrap_or_else(|| Valid { secret: secret.reveal().to_owned(), until: None })
    };
    Confidential {
        secrets: webhook.secrets.iter().map(valid).collect(),
        headers: webhook.headers.as_slice().to_vec(),
    }
}

impl Store {
    /// Gives a webhook a new secret. The old one signs together with it for `overlap`, by the
    /// database's clock. Returns the end of that time, or `None` when there is no such webhook. A
    /// secret that the webhook has already only becomes the newest.
    pub async fn webhook_rotate(
        &self,
        id: WebhookId,
        secret: &Secret,
        overlap: Duration,
        author: &Author,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        const READ: &str = "-- webhook_rotate
            select owner, sealed, clock_timestamp() as now from webhooks
            where id = $1 and deleted_at is null for update";
        const WRITE: &str = "-- webhook_rotate
            update webhooks set sealed = $2, secret_ends_at = $3, updated_at = now()
            where id = $1";
        let mut client = self.connection("replace the webhook's secret").await?;
        let transaction = client.transaction().await?;
        let row = transaction.query_opt(READ, &[&id.0]).await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let now: DateTime<Utc> = row.column("now")?;
        let mut confidential = Confidential::open(&self.keyring, row.column("sealed")?, id)?;
        let until = now + TimeDelta::from_std(overlap).unwrap_or(TimeDelta::MAX);
        let before = confidential.fingerprints(id, now);
        confidential.rotate(secret, now, until);
        let after = confidential.fingerprints(id, now);
        let sealed = confidential.seal(&self.keyring, id)?;
        transaction.execute(WRITE, &[&id.0, &sealed, &confidential.next_end(now)]).await?;
        let entry = secret_rotated(id, &owner(&row)?, (&before, &after), until);
        audit::add(&transaction, author, &[entry]).await?;
        transaction.commit().await?;
        Ok(Some(until))
    }
}

impl Confidential {
    fn rotate(&mut self, secret: &Secret, now: DateTime<Utc>, until: DateTime<Utc>) {
        let newest = Valid { secret: secret.reveal().to_owned(), until: None };
        // A secret that has an end already keeps it if it is earlier.
        let older = self.valid(now).filter(|valid| !secret.is(&valid.secret));
        let ending = |valid: &Valid| Valid {
            until: Some(valid.until.map_or(until, |end| end.min(until))),
            secret: valid.secret.clone(),
        };
        let older: Vec<Valid> = older.map(ending).filter(|_| until > now).collect();
        self.secrets = std::iter::once(newest).chain(older).take(MOST).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(letter: &str) -> Secret {
        letter.repeat(32).parse().unwrap()
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn letters(confidential: &Confidential, now: DateTime<Utc>) -> String {
        let secrets = confidential.secrets(now).unwrap();
        secrets.iter().map(|secret| secret.reveal().get(..1).unwrap()).collect()
    }

    #[test]
    fn secret_when_replaced_is_valid_until_its_end() {
        let first = Valid { secret: "a".repeat(32), until: None };
        let mut webhook = Confidential { secrets: vec![first], headers: Vec::new() };
        assert_eq!(webhook.holds(at(0)), None);
        webhook.rotate(&secret("b"), at(0), at(100));
        webhook.rotate(&secret("c"), at(10), at(50));
        assert_eq!(letters(&webhook, at(49)), "cba");
        assert_eq!(webhook.holds(at(49)), Some(Duration::from_secs(1)));
        assert_eq!(letters(&webhook, at(50)), "c");
        assert_eq!(webhook.holds(at(50)), None);
    }

    #[test]
    fn rotation_without_overlap_leaves_only_the_new_secret() {
        let first = Valid { secret: "a".repeat(32), until: None };
        let mut webhook = Confidential { secrets: vec![first], headers: Vec::new() };
        webhook.rotate(&secret("b"), at(0), at(0));
        assert_eq!(letters(&webhook, at(0)), "b");
    }

    #[test]
    fn rotation_to_an_old_secret_makes_it_the_newest() {
        let first = Valid { secret: "a".repeat(32), until: None };
        let mut webhook = Confidential { secrets: vec![first], headers: Vec::new() };
        webhook.rotate(&secret("b"), at(0), at(100));
        webhook.rotate(&secret("a"), at(1), at(100));
        assert_eq!(letters(&webhook, at(2)), "ab");
    }
}
