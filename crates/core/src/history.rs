//! What the directory says as of a revision, worked out plainly from all its documents.
//!
//! The database answers the same question by indexes; this is what its answers are tested against.

use std::collections::BTreeMap;

use crate::access::{Resource, may_read};
use crate::directory::{Content, Document, RoleDocument, UserDocument};
use crate::name::Name;

/// The directory as of a revision.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    /// The users, by folded name; deleted ones are not there.
    pub users: BTreeMap<String, UserDocument>,
    /// The roles, by folded name; deleted ones are not there.
    pub roles: BTreeMap<String, RoleDocument>,
}

impl Directory {
    /// What holds as of a revision, given all documents in any order. Of those with one revision,
    /// that of a single user or role counts more than a snapshot.
    #[must_use]
    pub fn as_of(documents: &[Document], revision: i64) -> Self {
        let mut known: Vec<&Document> =
            documents.iter().filter(|document| document.revision <= revision).collect();
        let is_single = |it: &Document| !matches!(it.content, Content::Snapshot { .. });
        known.sort_by_key(|document| (document.revision, is_single(document)));
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
            }
        }
        directory
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
