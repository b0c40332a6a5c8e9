//! Notices: when a condition counts, and by what notices of it are sent.

#![expect(clippy::doc_markdown, reason = "the command line's help is plain text")]

use std::time::Duration;

use clap::Args;
use fanfare_core::mail_address::MailDomains;
use fanfare_core::webhook::{Secret, WebhookUri};

use super::SettingsError;
use super::value;
use super::value::{DURATION, by};

/// The settings of notices.
#[derive(Debug, Args)]
#[command(next_help_heading = "Notices")]
pub(crate) struct Notices {
    /// The time between two checks of the conditions that notices are about
    #[arg(id = "notices_every", long = "notices-every", env = "FANFARE_NOTICES_EVERY")]
    #[arg(value_name = "DURATION", default_value = "1m")]
    #[arg(value_parser = by(value::duration), long_help = DURATION)]
    pub(crate) every: Duration,
    /// The time for which a cause must be absent before it is resolved. A cause that comes and goes more
    /// often has one notice
    #[arg(id = "notices_quiet", long = "notices-quiet", env = "FANFARE_NOTICES_QUIET")]
    #[arg(value_name = "DURATION", default_value = "15m")]
    #[arg(value_parser = by(value::duration), long_help = DURATION)]
    pub(crate) quiet: Duration,
    /// How long a first attempt may wait before there is a notice of it
    #[arg(id = "notices_late", long = "notices-late", env = "FANFARE_NOTICES_LATE")]
    #[arg(value_name = "DURATION", default_value = "1h")]
    #[arg(value_parser = by(value::duration), long_help = DURATION)]
    pub(crate) late: Duration,
    /// The address to which notices are posted. FANFARE_ALLOW_TARGETS applies to it
    #[arg(id = "notices_url", long = "notices-url", env = "FANFARE_NOTICES_URL")]
    #[arg(value_name = "URL", hide_env_values = true)]
    #[arg(value_parser = by(|text| text.parse::<WebhookUri>().ok()))]
    #[arg(long_help = "an http or https address")]
    url: Option<WebhookUri>,
    /// The secret that signs notices to FANFARE_NOTICES_URL, as webhooks' secrets sign deliveries
    #[arg(id = "notices_secret", long = "notices-secret", env = "FANFARE_NOTICES_SECRET")]
    #[arg(value_name = "SECRET", hide_env_values = true)]
    #[arg(value_parser = by(|text| text.parse::<Secret>().ok()))]
    #[arg(long_help = "a text of 32 to 128 characters")]
    secret: Option<Secret>,
    /// The mail server that sends notices
    #[arg(id = "smtp_url", long = "smtp-url", env = "FANFARE_SMTP_URL")]
    #[arg(value_name = "URL", hide_env_values = true)]
    #[arg(value_parser = by(|text| fanfare_notices::Server::parse(text).ok()))]
    #[arg(long_help = "smtps://user:password@host, or smtp://user:password@host:587?tls=required")]
    server: Option<fanfare_notices::Server>,
    /// The sender of notices by mail
    #[arg(id = "notices_from", long = "notices-from", env = "FANFARE_NOTICES_FROM")]
    #[arg(value_name = "ADDRESS", value_parser = by(fanfare_notices::address))]
    #[arg(long_help = "a mail address, such as Fanfare <fanfare@example.org>")]
    from: Option<fanfare_notices::Mailbox>,
    /// The operators who get notices by mail
    #[arg(id = "notices_to", long = "notices-to", env = "FANFARE_NOTICES_TO")]
    #[arg(value_name = "ADDRESSES", value_parser = by(fanfare_notices::addresses))]
    #[arg(long_help = "mail addresses, separated by commas")]
    pub(crate) to: Option<fanfare_notices::Mailboxes>,
    /// The domains to whose mail addresses owners may have notices about their own webhooks sent. Without
    /// one, owners can't choose mail. Subdomains have to be named, too
    #[arg(id = "notices_mail_domains", long = "notices-mail-domains")]
    #[arg(env = "FANFARE_NOTICES_MAIL_DOMAINS", value_name = "DOMAINS", default_value = "")]
    #[arg(value_parser = by(MailDomains::parse), long_help = "domains, separated by commas")]
    pub(crate) domains: MailDomains,
}

impl Notices {
    /// The operator's webhook, with its secret; `None` if none is set.
    ///
    /// # Errors
    ///
    /// One is set without the other.
    pub(crate) fn webhook(&self) -> Result<Option<(WebhookUri, Secret)>, SettingsError> {
        match (&self.url, &self.secret) {
            (Some(url), Some(secret)) => Ok(Some((url.clone(), secret.clone()))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(SettingsError::missing("notices_secret")),
            (None, Some(_)) => Err(SettingsError::missing("notices_url")),
        }
    }

    /// The mail server with the sender; `None` if none is set.
    ///
    /// # Errors
    ///
    /// Some of the settings of mail are set without the others.
    pub(crate) fn mail(&self) -> Result<Option<fanfare_notices::Mail>, SettingsError> {
        let has_receivers = self.to.is_some() || !self.domains.is_empty();
        match (&self.server, &self.from) {
            (Some(server), Some(from)) if has_receivers => {
                Ok(Some(fanfare_notices::Mail::new(server, from.clone())))
            }
            (None, None) if !has_receivers => Ok(None),
            (None, _) => Err(SettingsError::missing("smtp_url")),
            (_, None) => Err(SettingsError::missing("notices_from")),
            (Some(_), Some(_)) => Err(SettingsError::missing("notices_to")),
        }
    }
}
