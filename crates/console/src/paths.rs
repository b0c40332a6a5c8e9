//! Paths that more than one module uses.

/// The drop-in API's webhooks.
pub(crate) const REGISTRATIONS: &str = "/api/webhooks/registrations";
