//! The directory of the report server, as Fanfare has it: users and roles by name, each with
//! permissions.
//!
//! A reading is what the API answered. It becomes a directory only if it is whole and consistent.
//! Anything else is refused, so that the directory that was published last stays.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use fanfare_core::name::Name;
use serde::{Deserialize, Serialize};

use crate::answers::{self, Role, SCOPES, User};

/// The built-in role whose members may read everything, as the directory names it.
pub const ADMINISTRATORS: &str = "System Administrator";

/// What the API answered.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    pub users: Vec<User>,
    pub roles: Vec<Role>,
    /// The permissions of users, by the users' ids.
    pub of_users: HashMap<String, Vec<answers::Permission>>,
    /// The permissions of roles, by the roles' ids.
    pub of_roles: HashMap<String, Vec<answers::Permission>>,
}

/// Users and roles by their names as they are compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Documents", try_from = "Documents")]
pub struct Directory {
    pub users: BTreeMap<Name, UserDocument>,
    pub roles: BTreeMap<Name, RoleDocument>,
}

/// The documents of a directory: `data` of `directory.snapshot`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Documents {
    users: Vec<UserDocument>,
    roles: Vec<RoleDocument>,
}

impl From<Directory> for Documents {
    fn from(directory: Directory) -> Self {
        let Directory { users, roles } = directory;
        Self { users: users.into_values().collect(), roles: roles.into_values().collect() }
    }
}

impl TryFrom<Documents> for Directory {
    type Error = String;

    fn try_from(documents: Documents) -> Result<Self, String> {
        let name = |name: &str| Name::parse(name).ok_or_else(|| format!("{name:?} is no name"));
        let users = documents.users.into_iter().map(|user| Ok((name(&user.name)?, user)));
        let roles = documents.roles.into_iter().map(|role| Ok((name(&role.name)?, role)));
        Ok(Self {
            users: users.collect::<Result<_, String>>()?,
            roles: roles.collect::<Result<_, String>>()?,
        })
    }
}

/// The whole document of a user: `data` of `directory.user`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserDocument {
    pub name: String,
    pub enabled: bool,
    pub roles: BTreeSet<String>,
    pub permissions: BTreeSet<Permission>,
}

/// The whole document of a role: `data` of `directory.role`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleDocument {
    pub name: String,
    pub permissions: BTreeSet<Permission>,
}

/// A permission in a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Permission {
    /// One of [`SCOPES`], by the directory's name.
    pub scope: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    pub access: BTreeSet<String>,
}

/// Why nothing of a reading is published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the report server lists no users; at least the bridge's own account must be there")]
    NoUsers,
    #[error(
        "the report server does not list the bridge's own account '{0}'; check that it sees all users"
    )]
    NotListed(String),
    #[error(
        "the bridge's account '{0}' is no member of '{ADMINISTRATORS}', so that the report server may \
         show it a part of the users only; add it to the role"
    )]
    NotAdministrator(String),
    #[error(
        "there is no role '{ADMINISTRATORS}'; if it was renamed, name its id in \
         FANFARE_BRIDGE_ADMINISTRATORS_ROLE"
    )]
    NoAdministrators,
    #[error("two {kind} have the name '{name}' (ids {first} and {second}); rename one of them")]
    SameName { kind: &'static str, name: String, first: String, second: String },
    #[error("two {kind} have the id {id}")]
    SameId { kind: &'static str, id: String },
    #[error("the {kind} {id} has no usable name")]
    BadName { kind: &'static str, id: String },
}

/// A permission that is left out, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The user or role that has it.
    pub holder: String,
    /// Its id at the report server.
    pub permission: String,
    pub why: String,
}

/// How a reading becomes a directory.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The name of the bridge's own account.
    pub account: Name,
    /// The id of the administrators' role, if it has another name.
    pub administrators: Option<String>,
}

impl Reading {
    /// Makes a directory, and lists the permissions that it leaves out.
    ///
    /// # Errors
    ///
    /// [`Refused`]: the reading is not whole, or names are not unique.
    pub fn directory(&self, rules: &Rules) -> Result<(Directory, Vec<LeftOut>), Refused> {
        if self.users.is_empty() {
            return Err(Refused::NoUsers);
        }
        let administrators = self.administrators(rules)?;
        let mut left_out = Vec::new();
        let mut directory = Directory::default();
        let mut of_user: HashMap<&str, BTreeSet<String>> = HashMap::new();
        let mut role_names = Names::of("roles");
        for role in &self.roles {
            let name = if role.id == administrators { ADMINISTRATORS } else { &role.name };
            let key = role_names.add(name, &role.id)?;
            for user in &role.users {
                of_user.entry(user).or_default().insert(name.to_owned());
            }
            let held = self.of_roles.get(&role.id).map_or(&[][..], Vec::as_slice);
            let permissions = permissions(name, held, &mut left_out);
            directory.roles.insert(key, RoleDocument { name: name.to_owned(), permissions });
        }
        let mut user_names = Names::of("users");
        for user in &self.users {
            let key = user_names.add(&user.name, &user.id)?;
            let held = self.of_users.get(&user.id).map_or(&[][..], Vec::as_slice);
            let document = UserDocument {
                name: user.name.clone(),
                enabled: user.enabled,
                roles: of_user.remove(user.id.as_str()).unwrap_or_default(),
                permissions: permissions(&user.name, held, &mut left_out),
            };
            directory.users.insert(key, document);
        }
        let Some(own) = directory.users.get(&rules.account) else {
            return Err(Refused::NotListed(rules.account.to_string()));
        };
        if !own.roles.contains(ADMINISTRATORS) {
            return Err(Refused::NotAdministrator(rules.account.to_string()));
        }
        Ok((directory, left_out))
    }

    /// The id of the administrators' role.
    fn administrators(&self, rules: &Rules) -> Result<&str, Refused> {
        let name = Name::parse(ADMINISTRATORS);
        let is_meant = |role: &&Role| match &rules.administrators {
            Some(id) => role.id == *id,
            None => Name::parse(&role.name) == name,
        };
        // A second one is refused with all names that are there twice.
        self.roles
            .iter()
            .find(is_meant)
            .map(|role| role.id.as_str())
            .ok_or(Refused::NoAdministrators)
    }
}

/// The names and ids of one kind, which are unique.
struct Names<'a> {
    kind: &'static str,
    by_name: HashMap<Name, &'a str>,
    ids: HashSet<&'a str>,
}

impl<'a> Names<'a> {
    fn of(kind: &'static str) -> Self {
        Self { kind, by_name: HashMap::new(), ids: HashSet::new() }
    }

    /// Returns the name as it is compared.
    fn add(&mut self, name: &str, id: &'a str) -> Result<Name, Refused> {
        let kind = self.kind;
        if !self.ids.insert(id) {
            return Err(Refused::SameId { kind, id: id.to_owned() });
        }
        let key = Name::parse(name).ok_or_else(|| Refused::BadName { kind, id: id.to_owned() })?;
        if let Some(first) = self.by_name.insert(key.clone(), id) {
            let (first, second) = (first.to_owned(), id.to_owned());
            return Err(Refused::SameName { kind, name: name.to_owned(), first, second });
        }
        Ok(key)
    }
}

fn permissions(
    holder: &str,
    held: &[answers::Permission],
    left_out: &mut Vec<LeftOut>,
) -> BTreeSet<Permission> {
    let mut found = BTreeSet::new();
    for permission in held {
        match mapped(permission) {
            Ok(mapped) => {
                found.insert(mapped);
            }
            Err(why) => left_out.push(LeftOut {
                holder: holder.to_owned(),
                permission: permission.id.clone(),
                why,
            }),
        }
    }
    found
}

/// A permission in the directory's words. One that can't be mapped is left out, which can only take
/// access away.
fn mapped(permission: &answers::Permission) -> Result<Permission, String> {
    let scope = permission.scope.scope();
    let (_, scope, needs_target) = scope
        .and_then(|position| SCOPES.get(position))
        .ok_or_else(|| format!("its scope {} is not known", permission.scope))?;
    let target = if *needs_target {
        let target = permission.resource.clone();
        Some(target.ok_or_else(|| format!("its scope {scope} needs a resource"))?)
    } else {
        None
    };
    let access = permission.access.modes().map(str::to_owned).collect();
    Ok(Permission { scope: (*scope).to_owned(), target, access })
}
