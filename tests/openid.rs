//! Sign-in with an identity provider: the certified `oidc-provider`, as a separate process.

mod browser;
mod provider;
mod refusals;
mod sessions;
mod sign_in;
mod tokens;
mod user_info;

use std::net::SocketAddr;

use fanfare_testkit::process::Process;
use serde_json::json;

use crate::api::client::{Answer, send};
use crate::world::{SOON, World};
use browser::Browser;
use provider::Provider;

/// The console's address as browsers and the provider know it.
const CONSOLE: &str = "http://localhost:8080";
/// The audience of tokens for the API.
const AUDIENCE: &str = "https://fanfare.example.org/api";
/// The cookie of a session.
const SESSION: &str = "fanfare_session";
/// The cookie of a sign-in that has begun.
const FLOW: &str = "fanfare_sign_in";

/// An installation whose console has an identity provider.
struct OpenId {
    process: Process,
    world: World,
    address: SocketAddr,
    provider: Provider,
}

impl OpenId {
    /// An installation whose directory has the users `anna`, `chief` and `disabled`.
    async fn start() -> Self {
        Self::with(&[]).await
    }

    /// The same with some settings changed.
    async fn with(settings: &[(&str, &str)]) -> Self {
        let provider = Provider::start(true).await;
        Self::on(World::new().await, provider, settings).await
    }

    async fn on(mut world: World, provider: Provider, settings: &[(&str, &str)]) -> Self {
        let issuer = provider.issuer();
        let usual = [
            ("FANFARE_CONSOLE_LISTEN", "127.0.0.1:0"),
            ("FANFARE_CONSOLE_URL", CONSOLE),
            ("FANFARE_LOG", "info"),
            ("FANFARE_OIDC_ISSUER", issuer.as_str()),
            ("FANFARE_OIDC_CLIENT_ID", "console"),
            ("FANFARE_OIDC_CLIENT_SECRET", "a secret: 100%"),
            ("FANFARE_OIDC_SCOPES", "openid profile email groups"),
            ("FANFARE_OIDC_ADMIN_CLAIM", "groups"),
            ("FANFARE_OIDC_ADMIN_VALUE", "fanfare-admins"),
            ("FANFARE_OIDC_AUDIENCE", AUDIENCE),
            ("FANFARE_OIDC_LABEL", "Example ID"),
        ];
        for (name, value) in usual.iter().chain(settings) {
            world = world.with(name, value);
        }
        let (process, address) = console(&world).await;
        let it = Self { process, world, address, provider };
        it.directory(true).await;
        it
    }

    async fn directory(&self, anna_enabled: bool) {
        let users = json!([
            { "name": "Anna", "enabled": anna_enabled },
            { "name": "chief" },
            { "name": "disabled", "enabled": false },
        ]);
        self.world.directory(&json!({ "users": users, "roles": [] })).await;
    }

    fn browser(&self) -> Browser {
        Browser::new(self.address)
    }

    /// A browser in which a user is signed in.
    async fn signed_in(&self, name: &str) -> Browser {
        let mut browser = self.browser();
        let answer = browser.sign_in(name, "").await;
        assert_eq!(answer.status, 303, "{answer:?}");
        browser
    }

    /// Sends a request to the API with an access token.
    async fn ask(&self, path: &str, token: &str) -> Answer {
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", authorization.as_str())];
        send(self.address, "GET", path, &headers, b"").await.unwrap()
    }
}

/// Starts a console.
async fn console(world: &World) -> (Process, SocketAddr) {
    let process = world.spawn("console");
    let line = process.wait_for_line("listening on http://", SOON).await;
    let address = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
    (process, address)
}

/// Checks that the sign-in was refused with this text.
#[track_caller]
fn check_denied(browser: &Browser, answer: &Answer, status: u16, text: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(answer.body.contains(text), "{text:?} is not in {}", answer.body);
    assert_eq!(browser.cookie(SESSION), None);
}
