//! The console's pages, requested as a browser does.

mod administering;
mod audit;
mod browser;
mod dead_letters;
mod deliveries;
mod events;
mod forgery;
mod grid;
mod hostile;
mod notices;
mod operations;
mod proxies;
mod resend;
mod sessions;
mod storage;
mod webhooks;

use std::net::SocketAddr;

use fanfare_testkit::process::Process;
use serde_json::json;

use crate::world::{SOON, World};
use browser::Browser;

/// An address that needs no verification, and to which no request is sent.
const QUIET: &str = "http://192.0.2.1/hook?noecho";

/// The password of all accounts.
pub(crate) const PASSWORD: &str = "password-of-tests";

/// An installation with a console.
pub(crate) struct Console {
    // Dropped before `world`, whose servers it uses.
    _process: Process,
    pub(crate) world: World,
    pub(crate) address: SocketAddr,
}

impl Console {
    pub(crate) async fn start() -> Self {
        Self::on(World::new().await).await
    }

    pub(crate) async fn on(world: World) -> Self {
        let world = world.with("FANFARE_CONSOLE_LISTEN", "127.0.0.1:0");
        let world = world.with("FANFARE_LOG", "info");
        let process = world.spawn("console");
        let line = process.wait_for_line("listening on http://", SOON).await;
        let address = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
        Self { _process: process, world, address }
    }

    /// The same installation, after its console was killed and another one started.
    async fn killed(self) -> Self {
        let Self { _process: process, world, .. } = self;
        drop(process);
        Self::on(world).await
    }

    /// Adds accounts whose password is [`PASSWORD`].
    pub(crate) async fn add(&self, names: &[&str], more: &[&str]) {
        for name in names {
            let args = ["users", "add", name, "--password-stdin"];
            let args: Vec<&str> = args.iter().chain(more).copied().collect();
            self.world.fanfare_with(&args, Some(PASSWORD)).await;
        }
    }

    /// Imports a directory in which these users, and no others, are enabled.
    pub(crate) async fn directory(&self, names: &[&str]) {
        let users: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
        self.world.directory(&json!({ "users": users, "roles": [] })).await;
    }

    /// A browser without a session.
    fn browser(&self) -> Browser {
        Browser::new(self.address)
    }

    /// A browser in which this account is signed in.
    async fn signed_in(&self, name: &str) -> Browser {
        let mut browser = self.browser();
        let answer = browser.sign_in(name, PASSWORD).await;
        assert_eq!(answer.status, 303, "{answer:?}");
        browser
    }

    /// The HTML of the page of webhooks for this account.
    pub(crate) async fn webhooks_page(&self, name: &str) -> String {
        self.signed_in(name).await.page("/webhooks").await
    }

    /// Adds an account and signs it in.
    async fn user(&self, name: &str) -> Browser {
        self.add(&[name], &[]).await;
        self.signed_in(name).await
    }
}
