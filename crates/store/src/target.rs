//! The database's hosts, from a connection string as `psql` takes it.
//!
//! `tokio_postgres` checks no certificates, and one host that does not answer keeps it from all
//! others. This module therefore takes out the parameters of TLS, and gives each host a
//! configuration of its own.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use fanfare_tls::{Check, Identity, Roots, Tls};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};

use crate::config::{PlanMode, STATEMENT_TIME};
use crate::error::StoreError;

/// The value of `sslrootcert` for the roots that the operating system trusts, as in libpq.
const SYSTEM: &str = "system";

/// PostgreSQL's default port.
const PORT: u16 = 5432;

/// The database's hosts, in the order in which they are tried.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) hosts: Vec<DbHost>,
    /// Whether each connection begins with a random host.
    pub(crate) spread: bool,
    pub(crate) tls: Tls,
    /// The settings of each session: calls of `set_config`, as further columns of a `select`.
    pub(crate) settings: String,
}

#[derive(Clone)]
pub(crate) struct DbHost {
    /// Host and port, for messages.
    pub(crate) name: String,
    pub(crate) config: Config,
}

impl Target {
    /// Reads a URL, or `key=value` pairs.
    pub(crate) fn parse(
        text: &str,
        application_name: &str,
        plan_mode: PlanMode,
    ) -> Result<Self, StoreError> {
        let (rest, parameters) = take_tls(text)?;
        let given: Config = rest.parse().map_err(StoreError::BadUrl)?;
        let (mode, tls) = parameters.read()?;
        if given.get_target_session_attrs() == TargetSessionAttrs::ReadOnly {
            return Err(StoreError::BadParameter {
                name: "target_session_attrs",
                form: "read-write, or leave it out: Fanfare writes to the database",
            });
        }
        let mut common = common(&given);
        common.ssl_mode(mode).application_name(application_name);
        let spread = given.get_load_balance_hosts() == LoadBalanceHosts::Random;
        Ok(Self { hosts: hosts(&given, &common)?, spread, tls, settings: settings(plan_mode) })
    }
}

/// The part of the configuration that all hosts share.
fn common(given: &Config) -> Config {
    let mut config = Config::new();
    if let Some(user) = given.get_user() {
        config.user(user);
    }
    if let Some(password) = given.get_password() {
        config.password(password);
    }
    if let Some(name) = given.get_dbname() {
        config.dbname(name);
    }
    config
        .ssl_negotiation(given.get_ssl_negotiation())
        // This also matters with one host: its address may lead to a standby after a failover.
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        .channel_binding(given.get_channel_binding())
        .load_balance_hosts(given.get_load_balance_hosts())
        .keepalives(given.get_keepalives());
    // A host that vanished is noticed within seconds, not after TCP's default of two hours.
    config
        .connect_timeout(Duration::from_secs(5))
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(3))
        .keepalives_retries(2)
        .tcp_user_timeout(Duration::from_secs(15));
    if let Some(options) = given.get_options() {
        config.options(options);
    }
    config
}

/// The settings of a session.
fn settings(plan_mode: PlanMode) -> String {
    let time = STATEMENT_TIME.as_millis().to_string();
    // Plans of statements over arrays are costed far too high while tables are new, and compiling
    // one takes longer than running it a thousand times.
    let mut settings = vec![("jit", "off")];
    match plan_mode {
        // These statements always read a few rows out of many. The planner can't know that when the
        // tables are small at first, or when one owner has nearly all webhooks.
        PlanMode::Generic => {
            settings.extend([("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off")]);
            // A process that is stopped in the middle of a transaction must not keep its locks.
            settings.push(("idle_in_transaction_session_timeout", "30s"));
        }
        PlanMode::Custom => {}
        PlanMode::Interactive => settings.push(("statement_timeout", &time)),
    }
    let one = |(name, value)| format!(", set_config('{name}', '{value}', false)");
    settings.into_iter().map(one).collect()
}

fn hosts(given: &Config, common: &Config) -> Result<Vec<DbHost>, StoreError> {
    let (hosts, addresses, ports) = (given.get_hosts(), given.get_hostaddrs(), given.get_ports());
    let count = hosts.len().max(addresses.len());
    let counted = |found: usize| found <= 1 || found == count;
    // In `anna:a@b@db` the password has an `@` that should have been escaped. The library reads `b@db`
    // as the host, whose name is logged.
    if hosts.iter().any(|host| matches!(host, Host::Tcp(name) if name.contains('@'))) {
        return Err(StoreError::BadParameter { name: "password", form: "an @ in it as %40" });
    }
    if count == 0 || !counted(ports.len()) || (!addresses.is_empty() && addresses.len() != count) {
        return Err(StoreError::BadParameter {
            name: "host",
            form: "at least one host, and as many ports (or one for all) as there are hosts",
        });
    }
    let place = |at: usize| {
        let mut config = common.clone();
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(PORT);
        config.port(port);
        let name = match (hosts.get(at), addresses.get(at)) {
            (Some(Host::Tcp(host)), address) => {
                config.host(host);
                if let Some(address) = address {
                    config.hostaddr(*address);
                }
                Cow::Borrowed(host.as_str())
            }
            #[cfg(unix)]
            (Some(Host::Unix(path)), _) => {
                // A Unix socket does not leave the machine, and PostgreSQL has no TLS on it.
                config.host_path(path).ssl_mode(SslMode::Disable);
                path.to_string_lossy()
            }
            (None, address) => {
                // A certificate may be issued for an address: it is then the name to check.
                let host = address.map(ToString::to_string).unwrap_or_default();
                config.host(&host);
                Cow::Owned(host)
            }
        };
        DbHost { name: format!("{name}:{port}"), config }
    };
    Ok((0..count).map(place).collect())
}

/// The parameters of TLS in a connection string.
#[derive(Default)]
struct Parameters {
    mode: Option<String>,
    roots: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

impl Parameters {
    fn set(&mut self, name: &str, value: &str) -> bool {
        let place = match name {
            "sslmode" => &mut self.mode,
            "sslrootcert" => &mut self.roots,
            "sslcert" => &mut self.certificate,
            "sslkey" => &mut self.key,
            _ => return false,
        };
        *place = Some(value.to_owned());
        true
    }

    /// Reads the parameters as libpq does.
    fn read(self) -> Result<(SslMode, Tls), StoreError> {
        let own_roots = self.roots.as_deref().is_some_and(|roots| roots != SYSTEM);
        let (mode, check) = match self.mode.as_deref() {
            Some("disable") => (SslMode::Disable, Check::Nothing),
            None | Some("prefer") => (SslMode::Prefer, Check::Nothing),
            Some("require") if own_roots => (SslMode::Require, Check::Signature),
            Some("require") => (SslMode::Require, Check::Nothing),
            Some("verify-ca") => (SslMode::Require, Check::Signature),
            Some("verify-full") => (SslMode::Require, Check::SignatureAndName),
            Some(_) => {
                return Err(StoreError::BadParameter {
                    name: "sslmode",
                    form: "disable, prefer, require, verify-ca or verify-full",
                });
            }
        };
        let identity = match (self.certificate, self.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                Some(Identity { certificate: certificate.into(), key: key.into() })
            }
            _ => {
                return Err(StoreError::BadParameter {
                    name: "sslcert",
                    form: "both sslcert and sslkey, the files of a certificate and its key",
                });
            }
        };
        let file = self.roots.filter(|roots| roots != SYSTEM);
        let roots = file.map_or(Roots::System, |path| Roots::File(PathBuf::from(path)));
        Ok((mode, Tls { check, roots, identity }))
    }
}

/// Takes out the parameters of TLS, and returns the rest for the library to parse.
fn take_tls(text: &str) -> Result<(String, Parameters), StoreError> {
    let mut parameters = Parameters::default();
    let url = ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
    let rest = if url {
        take_from_url(text, &mut parameters)?
    } else {
        take_from_pairs(text, &mut parameters)
    };
    Ok((rest, parameters))
}

fn take_from_url(text: &str, parameters: &mut Parameters) -> Result<String, StoreError> {
    let Some((base, query)) = text.split_once('?') else {
        return Ok(text.to_owned());
    };
    let mut kept = Vec::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value).ok_or(StoreError::BadParameter {
            name: "query",
            form: "values in UTF-8, with % before two hexadecimal digits",
        })?;
        if !parameters.set(name, &value) {
            kept.push(pair);
        }
    }
    let kept = kept.join("&");
    Ok(if kept.is_empty() { base.to_owned() } else { format!("{base}?{kept}") })
}

/// Decodes `%2F` and the like.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let value = digit(rest.next()?)? * 16 + digit(rest.next()?)?;
        bytes.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// Takes parameters from pairs that are separated by white space. A value may be in single quotes,
/// and `\` escapes the next character.
fn take_from_pairs(text: &str, parameters: &mut Parameters) -> String {
    let mut kept = String::new();
    let mut rest = text.trim_start();
    while let Some((name, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let (value, length) = pair_value(after);
        let end = rest.len() - after.len() + length;
        let (pair, next) = rest.split_at(end);
        if !parameters.set(name.trim(), &value) {
            kept.push_str(pair);
            kept.push(' ');
        }
        rest = next.trim_start();
    }
    // The rest is not a pair: the library reports it.
    kept.push_str(rest);
    kept
}

/// The value at the beginning of a text, and its length in bytes there.
fn pair_value(text: &str) -> (String, usize) {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, next)| next)),
            '\'' if quoted => return (value, at + 1),
            space if space.is_whitespace() && !quoted => return (value, at),
            other => value.push(other),
        }
    }
    (value, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        Target::parse(text, "test", PlanMode::Custom).unwrap()
    }

    #[track_caller]
    fn assert_refused(text: &str, expected: &str) {
        let error = Target::parse(text, "test", PlanMode::Custom).map(drop).unwrap_err();
        let message = fanfare_core::chain::chain(&error);
        assert!(message.contains(expected) && !message.contains("hidden"), "{message}");
    }

    #[test]
    fn sslmode_when_parsed_has_the_meaning_of_libpq() {
        for (query, mode, check) in [
            ("", SslMode::Prefer, Check::Nothing),
            ("sslmode=disable", SslMode::Disable, Check::Nothing),
            ("sslmode=prefer", SslMode::Prefer, Check::Nothing),
            ("sslmode=require", SslMode::Require, Check::Nothing),
            ("sslmode=require&sslrootcert=system", SslMode::Require, Check::Nothing),
            ("sslmode=require&sslrootcert=/ca.pem", SslMode::Require, Check::Signature),
            ("sslmode=verify-ca", SslMode::Require, Check::Signature),
            ("sslmode=verify-full", SslMode::Require, Check::SignatureAndName),
        ] {
            let target = target(&format!("postgres://db/x?{query}"));
            assert_eq!((target.hosts[0].config.get_ssl_mode(), target.tls.check), (mode, check));
        }
        assert_refused("postgres://a:hidden@db/x?sslmode=verify", "give disable, prefer");
    }

    #[test]
    fn a_password_that_is_not_escaped_is_refused_instead_of_shown_as_a_host() {
        assert_refused("postgres://anna:a@hidden@db/x", "an @ in it as %40");
        assert_refused("postgres://anna:a@hidden@one:1,two/x", "an @ in it as %40");
        let escaped = target("postgres://anna:a%40b@db/x");
        assert_eq!(escaped.hosts[0].config.get_password(), Some(&b"a@b"[..]));
    }

    #[test]
    fn tls_files_in_urls_and_in_pairs_are_read_alike() {
        for text in [
            "postgres://u@db/x?sslrootcert=%2Fa%20b%2Fca.pem&sslcert=/c.pem&application_name=z&sslkey=/k",
            r"user=u host = db dbname=x sslrootcert='/a b/ca.pem' sslcert=/c.pem  sslkey = /\k",
        ] {
            let target = target(text);
            assert_eq!(target.tls.roots, Roots::File("/a b/ca.pem".into()));
            let identity = Identity { certificate: "/c.pem".into(), key: "/k".into() };
            assert_eq!(target.tls.identity, Some(identity));
            let config = &target.hosts[0].config;
            assert_eq!((config.get_user(), config.get_dbname()), (Some("u"), Some("x")));
        }
        assert_refused("postgres://a:hidden@db/x?sslcert=/c.pem", "both sslcert and sslkey");
        assert_refused("postgres://a:hidden@db/x?sslrootcert=%2", "hexadecimal");
    }

    #[test]
    fn connection_string_with_several_hosts_gives_each_its_own_configuration() {
        let text = "postgres://u:p@one:1,two:2,three/x";
        let names = |target: &Target| -> Vec<String> {
            target.hosts.iter().map(|host| host.name.clone()).collect()
        };
        let several = target(text);
        assert_eq!(names(&several), ["one:1", "two:2", "three:5432"]);
        for host in &several.hosts {
            assert_eq!(host.config.get_hosts().len(), 1);
            assert_eq!(host.config.get_password(), Some(&b"p"[..]));
            assert_eq!(host.config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        }
        let addresses = target("hostaddr=10.0.0.1,10.0.0.2 port=7 user=u");
        assert_eq!(names(&addresses), ["10.0.0.1:7", "10.0.0.2:7"]);
        let socket = target("postgres://%2Frun%2Fpg/x?sslmode=require");
        assert_eq!(names(&socket), ["/run/pg:5432"]);
        assert_eq!(socket.hosts[0].config.get_ssl_mode(), SslMode::Disable);
        assert_refused("user=u password=hidden", "at least one host");
        assert_refused("host=a,b port=1,2,3 user=u", "as many ports");
        assert_refused("host=a nonsense", "invalid connection string");
        assert_refused("host=a user=u target_session_attrs=read-only", "Fanfare writes");
    }
}
