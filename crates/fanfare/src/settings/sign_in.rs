//! Sign-in at the console: with local accounts, with an identity provider, or both.
//!
//! These settings depend on each other. A console checks that when it starts, and no other process
//! uses them.

use clap::{ArgAction, Args};
use fanfare_console::oidc::{self, ClaimNames, Config};
use url::Url;

use super::SettingsError;
use super::value::{by, either};
use crate::wiring::USER_AGENT;

/// The settings for signing in.
#[derive(Debug, Args)]
#[command(next_help_heading = "Signing in at the console")]
pub(crate) struct SignIn {
    /// The console's address as browsers and API clients see it. Set it if a proxy is in front of the
    /// console: the console accepts forms that come from this address, uses it in Location headers,
    /// and marks cookies as Secure if it is https. Signing in with an identity provider needs it, with
    /// https: the provider sends browsers back to /sign-in/callback at this address
    #[arg(long, env = "FANFARE_CONSOLE_URL", value_name = "URL", value_parser = by(console_url))]
    #[arg(
        long_help = "an http or https address without a path, such as https://fanfare.example.org"
    )]
    pub(crate) console_url: Option<Url>,
    /// Whether people may sign in with accounts that 'fanfare users add' created
    #[arg(long, env = "FANFARE_LOCAL_ACCOUNTS", value_name = "yes|no", default_value = "yes")]
    #[arg(action = ArgAction::Set, value_parser = by(|text| either(text, "yes", "no")))]
    #[arg(long_help = "yes or no")]
    pub(crate) local_accounts: bool,
    /// The issuer of the OpenID Connect provider with which people sign in
    #[arg(long, env = "FANFARE_OIDC_ISSUER", value_name = "URL", value_parser = by(issuer))]
    #[arg(long_help = "the provider's issuer, an https address such as \
        https://id.example.org/realms/reports")]
    oidc_issuer: Option<String>,
    /// The console's client id at the provider
    #[arg(long, env = "FANFARE_OIDC_CLIENT_ID", value_name = "ID", value_parser = by(word))]
    #[arg(long_help = "the client id that the provider gave to the console, without spaces")]
    oidc_client_id: Option<String>,
    /// The console's client secret at the provider. A public client has none
    #[arg(long, env = "FANFARE_OIDC_CLIENT_SECRET", value_name = "SECRET", hide_env_values = true)]
    #[arg(value_parser = by(|text| line(text).map(Secret)))]
    #[arg(long_help = "the client secret that the provider gave to the console")]
    oidc_client_secret: Option<Secret>,
    /// The scopes that the console requests from the provider
    #[arg(long, env = "FANFARE_OIDC_SCOPES", value_name = "SCOPES")]
    #[arg(default_value = "openid profile", value_parser = by(scopes))]
    #[arg(long_help = "scopes separated by spaces, openid among them")]
    oidc_scopes: String,
    /// The claim that holds a user's name at the report server
    #[arg(long, env = "FANFARE_OIDC_USER_CLAIM", value_name = "CLAIM")]
    #[arg(default_value = "preferred_username", value_parser = by(word), long_help = CLAIM)]
    oidc_user_claim: String,
    /// The claim that says whether a user is an administrator. Members of the report server's role
    /// System Administrator are administrators too
    #[arg(long, env = "FANFARE_OIDC_ADMIN_CLAIM", value_name = "CLAIM")]
    #[arg(value_parser = by(word), long_help = CLAIM)]
    oidc_admin_claim: Option<String>,
    /// The value of the admin claim for administrators. If the claim is a list, one element must
    /// have it
    #[arg(long, env = "FANFARE_OIDC_ADMIN_VALUE", value_name = "TEXT", value_parser = by(line))]
    #[arg(long_help = "a text on one line")]
    oidc_admin_value: Option<String>,
    /// The audience of the provider's access tokens (JWT) that the API accepts. If it is not set, the
    /// API accepts none of them
    #[arg(long, env = "FANFARE_OIDC_AUDIENCE", value_name = "AUDIENCE", value_parser = by(word))]
    #[arg(long_help = "a text without spaces, other than the client id")]
    oidc_audience: Option<String>,
    /// The provider's name, for the button 'Sign in with …'
    #[arg(long, env = "FANFARE_OIDC_LABEL", value_name = "TEXT", default_value = "single sign-on")]
    #[arg(value_parser = by(label), long_help = "a text of at most 60 characters")]
    oidc_label: String,
}

/// The form of a claim's name.
const CLAIM: &str = "the name of a claim, or a path of names with dots between them";

/// A text that `Debug` does not show.
#[derive(Clone)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl SignIn {
    /// The identity provider; `None` if none is set.
    ///
    /// # Errors
    ///
    /// Settings that the provider needs are missing, or settings contradict each other.
    pub(crate) fn provider(&self) -> Result<Option<Config>, SettingsError> {
        let Some(issuer) = &self.oidc_issuer else {
            self.check_alone()?;
            return Ok(None);
        };
        let client_id =
            self.oidc_client_id.clone().ok_or_else(|| SettingsError::missing("oidc_client_id"))?;
        let console_url =
            self.console_url.clone().ok_or_else(|| SettingsError::missing("console_url"))?;
        if oidc::address(console_url.as_str()).is_none() {
            let problem = "an identity provider sends sign-in codes to this address, so it must be \
                           an https address, or an address of this machine";
            return Err(SettingsError::Together { key: "console_url", problem });
        }
        let administrator = match (&self.oidc_admin_claim, &self.oidc_admin_value) {
            (Some(claim), Some(value)) => Some((claim.clone(), value.clone())),
            (None, None) => None,
            (Some(_), None) => return Err(SettingsError::missing("oidc_admin_value")),
            (None, Some(_)) => return Err(SettingsError::missing("oidc_admin_claim")),
        };
        if self.oidc_audience.as_ref() == Some(&client_id) {
            // Otherwise an ID token would be accepted as an access token by the API.
            let problem = "it equals FANFARE_OIDC_CLIENT_ID, so access tokens could not be \
                           distinguished from ID tokens; register the API at the provider with an \
                           audience of its own";
            return Err(SettingsError::Together { key: "oidc_audience", problem });
        }
        Ok(Some(Config {
            issuer: issuer.clone(),
            client_id,
            client_secret: self.oidc_client_secret.as_ref().map(|Secret(text)| text.clone()),
            scopes: self.oidc_scopes.clone(),
            claims: ClaimNames { user: self.oidc_user_claim.clone(), administrator },
            audience: self.oidc_audience.clone(),
            label: self.oidc_label.clone(),
            console_url,
            user_agent: USER_AGENT.to_owned(),
        }))
    }

    /// Checks the settings if no provider is set.
    fn check_alone(&self) -> Result<(), SettingsError> {
        if !self.local_accounts {
            let problem = "no user could sign in without an identity provider; set \
                           FANFARE_OIDC_ISSUER, or leave this setting out";
            return Err(SettingsError::Together { key: "local_accounts", problem });
        }
        let needless = [
            ("oidc_client_id", self.oidc_client_id.is_some()),
            ("oidc_client_secret", self.oidc_client_secret.is_some()),
            ("oidc_audience", self.oidc_audience.is_some()),
            ("oidc_admin_claim", self.oidc_admin_claim.is_some()),
            ("oidc_admin_value", self.oidc_admin_value.is_some()),
        ];
        match needless.iter().find(|(_, is_set)| *is_set) {
            Some(&(key, _)) => Err(SettingsError::Together {
                key,
                problem: "it has no effect without FANFARE_OIDC_ISSUER; set both, or leave it out",
            }),
            None => Ok(()),
        }
    }
}

/// Parses the console's address, which has no path, because the console's routes begin at the root.
fn console_url(text: &str) -> Option<Url> {
    let url = Url::parse(text.trim()).ok()?;
    let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
    let is_anonymous = url.username().is_empty() && url.password().is_none();
    let has_no_more = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    (is_web && is_anonymous && has_no_more).then_some(url)
}

/// Parses an issuer. The text is kept unchanged, because issuers are compared byte by byte.
fn issuer(text: &str) -> Option<String> {
    let text = text.trim();
    oidc::address(text).filter(|url| url.query().is_none()).map(|_| text.to_owned())
}

fn word(text: &str) -> Option<String> {
    line(text).filter(|text| !text.contains(char::is_whitespace))
}

fn line(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
}

fn label(text: &str) -> Option<String> {
    line(text).filter(|text| text.chars().count() <= 60)
}

fn scopes(text: &str) -> Option<String> {
    line(text).filter(|text| text.split(' ').any(|scope| scope == "openid"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Flags, Settings};

    const ALL: [(&str, &str); 3] = [
        ("oidc_issuer", "https://id.example.org/a/"),
        ("oidc_client_id", "fanfare"),
        ("console_url", "https://fanfare.example.org"),
    ];

    fn provider(settings: &[(&str, &str)]) -> Result<Option<Config>, String> {
        let settings = Settings::from_sources(&Flags::with(settings), &|_| None);
        settings.and_then(|it| it.sign_in.provider()).map_err(|error| error.to_string())
    }

    #[test]
    fn provider_needs_issuer_client_id_and_console_url() {
        assert!(provider(&[]).unwrap().is_none());
        let config = provider(&ALL).unwrap().unwrap();
        // A slash at its end is part of an issuer.
        assert_eq!(config.issuer, "https://id.example.org/a/");
        assert_eq!(config.scopes, "openid profile");
        let [issuer, client_id, console_url] = ALL;
        for (some, missing) in [
            ([issuer, client_id], "FANFARE_CONSOLE_URL"),
            ([issuer, console_url], "FANFARE_OIDC_CLIENT_ID"),
            ([client_id, console_url], "FANFARE_OIDC_ISSUER"),
        ] {
            let error = provider(&some).unwrap_err();
            assert!(error.contains(missing), "{error}");
        }
    }

    #[test]
    fn contradictory_settings_are_refused() {
        for (more, named) in [
            ([("oidc_audience", "fanfare"), ("oidc_label", "x")], "FANFARE_OIDC_AUDIENCE"),
            ([("oidc_admin_claim", "groups"), ("oidc_label", "x")], "FANFARE_OIDC_ADMIN_VALUE"),
            ([("oidc_admin_value", "chiefs"), ("oidc_label", "x")], "FANFARE_OIDC_ADMIN_CLAIM"),
        ] {
            let all: Vec<_> = ALL.iter().chain(&more).copied().collect();
            let error = provider(&all).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
        for (alone, named) in [
            (("local_accounts", "no"), "FANFARE_LOCAL_ACCOUNTS"),
            (("oidc_client_secret", "s3cret"), "FANFARE_OIDC_CLIENT_SECRET"),
        ] {
            let error = provider(&[alone]).unwrap_err();
            assert!(error.contains(named) && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn http_console_url_is_refused_with_a_provider() {
        let [issuer, client_id, _] = ALL;
        let open = ("console_url", "http://fanfare.example.org:8081");
        assert!(provider(&[open]).unwrap().is_none());
        let error = provider(&[issuer, client_id, open]).unwrap_err();
        assert!(error.contains("FANFARE_CONSOLE_URL"), "{error}");
    }

    #[test]
    fn unsuitable_addresses_and_scopes_are_refused() {
        for (key, text) in [
            ("oidc_issuer", "http://id.example.org"),
            ("oidc_issuer", "https://id.example.org/?a=b"),
            ("console_url", "https://fanfare.example.org/path"),
            ("console_url", "https://a:b@fanfare.example.org"),
            ("console_url", "ftp://fanfare.example.org"),
            ("oidc_scopes", "profile email"),
        ] {
            assert!(provider(&[(key, text)]).unwrap_err().contains(text), "{text}");
        }
    }
}
