//! `fanfare retention`, and what `fanfare doctor` says about it.

use serde_json::Value;

use crate::servers::{CliWithServers, keys};

/// Makes the partitions of a day that is no longer kept, with an unsettled event.
const OLD_DAY: &str = "
    select make_partition('events', 'received_at', day, day + interval '24 hours'),
           make_partition('attempts', 'received_at', day, day + interval '24 hours')
    from date_trunc('day', now() - interval '100 days', 'UTC') as day;
    insert into events (key, batch, position, source, event_id, event_type, subject, decided_revision,
                        notification, webhooks, received_at, look_at)
    select gen_random_uuid(), gen_random_uuid(), 0, '/tests', '1', 'tasks.execute', 'tasks/t1', 1, '{}',
           array[gen_random_uuid()], now() - interval '100 days', now()";

fn due(partitions: &Value) -> Vec<&Value> {
    partitions.as_array().unwrap().iter().filter(|one| one["due"] == true).collect()
}

#[tokio::test]
async fn retention_shows_what_is_due_and_drops_it() {
    let servers = CliWithServers::migrated().await;
    servers.sandbox.sql(OLD_DAY).unwrap();
    let doctor = servers.run(&["doctor"]).stdout;
    assert!(doctor.contains("should have been dropped"), "{doctor}");
    for _ in 0..2 {
        let shown = servers.json(&["retention", "--dry-run"]);
        let mut keys = keys(&shown[0]);
        keys.sort_unstable();
        assert_eq!(
            keys,
            [
                "bytes",
                "dropped",
                "due",
                "from",
                "partition",
                "payloads",
                "rows",
                "stays",
                "table",
                "to"
            ]
        );
        let due = due(&shown);
        let tables: Vec<&Value> = due.iter().map(|one| &one["table"]).collect();
        assert_eq!(tables, ["attempts", "events"], "{due:?}");
        assert_eq!((&due[1]["stays"], &due[1]["dropped"]), (&1.into(), &false.into()));
        assert_eq!((&due[0]["payloads"], &due[1]["payloads"]), (&Value::Null, &"due".into()));
    }
    let kept = servers.run(&["retention", "--keep-facts", "off", "--json"]);
    assert!(!kept.stdout.contains("\"due\": true"), "{}", kept.stdout);
    let done = servers.json(&["retention"]);
    assert!(due(&done).iter().all(|one| one["dropped"] == true), "{done}");
    assert!(due(&servers.json(&["retention"])).is_empty());
    assert_eq!(servers.sandbox.sql("select count(*) from events").unwrap().trim(), "1");
    let doctor = servers.run(&["doctor"]).stdout;
    assert!(doctor.contains("nothing is overdue"), "{doctor}");
    let sizes = servers.json(&["retention", "--sizes", "--database-disk", "200GB"]);
    assert_eq!(sizes["disk"], 200_000_000_000_i64, "{sizes}");
    assert_eq!(sizes["kinds"][1]["kind"], "attempts", "{sizes}");
    let text = servers.run(&["retention", "--sizes"]).stdout;
    assert!(text.contains("GROWTH A DAY") && text.contains("set FANFARE_DATABASE_DISK"), "{text}");
    let refused = servers.run(&["retention", "--keep-facts", "1h"]);
    assert!(refused.failed_with(2).contains("at least 1d"), "{refused:?}");
}
