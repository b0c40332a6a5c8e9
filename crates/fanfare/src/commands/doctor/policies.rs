//! Checks whether a policy of the broker loses messages, or returns them too early.

use fanfare_broker::{BrokerError, Config, HarmfulPolicy, harmful_policies};

use super::Report;
use crate::output;

/// How to keep such a policy from Fanfare's queues.
const ADVICE: &str = "give Fanfare's queues a policy of their own with a higher priority, as \
                      deploy/rabbitmq/definitions.json does; `rabbitmqctl list_policies` lists all \
                      policies";

/// Creates test queues, and observes the effects of policies on them.
pub(super) async fn check(report: &mut Report, config: &Config) -> anyhow::Result<()> {
    let found = match harmful_policies(config).await {
        Ok(found) => found,
        Err(BrokerError::Forbidden { .. }) => {
            let text = "not checked, because this user may not create a test queue; `rabbitmqctl \
                        list_policies` lists all policies";
            return report.ok("policies", text);
        }
        Err(error) => return report.wrong("policies", &output::explain(&error.into())),
    };
    for policy in &found {
        let (key, effect) = (policy.key(), effect(*policy));
        report.wrong(
            "policies",
            &format!("a policy with `{key}` applies to queues like these: {effect}; {ADVICE}"),
        )?;
    }
    if found.is_empty() {
        let text = "none has a harmful effect on queues like these within seconds; `rabbitmqctl \
                    list_policies` lists all policies";
        report.ok("policies", text)?;
    }
    Ok(())
}

fn effect(policy: HarmfulPolicy) -> &'static str {
    match policy {
        HarmfulPolicy::MessageTtl => {
            "messages expire, including waiting events and dead letters, and retries return too early \
             and are deferred again"
        }
        HarmfulPolicy::Expires => {
            "a queue without consumers is deleted with its messages, including dead letters"
        }
        HarmfulPolicy::DeliveryLimit => {
            "a dead letter is removed after it has been listed a few times"
        }
        HarmfulPolicy::MaxLength => {
            "a full queue refuses messages, or drops the oldest ones if the policy says so"
        }
    }
}
