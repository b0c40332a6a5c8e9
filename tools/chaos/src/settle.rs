//! After the last fault: waits until everything has ended, and reads what the broker keeps.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use fanfare_core::ids::{BatchKey, WebhookId};
use fanfare_testkit::amqp::Amqp;
use tokio::time::sleep;

use crate::installation::Site;
use crate::ledger::Open;
use crate::publisher::Published;

/// The longest time that everything may take to settle.
const SETTLES_WITHIN: Duration = Duration::from_mins(10);

/// The longest time after that in which the last dead letters may come.
const LETTERS_WITHIN: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_secs(1);

/// The end of a run.
#[derive(Debug)]
pub(crate) struct Settled {
    /// The time from the last fault until nothing was owed.
    pub(crate) took: Duration,
    /// Why it did not settle.
    pub(crate) failure: Option<String>,
    /// Deliveries with a dead letter.
    pub(crate) letters: HashSet<(BatchKey, WebhookId)>,
    /// Dead letters that repeat another one.
    pub(crate) repeated_letters: usize,
    /// The reasons of refused events.
    pub(crate) refused: Vec<String>,
}

/// Waits until every event is in the ledger and nothing is owed.
pub(crate) async fn settle(site: &Site, published: &Published, since: Instant) -> Result<Settled> {
    let mut open = Open::default();
    let mut failure = None;
    loop {
        if let Ok(counted) = Open::count(site).await {
            open = counted;
            if open.events >= published.events.len() && open.deliveries == 0 {
                break;
            }
        }
        if since.elapsed() > SETTLES_WITHIN {
            let missing = published.events.len().saturating_sub(open.events);
            failure = Some(format!(
                "not settled within {SETTLES_WITHIN:?}: {} deliveries are open, {missing} events \
                 are not in the ledger",
                open.deliveries
            ));
            break;
        }
        sleep(POLL).await;
    }
    let took = since.elapsed();
    let amqp = Amqp::connect(site.commands().setting("FANFARE_AMQP_URL").unwrap_or_default());
    let amqp = amqp.await?;
    wait_for_letters(&amqp, open.dead).await?;
    let mut settled = Settled {
        took,
        failure,
        letters: HashSet::new(),
        repeated_letters: 0,
        refused: Vec::new(),
    };
    settled.read_letters(&amqp).await?;
    Ok(settled)
}

/// Waits until there are as many dead letters as dead deliveries, or no more of them come.
async fn wait_for_letters(amqp: &Amqp, dead: usize) -> Result<()> {
    let since = Instant::now();
    while since.elapsed() < LETTERS_WITHIN {
        let letters = amqp.queue_len("fanfare.deliveries.dead").await?;
        if usize::try_from(letters)? >= dead {
            break;
        }
        sleep(POLL).await;
    }
    Ok(())
}

impl Settled {
    async fn read_letters(&mut self, amqp: &Amqp) -> Result<()> {
        for message in amqp.drain("fanfare.deliveries.dead").await? {
            let header = |name| message.header(name).unwrap_or_default();
            let reason = header("x-fanfare-reason");
            let id = |name| -> Result<_> {
                let id = header(name);
                let parsed = uuid::Uuid::parse_str(&id);
                parsed.with_context(|| format!("a dead letter ({reason}) has the {name} {id:?}"))
            };
            let batch = BatchKey(id("x-fanfare-batch")?);
            let is_new = self.letters.insert((batch, WebhookId(id("x-fanfare-webhook")?)));
            self.repeated_letters += usize::from(!is_new);
        }
        for message in amqp.drain("fanfare.events.dead").await? {
            let header = |name| message.header(name).unwrap_or_default();
            self.refused.push(format!(
                "{}: {} {}",
                message.routing_key,
                header("x-fanfare-reason"),
                header("x-fanfare-detail")
            ));
        }
        Ok(())
    }
}
