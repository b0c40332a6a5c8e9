//! Documents of the directory: users, roles and snapshots.

use fanfare_core::directory::{Content, Document, Permission, refused};
use fanfare_core::event::parse_document;
use fanfare_core::name::Name;
use serde_json::value::RawValue;

use super::check_sentence;
use crate::Target;

pub(super) const DOCUMENT: Target = Target {
    name: "document",
    about: "a user, a role or a snapshot: it reads back as it was stored, and if it is refused \
            later, the refusal is about the same user or role",
    check: document,
};

fn document(bytes: &[u8]) {
    let Ok(raw) = serde_json::from_slice::<&RawValue>(bytes) else { return };
    match parse_document(raw) {
        Ok(document) => check(&document),
        Err(reject) => check_sentence(&reject.detail),
    }
    match Document::bare_snapshot(1, raw) {
        Ok(document) => check(&document),
        Err(reject) => check_sentence(&reject.detail),
    }
    if let Some(document) = refused::in_entry("directory.user", raw, "why") {
        assert!(document.content.is_void());
    }
}

/// Checks a document that was accepted.
pub(super) fn check(document: &Document) {
    assert!(document.revision >= 0);
    match &document.content {
        Content::User(user) => {
            assert!(!user.void);
            assert!(!user.deleted || (!user.enabled && user.permissions.is_empty()));
            user.roles.iter().for_each(check_name);
            check_named("directory.user", document, &user.name, &user.permissions, &user.raw);
        }
        Content::Role(role) => {
            assert!(!role.void);
            check_named("directory.role", document, &role.name, &role.permissions, &role.raw);
        }
        Content::Snapshot { users, roles } => {
            let revision = document.revision;
            for user in users {
                check(&Document { revision, content: Content::User(user.clone()) });
            }
            for role in roles {
                check(&Document { revision, content: Content::Role(role.clone()) });
            }
        }
        Content::RefusedSnapshot { .. } => panic!("a document that was refused was accepted"),
    }
    assert!(document.voided("why").content.is_void());
}

fn check_named(
    event_type: &str,
    document: &Document,
    name: &Name,
    permissions: &[Permission],
    raw: &str,
) {
    check_name(name);
    for Permission { scope, target, .. } in permissions {
        assert_eq!(scope.has_target(), !target.is_empty(), "{scope:?} {target:?}");
        assert!(target.chars().count() <= 256 && !target.contains('\0'));
    }
    let data: &RawValue = serde_json::from_str(raw).unwrap_or_else(|error| panic!("{error}"));
    let envelope =
        format!(r#"{{"type":"{event_type}","accessrevision":{},"data":{raw}}}"#, document.revision);
    let again = serde_json::from_str(&envelope).map(|raw: &RawValue| parse_document(raw));
    match again {
        Ok(Ok(again)) => assert_eq!(format!("{again:?}"), format!("{document:?}")),
        other => panic!("{raw} does not read back: {other:?}"),
    }
    // A document that is refused must not leave the grants of its user or role in force.
    let void = refused::of(event_type, Some(document.revision), Some(data), "why");
    let named = void.as_ref().and_then(|void| match &void.content {
        Content::User(user) => Some(&user.name),
        Content::Role(role) => Some(&role.name),
        Content::Snapshot { .. } | Content::RefusedSnapshot { .. } => None,
    });
    assert_eq!(named, Some(name), "{raw}");
}

fn check_name(name: &Name) {
    let shown = name.as_str();
    assert!((1..=256).contains(&shown.chars().count()) && shown == shown.trim());
    assert!(!shown.chars().any(char::is_control) && !name.key().contains('\0'));
}
