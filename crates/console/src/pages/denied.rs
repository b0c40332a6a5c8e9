//! Why nobody is signed in by the identity provider.

use fanfare_core::chain::chain;
use fanfare_core::name::Name;
use fanfare_store::StoreError;

use super::error::Failed;
use crate::oidc::admission::NotAdmitted;
use crate::oidc::claims::Nameless;
use crate::oidc::exchange::ExchangeError;

/// Why somebody who came back, or wanted to go, is not signed in.
#[derive(Debug)]
pub(super) enum Denied {
    /// It did not begin in this browser, or too long ago, or was ended before.
    NotOurs,
    /// The user, or the provider for the user, did not want to.
    Cancelled,
    /// The provider does not answer.
    Away,
    /// The provider refuses us, or what it says is not to be believed; the log says more.
    Refused,
    /// It does not say who the user is.
    Nameless(Nameless),
    /// The directory has no such user.
    Unknown(Name),
    /// The user is disabled there.
    Disabled(Name),
    /// Something of ours failed.
    Failed(Failed),
}

impl From<NotAdmitted> for Denied {
    fn from(refused: NotAdmitted) -> Self {
        match refused {
            NotAdmitted::Unknown(name) => Self::Unknown(name),
            NotAdmitted::Disabled(name) => Self::Disabled(name),
        }
    }
}

impl From<StoreError> for Denied {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<ExchangeError> for Denied {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Code => Self::NotOurs,
            ExchangeError::Away => Self::Away,
            ExchangeError::Request(_) => {
                tracing::warn!(error = chain(&error), "failed to sign a user in");
                Self::Away
            }
            ExchangeError::Nameless(nameless) => {
                tracing::warn!(error = chain(&error), "failed to sign a user in");
                Self::Nameless(nameless)
            }
            ExchangeError::Refused { .. } | ExchangeError::Answer(_) | ExchangeError::Token(_) => {
                tracing::warn!(error = chain(&error), "failed to sign a user in");
                Self::Refused
            }
        }
    }
}
