//! The metrics of a batch of messages. They are counted when the messages are acknowledged.

use std::time::Duration;

use fanfare_core::filter::Filter;
use fanfare_core::reject::Reason;
use fanfare_metrics::Router as Metrics;

/// The counts of one batch. A batch that can't be settled is redelivered, and counted then.
#[derive(Default)]
pub(crate) struct BatchMetrics {
    events: Vec<Filter>,
    known: usize,
    /// For each new event, whether it matches a webhook, and how long it took.
    routed: Vec<(bool, Option<Duration>)>,
    documents: usize,
    unreadable: usize,
    /// The reason of each dead letter, and the number of its events.
    letters: Vec<(Reason, usize)>,
}

impl BatchMetrics {
    /// Counts received events. `known` of them were in the ledger already.
    pub(crate) fn events(&mut self, filters: impl IntoIterator<Item = Filter>, known: usize) {
        self.events.extend(filters);
        self.known += known;
    }

    /// Counts a new event: whether it matches a webhook, and how long ago it happened.
    pub(crate) fn routed(&mut self, is_matched: bool, after: Option<Duration>) {
        self.routed.push((is_matched, after));
    }

    /// Counts documents that came only with the events.
    pub(crate) fn documents(&mut self, count: usize) {
        self.documents += count;
    }

    /// Counts the dead letter of a message or entry that can't be read.
    pub(crate) fn unreadable(&mut self, reason: Reason) {
        self.unreadable += 1;
        self.letters.push((reason, 1));
    }

    /// Counts a dead letter of events.
    pub(crate) fn letter(&mut self, reason: Reason, events: usize) {
        self.letters.push((reason, events));
    }

    pub(crate) fn report(self, metrics: &Metrics) {
        self.events.into_iter().for_each(|filter| metrics.event(filter));
        metrics.known(self.known);
        self.routed.into_iter().for_each(|(is_matched, after)| metrics.routed(is_matched, after));
        metrics.documents(self.documents);
        metrics.unreadable(self.unreadable);
        self.letters.into_iter().for_each(|(reason, events)| metrics.dead_letter(reason, events));
    }
}
