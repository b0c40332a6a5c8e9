//! Authentication: names and passwords become access tokens, and access tokens identify callers.

pub(crate) mod bearer;
pub(crate) mod caller;
pub(crate) mod cookie;
pub(crate) mod forgery;
pub(crate) mod passwords;
pub(crate) mod throttle;
pub(crate) mod token;
pub(crate) mod via;
