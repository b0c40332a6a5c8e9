//! The users' webhooks at the report server: they are read for an import, and paused after it.
//!
//! The API lists a user's own webhooks to that user. No documented call lists those of others, so that
//! a webhook is credited to the user who signed in, or to the one whom the report server names.

use std::collections::{BTreeMap, BTreeSet};

use fanfare_core::chain::chain;
use fanfare_core::name::Name;
use fanfare_outbound::trusted::Method;
use serde_json::{Map, Value};
use url::Url;

use crate::answers::{self, Hook};
use crate::api::{Api, ApiError};
use crate::registration::REGISTRATIONS;

/// The list of all users' webhooks. It is not documented, and a server may ignore the query.
const ALL: &str = "api/webhooks/registrations?user=all";

/// The members of a webhook, by which it is changed.
const MEMBERS: [&str; 8] =
    ["Id", "WebHookUri", "Secret", "Description", "IsPaused", "Filters", "Headers", "Properties"];

/// A user of the report server who can sign in.
pub struct Login {
    pub user: Name,
    pub api: Api,
}

/// A webhook with its owner.
#[derive(Debug, Clone)]
pub struct Found {
    pub owner: Name,
    pub hook: Hook,
    /// The position of the login that read it.
    login: usize,
    /// The list in which it was.
    list: &'static str,
}

/// The webhooks that were read.
#[derive(Debug, Default)]
pub struct Takeover {
    pub found: Vec<Found>,
    /// What can't be taken over, each with the reason: a login, or a webhook.
    pub refused: Vec<(String, String)>,
    /// Whether other users may have webhooks that were not read.
    pub is_partial: bool,
}

impl Takeover {
    /// Reads the webhooks of each login. The bridge's own, by its address, is left out.
    pub async fn of_logins(logins: &[Login], bridge: Option<&Url>) -> Self {
        let mut all = Self::default();
        for (login, Login { user, api }) in logins.iter().enumerate() {
            match read(api, REGISTRATIONS).await {
                Ok(hooks) => hooks.into_iter().for_each(|hook| all.add(user, hook, login)),
                Err(why) => all.refused.push((user.to_string(), why)),
            }
        }
        all.without(bridge)
    }

    /// Reads the webhooks of all users, if the report server lists them to an administrator with
    /// their owners; else those of the administrator alone.
    pub async fn of_administrator(login: &Login, bridge: Option<&Url>) -> Self {
        let mut all = Self::default();
        let hooks = read(&login.api, ALL).await.unwrap_or_default();
        // An entry without a user is one of the administrator, and the query was ignored.
        let owner = |hook: &Hook| Name::parse(hook.user.as_deref()?);
        if !hooks.is_empty() && hooks.iter().all(|hook| owner(hook).is_some()) {
            for hook in hooks {
                let Some(owner) = owner(&hook) else { continue };
                all.found.push(Found { owner, hook, login: 0, list: ALL });
            }
            return all.without(bridge);
        }
        let own = Self::of_logins(std::slice::from_ref(login), bridge).await;
        Self { is_partial: true, ..own }
    }

    fn add(&mut self, user: &Name, hook: Hook, login: usize) {
        match &hook.user {
            Some(other) if Name::parse(other).as_ref() != Some(user) => {
                let why = format!("it was listed to {user}, but belongs to {other}");
                self.refused.push((hook.id, why));
            }
            _ => self.found.push(Found { owner: user.clone(), hook, login, list: REGISTRATIONS }),
        }
    }

    /// Leaves out the bridge's own webhook, and those that several logins were shown.
    fn without(mut self, bridge: Option<&Url>) -> Self {
        self.found.retain(|it| bridge.is_none_or(|url| it.hook.url != url.as_str()));
        let mut owners: BTreeMap<&str, BTreeSet<&Name>> = BTreeMap::new();
        for it in &self.found {
            owners.entry(&it.hook.id).or_default().insert(&it.owner);
        }
        let shared: BTreeMap<String, String> = owners
            .into_iter()
            .filter(|(_, owners)| owners.len() > 1)
            .map(|(id, owners)| {
                let names: Vec<&str> = owners.into_iter().map(Name::as_str).collect();
                (id.to_owned(), names.join(" and "))
            })
            .collect();
        self.found.retain(|it| !shared.contains_key(&it.hook.id));
        self.refused.extend(shared.into_iter().map(|(id, names)| {
            (id, format!("it was listed to {names}, so that its owner is not known"))
        }));
        self
    }
}

async fn read(api: &Api, path: &str) -> Result<Vec<Hook>, String> {
    let body = api.get(path).await.map_err(|error| match error {
        ApiError::SignIn(why) => {
            format!("the report server refuses the user's name or password ({why})")
        }
        ApiError::NotFound(_) => {
            "the report server has no webhooks: its version has none, or its base URL is empty \
             (Configuration > Webhooks)"
                .to_owned()
        }
        error => chain(&error),
    })?;
    let list = answers::hooks(&body);
    list.map_err(|error| format!("the report server's list of webhooks can't be read: {error}"))
}

/// Pauses a webhook at the report server, with everything else as it is. The report server verifies
/// its address then.
///
/// # Errors
///
/// The reason as a sentence.
pub async fn pause(logins: &[Login], found: &Found) -> Result<(), String> {
    let login = logins.get(found.login).ok_or("its login is not known")?;
    if found.hook.secret.is_none() {
        let why = "the report server does not show its secret, and would make a new one";
        return Err(why.to_owned());
    }
    let mut body = Map::new();
    for name in MEMBERS {
        if let Some(value) = found.hook.members.get(&name.to_ascii_lowercase()) {
            body.insert(name.to_owned(), value.clone());
        }
    }
    body.insert("IsPaused".to_owned(), Value::Bool(true));
    let path = format!("{REGISTRATIONS}/{}", found.hook.id);
    let paused = login.api.put(Method::PUT, &path, Value::Object(body).to_string()).await;
    paused.map_err(|error| chain(&error))?;
    // The answer to the change may be that of a proxy.
    let listed = read(&login.api, found.list).await?;
    if listed.iter().any(|hook| hook.id == found.hook.id && hook.is_paused) {
        return Ok(());
    }
    let why = "the report server accepted the change, and does not list it as paused; is there a \
               proxy before it that answers in its place?";
    Err(why.to_owned())
}
