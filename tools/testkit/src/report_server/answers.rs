//! The REST API: signing in, users, roles, permissions, resources and webhooks.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use chrono::DateTime;
use serde_json::{Map, Value, json};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;
use uuid::Uuid;

use super::state::{Dialect, Hook, Kind, State};
use super::{ADMINISTRATOR, posts, reply};
use crate::http::Request;
use crate::mutex::hold;
use crate::receiver::Reply;

/// Answers a request.
pub(super) fn answer(state: &Mutex<State>, request: &Request) -> Reply {
    let path =
        request.path.split('?').next().unwrap_or_default().trim_start_matches('/').to_owned();
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    if let Some(answer) = sign_in(&mut hold(state), &path, request, &body) {
        return answer;
    }
    let Some(user) = caller(&hold(state), request) else {
        return reply(
            401,
            &json!({ "Message": "Authorization has been denied for this request." }),
        );
    };
    if let Some(answer) = fault(&mut hold(state), request) {
        return answer;
    }
    match path.strip_prefix("api/webhooks/") {
        Some(_) if !hold(state).switches.has_webhooks => not_found(),
        Some(rest) => webhooks(state, &user, request, rest, &body),
        None => read(&mut hold(state), &user, &request.method, &path).unwrap_or_else(not_found),
    }
}

fn not_found() -> Reply {
    reply(404, &json!({ "Message": "No HTTP resource was found that matches the request URI." }))
}

/// A page or an error, if it is time for one.
fn fault(state: &mut State, request: &Request) -> Option<Reply> {
    state.calls += 1;
    let is_due = |every: usize| every > 0 && state.calls.is_multiple_of(every);
    let is_change = request.method != "GET";
    if is_due(state.switches.html) || (state.switches.html_for_changes && is_change) {
        return Some(Reply::text(200, "<html><body>Sign in</body></html>"));
    }
    is_due(state.switches.errors).then(|| Reply::text(500, "An error has occurred."))
}

fn caller(state: &State, request: &Request) -> Option<String> {
    let token = request.header("authorization")?.strip_prefix("Bearer ")?;
    let (user, until) = state.tokens.get(token)?;
    (Instant::now() < *until).then(|| user.clone())
}

fn sign_in(state: &mut State, path: &str, request: &Request, body: &Value) -> Option<Reply> {
    let is_net = state.dialect == Dialect::Net;
    let user = match path {
        "Token" => match of_password(state, &request.body) {
            Ok(user) => user,
            Err(refusal) => return Some(refusal),
        },
        "PersonalToken" if is_net => {
            let name = body.as_str().and_then(|token| token.strip_prefix("personal-"));
            let found = state.users.iter().find(|(_, user)| Some(user.name.as_str()) == name);
            let Some((id, _)) = found else { return Some(reply(401, &json!({}))) };
            id.clone()
        }
        "refresh" if is_net => {
            let token = body.get("refreshToken").and_then(Value::as_str).unwrap_or_default();
            let Some((user, _)) = state.tokens.remove(token) else {
                return Some(reply(401, &json!({})));
            };
            user
        }
        "PersonalToken" | "refresh" => return Some(not_found()),
        _ => return None,
    };
    let life = state.switches.token_life;
    let [access, refresh] = [(); 2].map(|()| Uuid::new_v4().simple().to_string());
    state.tokens.insert(access.clone(), (user.clone(), Instant::now() + life));
    state.tokens.insert(refresh.clone(), (user, Instant::now() + Duration::from_hours(48)));
    Some(reply(
        200,
        &if is_net {
            json!({ "accessToken": access, "refreshToken": refresh, "expiresIn": life.as_secs().to_string() })
        } else {
            json!({ "access_token": access, "token_type": "bearer", "expires_in": life.as_secs() })
        },
    ))
}

/// The user whose name and password are in a form, unless the rate limiter or the password refuses it.
fn of_password(state: &mut State, body: &[u8]) -> Result<String, Reply> {
    let now = Instant::now();
    let is_early = state.signed_in.is_some_and(|at| now - at < Duration::from_secs(1));
    state.signed_in = Some(now);
    if state.switches.rate_limit && is_early {
        return Err(Reply::text(409, "The endpoint \"POST:/Token\" is currently not accessible."));
    }
    let form = String::from_utf8_lossy(body).into_owned();
    let part = |name: &str| {
        form.split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };
    let name = part("username").unwrap_or_default();
    let is_right = part("password").as_deref() == Some(ADMINISTRATOR.1)
        || part("password") == Some(format!("pa55word-of-{name}"));
    let found = state.users.iter().find(|(_, user)| user.name == name && user.enabled);
    match found {
        Some((id, _)) if is_right => Ok(id.clone()),
        _ => {
            let error = json!({
                "error": "invalid_grant",
                "error_description": "The user name or password is incorrect.",
            });
            Err(reply(400, &error))
        }
    }
}

/// A list of the API below `api/reportserver`; `None` for a path that there is not.
fn read(state: &mut State, user: &str, method: &str, path: &str) -> Option<Reply> {
    let path = path.strip_prefix("api/reportserver/").filter(|_| method == "GET")?;
    let mut parts: Vec<&str> = path.split('/').collect();
    let version = match parts.first().copied() {
        Some("v1" | "v2" | "v3") => parts.remove(0),
        _ => "v1",
    };
    let is_there = match state.dialect {
        Dialect::Framework => version != "v3",
        Dialect::Net => version != "v1",
    };
    let (roles, is_v3) = if version == "v3" { ("roles", true) } else { ("userroles", false) };
    let in_part = state.switches.v3_in_part && is_v3;
    let is_administrator = state.is_administrator(user);
    if !is_there {
        return None;
    }
    if !is_administrator {
        return Some(reply(403, &json!({})));
    }
    let list: Value = match parts.as_slice() {
        ["users"] if !in_part => {
            let users = state.users.iter().map(|(id, user)| {
                json!({ "Id": id, "Username": user.name, "Email": null, "Enabled": user.enabled })
            });
            users.collect()
        }
        [it] if *it == roles => {
            if state.switches.changes_while_read > 0 {
                state.switches.changes_while_read -= 1;
                let number = state.users.len();
                state.add_user(&format!("newcomer {number}"));
            }
            let list = state.roles.iter().map(|(id, role)| {
                json!({ "Id": id, "Name": role.name, "IsSystemRole": true, "UserIds": role.members })
            });
            list.collect()
        }
        ["users", id, "permissions", category] if !in_part => {
            state.users.get(*id)?;
            state.permissions(id, kind_of(category)?)
        }
        [it, id, "permissions", category] if *it == roles && !in_part => {
            state.roles.get(*id)?;
            state.permissions(id, kind_of(category)?)
        }
        [resources] => {
            let kind = Kind::ALL.into_iter().find(|kind| route(*kind, is_v3) == *resources)?;
            let all = state.resources.iter().filter(|((it, _), _)| *it == kind);
            all.map(|((_, id), category)| {
                let changed = state.changed.get(id).and_then(|at| utc(*at));
                json!({ "Id": id, "Name": id, "CategoryId": category, "LastModifiedDateUtc": changed })
            })
            .collect()
        }
        _ => return None,
    };
    Some(reply(200, &list))
}

/// A time as .NET writes it, without an offset.
fn utc(seconds: u64) -> Option<String> {
    let at = DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0)?;
    Some(at.format("%Y-%m-%dT%H:%M:%S").to_string())
}

fn route(kind: Kind, is_v3: bool) -> &'static str {
    match (kind, is_v3) {
        (Kind::Reports, _) => "reports",
        (Kind::Categories, _) => "categories",
        (Kind::Connections, true) => "data-connections",
        (Kind::Connections, false) => "dataconnections",
        (Kind::Tasks, true) => "scheduled-tasks",
        (Kind::Tasks, false) => "scheduledtasks",
        (Kind::Alerts, true) => "data-alerts",
        (Kind::Alerts, false) => "dataalerts",
    }
}

/// A category of permissions, by name or number.
fn kind_of(category: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| {
        let (number, name) = kind.category();
        name == category || number.to_string() == category
    })
}

/// The webhooks of the caller.
fn webhooks(
    state: &Mutex<State>,
    user: &str,
    request: &Request,
    path: &str,
    body: &Value,
) -> Reply {
    let id = path.strip_prefix("registrations/").map(str::to_owned);
    let is_own = |state: &State, id: &str| state.hooks.get(id).is_some_and(|it| it.creator == user);
    match (request.method.as_str(), path, id) {
        ("GET", "filters", _) => {
            let filters =
                Kind::ALL.map(|kind| json!({ "Name": kind.names().0, "Description": "" }));
            reply(200, &filters.into_iter().collect())
        }
        ("GET", "registrations", _) => {
            let query = request.path.split_once('?').map(|(_, query)| query);
            reply(200, &hold(state).listed(user, query.unwrap_or_default()))
        }
        ("POST", "registrations", _) => {
            let id = Uuid::new_v4().simple().to_string();
            put(state, user, id, body, 201)
        }
        ("PUT", _, Some(id)) if is_own(&hold(state), &id) => put(state, user, id, body, 200),
        ("DELETE", _, Some(id)) if is_own(&hold(state), &id) => {
            hold(state).hooks.remove(&id);
            Reply::status(200)
        }
        _ => not_found(),
    }
}

/// Does something that blocks, while other threads of the runtime go on: the receiver that is asked may be
/// one of its tasks.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    if matches!(flavor, Ok(RuntimeFlavor::MultiThread)) { block_in_place(work) } else { work() }
}

/// Verifies the address first, as the server does.
fn put(state: &Mutex<State>, user: &str, id: String, body: &Value, status: u16) -> Reply {
    let mut hook = Map::new();
    let given = body.as_object().cloned().unwrap_or_default();
    let or = |name: &str, default: Value| given.get(name).cloned().unwrap_or(default);
    hook.insert("Id".to_owned(), json!(id));
    for (name, default) in [
        ("WebHookUri", Value::Null),
        ("Secret", json!(Uuid::new_v4().simple().to_string())),
        ("Description", Value::Null),
        ("IsPaused", json!(false)),
        ("Filters", json!(["*"])),
        ("Headers", json!({})),
        ("Properties", json!({})),
    ] {
        hook.insert(name.to_owned(), or(name, default));
    }
    let uri = hook.get("WebHookUri").and_then(Value::as_str).unwrap_or_default();
    let echo = Uuid::new_v4().simple().to_string();
    if let Err(error) = aside(|| posts::verify(uri, &echo)) {
        let message = format!("Could not register WebHook due to error: {error}");
        return reply(400, &json!({ "Message": message }));
    }
    let answer = Value::Object(hook.clone());
    hold(state).hooks.insert(id, Hook { creator: user.to_owned(), body: hook });
    if status == 201 { reply(201, &answer) } else { Reply::status(status) }
}
