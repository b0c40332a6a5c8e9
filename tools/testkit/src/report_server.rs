//! A report server as people have it: users, roles and permissions behind a REST API, and webhooks that
//! it posts itself. It follows what is documented of both products, and can do badly what they may.
//!
//! It proves agreement with its description only; no real server was asked.

mod answers;
mod posts;
mod state;
mod switches;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::mutex::hold;
use crate::receiver::{Receiver, Reply};

pub use state::{Dialect, Kind, Sent};
pub use switches::{Listing, Switches};

use state::State;

/// The administrator's name and password.
pub const ADMINISTRATOR: (&str, &str) = ("fanfare", "pa55word-of-the-bridge");

/// A report server on a port of 127.0.0.1. Its queue of notifications is in memory.
pub struct ReportServer {
    receiver: Receiver,
    state: Arc<Mutex<State>>,
}

impl ReportServer {
    /// Starts a server with the built-in roles, the user Guest, and one administrator.
    pub async fn start(dialect: Dialect) -> Self {
        let receiver = Receiver::start().await;
        let state = Arc::new(Mutex::new(State::new(dialect)));
        let answering = Arc::clone(&state);
        receiver.answer_with(move |request, _| answers::answer(&answering, request));
        receiver.keep_no_requests();
        Self { receiver, state }
    }

    /// Its address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.receiver.addr()
    }

    /// Its address as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.receiver.url("")
    }

    /// The number of requests so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.receiver.count()
    }

    /// Changes how it behaves.
    pub fn switch(&self, change: impl FnOnce(&mut Switches)) {
        change(&mut hold(&self.state).switches);
    }

    /// Adds a user, and returns the id.
    #[expect(clippy::must_use_candidate, reason = "what is there is what counts")]
    pub fn add_user(&self, name: &str) -> String {
        hold(&self.state).add_user(name)
    }

    /// Removes a user with the memberships.
    pub fn remove_user(&self, id: &str) {
        hold(&self.state).remove_user(id);
    }

    /// Enables or disables a user.
    pub fn enable_user(&self, id: &str, enabled: bool) {
        hold(&self.state).enable_user(id, enabled);
    }

    /// Gives a user another name.
    pub fn rename_user(&self, id: &str, name: &str) {
        hold(&self.state).rename_user(id, name);
    }

    /// Adds a role with members, and returns the id.
    #[expect(clippy::must_use_candidate, reason = "what is there is what counts")]
    pub fn add_role(&self, name: &str, members: &[&str]) -> String {
        hold(&self.state).add_role(name, members)
    }

    /// Removes a role.
    pub fn remove_role(&self, id: &str) {
        hold(&self.state).roles.remove(id);
    }

    /// Makes all changes of resources older by this much.
    pub fn age(&self, by: Duration) {
        hold(&self.state).age(by);
    }

    /// Changes members of all webhooks.
    pub fn edit_webhooks(&self, members: &Value) {
        hold(&self.state).edit_webhooks(members);
    }

    /// The id of a role by its name.
    #[must_use]
    pub fn role(&self, name: &str) -> String {
        hold(&self.state).role(name)
    }

    /// Makes these users the members of a role.
    pub fn set_members(&self, role: &str, members: &[&str]) {
        hold(&self.state).set_members(role, members);
    }

    /// Grants Read to a user or role; `scope` is a number of the API.
    pub fn grant(&self, holder: &str, scope: u32, target: &str) {
        hold(&self.state).grant(holder, scope, target);
    }

    /// Takes such a grant away.
    pub fn revoke(&self, holder: &str, scope: u32, target: &str) {
        hold(&self.state).revoke(holder, scope, target);
    }

    /// The names of those who may read a report.
    #[must_use]
    pub fn readers(&self, category: &str, report: &str) -> Vec<String> {
        hold(&self.state).readers(category, report)
    }

    /// Creates a resource, tells the webhooks, and returns the id.
    #[expect(clippy::must_use_candidate, reason = "what is there is what counts")]
    pub fn create(&self, kind: Kind, category: Option<&str>) -> String {
        let (id, posts) = hold(&self.state).create(kind, category);
        posts::send(&self.state, posts);
        id
    }

    /// Does something to a resource, and tells the webhooks.
    pub fn act(&self, kind: Kind, id: &str, action: &str) {
        let posts = hold(&self.state).act(kind, id, action);
        posts::send(&self.state, posts);
    }

    /// Deletes a resource with its permissions, and tells the webhooks.
    pub fn delete(&self, kind: Kind, id: &str) {
        let posts = hold(&self.state).delete(kind, id);
        posts::send(&self.state, posts);
    }

    /// The notifications that were answered with success, by the id of their POST and their position.
    #[must_use]
    pub fn sent(&self) -> Vec<Sent> {
        hold(&self.state).sent.clone()
    }

    /// The number of notifications that wait for an answer or another try.
    #[must_use]
    pub fn waiting(&self) -> usize {
        hold(&self.state).waiting
    }

    /// The number of notifications that were given up.
    #[must_use]
    pub fn given_up(&self) -> usize {
        hold(&self.state).given_up
    }

    /// The registered webhooks: address, whether paused, and description.
    #[must_use]
    pub fn webhooks(&self) -> Vec<(String, bool, String)> {
        hold(&self.state).webhooks()
    }

    /// Registers a webhook of a user, as a person does in the server's pages, and returns its id.
    #[expect(clippy::must_use_candidate, reason = "what is there is what counts")]
    pub fn add_webhook(&self, creator: &str, url: &str, members: &Value) -> String {
        hold(&self.state).add_webhook(creator, url, members)
    }

    /// A webhook as its creator sees it; null if there is none.
    #[must_use]
    pub fn webhook(&self, id: &str) -> Value {
        hold(&self.state).webhook(id)
    }

    /// Pauses all webhooks, as a person may.
    pub fn pause_webhooks(&self) {
        self.edit_webhooks(&json!({ "IsPaused": true }));
    }

    /// Posts a body to all webhooks, signed as it is, once. Returns the statuses of the answers.
    #[must_use]
    pub fn post_to_webhooks(&self, body: &str) -> Vec<u16> {
        posts::send_body(&self.state, body)
    }

    /// Ends all tokens.
    pub fn expire_tokens(&self) {
        hold(&self.state).tokens.clear();
    }
}

/// An answer of JSON.
fn reply(status: u16, body: &serde_json::Value) -> Reply {
    Reply::text(status, body.to_string())
        .with_header("content-type", "application/json; charset=utf-8")
}
