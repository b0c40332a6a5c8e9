//! What a batch of messages came to, counted once the broker need not keep them.

use fanfare_core::filter::Filter;
use fanfare_core::reject::Reason;
use fanfare_metrics::Router as Metrics;

/// Counts of one batch. A batch that could not be settled is taken again, and counted then.
#[derive(Default)]
pub(crate) struct Tally {
    events: Vec<Filter>,
    known: usize,
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
        metrics.documents(self.documents);
        metrics.unreadable(self.unreadable);
        self.letters.into_iter().for_each(|(reason, events)| metrics.dead_letter(reason, events));
    }
}
