//! `fanfare webhooks set`.

use fanfare_app::Context;
use fanfare_app::webhooks::{Patch, Verification, patch};
use fanfare_core::filter::Filters;
use fanfare_core::ids::WebhookId;
use fanfare_core::rate_limit::RateLimit;
use fanfare_core::webhook::{Webhook, WebhookUri};

use super::{failed_for, ids};
use crate::operator::operator;
use crate::output::Misuse;
use crate::settings::Settings;
use crate::wiring;

/// The arguments of `fanfare webhooks set`. Members without an argument are not changed.
#[derive(Debug, clap::Args)]
pub(crate) struct SetArgs {
    /// The webhook's id
    #[arg(value_parser = ids::parse::<WebhookId>)]
    id: WebhookId,
    /// The URL to which notifications are sent
    #[arg(long)]
    url: Option<WebhookUri>,
    /// A filter of events; all given filters replace the former ones; may be given more than once
    #[arg(long = "filter", value_name = "FILTER")]
    filters: Vec<String>,
    /// A description for people; an empty text removes it
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The largest number of attempts a minute, of all workers together; none for no limit
    #[arg(long, value_name = "N", value_parser = rate_limit)]
    rate_limit: Option<RateLimit>,
    /// Don't verify a new URL, which must return an echo
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

pub(super) async fn set(
    args: SetArgs,
    context: &Context,
    settings: &Settings,
) -> anyhow::Result<Webhook> {
    let filters = if args.filters.is_empty() {
        None
    } else {
        Some(Filters::parse(&args.filters).map_err(|error| Misuse(error.to_string()))?)
    };
    let verifies = args.url.is_some() && !args.no_verify;
    let client = if verifies { Some(wiring::outbound(settings)?) } else { None };
    let verification = client.as_ref().map_or(Verification::Skip, Verification::Ask);
    let wanted = Patch {
        uri: args.url,
        filters,
        description: args.description,
        rate_limit: args.rate_limit.unwrap_or_default(),
        ..Patch::default()
    };
    let changed = patch(context, &operator(), args.id, wanted, verification).await;
    changed.map_err(|error| failed_for(args.id, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_limit_is_a_number_or_none() {
        assert_eq!(rate_limit("60"), Ok(RateLimit::Set(Some(60))));
        assert_eq!(rate_limit("none"), Ok(RateLimit::Set(None)));
        for wrong in ["0", "-1", "1000001", "1.5", "many"] {
            assert!(rate_limit(wrong).is_err(), "{wrong}");
        }
    }
}
