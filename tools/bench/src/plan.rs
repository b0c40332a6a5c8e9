//! The sizes of all measurements: the whole plan, and the smoke plan, which is as small as possible
//! while each part still does its work.

use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// Only checks that everything works.
    Smoke,
    Whole {
        /// Whether the measurements that take very long are included.
        full: bool,
    },
}

/// A load that is published as fast as the broker confirms it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FanOut {
    /// The number of webhooks for each event.
    pub(crate) webhooks: u64,
    /// Events before the first round.
    pub(crate) warm_up: u64,
    /// Events of a round.
    pub(crate) events: u64,
}

/// The size of a directory, and of the webhooks of its users.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Directory {
    pub(crate) users: u64,
    pub(crate) roles: u64,
    /// Permissions in all.
    pub(crate) grants: u64,
    /// Webhooks, spread evenly over the users.
    pub(crate) webhooks: u64,
}

/// The counts of a run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The number of measurements of each figure.
    pub(crate) rounds: u64,
    /// The text that the name of a case must contain, in parts that have named cases.
    pub(crate) case: String,
    /// The time without an arrival after which missing deliveries count as lost: longer than any
    /// deferral.
    pub(crate) loss_timeout: Duration,
    /// The bytes of an event's data.
    pub(crate) data: usize,
    /// The most events of a publisher that wait for a confirm.
    pub(crate) in_flight: usize,

    /// POSTs of the bare client in a round.
    pub(crate) limit_posts: u64,
    /// The numbers of concurrent POSTs, one after another.
    pub(crate) limit_side_by_side: Vec<usize>,
    /// Messages through the queue in a round.
    pub(crate) broker_messages: u64,
    /// Rows written to the ledger in a round.
    pub(crate) ledger_rows: u64,
    /// The loads of the pipeline.
    pub(crate) fan_outs: Vec<FanOut>,

    /// Events a second of an unloaded pipeline.
    pub(crate) idle_rate: f64,
    /// Events of a round at that rate.
    pub(crate) idle_events: u64,
    /// The duration of a round at half of the throughput, in seconds.
    pub(crate) busy_seconds: u64,

    /// Numbers of workers, combined with each number of routers.
    pub(crate) scale_workers: Vec<u64>,
    /// Numbers of routers.
    pub(crate) scale_routers: Vec<u64>,
    /// Events of a round of this part, each to ten webhooks.
    pub(crate) scale_events: u64,

    /// Events a second to ten endpoints, some of them bad.
    pub(crate) isolation_rate: f64,
    /// The duration of a round, in seconds.
    pub(crate) isolation_seconds: u64,
    /// Numbers of bad endpoints, combined with each bad manner; if empty, one of each manner.
    pub(crate) isolation_bad: Vec<usize>,

    /// Numbers of webhooks of a gateway that fails under load, combined with each rate and manner.
    pub(crate) gateway_webhooks: Vec<u64>,
    /// Events a second of this part.
    pub(crate) gateway_rates: Vec<f64>,
    /// Seconds of load to warm up, before the failure, and after it.
    pub(crate) gateway_seconds: [f64; 3],
    /// The number of manners in which the gateway fails.
    pub(crate) gateway_manners: usize,

    /// Deliveries that fail at once.
    pub(crate) storm_deliveries: u64,
    /// Other events a second, before the storm and during it.
    pub(crate) storm_rate: f64,
    /// The duration of the measurement before the storm, and again during it, in seconds.
    pub(crate) storm_watched: u64,
    /// The delay before the first retry, and the longest one.
    pub(crate) storm_delays: [&'static str; 2],

    /// Numbers of webhooks in the installation.
    pub(crate) growth_webhooks: Vec<u64>,
    /// Numbers of stored attempts.
    pub(crate) growth_attempts: Vec<u64>,
    /// Calls of each kind in a round.
    pub(crate) growth_calls: u64,
    /// Events that are delivered in a round, in addition to the stored attempts.
    pub(crate) growth_events: u64,
    /// The directory to import.
    pub(crate) directory: Directory,

    /// Whether it only shows that everything works.
    pub(crate) is_smoke: bool,
    /// Attempts that are stored in daily partitions.
    pub(crate) partitions_attempts: u64,
    /// The number of these partitions.
    pub(crate) partitions_days: u64,
    /// Calls of each page.
    pub(crate) partitions_calls: u64,
    /// For how long a reader holds its snapshot.
    pub(crate) partitions_reader: Duration,
    /// Events a second while days are dropped.
    pub(crate) partitions_rate: u64,
    /// The duration of a round of these, in seconds.
    pub(crate) partitions_seconds: u64,

    /// The duration of the scaled run, in which a day is a minute.
    pub(crate) churn: Duration,
    /// Events a second in it.
    pub(crate) churn_rate: u64,

    /// Webhooks whose deliveries die.
    pub(crate) letters_webhooks: u64,
    /// Dead letters of each of them.
    pub(crate) letters_each: u64,

    /// Events for the measurement at full load.
    pub(crate) memory_events: u64,
    /// Events of almost 1 MiB.
    pub(crate) memory_large: u64,
    /// The time after its start after which a process counts as idle.
    pub(crate) memory_rest: Duration,
}

impl Plan {
    /// Whether a case should be measured.
    pub(crate) fn wants(&self, case: &str) -> bool {
        case.contains(&self.case)
    }

    /// The wanted cases by fan-out, each with its name.
    pub(crate) fn by_fan_out(&self) -> impl Iterator<Item = (String, &FanOut)> {
        let named = self.fan_outs.iter().map(|it| (format!("fan-out {}", it.webhooks), it));
        named.filter(|(name, _)| self.wants(name))
    }

    /// The plan of a size.
    pub(crate) fn of(size: Size) -> Self {
        match size {
            Size::Smoke => Self::smoke(),
            Size::Whole { full: false } => Self::whole(),
            Size::Whole { full: true } => {
                let mut plan = Self::whole();
                plan.growth_attempts.push(10_000_000);
                plan.letters_webhooks = 50;
                plan
            }
        }
    }

    fn whole() -> Self {
        let fan_out = |webhooks, warm_up, events| FanOut { webhooks, warm_up, events };
        Self {
            rounds: 3,
            case: String::new(),
            loss_timeout: Duration::from_mins(6),
            data: 400,
            in_flight: 1000,
            limit_posts: 100_000,
            limit_side_by_side: vec![64, 128, 256],
            broker_messages: 50_000,
            ledger_rows: 200_000,
            fan_outs: vec![
                fan_out(1, 5000, 30_000),
                fan_out(10, 1000, 6000),
                fan_out(100, 100, 1000),
            ],
            idle_rate: 20.0,
            idle_events: 500,
            busy_seconds: 15,
            scale_workers: vec![1, 2, 4],
            scale_routers: vec![1, 2],
            scale_events: 600,
            isolation_rate: 100.0,
            isolation_seconds: 20,
            isolation_bad: vec![1, 5],
            gateway_webhooks: vec![12, 50],
            gateway_rates: vec![20.0, 100.0, 1000.0],
            gateway_seconds: [2.0, 10.0, 20.0],
            gateway_manners: usize::MAX,
            storm_deliveries: 100_000,
            storm_rate: 50.0,
            storm_watched: 60,
            storm_delays: ["5s", "20s"],
            growth_webhooks: vec![1000, 10_000, 100_000, 1_000_000],
            growth_attempts: vec![10_000, 100_000, 1_000_000],
            growth_calls: 20,
            growth_events: 10_000,
            directory: Directory {
                users: 10_000,
                roles: 200,
                grants: 1_000_000,
                webhooks: 100_000,
            },
            is_smoke: false,
            partitions_attempts: 30_000_000,
            partitions_days: 60,
            partitions_calls: 100,
            partitions_reader: Duration::from_mins(10),
            partitions_rate: 100,
            partitions_seconds: 30,
            churn: Duration::from_hours(1),
            churn_rate: 20,
            letters_webhooks: 20,
            letters_each: 10_000,
            memory_events: 30_000,
            memory_large: 200,
            memory_rest: Duration::from_secs(3),
        }
    }

    fn smoke() -> Self {
        let fan_out = |webhooks, warm_up, events| FanOut { webhooks, warm_up, events };
        Self {
            rounds: 1,
            loss_timeout: Duration::from_secs(45),
            limit_posts: 200,
            limit_side_by_side: vec![16],
            broker_messages: 200,
            ledger_rows: 1000,
            fan_outs: vec![fan_out(1, 10, 100), fan_out(10, 2, 20), fan_out(100, 1, 3)],
            idle_events: 10,
            busy_seconds: 1,
            scale_workers: vec![1, 2],
            scale_routers: vec![1],
            scale_events: 4,
            isolation_rate: 20.0,
            isolation_seconds: 1,
            isolation_bad: Vec::new(),
            gateway_webhooks: vec![12],
            gateway_rates: vec![20.0],
            gateway_seconds: [0.5, 1.0, 1.0],
            gateway_manners: 1,
            storm_deliveries: 500,
            storm_rate: 20.0,
            storm_watched: 2,
            storm_delays: ["1s", "1s"],
            growth_webhooks: vec![1000],
            growth_attempts: vec![1000],
            growth_calls: 2,
            growth_events: 20,
            directory: Directory { users: 100, roles: 10, grants: 1000, webhooks: 1000 },
            is_smoke: true,
            partitions_attempts: 6000,
            partitions_days: 18,
            partitions_calls: 2,
            partitions_reader: Duration::from_secs(10),
            partitions_rate: 20,
            partitions_seconds: 1,
            churn: Duration::from_secs(5),
            churn_rate: 20,
            letters_webhooks: 3,
            letters_each: 20,
            memory_events: 100,
            memory_large: 3,
            memory_rest: Duration::ZERO,
            ..Self::whole()
        }
    }
}
