//! The documents of the directory: users, roles and their permissions, each with a revision.
//!
//! An unknown scope or access mode is ignored, because it could only grant. Any other error refuses
//! the document, and [`refused`] says which grants that voids.

pub mod refused;

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json;
use crate::name::Name;
use crate::reject::{Reason, Reject};
use crate::resource::Scope;

/// A document of the directory, as of a revision.
#[derive(Debug, Clone)]
pub struct Document {
    /// The revision: grows by one with each change that the report server makes.
    pub revision: i64,
    /// The user, the role or the whole directory.
    pub content: Content,
}

/// The kind of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `directory.user`
    User,
    /// `directory.role`
    Role,
    /// `directory.snapshot`
    Snapshot,
}

impl Kind {
    /// The kind that an event's type names, compared without case.
    pub fn parse(event_type: &str) -> Result<Self, Reject> {
        match event_type.to_ascii_lowercase().as_str() {
            "directory.user" => Ok(Self::User),
            "directory.role" => Ok(Self::Role),
            "directory.snapshot" => Ok(Self::Snapshot),
            _ => {
                let detail = format!(
                    "there is no directory document {event_type:?}; \
                     there are directory.user, directory.role and directory.snapshot"
                );
                Err(Reject::new(Reason::BadType, detail))
            }
        }
    }
}

/// The content of a directory document.
#[derive(Debug, Clone)]
pub enum Content {
    /// One user.
    User(UserDocument),
    /// One role.
    Role(RoleDocument),
    /// The whole directory. A user or role that is not in it is deleted.
    Snapshot {
        /// All users.
        users: Vec<UserDocument>,
        /// All roles.
        roles: Vec<RoleDocument>,
    },
    /// A snapshot that was refused. It may have revoked any grant, so all events are held.
    RefusedSnapshot {
        /// Why it was refused, for a person.
        why: String,
    },
}

impl Content {
    /// Whether it is the document of a single user or role.
    #[must_use]
    pub fn is_single(&self) -> bool {
        matches!(self, Self::User(_) | Self::Role(_))
    }

    /// Whether the document was refused, so that it grants nothing.
    #[must_use]
    pub fn is_void(&self) -> bool {
        match self {
            Self::User(user) => user.void,
            Self::Role(role) => role.void,
            Self::Snapshot { .. } => false,
            Self::RefusedSnapshot { .. } => true,
        }
    }

    /// The users in the document.
    #[must_use]
    pub fn users(&self) -> &[UserDocument] {
        match self {
            Self::User(user) => std::slice::from_ref(user),
            Self::Snapshot { users, .. } => users,
            Self::Role(_) | Self::RefusedSnapshot { .. } => &[],
        }
    }
}

/// A user, whole.
#[derive(Debug, Clone)]
pub struct UserDocument {
    /// The name.
    pub name: Name,
    /// Whether the user was deleted; a deleted user is not enabled and has no permissions.
    pub deleted: bool,
    /// Whether the user's permissions count; a disabled user may read nothing.
    pub enabled: bool,
    /// Whether the document was refused, so that it grants nothing.
    pub void: bool,
    /// The roles that the user is a member of, whether or not they exist.
    pub roles: Vec<Name>,
    /// The user's own permissions.
    pub permissions: Vec<Permission>,
    /// The document as published, for people, and for members that only a later version knows.
    pub raw: String,
}

/// A role, whole.
#[derive(Debug, Clone)]
pub struct RoleDocument {
    /// The name.
    pub name: Name,
    /// Whether the role was deleted; a deleted role grants nothing.
    pub deleted: bool,
    /// Whether the document was refused, so that it grants nothing.
    pub void: bool,
    /// The permissions that its members have.
    pub permissions: Vec<Permission>,
    /// The document as published.
    pub raw: String,
}

/// A permission of a user or role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// The access modes as published; only `read` is used here.
    pub access: Vec<String>,
    /// The resources that it covers.
    pub scope: Scope,
    /// The id of the resource or category; empty for the `any-…` scopes.
    pub target: String,
}

impl Permission {
    /// Whether `read` is among the access modes.
    #[must_use]
    pub fn grants_read(&self) -> bool {
        self.access.iter().any(|mode| mode == "read")
    }
}

impl Document {
    /// Parses the data of a document of this kind.
    pub fn parse(kind: Kind, revision: i64, data: &RawValue) -> Result<Self, Reject> {
        let content = match kind {
            Kind::User => Content::User(UserDocument::parse(data)?),
            Kind::Role => Content::Role(RoleDocument::parse(data)?),
            Kind::Snapshot => parse_snapshot(data)?,
        };
        Ok(Self { revision, content })
    }

    /// Parses a snapshot without an envelope, as `fanfare directory import` accepts it:
    /// `{"users": […], "roles": […]}`.
    pub fn bare_snapshot(revision: i64, data: &RawValue) -> Result<Self, Reject> {
        refuse_other_spellings(data, &["accessrevision"])?;
        Ok(Self { revision, content: parse_snapshot(data)? })
    }
}

impl UserDocument {
    /// Parses a user's whole document.
    pub fn parse(data: &RawValue) -> Result<Self, Reject> {
        refuse_other_spellings(data, &["name", "deleted", "enabled", "roles", "permissions"])?;
        let form: UserForm<'_> =
            serde_json::from_str(data.get()).map_err(|error| bad_data(&error))?;
        Ok(Self {
            name: parse_name(&form.name)?,
            deleted: form.deleted,
            enabled: form.enabled && !form.deleted,
            void: false,
            roles: form.roles.iter().map(|name| parse_name(name)).collect::<Result<_, _>>()?,
            permissions: parse_permissions(&form.permissions, form.deleted)?,
            raw: json::compact(data),
        })
    }
}

impl RoleDocument {
    /// Parses a role's whole document.
    pub fn parse(data: &RawValue) -> Result<Self, Reject> {
        refuse_other_spellings(data, &["name", "deleted", "permissions"])?;
        let form: RoleForm<'_> =
            serde_json::from_str(data.get()).map_err(|error| bad_data(&error))?;
        Ok(Self {
            name: parse_name(&form.name)?,
            deleted: form.deleted,
            void: false,
            permissions: parse_permissions(&form.permissions, form.deleted)?,
            raw: json::compact(data),
        })
    }
}

#[derive(Deserialize)]
struct UserForm<'a> {
    name: String,
    #[serde(default)]
    deleted: bool,
    #[serde(default = "yes")]
    enabled: bool,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(borrow, default)]
    permissions: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct RoleForm<'a> {
    name: String,
    #[serde(default)]
    deleted: bool,
    #[serde(borrow, default)]
    permissions: Vec<&'a RawValue>,
}

/// The part of a permission that is read first, because the rest depends on it.
#[derive(Deserialize)]
struct ScopeForm {
    scope: String,
}

/// A permission whose scope is known.
#[derive(Deserialize)]
struct PermissionForm {
    access: Vec<String>,
    target: Option<String>,
}

#[derive(Deserialize)]
struct SnapshotForm<'a> {
    #[serde(borrow, default)]
    users: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    roles: Vec<&'a RawValue>,
}

fn yes() -> bool {
    true
}

fn parse_snapshot(data: &RawValue) -> Result<Content, Reject> {
    refuse_other_spellings(data, &["users", "roles"])?;
    let form: SnapshotForm<'_> =
        serde_json::from_str(data.get()).map_err(|error| bad_data(&error))?;
    Ok(Content::Snapshot {
        users: form.users.into_iter().map(UserDocument::parse).collect::<Result<_, _>>()?,
        roles: form.roles.into_iter().map(RoleDocument::parse).collect::<Result<_, _>>()?,
    })
}

/// Refuses a member whose name differs only by case from a known one. If `Enabled` were ignored as
/// unknown, a disabled user would count as enabled.
fn refuse_other_spellings(data: &RawValue, known: &[&str]) -> Result<(), Reject> {
    let members: HashMap<Cow<'_, str>, &RawValue> =
        serde_json::from_str(data.get()).map_err(|error| bad_data(&error))?;
    for member in members.keys() {
        let known = known.iter().find(|known| known.eq_ignore_ascii_case(member));
        if let Some(known) = known.filter(|known| **known != member) {
            let detail = format!("the member {member:?} of the directory document must be {known}");
            return Err(Reject::new(Reason::BadData, detail));
        }
    }
    Ok(())
}

fn parse_permissions(raw: &[&RawValue], deleted: bool) -> Result<Vec<Permission>, Reject> {
    let mut permissions = Vec::with_capacity(raw.len());
    for raw in raw {
        permissions.extend(parse_permission(raw)?);
    }
    Ok(if deleted { Vec::new() } else { permissions })
}

/// Returns `None` for a permission with an unknown scope: it can't grant `read` on any resource
/// that is known here.
fn parse_permission(raw: &RawValue) -> Result<Option<Permission>, Reject> {
    refuse_other_spellings(raw, &["access", "scope", "target"])?;
    let form: ScopeForm = serde_json::from_str(raw.get()).map_err(|error| bad_data(&error))?;
    let Some(scope) = Scope::parse(&form.scope) else { return Ok(None) };
    let form: PermissionForm = serde_json::from_str(raw.get()).map_err(|error| bad_data(&error))?;
    let target = form.target.unwrap_or_default();
    if scope.has_target() && (target.is_empty() || target.contains('\0')) {
        let detail = format!("a permission with scope {} needs a target", scope.name());
        return Err(Reject::new(Reason::BadData, detail));
    }
    if target.chars().count() > 256 {
        let detail = "the target of a permission has more than 256 characters";
        return Err(Reject::new(Reason::BadData, detail));
    }
    let target = if scope.has_target() { target } else { String::new() };
    Ok(Some(Permission { access: form.access, scope, target }))
}

fn parse_name(text: &str) -> Result<Name, Reject> {
    Name::parse(text).ok_or_else(|| {
        let detail = "a name must have 1 to 256 characters and no control characters";
        Reject::new(Reason::BadData, detail)
    })
}

fn bad_data(error: &serde_json::Error) -> Reject {
    Reject::new(Reason::BadData, format!("the directory document is not valid: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::may_read;
    use crate::resource::Resource;

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    fn user(text: &str) -> UserDocument {
        match Document::parse(Kind::User, 1, raw(text)).unwrap().content {
            Content::User(user) => user,
            other => panic!("expected a user, got {other:?}"),
        }
    }

    fn role(text: &str) -> RoleDocument {
        match Document::parse(Kind::Role, 1, raw(text)).unwrap().content {
            Content::Role(role) => role,
            other => panic!("expected a role, got {other:?}"),
        }
    }

    #[track_caller]
    fn reads(user_text: &str, roles: &[RoleDocument], subject: &str, expected: bool) {
        let resource = Resource::parse(subject).unwrap();
        assert_eq!(may_read(&user(user_text), roles, &resource), expected, "{user_text} {subject}");
    }

    const REPORT: &str = "categories/c1/reports/r1";

    #[test]
    fn a_permission_grants_read_on_its_scope_and_target_only() {
        let in_category = r#"{"name":"a","permissions":[{"access":["read"],"scope":"reports-in-category","target":"c1"}]}"#;
        reads(in_category, &[], REPORT, true);
        reads(in_category, &[], "categories/c2/reports/r1", false);
        reads(in_category, &[], "categories/c1", false);
        let category =
            r#"{"name":"a","permissions":[{"access":["read"],"scope":"category","target":"c1"}]}"#;
        reads(category, &[], "categories/c1", true);
        reads(category, &[], REPORT, false);
        let modify = r#"{"name":"a","permissions":[{"access":["modify"],"scope":"any-report"}]}"#;
        reads(modify, &[], REPORT, false);
    }

    #[test]
    fn a_role_grants_to_members_whose_spelling_differs_by_case() {
        let readers =
            [role(r#"{"name":"Readers","permissions":[{"access":["read"],"scope":"any-task"}]}"#)];
        reads(r#"{"name":"a","roles":["READERS"]}"#, &readers, "tasks/t", true);
        reads(r#"{"name":"a","roles":["readers"],"enabled":false}"#, &readers, "tasks/t", false);
        reads(r#"{"name":"a","roles":["others"]}"#, &readers, "tasks/t", false);
        reads(r#"{"name":"a","roles":["system administrator"]}"#, &[], "alerts/x", true);
    }

    #[test]
    fn a_deleted_user_may_read_nothing() {
        let gone = r#"{"name":"a","deleted":true,"enabled":true,"permissions":[{"access":["read"],"scope":"any-task"}]}"#;
        reads(gone, &[], "tasks/t", false);
    }

    #[test]
    fn unknown_scopes_and_access_modes_are_kept_and_grant_nothing() {
        let text = r#"{"name":"a","permissions":[{"access":["read"],"scope":"dashboard","target":{"id":1}},
            {"access":["read","admire"],"scope":"any-task"},{"access":["admire"],"scope":"any-report"}]}"#;
        reads(text, &[], "tasks/t", true);
        reads(text, &[], REPORT, false);
        assert!(user(text).raw.contains("dashboard"));
    }

    #[test]
    fn malformed_documents_are_refused_as_bad_data() {
        for text in [
            r#"{"enabled":true}"#,
            r#"{"name":""}"#,
            r#"{"name":"a","permissions":[{"access":["read"]}]}"#,
            r#"{"name":"a","permissions":[{"access":["read"],"scope":"report"}]}"#,
            r#"{"name":"a","permissions":[{"access":"read","scope":"any-report"}]}"#,
            r#"{"name":"a","Enabled":false}"#,
            r#"{"name":"a","enabled":"no"}"#,
        ] {
            let reject = Document::parse(Kind::User, 1, raw(text)).unwrap_err();
            assert_eq!(reject.reason, Reason::BadData, "{text}");
        }
        let reject = Kind::parse("directory.group").unwrap_err();
        assert_eq!(reject.reason, Reason::BadType);
    }
}
