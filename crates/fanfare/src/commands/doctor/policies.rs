//! Whether a policy of the broker takes messages away, or brings them before their time.

use fanfare_broker::{BrokerError, Config, HarmfulPolicy, harmful_policies};

use super::Report;
use crate::output;

/// How to keep such a policy from Fanfare's queues.
const MEND: &str = "give Fanfare's queues a policy of their own with a higher priority, as \
                    deploy/rabbitmq/definitions.json does; `rabbitmqctl list_policies` shows which \
                    policy it is";

/// Tries what policies do to a queue of its own.
pub(super) async fn look(report: &mut Report, config: &Config) -> anyhow::Result<()> {
    let found = match harmful_policies(config).await {
        Ok(found) => found,
        Err(BrokerError::Forbidden { .. }) => {
            let text = "this user may not make a queue to try them; `rabbitmqctl list_policies` \
                        shows all";
            return report.ok("policies", text);
        }
        Err(error) => return report.wrong("policies", &output::explain(&error.into())),
    };
    for policy in &found {
        let (key, effect) = (policy.key(), effect(*policy));
        report.wrong(
            "policies",
            &format!("one with `{key}` acts on queues like these: {effect}; {MEND}"),
        )?;
    }
    if found.is_empty() {
        let text = "none acts on queues like these within seconds; `rabbitmqctl list_policies` shows \
                    all";
        report.ok("policies", text)?;
    }
    Ok(())
}

fn effect(policy: HarmfulPolicy) -> &'static str {
    match policy {
        HarmfulPolicy::MessageTtl => {
            "messages vanish after a while, also events that wait and dead letters, and retries come \
             back too soon and are put off again"
        }
        HarmfulPolicy::Expires => {
            "a queue that nobody consumes is deleted with what it holds, also dead letters"
        }
        HarmfulPolicy::DeliveryLimit => {
            "a dead letter vanishes when it has been looked at a few times"
        }
        HarmfulPolicy::MaxLength => {
            "a full queue refuses messages, or drops its oldest where the policy says so"
        }
    }
}
