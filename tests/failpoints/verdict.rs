//! What must be true after processes ended: nothing is lost (I1), and nothing is sent twice but what
//! was under way (I2).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use fanfare_core::ids::DeliveryId;
use fanfare_model::trace::{self, Line};
use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::wait::{eventually, pass};
use serde_json::Value;

use super::supervisor::Supervisor;
use super::{PATHS, Played};
use crate::world::World;

/// Long enough for the reconciler, and for leases of processes that ended.
const SETTLED: Duration = Duration::from_mins(3);

/// The time between two looks at how many deliveries have ended.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// The last row of each delivery.
const LAST_ROWS: &str = "select distinct on (batch, webhook) batch, webhook, state
    from attempts order by batch, webhook, entry desc";

/// What became of the deliveries.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) events: usize,
    pub(super) deliveries: usize,
    /// How many deliveries ended in each state.
    pub(super) states: BTreeMap<String, usize>,
    /// POSTs that repeat an attempt.
    pub(super) duplicates: usize,
}

impl Verdict {
    /// Waits until all deliveries have ended, and checks what happened.
    pub(super) async fn reach(world: &World, played: &Played<'_>) -> Self {
        let Played { receiver, supervisor, events, .. } = played;
        let (events, began) = (*events, Instant::now());
        let deliveries = planned(world, events).await;
        let ended = settled(world, deliveries).await;
        delivered_are_those_that_arrived(receiver, &ended);
        dead_have_dead_letters(world, &ended).await;
        one_series(world);
        let duplicates = only_attempts_under_way_repeat(world, receiver, supervisor);
        let mut states = BTreeMap::new();
        for state in ended.into_values() {
            *states.entry(state).or_default() += 1;
        }
        println!("ended after {:?}: {states:?}, {duplicates} duplicates", began.elapsed());
        Self { events, deliveries, states, duplicates }
    }

    /// The same; each event must be planned for each webhook.
    pub(super) async fn of_all_webhooks(world: &World, played: &Played<'_>) -> Self {
        let verdict = Self::reach(world, played).await;
        assert_eq!(
            verdict.deliveries,
            verdict.events * PATHS.len(),
            "not planned for each webhook"
        );
        verdict
    }
}

/// Waits until each event is in the ledger; returns the number of deliveries in their plans.
async fn planned(world: &World, events: usize) -> usize {
    eventually(&format!("{events} events are planned"), SETTLED, async || {
        let found: usize = world.sql("select count(*) from events").parse().unwrap();
        if found == events { Ok(()) } else { Err(found) }
    })
    .await;
    let plans = world.sql("select coalesce(sum(cardinality(webhooks)), 0) from events");
    plans.parse().unwrap()
}

/// Waits until each delivery has ended; returns the state of each. However many there are, others must
/// go on ending meanwhile.
async fn settled(world: &World, deliveries: usize) -> HashMap<DeliveryId, String> {
    let statement = format!("select batch || ' ' || webhook || ' ' || state from ({LAST_ROWS}) r");
    let ended = |state: &str| matches!(state, "delivered" | "dropped" | "dead");
    let mut before = None;
    loop {
        let what = format!("{deliveries} deliveries have ended, or more than before");
        let found: HashMap<DeliveryId, String> = eventually(&what, SETTLED, async || {
            let rows = world.sql(&statement);
            let found: HashMap<DeliveryId, String> =
                rows.lines().map(parse).filter(|(_, state)| ended(state)).collect();
            let goes_on = found.len() == deliveries || before.is_none_or(|it| found.len() > it);
            if goes_on { Ok(found) } else { Err(found.len()) }
        })
        .await;
        if found.len() == deliveries {
            return found;
        }
        before = Some(found.len());
        pass(BETWEEN_LOOKS).await;
    }
}

fn parse(row: &str) -> (DeliveryId, String) {
    let [batch, webhook, state] = row.split(' ').collect::<Vec<_>>()[..] else { panic!("{row}") };
    (DeliveryId::of(batch.parse().unwrap(), webhook.parse().unwrap()), state.to_owned())
}

/// What the ledger has as delivered did arrive, and every Id that arrived is the ledger's.
fn delivered_are_those_that_arrived(receiver: &Receiver, ended: &HashMap<DeliveryId, String>) {
    let requests = receiver.requests();
    let arrived: HashSet<&str> =
        requests.iter().map(|it| it.header("webhook-id").unwrap()).collect();
    let known: HashSet<String> = ended.keys().map(ToString::to_string).collect();
    for (id, state) in ended {
        assert!(
            state != "delivered" || arrived.contains(id.to_string().as_str()),
            "{id} is missing"
        );
    }
    for id in arrived {
        assert!(known.contains(id), "{id} arrived, and is not in the ledger");
    }
}

/// Each dead delivery has a dead letter, and nothing else has one.
async fn dead_have_dead_letters(world: &World, ended: &HashMap<DeliveryId, String>) {
    let is_dead = |(_, state): &(&DeliveryId, &String)| *state == "dead";
    let dead: HashSet<String> =
        ended.iter().filter(is_dead).map(|(id, _)| id.to_string()).collect();
    eventually("the dead letters are those of the dead deliveries", SETTLED, async || {
        let letters = world.json(&["dead-letters", "list", "--queue", "deliveries"]).await;
        let of = |letter: &Value| {
            let id = letter["id"].as_str().unwrap_or_default();
            id.split_once('-').map_or(id, |(delivery, _)| delivery).to_owned()
        };
        let letters: HashSet<String> = letters.as_array().unwrap().iter().map(of).collect();
        let differing: Vec<&String> = letters.symmetric_difference(&dead).take(3).collect();
        if differing.is_empty() { Ok(()) } else { Err(format!("{differing:?}")) }
    })
    .await;
}

/// The rows of each delivery are numbered without a gap, and nothing follows an end but what a person
/// asked for: a dead delivery that is sent again begins with a row that is pending.
fn one_series(world: &World) {
    let broken = world.sql(
        "select count(*) from (
             select state, entry, row_number() over of_delivery as number,
                    lead(state) over of_delivery as next
             from attempts window of_delivery as (partition by batch, webhook order by entry)
         ) rows
         where entry <> number or (state in ('delivered', 'dropped') and next is not null)
            or (state = 'dead' and next <> 'pending')",
    );
    assert_eq!(broken, "0", "rows that follow an end, or gaps");
}

/// The number of POSTs that each row of the ledger counts, by the delivery and the row's number.
fn attempts(world: &World) -> HashMap<(DeliveryId, i64), i64> {
    let rows = world.sql("select batch || ' ' || webhook, entry, attempt from attempts");
    let parse = |row: &str| {
        let [delivery, entry, attempt] = row.split('|').collect::<Vec<_>>()[..] else {
            panic!("{row}")
        };
        let (batch, webhook) = delivery.split_once(' ').unwrap();
        let id = DeliveryId::of(batch.parse().unwrap(), webhook.parse().unwrap());
        ((id, entry.parse().unwrap()), attempt.parse().unwrap())
    };
    rows.lines().map(parse).collect()
}

/// An attempt is repeated only if the process that had begun it ended before it was recorded. Returns
/// the number of repeated POSTs.
fn only_attempts_under_way_repeat(
    world: &World,
    receiver: &Receiver,
    supervisor: &Supervisor<'_>,
) -> usize {
    let (ended, attempts) = (supervisor.ended(), attempts(world));
    let mut begun: HashMap<(String, i64), HashSet<u32>> = HashMap::new();
    let mut recorded: HashSet<((String, i64), u32)> = HashSet::new();
    for Line { process, step, delivery, seq, .. } in trace::parse(&supervisor.trace()).unwrap() {
        let Some((batch, webhook)) = delivery.and_then(|(batch, webhook)| Some((batch, webhook?)))
        else {
            continue;
        };
        let id = DeliveryId::of(batch.parse().unwrap(), webhook.parse().unwrap());
        let before = attempts.get(&(id, seq - 1)).copied().unwrap_or_default();
        let attempt = (id.to_string(), before + 1);
        match step.as_str() {
            "WorkerBegins" => {
                begun.entry(attempt).or_default().insert(process);
            }
            "WorkerRecords" => {
                recorded.insert((attempt, process));
            }
            _ => {}
        }
    }
    let mut posts: HashMap<(String, i64), usize> = HashMap::new();
    for request in receiver.requests() {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let attempt = (body["Id"].as_str().unwrap().to_owned(), body["Attempt"].as_i64().unwrap());
        *posts.entry(attempt).or_default() += 1;
    }
    let mut duplicates = 0;
    for (attempt, count) in posts {
        let by = begun.remove(&attempt).unwrap_or_default();
        let cut = |process: &&u32| {
            ended.contains(*process) && !recorded.contains(&(attempt.clone(), **process))
        };
        let excused = by.iter().filter(cut).count();
        let (id, number) = &attempt;
        assert!(
            count <= 1 + excused,
            "attempt {number} of {id} was sent {count} times, {excused} excused"
        );
        duplicates += count - 1;
    }
    duplicates
}
