//! The use cases: everything that a person can do with Fanfare.
//!
//! Each use case is one function of a [`Context`], an [`Actor`] and an input. It checks permissions
//! and preconditions, does the work, and returns a typed result or a typed error. The console's
//! API, its pages and the commands only read the input and write the answer.
//!
//! [`json`] has the JSON forms of the results, and [`clock`] formats times.

pub mod accounts;
mod actor;
pub mod audit;
pub mod clock;
pub mod dead_letters;
pub mod deliveries;
pub mod directory;
pub mod erasure;
pub mod events;
pub mod json;
pub mod notices;
pub mod operations;
pub mod overview;
pub mod publisher;
pub mod publishers;
pub mod publishing;
mod receiving;
pub mod request_preview;
pub mod resends;
pub mod shadow;
pub mod storage;
pub mod test_events;
pub mod webhooks;

use fanfare_core::mail_address::MailDomains;
use fanfare_core::mask::MaskPolicy;
use fanfare_store::Store;

pub use actor::{Actor, NotAdministrator};
pub use publisher::Publisher;
pub use receiving::NotReceiving;

/// The connections and limits that use cases share.
pub struct Context {
    pub store: Store,
    pub publisher: Publisher,
    /// The values of events that are masked, as routers mask them.
    pub mask: MaskPolicy,
    /// The domains to which owners may have notices mailed.
    mail_domains: MailDomains,
    /// The maximum number of webhooks of one owner.
    webhooks_per_owner: u32,
    test_events: test_events::Limiter,
}

impl Context {
    /// Makes a context without connecting. An owner may have at most `webhooks_per_owner` webhooks.
    #[must_use]
    pub fn new(store: Store, publisher: Publisher, webhooks_per_owner: u32) -> Self {
        Self {
            store,
            publisher,
            mask: MaskPolicy::default(),
            mail_domains: MailDomains::default(),
            webhooks_per_owner,
            test_events: test_events::Limiter::new(),
        }
    }

    /// The same context with the installation's policy of masking.
    #[must_use]
    pub fn with_mask(self, mask: MaskPolicy) -> Self {
        Self { mask, ..self }
    }

    /// The same context with the domains to which owners may have notices mailed.
    #[must_use]
    pub fn with_mail_domains(self, mail_domains: MailDomains) -> Self {
        Self { mail_domains, ..self }
    }

    /// The domains to which owners may have notices mailed.
    #[must_use]
    pub fn mail_domains(&self) -> &MailDomains {
        &self.mail_domains
    }
}
