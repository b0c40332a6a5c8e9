//! The errors of signing in by the identity provider.

use fanfare_core::chain::chain;
use fanfare_core::name::Name;
use fanfare_store::StoreError;

use super::error::PageError;
use crate::oidc::admission::NotAdmitted;
use crate::oidc::claims::UserClaimError;
use crate::oidc::exchange::ExchangeError;

/// Why a person could not sign in by the identity provider.
#[derive(Debug)]
pub(super) enum ProviderError {
    /// The sign-in began in another browser or too long ago, or it has already ended.
    NotOurs,
    /// The user or the provider cancelled the sign-in.
    Cancelled,
    /// The provider can't be reached.
    Unavailable,
    /// The provider refuses the console, or its answer is not valid. The log has the cause.
    Refused,
    /// The provider does not name the user.
    UserClaim(UserClaimError),
    /// The directory does not have the user.
    Unknown(Name),
    /// The user is disabled in the directory.
    Disabled(Name),
    /// The console failed to answer.
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
            ExchangeError::Unavailable => Self::Unavailable,
            ExchangeError::Request(_) => {
                tracing::warn!(error = chain(&error), "failed to sign a user in");
                Self::Unavailable
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
