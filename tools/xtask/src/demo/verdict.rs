//! Compares the dead letters, and what the receivers saw, with the ledger.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use fanfare_testkit::service;
use serde_json::Value;
use tokio::time::sleep;

use super::ledger::{Ledger, Registered};
use super::sample::Manner;
use super::stage::Fanfare;

/// A dead letter appears within moments after the end of its delivery.
const PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(500);

/// The differences between the ledger and the other sources, one sentence each.
pub(crate) async fn of_others(
    fanfare: &Fanfare,
    ledger: &Ledger,
    all: &[Registered],
) -> Result<Vec<String>> {
    let mut differences = dead_letters(fanfare, ledger, all).await?;
    for receiver in Manner::ALL {
        let log = service::read(&fanfare.home.log(&receiver.slug()));
        let (accepted, problems) = seen(&log);
        differences.extend(
            problems
                .into_iter()
                .map(|problem| format!("the receiver \"{}\" reports:  {problem}", receiver.name())),
        );
        let to_it = all.iter().filter(|registered| registered.hook.receiver == receiver);
        for id in to_it.flat_map(|registered| ledger.ids(&registered.id, "delivered")) {
            if !accepted.contains(id) {
                let name = receiver.name();
                differences.push(format!("the receiver \"{name}\" did not accept {id}"));
            }
        }
    }
    Ok(differences)
}

/// The last line of the demo.
pub(crate) fn summary(ledger: &Ledger, differences: &[String]) -> String {
    if differences.is_empty() {
        let (deliveries, _) = ledger.n_deliveries();
        return format!(
            "All is as expected: {} events, {deliveries} deliveries, and nothing went to a webhook \
             whose owner may not read it.",
            ledger.n_published()
        );
    }
    let lines = differences.iter().map(|line| format!("\n  {line}"));
    format!("Not as expected:{}", lines.collect::<String>())
}

async fn dead_letters(
    fanfare: &Fanfare,
    ledger: &Ledger,
    all: &[Registered],
) -> Result<Vec<String>> {
    let started = Instant::now();
    loop {
        let list = ["dead-letters", "list", "--queue", "deliveries", "--json"];
        let list = fanfare.run(&list, None).await?;
        let list: Vec<Value> = serde_json::from_str(&list).context("reading the dead letters")?;
        let mut differences = Vec::new();
        for registered in all {
            let expected = ledger.ids(&registered.id, "dead").len();
            let own = |letter: &&Value| letter["webhook"] == registered.id.as_str();
            let found = list.iter().filter(own).count();
            if found != expected {
                let owner = registered.hook.owner;
                differences.push(format!(
                    "dead letters of a webhook of {owner}: expected {expected}, found {found}"
                ));
            }
        }
        if differences.is_empty() || started.elapsed() > PATIENCE {
            return Ok(differences);
        }
        sleep(POLL).await;
    }
}

/// The ids that a receiver accepted, and the problems that it found, from its log.
fn seen(log: &str) -> (HashSet<String>, Vec<String>) {
    let mut accepted = HashSet::new();
    let mut problems = Vec::new();
    for line in log.lines() {
        // Other lines of the log are text for people.
        let Ok(post) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let found = post["problems"].as_array().into_iter().flatten();
        problems.extend(found.filter_map(|problem| problem.as_str().map(str::to_owned)));
        if post["status"] == 200 && post["msSignature"] == true && post["webhookSignature"] == true
        {
            accepted.extend(post["id"].as_str().map(str::to_owned));
        }
    }
    (accepted, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_s_log_is_read() {
        let log = concat!(
            "listening on http://127.0.0.1:1\n",
            r#"{"id":"a","status":200,"msSignature":true,"webhookSignature":true,"problems":[]}"#,
            "\n",
            r#"{"id":"b","status":500,"msSignature":true,"webhookSignature":true,"problems":[]}"#,
            "\n",
            r#"{"id":"c","status":401,"msSignature":false,"problems":["forged"]}"#,
            "\n",
        );
        let (accepted, problems) = seen(log);
        assert_eq!(accepted, HashSet::from(["a".to_owned()]));
        assert_eq!(problems, ["forged"]);
    }
}
