//! The pages: webhooks for people, at a browser.
//!
//! Every page is whole as the server sends it; htmx only spares reloading where something moves
//! (searching, pausing, watching deliveries). Read `visitor` first: who looks, and what a form
//! must bring so that it is taken for one of ours. Then `grid` (all webhooks), `edit` (a webhook's
//! form), `webhook` and `deliveries` (one and what it was sent), `signature` (why one is not
//! accepted), `resend` (all that failed once more). `parts` are the pieces that more than one page shows.
//!
//! The English of the pages is in the templates; what is chosen by data is in `text`.

pub(crate) mod assets;
mod components;
pub(crate) mod deletion;
pub(crate) mod deliveries;
pub(crate) mod delivery;
pub(crate) mod edit;
mod error;
mod fields;
mod form;
pub(crate) mod grid;
mod health;
mod page;
pub(crate) mod provider;
mod provider_error;
mod receivers;
pub(crate) mod resend;
pub(crate) mod row;
pub(crate) mod secret;
pub(crate) mod sign_in;
pub(crate) mod signature;
mod table;
pub(crate) mod test;
mod text;
mod verdict;
mod visitor;
pub(crate) mod webhook;

pub(crate) use error::no_route;

/// The grid of webhooks, where everything begins.
pub(crate) const WEBHOOKS: &str = "/webhooks";
/// Where people sign in.
pub(crate) const SIGN_IN: &str = "/sign-in";
/// From where they are sent to the identity provider.
pub(crate) const SIGN_IN_PROVIDER: &str = "/sign-in/provider";
