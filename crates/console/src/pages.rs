//! The pages: the console for people, in a browser.
//!
//! Every page is complete as the server sends it; htmx only avoids reloads (when searching, pausing
//! and watching deliveries). Read `visitor` first: it identifies the user, and checks that a form
//! comes from a page of the console. Then `grid` (all webhooks), `edit` (a webhook's form),
//! `webhook` and `deliveries` (one webhook and its deliveries), `signature` (why a signature does
//! not match), `resend` (retrying failed deliveries), `audit` (who did what), `notices` (what needs a
//! person) with `notice_settings` (where notices are sent). Administrators have
//! `dead_letters` (what was given up), `mend` (the correction of a dead event), `events` (with
//! `explanation`, which owners have too), `operations` (bulk work on it), `overview`, `directory`, `accounts`
//! and `storage`. `components` has the
//! pieces that several pages use.
//!
//! The texts of the pages are in the templates; those that depend on codes are in `text`.

pub(crate) mod accounts;
pub(crate) mod assets;
pub(crate) mod audit;
mod choice;
mod components;
pub(crate) mod dead_letters;
pub(crate) mod deletion;
pub(crate) mod deliveries;
pub(crate) mod delivery;
pub(crate) mod directory;
pub(crate) mod edit;
mod error;
pub(crate) mod events;
pub(crate) mod explanation;
mod fields;
mod form;
pub(crate) mod grid;
mod health;
mod history;
pub(crate) mod mend;
pub(crate) mod notice_settings;
pub(crate) mod notices;
pub(crate) mod operations;
pub(crate) mod overview;
mod page;
mod period;
pub(crate) mod provider;
mod provider_error;
mod receivers;
mod recover;
pub(crate) mod resend;
pub(crate) mod row;
pub(crate) mod secret;
pub(crate) mod sign_in;
pub(crate) mod signature;
pub(crate) mod storage;
mod table;
pub(crate) mod test;
mod text;
mod verdict;
mod visitor;
pub(crate) mod webhook;

pub(crate) use error::{PageError, is_browser, no_route};
pub(crate) use visitor::Visitor;

/// The path of the grid of webhooks, which is the start page.
pub(crate) const WEBHOOKS: &str = "/webhooks";
/// The path of the overview for administrators.
pub(crate) const OVERVIEW: &str = "/overview";
/// The path of the audit trail.
pub(crate) const AUDIT: &str = "/audit";
/// The path of the notices.
pub(crate) const NOTICES: &str = "/notices";
/// The path of a user's own channels of notices.
pub(crate) const NOTICE_SETTINGS: &str = "/notices/settings";
/// The path of the events.
pub(crate) const EVENTS: &str = "/events";
/// The path of the dead letters.
pub(crate) const DEAD_LETTERS: &str = "/dead-letters";
/// The path of the bulk operations on dead letters.
pub(crate) const OPERATIONS: &str = "/operations";
/// The path of the directory of users and roles.
pub(crate) const DIRECTORY: &str = "/directory";
/// The path of the local accounts.
pub(crate) const ACCOUNTS: &str = "/accounts";
/// The path of the sizes of what the database holds.
pub(crate) const STORAGE: &str = "/storage";
/// The path of the sign-in page.
pub(crate) const SIGN_IN: &str = "/sign-in";
/// The path that sends people to the identity provider.
pub(crate) const SIGN_IN_PROVIDER: &str = "/sign-in/provider";
