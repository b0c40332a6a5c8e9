//! Property test: what webhooks missed is judged by the permissions of then and of now as the reference
//! in `fanfare_core::history` gives them, for any history.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{TimeDelta, Utc};
use fanfare_core::history::Directory;
use fanfare_core::recover::{Missed, Verdict};
use fanfare_core::webhook::Webhook;
use fanfare_store::routing::Routed;
use proptest::prelude::*;
use uuid::Uuid;

use crate::access::{Case, arrival, arrive, holds};
use crate::support::Database;

async fn check(
    database: &Database,
    webhooks: &[Webhook],
    case: &Case,
) -> Result<(), TestCaseError> {
    // A paused webhook is in no plan, and one that holds missed everything.
    let holding = "update webhooks set hold = true where description is not null and not hold";
    database.client.batch_execute(holding).await.unwrap();
    database.clear().await;
    arrive(database, case).await;
    let (documents, newest) = (case.documents(), case.revisions().newest);
    let events = case.events(&Uuid::new_v4().to_string());
    let arrivals: Vec<_> = events.iter().map(arrival).collect();
    let routed = database.store.route(&arrivals, Some(std::time::Duration::ZERO)).await.unwrap();
    // What a former user of the same name could read counts for nothing.
    let departed = "select distinct name_key from directory_departures";
    let departed = database.client.query(departed, &[]).await.unwrap();
    let departed: BTreeSet<String> = departed.iter().map(|row| row.try_get(0).unwrap()).collect();
    let now = Directory::as_of(&documents, newest);
    for webhook in webhooks.iter().filter(|it| it.paused && !departed.contains(it.owner.key())) {
        let mut expected = BTreeMap::new();
        for (event, routed) in events.iter().zip(&routed) {
            if matches!(routed, Routed::Held) {
                continue;
            }
            let revision = event.access_revision.unwrap_or(newest);
            let mut then = Directory::as_of(&documents, revision);
            // Whether the owner was enabled then does not matter.
            then.users.values_mut().for_each(|user| user.enabled = true);
            let could_read = then.may_read(&webhook.owner, &event.resource);
            let verdict = match (could_read, now.may_read(&webhook.owner, &event.resource)) {
                (false, _) => Verdict::NotThen,
                (true, false) => Verdict::NotNow,
                (true, true) => Verdict::Send,
            };
            *expected.entry(verdict).or_insert(0) += 1;
        }
        let missed = Missed {
            webhook: Some(webhook.id),
            owner: None,
            from: Utc::now() - TimeDelta::hours(1),
            until: Utc::now() + TimeDelta::hours(1),
        };
        let (mut counted, whole) = database.store.recover_plan(&missed, None).await.unwrap();
        prop_assert!(whole);
        counted.retain(|verdict, count| *verdict != Verdict::Filter || *count != 0);
        prop_assert_eq!(counted, expected, "{} {:?}", webhook.owner.as_str(), events);
    }
    Ok(())
}

#[test]
fn what_was_missed_is_judged_as_the_reference_decides() {
    holds(200, &check);
}
