//! A minimal browser: one cookie, forms with their hidden fields, and redirects that are returned
//! instead of followed.

use std::net::SocketAddr;

use url::form_urlencoded;

use crate::api::client::{Answer, send};

/// The origin under which the browser knows the console.
pub(super) const ORIGIN: &str = "http://reports.example.org";

/// A browser with its one cookie.
#[derive(Clone)]
pub(super) struct Browser {
    address: SocketAddr,
    pub(super) cookie: Option<String>,
}

/// A form's fields.
pub(super) type Fields<'a> = [(&'a str, &'a str)];

impl Browser {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, cookie: None }
    }

    /// Sends a request with the cookie, and keeps the cookie of the answer.
    pub(super) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut all: Vec<(&str, &str)> = headers.to_vec();
        if let Some(cookie) = &self.cookie {
            all.push(("Cookie", cookie));
        }
        let answer = send(self.address, method, path, &all, body.as_bytes()).await.unwrap();
        if let Some(cookie) = answer.header("set-cookie") {
            let ended = cookie.contains("Max-Age=0");
            let pair = cookie.split(';').next().unwrap().to_owned();
            self.cookie = (!ended).then_some(pair);
        }
        answer
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[("Accept", "text/html")], "").await
    }

    /// The HTML of a page, whose status must be 200.
    pub(super) async fn page(&mut self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.body
    }

    /// Sends a form without hidden fields.
    pub(super) async fn post(&mut self, path: &str, fields: &Fields<'_>) -> Answer {
        self.send("POST", path, &[FORM, ("Origin", ORIGIN)], &encode(fields)).await
    }

    /// Sends a form of the page `from`, with that page's hidden fields.
    pub(super) async fn submit(&mut self, from: &str, path: &str, fields: &Fields<'_>) -> Answer {
        let token = self.token(from).await;
        let mut all: Vec<(&str, &str)> = vec![("token", &token)];
        all.extend_from_slice(fields);
        self.post(path, &all).await
    }

    /// The same with htmx, which requests a part of a page.
    pub(super) async fn submit_part(&mut self, from: &str, path: &str) -> Answer {
        let token = self.token(from).await;
        let headers = [FORM, ("Origin", ORIGIN), ("HX-Request", "true")];
        self.send("POST", path, &headers, &encode(&[("token", &token)])).await
    }

    /// The token that is hidden in a page's forms.
    pub(super) async fn token(&mut self, page: &str) -> String {
        let html = self.page(page).await;
        let (_, rest) = html.split_once(r#"name="token" value=""#).unwrap();
        rest.split('"').next().unwrap().to_owned()
    }

    pub(super) async fn sign_in(&mut self, name: &str, password: &str) -> Answer {
        self.post("/sign-in", &[("name", name), ("password", password), ("next", "")]).await
    }

    /// Creates a webhook with the form; returns the path of its page.
    pub(super) async fn create(&mut self, fields: &Fields<'_>) -> String {
        let answer = self.submit("/webhooks/new", "/webhooks", fields).await;
        assert_eq!(answer.status, 303, "{answer:?}");
        let (path, done) = answer.header("location").unwrap().split_once('?').unwrap();
        assert_eq!(done, "done=created");
        path.to_owned()
    }
}

pub(super) const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

pub(super) fn encode(fields: &Fields<'_>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}
