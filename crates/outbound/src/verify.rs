//! Verification of a webhook's address: the user who registers it must control the answers there.

use std::time::Duration;

use bytes::Bytes;
use fanfare_core::answer::Failure;
use hyper::{Method, StatusCode};
use thiserror::Error;
use tokio::time::timeout_at;
use url::Url;

use crate::body::{self, Start};
use crate::client::{Client, Request};
use crate::destination::Destination;
use crate::failure::Failed;

/// The longest time that a verification may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why the verification failed. Clients of the API rely on these messages.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VerifyError {
    /// There was no answer, or its status was not a success.
    #[error(
        "WebHook verification failed. Please ensure that the WebHook URI is valid and that the \
         endpoint is accessible. Error encountered: {reason}"
    )]
    Failed {
        /// The reason, in a few words for the webhook's owner.
        reason: String,
    },
    /// The answer was not the value that was sent.
    #[error(
        "The HTTP request echo query parameter was not returned as plain text in the response. \
         Please return the echo parameter to verify that the WebHook is working as expected."
    )]
    NoEcho,
}

/// Whether the URL asks not to be verified: it has a query parameter `noecho`, in any case.
#[must_use]
pub fn skips_verification(url: &Url) -> bool {
    url.query_pairs().any(|(name, _)| name.eq_ignore_ascii_case("noecho"))
}

impl Client {
    /// Sends a GET with `echo` added to the query, and checks that the answer has a success status
    /// and exactly that value as its body. `headers` are the webhook's own, since an endpoint may
    /// require them in every request.
    ///
    /// The caller has to check [`skips_verification`] first.
    ///
    /// # Errors
    ///
    /// The endpoint can't be reached, answers with a failure, or does not return the value.
    pub async fn verify(
        &self,
        to: impl Into<Destination<'_>>,
        headers: &[(String, String)],
        echo: &str,
    ) -> Result<(), VerifyError> {
        let (to, body) = (to.into(), Bytes::new());
        let is_name = matches!(to.url().host(), Some(url::Host::Domain(_)));
        let failed = |failed: Failed| VerifyError::of(failed, is_name);
        let request =
            Request { method: Method::GET, to, echo: Some(echo), headers, body, timeout: TIMEOUT };
        let mut answered = self.send(request).await.map_err(failed)?;
        let status = answered.reply.status;
        if !(200..300).contains(&status) {
            let status = StatusCode::from_u16(status);
            let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            let reason = format!("the endpoint answered {status}");
            return Err(VerifyError::Failed { reason });
        }
        let mut start = Start::default();
        let reading = body::read(&mut answered.reply.body, &mut start);
        match timeout_at(answered.deadline, reading).await {
            Ok(read) => read.map_err(|error| failed(Failed::in_exchange(&error)))?,
            Err(_) => return Err(failed(Failed::late(TIMEOUT))),
        }
        if start.is(echo) { Ok(()) } else { Err(VerifyError::NoEcho) }
    }

    /// Sends a GET, and returns the status of whatever answers.
    ///
    /// # Errors
    ///
    /// There is no answer: the kind of failure, and its details.
    pub async fn reach(&self, to: impl Into<Destination<'_>>) -> Result<u16, (Failure, String)> {
        let (to, body) = (to.into(), Bytes::new());
        let (method, timeout) = (Method::GET, TIMEOUT);
        let request = Request { method, to, echo: None, headers: &[], body, timeout };
        let answered = self.send(request).await;
        answered.map(|it| it.reply.status).map_err(|failed| (failed.failure, failed.detail))
    }
}

/// The reason for a name without a permitted address. It is the same whether the name has other
/// addresses or does not exist, so that users can't find out the names of the internal network.
const NO_ADDRESS: &str = "the name could not be resolved to an address that may be reached";

impl VerifyError {
    fn of(failed: Failed, is_name: bool) -> Self {
        let hidden = is_name && matches!(failed.failure, Failure::Dns | Failure::BlockedTarget);
        if hidden {
            tracing::info!(reason = failed.detail, "could not verify the address of a webhook");
            return Self::Failed { reason: NO_ADDRESS.to_owned() };
        }
        Self::Failed { reason: failed.detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_skip(url: &str, expect: bool) {
        assert_eq!(skips_verification(&url.parse().expect("a URL")), expect, "{url}");
    }

    #[test]
    fn a_parameter_noecho_in_any_case_skips_verification() {
        check_skip("http://example.com/?noecho", true);
        check_skip("http://example.com/?a=b&NoEcho=1", true);
        check_skip("http://example.com/?NOECHO=", true);
        check_skip("http://example.com/?n%6Fecho=", true);
        check_skip("http://example.com/", false);
        check_skip("http://example.com/noecho", false);
        check_skip("http://example.com/?echo=noecho", false);
        check_skip("http://example.com/?noecho2", false);
        check_skip("http://example.com/#?noecho", false);
    }

    #[test]
    fn messages_are_those_that_clients_rely_on() {
        let failed = VerifyError::Failed { reason: "the connection was refused".to_owned() };
        assert_eq!(
            failed.to_string(),
            "WebHook verification failed. Please ensure that the WebHook URI is valid and that \
             the endpoint is accessible. Error encountered: the connection was refused"
        );
        assert_eq!(
            VerifyError::NoEcho.to_string(),
            "The HTTP request echo query parameter was not returned as plain text in the \
             response. Please return the echo parameter to verify that the WebHook is working as \
             expected."
        );
    }
}
