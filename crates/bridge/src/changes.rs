//! The documents that lead from the directory that was published to the one that was read.
//!
//! A deletion at the report server takes the permissions for the deleted resource with it, and a
//! reading may see that before the notification of the deletion comes. That event must still reach
//! those who could read the resource. So the removal of a permission for one resource is held back:
//! until the resource is seen to exist, since then the permission was revoked, or until the deletion
//! was published, or for [`HOLD`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::name::Name;
use serde::Serialize;
use serde_json::json;

use crate::directory::{Directory, Permission};

/// The longest time for which a removal is held back: the report server gives a notification up after
/// about five minutes.
pub const HOLD: Duration = Duration::from_mins(10);

/// A document to be published, with its own revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `directory.user` or `directory.role`.
    pub event_type: &'static str,
    /// The whole document, JSON.
    pub data: String,
}

/// The resource of a permission: the scope, and the resource's id.
pub type Target = (String, String);

/// A user or role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    User(Name),
    Role(Name),
}

/// The removals that are held back, with the times at which they were first seen.
#[derive(Debug, Clone, Default)]
pub struct Held(BTreeMap<(Holder, Permission), DateTime<Utc>>);

/// What is known of a resource whose permission is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existence {
    /// The report server has it: the permission was revoked.
    Exists,
    /// Its deletion was published.
    Deleted,
    /// Neither is known.
    Unknown,
}

/// The resources of permissions that were published and not read: before the removal, ask whether the
/// report server still has them.
#[must_use]
pub fn missing(published: &Directory, read: &Directory) -> BTreeSet<Target> {
    let removals = removed(published, read);
    removals.into_iter().filter_map(|(_, permission)| target(&permission)).collect()
}

fn target(permission: &Permission) -> Option<Target> {
    Some((permission.scope.clone(), permission.target.clone()?))
}

/// The permissions that holders had and do not have. A holder who is gone or disabled has nothing to
/// hold back: that takes effect at once.
fn removed(published: &Directory, read: &Directory) -> BTreeSet<(Holder, Permission)> {
    let users = published.users.iter().filter_map(|(key, before)| {
        let after = read.users.get(key).filter(|user| user.enabled)?;
        Some((Holder::User(key.clone()), &before.permissions, &after.permissions))
    });
    let roles = published.roles.iter().filter_map(|(key, before)| {
        let after = read.roles.get(key)?;
        Some((Holder::Role(key.clone()), &before.permissions, &after.permissions))
    });
    let of = |(holder, before, after): (Holder, &BTreeSet<_>, &BTreeSet<_>)| {
        let gone = before.difference(after).cloned();
        gone.map(|permission| (holder.clone(), permission)).collect::<Vec<_>>()
    };
    users.chain(roles).flat_map(of).collect()
}

impl Held {
    /// The directory to be published: the one that was read, with the permissions whose removal is
    /// held back.
    #[must_use]
    pub fn keep(
        &mut self,
        published: &Directory,
        read: &Directory,
        now: DateTime<Utc>,
        existence: impl Fn(&Target) -> Existence,
    ) -> Directory {
        let mut next = read.clone();
        let mut held = BTreeMap::new();
        for (holder, permission) in removed(published, read) {
            let Some(target) = target(&permission) else { continue };
            let key = (holder, permission);
            let since = self.0.get(&key).copied().unwrap_or(now);
            // A clock that goes back must not hold it for ever.
            let waited = (now - since).abs().to_std().unwrap_or(HOLD);
            if existence(&target) != Existence::Unknown || waited >= HOLD {
                continue;
            }
            let (holder, permission) = &key;
            let permissions = match holder {
                Holder::User(name) => next.users.get_mut(name).map(|it| &mut it.permissions),
                Holder::Role(name) => next.roles.get_mut(name).map(|it| &mut it.permissions),
            };
            if let Some(permissions) = permissions {
                permissions.insert(permission.clone());
            }
            held.insert(key, since);
        }
        self.0 = held;
        next
    }

    /// The number of removals that are held back.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no removal is held back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The documents that lead from one directory to another. What ends comes first, and roles come
/// before the users who have them.
#[must_use]
pub fn changes(before: &Directory, after: &Directory) -> Vec<Change> {
    let ended = |name: &str| json!({ "name": name, "deleted": true }).to_string();
    let gone_users = before.users.iter().filter(|(key, _)| !after.users.contains_key(*key));
    let gone_users = gone_users.map(|(_, user)| user_change(ended(&user.name)));
    let gone_roles = before.roles.iter().filter(|(key, _)| !after.roles.contains_key(*key));
    let gone_roles = gone_roles.map(|(_, role)| role_change(ended(&role.name)));
    let roles = after.roles.iter().filter(|(key, role)| before.roles.get(*key) != Some(*role));
    let roles = roles.map(|(_, role)| role_change(document(role)));
    let users = after.users.iter().filter(|(key, user)| before.users.get(*key) != Some(*user));
    let users = users.map(|(_, user)| user_change(document(user)));
    gone_users.chain(gone_roles).chain(roles).chain(users).collect()
}

/// A snapshot of at most `limit` bytes that has all users and roles, and of the users' own permissions
/// as many as fit; and the documents of the users that it has without them. `None` if even the names
/// don't fit.
#[must_use]
pub fn partial_snapshot(directory: &Directory, limit: usize) -> Option<(String, Vec<Change>)> {
    let mut part = directory.clone();
    part.users.values_mut().for_each(|user| user.permissions.clear());
    let mut left = limit.checked_sub(snapshot(&part).len())?;
    let mut later = Vec::new();
    for (key, user) in &directory.users {
        let size = document(&user.permissions).len();
        match part.users.get_mut(key) {
            Some(own) if size <= left => own.permissions.clone_from(&user.permissions),
            _ => {
                later.push(user_change(document(user)));
                continue;
            }
        }
        left -= size;
    }
    Some((snapshot(&part), later))
}

fn user_change(data: String) -> Change {
    Change { event_type: "directory.user", data }
}

fn role_change(data: String) -> Change {
    Change { event_type: "directory.role", data }
}

/// The whole directory: `data` of `directory.snapshot`.
#[must_use]
pub fn snapshot(directory: &Directory) -> String {
    document(directory)
}

/// The documents have texts, booleans and lists only, which JSON can always hold.
fn document(of: &impl Serialize) -> String {
    json!(of).to_string()
}
