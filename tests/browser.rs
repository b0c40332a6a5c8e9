//! The console in a real Chromium, as people use it.

mod administrator;
mod axe;
mod journey;
mod keyboard;
mod looks;
mod window;

use fanfare_testkit::chromium::ChromeDriver;
use fanfare_testkit::process::Process;

use crate::console::{Console, PASSWORD};
use crate::world::World;
use window::Window;

/// An installation with all its processes, and browsers.
struct Desk {
    driver: ChromeDriver,
    console: Console,
    // Dropped before `world`, whose servers they use.
    _delivering: [Process; 2],
}

impl Desk {
    async fn new() -> Self {
        let driver = tokio::task::spawn_blocking(ChromeDriver::start);
        let world = World::new().await;
        let delivering = [world.start("router").await, world.start("worker").await];
        let console = Console::on(world).await;
        let driver = driver.await.unwrap().unwrap();
        Self { driver, console, _delivering: delivering }
    }

    /// A new browser without a session.
    async fn window(&self) -> Window {
        Window::open(&self.driver, self.console.address).await
    }

    /// A new browser whose user has signed in with the form.
    async fn signed_in(&self, name: &str) -> Window {
        let window = self.window().await;
        window.go("/").await;
        sign_in(&window, name, PASSWORD).await;
        window.arrives("/webhooks").await;
        window
    }
}

async fn sign_in(window: &Window, name: &str, password: &str) {
    window.fill("#name", name).await;
    window.fill("#password", password).await;
    window.choose("Sign in").await;
}
