//! `fanfare webhooks add`.

use anyhow::bail;
use fanfare_core::filter::Filters;
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::rate_limit::MOST_RATE_LIMIT;
use fanfare_core::webhook::{Headers, Pacing, Properties, Secret, Webhook, WebhookUri};
use fanfare_outbound::skips_verification;
use fanfare_store::directory::UserStatus;
use fanfare_store::{Store, random};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::clock;
use crate::commands::users;
use crate::output::{self, Misuse};
use crate::parts;
use crate::settings::Settings;

/// The arguments of `fanfare webhooks add`.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// The user whose webhook it is; it hears only of what that user may read
    #[arg(long, value_name = "NAME", value_parser = users::name)]
    owner: Name,
    /// Where notifications go
    #[arg(long)]
    url: WebhookUri,
    /// The secret that signs, of 32 to 128 characters [default: one is made]
    #[arg(long, value_name = "SECRET")]
    secret: Option<Secret>,
    /// What to hear of, such as reports or reports.delete; may be given more than once
    /// [default: everything]
    #[arg(long = "filter", value_name = "FILTER")]
    filters: Vec<String>,
    /// Words for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A header for each POST, as 'Name: value'; may be given more than once
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// A text for each body's Properties, as Name=value; may be given more than once
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,
    /// The most attempts a minute, of all workers together [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MOST_RATE_LIMIT.into()))]
    rate_limit: Option<u32>,
    /// Send nothing until it is resumed
    #[arg(long)]
    paused: bool,
    /// Don't ask the URL to return an echo first
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

/// Registers a webhook, after its URL has proved that it wants to be one.
pub(super) async fn add(
    args: AddArgs,
    store: &Store,
    settings: &Settings,
) -> anyhow::Result<Webhook> {
    let verify = !args.no_verify && !skips_verification(args.url.url());
    let webhook = webhook(args)?;
    if verify {
        self::verify(&webhook, settings).await?;
    }
    warn_about_owner(&webhook.owner, store).await?;
    store.webhook_register(&webhook, settings.load.webhooks_per_owner).await?;
    Ok(webhook)
}

fn webhook(args: AddArgs) -> anyhow::Result<Webhook> {
    let misuse = |error: &dyn std::error::Error| Misuse(error.to_string());
    let properties: Map<String, Value> =
        args.properties.into_iter().map(|(name, value)| (name, value.into())).collect();
    let secret = match args.secret {
        Some(secret) => secret,
        None => random::secret()?,
    };
    Ok(Webhook {
        id: WebhookId(Uuid::now_v7()),
        owner: args.owner,
        uri: args.url,
        secrets: vec![secret],
        description: args.description,
        paused: args.paused,
        paused_reason: None,
        filters: Filters::parse(&args.filters).map_err(|error| misuse(&error))?,
        headers: Headers::parse(args.headers).map_err(|error| misuse(&error))?,
        properties: Properties::parse(properties).map_err(|error| misuse(&error))?,
        created_at: clock::now(),
        failing_since: None,
        rate_limit: args.rate_limit,
        pacing: Pacing::default(),
    })
}

pub(super) async fn verify(webhook: &Webhook, settings: &Settings) -> anyhow::Result<()> {
    let echo = Uuid::new_v4().simple().to_string();
    let client = parts::outbound(settings)?;
    if let Err(error) = client.verify(&webhook.uri, webhook.headers.as_slice(), &echo).await {
        bail!("{error} Nothing was changed; --no-verify does not ask.");
    }
    Ok(())
}

/// A webhook of nobody gets nothing; its owner may be published later.
pub(super) async fn warn_about_owner(owner: &Name, store: &Store) -> anyhow::Result<()> {
    let status = store.user_status(&[owner.key()]).await?;
    let problem = match status.get(owner.key()) {
        Some(UserStatus::Enabled) => return Ok(()),
        Some(UserStatus::Disabled) => "is disabled",
        Some(UserStatus::Deleted) | None => "is not in the directory",
    };
    let owner = output::plain(owner.as_str());
    output::note(&format!(
        "fanfare: warning: the user {owner} {problem}: the webhook gets nothing while that is so"
    ));
    Ok(())
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
