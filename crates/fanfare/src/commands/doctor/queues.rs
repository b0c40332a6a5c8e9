//! Checks whether each queue answers. A queue may exist and still not deliver messages.

use std::collections::BTreeSet;

use fanfare_broker::{Condition, Config, Probe, Queue, probe, repair};

use super::{Finding, Report};
use crate::output;

/// Probes every queue and, if wanted, repairs those that can be repaired. Returns the queues that are
/// still broken.
pub(super) async fn check(
    report: &mut Report,
    config: &Config,
    wants_repair: bool,
) -> anyhow::Result<BTreeSet<String>> {
    let probes = match probe(config).await {
        Ok(probes) => probes,
        Err(error) => {
            report.wrong("queues", &output::explain(&error.into()))?;
            return Ok(BTreeSet::new());
        }
    };
    let mut broken = BTreeSet::new();
    for probe in probes {
        // A router declares the queue of dead events, and notes before that it was lost.
        let is_declared_here = probe.queue != Queue::EventsDead.name();
        let is_missing = probe.condition == Condition::Missing && is_declared_here;
        let can_repair = probe.repairable || is_missing;
        let what = format!("queue {}", probe.queue);
        let finding = match &probe.condition {
            Condition::Answers => continue,
            _ if wants_repair && can_repair => repaired(config, &probe).await,
            // The check of the topology reports missing queues.
            Condition::Missing => continue,
            Condition::Broken(problem) => Err(advice(&probe, problem)),
        };
        if finding.is_err() {
            broken.insert(probe.queue);
        }
        report.add(&what, &finding)?;
    }
    Ok(broken)
}

async fn repaired(config: &Config, probe: &Probe) -> Finding {
    match repair(config, &probe.queue).await {
        Ok(true) if probe.condition == Condition::Missing => {
            Ok("was missing; it has been created again".to_owned())
        }
        Ok(true) => {
            Ok("did not answer; it has been deleted and created again, and a router publishes \
                        its jobs again from the database"
                .to_owned())
        }
        Ok(false) => Ok("answers again".to_owned()),
        Err(error) => Err(output::explain(&error.into())),
    }
}

fn advice(probe: &Probe, problem: &str) -> String {
    if probe.repairable {
        format!(
            "exists but does not answer ({problem}); routers delete and create it again after two \
             minutes, and `fanfare doctor --repair` does so now; its jobs are published again from \
             the database"
        )
    } else {
        format!(
            "exists but does not answer ({problem}); its messages are stored nowhere else, so it is not \
             repaired; restart the broker's nodes, one after the other"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repair_is_advised_only_for_queues_of_jobs() {
        let probe = |repairable| Probe {
            queue: "q".to_owned(),
            repairable,
            condition: Condition::Broken("gone".to_owned()),
        };
        assert!(advice(&probe(true), "gone").contains("(gone)"));
        assert!(advice(&probe(true), "gone").contains("--repair"));
        assert!(!advice(&probe(false), "gone").contains("--repair"));
    }
}
