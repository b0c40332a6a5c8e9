//! The settings by section. `hide_env_values` marks a setting whose value is a secret.

#![expect(clippy::doc_markdown, reason = "the command line's help is plain text")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use fanfare_app::storage::StorageLimits;
use fanfare_core::retry::RetryPolicy;
use fanfare_core::shard::ShardCount;
use fanfare_core::target::TargetPolicy;
use fanfare_store::retention::Keep;

use super::traces::Traces;
use super::value::{self, COUNT, DURATION, Keys, by, either};

/// Servers and keys. [`Settings`](super::Settings) has the methods that return them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Servers and keys")]
pub(super) struct Servers {
    /// The PostgreSQL database. Several hosts and TLS are written as for psql
    #[arg(long, env = "FANFARE_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    #[arg(value_parser = by(value::database_url), long_help = "a PostgreSQL URL such as \
        postgres://user:password@host:5432/fanfare?sslmode=verify-full")]
    pub(super) database_url: Option<String>,
    /// The RabbitMQ broker. Commas separate several hosts; amqps is for TLS
    #[arg(long, env = "FANFARE_AMQP_URL", value_name = "URL", hide_env_values = true)]
    #[arg(value_parser = by(value::amqp_url), long_help = "a RabbitMQ URL such as \
        amqp://user:password@host:5672/vhost or amqps://…")]
    pub(super) amqp_url: Option<String>,
    /// The keys that encrypt secrets in the database. The first one encrypts new secrets. If it is
    /// not set, a key is created for this machine and kept in the state directory
    #[arg(long, env = "FANFARE_SECRET_KEYS", value_name = "KEYS", hide_env_values = true)]
    #[arg(value_parser = by(value::keys), long_help = "id:key[,id:key…] with unique ids of 1 to 32 \
        of A-Z a-z 0-9 _ - and keys of 32 bytes in base64")]
    pub(super) secret_keys: Option<Keys>,
}

/// Metrics and traces of a process.
#[derive(Debug, Args)]
#[command(next_help_heading = "Metrics and traces")]
pub(crate) struct Telemetry {
    /// The address at which this process serves /metrics, /healthz and /readyz
    #[arg(long, env = "FANFARE_METRICS_LISTEN", value_name = "ADDRESS", default_value = "off")]
    #[arg(value_parser = by(value::listen_or_off))]
    #[arg(long_help = "an address with a port, such as 127.0.0.1:9090, or off")]
    pub(crate) metrics_listen: value::OrOff<SocketAddr>,
    #[command(flatten)]
    pub(crate) traces: Traces,
}

/// The receivers that webhooks may have.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where webhooks may lead")]
pub(crate) struct Receivers {
    /// Private and loopback networks that webhooks may reach
    #[arg(long, env = "FANFARE_ALLOW_TARGETS", value_name = "NETWORKS", default_value = "")]
    #[arg(value_parser = by(|text| value::networks(text).map(TargetPolicy::new)))]
    #[arg(hide_default_value = true)]
    #[arg(long_help = "networks such as 10.1.0.0/16,127.0.0.1/32, separated by commas")]
    pub(crate) allow_targets: TargetPolicy,
    /// Certificate authorities to trust for receivers' certificates, in addition to those of the
    /// system. The file is read again when it changes
    #[arg(long, env = "FANFARE_RECEIVER_CA_FILE", value_name = "FILE")]
    #[arg(value_parser = by(value::file), long_help = "a file with certificates in PEM form")]
    pub(crate) receiver_ca_file: Option<PathBuf>,
}

/// Time-outs of attempts, the retry policy, and shadow mode.
#[derive(Debug, Args)]
#[command(next_help_heading = "Attempts and retries")]
pub(crate) struct Sending {
    /// Shadow mode: decide everything and send nothing to receivers, to compare with another server
    /// before a switch. A delivery that would be sent is dropped with the reason shadow. Set it for
    /// all processes
    #[arg(long, env = "FANFARE_SHADOW", value_name = "on|off", default_value = "off")]
    #[arg(action = ArgAction::Set, long_help = "on or off")]
    #[arg(value_parser = by(|text| either(text, "on", "off")))]
    pub(crate) shadow: bool,
    /// The delay before the second attempt. Each later delay is five times as long as the one before
    #[arg(long, env = "FANFARE_RETRY_FIRST", value_name = "DURATION", default_value = "5s")]
    #[arg(value_parser = by(value::duration), long_help = DURATION)]
    retry_first: Duration,
    /// The longest delay between two attempts
    #[arg(long, env = "FANFARE_RETRY_MAX_DELAY", value_name = "DURATION", default_value = "12h")]
    #[arg(value_parser = by(value::duration), long_help = DURATION)]
    retry_max_delay: Duration,
    /// The number of attempts after which a delivery becomes a dead letter
    #[arg(long, env = "FANFARE_RETRY_ATTEMPTS", value_name = "COUNT", default_value = "12")]
    #[arg(value_parser = by(value::count::<u32>), long_help = COUNT)]
    retry_attempts: u32,
    /// The age after which a delivery is not attempted again
    #[arg(long, env = "FANFARE_DELIVERY_DEADLINE", value_name = "DURATION", default_value = "72h")]
    #[arg(value_parser = by(value::duration), long_help = DURATION)]
    pub(crate) delivery_deadline: Duration,
    /// The longest time for connecting to a receiver, including TLS
    #[arg(long, env = "FANFARE_CONNECT_TIMEOUT", value_name = "DURATION", default_value = "5s")]
    #[arg(value_parser = by(value::duration), long_help = DURATION)]
    pub(crate) connect_timeout: Duration,
    /// The longest time for one attempt, including the connection
    #[arg(long, env = "FANFARE_TIMEOUT", value_name = "DURATION", default_value = "15s")]
    #[arg(value_parser = by(value::duration), long_help = DURATION)]
    pub(crate) timeout: Duration,
}

impl Sending {
    /// The retry policy.
    pub(crate) fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy {
            first: self.retry_first,
            max_delay: self.retry_max_delay,
            attempts: self.retry_attempts,
            deadline: self.delivery_deadline,
        }
    }
}

/// How long to wait for the directory, and how long to keep its history.
#[derive(Debug, Args)]
#[command(next_help_heading = "Directory")]
pub(crate) struct Directory {
    /// How long an event waits for its accessrevision, or for a complete directory, before it
    /// becomes a dead letter
    #[arg(id = "directory_hold", long = "directory-hold", env = "FANFARE_DIRECTORY_HOLD")]
    #[arg(value_name = "DURATION", default_value = "30s")]
    #[arg(value_parser = by(value::duration), long_help = DURATION)]
    pub(crate) hold: Duration,
    /// How to treat an event if a directory revision before its own is missing: hold waits for that
    /// revision or a snapshot, and makes the event a dead letter after FANFARE_DIRECTORY_HOLD; pass
    /// decides it after FANFARE_DIRECTORY_GAP_WAIT, by permissions that may be out of date
    #[arg(id = "directory_gap", long = "directory-gap", env = "FANFARE_DIRECTORY_GAP")]
    #[arg(value_name = "hold|pass", default_value = "hold", action = ArgAction::Set)]
    #[arg(long_help = "hold or pass", value_parser = by(|text| either(text, "pass", "hold")))]
    pub(crate) pass_gaps: bool,
    /// How long to wait for a missing directory revision before treating it as lost
    #[arg(id = "directory_gap_wait", long = "directory-gap-wait")]
    #[arg(env = "FANFARE_DIRECTORY_GAP_WAIT", value_name = "DURATION", default_value = "5s")]
    #[arg(value_parser = by(value::duration), long_help = DURATION)]
    pub(crate) gap_wait: Duration,
    /// How long former permissions are kept. Events with an older revision need them, and so do
    /// explanations
    #[arg(id = "directory_history", long = "directory-history", env = "FANFARE_DIRECTORY_HISTORY")]
    #[arg(value_name = "DURATION", default_value = "7d")]
    #[arg(value_parser = by(value::duration), long_help = DURATION)]
    pub(crate) history: Duration,
}

/// Limits of concurrency and of numbers.
#[derive(Debug, Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct Load {
    /// The number of messages that a process holds at a time. A worker holds at most
    /// FANFARE_CONCURRENCY
    #[arg(long, env = "FANFARE_PREFETCH", value_name = "COUNT", default_value = "256")]
    #[arg(value_parser = by(value::count::<u16>), long_help = "a whole number from 1 to 65535")]
    pub(crate) prefetch: u16,
    /// The number of queues over which jobs for first attempts are spread, by webhook. Raise it for
    /// workers first; lower it for routers first
    #[arg(long, env = "FANFARE_DELIVERY_QUEUES", value_name = "COUNT", default_value = "1")]
    #[arg(value_parser = by(value::delivery_queues), long_help = "a whole number from 1 to 16")]
    pub(crate) delivery_queues: ShardCount,
    /// The number of attempts that a worker makes at the same time, in addition to as many slow
    /// attempts, which take longer than usual
    #[arg(long, env = "FANFARE_CONCURRENCY", value_name = "COUNT", default_value = "1024")]
    #[arg(value_parser = by(value::count::<u32>), long_help = COUNT)]
    pub(crate) concurrency: u32,
    /// The largest number of attempts that a worker makes to one webhook at the same time
    #[arg(long, env = "FANFARE_WEBHOOK_CONCURRENCY", value_name = "COUNT", default_value = "64")]
    #[arg(value_parser = by(value::count::<u32>), long_help = COUNT)]
    pub(crate) webhook_concurrency: u32,
    /// The largest number of webhooks that one user may have. Users who already have more keep them
    #[arg(long, env = "FANFARE_WEBHOOKS_PER_OWNER", value_name = "COUNT", default_value = "100")]
    #[arg(value_parser = by(value::count::<u32>), long_help = COUNT)]
    pub(crate) webhooks_per_owner: u32,
    /// How long all retries to a webhook may fail before the webhook is paused
    #[arg(
        long,
        env = "FANFARE_PAUSE_FAILING_AFTER",
        value_name = "DURATION",
        default_value = "5d"
    )]
    #[arg(value_parser = by(value::duration), long_help = DURATION)]
    pub(crate) pause_failing_after: Duration,
    /// The largest number of database connections that a process opens for its work
    #[arg(long, env = "FANFARE_DATABASE_CONNECTIONS", value_name = "COUNT", default_value = "8")]
    #[arg(value_parser = by(value::count::<usize>), long_help = COUNT)]
    pub(crate) database_connections: usize,
}

/// The filter and the format of the log.
#[derive(Debug, Args)]
#[command(next_help_heading = "Logs")]
pub(crate) struct Log {
    /// The filter of the log. If it is not set, commands other than the roles log warnings only
    #[arg(id = "log", long = "log", env = "FANFARE_LOG", value_name = "FILTER")]
    #[arg(default_value = "info", value_parser = by(value::log_filter))]
    #[arg(long_help = "a filter such as warn, info or info,fanfare_worker=debug")]
    pub(crate) filter: String,
    /// The format of the log
    #[arg(id = "log_format", long = "log-format", env = "FANFARE_LOG_FORMAT")]
    #[arg(value_name = "text|json", default_value = "text", action = ArgAction::Set)]
    #[arg(long_help = "text or json", value_parser = by(|text| either(text, "json", "text")))]
    pub(crate) json: bool,
    /// Whether the filter was set, rather than the default.
    #[arg(skip)]
    pub(crate) chosen: bool,
    /// Whether text may have colours if the log goes to a terminal.
    #[arg(skip)]
    pub(crate) colours: bool,
}

/// How long the database keeps what it has.
#[derive(Debug, Args)]
#[command(next_help_heading = "Retention")]
pub(crate) struct Retention {
    /// How long deliveries and their attempts are kept. Days are removed whole, and what is not
    /// settled, or dead and neither replayed nor discarded, is kept however old it is
    #[arg(long, env = "FANFARE_KEEP_FACTS", value_name = "DURATION", default_value = "90d")]
    #[arg(value_parser = by(value::days_or_off), long_help = value::DAYS_OR_OFF)]
    keep_facts: value::OrOff<Duration>,
    /// How long the data of events and the bodies of answers are kept. What is not settled, or dead
    /// and neither replayed nor discarded, keeps them. They go with FANFARE_KEEP_FACTS at the latest,
    /// so a longer time means nothing
    #[arg(long, env = "FANFARE_KEEP_PAYLOADS", value_name = "DURATION", default_value = "30d")]
    #[arg(value_parser = by(value::days_or_off), long_help = value::DAYS_OR_OFF)]
    keep_payloads: value::OrOff<Duration>,
    /// How long the audit trail is kept. Months are removed whole
    #[arg(long, env = "FANFARE_KEEP_AUDIT", value_name = "DURATION", default_value = "400d")]
    #[arg(value_parser = by(value::days_or_off), long_help = value::DAYS_OR_OFF)]
    keep_audit: value::OrOff<Duration>,
    /// The age up to which an event that is published again is recognised. If it is older, it is
    /// delivered again
    #[arg(long, env = "FANFARE_RECOGNITION", value_name = "DURATION", default_value = "30d")]
    #[arg(value_parser = by(value::days_or_off), long_help = value::DAYS_OR_OFF)]
    recognition: value::OrOff<Duration>,
    /// The size of the database's disk, from which the console works out when it will be full. SQL
    /// can't tell it. Without it, the console shows sizes and growth only
    #[arg(long, env = "FANFARE_DATABASE_DISK", value_name = "SIZE")]
    #[arg(value_parser = by(value::size), long_help = value::SIZE)]
    database_disk: Option<u64>,
}

impl Retention {
    /// How long the database keeps what it has.
    pub(crate) fn keep(&self) -> Keep {
        Keep {
            facts: self.keep_facts,
            payloads: self.keep_payloads,
            audit: self.keep_audit,
            recognition: self.recognition,
        }
    }

    /// What decides when the database's disk will be full.
    pub(crate) fn storage(&self) -> StorageLimits {
        StorageLimits { keep: self.keep(), disk: self.database_disk }
    }
}
