//! The timing of a POST: how long its phases took. The phases are resolving, connecting, the TLS
//! handshake, and waiting for the first byte.
//!
//! The resolver and the connector record when a phase begins or ends. The notes belong to the task
//! that sends ([`noted`]), which also opens the connection.

use std::cell::Cell;
use std::time::{Duration, Instant};

use fanfare_core::answer::Trace;

tokio::task_local! {
    static NOTES: Cell<Notes>;
}

/// The moments while a connection is opened, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Opening begins. It discards the notes about an earlier connection.
    Connecting,
    /// The lookup of a name begins. Literal addresses need none.
    Resolving,
    /// The addresses are known.
    Resolved,
    /// The TLS handshake begins.
    Securing,
    /// The connection can be used.
    Connected,
}

/// The time of each [`Moment`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Notes {
    resolving: bool,
    resolved: Option<Instant>,
    securing: Option<Instant>,
    connected: Option<Instant>,
}

/// The end of a POST, and its time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// The head of the answer arrived.
    Head(Instant),
    /// The connection could not be opened.
    NoConnection(Instant),
    /// There was no answer over an open connection.
    NoAnswer,
}

/// Runs a request, and returns its notes.
pub(crate) async fn noted<T>(request: impl Future<Output = T>) -> (T, Notes) {
    let request = async {
        let result = request.await;
        (result, NOTES.with(Cell::get))
    };
    NOTES.scope(Cell::default(), request).await
}

/// Records the present time for a moment.
pub(crate) fn note(moment: Moment) {
    let note = |notes: &Cell<Notes>| notes.set(notes.get().with(moment, Instant::now()));
    // Outside of `noted` there are no notes, and none are needed.
    let _ = NOTES.try_with(note);
}

impl Notes {
    fn with(self, moment: Moment, at: Instant) -> Self {
        match moment {
            Moment::Connecting => Self::default(),
            Moment::Resolving => Self { resolving: true, ..self },
            Moment::Resolved => Self { resolved: Some(at), ..self },
            Moment::Securing => Self { securing: Some(at), ..self },
            Moment::Connected => Self { connected: Some(at), ..self },
        }
    }

    /// Whether a connection was opened for the request.
    pub(crate) fn made_connection(&self) -> bool {
        self.connected.is_some()
    }

    /// The phases of a request that began at `began`. Their ends are rounded down to milliseconds
    /// since then, so that their sum never exceeds the whole duration.
    pub(crate) fn trace(&self, began: Instant, end: End) -> Trace {
        let mut last = Duration::ZERO;
        let mut part = |until: Instant| {
            let until = until.saturating_duration_since(began).max(last);
            let took = until.as_millis() - last.as_millis();
            last = until;
            u32::try_from(took).unwrap_or(u32::MAX)
        };
        let mut trace = Trace::default();
        let ready = match (self.connected, end) {
            (None, End::NoConnection(at)) => Some(at),
            (connected, _) => connected,
        };
        if let Some(ready) = ready {
            trace.dns_ms = self.resolving.then(|| part(self.resolved.unwrap_or(ready)));
            if !self.resolving || self.resolved.is_some() {
                trace.connect_ms = Some(part(self.securing.unwrap_or(ready)));
                trace.tls_ms = self.securing.map(|_| part(ready));
            }
        }
        if let End::Head(at) = end {
            trace.first_byte_ms = Some(part(at));
        }
        trace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(began: Instant, micros: u64) -> Instant {
        began + Duration::from_micros(micros)
    }

    /// Checks the phases DNS, connect, TLS and first byte, in milliseconds, of a request whose
    /// moments are given in microseconds after its beginning.
    #[track_caller]
    fn check(
        moments: &[(Moment, u64)],
        end: fn(Instant) -> End,
        at: u64,
        expect: [Option<u32>; 4],
    ) {
        let began = Instant::now();
        let note = |notes: Notes, (moment, micros): &(Moment, u64)| {
            notes.with(*moment, after(began, *micros))
        };
        let notes = moments.iter().fold(Notes::default(), note);
        let trace = notes.trace(began, end(after(began, at)));
        let parts = [trace.dns_ms, trace.connect_ms, trace.tls_ms, trace.first_byte_ms];
        assert_eq!(parts, expect, "{moments:?}");
    }

    #[test]
    fn phases_follow_each_other_and_their_sum_is_the_time_to_the_head() {
        use Moment::{Connected, Connecting, Resolved, Resolving, Securing};
        let all = [
            (Connecting, 100),
            (Resolving, 200),
            (Resolved, 1_900),
            (Securing, 3_900),
            (Connected, 11_900),
        ];
        check(&all, End::Head, 51_800, [Some(1), Some(2), Some(8), Some(40)]);
        // A further connection of the same request discards the notes about the first one.
        let again = [&all[..], &[(Connecting, 20_000), (Connected, 22_000)]].concat();
        check(&again, End::Head, 30_500, [None, Some(22), None, Some(8)]);
        check(&[], End::Head, 4_200, [None, None, None, Some(4)]);
    }

    #[test]
    fn a_failure_ends_the_phase_in_which_it_happens() {
        use Moment::{Connected, Connecting, Resolved, Resolving, Securing};
        let dns = [(Connecting, 0), (Resolving, 0)];
        check(&dns, End::NoConnection, 7_000, [Some(7), None, None, None]);
        let connect = [(Connecting, 0), (Resolving, 0), (Resolved, 2_000)];
        check(&connect, End::NoConnection, 7_000, [Some(2), Some(5), None, None]);
        let tls = [(Connecting, 0), (Securing, 2_000)];
        check(&tls, End::NoConnection, 7_000, [None, Some(2), Some(5), None]);
        let answer = [(Connecting, 0), (Connected, 2_000)];
        check(&answer, |_| End::NoAnswer, 7_000, [None, Some(2), None, None]);
        check(&dns, End::Head, 7_000, [None, None, None, Some(7)]);
        check(&[], |_| End::NoAnswer, 7_000, [None; 4]);
    }
}
