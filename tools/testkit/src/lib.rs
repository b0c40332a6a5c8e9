//! Real servers and breakable networks for Fanfare's tests, its demo, and its benchmarks.
//!
//! Nothing here imitates PostgreSQL or RabbitMQ: the installed programs run, privately, on loopback.
//!
//! - [`sandbox::Sandbox`] is what most tests want: a database, empty or migrated, and an empty
//!   virtual host of their own, on servers that one run of the tests shares ([`shared`]).
//! - [`servers::Servers`] are servers that belong to one test, to be stopped, killed, and wiped.
//! - [`Installation`] is Fanfare on such servers: its settings, accounts, commands and processes.
//! - [`cluster::Cluster`] makes three RabbitMQ nodes of the servers' one.
//! - [`roles`] are the accounts with which Fanfare's processes run in a real installation.
//! - [`proxy::Proxy`] stands between a program and a server and breaks the connection on demand.
//! - [`pgproxy::PgProxy`] stands before PostgreSQL and breaks chosen statements.
//! - [`pooler::Pooler`] is a `PgBouncer` before the servers' database, and [`servers::Standby`] a
//!   PostgreSQL that follows it.
//! - [`receiver::Receiver`] takes webhooks' POSTs and answers them as a test wants.
//! - [`build`] makes the binary, and [`previous`] that of the commit before; [`process::Process`] runs one and reads what it says;
//!   [`service::Service`] is one whose output goes to a file.
//! - [`prometheus::Prometheus`] scrapes processes and evaluates rules.
//! - [`faketime`] gives a process a clock that is wrong.
//! - [`small_disk`] puts a database on a disk that can be full.
//! - [`chromium::ChromeDriver`] drives a real browser.
//! - [`nginx`] stands before the console as in a real installation.
//! - [`wait::eventually`] waits for a state, instead of for a time.
//!
//! The servers end with their owner, however the owner ends: see `keeper.sh`.

#[cfg(feature = "amqp")]
pub mod amqp;
#[cfg(feature = "amqp")]
pub mod amqp_raw;
pub mod build;
pub mod chromium;
pub mod cluster;
pub mod faketime;
pub mod installation;
pub mod nginx;
pub mod pgproxy;
pub mod pooler;
pub mod previous;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod receiver;
#[cfg(feature = "report-server")]
pub mod report_server;
pub mod roles;
pub mod sandbox;
pub mod servers;
pub mod service;
pub mod shared;
pub mod small_disk;
pub mod wait;

mod broker_faults;
mod daemon;
mod database_faults;
mod endpoints;
mod http;
mod keeper;
mod mutex;
pub mod ports;
mod postgres;
mod programs;
mod rabbitmq;
mod template;
mod tree;

pub use broker_faults::Shortage;
pub use endpoints::{Break, Endpoints};
pub use installation::Installation;
pub use programs::postgres_client;
