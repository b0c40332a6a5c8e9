//! The bridge's webhook at the report server: one, with the bridge's address and secret, not paused.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use fanfare_core::chain::chain;
use fanfare_core::webhook::Secret;
use fanfare_metrics::Bridge;
use fanfare_outbound::trusted::Method;
use serde::Serialize;
use serde_json::json;
use tokio::time::sleep;
use url::Url;

use crate::answers::{self, Hook, Unreadable};
use crate::api::{Api, ApiError};
use crate::clock::Clock;

pub(crate) const REGISTRATIONS: &str = "api/webhooks/registrations";
const FILTERS: &str = "api/webhooks/filters";
/// How often the registration is looked at: a person may pause or delete it.
const EVERY: Duration = Duration::from_mins(5);
/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(15);
/// The description by which people recognise it in the report server.
const DESCRIPTION: &str = "Fanfare bridge";
/// The property that has the time from which on the report server posts to it.
const SINCE: &str = "FanfareSince";

/// Why the webhook is not registered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetUpError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(
        "this report server has no webhooks at {FILTERS}: its version has none, or they are off \
         because its base URL is empty (Configuration > Webhooks)"
    )]
    NoWebhooks,
    #[error("the report server's list of webhooks can't be read: {0}")]
    Unreadable(#[from] Unreadable),
    #[error(
        "the report server accepted the bridge's webhook, and does not list it as it was sent; is there \
         a proxy before it that answers in its place?"
    )]
    NotKept,
}

/// Registers the webhook, and looks after it for ever. `url` is the bridge's address as the report
/// server reaches it.
pub(crate) async fn run(api: &Api, url: &Url, secret: &Secret, clock: &Clock, metrics: &Bridge) {
    loop {
        let done = set_up(api, url, secret, clock.now()).await;
        metrics.registered(done.is_ok());
        match done {
            Ok(Some(done)) => tracing::info!(%url, "{done}"),
            Ok(None) => {}
            Err(error) => {
                let error = chain(&error);
                tracing::error!(error, %url, "the bridge's webhook is not registered");
                sleep(PAUSE).await;
                continue;
            }
        }
        sleep(EVERY).await;
    }
}

/// The bridge's registrations: those of its account that have its address.
pub(crate) async fn own(api: &Api, url: &Url) -> Result<Vec<Hook>, SetUpError> {
    match api.get(FILTERS).await {
        Err(ApiError::NotFound(_)) => return Err(SetUpError::NoWebhooks),
        other => other.map(drop)?,
    }
    let all = answers::hooks(&api.get(REGISTRATIONS).await?)?;
    Ok(all.into_iter().filter(|it| it.url == url.as_str()).collect())
}

/// The time from which on the report server posts to a registration, if it keeps that.
pub(crate) fn since(hook: &Hook) -> Option<DateTime<Utc>> {
    let text = hook.properties.get(SINCE)?.as_str()?;
    Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc())
}

/// Returns what was done; `None` if nothing was to do.
async fn set_up(
    api: &Api,
    url: &Url,
    secret: &Secret,
    now: DateTime<Utc>,
) -> Result<Option<&'static str>, SetUpError> {
    let Some(done) = change(api, url, secret, now).await? else { return Ok(None) };
    // The answer to the change may be that of a proxy.
    let kept = own(api, url).await?;
    if matches!(&kept[..], [hook] if is_right(hook, secret)) {
        Ok(Some(done))
    } else {
        Err(SetUpError::NotKept)
    }
}

/// Changes the registrations if they are not one that is right.
async fn change(
    api: &Api,
    url: &Url,
    secret: &Secret,
    now: DateTime<Utc>,
) -> Result<Option<&'static str>, SetUpError> {
    let mut own = own(api, url).await?.into_iter();
    let Some(first) = own.next() else {
        api.put(Method::POST, REGISTRATIONS, wanted("", url, secret, now)).await?;
        return Ok(Some("registered the bridge's webhook"));
    };
    // Two registrations would send each event twice, with different ids.
    let mut done = None;
    for further in own {
        api.delete(&format!("{REGISTRATIONS}/{}", further.id)).await?;
        done = Some("deleted a second webhook of the bridge");
    }
    if !is_right(&first, secret) {
        let path = format!("{REGISTRATIONS}/{}", first.id);
        api.put(Method::PUT, &path, wanted(&first.id, url, secret, now)).await?;
        done = Some("mended the bridge's webhook, which was paused or different");
    }
    Ok(done)
}

/// Whether the report server posts all events to a registration that is not paused.
pub(crate) fn takes_all(hook: &Hook) -> bool {
    hook.filters.iter().any(|filter| filter == "*")
}

/// A server that does not show the secret is believed to have it.
fn is_right(hook: &Hook, secret: &Secret) -> bool {
    !hook.is_paused && takes_all(hook) && hook.secret.as_deref().is_none_or(|it| secret.is(it))
}

fn wanted(id: &str, url: &Url, secret: &Secret, now: DateTime<Utc>) -> String {
    #[derive(Serialize)]
    struct Nothing {}
    json!({
        "Id": id, "WebHookUri": url.as_str(), "Secret": secret.reveal(), "Description": DESCRIPTION,
        "IsPaused": false, "Filters": ["*"], "Headers": Nothing {},
        "Properties": { SINCE: now.to_rfc3339_opts(SecondsFormat::Secs, true) },
    })
    .to_string()
}
