//! Requests to addresses that the operator has set, such as those of an identity provider.
//!
//! All addresses are allowed, even those that webhooks may not reach. The other rules are the same:
//! one call is one request, without redirects or proxies, and it has a time-out and a limit on the
//! answer.

use std::time::Duration;

use bytes::Bytes;
use fanfare_core::chain::chain;
pub use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, redirect, retry};
use thiserror::Error;
use url::Url;

use crate::client::BuildError;

/// The longest time for resolving, connecting and the TLS handshake together.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// The bounds of a request.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest time for a request as a whole.
    pub time: Duration,
    /// The largest answer, in bytes.
    pub answer: usize,
}

impl Default for Limits {
    /// Key sets with certificates, the largest answers of identity providers, have some tens of KiB.
    fn default() -> Self {
        Self { time: Duration::from_secs(8), answer: 512 * 1024 }
    }
}

/// The HTTP client for addresses of the operator.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    limit: usize,
}

/// An answer with any status.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The value of `retry-after`.
    pub retry_after: Option<HeaderValue>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum RequestError {
    /// The connection failed, or the answer is not valid HTTP.
    #[error("no answer from {origin}: {cause}")]
    Failed {
        /// Scheme, host and port.
        origin: String,
        cause: String,
    },
    /// The answer is too large.
    #[error("the answer of {origin} is larger than {} KiB", limit / 1024)]
    TooLarge {
        /// Scheme, host and port.
        origin: String,
        /// The largest answer, in bytes.
        limit: usize,
    },
    /// A header can't be sent.
    #[error("the authorization for {origin} holds characters that can't be sent")]
    Authorization {
        /// Scheme, host and port.
        origin: String,
    },
}

impl Client {
    /// Builds a client. If the system has no trust roots, no `https` address is trusted.
    pub fn new(user_agent: &str) -> Result<Self, BuildError> {
        Self::with_limits(user_agent, Limits::default())
    }

    /// The same with other bounds.
    pub fn with_limits(user_agent: &str, limits: Limits) -> Result<Self, BuildError> {
        let builder = || {
            reqwest::Client::builder()
                .user_agent(user_agent)
                .redirect(redirect::Policy::none())
                .referer(false)
                .no_proxy()
                .retry(retry::never())
                .connect_timeout(CONNECT_TIME)
                .timeout(limits.time)
        };
        let http = builder().build().or_else(|_| builder().tls_certs_only([]).build());
        Ok(Self { http: http.map_err(BuildError::Http)?, limit: limits.answer })
    }

    /// Gets a document; `authorization` is the value of the header of that name.
    pub async fn get(
        &self,
        url: &Url,
        authorization: Option<&str>,
    ) -> Result<Answer, RequestError> {
        self.send(self.http.get(url.clone()), url, authorization).await
    }

    /// Posts a form (`application/x-www-form-urlencoded`).
    pub async fn post_form(
        &self,
        url: &Url,
        form: String,
        authorization: Option<&str>,
    ) -> Result<Answer, RequestError> {
        let request = self.http.post(url.clone()).body(form);
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request, url, authorization).await
    }

    /// Posts a body with headers, such as its content type.
    pub async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, RequestError> {
        self.send(self.http.post(url.clone()).headers(headers).body(body), url, None).await
    }

    /// Sends JSON by any method.
    pub async fn send_json(
        &self,
        method: Method,
        url: &Url,
        json: String,
        authorization: Option<&str>,
    ) -> Result<Answer, RequestError> {
        let request = self.http.request(method, url.clone()).body(json);
        let request = request.header(CONTENT_TYPE, "application/json; charset=utf-8");
        self.send(request, url, authorization).await
    }

    /// Deletes a resource.
    pub async fn delete(
        &self,
        url: &Url,
        authorization: Option<&str>,
    ) -> Result<Answer, RequestError> {
        self.send(self.http.delete(url.clone()), url, authorization).await
    }

    async fn send(
        &self,
        request: RequestBuilder,
        url: &Url,
        authorization: Option<&str>,
    ) -> Result<Answer, RequestError> {
        let origin = || url.origin().ascii_serialization();
        let mut request = request.header(ACCEPT, "application/json");
        if let Some(text) = authorization {
            let value = HeaderValue::from_str(text);
            let mut value = value.map_err(|_| RequestError::Authorization { origin: origin() })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let failed = |error: reqwest::Error| {
            let cause = chain(&error.without_url());
            RequestError::Failed { origin: origin(), cause }
        };
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).cloned();
        let body = read(&mut response, self.limit).await.map_err(failed)?;
        let body =
            body.ok_or_else(|| RequestError::TooLarge { origin: origin(), limit: self.limit })?;
        Ok(Answer { status, retry_after, body })
    }
}

/// Reads a body; `None` if it is too large.
async fn read(response: &mut Response, limit: usize) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}
