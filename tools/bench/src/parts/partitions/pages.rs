//! The console's pages and the API's lists, each asked for as a browser or a program does.

use anyhow::{Context as _, Result};
use chrono::{Days, Utc};
use fanfare_store::Store;
use fanfare_store::deliveries::DeliveryFilter;

use super::PART;
use crate::console::Console;
use crate::plan::Plan;
use crate::progress::say;
use crate::report::Report;
use crate::stage::Stage;
use crate::world::World;

/// A console, and the paths that are asked for, each with the name of its figure.
pub(super) struct Pages {
    console: Console,
    paths: Vec<(&'static str, String)>,
}

impl Pages {
    /// Starts a console, and chooses what the pages are about.
    pub(super) async fn open(
        stage: &Stage,
        plan: &Plan,
        world: &mut World,
        store: &Store,
    ) -> Result<Self> {
        let console = Console::open(stage, world).await?;
        let webhooks = store.webhooks_list(None).await?;
        let stored = webhooks.iter().find(|webhook| webhook.owner.as_str().starts_with("owner"));
        let hook = stored.context("no webhook is stored")?.id;
        let of_hook = DeliveryFilter { webhook: Some(hook), limit: 1, ..DeliveryFilter::default() };
        let newest = store.deliveries_page(&of_hook).await?.deliveries;
        let delivery = newest.first().context("a webhook has no delivery")?.id;
        // An event from the middle of the days.
        let day = (Utc::now() - Days::new(plan.partitions_days / 2)).format("%Y%m%d");
        let event = format!("{day}-7");
        let api = "/api/v1";
        let paths = vec![
            ("page: webhooks", "/webhooks".to_owned()),
            ("page: webhooks by success rate", "/webhooks?sort=rate".to_owned()),
            ("page: a webhook", format!("/webhooks/{hook}")),
            ("page: deliveries of a webhook", format!("/webhooks/{hook}/deliveries")),
            (
                "page: dead deliveries of a webhook",
                format!("/webhooks/{hook}/deliveries?state=dead"),
            ),
            ("page: a delivery", format!("/webhooks/{hook}/deliveries/{delivery}")),
            ("page: storage", "/storage".to_owned()),
            ("page: audit", "/audit".to_owned()),
            ("page: overview", "/overview".to_owned()),
            ("page: events", "/events".to_owned()),
            ("page: events of a type", "/events?type=reports.edit".to_owned()),
            ("page: an event", format!("/events/event?id={event}")),
            (
                "page: why a webhook did not get an event",
                format!("/webhooks/{hook}/explain?about={event}"),
            ),
            ("page: dead letters", "/dead-letters".to_owned()),
            ("page: operations", "/operations".to_owned()),
            ("page: directory", "/directory".to_owned()),
            ("page: accounts", "/accounts".to_owned()),
            ("page: notices", "/notices".to_owned()),
            ("deliveries", format!("{api}/deliveries")),
            ("deliveries of a webhook", format!("{api}/deliveries?webhook={hook}")),
            ("deliveries of an owner", format!("{api}/deliveries?owner=owner1")),
            ("deliveries, delivered", format!("{api}/deliveries?state=delivered")),
            ("deliveries, retrying", format!("{api}/deliveries?state=retrying")),
            ("deliveries, pending", format!("{api}/deliveries?state=pending")),
            ("deliveries, dead", format!("{api}/deliveries?state=dead")),
            (
                "deliveries, dead, of a webhook",
                format!("{api}/deliveries?state=dead&webhook={hook}"),
            ),
            ("deliveries, dropped", format!("{api}/deliveries?state=dropped")),
            ("deliveries of an event", format!("{api}/deliveries?event={event}")),
            ("a delivery", format!("{api}/deliveries/{delivery}")),
            ("events", format!("{api}/events")),
            ("events of a type", format!("{api}/events?type=reports.edit")),
            ("an event", format!("{api}/events/{event}")),
            ("statistics of all, a day", format!("{api}/statistics")),
            ("statistics of all, a month", format!("{api}/statistics?hours=744")),
            ("statistics of a webhook, a day", format!("{api}/statistics?webhook={hook}")),
            (
                "statistics of a webhook, a month",
                format!("{api}/statistics?webhook={hook}&hours=744"),
            ),
            ("statistics of an owner, a month", format!("{api}/statistics?owner=owner1&hours=744")),
            ("storage", format!("{api}/storage")),
            ("audit", format!("{api}/audit")),
            ("dead letters", format!("{api}/dead-letters?queue=deliveries")),
        ];
        Ok(Self { console, paths })
    }

    /// Asks for each of them.
    pub(super) async fn measure(&self, plan: &Plan, report: &mut Report, when: &str) -> Result<()> {
        say(&format!("partitions: {when}pages"));
        for (name, path) in &self.paths {
            let name = format!("{when}{name}");
            self.console.measure(report, (PART, &name), path, plan.partitions_calls).await?;
        }
        Ok(())
    }
}
