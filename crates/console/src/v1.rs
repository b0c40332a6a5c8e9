//! `/api/v1`: deliveries, events, dead letters, statistics, the audit trail, and maintenance of
//! webhooks.
//!
//! The handlers are in [`deliveries`], [`webhooks`], [`resends`], [`events`], [`dead_letters`],
//! [`statistics`], [`operations`], [`notices`] and [`audit`]. [`request`] reads requests, [`list`] makes pages of lists, [`problem`] has all
//! failures, and `fanfare_app::json` has the JSON forms. Each handler of both APIs has its
//! description as an attribute; [`openapi`] completes the description, and [`docs`] renders it for
//! people.

pub(crate) mod audit;
pub(crate) mod dead_letters;
pub(crate) mod deliveries;
pub(crate) mod docs;
pub(crate) mod events;
pub(crate) mod limits;
pub(crate) mod list;
pub(crate) mod mend;
pub(crate) mod notice_settings;
pub(crate) mod notices;
pub(crate) mod openapi;
pub(crate) mod operations;
pub(crate) mod problem;
pub(crate) mod request;
pub(crate) mod resends;
pub(crate) mod statistics;
pub(crate) mod storage;
pub(crate) mod webhooks;

/// The prefix of all its paths.
pub(crate) const BASE: &str = "/api/v1";
/// The description for programs.
pub(crate) const OPENAPI: &str = "/api/openapi.json";
/// The description for people.
pub(crate) const DOCS: &str = "/api/docs";
