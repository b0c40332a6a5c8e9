//! `fanfare webhooks set`.

use fanfare_core::filter::Filters;
use fanfare_core::ids::WebhookId;
use fanfare_core::rate_limit::RateLimit;
use fanfare_core::webhook::{Webhook, WebhookUri};
use fanfare_outbound::skips_verification;
use fanfare_store::Store;

use super::{add, get, ids, unknown};
use crate::output::Misuse;
use crate::settings::Settings;

/// The arguments of `fanfare webhooks set`. What is left out stays as it is.
#[derive(Debug, clap::Args)]
pub(crate) struct SetArgs {
    /// The webhook's id
    #[arg(value_parser = ids::parse::<WebhookId>)]
    id: WebhookId,
    /// Where notifications go
    #[arg(long)]
    url: Option<WebhookUri>,
    /// What to hear of, instead of what it was; may be given more than once
    #[arg(long = "filter", value_name = "FILTER")]
    filters: Vec<String>,
    /// Words for people; empty for none
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The most attempts a minute, of all workers together; none for no limit
    #[arg(long, value_name = "N", value_parser = rate_limit)]
    rate_limit: Option<RateLimit>,
    /// Don't ask another URL to return an echo first
    #[arg(long)]
    no_verify: bool,
    /// Print a JSON object
    #[arg(long)]
    pub(super) json: bool,
}

fn rate_limit(text: &str) -> Result<RateLimit, String> {
    let text = if text == "none" { "" } else { text };
    RateLimit::parse(text).map_err(|error| error.to_string())
}

/// Changes a webhook, after another URL has proved that it wants to be one.
pub(super) async fn set(
    args: SetArgs,
    store: &Store,
    settings: &Settings,
) -> anyhow::Result<Webhook> {
    let filters = if args.filters.is_empty() {
        None
    } else {
        Some(Filters::parse(&args.filters).map_err(|error| Misuse(error.to_string()))?)
    };
    let before = get(store, args.id).await?;
    let is_moved = args.url.as_ref().is_some_and(|url| *url != before.uri);
    let change = |webhook: Webhook| Webhook {
        uri: args.url.clone().unwrap_or(webhook.uri),
        filters: filters.clone().unwrap_or(webhook.filters),
        description: match &args.description {
            Some(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            None => webhook.description,
        },
        rate_limit: args.rate_limit.unwrap_or(RateLimit::Kept).over(webhook.rate_limit),
        ..webhook
    };
    let changed = change(before);
    if is_moved && !args.no_verify && !skips_verification(changed.uri.url()) {
        add::verify(&changed, settings).await?;
    }
    if !store.webhook_change(args.id, change).await? {
        return Err(unknown(args.id));
    }
    get(store, args.id).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_or_none() {
        assert_eq!(rate_limit("60"), Ok(RateLimit::Set(Some(60))));
        assert_eq!(rate_limit("none"), Ok(RateLimit::Set(None)));
        for wrong in ["0", "-1", "1000001", "1.5", "many"] {
            assert!(rate_limit(wrong).is_err(), "{wrong}");
        }
    }
}
