//! The bridge to a report server: whether the report server can be followed.

use chrono::{DateTime, Utc};
use fanfare_app::clock;
use fanfare_bridge::api::Api;
use fanfare_bridge::check::{self, Checked};
use fanfare_outbound::trusted::Client;
use fanfare_store::StoreError;
use fanfare_store::events::EventFilter;

use super::Report;
use crate::settings::Settings;
use crate::wiring;

/// The most events among which one of the report server is looked for.
const MOST_EVENTS: i64 = 1000;

/// Runs the checks, if the settings name a report server.
pub(super) async fn check(report: &mut Report, settings: &Settings) -> anyhow::Result<()> {
    let bridge = &settings.bridge;
    if !bridge.is_used() {
        return Ok(());
    }
    let (api, http) = (wiring::report_server(settings)?, Client::new(wiring::USER_AGENT)?);
    let now = clock::now();
    // Without the database, nothing is known of events, and nothing is said about them.
    let newest_event = newest_event(settings).await.unwrap_or(Some(now));
    let (url, rules) = (bridge.url()?, bridge.rules()?);
    let api: Api = api.impatient();
    let checked = Checked { api: &api, http: &http, url, rules: &rules, newest_event, now };
    for (what, finding) in check::check(&checked).await {
        report.add(what, &finding)?;
    }
    Ok(())
}

/// The time of the newest event of this report server, or one that is not before it.
async fn newest_event(settings: &Settings) -> Result<Option<DateTime<Utc>>, StoreError> {
    let Ok(store) = wiring::store(settings, "doctor") else { return Ok(Some(clock::now())) };
    let filter = EventFilter { limit: MOST_EVENTS, ..EventFilter::default() };
    let page = store.events_page(&filter).await?;
    let of_it = page.events.iter().find(|event| event.source == settings.bridge.source);
    let bound = page.events.last().filter(|_| page.next.is_some());
    Ok(of_it.or(bound).map(|event| event.received_at))
}
