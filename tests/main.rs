//! Fanfare from end to end: separate processes, a real broker, a real database, real receivers.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod access;
mod alerts;
mod api;
mod api_v1;
mod broken_queues;
mod browser;
mod caches;
mod chart;
mod clocks;
mod conformance;
mod console;
mod crashes;
mod decisions;
mod delivery_queues;
mod examples;
mod explain;
mod fail_closed;
mod hostile;
mod isolation;
mod lost_answers;
mod malformed;
mod masking;
mod metrics;
mod names;
mod nginx;
mod openid;
mod outages;
mod outcomes;
mod pauses;
mod poison;
mod python_env;
mod races;
mod recovery;
mod restore;
mod rights;
mod rotate_keys;
mod schemathesis;
mod standby;
mod targets;
mod tls;
mod tracing;
mod world;
