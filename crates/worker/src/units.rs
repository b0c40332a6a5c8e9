//! The deliveries and notifications of a job that carries its events.

use fanfare_core::ids::WebhookId;
use fanfare_core::job::{Addressee, Due, Unit};

/// The first attempts of a job.
pub(crate) fn attempt_refs(units: &[Unit]) -> Vec<Due> {
    let due = |unit: &Unit, webhook: WebhookId| Due { batch: unit.batch, webhook, entry: 1 };
    units.iter().flat_map(|unit| unit.deliveries.iter().map(|to| due(unit, to.webhook))).collect()
}

pub(crate) fn delivery_count(units: &[Unit]) -> usize {
    units.iter().map(|unit| unit.deliveries.len()).sum()
}

/// The notifications of a unit that a webhook gets.
pub(crate) fn notifications<'a>(unit: &'a Unit, to: &Addressee) -> Vec<&'a str> {
    let all: Vec<&str> = unit.notifications.iter().map(|raw| raw.get()).collect();
    match &to.only {
        None => all,
        Some(only) => only.iter().filter_map(|index| all.get(*index).copied()).collect(),
    }
}
