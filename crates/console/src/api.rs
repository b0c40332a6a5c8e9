//! The API's handlers: from a request to a call, and from what came of it to an answer.

pub(crate) mod body;
pub(crate) mod filters;
pub(crate) mod json;
pub(crate) mod problem;
pub(crate) mod registrations;
pub(crate) mod token;
mod webhook_request;

pub(crate) use fanfare_app::json::webhook as view;
