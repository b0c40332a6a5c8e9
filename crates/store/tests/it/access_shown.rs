//! Property tests: the access that the service shows to people, and its explanations, are those of
//! the reference, for the histories with which the decisions are tested.

use std::collections::BTreeMap;

use fanfare_core::access::administrator_key;
use fanfare_core::directory::{Content, Document, Kind, Permission, RoleDocument, UserDocument};
use fanfare_core::event::Event;
use fanfare_core::explain::{By, Decision, Facts, Grant, OwnerState, WebhookVersion, explain};
use fanfare_core::history::Directory;
use fanfare_core::name::Name;
use fanfare_core::resource::{Resource, Scope};
use fanfare_core::test_event::Readable;
use fanfare_core::webhook::Webhook;
use fanfare_store::access::{Access, Reader};
use fanfare_store::explain::{ExplainFilter, WebhookExplained};
use fanfare_store::routing::{Arrival, Routed};
use proptest::prelude::*;
use proptest::test_runner::Config;
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

use crate::access::{Case, USERS, arrival, arrive, holds, recreated};
use crate::support::{Database, document, reads};

/// The directory as of a revision, and the documents of which it is made.
struct Reference<'a> {
    directory: Directory,
    documents: &'a [Document],
    revision: i64,
}

impl<'a> Reference<'a> {
    fn new(documents: &'a [Document], revision: i64) -> Self {
        Self { directory: Directory::as_of(documents, revision), documents, revision }
    }

    fn user(&self, name: &Name) -> Option<&UserDocument> {
        self.directory.users.get(name.key())
    }

    fn state(&self, name: &Name) -> OwnerState {
        match self.user(name) {
            Some(user) if user.enabled => OwnerState::Enabled,
            Some(_) => OwnerState::Disabled,
            None => OwnerState::Deleted,
        }
    }

    /// The revision of the newest document with this user or role, which is the one in force.
    fn since(&self, names: fn(&Content) -> Vec<&Name>, name: &Name) -> i64 {
        let documents = self.documents.iter().filter(|it| it.revision <= self.revision);
        let documents = documents.filter(|it| names(&it.content).contains(&name));
        documents.map(|it| it.revision).max().unwrap()
    }

    fn roles_of(&self, user: &UserDocument) -> Vec<&RoleDocument> {
        let roles = self.directory.roles.values();
        let mut roles: Vec<_> = roles.filter(|role| user.roles.contains(&role.name)).collect();
        roles.sort_by_key(|role| role.name.as_str());
        roles
    }

    /// All grants that give a user `read` on a resource, if the user is enabled. The deciding one
    /// is first.
    fn grants(&self, user: &UserDocument, resource: &Resource) -> Vec<Grant> {
        let user_since = self.since(users, &user.name);
        let mut grants = Vec::new();
        for (scope, target) in resource.read_scopes() {
            if gives(&user.permissions, scope, target) {
                let permission = Some((scope, target.to_owned()));
                grants.push(Grant { permission, by: By::User, since: user_since });
            }
        }
        for (scope, target) in resource.read_scopes() {
            for role in self.roles_of(user) {
                if gives(&role.permissions, scope, target) {
                    let permission = Some((scope, target.to_owned()));
                    let by = By::Role(role.name.as_str().to_owned());
                    let since = user_since.max(self.since(roles, &role.name));
                    grants.push(Grant { permission, by, since });
                }
            }
        }
        if is_administrator(user) {
            grants.push(Grant { permission: None, by: By::Administrator, since: user_since });
        }
        grants
    }

    /// The grants that count: a user who is not enabled has none.
    fn access(&self, name: &Name, resource: &Resource) -> Access {
        let enabled = self.user(name).filter(|user| user.enabled);
        let grants = enabled.map(|user| self.grants(user, resource)).unwrap_or_default();
        assert_eq!(self.directory.may_read(name, resource), !grants.is_empty());
        Access { state: self.state(name), grants }
    }

    fn readers(&self, resource: &Resource) -> Vec<Reader> {
        let reader = |user: &UserDocument| {
            let grant = self.access(&user.name, resource).grants.into_iter().next()?;
            Some(Reader { user: user.name.as_str().to_owned(), grant })
        };
        self.directory.users.values().filter_map(reader).collect()
    }

    fn readable(&self, name: &Name) -> Readable {
        let Some(user) = self.user(name) else { return Readable::Through(Vec::new()) };
        if is_administrator(user) {
            return Readable::Everything;
        }
        let of_roles = self.roles_of(user).into_iter().flat_map(|role| &role.permissions);
        let mut targets: BTreeMap<&str, (Scope, String)> = BTreeMap::new();
        let all = user.permissions.iter().chain(of_roles).filter(|it| it.grants_read());
        for Permission { scope, target, .. } in all {
            let first = targets.entry(scope.name()).or_insert((*scope, target.clone()));
            first.1 = target.min(&first.1).clone();
        }
        Readable::Through(targets.into_values().collect())
    }
}

fn users(content: &Content) -> Vec<&Name> {
    content.users().iter().map(|user| &user.name).collect()
}

fn roles(content: &Content) -> Vec<&Name> {
    match content {
        Content::Role(role) => vec![&role.name],
        Content::Snapshot { roles, .. } => roles.iter().map(|role| &role.name).collect(),
        Content::User(_) | Content::RefusedSnapshot { .. } => Vec::new(),
    }
}

fn gives(permissions: &[Permission], scope: Scope, target: &str) -> bool {
    let gives = |it: &Permission| it.grants_read() && it.scope == scope && it.target == target;
    permissions.iter().any(gives)
}

fn is_administrator(user: &UserDocument) -> bool {
    user.roles.iter().any(|role| role.key() == administrator_key())
}

async fn check(
    database: &Database,
    webhooks: &[Webhook],
    case: &Case,
) -> Result<(), TestCaseError> {
    database.clear().await;
    arrive(database, case).await;
    let documents = case.documents();
    let newest = case.revisions().newest;
    let names: Vec<Name> = USERS.iter().map(|name| Name::parse(name).unwrap()).collect();
    let events = case.events(&Uuid::new_v4().to_string());
    for (event, name) in events.iter().zip(names.iter().cycle()) {
        let reference = Reference::new(&documents, event.access_revision.unwrap_or(newest));
        let (resource, revision) = (&event.resource, reference.revision);
        let readers = database.store.access_readers(resource, revision).await.unwrap();
        prop_assert_eq!(readers, reference.readers(resource), "{} at {}", resource, revision);
        let access = database.store.access_check(name, resource, revision).await.unwrap();
        prop_assert_eq!(access, reference.access(name, resource), "{} {:?}", name, event);
    }
    let reference = Reference::new(&documents, newest);
    for name in &names {
        check_readable_scopes(database, &reference, name).await?;
    }
    let recreated = recreated(database, &documents, newest).await?;
    let paused = |webhook: &Webhook| webhook.paused || recreated.contains(webhook.owner.key());
    let webhooks: Vec<(&Webhook, bool)> = webhooks.iter().map(|it| (it, paused(it))).collect();
    let arrivals: Vec<Arrival<'_>> = events.iter().map(arrival).collect();
    let routed = database.store.route(&arrivals, Some(Duration::ZERO)).await.unwrap();
    for (event, routed) in events.iter().zip(routed) {
        if let Routed::Accepted { .. } = routed {
            let revision = event.access_revision.unwrap_or(newest);
            check_explained(database, &Reference::new(&documents, revision), &webhooks, event)
                .await?;
        }
    }
    Ok(())
}

/// Checks the scopes that a user may read, of which a test event takes one.
async fn check_readable_scopes(
    database: &Database,
    reference: &Reference<'_>,
    name: &Name,
) -> Result<(), TestCaseError> {
    let mut scopes = database.store.readable_scopes(name).await.unwrap();
    if let Readable::Through(grants) = &mut scopes.readable {
        grants.sort_by_key(|(scope, _)| scope.name());
    }
    prop_assert_eq!(scopes.state, reference.state(name), "{}", name);
    prop_assert_eq!(scopes.readable, reference.readable(name), "{}", name);
    prop_assert_eq!(scopes.revision, reference.revision);
    Ok(())
}

/// Checks the explanation for each webhook, which is given with whether it was paused when the
/// event came.
async fn check_explained(
    database: &Database,
    reference: &Reference<'_>,
    webhooks: &[(&Webhook, bool)],
    event: &Event,
) -> Result<(), TestCaseError> {
    let filter = ExplainFilter { webhook: None, owner: None, limit: webhooks.len() };
    let explained = database.store.explain(event.key, &filter).await.unwrap().unwrap();
    prop_assert_eq!(explained.webhooks.len(), webhooks.len());
    let decision = Decision {
        resource: event.resource.clone(),
        action: event.action.clone(),
        revision: reference.revision,
        kept_from: 0,
        is_test: false,
    };
    for (webhook, paused) in webhooks {
        let found = explained.webhooks.iter().find(|it| it.webhook == webhook.id).unwrap();
        let user = reference.user(&webhook.owner);
        let grants = user.map(|user| reference.grants(user, &event.resource)).unwrap_or_default();
        let may_read = reference.directory.may_read(&webhook.owner, &event.resource);
        let wants = !paused && webhook.filters.accept(event.filter, &event.action);
        let filters = webhook.filters.clone();
        let facts = Facts {
            planned: wants && may_read,
            webhook: Some(WebhookVersion { deleted: false, paused: *paused, filters }),
            owner: reference.state(&webhook.owner),
            grant: grants.into_iter().next(),
            dropped: None,
        };
        let WebhookExplained { owner, explanation, grant, delivery, .. } = found;
        prop_assert_eq!(owner, webhook.owner.as_str());
        prop_assert_eq!(explanation, &explain(&decision, &facts), "{:?}", event);
        prop_assert_eq!(grant.as_ref(), facts.grant_in_force(), "{:?}", event);
        prop_assert_eq!(delivery.is_some(), facts.planned, "{:?}", event);
    }
    Ok(())
}

/// The role that decides is that of the reference, which compares bytes: `Zeta` before `alpha`.
#[tokio::test]
async fn role_that_decides_does_not_depend_on_how_the_database_sorts() {
    let database = Database::sorting_as_people_do().await;
    let permissions = json!([reads("any-report", "")]);
    let role = |name| json!({ "name": name, "permissions": permissions });
    let user = |name| json!({ "name": name, "enabled": true, "roles": ["alpha", "Zeta"] });
    let snapshot = json!({
        "users": [user("anna"), user("_ben")], "roles": [role("alpha"), role("Zeta")]
    });
    let store = &database.store;
    store.directory_apply(&[document(Kind::Snapshot, 1, &snapshot)]).await.unwrap();
    let resource = Resource::parse("categories/c1/reports/r1").unwrap();
    let anna = Name::parse("anna").unwrap();
    let access = store.access_check(&anna, &resource, 1).await.unwrap();
    assert_eq!(access.grants.first().unwrap().by, By::Role("Zeta".to_owned()));
    let readers = store.access_readers(&resource, 1).await.unwrap();
    assert!(readers.iter().all(|reader| reader.grant.by == By::Role("Zeta".to_owned())));
    let users: Vec<&str> = readers.iter().map(|reader| reader.user.as_str()).collect();
    assert_eq!(users, ["_ben", "anna"]);
}

#[test]
fn access_shown_to_people_is_that_of_the_reference() {
    // Half of the number of PROPTEST_CASES, since each case makes several times as many queries.
    holds(Config::default().cases / 2, &check);
}
