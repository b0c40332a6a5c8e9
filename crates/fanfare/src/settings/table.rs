//! The one table of settings: flags, environment, file, `fanfare config` and the documents all
//! come from it.

use super::distance::edits;
use super::form::{COUNT, DURATION, Form, form};

/// A setting: its three names, its default and what to say about it.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The environment variable.
    pub(crate) name: &'static str,
    /// The long flag, without its dashes.
    pub(crate) flag: &'static str,
    /// The key in `fanfare.toml`.
    pub(crate) key: &'static str,
    /// The value when it is not set; `None` when there is none.
    pub(crate) default: Option<&'static str>,
    /// How much of its value may be shown.
    pub(crate) shown: Shown,
    /// What a value must be.
    pub(crate) form: Form,
    /// What it does.
    pub(crate) about: &'static str,
}

/// How much of a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// All of it.
    Whole,
    /// A URL without its password.
    WithoutPassword,
    /// Nothing of it.
    Nothing,
}

/// All settings, in the order in which they are listed.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        name: "FANFARE_DATABASE_URL",
        flag: "database-url",
        key: "database_url",
        default: None,
        shown: Shown::WithoutPassword,
        form: form(
            "URL",
            "a PostgreSQL URL such as postgres://user:password@host:5432/fanfare?sslmode=verify-full",
        ),
        about: "The PostgreSQL database; several hosts and TLS as psql has them",
    },
    Setting {
        name: "FANFARE_AMQP_URL",
        flag: "amqp-url",
        key: "amqp_url",
        default: None,
        shown: Shown::WithoutPassword,
        form: form(
            "URL",
            "a RabbitMQ URL such as amqp://user:password@host:5672/vhost or amqps://…",
        ),
        about: "The RabbitMQ broker; several hosts with commas between them, TLS with amqps",
    },
    Setting {
        name: "FANFARE_SECRET_KEYS",
        flag: "secret-keys",
        key: "secret_keys",
        default: None,
        shown: Shown::Nothing,
        form: form(
            "KEYS",
            "id:key[,id:key…] with unique ids of 1 to 32 of A-Z a-z 0-9 _ - and keys of 32 bytes in base64",
        ),
        about: "The keys that encrypt secrets in the database, the first for new ones; \
                when not set, a key of this machine's own is kept in the state directory",
    },
    Setting {
        name: "FANFARE_CONSOLE_LISTEN",
        flag: "console-listen",
        key: "console_listen",
        default: Some("127.0.0.1:8080"),
        shown: Shown::Whole,
        form: form("ADDRESS", "an address with a port, such as 127.0.0.1:8080 or [::]:8080"),
        about: "Where the console and the API listen",
    },
    Setting {
        name: "FANFARE_CONSOLE_URL",
        flag: "console-url",
        key: "console_url",
        default: None,
        shown: Shown::Whole,
        form: form(
            "URL",
            "an http or https address without a path, such as https://fanfare.example.org",
        ),
        about: "The console's address as browsers and API clients see it. Set it where a proxy stands \
                before the console: forms sent from it are taken, answers with a Location name it, \
                and if it is https, cookies are Secure. Needed, with https, for signing in with an \
                identity provider, which sends browsers back to /sign-in/callback there",
    },
    Setting {
        name: "FANFARE_LOCAL_ACCOUNTS",
        flag: "local-accounts",
        key: "local_accounts",
        default: Some("yes"),
        shown: Shown::Whole,
        form: form("yes|no", "yes or no"),
        about: "Whether people may sign in with accounts made by 'fanfare users add'",
    },
    Setting {
        name: "FANFARE_OIDC_ISSUER",
        flag: "oidc-issuer",
        key: "oidc_issuer",
        default: None,
        shown: Shown::Whole,
        form: form(
            "URL",
            "the https address by which the provider calls itself, such as \
               https://id.example.org/realms/reports",
        ),
        about: "The OpenID Connect provider that people sign in with",
    },
    Setting {
        name: "FANFARE_OIDC_CLIENT_ID",
        flag: "oidc-client-id",
        key: "oidc_client_id",
        default: None,
        shown: Shown::Whole,
        form: form(
            "ID",
            "the name under which the console is registered at the provider, without spaces",
        ),
        about: "The console's name at the provider",
    },
    Setting {
        name: "FANFARE_OIDC_CLIENT_SECRET",
        flag: "oidc-client-secret",
        key: "oidc_client_secret",
        default: None,
        shown: Shown::Nothing,
        form: form("SECRET", "the secret that the provider gave out for the console"),
        about: "The console's secret at the provider; none for a public client",
    },
    Setting {
        name: "FANFARE_OIDC_SCOPES",
        flag: "oidc-scopes",
        key: "oidc_scopes",
        default: Some("openid profile"),
        shown: Shown::Whole,
        form: form("SCOPES", "scopes separated by spaces, openid among them"),
        about: "What the provider is asked to tell about users",
    },
    Setting {
        name: "FANFARE_OIDC_USER_CLAIM",
        flag: "oidc-user-claim",
        key: "oidc_user_claim",
        default: Some("preferred_username"),
        shown: Shown::Whole,
        form: form("CLAIM", "the name of a claim, or a path of names with dots between them"),
        about: "The claim that holds a user's name at the report server",
    },
    Setting {
        name: "FANFARE_OIDC_ADMIN_CLAIM",
        flag: "oidc-admin-claim",
        key: "oidc_admin_claim",
        default: None,
        shown: Shown::Whole,
        form: form("CLAIM", "the name of a claim, or a path of names with dots between them"),
        about: "The claim that says who is an administrator, beside the members of the report \
                server's role System Administrator",
    },
    Setting {
        name: "FANFARE_OIDC_ADMIN_VALUE",
        flag: "oidc-admin-value",
        key: "oidc_admin_value",
        default: None,
        shown: Shown::Whole,
        form: form("TEXT", "a text on one line"),
        about: "What that claim is, or holds in its list, for an administrator",
    },
    Setting {
        name: "FANFARE_OIDC_AUDIENCE",
        flag: "oidc-audience",
        key: "oidc_audience",
        default: None,
        shown: Shown::Whole,
        form: form("AUDIENCE", "a text without spaces, other than the client id"),
        about: "The audience of the provider's access tokens (JWT) that open the API; when not set, \
                none do",
    },
    Setting {
        name: "FANFARE_OIDC_LABEL",
        flag: "oidc-label",
        key: "oidc_label",
        default: Some("single sign-on"),
        shown: Shown::Whole,
        form: form("TEXT", "a text of at most 60 characters"),
        about: "What people call the provider: the button says 'Sign in with …'",
    },
    Setting {
        name: "FANFARE_METRICS_LISTEN",
        flag: "metrics-listen",
        key: "metrics_listen",
        default: Some("off"),
        shown: Shown::Whole,
        form: form("ADDRESS", "an address with a port, such as 127.0.0.1:9090, or off"),
        about: "Where this process serves /metrics, /healthz and /readyz",
    },
    Setting {
        name: "FANFARE_OTLP_ENDPOINT",
        flag: "otlp-endpoint",
        key: "otlp_endpoint",
        default: Some("off"),
        shown: Shown::WithoutPassword,
        form: form(
            "URL",
            "the address of an OTLP/HTTP receiver that takes JSON, such as http://127.0.0.1:4318, \
               or off",
        ),
        about: "Where a router and a worker send their spans, to /v1/traces there",
    },
    Setting {
        name: "OTEL_EXPORTER_OTLP_HEADERS",
        flag: "otel-exporter-otlp-headers",
        key: "otel_exporter_otlp_headers",
        default: Some(""),
        shown: Shown::Nothing,
        form: form(
            "HEADERS",
            "name=value[,name=value…] with values percent-encoded, such as \
             authorization=Bearer%20secret",
        ),
        about: "Headers that requests with spans carry, such as those that authenticate them",
    },
    Setting {
        name: "OTEL_TRACES_SAMPLER",
        flag: "otel-traces-sampler",
        key: "otel_traces_sampler",
        default: Some("parentbased_always_on"),
        shown: Shown::Whole,
        form: form(
            "SAMPLER",
            "always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off, \
             or parentbased_traceidratio",
        ),
        about: "Which traces are recorded; with parentbased_ a publisher's decision counts, and \
                the rest is about traces that begin here",
    },
    Setting {
        name: "OTEL_TRACES_SAMPLER_ARG",
        flag: "otel-traces-sampler-arg",
        key: "otel_traces_sampler_arg",
        default: Some("1"),
        shown: Shown::Whole,
        form: form("RATIO", "a number from 0 to 1, such as 0.1"),
        about: "The share of traces that the samplers with traceidratio record",
    },
    Setting {
        name: "FANFARE_ALLOW_TARGETS",
        flag: "allow-targets",
        key: "allow_targets",
        default: Some(""),
        shown: Shown::Whole,
        form: form("NETWORKS", "networks such as 10.1.0.0/16,127.0.0.1/32, separated by commas"),
        about: "Networks that webhooks may reach although they are private or loopback",
    },
    Setting {
        name: "FANFARE_RECEIVER_CA_FILE",
        flag: "receiver-ca-file",
        key: "receiver_ca_file",
        default: None,
        shown: Shown::Whole,
        form: form("FILE", "a file with certificates in PEM form"),
        about: "Authorities that receivers' certificates may be signed by, beside those that the \
                system trusts; it is read again when it changes",
    },
    Setting {
        name: "FANFARE_RETRY_FIRST",
        flag: "retry-first",
        key: "retry_first",
        default: Some("5s"),
        shown: Shown::Whole,
        form: DURATION,
        about: "The delay before the second attempt; each later one is five times as long",
    },
    Setting {
        name: "FANFARE_RETRY_MAX_DELAY",
        flag: "retry-max-delay",
        key: "retry_max_delay",
        default: Some("12h"),
        shown: Shown::Whole,
        form: DURATION,
        about: "The longest delay between two attempts",
    },
    Setting {
        name: "FANFARE_RETRY_ATTEMPTS",
        flag: "retry-attempts",
        key: "retry_attempts",
        default: Some("12"),
        shown: Shown::Whole,
        form: COUNT,
        about: "The attempts after which a delivery becomes a dead letter",
    },
    Setting {
        name: "FANFARE_DELIVERY_DEADLINE",
        flag: "delivery-deadline",
        key: "delivery_deadline",
        default: Some("72h"),
        shown: Shown::Whole,
        form: DURATION,
        about: "The age after which a delivery is not tried again",
    },
    Setting {
        name: "FANFARE_CONNECT_TIMEOUT",
        flag: "connect-timeout",
        key: "connect_timeout",
        default: Some("5s"),
        shown: Shown::Whole,
        form: DURATION,
        about: "The longest time for connecting to a receiver, TLS included",
    },
    Setting {
        name: "FANFARE_TIMEOUT",
        flag: "timeout",
        key: "timeout",
        default: Some("15s"),
        shown: Shown::Whole,
        form: DURATION,
        about: "The longest time for one attempt as a whole",
    },
    Setting {
        name: "FANFARE_DIRECTORY_HOLD",
        flag: "directory-hold",
        key: "directory_hold",
        default: Some("30s"),
        shown: Shown::Whole,
        form: DURATION,
        about: "How long an event waits for its accessrevision, or for a complete directory, before it becomes a dead letter",
    },
    Setting {
        name: "FANFARE_DIRECTORY_GAP",
        flag: "directory-gap",
        key: "directory_gap",
        default: Some("hold"),
        shown: Shown::Whole,
        form: form("hold|pass", "hold or pass"),
        about: "What becomes of an event that asks for a revision below which one is missing: hold keeps \
                it until the revision or a snapshot comes, or as a dead letter; pass decides it after \
                FANFARE_DIRECTORY_GAP_WAIT, by permissions that may be out of date",
    },
    Setting {
        name: "FANFARE_DIRECTORY_GAP_WAIT",
        flag: "directory-gap-wait",
        key: "directory_gap_wait",
        default: Some("5s"),
        shown: Shown::Whole,
        form: DURATION,
        about: "How long a missing directory revision is waited for before it is treated as lost",
    },
    Setting {
        name: "FANFARE_DIRECTORY_HISTORY",
        flag: "directory-history",
        key: "directory_history",
        default: Some("7d"),
        shown: Shown::Whole,
        form: DURATION,
        about: "How long former permissions are kept, for events that ask by an older revision and for explanations",
    },
    Setting {
        name: "FANFARE_MASK",
        flag: "mask",
        key: "mask",
        default: Some("connection-strings"),
        shown: Shown::Whole,
        form: form(
            "RULES",
            "off, or a list of connection-strings and filter:path, separated by commas, such as \
               connection-strings,reports:$.Owner.Email",
        ),
        about: "What of an event's data is replaced by *** before it is stored or sent: the passwords \
                in connection strings, and the values that JSON paths name in events of a filter",
    },
    Setting {
        name: "FANFARE_PREFETCH",
        flag: "prefetch",
        key: "prefetch",
        default: Some("256"),
        shown: Shown::Whole,
        form: form("N", "a whole number from 1 to 65535"),
        about: "The messages that a process holds at a time; a worker no more than FANFARE_CONCURRENCY",
    },
    Setting {
        name: "FANFARE_DELIVERY_QUEUES",
        flag: "delivery-queues",
        key: "delivery_queues",
        default: Some("1"),
        shown: Shown::Whole,
        form: form("N", "a whole number from 1 to 16"),
        about: "The queues that jobs for first attempts are spread over, by webhook; raise it for \
                workers first, lower it for routers first",
    },
    Setting {
        name: "FANFARE_CONCURRENCY",
        flag: "concurrency",
        key: "concurrency",
        default: Some("1024"),
        shown: Shown::Whole,
        form: COUNT,
        about: "The attempts that a worker makes side by side, and as many more that take longer than \
                usual",
    },
    Setting {
        name: "FANFARE_WEBHOOK_CONCURRENCY",
        flag: "webhook-concurrency",
        key: "webhook_concurrency",
        default: Some("64"),
        shown: Shown::Whole,
        form: COUNT,
        about: "The most attempts that a worker makes side by side to one webhook",
    },
    Setting {
        name: "FANFARE_WEBHOOKS_PER_OWNER",
        flag: "webhooks-per-owner",
        key: "webhooks_per_owner",
        default: Some("100"),
        shown: Shown::Whole,
        form: COUNT,
        about: "The most webhooks that one user may have; who has more keeps them",
    },
    Setting {
        name: "FANFARE_PAUSE_FAILING_AFTER",
        flag: "pause-failing-after",
        key: "pause_failing_after",
        default: Some("5d"),
        shown: Shown::Whole,
        form: DURATION,
        about: "How long all retries to a webhook may fail before it is paused",
    },
    Setting {
        name: "FANFARE_DATABASE_CONNECTIONS",
        flag: "database-connections",
        key: "database_connections",
        default: Some("8"),
        shown: Shown::Whole,
        form: COUNT,
        about: "The database connections that a process may open",
    },
    Setting {
        name: "FANFARE_LOG",
        flag: "log",
        key: "log",
        default: Some("info"),
        shown: Shown::Whole,
        form: form("FILTER", "a filter such as warn, info or info,fanfare_worker=debug"),
        about: "What is logged; commands other than the roles log warnings only when it is not set",
    },
    Setting {
        name: "FANFARE_LOG_FORMAT",
        flag: "log-format",
        key: "log_format",
        default: Some("text"),
        shown: Shown::Whole,
        form: form("text|json", "text or json"),
        about: "How the log looks",
    },
];

impl Setting {
    /// The setting with this key in the file.
    pub(crate) fn by_key(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// The known key that is spelled most like `key`.
    pub(crate) fn nearest_key(key: &str) -> &'static str {
        let folded = key.to_lowercase().replace('-', "_");
        let folded = folded.strip_prefix("fanfare_").unwrap_or(&folded);
        SETTINGS
            .iter()
            .map(|setting| setting.key)
            .min_by_key(|known| edits(folded, known))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_names_of_a_setting_agree() {
        for setting in SETTINGS {
            // OpenTelemetry's own settings keep the names that its users know.
            let name = setting.name.strip_prefix("FANFARE_").unwrap_or(setting.name);
            assert_eq!(name, setting.key.to_uppercase());
            assert!(["FANFARE_", "OTEL_"].iter().any(|own| setting.name.starts_with(own)));
            assert_eq!(setting.flag, setting.key.replace('_', "-"));
        }
    }

    #[test]
    fn the_nearest_key_is_found() {
        for (wrong, right) in [
            ("databse_url", "database_url"),
            ("FANFARE_TIMEOUT", "timeout"),
            ("retry-attempt", "retry_attempts"),
            ("log_fromat", "log_format"),
        ] {
            assert_eq!(Setting::nearest_key(wrong), right);
        }
    }
}
