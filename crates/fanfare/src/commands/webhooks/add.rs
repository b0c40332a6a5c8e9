//! `fanfare webhooks add`.

use fanfare_app::Context;
use fanfare_app::webhooks::{NewWebhook, Verification, register};
use fanfare_core::filter::Filters;
use fanfare_core::name::Name;
use fanfare_core::rate_limit::{MOST_RATE_LIMIT, RateLimit};
use fanfare_core::registration::Registration;
use fanfare_core::webhook::{Headers, Properties, Secret, Webhook, WebhookUri};
use serde_json::{Map, Value};

use super::{failed, warn_about_owner};
use crate::commands::users;
use crate::operator::operator;
use crate::output::Misuse;
use crate::settings::Settings;
use crate::wiring;

/// The arguments of `fanfare webhooks add`.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// The user who owns the webhook; it gets only events about resources that this user may read
    #[arg(long, value_name = "NAME", value_parser = users::name)]
    owner: Name,
    /// The URL to which notifications are sent
    #[arg(long)]
    url: WebhookUri,
    /// The secret that signs notifications, of 32 to 128 characters [default: a random one]
    #[arg(long, value_name = "SECRET")]
    secret: Option<Secret>,
    /// A filter of events, such as reports or reports.delete; may be given more than once
    /// [default: all events]
    #[arg(long = "filter", value_name = "FILTER")]
    filters: Vec<String>,
    /// A description for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A header to send with each POST, as 'Name: value'; may be given more than once
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// A property to send in each body, as Name=value; may be given more than once
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,
    /// The largest number of attempts a minute, of all workers together [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MOST_RATE_LIMIT.into()))]
    rate_limit: Option<u32>,
    /// Add the webhook paused: nothing is sent until it is resumed
    #[arg(long)]
    paused: bool,
    /// Don't verify the URL, which must return an echo
    #[arg(long)]
    no_verify: bool,
    /// Print a JSON object
    #[arg(long)]
    pub(super) json: bool,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as 'Name: value'")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as Name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) async fn add(
    args: AddArgs,
    context: &Context,
    settings: &Settings,
) -> anyhow::Result<Webhook> {
    let client = if args.no_verify { None } else { Some(wiring::outbound(settings)?) };
    let verification = client.as_ref().map_or(Verification::Skip, Verification::Ask);
    let (owner, wanted) = wanted(args)?;
    let new = NewWebhook { owner, wanted, verification };
    let webhook = register(context, &operator(), new).await.map_err(failed)?;
    warn_about_owner(&webhook.owner, super::owner(&webhook, context).await?);
    Ok(webhook)
}

fn wanted(args: AddArgs) -> anyhow::Result<(Name, Registration)> {
    let misuse = |error: &dyn std::error::Error| Misuse(error.to_string());
    let properties: Map<String, Value> =
        args.properties.into_iter().map(|(name, value)| (name, value.into())).collect();
    let wanted = Registration {
        uri: args.url,
        secret: args.secret,
        description: args.description,
        paused: args.paused,
        filters: Filters::parse(&args.filters).map_err(|error| misuse(&error))?,
        headers: Headers::parse(args.headers).map_err(|error| misuse(&error))?,
        properties: Properties::parse(properties).map_err(|error| misuse(&error))?,
        rate_limit: RateLimit::Set(args.rate_limit),
    };
    Ok((args.owner, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_properties_are_split_at_the_first_separator() {
        assert_eq!(header("X-A: b:c"), Ok(("X-A".to_owned(), "b:c".to_owned())));
        assert!(header("X-A").is_err());
        assert_eq!(property("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(property("a").is_err());
    }
}
