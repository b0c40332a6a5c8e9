//! `/api/v1`: deliveries, events, dead letters, statistics, and what is done to webhooks.
//!
//! Handlers by subject: [`deliveries`], [`webhooks`], [`events`], [`dead_letters`], [`statistics`].
//! [`request`] reads what a request brings, [`list`] makes pages, [`problem`] is every failure;
//! `fanfare_app::json` has the JSON forms. [`openapi`] completes the description of all of it, and of
//! the drop-in API too, that stands beside each handler; [`docs`] shows that to people.

pub(crate) mod dead_letters;
pub(crate) mod deliveries;
pub(crate) mod docs;
pub(crate) mod events;
pub(crate) mod limits;
mod list;
pub(crate) mod openapi;
pub(crate) mod problem;
mod request;
pub(crate) mod resends;
pub(crate) mod statistics;
pub(crate) mod webhooks;

/// What all its paths begin with.
pub(crate) const BASE: &str = "/api/v1";
/// The description for programs.
pub(crate) const OPENAPI: &str = "/api/openapi.json";
/// The description for people.
pub(crate) const DOCS: &str = "/api/docs";
