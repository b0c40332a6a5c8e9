//! The results: compares the output of `fanfare deliveries list` with what the sample expects.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context as _, Result};
use fanfare_core::event::Event;
use serde_json::Value;

use super::sample::{End, HOOKS, Hook, Manner, Sample, Withheld, plural};

/// A webhook of the sample as it was registered.
#[derive(Debug)]
pub(crate) struct Registered {
    /// The sample's webhook.
    pub(crate) hook: &'static Hook,
    pub(crate) id: String,
}

/// A delivery, as listed.
#[derive(Debug)]
struct Delivery {
    webhook: String,
    events: Vec<String>,
    state: String,
    attempts: u32,
}

impl Delivery {
    fn is_settled(&self) -> bool {
        matches!(self.state.as_str(), "delivered" | "dead" | "dropped")
    }

    fn has_ended(&self, end: End) -> bool {
        let (state, attempts) = match end {
            End::Delivered { attempts } => ("delivered", attempts),
            End::Dead { attempts } => ("dead", attempts),
        };
        self.state == state && self.attempts == attempts
    }
}

/// The numbers of one webhook.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Accepted by the receiver.
    pub(crate) delivered: usize,
    /// Before the first attempt.
    pub(crate) pending: usize,
    /// Between attempts.
    pub(crate) retrying: usize,
    /// Given up.
    pub(crate) dead: usize,
    /// Dropped, because something changed between attempts.
    pub(crate) dropped: usize,
    /// Not planned, with the reason; `None` if the sample expects a delivery.
    pub(crate) withheld: BTreeMap<Option<Withheld>, usize>,
}

/// All results so far.
#[derive(Debug)]
pub(crate) struct Ledger {
    sample: Sample,
    /// The published events, those of the sample first.
    published: Vec<Event>,
    /// By id. Settled ones are kept even when the list no longer has them.
    deliveries: HashMap<String, Delivery>,
}

impl Ledger {
    /// No event is published yet.
    pub(crate) fn new(sample: Sample) -> Self {
        Self { sample, published: Vec::new(), deliveries: HashMap::new() }
    }

    /// Records that the sample's events are published.
    pub(crate) fn publish_sample(&mut self) {
        self.published.clone_from(&self.sample.events);
    }

    /// Records that another event is published.
    pub(crate) fn publish(&mut self, event: Event) {
        self.published.push(event);
    }

    /// Reads the output of `fanfare deliveries list --json`.
    pub(crate) fn take(&mut self, json: &str) -> Result<()> {
        let list: Vec<Value> = serde_json::from_str(json).context("reading the deliveries")?;
        for value in &list {
            let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
            let events = value["events"].as_array().into_iter().flatten();
            let delivery = Delivery {
                webhook: text("webhook"),
                events: events.filter_map(|id| id.as_str().map(str::to_owned)).collect(),
                state: text("state"),
                attempts: u32::try_from(value["attempts"].as_u64().unwrap_or_default())?,
            };
            self.deliveries.insert(text("id"), delivery);
        }
        Ok(())
    }

    /// The number of published events.
    pub(crate) fn n_published(&self) -> usize {
        self.published.len()
    }

    /// The number of known deliveries, and the number of settled ones among them.
    pub(crate) fn n_deliveries(&self) -> (usize, usize) {
        let settled = self.deliveries.values().filter(|delivery| delivery.is_settled());
        (self.deliveries.len(), settled.count())
    }

    /// The number of deliveries that the sample expects.
    pub(crate) fn n_expected(&self) -> Result<usize> {
        let mut expected = 0;
        for hook in &HOOKS {
            for event in &self.sample.events {
                expected += usize::from(self.sample.withheld(hook, event)?.is_none());
            }
        }
        Ok(expected)
    }

    /// The numbers of one webhook.
    pub(crate) fn tally(&self, registered: &Registered) -> Result<Tally> {
        let mut tally = Tally::default();
        let mut sent: HashSet<&str> = HashSet::new();
        let own = |delivery: &&Delivery| delivery.webhook == registered.id;
        for delivery in self.deliveries.values().filter(own) {
            sent.extend(delivery.events.iter().map(String::as_str));
            *match delivery.state.as_str() {
                "delivered" => &mut tally.delivered,
                "retrying" => &mut tally.retrying,
                "dead" => &mut tally.dead,
                "dropped" => &mut tally.dropped,
                _ => &mut tally.pending,
            } += 1;
        }
        let routed = self.routed();
        for event in &self.published {
            // An event without any delivery may not have been routed yet.
            if routed.contains(event.id.as_str()) && !sent.contains(event.id.as_str()) {
                let why = self.sample.withheld(registered.hook, event)?;
                *tally.withheld.entry(why).or_default() += 1;
            }
        }
        Ok(tally)
    }

    /// The differences from what the sample expects, one sentence each. Some may only need more
    /// time.
    pub(crate) fn differences(&self, all: &[Registered]) -> Result<Vec<String>> {
        let routed = self.routed();
        let mut differences = Vec::new();
        for registered in all {
            let hook = registered.hook;
            for event in &self.sample.events {
                let expected = self.sample.withheld(hook, event)?;
                let found = self.delivery(&registered.id, &event.id);
                let is_routed = routed.contains(event.id.as_str());
                if let Some(difference) = difference(expected, found, is_routed, hook.receiver) {
                    differences.push(format!(
                        "{} {} for {} ({}, {}): {difference}",
                        event.event_type,
                        event.id,
                        hook.owner,
                        hook.asks(),
                        hook.receiver.name(),
                    ));
                }
            }
        }
        Ok(differences)
    }

    /// The ids of a webhook's deliveries in a state.
    pub(crate) fn ids(&self, webhook: &str, state: &str) -> Vec<&str> {
        let wanted = self
            .deliveries
            .iter()
            .filter(|(_, delivery)| delivery.webhook == webhook && delivery.state == state);
        wanted.map(|(id, _)| id.as_str()).collect()
    }

    /// The events that are planned. An event is planned as a whole, so one delivery is enough to
    /// know.
    fn routed(&self) -> HashSet<&str> {
        let events = self.deliveries.values().flat_map(|delivery| &delivery.events);
        events.map(String::as_str).collect()
    }

    fn delivery(&self, webhook: &str, event: &str) -> Option<&Delivery> {
        let holds = |delivery: &&Delivery| {
            delivery.webhook == webhook && delivery.events.iter().any(|id| id == event)
        };
        self.deliveries.values().find(holds)
    }
}

fn difference(
    expected: Option<Withheld>,
    found: Option<&Delivery>,
    is_routed: bool,
    receiver: Manner,
) -> Option<String> {
    let expectation = match expected {
        None if found.is_some_and(|found| found.has_ended(receiver.end())) => return None,
        Some(_) if found.is_none() && is_routed => return None,
        None => format!("expected {}", receiver.end()),
        Some(why) => format!("expected to be withheld ({why})"),
    };
    let reality = match found {
        Some(found) => {
            format!("{} after {} attempt{}", found.state, found.attempts, plural(found.attempts))
        }
        None if is_routed => "no delivery".to_owned(),
        None => "not routed yet".to_owned(),
    };
    Some(format!("{expectation}, found {reality}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn registered() -> Vec<Registered> {
        let one = |(n, hook)| Registered { hook, id: format!("w{n}") };
        HOOKS.iter().enumerate().map(one).collect()
    }

    /// The list of deliveries that the sample expects.
    fn expected() -> Vec<Value> {
        let sample = Sample::load().unwrap();
        let mut list = Vec::new();
        for Registered { hook, id } in registered() {
            for event in &sample.events {
                if sample.withheld(hook, event).unwrap().is_none() {
                    let (state, attempts) = match hook.receiver.end() {
                        End::Delivered { attempts } => ("delivered", attempts),
                        End::Dead { attempts } => ("dead", attempts),
                    };
                    list.push(json!({
                        "id": format!("{id}-{}", event.id), "webhook": id, "events": [event.id],
                        "state": state, "attempts": attempts,
                    }));
                }
            }
        }
        list
    }

    fn ledger(list: &[Value]) -> Ledger {
        let mut ledger = Ledger::new(Sample::load().unwrap());
        ledger.publish_sample();
        ledger.take(&Value::from(list).to_string()).unwrap();
        ledger
    }

    #[test]
    fn what_was_expected_is_no_difference() {
        let list = expected();
        let ledger = ledger(&list);
        assert_eq!(ledger.differences(&registered()).unwrap(), [""; 0]);
        assert_eq!(ledger.n_expected().unwrap(), list.len());
        assert_eq!(ledger.n_deliveries(), (list.len(), list.len()));
        let ben = ledger.tally(&registered()[2]).unwrap();
        assert_eq!((ben.delivered, ben.withheld[&Some(Withheld::MayNotRead)]), (2, 6));
    }

    #[test]
    fn what_went_wrong_is_told() {
        let mut list = expected();
        let n_olga = list.iter().filter(|value| value["webhook"] == "w0").count();
        list[1]["state"] = "retrying".into();
        list[2]["attempts"] = 2.into();
        list.remove(n_olga);
        list.push(json!({
            "id": "x", "webhook": "w3", "events": ["sample-1"], "state": "delivered", "attempts": 1,
        }));
        let found = ledger(&list).differences(&registered()).unwrap();
        assert_eq!(
            found,
            [
                "reports.edit sample-2 for olga (*, healthy): \
                 expected delivered after 1 attempt, found retrying after 1 attempt",
                "reports.delete sample-3 for olga (*, healthy): \
                 expected delivered after 1 attempt, found delivered after 2 attempts",
                "reports.upload sample-1 for anna (reports, categories, healthy): \
                 expected delivered after 1 attempt, found no delivery",
                "reports.upload sample-1 for carl (*, healthy): \
                 expected to be withheld (owner is disabled), found delivered after 1 attempt",
            ]
        );
    }

    #[test]
    fn an_event_on_its_way_to_the_router_is_not_withheld() {
        let ledger = ledger(&[]);
        assert!(ledger.tally(&registered()[4]).unwrap().withheld.is_empty());
        assert_eq!(
            ledger.differences(&registered()).unwrap().len(),
            HOOKS.len() * ledger.n_published()
        );
    }
}
