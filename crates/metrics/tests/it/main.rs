//! The text that is scraped: its families, its form, and the bounds of its labels.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fanfare_core::answer::Failure;
use fanfare_core::endpoint::Cause;
use fanfare_core::filter::Filter;
use fanfare_core::outcome::{DeadReason, DropReason, Outcome};
use fanfare_core::reject::Reason;
use fanfare_metrics::{
    Bridge, Broker, Console, Deferral, Process, Registry, Router, Unconfirmed, Worker,
};

/// The families of each role.
struct All {
    registries: [Registry; 4],
    router: Router,
    worker: Worker,
    console: Console,
}

impl All {
    fn new() -> Self {
        let mut registries = [(); 4].map(|()| Registry::new());
        let [for_router, for_worker, for_console, for_bridge] = &mut registries;
        for registry in [&mut *for_router, &mut *for_worker, &mut *for_console] {
            let _process = Process::new(registry, "1.2.3", Some("abc"));
        }
        let _process = Process::without_database(for_bridge, "1.2.3", Some("abc"));
        let _bridge = Bridge::new(for_bridge);
        for registry in [&mut *for_router, &mut *for_worker] {
            Broker::new(registry).queue("events", true);
        }
        let router = Router::new(for_router, "events.dead");
        router.system().queue("events", 0);
        router.system().retries_waiting([0; 18]);
        router.system().database_size("events", 0);
        router.system().directory_hold(None, 0);
        router.system().notice_causes(&[]);
        let worker = Worker::new(for_worker, "deliveries.dead");
        worker.unpublished("delay", 0);
        let console = Console::new(for_console);
        Self { registries, router, worker, console }
    }

    fn samples(&self) -> BTreeMap<String, f64> {
        self.registries.iter().flat_map(|registry| samples(&registry.text())).collect()
    }
}

/// Each sample's value by its name and labels. Fails for what is not `OpenMetrics` text.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.strip_suffix("# EOF\n").unwrap().lines();
    let mut samples = BTreeMap::new();
    let (mut families, mut family) = (BTreeSet::new(), String::new());
    for line in lines {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, name, rest) =
                (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            match kind {
                "HELP" => {
                    assert!(families.insert(name), "{name} is there twice");
                    name.clone_into(&mut family);
                }
                "TYPE" => assert!(["counter", "gauge", "histogram", "info"].contains(&rest)),
                "UNIT" => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                _ => panic!("{line}"),
            }
            assert_eq!(name, family, "{line}");
            assert!(name.starts_with("fanfare_"), "{line}");
            continue;
        }
        assert!(line.starts_with(&family), "{line} among {family}");
        let (key, value) = line.rsplit_once(' ').unwrap();
        let value = value.parse().unwrap();
        assert!(samples.insert(key.to_owned(), value).is_none(), "{key} is there twice");
    }
    samples
}

/// A row of the documents for each family.
fn rows(text: &str) -> Vec<String> {
    let families = text.split("# HELP ").skip(1).map(|family| {
        let (name, rest) = family.split_once(' ').unwrap();
        let (help, rest) = rest.split_once(".\n").unwrap();
        let kind = rest.split_once(&format!("# TYPE {name} ")).unwrap().1;
        let (kind, rest) = kind.split_once('\n').unwrap();
        let end = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let names = rest.split("=\"").map(|before| {
            let start = before.rfind(['{', ',']).map_or(0, |at| at + 1);
            before.split_at(start).1
        });
        let is_label = |name: &&str| {
            name.chars().all(|c| c.is_ascii_lowercase()) && !name.is_empty() && *name != "le"
        };
        let labels: BTreeSet<&str> = names.filter(is_label).collect();
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{name}{end}` | {} | {kind} | {help} |", labels.join(", "))
    });
    families.collect()
}

/// What dashboards and alerts rely on, whatever happened so far.
#[test]
fn the_documents_list_every_family() {
    let documents = include_str!("../../../../docs/metrics.md");
    let (_, documents) = documents.split_once("## Router").unwrap();
    let (router, documents) = documents.split_once("## Worker").unwrap();
    let (worker, documents) = documents.split_once("## Console").unwrap();
    let (console, bridge) = documents.split_once("## Bridge").unwrap();
    for (documented, registry) in
        [router, worker, console, bridge].iter().zip(All::new().registries)
    {
        let listed: Vec<&str> = documented.lines().filter(|line| line.starts_with("| `")).collect();
        let rows = rows(&registry.text());
        assert_eq!(listed, rows, "docs/metrics.md must have these rows:\n{}", rows.join("\n"));
    }
}

#[test]
fn a_router_and_a_worker_share_a_registry() {
    let mut registry = Registry::new();
    let router = Router::new(&mut registry, "events.dead");
    let worker = Worker::new(&mut registry, "deliveries.dead");
    router.dead_letter(Reason::NotJson, 2);
    worker.dead_letter(DeadReason::Exhausted);
    let samples = samples(&registry.text());
    let dead = |queue: &str, reason: &str| {
        samples[&format!("fanfare_dead_letters_total{{queue=\"{queue}\",reason=\"{reason}\"}}")]
    };
    assert!((dead("events.dead", "not-json") - 1.0).abs() < f64::EPSILON);
    assert!((dead("deliveries.dead", "exhausted") - 1.0).abs() < f64::EPSILON);
}

#[test]
fn every_label_value_is_there_before_anything_happened() {
    let all = All::new();
    let before: BTreeSet<String> = all.samples().into_keys().collect();
    for filter in Filter::ALL {
        all.router.event(filter);
    }
    for reason in Reason::ALL {
        all.router.dead_letter(reason, 3);
    }
    all.router.documents(1);
    all.router.unreadable(1);
    all.router.system().queue("events", 7);
    let took = Duration::from_millis(20);
    for (outcome, status) in [
        (Outcome::Delivered, 204),
        (Outcome::Gone, 410),
        (Outcome::Status, 302),
        (Outcome::Status, 404),
        (Outcome::Status, 503),
    ] {
        all.worker.attempt(outcome, Some(status), took);
    }
    for failure in [
        Failure::Timeout,
        Failure::Connect,
        Failure::Dns,
        Failure::Tls,
        Failure::Protocol,
        Failure::BlockedTarget,
    ] {
        all.worker.attempt(Outcome::Failed(failure), None, took);
    }
    for reason in DropReason::ALL {
        all.worker.dropped(reason);
    }
    for reason in DeadReason::ALL {
        all.worker.dead_letter(reason);
    }
    all.worker.unreadable();
    all.worker.unknown_job();
    let endpoint = [Cause::Failing, Cause::Busy, Cause::RateLimit].map(Deferral::Endpoint);
    for reason in [Deferral::Uncertain, Deferral::Claimed, Deferral::Early] {
        all.worker.deferred(reason);
    }
    for reason in endpoint {
        all.worker.deferred(reason);
    }
    let after: BTreeSet<String> = all.samples().into_keys().collect();
    assert_eq!(before, after);
}

/// Whatever a receiver answers.
#[test]
fn strange_statuses_make_few_series() {
    let all = All::new();
    let before = all.samples().len();
    for status in 0..=u16::MAX {
        all.worker.attempt(Outcome::Status, Some(status), Duration::ZERO);
    }
    assert!(all.samples().len() <= before + 3);
}

#[test]
fn numbers_are_what_was_told() {
    let all = All::new();
    all.router.event(Filter::Tasks);
    all.router.event(Filter::Tasks);
    all.router.dead_letter(Reason::DirectoryBehind, 5);
    all.router.system().directory(420, [(3, 3), (10, 12)]);
    all.router.system().oldest_unsettled(Duration::from_millis(1500));
    all.router.oldest_waiting(Some(1_795_000_000_500));
    all.router.routed(true, Some(Duration::from_millis(700)));
    all.router.routed(false, None);
    all.router.system().retries_waiting([3, 0, 7]);
    all.worker.attempt(Outcome::Status, Some(500), Duration::from_millis(300));
    all.worker.retry(Duration::from_secs(6));
    all.worker.ledger(64, Duration::from_millis(3));
    all.console.accepted(3);
    all.console.unconfirmed(Unconfirmed::NotTaken);
    let samples = all.samples();
    for (sample, value) in [
        (r#"fanfare_build_info{version="1.2.3",commit="abc"}"#, 1.0),
        (r#"fanfare_events_received_total{filter="tasks"}"#, 2.0),
        (r#"fanfare_events_received_total{filter="reports"}"#, 0.0),
        (r#"fanfare_events_rejected_total{reason="directory-behind"}"#, 5.0),
        (r#"fanfare_dead_letters_total{queue="events.dead",reason="directory-behind"}"#, 1.0),
        ("fanfare_directory_revision", 420.0),
        ("fanfare_directory_gaps", 2.0),
        ("fanfare_directory_revisions_missing", 4.0),
        ("fanfare_oldest_unsettled_event_age_seconds", 1.5),
        ("fanfare_oldest_waiting_event_timestamp_seconds", 1_795_000_000.5),
        ("fanfare_events_matched_total", 1.0),
        ("fanfare_event_wait_seconds_count", 1.0),
        (r#"fanfare_retries_waiting{delay="1"}"#, 3.0),
        (r#"fanfare_retries_waiting{delay="4"}"#, 7.0),
        (r#"fanfare_attempts_total{outcome="status",status="5xx"}"#, 1.0),
        (r#"fanfare_attempt_duration_seconds_bucket{le="0.25"}"#, 0.0),
        (r#"fanfare_attempt_duration_seconds_bucket{le="0.5"}"#, 1.0),
        (r#"fanfare_retry_delay_seconds_bucket{le="5.0"}"#, 0.0),
        (r#"fanfare_retry_delay_seconds_bucket{le="15.0"}"#, 1.0),
        ("fanfare_ledger_batch_size_sum", 64.0),
        ("fanfare_ledger_write_duration_seconds_count", 1.0),
        ("fanfare_http_events_accepted_total", 3.0),
        (r#"fanfare_http_events_refused_total{reason="bad-type"}"#, 0.0),
        (r#"fanfare_http_publishes_unconfirmed_total{cause="not-taken"}"#, 1.0),
    ] {
        assert_eq!(samples.get(sample), Some(&value), "{sample}");
    }
}

#[test]
fn a_post_is_in_flight_until_it_is_dropped() {
    let all = All::new();
    let in_flight = |expected: f64| {
        assert_eq!(all.samples().get("fanfare_requests_in_flight"), Some(&expected));
    };
    let (one, two) = (all.worker.in_flight(), all.worker.in_flight());
    in_flight(2.0);
    drop(one);
    in_flight(1.0);
    drop(two);
    in_flight(0.0);
}
