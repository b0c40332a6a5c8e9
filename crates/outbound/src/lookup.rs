//! Looking up the addresses of names. A name server that does not answer for one zone delays only
//! the names of that zone.
//!
//! The system's function blocks its thread, for ten seconds or more if no server answers, and can't
//! be cancelled. So there is at most one lookup of a name at a time, for all requests that wait for
//! it. The names of one zone share a few threads, and these threads are used for nothing else.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

/// The most lookups at a time.
const THREADS: usize = 256;

/// The most lookups of names of one zone at a time.
const THREADS_PER_ZONE: usize = 16;

/// The result of a lookup, for all requests that wait for it.
type Answer = Arc<io::Result<Vec<SocketAddr>>>;

/// A function that looks up a name, and blocks meanwhile.
type Ask = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Looks up names. Clones share the limits on lookups.
#[derive(Clone)]
pub(crate) struct Lookups {
    ask: Arc<Ask>,
    threads: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    under_way: HashMap<String, watch::Receiver<Option<Answer>>>,
    /// The permits for lookups, of each zone with a lookup.
    zones: HashMap<String, Arc<Semaphore>>,
}

impl State {
    fn end(&mut self, name: &str) {
        self.under_way.remove(name);
        self.zones.retain(|_, threads| Arc::strong_count(threads) > 1);
    }
}

impl Lookups {
    /// Looks up names by the system's resolver.
    pub(crate) fn system() -> Self {
        // Port 0 is replaced by the URL's port.
        Self::new(|name| Ok((name, 0).to_socket_addrs()?.collect()))
    }

    fn new(ask: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        let threads = Arc::new(Semaphore::new(THREADS));
        Self { ask: Arc::new(ask), threads, state: Arc::default() }
    }

    /// Looks up the addresses of a name.
    ///
    /// # Errors
    ///
    /// The name does not exist, or the system did not answer.
    pub(crate) async fn find(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        let mut answer = self.answer(name);
        let answered = answer.wait_for(Option::is_some).await;
        match answered.ok().and_then(|answer| answer.clone()).as_deref() {
            Some(Ok(addresses)) => Ok(addresses.clone()),
            Some(Err(error)) => Err(io::Error::new(error.kind(), error.to_string())),
            None => Err(io::Error::other("the lookup was cancelled")),
        }
    }

    /// The receiver of the answer: of a lookup under way, or of one that begins now.
    fn answer(&self, name: &str) -> watch::Receiver<Option<Answer>> {
        let mut state = self.lock();
        if let Some(answer) = state.under_way.get(name) {
            return answer.clone();
        }
        let (sender, answer) = watch::channel(None);
        state.under_way.insert(name.to_owned(), answer.clone());
        drop(state);
        tokio::spawn(self.clone().run(name.to_owned(), sender));
        answer
    }

    async fn run(self, name: String, sender: watch::Sender<Option<Answer>>) {
        let Some(answer) = self.ask(&name, &sender).await else { return };
        self.lock().end(&name);
        sender.send_replace(Some(Arc::new(answer)));
    }

    /// Looks up a name when a thread is free; `None` if no request waits for it any more.
    async fn ask(
        &self,
        name: &str,
        sender: &watch::Sender<Option<Answer>>,
    ) -> Option<io::Result<Vec<SocketAddr>>> {
        let zone = Arc::clone(
            self.lock()
                .zones
                .entry(zone(name).to_owned())
                .or_insert_with(|| Arc::new(Semaphore::new(THREADS_PER_ZONE))),
        );
        let of_zone = zone.acquire_owned().await.ok()?;
        let of_all = Arc::clone(&self.threads).acquire_owned().await.ok()?;
        {
            let mut state = self.lock();
            // One of the receivers is in `under_way`, for later requests for the same name.
            if sender.receiver_count() <= 1 {
                state.end(name);
                return None;
            }
        }
        Some(self.on_thread(name.to_owned(), [of_zone, of_all]).await)
    }

    async fn on_thread(
        &self,
        name: String,
        permits: [OwnedSemaphorePermit; 2],
    ) -> io::Result<Vec<SocketAddr>> {
        let (done, answer) = oneshot::channel();
        let ask = Arc::clone(&self.ask);
        let asking = move || {
            let answer = ask(&name);
            drop(permits);
            // The receiver may have stopped waiting.
            let _ = done.send(answer);
        };
        thread::Builder::new().name("lookup".to_owned()).spawn(asking)?;
        answer.await.unwrap_or_else(|_| Err(io::Error::other("the lookup ended early")))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Lookups {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Lookups").finish_non_exhaustive()
    }
}

/// The assumed zone of a name: the labels after the first one, if there are at least two.
fn zone(name: &str) -> &str {
    let name = name.strip_suffix('.').unwrap_or(name);
    let behind = name.split_once('.').map(|(_, behind)| behind);
    behind.filter(|zone| zone.contains('.')).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use futures_util::poll;

    use super::*;

    /// A name server that does not answer for the zone `silent.example` until it is released.
    #[derive(Default)]
    struct Silent {
        asked: AtomicUsize,
        answers: Mutex<bool>,
        changed: Condvar,
    }

    impl Silent {
        fn lookups(self: &Arc<Self>) -> Lookups {
            let server = Arc::clone(self);
            Lookups::new(move |name| {
                if zone(name) == "silent.example" {
                    server.asked.fetch_add(1, Ordering::SeqCst);
                    let answers = server.answers.lock().unwrap();
                    drop(server.changed.wait_while(answers, |answers| !*answers).unwrap());
                }
                Ok(vec![([192, 0, 2, 1], 0).into()])
            })
        }

        fn release(&self) {
            *self.answers.lock().unwrap() = true;
            self.changed.notify_all();
        }
    }

    #[tokio::test]
    async fn a_zone_without_answers_delays_no_other_zone() {
        let server = Arc::new(Silent::default());
        let lookups = server.lookups();
        let names: Vec<_> = (0..1000).map(|number| format!("n{number}.silent.example")).collect();
        let mut silent = Box::pin(join_all(names.iter().map(|name| lookups.find(name))));
        assert!(poll!(&mut silent).is_pending());
        for number in 0..1000 {
            lookups.find(&format!("n{number}.other.example")).await.unwrap();
        }
        let asked = server.asked.load(Ordering::SeqCst);
        assert!(asked <= THREADS_PER_ZONE, "{asked} threads ask for names of one zone");
        server.release();
        assert!(silent.await.iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn concurrent_requests_for_a_name_share_one_lookup() {
        let server = Arc::new(Silent::default());
        let lookups = server.lookups();
        let mut all = Box::pin(join_all((0..100).map(|_| lookups.find("one.silent.example"))));
        assert!(poll!(&mut all).is_pending());
        server.release();
        assert!(all.await.iter().all(Result::is_ok));
        assert_eq!(server.asked.load(Ordering::SeqCst), 1);
        lookups.find("one.silent.example").await.unwrap();
        assert_eq!(server.asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_name_without_waiting_requests_is_not_looked_up() {
        let server = Arc::new(Silent::default());
        let lookups = server.lookups();
        let names: Vec<_> = (0..100).map(|number| format!("n{number}.silent.example")).collect();
        let mut all = Box::pin(join_all(names.iter().map(|name| lookups.find(name))));
        assert!(poll!(&mut all).is_pending());
        drop(all);
        server.release();
        // This lookup is queued behind all of them.
        lookups.find("last.silent.example").await.unwrap();
        assert!(server.asked.load(Ordering::SeqCst) <= THREADS_PER_ZONE + 1);
        assert!(lookups.lock().under_way.len() < names.len());
    }

    #[test]
    fn names_of_one_domain_are_of_one_zone() {
        for (name, expect) in [
            ("a.b.example", "b.example"),
            ("a.b.example.", "b.example"),
            ("x.a.b.example", "a.b.example"),
            ("b.example", "b.example"),
            ("localhost", "localhost"),
            ("", ""),
        ] {
            assert_eq!(zone(name), expect, "{name}");
        }
    }

    #[tokio::test]
    async fn the_system_resolver_finds_localhost() {
        let found = Lookups::system().find("localhost").await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback()) && !found.is_empty());
    }
}
