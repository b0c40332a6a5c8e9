//! A cache of the provider's metadata and keys. They are fetched on first use, and again from time
//! to time.
//!
//! A token with an unknown key causes a fetch at once, because providers rotate their keys. Any
//! client can send such a token, so these fetches are rate-limited. While the provider can't be
//! reached, the cached metadata and keys stay in use for a day.

use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use fanfare_core::chain::chain;
use fanfare_outbound::BuildError;
use fanfare_outbound::trusted::{Client, RequestError};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use thiserror::Error;
use tokio::sync::{Mutex, MutexGuard};
use url::Url;

use super::Config;
use super::claims::Claims;
use super::keys::KeySet;
use super::metadata::{self, Metadata, MetadataError};
use super::token_summary::TokenSummary;
use super::tokens::{ALGORITHMS, AccessToken, BadToken, IdToken};

/// The age after which metadata and keys are fetched again. A key that the provider has withdrawn
/// is accepted for at most this long.
const REFETCH_AFTER: Duration = Duration::from_mins(10);
/// The age up to which metadata and keys are used while the provider can't be reached.
const MAX_STALENESS: Duration = Duration::from_hours(24);
/// The pause after a failed fetch: without cached data, and with it.
const PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(30)];
/// The rate limit for fetching the key set because a token names an unknown key: five at once, then
/// one every 30 s.
const UNKNOWN_KEY_FETCHES: Quota =
    Quota::per_minute(NonZeroU32::new(2).unwrap()).allow_burst(NonZeroU32::new(5).unwrap());
/// The rate limit for log messages about refused tokens: 20 at once, then one every 10 s.
const REFUSALS_LOGGED: Quota =
    Quota::per_minute(NonZeroU32::new(6).unwrap()).allow_burst(NonZeroU32::new(20).unwrap());

/// The identity provider that people sign in with.
pub struct Provider {
    pub(crate) config: Config,
    pub(super) http: Client,
    known: RwLock<Option<Known>>,
    fetching: Mutex<Fetching>,
    key_fetches: DefaultDirectRateLimiter,
    refusals_logged: DefaultDirectRateLimiter,
}

/// The metadata and the keys of a provider.
pub(crate) struct ProviderInfo {
    pub(crate) metadata: Metadata,
    keys: KeySet,
}

#[derive(Clone)]
struct Known {
    info: Arc<ProviderInfo>,
    since: Instant,
}

#[derive(Default)]
struct Fetching {
    failed_at: Option<Instant>,
}

/// The provider can't be reached at present; the log has the cause.
#[derive(Debug, Clone, Copy, Error)]
#[error("the identity provider can't be reached")]
pub(crate) struct ProviderUnavailable;

/// Why a token was not accepted.
#[derive(Debug)]
pub(crate) enum TokenError {
    /// The token is not valid.
    Bad(BadToken),
    /// The provider can't be reached, so the token can't be checked.
    Unavailable,
}

impl From<ProviderUnavailable> for TokenError {
    fn from(ProviderUnavailable: ProviderUnavailable) -> Self {
        Self::Unavailable
    }
}

#[derive(Debug, Error)]
enum FetchError {
    #[error("FANFARE_OIDC_ISSUER is not a valid address")]
    Issuer,
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("{url} answered {status}")]
    Status { url: Url, status: u16 },
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error("the answer of {0} is not a key set")]
    Keys(Url),
}

impl Provider {
    /// Prepares the client without sending a request.
    pub fn new(config: Config) -> Result<Self, BuildError> {
        let http = Client::new(&config.user_agent)?;
        let (known, fetching) = (RwLock::default(), Mutex::default());
        let key_fetches = RateLimiter::direct(UNKNOWN_KEY_FETCHES);
        let refusals_logged = RateLimiter::direct(REFUSALS_LOGGED);
        Ok(Self { config, http, known, fetching, key_fetches, refusals_logged })
    }

    /// Returns the provider's metadata and keys, at most [`REFETCH_AFTER`] old, or
    /// [`MAX_STALENESS`] while the provider can't be reached.
    pub(crate) async fn info(&self) -> Result<Arc<ProviderInfo>, ProviderUnavailable> {
        let known = self.known();
        let age = known.as_ref().map(|known| known.since.elapsed());
        match known {
            Some(known) if age.is_some_and(|age| age < REFETCH_AFTER) => Ok(known.info),
            Some(known) if age.is_some_and(|age| age < MAX_STALENESS) => {
                // One task fetches; the others continue with the cached data.
                let Ok(fetching) = self.fetching.try_lock() else { return Ok(known.info) };
                Ok(self.fetch(fetching, true).await.unwrap_or(known.info))
            }
            _ => {
                let fetching = self.fetching.lock().await;
                let meanwhile = self.known().filter(|known| known.since.elapsed() < REFETCH_AFTER);
                match meanwhile {
                    Some(known) => Ok(known.info),
                    None => self.fetch(fetching, false).await,
                }
            }
        }
    }

    /// Checks an ID token.
    pub(crate) async fn id_token(
        &self,
        token: &str,
        nonce: &str,
        now: DateTime<Utc>,
    ) -> Result<Claims, TokenError> {
        let Config { issuer, client_id, .. } = &self.config;
        let expected = IdToken { issuer, client_id, nonce, now };
        let checked = self.check(|keys| expected.check(token, keys)).await;
        checked.inspect_err(|refused| self.log_refusal(refused, token, client_id))
    }

    /// Checks an access token. None is valid if no audience is configured.
    pub(crate) async fn access_token(&self, token: &str) -> Result<Claims, TokenError> {
        let Some(audience) = &self.config.audience else {
            return Err(TokenError::Bad(BadToken::Audience));
        };
        let expected = AccessToken { issuer: &self.config.issuer, audience };
        let checked = self.check(|keys| expected.check(token, keys)).await;
        checked.inspect_err(|refused| self.log_refusal(refused, token, audience))
    }

    /// Logs what was expected of a token and what it says instead, because the usual cause is a
    /// wrong setting here or at the provider. Any client can send a token, so the messages are
    /// rate-limited.
    fn log_refusal(&self, refused: &TokenError, token: &str, audience: &str) {
        let TokenError::Bad(bad) = refused else { return };
        if self.refusals_logged.check().is_err() {
            tracing::debug!(error = %bad, "refused another token of the identity provider");
            return;
        }
        let found = TokenSummary::of(token);
        tracing::warn!(
            error = %bad,
            expected.iss = self.config.issuer,
            found.iss = %found.issuer,
            expected.aud = audience,
            found.aud = %found.audience,
            expected.alg = ?ALGORITHMS,
            found.alg = %found.algorithm,
            "refused a token of the identity provider"
        );
    }

    async fn check(
        &self,
        check: impl Fn(&KeySet) -> Result<Claims, BadToken>,
    ) -> Result<Claims, TokenError> {
        let info = self.info().await?;
        let mut checked = check(&info.keys);
        if checked == Err(BadToken::UnknownKey)
            && let Some(newer) = self.newer(&info).await
        {
            checked = check(&newer.keys);
        }
        checked.map_err(TokenError::Bad)
    }

    /// Returns newer metadata and keys than `than`, if there are any or a fetch is allowed.
    async fn newer(&self, than: &Arc<ProviderInfo>) -> Option<Arc<ProviderInfo>> {
        let fetching = self.fetching.lock().await;
        // Another task may have fetched while this one waited.
        if let Some(known) = self.known().filter(|known| !Arc::ptr_eq(&known.info, than)) {
            return Some(known.info);
        }
        self.key_fetches.check().ok()?;
        self.fetch(fetching, true).await.ok()
    }

    fn known(&self) -> Option<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn fetch(
        &self,
        mut fetching: MutexGuard<'_, Fetching>,
        has_other: bool,
    ) -> Result<Arc<ProviderInfo>, ProviderUnavailable> {
        let pause = PAUSES[usize::from(has_other)];
        if fetching.failed_at.is_some_and(|failed_at| failed_at.elapsed() < pause) {
            return Err(ProviderUnavailable);
        }
        match self.ask().await {
            Ok(info) => {
                if fetching.failed_at.take().is_some() {
                    tracing::info!("the identity provider can be reached again");
                }
                let info = Arc::new(info);
                let known = Known { info: Arc::clone(&info), since: Instant::now() };
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
                Ok(info)
            }
            Err(error) => {
                let error = chain(&error);
                if fetching.failed_at.replace(Instant::now()).is_none() {
                    tracing::warn!(error, "the identity provider can't be used");
                } else {
                    tracing::debug!(error, "the identity provider still can't be used");
                }
                Err(ProviderUnavailable)
            }
        }
    }

    async fn ask(&self) -> Result<ProviderInfo, FetchError> {
        let issuer = &self.config.issuer;
        let location = metadata::location(issuer).ok_or(FetchError::Issuer)?;
        let metadata = Metadata::parse(&self.document(&location).await?, issuer)?;
        let keys = KeySet::parse(&self.document(&metadata.keys).await?)
            .ok_or_else(|| FetchError::Keys(metadata.keys.clone()))?;
        Ok(ProviderInfo { metadata, keys })
    }

    async fn document(&self, url: &Url) -> Result<Vec<u8>, FetchError> {
        let answer = self.http.get(url, None).await?;
        match answer.status {
            200 => Ok(answer.body),
            status => Err(FetchError::Status { url: url.clone(), status }),
        }
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn a_flood_of_unknown_keys_causes_one_fetch_every_30_seconds() {
        let clock = FakeRelativeClock::default();
        let limit = RateLimiter::direct_with_clock(UNKNOWN_KEY_FETCHES, clock.clone());
        let mut fetches = Vec::new();
        // Ten forged tokens a second for ten minutes.
        for n in 0..6000 {
            if limit.check().is_ok() {
                fetches.push(Duration::from_millis(100) * n);
            }
            clock.advance(Duration::from_millis(100));
        }
        let longest = fetches.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap();
        assert!(longest <= Duration::from_secs(31), "{longest:?}");
        // The provider is asked no more often than that.
        assert!(fetches.len() <= 5 + 20, "{}", fetches.len());
    }
}
