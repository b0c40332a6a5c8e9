//! Property tests: the database decides as the reference in `fanfare_core::history` does, for any
//! history in any order. Histories have faulty documents, unknown scopes, deletions, refused
//! snapshots and gaps.

use std::collections::{BTreeSet, HashMap};

use chrono::Utc;
use fanfare_core::audit::Author;
use fanfare_core::directory::{Content, Document, Kind};
use fanfare_core::event::{self, Entry, Event};
use fanfare_core::filter::Filters;
use fanfare_core::history::Directory;
use fanfare_core::ids::{BatchKey, WebhookId};
use fanfare_core::mask::MaskPolicy;
use fanfare_core::name::Name;
use fanfare_core::resource::Resource;
use fanfare_core::revisions::Revisions;
use fanfare_core::webhook::{Headers, Pacing, Properties, Webhook};
use fanfare_store::access::Question;
use fanfare_store::directory::{ImportMode, Part};
use fanfare_store::routing::{Arrival, Routed};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

use crate::support::{Database, document_or_refused};

pub(crate) const USERS: [&str; 7] = ["anna", "Ben", "CARL", "dörte", "eve", "weiß", "weiss"];
const ROLES: [&str; 4] = ["Readers", "writers", "Night Shift", "System Administrator"];
const SUBJECTS: [&str; 8] = [
    "categories/c1/reports/r1",
    "categories/c1/reports/r2",
    "categories/c2/reports/r1",
    "categories/c1",
    "categories/c2",
    "connections/x1",
    "tasks/t1",
    "alerts/a1",
];
const SCOPES: [(&str, &str); 14] = [
    ("any-report", ""),
    ("report", "r1"),
    ("report", "r2"),
    ("reports-in-category", "c1"),
    ("reports-in-category", "c2"),
    ("any-category", ""),
    ("category", "c1"),
    ("category", "c2"),
    ("any-connection", ""),
    ("connection", "x1"),
    ("any-task", ""),
    ("task", "t1"),
    ("any-alert", ""),
    ("alert", "a1"),
];

/// A scope that this version does not know.
const UNKNOWN: (&str, &str) = ("dashboard", "d1");

/// A directory's history, and events to be decided by it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// The documents with their revisions.
    documents: Vec<(i64, Kind, Value)>,
    /// The order in which documents arrive, some of them twice.
    arrivals: Vec<Index>,
    /// The number of documents that arrive together.
    together: usize,
    /// Subjects, each with the revision that the event asks for.
    events: Vec<(&'static str, Option<Index>)>,
    /// Whether events wait for missing documents.
    waits: bool,
}

fn permissions() -> impl Strategy<Value = Value> {
    let access = prop_oneof![
        4 => Just(json!(["read"])),
        1 => Just(json!(["modify", "read"])),
        1 => Just(json!(["modify", "delete", "create", "read-nested"])),
    ];
    let scope = prop_oneof![15 => select(&SCOPES[..]), 1 => Just(UNKNOWN)];
    let permission = (access, scope).prop_map(
        |(access, (scope, target))| json!({ "access": access, "scope": scope, "target": target }),
    );
    prop::collection::vec(permission, 0..4).prop_map(Value::from)
}

/// A name, sometimes in another case.
fn name(names: &'static [&'static str]) -> impl Strategy<Value = String> {
    (select(names), any::<bool>()).prop_map(|(name, upper)| {
        // Without `ß`, which has no upper case of its own.
        if upper && name.is_ascii() { name.to_uppercase() } else { name.to_owned() }
    })
}

/// Adds a fault to some documents, for which they are refused.
fn faulty(document: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    (document, prop::bool::weighted(0.1)).prop_map(|(mut document, is_faulty)| {
        if is_faulty {
            document["permissions"] = json!("all");
        }
        document
    })
}

fn user() -> impl Strategy<Value = Value> {
    let roles = prop::collection::vec(name(&ROLES), 0..3);
    let flags = (prop::bool::weighted(0.8), prop::bool::weighted(0.15));
    (name(&USERS), flags, roles, permissions()).prop_map(|(name, flags, roles, permissions)| {
        let (enabled, deleted) = flags;
        json!({ "name": name, "enabled": enabled, "deleted": deleted, "roles": roles,
                "permissions": permissions })
    })
}

fn role() -> impl Strategy<Value = Value> {
    (name(&ROLES), prop::bool::weighted(0.1), permissions()).prop_map(
        |(name, deleted, permissions)| {
            json!({ "name": name, "deleted": deleted, "permissions": permissions })
        },
    )
}

fn change() -> impl Strategy<Value = (Kind, Value)> {
    let snapshot = (prop::collection::vec(user(), 0..4), prop::collection::vec(role(), 0..3));
    prop_oneof![
        18 => faulty(user()).prop_map(|user| (Kind::User, user)),
        9 => faulty(role()).prop_map(|role| (Kind::Role, role)),
        4 => snapshot
            .prop_map(|(users, roles)| (Kind::Snapshot, json!({ "users": users, "roles": roles }))),
        1 => Just((Kind::Snapshot, json!({ "users": "all" }))),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    // Most histories have no gap, and begin at the first revision.
    let step = prop_oneof![9 => Just(1i64), 1 => Just(2)];
    let documents = prop::collection::vec((step, change()), 1..14);
    let events = prop::collection::vec(
        (select(&SUBJECTS[..]), prop::option::weighted(0.8, any::<Index>())),
        1..8,
    );
    let arrivals = prop::collection::vec(any::<Index>(), 20);
    (documents, arrivals, 1usize..5, events, any::<bool>()).prop_map(
        |(documents, arrivals, together, events, waits)| {
            let mut revision = 0;
            let place = |(step, (kind, data)): (i64, (Kind, Value))| {
                revision += step;
                (revision, kind, data)
            };
            let documents = documents.into_iter().map(place).collect();
            Case { documents, arrivals, together, events, waits }
        },
    )
}

impl Case {
    pub(crate) fn documents(&self) -> Vec<Document> {
        self.documents
            .iter()
            .map(|(revision, kind, data)| document_or_refused(*kind, *revision, data))
            .collect()
    }

    /// The documents as they arrive: shuffled, some twice, each at least once.
    fn arriving(&self) -> Vec<Document> {
        let all = self.documents();
        let some = self.arrivals.iter().map(|index| index.get(&all).clone());
        let mut arriving: Vec<Document> = some.collect();
        arriving.extend(all);
        arriving
    }

    /// The revisions that the directory has seen after all documents arrived.
    pub(crate) fn revisions(&self) -> Revisions<()> {
        let mut revisions = Revisions::default();
        for documents in self.arriving().chunks_mut(self.together) {
            documents.sort_by_key(|document| document.revision);
            for document in documents {
                match document.content {
                    Content::Snapshot { .. } => revisions.see_snapshot(document.revision),
                    Content::RefusedSnapshot { .. } => {}
                    _ => revisions.see(document.revision, ()),
                }
            }
        }
        revisions
    }

    pub(crate) fn events(&self, nonce: &str) -> Vec<Event> {
        let newest = self.revisions().newest;
        let event = |(number, (subject, at)): (usize, &(&str, Option<Index>))| {
            let filter = match subject.split('/').collect::<Vec<_>>().as_slice() {
                [_, _, nested, _] => nested,
                [kind, ..] => *kind,
                [] => "",
            };
            let revision = at.map(|at| at.index(usize::try_from(newest).unwrap() + 1));
            let event = json!({
                "specversion": "1.0", "id": format!("{nonce}-{number}"), "source": "/tests",
                "type": format!("{filter}.edit"), "subject": subject,
                "accessrevision": revision, "data": {}
            });
            parse(&event)
        };
        self.events.iter().enumerate().map(event).collect()
    }
}

pub(crate) fn parse(event: &Value) -> Event {
    match event::parse(event.to_string().as_bytes(), None, &MaskPolicy::default())
        .unwrap()
        .entries
        .pop()
    {
        Some(Entry::Event(event)) => *event,
        other => panic!("expected an event, got {other:?}"),
    }
}

pub(crate) fn arrival(event: &Event) -> Arrival<'_> {
    Arrival { event, batch: BatchKey::single(event.key), position: 0 }
}

pub(crate) fn webhook(owner: &str, filters: &[&str], paused: bool) -> Webhook {
    Webhook {
        id: WebhookId(Uuid::new_v4()),
        owner: Name::parse(owner).unwrap(),
        uri: "http://127.0.0.1/".parse().unwrap(),
        secrets: vec!["0123456789abcdef0123456789abcdef".parse().unwrap()],
        description: paused.then(|| "made paused".to_owned()),
        paused,
        paused_reason: None,
        filters: Filters::parse(filters).unwrap(),
        headers: Headers::default(),
        properties: Properties::default(),
        created_at: Utc::now(),
        failing_since: None,
        rate_limit: None,
        pacing: Pacing::default(),
        hold: false,
        held_since: None,
    }
}

fn webhooks() -> Vec<Webhook> {
    let wanted: [(&[&str], bool); 4] = [
        (&[], false),
        (&["reports"], false),
        (&["tasks.edit", "alerts.delete"], false),
        (&[], true),
    ];
    let of_user = |user: &&str| wanted.map(|(filters, paused)| webhook(user, filters, paused));
    USERS.iter().flat_map(of_user).collect()
}

pub(crate) async fn arrive(database: &Database, case: &Case) {
    for (number, documents) in case.arriving().chunks(case.together).enumerate() {
        match documents {
            // Some snapshots are imported in parts.
            [Document { revision, content: Content::Snapshot { users, roles } }]
                if number % 2 == 0 =>
            {
                let mode = ImportMode::Continue;
                let import = database.store.directory_import(Some(*revision), mode).await.unwrap();
                let Some(mut import) = import else { continue };
                for user in users {
                    let part = Part { users: vec![user.clone()], roles: Vec::new() };
                    import.put(&part).await.unwrap();
                }
                let part = Part { users: Vec::new(), roles: roles.clone() };
                import.put(&part).await.unwrap();
                import.finish(&Author::system()).await.unwrap();
            }
            documents => {
                database.store.directory_apply(documents).await.unwrap();
            }
        }
    }
}

async fn check(
    database: &Database,
    webhooks: &[Webhook],
    case: &Case,
) -> Result<(), TestCaseError> {
    database.clear().await;
    arrive(database, case).await;
    let documents = case.documents();
    let revisions = case.revisions();
    let newest = revisions.newest;
    let events = case.events(&Uuid::new_v4().to_string());
    let arrivals: Vec<Arrival<'_>> = events.iter().map(arrival).collect();
    let gap_wait = (!case.waits).then_some(Duration::ZERO);
    let routed = database.store.route(&arrivals, gap_wait).await.unwrap();
    let recreated = recreated(database, &documents, newest).await?;
    let is_held = Directory::is_held(&documents) || !revisions.complete;
    for (event, routed) in events.iter().zip(routed) {
        let misses = |revision| revisions.gaps.iter().any(|gap| gap.first <= revision);
        if is_held || (case.waits && event.access_revision.is_some_and(misses)) {
            prop_assert_eq!(routed, Routed::Held, "{:?}", event);
            continue;
        }
        let directory = Directory::as_of(&documents, event.access_revision.unwrap_or(newest));
        let wants = |webhook: &&Webhook| {
            !webhook.paused
                && !recreated.contains(webhook.owner.key())
                && webhook.filters.accept(event.filter, &event.action)
                && directory.may_read(&webhook.owner, &event.resource)
        };
        let mut expected: Vec<WebhookId> = webhooks.iter().filter(wants).map(|it| it.id).collect();
        expected.sort_by_key(|id| id.0);
        match routed {
            Routed::Accepted { webhooks, .. } => prop_assert_eq!(webhooks, expected, "{:?}", event),
            other => prop_assert!(false, "{:?} is {:?}", event, other),
        }
    }
    check_now(database, &Directory::as_of(&documents, newest)).await
}

/// The owners whose webhooks are paused because their name is another person's now. They are all
/// owners who must be, and besides these only users who are gone again.
pub(crate) async fn recreated(
    database: &Database,
    documents: &[Document],
    newest: i64,
) -> Result<BTreeSet<String>, TestCaseError> {
    const SQL: &str = "
        select owner_key, bool_and(paused) from webhooks
        where paused_reason = 'owner-recreated' group by owner_key";
    let rows = database.client.query(SQL, &[]).await.unwrap();
    let paused: BTreeSet<String> = rows.iter().map(|row| row.try_get(0).unwrap()).collect();
    let expected = Directory::recreated(documents);
    prop_assert!(expected.is_subset(&paused), "{:?} of {:?}", paused, expected);
    let now = Directory::as_of(documents, newest);
    let more: Vec<&String> = paused.difference(&expected).collect();
    prop_assert!(more.iter().all(|key| !now.users.contains_key(*key)), "{:?} too", more);
    prop_assert!(rows.iter().all(|row| row.try_get::<_, bool>(1).unwrap()));
    Ok(paused)
}

/// Checks the answers to the question that workers ask before a retry.
async fn check_now(database: &Database, directory: &Directory) -> Result<(), TestCaseError> {
    let resources: Vec<Resource> = SUBJECTS.iter().map(|it| Resource::parse(it).unwrap()).collect();
    let (mut questions, mut expected) = (Vec::new(), Vec::new());
    let names: HashMap<&str, Name> =
        USERS.iter().map(|name| (*name, Name::parse(name).unwrap())).collect();
    for name in names.values() {
        let enabled = directory.users.get(name.key()).is_some_and(|user| user.enabled);
        for resource in resources.iter().filter(|_| enabled) {
            let scopes = resource.read_scopes().into_iter().map(|(s, t)| (s.name(), t)).collect();
            questions.push(Question { user_key: name.key(), scopes });
            expected.push(directory.may_read(name, resource));
        }
    }
    let may = database.store.may_read(&questions).await.unwrap();
    prop_assert_eq!(may, expected, "{:?}", questions);
    Ok(())
}

/// Runs a check with this many random histories, all on one database with the same webhooks.
pub(crate) fn holds<C>(cases: u32, check: &C)
where
    C: AsyncFn(&Database, &[Webhook], &Case) -> Result<(), TestCaseError>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let webhooks = webhooks();
    let database = runtime.block_on(async {
        let database = Database::new().await;
        for webhook in &webhooks {
            database.store.webhook_add(webhook).await.unwrap();
        }
        database
    });
    let config =
        Config { cases, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config)
        .run(&case(), |case| runtime.block_on(check(&database, &webhooks, &case)));
    runtime.block_on(async { drop(database) });
    result.unwrap();
}

#[test]
fn the_database_decides_as_the_reference_does() {
    // PROPTEST_CASES may ask for more.
    holds(Config::default().cases.max(1000), &check);
}
