//! Asking the system for the addresses of names, so that a name server that does not answer for one
//! zone costs only the names of that zone.
//!
//! The system's own function blocks its thread, for ten seconds and more when nothing answers, and can't
//! be called off. So each name is asked for once at a time, whoever waits for it; the names of one zone
//! have few threads together; and these threads are no others' either.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

/// Threads that ask at a time.
const THREADS: usize = 256;

/// Those of them for names of one zone.
const THREADS_PER_ZONE: usize = 16;

/// What a name came to, for all who asked.
type Answer = Arc<io::Result<Vec<SocketAddr>>>;

/// Asks the system for a name's addresses, and blocks meanwhile.
type Ask = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// What looks up names. Clones share their bounds.
#[derive(Clone)]
pub(crate) struct Lookups {
    ask: Arc<Ask>,
    threads: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    under_way: HashMap<String, watch::Receiver<Option<Answer>>>,
    /// The threads of the zones that are asked about.
    zones: HashMap<String, Arc<Semaphore>>,
}

impl State {
    fn end(&mut self, name: &str) {
        self.under_way.remove(name);
        self.zones.retain(|_, threads| Arc::strong_count(threads) > 1);
    }
}

impl Lookups {
    /// Lookups by the system's resolver.
    pub(crate) fn system() -> Self {
        // Port 0 is replaced by the URL's port.
        Self::new(|name| Ok((name, 0).to_socket_addrs()?.collect()))
    }

    fn new(ask: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        let threads = Arc::new(Semaphore::new(THREADS));
        Self { ask: Arc::new(ask), threads, state: Arc::default() }
    }

    /// The addresses of a name, as they are when the system answers.
    ///
    /// # Errors
    ///
    /// There is no such name, or the system did not answer.
    pub(crate) async fn find(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        let mut answer = self.answer(name);
        let answered = answer.wait_for(Option::is_some).await;
        match answered.ok().and_then(|answer| answer.clone()).as_deref() {
            Some(Ok(addresses)) => Ok(addresses.clone()),
            Some(Err(error)) => Err(io::Error::new(error.kind(), error.to_string())),
            None => Err(io::Error::other("the lookup was broken off")),
        }
    }

    /// Where the answer will be: that of a lookup under way, or of one that begins now.
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

    /// Asks when there is a thread for it; `None` when nobody waits for it any more.
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
            // One receiver is kept for those who ask for the name while it is looked up.
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
            // Who does not wait any more does not mind.
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

/// The zone that a name is taken to be in: what is behind its first label, if that has more than one.
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

    /// A name server that says nothing about the zone `silent.example` until it is let go.
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

        fn let_go(&self) {
            *self.answers.lock().unwrap() = true;
            self.changed.notify_all();
        }
    }

    #[tokio::test]
    async fn a_zone_without_answers_holds_up_no_other_name() {
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
        server.let_go();
        assert!(silent.await.iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn a_name_is_asked_for_once_at_a_time() {
        let server = Arc::new(Silent::default());
        let lookups = server.lookups();
        let mut all = Box::pin(join_all((0..100).map(|_| lookups.find("one.silent.example"))));
        assert!(poll!(&mut all).is_pending());
        server.let_go();
        assert!(all.await.iter().all(Result::is_ok));
        assert_eq!(server.asked.load(Ordering::SeqCst), 1);
        lookups.find("one.silent.example").await.unwrap();
        assert_eq!(server.asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_name_that_nobody_waits_for_any_more_is_not_asked_for() {
        let server = Arc::new(Silent::default());
        let lookups = server.lookups();
        let names: Vec<_> = (0..100).map(|number| format!("n{number}.silent.example")).collect();
        let mut all = Box::pin(join_all(names.iter().map(|name| lookups.find(name))));
        assert!(poll!(&mut all).is_pending());
        drop(all);
        server.let_go();
        // Behind all of them.
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
    async fn the_system_knows_this_host() {
        let found = Lookups::system().find("localhost").await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback()) && !found.is_empty());
    }
}
