//! The reasons why no connection could be opened.

use std::fmt;

use fanfare_core::chain::chain;

use crate::misconfigured::Misconfiguration;

/// The error when none of the database's hosts can be used.
#[derive(Debug)]
pub struct Unreachable {
    reasons: Vec<String>,
    advice: Option<&'static str>,
    /// The fault of the installation, if every host has one.
    misconfigured: Option<Misconfiguration>,
}

impl Unreachable {
    /// The error when the files for TLS can't be used: no host was tried.
    pub(crate) fn without_tls(reason: String) -> Self {
        Self { reasons: vec![reason], advice: None, misconfigured: None }
    }

    /// Combines the errors of all hosts, by their names.
    pub(crate) fn of_hosts(errors: &[(&str, HostError)]) -> Self {
        // Waiting may help as long as one host may become available.
        let all = errors.iter().all(|(_, error)| error.misconfigured.is_some());
        let misconfigured = errors.iter().find_map(|(_, error)| error.misconfigured);
        Self {
            reasons: errors
                .iter()
                .map(|(name, error)| format!("{name}: {}", error.reason))
                .collect(),
            advice: errors.iter().find_map(|(_, error)| error.advice),
            misconfigured: misconfigured.filter(|_| all),
        }
    }

    /// The fault that a person has to correct; `None` when waiting may help.
    pub(crate) fn misconfigured(&self) -> Option<Misconfiguration> {
        self.misconfigured
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reasons.join("; "))?;
        self.advice.map_or(Ok(()), |advice| write!(f, ": {advice}"))
    }
}

impl std::error::Error for Unreachable {}

/// The reason why one host can't be used.
pub(crate) struct HostError {
    reason: String,
    advice: Option<&'static str>,
    misconfigured: Option<Misconfiguration>,
}

impl From<tokio_postgres::Error> for HostError {
    fn from(error: tokio_postgres::Error) -> Self {
        let misconfigured = Misconfiguration::of_connecting(&error);
        Self { reason: chain(&error), advice: None, misconfigured }
    }
}

impl HostError {
    pub(crate) fn misconfigured(what: Misconfiguration, reason: String) -> Self {
        Self { reason, advice: None, misconfigured: Some(what) }
    }

    /// A host that may become available.
    pub(crate) fn unavailable(reason: String) -> Self {
        Self { reason, advice: None, misconfigured: None }
    }

    pub(crate) fn with_advice(self, advice: Option<&'static str>) -> Self {
        Self { advice, ..self }
    }
}
