//! Checks for a person: whether the report server can be followed, and what to do if not.

use std::collections::HashMap;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use fanfare_core::chain::chain;
use fanfare_outbound::trusted::Client;
use url::Url;

use crate::answers;
use crate::api::Api;
use crate::directory::{Reading, Rules};
use crate::reading::lists;
use crate::registration;
use crate::routes::Routes;

/// The value that the bridge's address must return.
const ECHO: &str = "c0ffee00c0ffee00c0ffee00c0ffee00";
/// How long a notification may take: the report server tries for about five minutes.
const LATE: TimeDelta = TimeDelta::minutes(10);

/// The result of a check: a few words if it passed, or the problem and what to do.
pub type Finding = Result<String, String>;

/// What is checked.
pub struct Checked<'a> {
    pub api: &'a Api,
    /// The client that asks the bridge's own address.
    pub http: &'a Client,
    /// The bridge's address, as the report server reaches it.
    pub url: &'a Url,
    pub rules: &'a Rules,
    /// The time of the newest event of this report server that Fanfare has.
    pub newest_event: Option<DateTime<Utc>>,
    pub now: DateTime<Utc>,
}

/// Runs all checks, each with its name.
pub async fn check(checked: &Checked<'_>) -> Vec<(&'static str, Finding)> {
    let routes = Routes::new();
    let users = users(checked, &routes).await;
    let is_reachable = users.is_ok();
    let mut findings = vec![("report server", users)];
    if is_reachable {
        let (webhook, since) = webhook(checked).await;
        findings.push(("bridge's webhook", webhook));
        findings.push(("notifications", notifications(checked, &routes, since).await));
    }
    findings.push(("bridge's address", address(checked).await));
    findings
}

async fn users(checked: &Checked<'_>, routes: &Routes) -> Finding {
    let (users, roles) = lists(checked.api, routes).await.map_err(|error| chain(&error))?;
    let (of_users, of_roles) = (HashMap::new(), HashMap::new());
    let reading = Reading { users, roles, of_users, of_roles };
    reading.directory(checked.rules).map_err(|error| chain(&error))?;
    Ok(format!("lists {reading} to {}", checked.rules.account))
}

/// Also returns the time from which on the report server posts.
async fn webhook(checked: &Checked<'_>) -> (Finding, Option<DateTime<Utc>>) {
    let own = match registration::own(checked.api, checked.url).await {
        Ok(own) => own,
        Err(error) => return (Err(chain(&error)), None),
    };
    let finding = match own.as_slice() {
        [] => Err(format!(
            "the report server has no webhook with the address {}; start `fanfare bridge`, whose log \
             says what is in the way",
            checked.url
        )),
        [hook] if hook.is_paused => Err("paused at the report server, so that nothing arrives; \
             `fanfare bridge` resumes it within five minutes"
            .to_owned()),
        [hook] if !registration::takes_all(hook) => {
            Err("registered at the report server for some \
             events only; `fanfare bridge` changes that within five minutes"
                .to_owned())
        }
        [_] => Ok("registered at the report server".to_owned()),
        [_, _, ..] => Err("registered more than once, so that each event comes several times; \
             `fanfare bridge` deletes the others within five minutes"
            .to_owned()),
    };
    (finding, own.first().and_then(registration::since))
}

/// The base URL of the report server can't be asked for. If it is wrong, nothing arrives.
async fn notifications(
    checked: &Checked<'_>,
    routes: &Routes,
    since: Option<DateTime<Utc>>,
) -> Finding {
    let body = routes.reports.read(checked.api, "", 0).await.map_err(|error| chain(&error))?;
    let changes = answers::modified(&body)
        .map_err(|error| format!("the report server's list of reports can't be read: {error}"))?;
    let due = checked.now - LATE;
    let newest = changes.into_iter().filter(|at| *at <= due).max();
    arrival(checked.newest_event, newest.filter(|at| since.is_some_and(|since| *at > since)))
}

/// `changed` is the time of the newest change that should have arrived.
fn arrival(event: Option<DateTime<Utc>>, changed: Option<DateTime<Utc>>) -> Finding {
    let shown = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let last = event.map_or_else(
        || "Fanfare has no event of it".to_owned(),
        |at| format!("the newest event of it is of {}", shown(at)),
    );
    match changed {
        Some(changed) if event.is_none_or(|at| at + LATE < changed) => Err(format!(
            "a report was changed at {}, but {last}; in the report server, check the base URL \
             (Configuration > Webhooks): if it is empty or wrong, nothing arrives and no error shows",
            shown(changed)
        )),
        _ => Ok(last),
    }
}

async fn address(checked: &Checked<'_>) -> Finding {
    let mut url = checked.url.clone();
    url.set_query(Some(&format!("echo={ECHO}")));
    let wrong = |what: String| {
        format!(
            "{what}; `fanfare bridge` must run and be reached at {} (FANFARE_BRIDGE_URL), also by \
             the report server",
            checked.url
        )
    };
    match checked.http.get(&url, None).await {
        Ok(answer) if answer.status == 200 && answer.body == ECHO.as_bytes() => {
            Ok("answers as the report server asks when it verifies it".to_owned())
        }
        Ok(answer) => Err(wrong(format!("something else answers, with status {}", answer.status))),
        Err(error) => Err(wrong(chain(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_without_an_event_names_the_base_url() {
        let at = |minute: i64| DateTime::from_timestamp(minute * 60, 0);
        assert!(arrival(None, None).is_ok());
        assert!(arrival(at(100), None).is_ok());
        assert!(arrival(at(100), at(105)).is_ok());
        for event in [None, at(100)] {
            assert!(arrival(event, at(120)).unwrap_err().contains("base URL"));
        }
    }
}
