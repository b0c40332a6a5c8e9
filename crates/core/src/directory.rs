//! The directory in: users, roles and their permissions, as whole documents with a revision.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::access::Scope;
use crate::json;
use crate::name::Name;
use crate::reject::{Reason, Reject};

/// A document of the directory, as of a revision.
#[derive(Debug, Clone)]
pub struct Document {
    /// The revision: grows by one with each change that the report server makes.
    pub revision: i64,
    /// What it says.
    pub content: Content,
}

/// The kinds of documents.
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

/// What a directory document says.
#[derive(Debug, Clone)]
pub enum Content {
    /// One user.
    User(UserDocument),
    /// One role.
    Role(RoleDocument),
    /// The whole directory: what is not in it is gone.
    Snapshot {
        /// All users.
        users: Vec<UserDocument>,
        /// All roles.
        roles: Vec<RoleDocument>,
    },
}

/// A user, whole.
#[derive(Debug, Clone)]
pub struct UserDocument {
    /// The name.
    pub name: Name,
    /// Whether the user was deleted; a deleted user is not enabled and has nothing.
    pub deleted: bool,
    /// Whether the user may do anything at all.
    pub enabled: bool,
    /// The roles that the user is a member of, whether or not they exist.
    pub roles: Vec<Name>,
    /// The user's own permissions.
    pub permissions: Vec<Permission>,
    /// The document as published, for people and for what later versions may read from it.
    pub raw: String,
}

/// A role, whole.
#[derive(Debug, Clone)]
pub struct RoleDocument {
    /// The name.
    pub name: Name,
    /// Whether the role was deleted; a deleted role grants nothing.
    pub deleted: bool,
    /// The permissions that its members have.
    pub permissions: Vec<Permission>,
    /// The document as published.
    pub raw: String,
}

/// A permission of a user or role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// The access modes as published, of which `read` decides.
    pub access: Vec<String>,
    /// What it is about.
    pub scope: Scope,
    /// The id of what it is about; empty for the `any-…` scopes.
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

    /// Parses what `fanfare directory import` is given without an envelope:
    /// `{"users": […], "roles": […]}`.
    pub fn bare_snapshot(revision: i64, data: &RawValue) -> Result<Self, Reject> {
        Ok(Self { revision, content: parse_snapshot(data)? })
    }
}

impl UserDocument {
    /// Parses a user's whole document.
    pub fn parse(data: &RawValue) -> Result<Self, Reject> {
        let form: UserForm = serde_json::from_str(data.get()).map_err(|error| bad_data(&error))?;
        Ok(Self {
            name: parse_name(&form.name)?,
            deleted: form.deleted,
            enabled: form.enabled && !form.deleted,
            roles: form.roles.iter().map(|name| parse_name(name)).collect::<Result<_, _>>()?,
            permissions: parse_permissions(form.permissions, form.deleted)?,
            raw: json::compact(data),
        })
    }
}

impl RoleDocument {
    /// Parses a role's whole document.
    pub fn parse(data: &RawValue) -> Result<Self, Reject> {
        let form: RoleForm = serde_json::from_str(data.get()).map_err(|error| bad_data(&error))?;
        Ok(Self {
            name: parse_name(&form.name)?,
            deleted: form.deleted,
            permissions: parse_permissions(form.permissions, form.deleted)?,
            raw: json::compact(data),
        })
    }
}

#[derive(Deserialize)]
struct UserForm {
    name: String,
    #[serde(default)]
    deleted: bool,
    #[serde(default = "yes")]
    enabled: bool,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    permissions: Vec<PermissionForm>,
}

#[derive(Deserialize)]
struct RoleForm {
    name: String,
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    permissions: Vec<PermissionForm>,
}

#[derive(Deserialize)]
struct PermissionForm {
    access: Vec<String>,
    scope: String,
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
    let form: SnapshotForm<'_> =
        serde_json::from_str(data.get()).map_err(|error| bad_data(&error))?;
    Ok(Content::Snapshot {
        users: form.users.into_iter().map(UserDocument::parse).collect::<Result<_, _>>()?,
        roles: form.roles.into_iter().map(RoleDocument::parse).collect::<Result<_, _>>()?,
    })
}

fn parse_permissions(forms: Vec<PermissionForm>, deleted: bool) -> Result<Vec<Permission>, Reject> {
    let permissions = forms.into_iter().map(parse_permission).collect::<Result<Vec<_>, _>>()?;
    Ok(if deleted { Vec::new() } else { permissions })
}

fn parse_permission(form: PermissionForm) -> Result<Permission, Reject> {
    let scope = Scope::parse(&form.scope).ok_or_else(|| {
        let known = Scope::ALL.map(Scope::name).join(", ");
        let detail = format!("there is no scope {:?}; the scopes are {known}", form.scope);
        Reject::new(Reason::BadData, detail)
    })?;
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
    Ok(Permission { access: form.access, scope, target })
}

fn parse_name(text: &str) -> Result<Name, Reject> {
    Name::parse(text).ok_or_else(|| {
        let detail = "a name must have 1 to 256 characters and no control characters";
        Reject::new(Reason::BadData, detail)
    })
}

fn bad_data(error: &serde_json::Error) -> Reject {
    Reject::new(Reason::BadData, format!("the directory document is not of its form: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Resource, may_read};

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
    fn own_permissions_grant_what_they_name() {
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
    fn roles_grant_to_their_members_without_case() {
        let readers =
            [role(r#"{"name":"Readers","permissions":[{"access":["read"],"scope":"any-task"}]}"#)];
        reads(r#"{"name":"a","roles":["READERS"]}"#, &readers, "tasks/t", true);
        reads(r#"{"name":"a","roles":["readers"],"enabled":false}"#, &readers, "tasks/t", false);
        reads(r#"{"name":"a","roles":["others"]}"#, &readers, "tasks/t", false);
        reads(r#"{"name":"a","roles":["system administrator"]}"#, &[], "alerts/x", true);
    }

    #[test]
    fn a_deleted_user_has_nothing() {
        let gone = r#"{"name":"a","deleted":true,"enabled":true,"permissions":[{"access":["read"],"scope":"any-task"}]}"#;
        reads(gone, &[], "tasks/t", false);
    }

    #[test]
    fn documents_of_another_form_are_refused_with_the_place() {
        for text in [
            r#"{"enabled":true}"#,
            r#"{"name":""}"#,
            r#"{"name":"a","permissions":[{"access":["read"],"scope":"galaxy"}]}"#,
            r#"{"name":"a","permissions":[{"access":["read"],"scope":"report"}]}"#,
            r#"{"name":"a","enabled":"no"}"#,
        ] {
            let reject = Document::parse(Kind::User, 1, raw(text)).unwrap_err();
            assert_eq!(reject.reason, Reason::BadData, "{text}");
        }
        let reject = Kind::parse("directory.group").unwrap_err();
        assert_eq!(reject.reason, Reason::BadType);
    }
}
