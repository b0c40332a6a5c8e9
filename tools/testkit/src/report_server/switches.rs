//! How the server behaves, well and badly.

use std::time::Duration;

/// Who sees whose webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Everyone their own; a query is ignored.
    Own,
    /// An administrator all of them, with their users, by `?user=all`.
    AllForAdministrators,
    /// Every user sees all webhooks, without their owners.
    AllForEveryone,
}

/// How the server behaves.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Switches {
    /// At most one sign-in each second.
    pub rate_limit: bool,
    /// The number of calls of which the last answers a page; 0: none does.
    pub html: usize,
    /// Changes are answered with a page, and not made.
    pub html_for_changes: bool,
    /// The number of calls of which the last answers 500; 0: none does.
    pub errors: usize,
    /// The number of readings in which a user is added in the middle.
    pub changes_while_read: usize,
    /// Enumerations are names.
    pub names: bool,
    /// Reports' notifications have no category.
    pub no_category: bool,
    /// Each POST is made twice.
    pub twice: bool,
    /// The number of notifications in a POST.
    pub at_once: usize,
    /// Pages of v3 that may be missing are missing.
    pub v3_in_part: bool,
    /// Who sees whose webhooks.
    pub listing: Listing,
    /// There are webhooks.
    pub has_webhooks: bool,
    /// The base URL is empty: nothing is posted.
    pub no_base_url: bool,
    /// The pauses before the second and the third try of a POST.
    pub pauses: [Duration; 2],
    /// How long a token is valid.
    pub token_life: Duration,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            rate_limit: false,
            html: 0,
            html_for_changes: false,
            errors: 0,
            changes_while_read: 0,
            names: false,
            no_category: false,
            twice: false,
            at_once: 1,
            v3_in_part: false,
            listing: Listing::Own,
            has_webhooks: true,
            no_base_url: false,
            pauses: [Duration::from_mins(1), Duration::from_mins(4)],
            token_life: Duration::from_hours(1),
        }
    }
}
