//! The bridge's webhook at the report server: one, with the bridge's address and secret, not paused.

use std::time::Duration;

use fanfare_core::chain::chain;
use fanfare_core::webhook::Secret;
use fanfare_outbound::trusted::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::sleep;
use url::Url;

use crate::api::{Api, ApiError};

const REGISTRATIONS: &str = "api/webhooks/registrations";
const FILTERS: &str = "api/webhooks/filters";
/// How often the registration is looked at: a person may pause or delete it.
const EVERY: Duration = Duration::from_mins(5);
/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(15);
/// The description by which people recognise it in the report server.
const DESCRIPTION: &str = "Fanfare bridge";

/// A registration as far as it matters.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Registration {
    id: String,
    web_hook_uri: String,
    #[serde(default)]
    secret: Option<String>,
    #[serde(default)]
    is_paused: bool,
    #[serde(default)]
    filters: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
enum SetUpError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(
        "this report server has no webhooks at {FILTERS}: its version has none, or they are off \
         because its base URL is empty (Configuration > Webhooks)"
    )]
    NoWebhooks,
    #[error("the report server's list of webhooks can't be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// Registers the webhook, and looks after it for ever. `url` is the bridge's address as the report
/// server reaches it.
pub(crate) async fn run(api: &Api, url: &Url, secret: &Secret) {
    loop {
        match set_up(api, url, secret).await {
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

/// Returns what was done; `None` if nothing was to do.
async fn set_up(api: &Api, url: &Url, secret: &Secret) -> Result<Option<&'static str>, SetUpError> {
    match api.get(FILTERS).await {
        Err(ApiError::NotFound(_)) => return Err(SetUpError::NoWebhooks),
        other => other.map(drop)?,
    }
    let all: Vec<Registration> = serde_json::from_slice(&api.get(REGISTRATIONS).await?)?;
    let mut own = all.into_iter().filter(|it| it.web_hook_uri == url.as_str());
    let Some(first) = own.next() else {
        api.put(Method::POST, REGISTRATIONS, wanted("", url, secret)).await?;
        return Ok(Some("registered the bridge's webhook"));
    };
    // Two registrations would send each event twice, with different ids.
    let mut done = None;
    for further in own {
        api.delete(&format!("{REGISTRATIONS}/{}", further.id)).await?;
        done = Some("deleted a second webhook of the bridge");
    }
    // A server that does not show the secret is believed to have it.
    let is_right = !first.is_paused
        && first.filters.iter().any(|filter| filter == "*")
        && first.secret.as_deref().is_none_or(|it| secret.is(it));
    if !is_right {
        let path = format!("{REGISTRATIONS}/{}", first.id);
        api.put(Method::PUT, &path, wanted(&first.id, url, secret)).await?;
        done = Some("mended the bridge's webhook, which was paused or different");
    }
    Ok(done)
}

fn wanted(id: &str, url: &Url, secret: &Secret) -> String {
    #[derive(Serialize)]
    struct Nothing {}
    json!({
        "Id": id, "WebHookUri": url.as_str(), "Secret": secret.reveal(), "Description": DESCRIPTION,
        "IsPaused": false, "Filters": ["*"], "Headers": Nothing {}, "Properties": Nothing {},
    })
    .to_string()
}
