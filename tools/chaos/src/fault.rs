//! The faults: what breaks, and for how long it may be broken.

use std::fmt;
use std::time::Duration;

use fanfare_testkit::{Break, Shortage};

use crate::spec::{PROCESSES, ProcessIndex};
use crate::world::{Owner, owner_name};

/// A queue that carries jobs only: what it loses is in the ledger.
pub(crate) type Queue = &'static str;

/// One fault. Each ends by itself, after the time that the schedule gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL.
    Kill(ProcessIndex),
    /// SIGTERM.
    Terminate(ProcessIndex),
    /// SIGSTOP, and SIGCONT at the end.
    Stop(ProcessIndex),
    /// The machine's clock, as a process sees it, is off by these minutes.
    StepClock(ProcessIndex, i64),
    /// The network between two parts.
    Link(Link, LinkFault),
    BrokerKilled,
    BrokerRestarted,
    ConnectionsClosed,
    Alarm(Shortage),
    QueuePurged(Queue),
    QueueDeleted(Queue),
    QueueBroken(Queue, Break),
    /// PostgreSQL ends without a checkpoint, and recovers when it starts.
    DatabaseCrashed,
    DatabaseRestarted,
    /// SIGKILL for one server process: PostgreSQL ends all sessions and recovers.
    BackendKilled,
    BackendsTerminated,
    DatabaseReadOnly,
    /// No table can grow.
    DatabaseDiskFull,
}

/// A connection over the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Link {
    Broker(ProcessIndex),
    Database(ProcessIndex),
    /// From all workers to the host that has the receivers of an owner.
    Receivers(Owner),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkFault {
    /// Connections are closed, and new ones refused.
    Cut,
    /// Nothing passes, and no connection is closed.
    Silent,
    /// Everything is late by these milliseconds.
    Slow(u64),
    /// Open connections are reset once.
    Reset,
}

/// What two faults can't have at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resource {
    Process(ProcessIndex),
    Clock(ProcessIndex),
    Link(Link),
    Broker,
    Queue(Queue),
    Database,
}

/// The part of the installation that a fault concerns, as an explanation of a duplicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    WorkerKilled,
    WorkerStopped,
    Database,
    DatabaseLink,
    Broker,
    BrokerLink,
}

impl Part {
    /// The words of the report.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::WorkerKilled => "a worker was killed",
            Self::WorkerStopped => "a worker was stopped (SIGSTOP)",
            Self::Database => "the database was away or refused writes",
            Self::DatabaseLink => "a worker's network to the database was broken",
            Self::Broker => "the broker was away or lost messages",
            Self::BrokerLink => "a worker's network to the broker was broken",
        }
    }
}

impl Fault {
    /// What no other fault may have meanwhile.
    pub(crate) fn resource(self) -> Resource {
        match self {
            Self::Kill(at) | Self::Terminate(at) | Self::Stop(at) => Resource::Process(at),
            Self::StepClock(at, _) => Resource::Clock(at),
            Self::Link(link, _) => Resource::Link(link),
            Self::QueuePurged(queue) | Self::QueueDeleted(queue) | Self::QueueBroken(queue, _) => {
                Resource::Queue(queue)
            }
            Self::BrokerKilled
            | Self::BrokerRestarted
            | Self::ConnectionsClosed
            | Self::Alarm(_) => Resource::Broker,
            Self::DatabaseCrashed
            | Self::DatabaseRestarted
            | Self::BackendKilled
            | Self::BackendsTerminated
            | Self::DatabaseReadOnly
            | Self::DatabaseDiskFull => Resource::Database,
        }
    }

    /// The kind, as the report counts it.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Kill(_) => "process killed (SIGKILL)",
            Self::Terminate(_) => "process ended (SIGTERM)",
            Self::Stop(_) => "process stopped and continued (SIGSTOP, SIGCONT)",
            Self::StepClock(..) => "clock stepped",
            Self::Link(_, LinkFault::Cut) => "network cut",
            Self::Link(_, LinkFault::Silent) => "network silent",
            Self::Link(_, LinkFault::Slow(_)) => "network slow",
            Self::Link(_, LinkFault::Reset) => "network reset",
            Self::BrokerKilled => "RabbitMQ killed",
            Self::BrokerRestarted => "RabbitMQ stopped and started",
            Self::ConnectionsClosed => "RabbitMQ's connections closed",
            Self::Alarm(Shortage::Memory) => "RabbitMQ's memory alarm",
            Self::Alarm(Shortage::Disk) => "RabbitMQ's disk alarm",
            Self::QueuePurged(_) => "queue purged",
            Self::QueueDeleted(_) => "queue deleted",
            Self::QueueBroken(_, Break::Dead) => "queue broken (its data gone)",
            Self::QueueBroken(_, Break::Silent) => "queue broken (its leader silent)",
            Self::DatabaseCrashed => "PostgreSQL crashed",
            Self::DatabaseRestarted => "PostgreSQL stopped and started",
            Self::BackendKilled => "PostgreSQL's server process killed (SIGKILL)",
            Self::BackendsTerminated => "PostgreSQL's sessions terminated",
            Self::DatabaseReadOnly => "PostgreSQL read-only",
            Self::DatabaseDiskFull => "PostgreSQL's disk full",
        }
    }

    /// The shortest and the longest time that the fault is given. Zero: it is over at once.
    pub(crate) fn lasts(self) -> (Duration, Duration) {
        let seconds = |from, to| (Duration::from_secs(from), Duration::from_secs(to));
        match self {
            Self::Kill(_)
            | Self::Terminate(_)
            | Self::Link(_, LinkFault::Reset)
            | Self::ConnectionsClosed
            | Self::QueuePurged(_)
            | Self::QueueDeleted(_)
            | Self::BackendKilled
            | Self::BackendsTerminated => seconds(0, 0),
            Self::Stop(_) => seconds(3, 40),
            Self::StepClock(..) => seconds(10, 60),
            Self::Link(..) => seconds(1, 20),
            Self::BrokerKilled | Self::BrokerRestarted => seconds(1, 10),
            Self::Alarm(_) => seconds(3, 15),
            Self::QueueBroken(..) => seconds(5, 60),
            Self::DatabaseCrashed | Self::DatabaseRestarted => seconds(1, 8),
            Self::DatabaseReadOnly | Self::DatabaseDiskFull => seconds(2, 10),
        }
    }

    /// The part that it concerns, if it can be the cause of a duplicate.
    pub(crate) fn part(self) -> Option<Part> {
        match self {
            Self::Kill(at) => is_worker(at).then_some(Part::WorkerKilled),
            Self::Stop(at) => is_worker(at).then_some(Part::WorkerStopped),
            Self::Link(Link::Broker(at), _) => is_worker(at).then_some(Part::BrokerLink),
            Self::Link(Link::Database(at), _) => is_worker(at).then_some(Part::DatabaseLink),
            // A worker that is asked to end records its attempts first, and one that got no answer
            // makes another attempt.
            Self::Terminate(_) | Self::StepClock(..) | Self::Link(Link::Receivers(_), _) => None,
            _ if self.resource() == Resource::Database => Some(Part::Database),
            _ => Some(Part::Broker),
        }
    }
}

fn is_worker(at: ProcessIndex) -> bool {
    PROCESSES[at].role == "worker"
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Self::Kill(at) | Self::Terminate(at) | Self::Stop(at) => {
                write!(f, "{}: {kind}", PROCESSES[*at].name)
            }
            Self::StepClock(at, minutes) => {
                write!(f, "{}: {kind} by {minutes} min", PROCESSES[*at].name)
            }
            Self::Link(link, LinkFault::Slow(ms)) => write!(f, "{link}: {kind} by {ms} ms"),
            Self::Link(link, _) => write!(f, "{link}: {kind}"),
            Self::QueuePurged(queue) | Self::QueueDeleted(queue) | Self::QueueBroken(queue, _) => {
                write!(f, "{queue}: {kind}")
            }
            _ => f.write_str(kind),
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker(at) => write!(f, "{} to RabbitMQ", PROCESSES[*at].name),
            Self::Database(at) => write!(f, "{} to PostgreSQL", PROCESSES[*at].name),
            Self::Receivers(owner) => write!(f, "workers to {}'s receivers", owner_name(*owner)),
        }
    }
}
