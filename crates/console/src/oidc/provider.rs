//! The provider as we know it: its metadata and keys, fetched when they are wanted first and again
//! now and then.
//!
//! A token that names a key that is not known has them fetched at once, since providers change their
//! keys; anybody can send such a token, so that this is limited. While the provider is away what is
//! known of it goes on to hold, for a day.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use fanfare_core::chain::chain;
use fanfare_outbound::BuildError;
use fanfare_outbound::trusted::{Client, RequestError};
use thiserror::Error;
use tokio::sync::{Mutex, MutexGuard};
use url::Url;

use super::Config;
use super::claims::Claims;
use super::keys::KeySet;
use super::metadata::{self, Metadata, MetadataError};
use super::token_summary::TokenSummary;
use super::tokens::{ALGORITHMS, AccessToken, BadToken, IdToken};
use crate::auth::throttle::{Limit, Spent};

/// How long what was fetched is used without asking: how long a key that the provider has withdrawn
/// may still be believed.
const REFETCH_AFTER: Duration = Duration::from_mins(10);
/// How long it is used while the provider can't be asked.
const MAX_STALENESS: Duration = Duration::from_hours(24);
/// How soon the provider is asked again after it did not answer, without anything to use meanwhile,
/// and with.
const PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(30)];
/// How often keys are looked for that nobody knows.
const UNKNOWN_KEY_FETCHES: Limit = Limit { burst: 5, every: Duration::from_secs(30) };
/// How often the log says why a token was refused.
const REFUSALS_LOGGED: Limit = Limit { burst: 20, every: Duration::from_secs(10) };

/// The provider that people sign in with.
pub struct Provider {
    pub(crate) config: Config,
    pub(super) http: Client,
    known: RwLock<Option<Known>>,
    fetching: Mutex<Fetching>,
    refusals_logged: std::sync::Mutex<Spent>,
}

/// What a provider says.
pub(crate) struct Described {
    pub(crate) metadata: Metadata,
    keys: KeySet,
}

#[derive(Clone)]
struct Known {
    described: Arc<Described>,
    since: Instant,
}

#[derive(Default)]
struct Fetching {
    failed_at: Option<Instant>,
    key_fetches: Spent,
}

/// The provider can't be asked for now; the log has why.
#[derive(Debug, Clone, Copy, Error)]
#[error("the identity provider is away")]
pub(crate) struct ProviderUnavailable;

/// Why a token was not taken.
#[derive(Debug)]
pub(crate) enum TokenError {
    /// It is not to be believed.
    Bad(BadToken),
    /// That can't be said for now.
    Away,
}

impl From<ProviderUnavailable> for TokenError {
    fn from(ProviderUnavailable: ProviderUnavailable) -> Self {
        Self::Away
    }
}

#[derive(Debug, Error)]
enum FetchError {
    #[error("FANFARE_OIDC_ISSUER is no address")]
    Issuer,
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("{url} answered {status}")]
    Status { url: Url, status: u16 },
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error("{0} answered no key set")]
    Keys(Url),
}

impl Provider {
    /// Prepares for talking to it; nothing is asked yet.
    pub fn new(config: Config) -> Result<Self, BuildError> {
        let http = Client::new(&config.user_agent)?;
        let (known, fetching) = (RwLock::default(), Mutex::default());
        Ok(Self { config, http, known, fetching, refusals_logged: std::sync::Mutex::default() })
    }

    /// What the provider says of itself, as it was a short while ago.
    pub(crate) async fn described(&self) -> Result<Arc<Described>, ProviderUnavailable> {
        let known = self.known();
        let age = known.as_ref().map(|known| known.since.elapsed());
        match known {
            Some(known) if age.is_some_and(|age| age < REFETCH_AFTER) => Ok(known.described),
            Some(known) if age.is_some_and(|age| age < MAX_STALENESS) => {
                // One asks; the others go on with what they have.
                let Ok(fetching) = self.fetching.try_lock() else { return Ok(known.described) };
                Ok(self.fetch(fetching, true).await.unwrap_or(known.described))
            }
            _ => {
                let fetching = self.fetching.lock().await;
                let meanwhile = self.known().filter(|known| known.since.elapsed() < REFETCH_AFTER);
                match meanwhile {
                    Some(known) => Ok(known.described),
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

    /// Checks an access token; none is good where none is taken.
    pub(crate) async fn access_token(&self, token: &str) -> Result<Claims, TokenError> {
        let Some(audience) = &self.config.audience else {
            return Err(TokenError::Bad(BadToken::Audience));
        };
        let expected = AccessToken { issuer: &self.config.issuer, audience };
        let checked = self.check(|keys| expected.check(token, keys)).await;
        checked.inspect_err(|refused| self.log_refusal(refused, token, audience))
    }

    /// Says what was expected of a token and what it says instead: mostly it is a setting, here or
    /// there, that is wrong. Anybody can send a token, so that the log is protected.
    fn log_refusal(&self, refused: &TokenError, token: &str, audience: &str) {
        let TokenError::Bad(bad) = refused else { return };
        let mut logged = self.refusals_logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.take(REFUSALS_LOGGED, Instant::now()).is_err() {
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
        let described = self.described().await?;
        let mut checked = check(&described.keys);
        if checked == Err(BadToken::UnknownKey)
            && let Some(newer) = self.newer(&described).await
        {
            checked = check(&newer.keys);
        }
        checked.map_err(TokenError::Bad)
    }

    /// What the provider says by now, when that is newer and may be asked.
    async fn newer(&self, than: &Arc<Described>) -> Option<Arc<Described>> {
        let mut fetching = self.fetching.lock().await;
        // Somebody else may have asked while this one waited.
        if let Some(known) = self.known().filter(|known| !Arc::ptr_eq(&known.described, than)) {
            return Some(known.described);
        }
        fetching.key_fetches.take(UNKNOWN_KEY_FETCHES, Instant::now()).ok()?;
        self.fetch(fetching, true).await.ok()
    }

    fn known(&self) -> Option<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn fetch(
        &self,
        mut fetching: MutexGuard<'_, Fetching>,
        has_other: bool,
    ) -> Result<Arc<Described>, ProviderUnavailable> {
        let pause = PAUSES[usize::from(has_other)];
        if fetching.failed_at.is_some_and(|failed_at| failed_at.elapsed() < pause) {
            return Err(ProviderUnavailable);
        }
        match self.ask().await {
            Ok(described) => {
                if fetching.failed_at.take().is_some() {
                    tracing::info!("the identity provider answers again");
                }
                let described = Arc::new(described);
                let known = Known { described: Arc::clone(&described), since: Instant::now() };
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
                Ok(described)
            }
            Err(error) => {
                let error = chain(&error);
                if fetching.failed_at.replace(Instant::now()).is_none() {
                    tracing::warn!(error, "the identity provider can't be used for now");
                } else {
                    tracing::debug!(error, "the identity provider still can't be used");
                }
                Err(ProviderUnavailable)
            }
        }
    }

    async fn ask(&self) -> Result<Described, FetchError> {
        let issuer = &self.config.issuer;
        let location = metadata::location(issuer).ok_or(FetchError::Issuer)?;
        let metadata = Metadata::parse(&self.document(&location).await?, issuer)?;
        let keys = KeySet::parse(&self.document(&metadata.keys).await?)
            .ok_or_else(|| FetchError::Keys(metadata.keys.clone()))?;
        Ok(Described { metadata, keys })
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
    use super::*;

    #[test]
    fn a_flood_of_unknown_keys_leaves_a_look_for_new_ones_every_30_seconds() {
        let (mut looked, begin) = (Spent::default(), Instant::now());
        let mut looks = Vec::new();
        // Ten made-up tokens a second for ten minutes.
        for n in 0..6000 {
            let now = begin + Duration::from_millis(100) * n;
            if looked.take(UNKNOWN_KEY_FETCHES, now).is_ok() {
                looks.push(now);
            }
        }
        let longest = looks.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(longest <= Duration::from_secs(31), "{longest:?}");
        // And asks the provider no more often than that.
        assert!(looks.len() <= 5 + 20, "{}", looks.len());
    }
}
