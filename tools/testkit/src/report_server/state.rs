//! What the server has: users, roles, permissions, resources and webhooks.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::switches::{Listing, Switches};

/// The two products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Report Server on the .NET Framework: API v1 and v2.
    Framework,
    /// Report Server for .NET: API v3, and v2 in part.
    Net,
}

/// The kind of a resource, by the name of its filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Reports,
    Categories,
    Connections,
    Tasks,
    Alerts,
}

impl Kind {
    pub(super) const ALL: [Self; 5] =
        [Self::Reports, Self::Categories, Self::Connections, Self::Tasks, Self::Alerts];

    /// The filter, the scope of any such resource, and the scope of one.
    pub(super) fn names(self) -> (&'static str, u32, u32) {
        match self {
            Self::Reports => ("reports", 0, 1),
            Self::Categories => ("categories", 3, 4),
            Self::Connections => ("connections", 5, 6),
            Self::Tasks => ("tasks", 7, 8),
            Self::Alerts => ("alerts", 9, 10),
        }
    }

    /// The number and the name of its category of permissions.
    pub(super) fn category(self) -> (u32, &'static str) {
        match self {
            Self::Reports => (0, "Report"),
            Self::Categories => (1, "Category"),
            Self::Connections => (2, "DataConnection"),
            Self::Tasks => (3, "ScheduledTask"),
            Self::Alerts => (4, "DataAlert"),
        }
    }
}

/// A notification that was answered with success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The id of the POST.
    pub post: String,
    /// Its position in the POST.
    pub position: usize,
    /// The id of the resource.
    pub resource: String,
    /// What was done to it.
    pub action: String,
}

/// A user.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) enabled: bool,
}

/// A role.
#[derive(Clone, Debug)]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) members: Vec<String>,
}

/// A webhook.
#[derive(Clone, Debug)]
pub(super) struct Hook {
    pub(super) creator: String,
    pub(super) body: Map<String, Value>,
}

/// A POST to one webhook, with what it tells.
#[derive(Clone, Debug)]
pub(super) struct Post {
    pub(super) id: String,
    pub(super) hook: String,
    pub(super) notifications: Vec<Value>,
}

pub(super) struct State {
    pub(super) dialect: Dialect,
    pub(super) switches: Switches,
    pub(super) users: BTreeMap<String, User>,
    pub(super) roles: BTreeMap<String, Role>,
    /// By the user's or role's id: scope and target.
    pub(super) grants: HashMap<String, Vec<(u32, String)>>,
    /// The resources with their categories.
    pub(super) resources: BTreeMap<(Kind, String), Option<String>>,
    /// When the resources were changed last, in seconds since 1970.
    pub(super) changed: HashMap<String, u64>,
    pub(super) hooks: BTreeMap<String, Hook>,
    /// The tokens with their users and ends.
    pub(super) tokens: HashMap<String, (String, Instant)>,
    pub(super) signed_in: Option<Instant>,
    pub(super) calls: usize,
    pub(super) sent: Vec<Sent>,
    pub(super) waiting: usize,
    pub(super) given_up: usize,
    /// Notifications that wait for others in one POST.
    collected: HashMap<String, Vec<Value>>,
}

/// An id of users, or a shorter one of everything else.
fn new_id(length: usize) -> String {
    let id = Uuid::new_v4().simple().to_string();
    id.chars().take(length).collect()
}

impl State {
    pub(super) fn new(dialect: Dialect) -> Self {
        let mut state = Self {
            dialect,
            switches: Switches::default(),
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            grants: HashMap::new(),
            resources: BTreeMap::new(),
            changed: HashMap::new(),
            hooks: BTreeMap::new(),
            tokens: HashMap::new(),
            signed_in: None,
            calls: 0,
            sent: Vec::new(),
            waiting: 0,
            given_up: 0,
            collected: HashMap::new(),
        };
        let administrator = state.add_user(super::ADMINISTRATOR.0);
        let guest = state.add_user("Guest");
        state.enable_user(&guest, false);
        state.grant(&guest, 0, "");
        state.add_role("System Administrator", &[&administrator]);
        for name in ["Report Creator", "Report Reader", "Data Administrator"] {
            let role = state.add_role(name, &[]);
            for scope in [0, 3, 5, 7] {
                state.grant(&role, scope, "");
            }
        }
        state
    }

    pub(super) fn add_user(&mut self, name: &str) -> String {
        let id = new_id(32);
        self.users.insert(id.clone(), User { name: name.to_owned(), enabled: true });
        id
    }

    pub(super) fn remove_user(&mut self, id: &str) {
        self.users.remove(id);
        self.grants.remove(id);
        for role in self.roles.values_mut() {
            role.members.retain(|member| member != id);
        }
    }

    pub(super) fn enable_user(&mut self, id: &str, enabled: bool) {
        if let Some(user) = self.users.get_mut(id) {
            user.enabled = enabled;
        }
    }

    pub(super) fn rename_user(&mut self, id: &str, name: &str) {
        if let Some(user) = self.users.get_mut(id) {
            name.clone_into(&mut user.name);
        }
    }

    pub(super) fn add_role(&mut self, name: &str, members: &[&str]) -> String {
        let id = new_id(11);
        let members = members.iter().map(|it| (*it).to_owned()).collect();
        self.roles.insert(id.clone(), Role { name: name.to_owned(), members });
        id
    }

    pub(super) fn role(&self, name: &str) -> String {
        let found = self.roles.iter().find(|(_, role)| role.name == name);
        found.map(|(id, _)| id.clone()).unwrap_or_default()
    }

    pub(super) fn set_members(&mut self, role: &str, members: &[&str]) {
        if let Some(role) = self.roles.get_mut(role) {
            role.members = members.iter().map(|it| (*it).to_owned()).collect();
        }
    }

    pub(super) fn grant(&mut self, holder: &str, scope: u32, target: &str) {
        self.grants.entry(holder.to_owned()).or_default().push((scope, target.to_owned()));
    }

    pub(super) fn revoke(&mut self, holder: &str, scope: u32, target: &str) {
        if let Some(grants) = self.grants.get_mut(holder) {
            grants.retain(|grant| *grant != (scope, target.to_owned()));
        }
    }

    /// Whether a user may read a resource.
    fn may_read(&self, user: &str, kind: Kind, id: &str, category: Option<&str>) -> bool {
        if !self.users.get(user).is_some_and(|user| user.enabled) {
            return false;
        }
        let roles = self.roles.iter().filter(|(_, role)| role.members.iter().any(|it| it == user));
        let roles: Vec<(&String, &Role)> = roles.collect();
        if roles.iter().any(|(_, role)| role.name.eq_ignore_ascii_case("System Administrator")) {
            return true;
        }
        let (_, any, one) = kind.names();
        let holders = roles.iter().map(|(id, _)| id.as_str()).chain([user]);
        let mut grants = holders.filter_map(|holder| self.grants.get(holder)).flatten();
        grants.any(|(scope, target)| {
            *scope == any
                || (*scope == one && target == id)
                || (*scope == 2 && kind == Kind::Reports && Some(target.as_str()) == category)
        })
    }

    pub(super) fn readers(&self, category: &str, report: &str) -> Vec<String> {
        let may = |id: &String| self.may_read(id, Kind::Reports, report, Some(category));
        let readers = self.users.iter().filter(|(id, _)| may(id));
        readers.map(|(_, user)| user.name.clone()).collect()
    }

    pub(super) fn create(&mut self, kind: Kind, category: Option<&str>) -> (String, Vec<Post>) {
        let id = new_id(11);
        let category = category.filter(|_| kind == Kind::Reports).map(str::to_owned);
        self.resources.insert((kind, id.clone()), category);
        let action = if kind == Kind::Reports { "upload" } else { "create" };
        let posts = self.act(kind, &id, action);
        (id, posts)
    }

    pub(super) fn delete(&mut self, kind: Kind, id: &str) -> Vec<Post> {
        let posts = self.act(kind, id, "delete");
        self.resources.remove(&(kind, id.to_owned()));
        let (_, _, one) = kind.names();
        for grants in self.grants.values_mut() {
            grants.retain(|(scope, target)| {
                let is_meant = *scope == one || (*scope == 2 && kind == Kind::Categories);
                !(is_meant && target == id)
            });
        }
        posts
    }

    /// The POSTs that tell of an action, to the webhooks whose creators may read the resource.
    pub(super) fn act(&mut self, kind: Kind, id: &str, action: &str) -> Vec<Post> {
        let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        self.changed.insert(id.to_owned(), now);
        if self.switches.no_base_url {
            return Vec::new();
        }
        let category = self.resources.get(&(kind, id.to_owned())).cloned().flatten();
        let (filter, ..) = kind.names();
        let mut notification = Map::new();
        notification.insert("Action".to_owned(), json!(filter));
        notification.insert("UserAction".to_owned(), json!(action));
        notification.insert("Id".to_owned(), json!(id));
        notification.insert("Name".to_owned(), json!(format!("{filter} {id}")));
        notification.insert("Description".to_owned(), Value::Null);
        if kind == Kind::Reports && !self.switches.no_category {
            notification.insert("CategoryId".to_owned(), json!(category));
        }
        let hooks = self.hooks.iter().filter(|(_, hook)| {
            hook.body.get("IsPaused") != Some(&json!(true))
                && self.may_read(&hook.creator, kind, id, category.as_deref())
        });
        let hooks: Vec<String> = hooks.map(|(hook, _)| hook.clone()).collect();
        let mut posts = Vec::new();
        for hook in hooks {
            let collected = self.collected.entry(hook.clone()).or_default();
            collected.push(Value::Object(notification.clone()));
            self.waiting += 1;
            if collected.len() >= self.switches.at_once {
                let notifications = std::mem::take(collected);
                posts.push(Post { id: new_id(32), hook, notifications });
            }
        }
        posts
    }

    pub(super) fn add_webhook(&mut self, creator: &str, url: &str, members: &Value) -> String {
        let id = new_id(32);
        let mut body = Map::new();
        for (name, value) in [
            ("Id", json!(id)),
            ("WebHookUri", json!(url)),
            ("Secret", json!(new_id(32))),
            ("Description", Value::Null),
            ("IsPaused", json!(false)),
            ("Filters", json!(["*"])),
            ("Headers", json!({})),
            ("Properties", json!({})),
        ] {
            body.insert(name.to_owned(), members.get(name).cloned().unwrap_or(value));
        }
        self.hooks.insert(id.clone(), Hook { creator: creator.to_owned(), body });
        id
    }

    pub(super) fn webhook(&self, id: &str) -> Value {
        self.hooks.get(id).map_or(Value::Null, |hook| Value::Object(hook.body.clone()))
    }

    /// The list of webhooks that a user gets.
    pub(super) fn listed(&self, user: &str, query: &str) -> Value {
        let asks_for_all = query == "user=all" && self.is_administrator(user);
        let is_listed = |hook: &&Hook| match self.switches.listing {
            Listing::AllForEveryone => true,
            Listing::AllForAdministrators if asks_for_all => true,
            _ => hook.creator == user,
        };
        let names_users = self.switches.listing == Listing::AllForAdministrators && asks_for_all;
        let entry = |hook: &Hook| {
            let mut body = hook.body.clone();
            if names_users {
                let name = self.users.get(&hook.creator).map(|user| user.name.clone());
                body.insert("User".to_owned(), json!(name));
            }
            Value::Object(body)
        };
        self.hooks.values().filter(is_listed).map(entry).collect()
    }

    pub(super) fn is_administrator(&self, user: &str) -> bool {
        self.roles.values().any(|role| {
            role.name.eq_ignore_ascii_case("System Administrator")
                && role.members.iter().any(|it| it == user)
        })
    }

    pub(super) fn webhooks(&self) -> Vec<(String, bool, String)> {
        let text = |hook: &Hook, name: &str| {
            hook.body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let one = |hook: &Hook| {
            let is_paused = hook.body.get("IsPaused") == Some(&json!(true));
            (text(hook, "WebHookUri"), is_paused, text(hook, "Description"))
        };
        self.hooks.values().map(one).collect()
    }

    pub(super) fn edit_webhooks(&mut self, members: &Value) {
        for (name, value) in members.as_object().into_iter().flatten() {
            for hook in self.hooks.values_mut() {
                hook.body.insert(name.clone(), value.clone());
            }
        }
    }

    pub(super) fn age(&mut self, by: Duration) {
        self.changed.values_mut().for_each(|at| *at = at.saturating_sub(by.as_secs()));
    }

    /// The permissions of a user or role in one category, as the API shows them.
    pub(super) fn permissions(&self, holder: &str, kind: Kind) -> Value {
        let (number, name) = kind.category();
        let (_, any, one) = kind.names();
        let scopes: &[u32] = if kind == Kind::Reports { &[0, 1, 2] } else { &[any, one] };
        let grants = self.grants.get(holder).into_iter().flatten();
        let grants = grants.filter(|(scope, _)| scopes.contains(scope));
        let names = self.switches.names;
        let list = grants.map(|(scope, target)| {
            json!({
                "Id": format!("p{scope}{target}"),
                "PermissionCategory": if names { json!(name) } else { json!(number) },
                "Access": if names { json!("Read, Modify") } else { json!(1) },
                "ResourceId": if target.is_empty() { json!(scope_name(*scope)) } else { json!(target) },
                "Scope": if names { json!(scope_name(*scope)) } else { json!(scope) },
            })
        });
        list.collect()
    }
}

fn scope_name(scope: u32) -> &'static str {
    const NAMES: [&str; 11] = [
        "AnyReport",
        "SpecificReport",
        "ReportsInCategory",
        "AnyCategory",
        "SpecificCategory",
        "AnyDataConnection",
        "SpecificDataConnection",
        "AnyScheduledTask",
        "SpecificScheduledTask",
        "AnyDataAlert",
        "SpecificDataAlert",
    ];
    usize::try_from(scope).ok().and_then(|scope| NAMES.get(scope)).copied().unwrap_or("Unknown")
}
