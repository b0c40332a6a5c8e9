//! Complete receivers for one webhook's address, in common languages.

use askama::Template;
use fanfare_core::webhook::Webhook;

/// The program of a receiver.
pub(super) struct Receiver {
    pub(super) language: &'static str,
    /// How to run it.
    pub(super) hint: &'static str,
    pub(super) code: String,
}

/// The path and the port of the webhook's address, for the programs.
struct Endpoint {
    path: String,
    port: u16,
}

macro_rules! receiver {
    ($name:ident, $path:literal) => {
        #[derive(Template)]
        #[template(path = $path, escape = "none")]
        struct $name<'a> {
            endpoint: &'a Endpoint,
        }
    };
}

receiver!(CSharp, "receivers/csharp.txt");
receiver!(Python, "receivers/python.txt");
receiver!(Node, "receivers/node.txt");
receiver!(Go, "receivers/go.txt");
receiver!(Rust, "receivers/rust.txt");

/// Makes the programs for a webhook. The path of a parsed URL has no quotes and no backslashes,
/// which could end a string literal in these languages: it has `%22` and `/` instead.
pub(super) fn of(webhook: &Webhook) -> Vec<Receiver> {
    let url = webhook.uri.url();
    let path = url.path().replace(['"', '\\', '\n'], "");
    // Behind a proxy the receiver has another port. The address's port is the best guess.
    let port = url.port().filter(|port| *port > 1023).unwrap_or(8500);
    let endpoint = Endpoint { path, port };
    let receiver = |language, hint, code: askama::Result<String>| {
        // A template that only joins texts can't fail.
        Receiver { language, hint, code: code.unwrap_or_default() }
    };
    vec![
        receiver(
            "C#",
            "In a project made by dotnet new web, as Program.cs.",
            CSharp { endpoint: &endpoint }.render(),
        ),
        receiver("Python", "python receiver.py", Python { endpoint: &endpoint }.render()),
        receiver("Node.js", "node receiver.mjs", Node { endpoint: &endpoint }.render()),
        receiver("Go", "go run receiver.go", Go { endpoint: &endpoint }.render()),
        receiver(
            "Rust",
            "cargo add axum hmac@0.13 sha2@0.11 hex && cargo add tokio --features full, as \
             src/main.rs.",
            Rust { endpoint: &endpoint }.render(),
        ),
    ]
}
