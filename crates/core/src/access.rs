//! The access rule: whether a user may read a resource.
//!
//! A resource can be read through any of a few grants, which [`Resource::read_scopes`] lists. The
//! database looks those up by index. [`may_read`] states the same rule over a directory in memory;
//! the tests compare the database's answers with it.

use crate::directory::{Permission, RoleDocument, UserDocument};
use crate::resource::Resource;

/// The built-in role whose members may read everything.
pub const SYSTEM_ADMINISTRATOR: &str = "System Administrator";

/// Whether a user may read a resource, given all roles of the directory. Permissions only grant;
/// none denies.
#[must_use]
pub fn may_read(user: &UserDocument, roles: &[RoleDocument], resource: &Resource) -> bool {
    let of_roles = || {
        roles
            .iter()
            .filter(|role| user.roles.contains(&role.name))
            .flat_map(|role| &role.permissions)
    };
    let administrator = || user.roles.iter().any(|role| role.key() == administrator_key());
    let scopes = resource.read_scopes();
    let grants = |permission: &Permission| {
        permission.grants_read() && scopes.contains(&(permission.scope, permission.target.as_str()))
    };
    user.enabled && (administrator() || user.permissions.iter().chain(of_roles()).any(grants))
}

/// The folded name of the built-in role, as it is compared and stored.
#[must_use]
pub fn administrator_key() -> String {
    crate::name::fold(SYSTEM_ADMINISTRATOR)
}
