//! Where each version of the report server's API has what the bridge reads.
//!
//! A server may have a version in part. So the version is found for each list by itself: the first path
//! that answers a list. "No such path" and "bad request" mean the next one; any other failure is one.

use tokio::sync::OnceCell;

use crate::answers::CATEGORIES;
use crate::api::{Api, ApiError};

/// The prefix of all paths.
const API: &str = "api/reportserver";

/// A list that the bridge reads, by its paths from the newest version to the oldest.
#[derive(Debug)]
pub(crate) struct List {
    what: &'static str,
    paths: &'static [&'static str],
    found: OnceCell<&'static str>,
}

impl List {
    const fn new(what: &'static str, paths: &'static [&'static str]) -> Self {
        Self { what, paths, found: OnceCell::const_new() }
    }

    /// Reads the list. `{id}` in its path becomes this id, `{category}` the category of permissions.
    pub(crate) async fn read(
        &self,
        api: &Api,
        id: &str,
        category: usize,
    ) -> Result<Vec<u8>, ApiError> {
        if let Some(path) = self.found.get() {
            return api.get(&filled(path, id, category)).await;
        }
        for path in self.paths {
            match api.get(&filled(path, id, category)).await {
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
                Ok(body) => {
                    let path = self.found.get_or_init(async || *path).await;
                    tracing::info!(path, "the report server lists its {} here", self.what);
                    return Ok(body);
                }
            }
        }
        let tried = self.paths.join(", ");
        Err(ApiError::NotFound(format!("list of {}: tried {tried}", self.what)))
    }
}

fn filled(path: &str, id: &str, category: usize) -> String {
    let name = CATEGORIES.get(category).copied().unwrap_or_default();
    let path = path.replace("{id}", &encoded(id)).replace("{category}", name);
    format!("{API}/{}", path.replace("{number}", &category.to_string()))
}

/// Ids are opaque. One with a slash in it would name another path.
fn encoded(id: &str) -> String {
    id.replace('%', "%25").replace('/', "%2F").replace('?', "%3F")
}

/// The lists of one report server.
#[derive(Debug)]
pub(crate) struct Routes {
    pub(crate) users: List,
    pub(crate) roles: List,
    pub(crate) of_user: List,
    pub(crate) of_role: List,
    pub(crate) reports: List,
    pub(crate) categories: List,
    pub(crate) connections: List,
    pub(crate) tasks: List,
    pub(crate) alerts: List,
}

impl Routes {
    pub(crate) fn new() -> Self {
        Self {
            users: List::new("users", &["v3/users", "v2/users", "users"]),
            roles: List::new("roles", &["v3/roles", "v2/userroles", "userroles"]),
            of_user: List::new(
                "users' permissions",
                &[
                    "v3/users/{id}/permissions/{category}",
                    "v3/users/{id}/permissions/{number}",
                    "v2/users/{id}/permissions/{category}",
                    "v2/users/{id}/permissions/{number}",
                    "users/{id}/permissions/{category}",
                    "users/{id}/permissions/{number}",
                ],
            ),
            of_role: List::new(
                "roles' permissions",
                &[
                    "v3/roles/{id}/permissions/{category}",
                    "v3/roles/{id}/permissions/{number}",
                    "v2/userroles/{id}/permissions/{category}",
                    "v2/userroles/{id}/permissions/{number}",
                    "userroles/{id}/permissions/{category}",
                    "userroles/{id}/permissions/{number}",
                ],
            ),
            reports: List::new("reports", &["v3/reports", "v2/reports", "reports"]),
            categories: List::new("categories", &["v3/categories", "v2/categories", "categories"]),
            connections: List::new(
                "data connections",
                &["v3/data-connections", "v2/dataconnections", "dataconnections"],
            ),
            tasks: List::new(
                "scheduled tasks",
                &["v3/scheduled-tasks", "v2/scheduledtasks", "scheduledtasks"],
            ),
            alerts: List::new("data alerts", &["v3/data-alerts", "v2/dataalerts", "dataalerts"]),
        }
    }

    /// The list in which a permission's target is, by the scope's name in the directory.
    pub(crate) fn of_scope(&self, scope: &str) -> Option<&List> {
        Some(match scope {
            "report" => &self.reports,
            "category" | "reports-in-category" => &self.categories,
            "connection" => &self.connections,
            "task" => &self.tasks,
            "alert" => &self.alerts,
            _ => return None,
        })
    }
}
