//! Why nobody is signed in by the identity provider.

use fanfare_core::chain::chain;
use fanfare_core::name::Name;
use fanfare_store::StoreError;

use super::error::PageError;
use crate::oidc::admission::NotAdmitted;
use crate::oidc::claims::UserClaimError;
use crate::oidc::exchange::ExchangeError;

/// Why somebody who came back, or wanted to go, is not signed in.
#[derive(Debug)]
pub(super) enum ProviderError {
    /// It did not begin in this browser, or too long ago, or was ended before.
    NotOurs,
    /// The user, or the provider for the user, did not want to.
    Cancelled,
    /// The provider does not answer.
    Away,
    /// The provider refuses us, or what it says is not to be believed; the log says more.
    Refused,
    /// It does not say who the user is.
    UserClaim(UserClaimError),
    /// The directory has no such user.
    Unknown(Name),
    /// The user is disabled there.
    Disabled(Name),
    /// Something of ours failed.
    Page(PageError),
}

impl From<NotAdmitted> for ProviderError {
    fn from(refused: NotAdmitted) -> Self {
        match refused {
            NotAdmitted::Unknown(name) => Self::Unknown(name),
            NotAdmitted::Disabled(name) => Self::Disabled(name),
        }
    }
}

impl From<StoreError> for ProviderError {
    fn from(error: StoreError) -> Self {
        Self::Page(error.into())
    }
}

impl From<ExchangeError> for ProviderError {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Code => Self::NotOurs,
            ExchangeError::Away => Self::Away,
            ExchangeError::Request(_) => {
                tracing::warn!(error = chain(&error), "failed to sign a user in");
                Self::Away
            }
            ExchangeError::UserClaim(nameless) => {
                tracing::warn!(error = chain(&error), "failed to sign a user in");
                Self::UserClaim(nameless)
            }
            ExchangeError::Refused { .. } | ExchangeError::Answer(_) | ExchangeError::Token(_) => {
                tracing::warn!(error = chain(&error), "failed to sign a user in");
                Self::Refused
            }
        }
    }
}
