//! The hosts of the broker, and the order in which a process tries them.
//!
//! A process begins with any of them, so that many processes spread over the nodes of a cluster. All
//! of its connections go to one node while that works, so that one node's failure ends them
//! together and one attempt finds the next node for all of them.

use crate::host::BrokerHost;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The place of a host in the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostNumber(usize);

/// All hosts of an address.
pub(crate) struct Hosts {
    hosts: Box<[BrokerHost]>,
    preferred: AtomicUsize,
}

impl Hosts {
    pub(crate) fn new(hosts: Vec<BrokerHost>) -> Self {
        let preferred = AtomicUsize::new(fastrand::usize(..hosts.len().max(1)));
        Self { hosts: hosts.into(), preferred }
    }

    pub(crate) fn get(&self, number: HostNumber) -> &BrokerHost {
        &self.hosts[number.0]
    }

    /// All of them, in the order in which to try them: from the preferred one on in a circle, those
    /// that did not answer last time at the end, because they may cost a time-out again.
    pub(crate) fn order(&self) -> Vec<HostNumber> {
        let (first, count) = (self.preferred.load(Ordering::Relaxed), self.hosts.len());
        let mut order: Vec<HostNumber> =
            (first..first + count).map(|number| HostNumber(number % count)).collect();
        order.sort_by_key(|number| self.get(*number).silent.load(Ordering::Relaxed));
        order
    }

    /// Further connections go to this host first.
    pub(crate) fn prefer(&self, number: HostNumber) {
        self.preferred.store(number.0, Ordering::Relaxed);
    }

    /// A connection to this host ended: further ones go to another host first, to any, so that the
    /// processes of a failed node spread over the others.
    pub(crate) fn leave(&self, number: HostNumber) {
        let others = self.hosts.len().saturating_sub(1);
        if others > 0 {
            let next = (number.0 + 1 + fastrand::usize(..others)) % self.hosts.len();
            // Another connection may have found a host already.
            let (relaxed, only_if) = (Ordering::Relaxed, number.0);
            let _ = self.preferred.compare_exchange(only_if, next, relaxed, relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[&str]) -> Hosts {
        let parse = |name: &&str| BrokerHost::parse(&format!("amqp://{name}/a")).unwrap();
        Hosts::new(names.iter().map(parse).collect())
    }

    fn names(hosts: &Hosts) -> Vec<String> {
        let name = |number| hosts.get(number).uri.authority.host.clone();
        hosts.order().into_iter().map(name).collect()
    }

    #[test]
    fn order_begins_with_the_preferred_host_and_ends_with_silent_ones() {
        let hosts = hosts(&["a", "b", "c"]);
        hosts.prefer(HostNumber(1));
        assert_eq!(names(&hosts), ["b", "c", "a"]);
        hosts.get(HostNumber(1)).silent.store(true, Ordering::Relaxed);
        assert_eq!(names(&hosts), ["c", "a", "b"]);
    }

    #[test]
    fn processes_begin_with_any_host() {
        let first = || names(&hosts(&["a", "b", "c"])).swap_remove(0);
        let begun: std::collections::HashSet<String> = (0..200).map(|_| first()).collect();
        assert_eq!(begun.len(), 3);
    }

    #[test]
    fn failed_host_is_left_once() {
        let hosts = hosts(&["a", "b", "c"]);
        hosts.prefer(HostNumber(0));
        hosts.leave(HostNumber(0));
        let next = names(&hosts).swap_remove(0);
        assert_ne!(next, "a");
        // The other connections to it end a moment later.
        hosts.leave(HostNumber(0));
        assert_eq!(names(&hosts)[0], next);
    }

    #[test]
    fn only_host_is_tried_again() {
        let hosts = hosts(&["a"]);
        hosts.leave(HostNumber(0));
        assert_eq!(names(&hosts), ["a"]);
    }
}
