//! Paths that more than one part of the console knows.

/// The drop-in API's webhooks.
pub(crate) const REGISTRATIONS: &str = "/api/webhooks/registrations";
