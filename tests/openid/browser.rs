//! A minimal browser for signing in: cookies of two sites, redirects, and the provider's forms.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use url::{Url, form_urlencoded};

use super::CONSOLE;
use crate::api::client::{Answer, send_as};

/// The number of redirects after which the browser gives up.
const MOST_STEPS: usize = 20;

/// A browser without a session.
pub(super) struct Browser {
    console: SocketAddr,
    cookies: BTreeMap<(String, String), String>,
}

impl Browser {
    pub(super) fn new(console: SocketAddr) -> Self {
        Self { console, cookies: BTreeMap::new() }
    }

    /// A cookie of the console.
    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        let site = site(&Url::parse(CONSOLE).unwrap());
        self.cookies.get(&(site, name.to_owned())).map(String::as_str)
    }

    /// Sets a cookie of the console.
    pub(super) fn put_cookie(&mut self, name: &str, value: &str) {
        let site = site(&Url::parse(CONSOLE).unwrap());
        self.cookies.insert((site, name.to_owned()), value.to_owned());
    }

    /// Requests a page without following a redirect.
    pub(super) async fn get(&mut self, url: &str) -> Answer {
        self.send("GET", &Url::parse(url).unwrap(), &[]).await
    }

    /// Sends a form, without following a redirect.
    pub(super) async fn post(&mut self, url: &str, fields: &[(&str, &str)]) -> Answer {
        self.send("POST", &Url::parse(url).unwrap(), fields).await
    }

    /// Requests a page and follows its redirects. Returns the last address and its answer.
    pub(super) async fn visit(&mut self, url: &str) -> (String, Answer) {
        let mut url = Url::parse(url).unwrap();
        for _ in 0..MOST_STEPS {
            let answer = self.send("GET", &url, &[]).await;
            match answer.header("location") {
                Some(location) => url = url.join(location).unwrap(),
                None => return (url.into(), answer),
            }
        }
        panic!("too many redirects, last to {url}");
    }

    /// Begins a sign-in; returns the provider's address to which the console redirects.
    pub(super) async fn begin(&mut self, next: &str) -> String {
        let query =
            form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
        let answer = self.get(&format!("{CONSOLE}/sign-in/provider?{query}")).await;
        assert_eq!(answer.status, 303, "{answer:?}");
        answer.header("location").unwrap().to_owned()
    }

    /// Signs in at the provider and consents; returns the console's address to which the provider
    /// redirects, without requesting it.
    pub(super) async fn agree(&mut self, address: &str, name: &str) -> String {
        let mut url = Url::parse(address).unwrap();
        let mut answer = self.send("GET", &url, &[]).await;
        for _ in 0..MOST_STEPS {
            if let Some(location) = answer.header("location") {
                url = url.join(location).unwrap();
                if url.as_str().starts_with(CONSOLE) {
                    return url.into();
                }
                answer = self.send("GET", &url, &[]).await;
                continue;
            }
            assert_eq!(answer.status, 200, "{url}: {answer:?}");
            url = Url::parse(between(&answer.body, "action=\"", "\"")).unwrap();
            let login = [("prompt", "login"), ("login", name), ("password", "any")];
            let asks = answer.body.contains("name=\"login\"");
            let fields: &[_] = if asks { &login } else { &[("prompt", "consent")] };
            answer = self.send("POST", &url, fields).await;
        }
        panic!("the provider does not redirect to the console");
    }

    /// Signs in from beginning to end; returns the last answer.
    pub(super) async fn sign_in(&mut self, name: &str, next: &str) -> Answer {
        let address = self.begin(next).await;
        let back = self.agree(&address, name).await;
        self.get(&back).await
    }

    async fn send(&mut self, method: &str, url: &Url, fields: &[(&str, &str)]) -> Answer {
        let site = site(url);
        let ours = site == super::browser::site(&Url::parse(CONSOLE).unwrap());
        let port = url.port_or_known_default().unwrap();
        let address = if ours { self.console } else { ([127, 0, 0, 1], port).into() };
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .filter(|((of, _), _)| *of == site)
            .map(|((_, name), value)| format!("{name}={value}"))
            .collect();
        let (cookies, origin) = (cookies.join("; "), url.origin().ascii_serialization());
        let mut headers = vec![("Accept", "text/html"), ("Cookie", cookies.as_str())];
        if method == "POST" {
            headers.push(("Content-Type", "application/x-www-form-urlencoded"));
            headers.push(("Origin", &origin));
        }
        let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let answer =
            send_as(&site, address, method, path, &headers, body.as_bytes()).await.unwrap();
        for cookie in answer.headers("set-cookie") {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            let key = (site.clone(), name.to_owned());
            if cookie.contains("Max-Age=0") || value.is_empty() {
                self.cookies.remove(&key);
            } else {
                self.cookies.insert(key, value.to_owned());
            }
        }
        answer
    }
}

fn site(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap(), url.port_or_known_default().unwrap())
}

/// The text between two others.
#[track_caller]
pub(super) fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let rest = text.split_once(before).unwrap_or_else(|| panic!("no {before} in {text}")).1;
    rest.split_once(after).unwrap().0
}
