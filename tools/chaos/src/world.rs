//! The owners, what each may read at which revision, and their webhooks: the plain reference with
//! which the ledger is compared.

use serde_json::{Value, json};

/// The number of owners. Each has [`WEBHOOKS_OF_OWNER`] webhooks.
pub(crate) const OWNERS: usize = 10;

/// The webhooks of an owner.
pub(crate) const WEBHOOKS_OF_OWNER: usize = 4;

/// The number of webhooks.
pub(crate) const WEBHOOKS: usize = OWNERS * WEBHOOKS_OF_OWNER;

/// An owner, by number.
pub(crate) type Owner = usize;

/// A webhook, by number: those of an owner follow each other.
pub(crate) type Webhook = usize;

/// The owner of a webhook.
pub(crate) fn owner_of(webhook: Webhook) -> Owner {
    webhook / WEBHOOKS_OF_OWNER
}

/// The name of an owner.
pub(crate) fn owner_name(owner: Owner) -> String {
    format!("owner-{owner}")
}

/// The filters of a webhook; none means all.
pub(crate) fn filters(webhook: Webhook) -> &'static [&'static str] {
    match webhook % WEBHOOKS_OF_OWNER {
        0 => &[],
        1 => &["tasks", "alerts"],
        2 => &["reports"],
        _ => &["categories", "connections"],
    }
}

/// The kinds of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Report,
    Category,
    Connection,
    Task,
    Alert,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Report, Self::Category, Self::Connection, Self::Task, Self::Alert];

    pub(crate) fn filter(self) -> &'static str {
        match self {
            Self::Report => "reports",
            Self::Category => "categories",
            Self::Connection => "connections",
            Self::Task => "tasks",
            Self::Alert => "alerts",
        }
    }

    fn scope(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Category => "category",
            Self::Connection => "connection",
            Self::Task => "task",
            Self::Alert => "alert",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A resource: one of an owner's own, or one that all owners may always read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) kind: Kind,
    /// None: everybody's.
    pub(crate) of: Option<Owner>,
}

impl Resource {
    fn id(self) -> String {
        self.of.map_or_else(|| "everybody".to_owned(), |owner| format!("own-{owner}"))
    }

    pub(crate) fn subject(self) -> String {
        match self.kind {
            Kind::Report => format!("categories/c1/reports/{}", self.id()),
            kind => format!("{}/{}", kind.filter(), self.id()),
        }
    }
}

/// Which of its own resources an owner may read: a bit for each kind.
pub(crate) type Grants = u8;

/// All kinds.
pub(crate) const ALL_GRANTS: Grants = 0b1_1111;

/// What each owner may read, from which revision on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Directory {
    /// For each owner: revision and grants, in the order of revisions.
    versions: Vec<Vec<(i64, Grants)>>,
    revision: i64,
}

impl Directory {
    /// A directory in which every owner may read all of its own.
    pub(crate) fn new() -> Self {
        Self { versions: vec![vec![(1, ALL_GRANTS)]; OWNERS], revision: 1 }
    }

    /// The newest revision.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// Changes what an owner may read; returns the document that says so.
    pub(crate) fn change(&mut self, owner: Owner, grants: Grants) -> Value {
        self.revision += 1;
        self.versions[owner].push((self.revision, grants));
        json!({
            "specversion": "1.0", "id": format!("directory-{}", self.revision), "source": SOURCE,
            "type": "directory.user", "accessrevision": self.revision,
            "data": user(owner, grants),
        })
    }

    /// The snapshot with which the directory begins.
    pub(crate) fn snapshot() -> Value {
        let users: Vec<Value> = (0..OWNERS).map(|owner| user(owner, ALL_GRANTS)).collect();
        json!({
            "specversion": "1.0", "id": "directory-1", "source": SOURCE,
            "type": "directory.snapshot", "accessrevision": 1,
            "data": { "users": users, "roles": [] },
        })
    }

    /// The versions of an owner.
    pub(crate) fn versions(&self, owner: Owner) -> &[(i64, Grants)] {
        &self.versions[owner]
    }

    /// Whether an owner may read a resource as of a revision.
    pub(crate) fn may_read(&self, owner: Owner, resource: Resource, revision: i64) -> bool {
        let Some(of) = resource.of else { return true };
        let version = self.versions[owner].iter().rev().find(|(from, _)| *from <= revision);
        of == owner && version.is_some_and(|(_, grants)| allows(*grants, resource))
    }

    /// Whether an event of a resource is for a webhook, as of a revision.
    pub(crate) fn plans(&self, webhook: Webhook, resource: Resource, revision: i64) -> bool {
        let filters = filters(webhook);
        let wants = filters.is_empty() || filters.contains(&resource.kind.filter());
        wants && self.may_read(owner_of(webhook), resource, revision)
    }
}

/// Whether grants allow to read an own resource.
pub(crate) fn allows(grants: Grants, resource: Resource) -> bool {
    grants & resource.kind.bit() != 0
}

/// The `source` of all events.
pub(crate) const SOURCE: &str = "/chaos";

fn user(owner: Owner, grants: Grants) -> Value {
    let own = Kind::ALL.into_iter().filter(|kind| grants & kind.bit() != 0);
    let own = own.map(|kind| Resource { kind, of: Some(owner) });
    let everybodys = Kind::ALL.into_iter().map(|kind| Resource { kind, of: None });
    let permission =
        |it: Resource| json!({ "access": ["read"], "scope": it.kind.scope(), "target": it.id() });
    let permissions: Vec<Value> = own.chain(everybodys).map(permission).collect();
    json!({ "name": owner_name(owner), "roles": [], "permissions": permissions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_is_that_of_the_revision() {
        let mut directory = Directory::new();
        let task = Resource { kind: Kind::Task, of: Some(3) };
        directory.change(3, ALL_GRANTS & !Kind::Task.bit());
        directory.change(3, ALL_GRANTS);
        let may = |revision| directory.may_read(3, task, revision);
        assert_eq!([1, 2, 3, 4].map(may), [true, false, true, true]);
        assert!(!directory.may_read(4, task, 3));
    }

    #[test]
    fn plan_has_the_readers_webhooks_that_want_the_kind() {
        let directory = Directory::new();
        let own = Resource { kind: Kind::Report, of: Some(2) };
        let plan = |resource| -> Vec<Webhook> {
            (0..WEBHOOKS).filter(|webhook| directory.plans(*webhook, resource, 1)).collect()
        };
        assert_eq!(plan(own), [8, 10]);
        let everybodys = Resource { kind: Kind::Alert, of: None };
        assert_eq!(plan(everybodys).len(), 2 * OWNERS);
    }
}
