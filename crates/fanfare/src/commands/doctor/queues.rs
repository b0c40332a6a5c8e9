//! Whether each queue answers: one may exist, look well, and serve nobody.

use std::collections::BTreeSet;

use fanfare_broker::{Condition, Config, Probe, probe, repair};

use super::{Found, Report};
use crate::output;

/// Asks every queue and, if that is wanted, repairs what can be repaired. Returns the queues that are
/// still broken.
pub(super) async fn look(
    report: &mut Report,
    config: &Config,
    wants_repair: bool,
) -> anyhow::Result<BTreeSet<String>> {
    let found = match probe(config).await {
        Ok(found) => found,
        Err(error) => {
            report.wrong("queues", &output::explain(&error.into()))?;
            return Ok(BTreeSet::new());
        }
    };
    let mut broken = BTreeSet::new();
    for probe in found {
        let can_repair = probe.repairable || probe.condition == Condition::Missing;
        let what = format!("queue {}", probe.queue);
        let found = match &probe.condition {
            Condition::Answers => continue,
            _ if wants_repair && can_repair => repaired(config, &probe).await,
            // The comparison with the table tells of those.
            Condition::Missing => continue,
            Condition::Broken(problem) => Err(advice(&probe, problem)),
        };
        if found.is_err() {
            broken.insert(probe.queue);
        }
        report.add(&what, &found)?;
    }
    Ok(broken)
}

async fn repaired(config: &Config, probe: &Probe) -> Found {
    match repair(config, &probe.queue).await {
        Ok(true) if probe.condition == Condition::Missing => {
            Ok("was missing; it is made again".to_owned())
        }
        Ok(true) => Ok("did not answer; it is deleted and made again, and a router publishes the \
                        jobs that it held again from the database"
            .to_owned()),
        Ok(false) => Ok("answers again".to_owned()),
        Err(error) => Err(output::explain(&error.into())),
    }
}

fn advice(probe: &Probe, problem: &str) -> String {
    if probe.repairable {
        format!(
            "exists but does not answer ({problem}); routers make it again after two minutes, \
             `fanfare doctor --repair` does so now; its jobs are published again from the database"
        )
    } else {
        format!(
            "exists but does not answer ({problem}); what it holds is nowhere else, so it is not \
             repaired: restart the broker's nodes, one after the other"
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
