//! The accounts of a real installation, from the very files that operators use: `deploy/postgres`
//! and `deploy/rabbitmq`.
//!
//! Every database and virtual host that is made here takes them; [`as_role`] turns the URL of the
//! user who made it, who may do everything, into the URL of one of them.

use anyhow::{Context, Result};
use serde::Deserialize;

/// The SQL that creates missing roles in a cluster.
pub(crate) const ROLES: &str = include_str!("../../../deploy/postgres/roles.sql");

/// The SQL that grants the roles access to a database.
pub(crate) const DATABASE: &str = include_str!("../../../deploy/postgres/database.sql");

const DEFINITIONS: &str = include_str!("../../../deploy/rabbitmq/definitions.json");

/// The database's roles, all of which may log in.
const DATABASE_ROLES: [&str; 6] = [
    "fanfare_migrate",
    "fanfare_router",
    "fanfare_worker",
    "fanfare_console",
    "fanfare_all",
    "fanfare_admin",
];

/// The permissions of a broker user, as regular expressions of names.
#[derive(Debug, Deserialize)]
pub(crate) struct Permission {
    pub(crate) user: String,
    pub(crate) configure: String,
    pub(crate) write: String,
    pub(crate) read: String,
}

/// The broker's users with their permissions.
pub(crate) fn broker_permissions() -> Result<Vec<Permission>> {
    #[derive(Deserialize)]
    struct Definitions {
        permissions: Vec<Permission>,
    }
    let definitions: Definitions =
        serde_json::from_str(DEFINITIONS).context("reading deploy/rabbitmq/definitions.json")?;
    Ok(definitions.permissions)
}

/// The statement that lets all of the database's roles log in with one password.
pub(crate) fn passwords(password: &str) -> String {
    let password = password.replace('\'', "''");
    let one = |role: &&str| format!("alter role {role} password '{password}';");
    DATABASE_ROLES.iter().map(one).collect()
}

/// All of the database's users with one password, as a pooler reads them from a file.
pub(crate) fn users(superuser: &str, password: &str) -> String {
    let one = |user: &str| format!("\"{user}\" \"{password}\"\n");
    DATABASE_ROLES.iter().copied().chain([superuser]).map(one).collect()
}

/// The same URL for another user, who has the same password.
#[must_use]
pub fn as_role(url: &str, role: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{role}:{}@{host}{path}", password_of(url))
}

/// The password in a URL, still encoded; a fixed one if the URL has none.
pub(crate) fn password_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    authority
        .rsplit_once('@')
        .and_then(|(credentials, _)| credentials.split_once(':'))
        .map_or("fanfare", |(_, password)| password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_takes_the_user_s_place() {
        for (url, expected) in [
            ("postgres://u:p@127.0.0.1:5432/x?a=b", "postgres://r:p@127.0.0.1:5432/x?a=b"),
            ("amqp://host/x", "amqp://r:fanfare@host/x"),
            ("amqp://u:p@host:5672", "amqp://r:p@host:5672"),
        ] {
            assert_eq!(as_role(url, "r"), expected);
        }
    }

    #[test]
    fn every_user_of_the_broker_is_known() {
        let permissions = broker_permissions().unwrap();
        let users: Vec<&str> = permissions.iter().map(|it| it.user.as_str()).collect();
        assert_eq!(
            users,
            [
                "report_server",
                "fanfare_router",
                "fanfare_worker",
                "fanfare_console",
                "fanfare_admin"
            ]
        );
        for Permission { user, configure, write, read } in &permissions {
            for words in [configure, write, read] {
                assert!(words.starts_with('^') && words.ends_with('$'), "{user}: {words}");
                assert!(!words.contains(' '), "{user}: {words}");
            }
        }
    }
}
