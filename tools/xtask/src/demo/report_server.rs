//! `--with-report-server`: an existing report server, which publishes nothing, is followed by a bridge.
//!
//! The report server is simulated. It has users and webhooks, and sends to these itself at first. Then
//! Fanfare follows it, imports the webhooks, and runs beside it without sending; what it would have
//! sent is compared. Then it sends, and the old webhooks are paused. At the end the broker is away for
//! a while, and nothing is lost.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use chrono::{DateTime, Utc};
use fanfare_testkit::build;
use fanfare_testkit::ports::free_port;
use fanfare_testkit::proxy::Proxy;
use fanfare_testkit::receiver::{Receiver, Reply, Request};
use fanfare_testkit::report_server::{ADMINISTRATOR, Dialect, Kind, ReportServer};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::progress::step;
use super::stage::{Fanfare, Stage};

/// The users of the report server, with what each may read: a category, or everything.
const USERS: [(&str, Option<&str>); 3] =
    [("Anna", Some("sales")), ("Ben", None), ("Carl", Some("stock"))];
/// The categories in which reports are made.
const CATEGORIES: [&str; 2] = ["sales", "stock"];
/// The events of each part of the story.
const BEFORE: usize = 4;
const IN_SHADOW: usize = 6;
const AFTER: usize = 10;
const WHILE_AWAY: usize = 20;
/// The worker in shadow mode.
const SHADOW: &str = "worker-in-shadow";
/// The longest time for a part of the story.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often something is looked at.
const POLL: Duration = Duration::from_millis(100);
/// How often the report server does something while the demo stays.
const STAYS: Duration = Duration::from_secs(5);

/// A user with a receiver.
struct User {
    name: &'static str,
    category: Option<&'static str>,
    receiver: Receiver,
    /// How many notifications of each resource came.
    expected: BTreeMap<String, usize>,
}

/// What there is before Fanfare.
struct Existing {
    server: ReportServer,
    users: Vec<User>,
}

/// Plays the story; without `once`, goes on until it is dropped.
pub(super) async fn play(stage: &mut Stage, once: bool) -> Result<()> {
    let binary = build::fanfare("dev").await?;
    let mut existing = Existing::new().await;
    say("a report server has three users, each with a webhook; it knows nothing of Fanfare");
    existing.act(BEFORE);
    existing.all_arrived().await?;
    say(&format!("it sends {BEFORE} notifications itself, to those who may read the report"));

    let mut fanfare = stage.start_servers(binary).await?;
    let mut broker = behind_a_proxy(&mut fanfare)?;
    let address = format!("127.0.0.1:{}", free_port()?);
    configure(&mut fanfare, &existing.server, &address);
    step("making the tables", fanfare.run(&["migrate"], None)).await?;
    stage.start_role(&fanfare, "router", "router").await?;
    fanfare.set("FANFARE_SHADOW", "on");
    stage.start_role(&fanfare, SHADOW, "worker").await?;
    let bridge = stage.start(&fanfare, "bridge", &["bridge"])?;
    step("reading the users and roles", bridge.wait_for_line("published the directory")).await?;
    step("registering the bridge's webhook", bridge.wait_for_line("registered the bridge's"))
        .await?;
    say("`fanfare bridge` reads its users and roles, and registers one webhook there");

    let logins = plan(&fanfare).await?;
    shadow(&fanfare, &mut existing, &logins).await?;
    stage.stop(SHADOW).await;
    fanfare.set("FANFARE_SHADOW", "off");
    stage.start_role(&fanfare, "worker", "worker").await?;
    switch(&fanfare, &logins).await?;
    existing.is_switched()?;
    existing.act(AFTER);
    existing.all_arrived().await?;
    say(&format!("{AFTER} more events: Fanfare sends them now, and each comes once"));

    broker.cut().await;
    existing.act(WHILE_AWAY);
    existing.all_posted().await?;
    say(&format!("the broker is away, and {WHILE_AWAY} events wait in the bridge's journal"));
    broker.resume();
    existing.all_arrived().await?;
    stage.is_as_expected = Some(true);
    let count = BEFORE + IN_SHADOW + AFTER + WHILE_AWAY;
    say(&format!(
        "the broker is back. All is as expected: each of {count} events came once to everyone who \
         may read it, and to nobody else"
    ));
    if once {
        return Ok(());
    }
    println!("\nThe report server goes on. Ctrl-C ends everything.");
    loop {
        sleep(STAYS).await;
        existing.act(1);
        existing.all_arrived().await?;
        let came: Vec<String> = existing.users.iter().map(User::came).collect();
        println!("  {}", came.join(", "));
    }
}

impl User {
    fn may_read(&self, category: &str) -> bool {
        self.category.is_none_or(|it| it == category)
    }

    fn came(&self) -> String {
        format!("{}: {}", self.name, self.expected.len())
    }

    /// How many notifications of each report came.
    fn notified(&self) -> BTreeMap<String, usize> {
        let mut notified = BTreeMap::new();
        for request in self.receiver.requests() {
            let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            for it in body["Notifications"].as_array().into_iter().flatten() {
                let id = it["Id"].as_str().unwrap_or_default().to_owned();
                *notified.entry(id).or_default() += 1;
            }
        }
        notified
    }
}

impl Existing {
    async fn new() -> Self {
        let server = ReportServer::start(Dialect::Framework).await;
        let mut users = Vec::new();
        for (name, category) in USERS {
            let id = server.add_user(name);
            match category {
                Some(category) => server.grant(&id, 2, category),
                None => server.set_members(&server.role("Report Reader"), &[&id]),
            }
            let receiver = Receiver::start().await;
            receiver.answer_with(answer);
            server.add_webhook(&id, &receiver.url("/hook"), &json!({ "Filters": ["reports"] }));
            users.push(User { name, category, receiver, expected: BTreeMap::new() });
        }
        Self { server, users }
    }

    /// Uploads reports to the categories in turn.
    fn act(&mut self, count: usize) {
        for category in CATEGORIES.into_iter().cycle().take(count) {
            let report = self.server.create(Kind::Reports, Some(category));
            for user in self.users.iter_mut().filter(|user| user.may_read(category)) {
                user.expected.insert(report.clone(), 1);
            }
        }
    }

    /// Waits until everyone has got what that user may read, once, and nothing else.
    async fn all_arrived(&self) -> Result<()> {
        self.all_posted().await?;
        let is_so = || self.users.iter().all(|user| user.notified() == user.expected);
        until("the notifications", is_so).await?;
        // What comes too often comes a little later.
        sleep(POLL * 5).await;
        if is_so() { Ok(()) } else { bail!("a notification came twice, or to the wrong user") }
    }

    async fn all_posted(&self) -> Result<()> {
        until("the report server to post everything", || self.server.waiting() == 0).await
    }

    /// Checks that only the bridge's webhook is active at the report server.
    fn is_switched(&self) -> Result<()> {
        let webhooks = self.server.webhooks();
        let active: Vec<_> = webhooks.iter().filter(|(_, is_paused, _)| !is_paused).collect();
        match active.as_slice() {
            [(_, _, description)] if description == "Fanfare bridge" => Ok(()),
            others => bail!("these webhooks are active at the report server: {others:?}"),
        }
    }
}

/// The command that imports the webhooks.
const IMPORT: [&str; 5] = ["webhooks", "import", "--from-server", "--logins", "-"];

/// Shows the plan of the import; returns the logins of the users.
async fn plan(fanfare: &Fanfare) -> Result<String> {
    let logins = USERS.map(|(name, _)| {
        json!({ "User": name, "Password": format!("pa55word-of-{name}") }).to_string() + "\n"
    });
    let logins = logins.concat();
    let plan = [&IMPORT[..], &["--dry-run"]].concat();
    let plan = step("planning the import", fanfare.run(&plan, Some(&logins))).await?;
    say("`fanfare webhooks import --from-server --dry-run` says what would come:");
    println!("{}", plan.trim_end());
    Ok(logins)
}

/// Imports the webhooks, and compares what Fanfare would send with what the report server sends.
async fn shadow(fanfare: &Fanfare, existing: &mut Existing, logins: &str) -> Result<()> {
    step("importing the webhooks", fanfare.run(&IMPORT, Some(logins))).await?;
    let began = existing.users.iter().map(|user| user.receiver.count()).collect::<Vec<_>>();
    let mut lines = vec![json!({ "time": now() })];
    existing.act(IN_SHADOW);
    existing.all_arrived().await?;
    for (user, before) in existing.users.iter().zip(began) {
        for request in user.receiver.requests().iter().skip(before) {
            let headers: BTreeMap<&String, &String> =
                request.headers.iter().map(|(name, value)| (name, value)).collect();
            let body = String::from_utf8_lossy(&request.body);
            let url = user.receiver.url("/hook");
            lines.push(json!({ "time": now(), "url": url, "headers": headers, "body": body }));
        }
    }
    let record = lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let compare = ["shadow", "compare", "--received", "-"];
    let (started, mut compared) = (Instant::now(), fanfare.run(&compare, Some(&record)).await);
    // The last events may be on their way to the router.
    while compared.is_err() && started.elapsed() < PATIENCE {
        sleep(POLL).await;
        compared = fanfare.run(&compare, Some(&record)).await;
    }
    say(&format!(
        "the webhooks are imported, and Fanfare runs beside the report server in shadow mode: it \
         sends nothing. After {IN_SHADOW} more events, `fanfare shadow compare` says:"
    ));
    println!("{}", compared?.trim_end());
    Ok(())
}

fn now() -> String {
    DateTime::<Utc>::from(SystemTime::now()).to_rfc3339()
}

/// Pauses the webhooks at the report server.
async fn switch(fanfare: &Fanfare, logins: &str) -> Result<()> {
    let switch = [&IMPORT[..], &["--pause-old"]].concat();
    let done = step("pausing the old webhooks", fanfare.run(&switch, Some(logins))).await?;
    say("shadow mode ends: Fanfare sends, and the old webhooks are paused at the report server:");
    println!("{}", done.trim_end());
    Ok(())
}

/// Answers the verification of an address, and takes everything else.
fn answer(request: &Request, _: usize) -> Reply {
    let echo = request.path.split_once("echo=").map(|(_, echo)| echo.to_owned());
    echo.map_or_else(|| Reply::status(200), |echo| Reply::text(200, echo))
}

/// Lets everything reach the broker by a proxy, which can be cut.
fn behind_a_proxy(fanfare: &mut Fanfare) -> Result<Proxy> {
    let url = fanfare.installation.setting("FANFARE_AMQP_URL").unwrap_or_default();
    let (before, rest) = url.rsplit_once('@').context("the broker's URL has no user")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let proxy = Proxy::start(host.parse().with_context(|| format!("{host} is no address"))?);
    let url = format!("{before}@{}/{path}", proxy.addr());
    fanfare.set("FANFARE_AMQP_URL", &url);
    Ok(proxy)
}

fn configure(fanfare: &mut Fanfare, server: &ReportServer, address: &str) {
    let folder = fanfare.home.logs().join("bridge");
    for (name, value) in HashMap::from([
        ("FANFARE_BRIDGE_SERVER", server.url()),
        ("FANFARE_BRIDGE_USER", ADMINISTRATOR.0.to_owned()),
        ("FANFARE_BRIDGE_PASSWORD", ADMINISTRATOR.1.to_owned()),
        ("FANFARE_BRIDGE_LISTEN", address.to_owned()),
        ("FANFARE_BRIDGE_URL", format!("http://{address}/in/main")),
        ("FANFARE_BRIDGE_FOLDER", folder.display().to_string()),
        ("FANFARE_BRIDGE_POLL", "1s".to_owned()),
    ]) {
        fanfare.set(name, &value);
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) -> Result<()> {
    let started = Instant::now();
    while !is_so() {
        if started.elapsed() > PATIENCE {
            bail!("waited in vain for {what}");
        }
        sleep(POLL).await;
    }
    Ok(())
}

fn say(text: &str) {
    println!("\n• {text}");
}
