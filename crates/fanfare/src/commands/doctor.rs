//! `fanfare doctor`: checks everything that Fanfare needs, and says how to fix each problem. It changes
//! nothing, except that `--repair` repairs queues.

mod bridge;
mod notices;
mod policies;
mod publishers;
mod queues;
mod retention;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::bail;
use chrono::{DateTime, TimeDelta, Utc};
use fanfare_app::clock;
use fanfare_broker::{BrokerError, Depth, Queue, Session};
use fanfare_core::revisions::{Gap, Hold};
use fanfare_core::shard::{Shard, ShardCount};
use fanfare_store::directory::{DirectoryState, Refusal, Void};
use fanfare_store::{SchemaState, Store};

use crate::output;
use crate::settings::Settings;
use crate::wiring;

/// The largest number of users and roles that one line names.
const MOST_NAMED: usize = 20;

/// The result of a check: a few words if it passed, or the problem and how to fix it.
type Finding = Result<String, String>;

/// The arguments of `fanfare doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Create missing queues, and delete and create again broken queues of jobs; their jobs are
    /// published again from the database
    #[arg(long)]
    repair: bool,
    /// Print a JSON array, with an object for each check
    #[arg(long)]
    json: bool,
}

/// Runs all checks.
pub(crate) async fn run(args: &Args, settings: &Settings) -> anyhow::Result<()> {
    let mut report = Report { json: args.json, ..Report::default() };
    // An invalid value has ended the program before.
    report.ok("settings", "all values are valid")?;
    if settings.sending.shadow {
        let text = "on: nothing is sent to receivers, and what would be sent is dropped; compare with \
                    `fanfare shadow compare`, then set FANFARE_SHADOW=off for all processes";
        report.ok("shadow mode", text)?;
    }
    report.add("key file", &key_file(settings))?;
    match wiring::store(settings, "doctor") {
        Ok(store) => check_database(&mut report, &store, settings).await?,
        Err(error) => report.unusable("database", &error)?,
    }
    match connect(settings).await {
        Ok(session) => {
            let config = wiring::broker(settings, "doctor")?;
            let broken = queues::check(&mut report, &config, args.repair).await?;
            check_broker(&mut report, &session, settings.load.delivery_queues, &broken).await?;
            policies::check(&mut report, &config).await?;
            session.close().await;
        }
        Err(error) => report.unusable("broker", &error)?,
    }
    bridge::check(&mut report, settings).await?;
    notices::check(&mut report, settings).await?;
    match wiring::outbound(settings) {
        Ok(_) => report.ok("HTTP client", "ready")?,
        Err(error) => report.wrong("HTTP client", &output::explain(&error))?,
    }
    report.finish()
}

/// The results so far.
#[derive(Default)]
struct Report {
    failed: usize,
    /// Whether a server can't be used until a person changes its configuration or ours.
    misconfigured: bool,
    /// Whether to print all checks at the end as JSON, instead of a line for each.
    json: bool,
    /// The results so far, for JSON.
    checks: Vec<CheckResult>,
}

/// The result of a check, in JSON.
#[derive(serde::Serialize)]
struct CheckResult {
    check: String,
    ok: bool,
    detail: String,
}

impl Report {
    fn ok(&mut self, what: &str, text: &str) -> anyhow::Result<()> {
        self.add(what, &Ok(text.to_owned()))
    }

    fn wrong(&mut self, what: &str, text: &str) -> anyhow::Result<()> {
        self.add(what, &Err(text.to_owned()))
    }

    fn add(&mut self, what: &str, finding: &Finding) -> anyhow::Result<()> {
        self.failed += usize::from(finding.is_err());
        if !self.json {
            return output::print(&line(what, finding));
        }
        let (Ok(detail) | Err(detail)) = finding;
        let (check, detail) = (what.to_owned(), detail.clone());
        self.checks.push(CheckResult { check, ok: finding.is_ok(), detail });
        Ok(())
    }

    /// Adds a server that can't be used.
    fn unusable(&mut self, what: &str, error: &anyhow::Error) -> anyhow::Result<()> {
        self.misconfigured |= output::is_misconfigured(error);
        self.wrong(what, &output::explain(error))
    }

    fn finish(self) -> anyhow::Result<()> {
        if self.json {
            output::print_json(&self.checks)?;
        }
        match self.failed {
            n if self.misconfigured => {
                let text =
                    format!("failed checks: {n}; a server can't be used as it is configured");
                Err(output::Misuse(text).into())
            }
            0 => Ok(()),
            1 => bail!("one check failed; its line above says how to fix it"),
            n => bail!("{n} checks failed; each line above says how to fix it"),
        }
    }
}

fn line(what: &str, finding: &Finding) -> String {
    let (mark, text) = match finding {
        Ok(text) => ("ok   ", text),
        Err(text) => ("WRONG", text),
    };
    format!("{mark}  {what}: {}\n", output::plain(&text.replace('\n', " ")))
}

fn key_file(settings: &Settings) -> Finding {
    let Some(path) = settings.key_file() else {
        return Ok("not used, because FANFARE_SECRET_KEYS is set".to_owned());
    };
    let path_shown = path.display();
    let Ok(metadata) = std::fs::metadata(&path) else {
        return Ok(format!("{path_shown} is created when it is first needed"));
    };
    match metadata.permissions().mode() & 0o777 {
        mode if mode.trailing_zeros() >= 6 => {
            Ok(format!("{path_shown} is readable by its owner only"))
        }
        mode => Err(format!(
            "{path_shown} is accessible to other users (mode {mode:o}); run `chmod 600 {path_shown}`"
        )),
    }
}

async fn check_database(
    report: &mut Report,
    store: &Store,
    settings: &Settings,
) -> anyhow::Result<()> {
    if let Err(error) = store.ping().await {
        return report.unusable("database", &error.into());
    }
    report.ok("database", "answers")?;
    if let Some(pooler) = store.pooler().await {
        let text = format!("{pooler} is in front of the database; each client has its own session");
        report.ok("pooler", &text)?;
    }
    if let Some(note) = standbys(store).await {
        report.ok("standbys", &note)?;
    }
    let schema = match store.schema_state().await {
        Ok(state) => schema(state),
        Err(error) => return report.unusable("migrations", &error.into()),
    };
    let usable = schema.is_ok();
    report.add("migrations", &schema)?;
    if !usable {
        return Ok(());
    }
    let secrets = match store.webhooks_list(None).await {
        Ok(webhooks) => Ok(format!("the keys open those of all {} webhooks", webhooks.len())),
        Err(error) => Err(output::explain(&error.into())),
    };
    report.add("secrets", &secrets)?;
    publishers::check(report, store).await?;
    let directory = match store.directory_state().await {
        Ok(state) => directory(&state, clock::now()),
        Err(error) => Err(output::explain(&error.into())),
    };
    report.add("directory", &directory)?;
    report.add("retention", &retention::check(store, settings.retention.keep()).await)
}

/// A warning about the database's standbys, if commits don't wait for them. It is not a fault, since
/// an operator may prefer faster commits. `None` also if the database can't be asked.
pub(super) async fn standbys(store: &Store) -> Option<String> {
    let count = store.standbys_behind().await.ok().filter(|count| *count > 0)?;
    Some(format!(
        "there are {count}, and synchronous_standby_names is empty: a failover loses the last \
         commits, and deliveries whose events were lost become dead letters with the reason ledger-lost"
    ))
}

fn directory(state: &DirectoryState, now: DateTime<Utc>) -> Finding {
    let newest = state.revisions.newest;
    match state.hold {
        Some(Hold::Incomplete) if newest == 0 => {
            let text = "empty: every event is held until the report server has published the \
                        directory, or `fanfare directory import` has imported it";
            return Ok(text.to_owned());
        }
        Some(Hold::Incomplete) => {
            return Err(format!(
                "at revision {newest}, but not complete, so every event is held; have the report \
                 server publish a directory.snapshot, or run `fanfare directory import`"
            ));
        }
        Some(Hold::SnapshotRefused) => return Err(refused(state)),
        None => {}
    }
    if !state.voids.is_empty() {
        return Err(void(state));
    }
    // A document may arrive a little late; that is not a fault.
    let missing = |gap: &&Gap<DateTime<Utc>>| now - gap.noticed > TimeDelta::minutes(1);
    let gaps: Vec<String> = state.revisions.gaps.iter().filter(missing).map(gap_text).collect();
    if gaps.is_empty() {
        let history = match state.oldest {
            0 => "all of its history is kept".to_owned(),
            oldest => format!("its history is kept from revision {oldest} on"),
        };
        return Ok(format!("at revision {newest}; {history}"));
    }
    Err(format!(
        "at revision {newest}, but the revisions {} are missing, so events with a later revision are \
         held (or decided by permissions that may be out of date, if FANFARE_DIRECTORY_GAP is \
         pass); have the report server publish a directory.snapshot",
        gaps.join(", ")
    ))
}

/// The problem of snapshots that were refused.
fn refused(state: &DirectoryState) -> String {
    let one = |refusal: &Refusal| {
        format!("revision {} at {} ({})", refusal.revision, refusal.refused_at, refusal.why)
    };
    let all: Vec<String> = state.refusals.iter().map(one).collect();
    format!(
        "a snapshot was refused, so every event is held: {}; have the report server publish a newer \
         one, run `fanfare directory import`, or continue without the refused one by `fanfare \
         directory accept-refused`",
        all.join(", ")
    )
}

/// The problem of users and roles whose documents were refused.
fn void(state: &DirectoryState) -> String {
    let one = |void: &Void| format!("{} {} (revision {})", void.kind, void.name, void.revision);
    let names: Vec<String> = state.voids.iter().take(MOST_NAMED).map(one).collect();
    let more = state.voids.len() - names.len();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!(
        "documents were refused, so these users and roles grant nothing: {}{more}; correct and replay \
         the documents (`fanfare dead-letters list --reason bad-data` lists them), or have the \
         report server publish newer ones",
        names.join(", ")
    )
}

fn gap_text(gap: &Gap<DateTime<Utc>>) -> String {
    match (gap.first, gap.last) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first} to {last}"),
    }
}

fn schema(state: SchemaState) -> Finding {
    match state {
        SchemaState::Current(version) => Ok(format!("up to date (version {version})")),
        SchemaState::Behind { database, program } => Err(format!(
            "the database is at version {database}, this program needs {program}; run `fanfare migrate`"
        )),
        SchemaState::Ahead { database, program } => Err(format!(
            "the database is at version {database}, newer than this program's {program}; install the newer Fanfare"
        )),
    }
}

async fn connect(settings: &Settings) -> anyhow::Result<Session> {
    Ok(Session::look(&wiring::broker(settings, "doctor")?).await?)
}

async fn check_broker(
    report: &mut Report,
    session: &Session,
    shards: ShardCount,
    broken: &BTreeSet<String>,
) -> anyhow::Result<()> {
    report.ok("broker", "answers")?;
    let faults = match session.check_topology().await {
        Ok(faults) => faults,
        Err(error) => return report.wrong("queues", &output::explain(&error.into())),
    };
    for fault in &faults {
        report.wrong(&fault.what, &fault.problem)?;
    }
    if !faults.is_empty() {
        return check_surplus_queues(report, session, shards).await;
    }
    report.ok("queues", "all exchanges and queues exist with the expected arguments")?;
    // The depth of a broken queue is not reliable.
    for queue in Queue::all(shards).filter(|queue| !broken.contains(queue.name())) {
        let depth = match session.depth(queue).await {
            Ok(depth) => Ok(depth_text(queue, depth.ready, depth.consumers)),
            Err(error) => Err(output::explain(&error.into())),
        };
        report.add(queue.name(), &depth)?;
    }
    check_surplus_queues(report, session, shards).await?;
    if *session.blocked().borrow() {
        let text = "takes no messages: it is short of memory or disk; give it more";
        report.wrong("broker", text)?;
    }
    Ok(())
}

/// Checks the delivery queues that remain from a higher `FANFARE_DELIVERY_QUEUES`.
async fn check_surplus_queues(
    report: &mut Report,
    session: &Session,
    shards: ShardCount,
) -> anyhow::Result<()> {
    for shard in shards.beyond() {
        let queue = Queue::Deliveries(shard);
        let finding = match session.depth(queue).await {
            Ok(depth) => surplus_queue(queue, shard, shards, depth),
            Err(BrokerError::Missing { .. }) => continue,
            Err(error) => Err(output::explain(&error.into())),
        };
        report.add(queue.name(), &finding)?;
    }
    Ok(())
}

fn surplus_queue(queue: Queue, shard: Shard, shards: ShardCount, depth: Depth) -> Finding {
    let Depth { ready, consumers } = depth;
    let here = format!("FANFARE_DELIVERY_QUEUES is {} here", shards.count());
    match (ready, consumers) {
        (0, 0) => Ok(format!(
            "{here}, and this queue is empty; if no router has a higher number any more, delete the \
             queue with `rabbitmqctl delete_queue --if-empty {queue}`"
        )),
        (_, 0) => Err(format!(
            "{here}, so no worker consumes the {ready} messages that wait in this queue; run a worker \
             with FANFARE_DELIVERY_QUEUES={} or more until it is empty",
            shard.number()
        )),
        (0, _) => Ok(format!(
            "{here}, and this queue is empty, but {consumers} processes consume it; when all \
             routers have the lower number, give it to these workers too"
        )),
        (_, _) => Ok(format!(
            "{here}, but {ready} messages wait in this queue, and {consumers} processes consume them; \
             do not change these processes until it is empty"
        )),
    }
}

fn depth_text(queue: Queue, ready: u32, consumers: u32) -> String {
    match (queue.dead_letters(), ready) {
        (None, 0) => "no dead letters".to_owned(),
        (None, n) => format!("{n} dead letters; list them with `fanfare dead-letters list`"),
        (Some(_), n) => format!("{n} messages wait, {consumers} processes consume them"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_core::revisions::Revisions;

    #[test]
    fn check_result_is_printed_on_one_line() {
        assert_eq!(line("a", &Ok("b".to_owned())), "ok     a: b\n");
        assert_eq!(line("a", &Err("b\nc".to_owned())), "WRONG  a: b c\n");
    }

    #[test]
    fn jobs_in_a_surplus_queue_without_consumers_are_a_fault() {
        let shard = ShardCount::MOST.all().nth(2).unwrap();
        let check = |ready, consumers| {
            let depth = Depth { ready, consumers };
            surplus_queue(Queue::Deliveries(shard), shard, ShardCount::ONE, depth)
        };
        let wrong = check(7, 0).unwrap_err();
        assert!(wrong.contains("the 7 messages"), "{wrong}");
        assert!(wrong.contains("FANFARE_DELIVERY_QUEUES=3 or more"), "{wrong}");
        assert!(check(7, 1).unwrap().contains("do not change these processes"));
        assert!(check(0, 1).unwrap().contains("give it to these workers too"));
        assert!(check(0, 0).unwrap().contains("delete_queue --if-empty fanfare.deliveries.3"));
    }

    #[test]
    fn missing_revisions_and_refused_documents_are_faults() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::hours(1);
        let gap =
            |first, last, minutes| Gap { first, last, noticed: now - TimeDelta::minutes(minutes) };
        let state = |gaps| DirectoryState {
            revisions: Revisions { newest: 9, gaps, complete: true },
            oldest: 0,
            hold: None,
            refusals: Vec::new(),
            voids: Vec::new(),
        };
        assert!(directory(&state(vec![]), now).unwrap().starts_with("at revision 9;"));
        assert!(directory(&state(vec![gap(3, 3, 0)]), now).is_ok());
        let wrong = directory(&state(vec![gap(1, 2, 2), gap(5, 5, 3)]), now).unwrap_err();
        assert!(wrong.contains("the revisions 1 to 2, 5 are missing"), "{wrong}");
        let incomplete = DirectoryState { hold: Some(Hold::Incomplete), ..state(vec![]) };
        assert!(directory(&incomplete, now).unwrap_err().contains("not complete"));
        let refused = DirectoryState {
            hold: Some(Hold::SnapshotRefused),
            refusals: vec![Refusal { revision: 8, why: "no".to_owned(), refused_at: now }],
            ..state(vec![])
        };
        let wrong = directory(&refused, now).unwrap_err();
        assert!(wrong.contains("revision 8 at") && wrong.contains("accept-refused"), "{wrong}");
        let void = |revision| Void { kind: "user".to_owned(), name: "anna".to_owned(), revision };
        let voids = DirectoryState { voids: (1..=21).map(void).collect(), ..state(vec![]) };
        let wrong = directory(&voids, now).unwrap_err();
        assert!(
            wrong.contains("user anna (revision 1), ") && wrong.contains("and 1 more"),
            "{wrong}"
        );
    }

    #[test]
    fn schema_faults_say_what_to_do() {
        let behind = schema(SchemaState::Behind { database: 0, program: 1 });
        assert!(behind.unwrap_err().contains("fanfare migrate"));
        assert!(schema(SchemaState::Current(1)).is_ok());
        let ahead = schema(SchemaState::Ahead { database: 2, program: 1 });
        assert!(ahead.unwrap_err().contains("newer"));
    }
}
