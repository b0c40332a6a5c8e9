//! The handlers of the drop-in API. Each reads its request, calls a use case, and writes the
//! answer.

pub(crate) mod body;
pub(crate) mod filters;
pub(crate) mod json;
pub(crate) mod problem;
pub(crate) mod registrations;
pub(crate) mod token;
mod webhook_request;

pub(crate) use fanfare_app::json::webhook as view;
