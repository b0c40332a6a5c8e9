//! The directory as of a revision, computed in the simplest way from all its documents.
//!
//! The database computes the same with indexes; the tests compare its answers with these.

use std::collections::{BTreeMap, BTreeSet};

use crate::access::may_read;
use crate::directory::{Content, Document, RoleDocument, UserDocument};
use crate::name::Name;
use crate::resource::Resource;

/// The directory as of a revision.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    /// The users by folded name, without deleted ones.
    pub users: BTreeMap<String, UserDocument>,
    /// The roles by folded name, without deleted ones.
    pub roles: BTreeMap<String, RoleDocument>,
}

impl Directory {
    /// The directory as of a revision, from all documents in any order. Of documents with the same
    /// revision, one of a single user or role takes precedence over a snapshot.
    #[must_use]
    pub fn as_of(documents: &[Document], revision: i64) -> Self {
        let mut known: Vec<&Document> =
            documents.iter().filter(|document| document.revision <= revision).collect();
        known.sort_by_key(|document| (document.revision, document.content.is_single()));
        let mut directory = Self::default();
        for document in known {
            match &document.content {
                Content::User(user) => directory.put_user(user),
                Content::Role(role) => directory.put_role(role),
                Content::Snapshot { users, roles } => {
                    directory = Self::default();
                    users.iter().rev().for_each(|user| directory.put_user(user));
                    roles.iter().rev().for_each(|role| directory.put_role(role));
                }
                Content::RefusedSnapshot { .. } => {}
            }
        }
        directory
    }

    /// Whether events are held, because a snapshot was refused and no newer one has been accepted.
    #[must_use]
    pub fn is_held(documents: &[Document]) -> bool {
        let is_snapshot = |it: &&Document| matches!(it.content, Content::Snapshot { .. });
        let is_refused = |it: &&Document| matches!(it.content, Content::RefusedSnapshot { .. });
        let newest = documents.iter().filter(is_snapshot).map(|it| it.revision).max();
        let refused = documents.iter().filter(is_refused).map(|it| it.revision).max();
        refused > newest
    }

    /// The folded names of users who were deleted, or left out of a snapshot, and were published
    /// again later: each is another person with the same name.
    #[must_use]
    pub fn recreated(documents: &[Document]) -> BTreeSet<String> {
        let mut revisions: Vec<i64> = documents.iter().map(|document| document.revision).collect();
        revisions.sort_unstable();
        revisions.dedup();
        let (mut gone, mut again) = (BTreeSet::new(), BTreeSet::new());
        let mut before = Self::default();
        for revision in revisions {
            let now = Self::as_of(documents, revision);
            let deleted = documents.iter().filter(|document| document.revision == revision);
            let deleted = deleted.flat_map(|document| document.content.users());
            let deleted = deleted.filter(|user| user.deleted).map(|user| user.name.key());
            let left = before.users.keys().map(String::as_str).chain(deleted);
            let left: Vec<String> =
                left.filter(|key| !now.users.contains_key(*key)).map(str::to_owned).collect();
            // Only the last deletion counts.
            again.retain(|key| !left.contains(key));
            gone.extend(left);
            again.extend(now.users.keys().filter(|key| gone.contains(*key)).cloned());
            before = now;
        }
        again
    }

    /// Whether this user may read this resource.
    #[must_use]
    pub fn may_read(&self, user: &Name, resource: &Resource) -> bool {
        let roles: Vec<RoleDocument> = self.roles.values().cloned().collect();
        self.users.get(user.key()).is_some_and(|user| may_read(user, &roles, resource))
    }

    fn put_user(&mut self, user: &UserDocument) {
        let key = user.name.key().to_owned();
        if user.deleted {
            self.users.remove(&key);
        } else {
            self.users.insert(key, user.clone());
        }
    }

    fn put_role(&mut self, role: &RoleDocument) {
        let key = role.name.key().to_owned();
        if role.deleted {
            self.roles.remove(&key);
        } else {
            self.roles.insert(key, role.clone());
        }
    }
}
