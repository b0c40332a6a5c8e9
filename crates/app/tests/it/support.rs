//! A migrated database, and a context for use cases on it without a broker.

use fanfare_app::webhooks::{NewWebhook, Verification, register};
use fanfare_app::{Actor, Context, Publisher};
use fanfare_core::audit::{Door, Via};
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::registration::{Members, Registration};
use fanfare_store::keyring::Keyring;
use fanfare_store::{Config, PlanMode, Store};
use fanfare_testkit::sandbox::Sandbox;

/// A context on a database of its own.
pub(crate) struct Installation {
    pub(crate) context: Context,
    sandbox: Sandbox,
}

impl Installation {
    pub(crate) async fn new() -> Self {
        let sandbox = Sandbox::new().await;
        let context = context(&sandbox, "test");
        context.store.migrate().await.unwrap();
        Self { context, sandbox }
    }

    /// The context of a process whose key ring has this key, which opens none of the secrets.
    pub(crate) fn with_key(&self, key: &str) -> Context {
        context(&self.sandbox, key)
    }

    /// Registers a webhook of this owner.
    pub(crate) async fn webhook(&self, owner: &str) -> WebhookId {
        let owner = name(owner);
        let actor = Actor::of_user(owner.clone(), via());
        let new = NewWebhook { owner, wanted: wanted(), verification: Verification::Skip };
        register(&self.context, &actor, new).await.unwrap().id
    }
}

fn context(sandbox: &Sandbox, key: &str) -> Context {
    let store = Store::new(Config {
        url: sandbox.database_url.clone(),
        max_connections: 2,
        plan_mode: PlanMode::Custom,
        application_name: "fanfare tests".to_owned(),
        keyring: Keyring::new(vec![(key.to_owned(), [7; 32])]).unwrap(),
    });
    Context::new(store.unwrap(), Publisher::none(), 100)
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A registration as a client sends it.
pub(crate) fn wanted() -> Registration {
    let members = Members::parse(br#"{"WebHookUri":"https://example.org/hook"}"#).unwrap();
    Registration::parse(&members).unwrap()
}

/// A request to the API.
pub(crate) fn via() -> Via {
    Via::door(Door::Api)
}
