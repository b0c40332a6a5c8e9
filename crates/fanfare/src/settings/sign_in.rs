//! How people sign in at the console: with accounts of its own, with an identity provider, or both.
//!
//! These settings belong together; that they do is checked when a console starts, which is the only
//! process that they are for.

use fanfare_console::oidc::{self, ClaimNames, Config};
use url::Url;

use super::resolve::Values;
use super::{SettingsError, missing, table};
use crate::parts::USER_AGENT;

/// Who may sign in, as it is set.
#[derive(Debug)]
pub(crate) struct SignIn {
    /// Whether accounts of the console's own may.
    pub(crate) local_accounts: bool,
    /// The console's address as clients see it.
    pub(crate) console_url: Option<Url>,
    issuer: Option<String>,
    client_id: Option<String>,
    // Never printed, see `Secret`.
    client_secret: Option<Secret>,
    scopes: String,
    user_claim: String,
    admin_claim: Option<String>,
    admin_value: Option<String>,
    audience: Option<String>,
    label: String,
}

struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl SignIn {
    pub(super) fn read(values: &Values) -> Result<Self, SettingsError> {
        Ok(Self {
            local_accounts: values.read("local_accounts", yes_or_no)?,
            console_url: values.read_if_set("console_url", console_url)?,
            issuer: values.read_if_set("oidc_issuer", issuer)?,
            client_id: values.read_if_set("oidc_client_id", word)?,
            client_secret: values.read_if_set("oidc_client_secret", |it| line(it).map(Secret))?,
            scopes: values.read("oidc_scopes", scopes)?,
            user_claim: values.read("oidc_user_claim", word)?,
            admin_claim: values.read_if_set("oidc_admin_claim", word)?,
            admin_value: values.read_if_set("oidc_admin_value", line)?,
            audience: values.read_if_set("oidc_audience", word)?,
            label: values.read("oidc_label", label)?,
        })
    }

    /// The identity provider, if one is set and everything with it that it needs.
    pub(crate) fn provider(&self) -> Result<Option<Config>, SettingsError> {
        let Some(issuer) = &self.issuer else {
            self.check_alone()?;
            return Ok(None);
        };
        let client_id = self.client_id.clone().ok_or_else(|| missing("oidc_client_id"))?;
        let console_url = self.console_url.clone().ok_or_else(|| missing("console_url"))?;
        if oidc::address(console_url.as_str()).is_none() {
            return Err(together(
                "console_url",
                "an identity provider sends what signs people in there, so that it must be an https \
                 address, or one of this machine",
            ));
        }
        let administrator = match (&self.admin_claim, &self.admin_value) {
            (Some(claim), Some(value)) => Some((claim.clone(), value.clone())),
            (None, None) => None,
            (Some(_), None) => return Err(missing("oidc_admin_value")),
            (None, Some(_)) => return Err(missing("oidc_admin_claim")),
        };
        if self.audience.as_ref() == Some(&client_id) {
            // What somebody signs in with would open the API too, for whoever comes by it.
            return Err(together(
                "oidc_audience",
                "it is the same as FANFARE_OIDC_CLIENT_ID, so that access tokens could not be told \
                 from ID tokens; register the API at the provider under a name of its own",
            ));
        }
        Ok(Some(Config {
            issuer: issuer.clone(),
            client_id,
            client_secret: self.client_secret.as_ref().map(|Secret(text)| text.clone()),
            scopes: self.scopes.clone(),
            claims: ClaimNames { user: self.user_claim.clone(), administrator },
            audience: self.audience.clone(),
            label: self.label.clone(),
            console_url,
            user_agent: USER_AGENT.to_owned(),
        }))
    }

    /// Checks what is set without a provider.
    fn check_alone(&self) -> Result<(), SettingsError> {
        if !self.local_accounts {
            let problem = "nobody could sign in; set FANFARE_OIDC_ISSUER, or leave it out";
            return Err(together("local_accounts", problem));
        }
        let needless = [
            ("oidc_client_id", self.client_id.is_some()),
            ("oidc_client_secret", self.client_secret.is_some()),
            ("oidc_audience", self.audience.is_some()),
            ("oidc_admin_claim", self.admin_claim.is_some()),
            ("oidc_admin_value", self.admin_value.is_some()),
        ];
        match needless.iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) => Err(together(key, "it says nothing without FANFARE_OIDC_ISSUER")),
            None => Ok(()),
        }
    }
}

fn together(key: &'static str, problem: &'static str) -> SettingsError {
    let name = table::Setting::by_key(key).map_or(key, |setting| setting.name);
    SettingsError::Together { name, problem }
}

fn yes_or_no(text: &str) -> Option<bool> {
    match text.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// An address without a path, which routes don't have.
fn console_url(text: &str) -> Option<Url> {
    let url = Url::parse(text.trim()).ok()?;
    let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
    let is_anonymous = url.username().is_empty() && url.password().is_none();
    let has_no_more = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    (is_web && is_anonymous && has_no_more).then_some(url)
}

/// Issuers are compared to the letter, so that it is kept as it was given.
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

    fn provider(settings: &[(&'static str, &str)]) -> Result<Option<Config>, String> {
        let settings = Settings::from_sources(&Flags::of(settings), &|_| None);
        settings.and_then(|it| it.sign_in.provider()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_provider_needs_three_settings() {
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
    fn settings_that_make_no_sense_together_are_refused() {
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
    fn an_open_address_of_the_console_is_for_accounts_only() {
        let [issuer, client_id, _] = ALL;
        let open = ("console_url", "http://fanfare.example.org:8081");
        assert!(provider(&[open]).unwrap().is_none());
        let error = provider(&[issuer, client_id, open]).unwrap_err();
        assert!(error.contains("FANFARE_CONSOLE_URL"), "{error}");
    }

    #[test]
    fn addresses_are_for_secrets() {
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
