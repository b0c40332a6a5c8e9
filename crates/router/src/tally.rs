//! What a batch of messages came to, counted once the broker need not keep them.

use std::time::Duration;

use fanfare_core::filter::Filter;
use fanfare_core::reject::Reason;
use fanfare_metrics::Router as Metrics;

/// Counts of one batch. A batch that could not be settled is taken again, and counted then.
#[derive(Default)]
pub(crate) struct Tally {
    events: Vec<Filter>,
    known: usize,
    /// Of each new event, whether it goes to anybody, and how long it took.
    routed: Vec<(bool, Option<Duration>)>,
    documents: usize,
    unreadable: usize,
    /// The reason of each dead letter, and how many events are in it.
    letters: Vec<(Reason, usize)>,
}

impl Tally {
    /// Events that were taken, of which the ledger had `known` already.
    pub(crate) fn events(&mut self, filters: impl IntoIterator<Item = Filter>, known: usize) {
        self.events.extend(filters);
        self.known += known;
    }

    /// A new event: whether it goes to anybody, and how long ago it says that it happened.
    pub(crate) fn routed(&mut self, is_matched: bool, after: Option<Duration>) {
        self.routed.push((is_matched, after));
    }

    /// Documents that nobody else counts.
    pub(crate) fn documents(&mut self, count: usize) {
        self.documents += count;
    }

    /// A dead letter of what can't be read.
    pub(crate) fn unreadable(&mut self, reason: Reason) {
        self.unreadable += 1;
        self.letters.push((reason, 1));
    }

    /// A dead letter of events.
    pub(crate) fn letter(&mut self, reason: Reason, events: usize) {
        self.letters.push((reason, events));
    }

    pub(crate) fn count(self, metrics: &Metrics) {
        self.events.into_iter().for_each(|filter| metrics.event(filter));
        metrics.known(self.known);
        self.routed.into_iter().for_each(|(is_matched, after)| metrics.routed(is_matched, after));
        metrics.documents(self.documents);
        metrics.unreadable(self.unreadable);
        self.letters.into_iter().for_each(|(reason, events)| metrics.dead_letter(reason, events));
    }
}
