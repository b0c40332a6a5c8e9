//! `cargo demo`: the whole service on this machine, with servers of its own.
//!
//! It builds `fanfare`, starts a private PostgreSQL and RabbitMQ ([`stage`]), plays the [`sample`],
//! and shows in a table ([`screen`]) which webhook got which event, and why the others did not
//! ([`ledger`]). With `--once` it ends as soon as all deliveries are settled, and its exit code
//! says whether the result is as expected. With `--with-report-server` it plays [`report_server`]. Otherwise it runs until Ctrl-C. At the end it removes
//! all that it created.

mod ledger;
mod progress;
mod report_server;
mod sample;
mod screen;
mod stage;
mod verdict;

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use fanfare_testkit::build;
use fanfare_testkit::service::Service;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{interval, sleep, timeout};

use ledger::{Ledger, Registered};
use progress::step;
use sample::Sample;
use screen::Screen;
use stage::{Fanfare, Stage};

const USAGE: &str = "\
usage: cargo demo [-- [--once] [--with-report-server]]

Runs the whole service on this machine, with a database and a broker of its own, and shows what it
does with a few sample events. Ctrl-C ends it, and leaves nothing running.

  --once                end when all is settled: exit code 0 if all came as expected, else 1
  --with-report-server  show how an existing report server, which publishes nothing, is followed:
                        its users, the import of its webhooks, and an outage of the broker";

/// How often the table is refreshed.
const REFRESH: Duration = Duration::from_millis(500);

/// The retries of the sample take about six seconds; a busy machine gets ten times that.
const SETTLE_PATIENCE: Duration = Duration::from_mins(1);

/// The number of refreshes from one event to the next while the demo keeps running.
const REFRESHES_BETWEEN_EVENTS: usize = 10;

/// The line below the table while the demo keeps running.
const STAYS: &str = "Ctrl-C ends everything.";

/// Within this time a signal from the terminal reaches the demo and the commands that it runs.
const MOMENT: Duration = Duration::from_millis(200);

/// The exit code that a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Runs the demo with the arguments after its name.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // With `cargo demo -- --once` there are two `--`, because the alias has one already.
    let arguments = arguments.strip_prefix(&["--"]).unwrap_or(&arguments);
    if let ["--help" | "-h"] = arguments {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let Some(wanted) = Wanted::parse(arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(demo(wanted)),
        Err(error) => Err(error).context("starting the runtime"),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("demo: {error:#}");
        ExitCode::FAILURE
    })
}

/// What the arguments ask for.
#[derive(Clone, Copy, Default)]
struct Wanted {
    /// End when all is settled.
    once: bool,
    /// Follow a report server.
    report_server: bool,
}

impl Wanted {
    fn parse(arguments: &[&str]) -> Option<Self> {
        let mut wanted = Self::default();
        for argument in arguments {
            let part = match *argument {
                "--once" => &mut wanted.once,
                "--with-report-server" => &mut wanted.report_server,
                _ => return None,
            };
            *part = true;
        }
        Some(wanted)
    }
}

/// Plays the demo, and ends all that it started, even if it failed.
async fn demo(wanted: Wanted) -> Result<ExitCode> {
    let mut signals = Signals::new()?;
    let mut stage = Stage::default();
    let played = tokio::select! {
        biased;
        () = signals.next() => None,
        played = play_wanted(&mut stage, wanted) => Some(played),
    };
    // Ctrl-C also ends a command that runs, whose failure may be noticed first.
    let played = match played {
        Some(Err(error)) => timeout(MOMENT, signals.next()).await.err().map(|_| Err(error)),
        other => other,
    };
    let code = match (&played, stage.is_as_expected) {
        (None, None) => INTERRUPTED,
        (None | Some(Ok(())), Some(true)) => 0,
        _ => 1,
    };
    if played.is_none() {
        eprintln!("\nending…");
    }
    let failed = code == 1;
    tokio::select! {
        () = stage.end(failed) => {}
        () = signals.next() => {
            // The servers' keeper ends what still runs.
            eprintln!("ending at once");
            std::process::exit(INTERRUPTED.into());
        }
    }
    played.unwrap_or(Ok(())).map(|()| ExitCode::from(code))
}

async fn play_wanted(stage: &mut Stage, wanted: Wanted) -> Result<()> {
    if wanted.report_server {
        report_server::play(stage, wanted.once).await
    } else {
        play(stage, wanted.once).await
    }
}

/// Plays the sample; without `once`, goes on until it is dropped.
async fn play(stage: &mut Stage, once: bool) -> Result<()> {
    let sample = Sample::load()?;
    let binary = build::fanfare("dev").await?;
    let fanfare = stage.start_servers(binary).await?;
    step("loading the sample", fanfare.run(&["migrate"], None)).await?;
    let directory = ["directory", "import", "-"];
    step("loading the sample", fanfare.run(&directory, Some(sample::DIRECTORY))).await?;
    let registered = stage.start_services(&fanfare).await?;
    let mut ledger = Ledger::new(sample);
    step("publishing the sample", fanfare.run(&["publish", "-"], Some(sample::EVENTS))).await?;
    ledger.publish_sample();

    let mut show = Show {
        fanfare: &fanfare,
        registered: &registered,
        ledger,
        screen: Screen::new(),
        last_line: String::new(),
    };
    let mut differences = show.settle(&mut stage.services).await?;
    if differences.is_empty() {
        differences = verdict::of_others(&fanfare, &show.ledger, &registered).await?;
    }
    show.screen.leave()?;
    println!("\n{}", verdict::summary(&show.ledger, &differences));
    stage.is_as_expected = Some(differences.is_empty());
    if once {
        return Ok(());
    }
    println!("\n{}\n", stage.hints(&fanfare, &registered)?);
    show.stay(&mut stage.services).await
}

/// What the demo shows, and the parts from which it makes that.
struct Show<'a> {
    fanfare: &'a Fanfare,
    registered: &'a [Registered],
    ledger: Ledger,
    screen: Screen,
    /// The last line that was printed where the table can't be redrawn.
    last_line: String,
}

impl Show<'_> {
    /// Waits until the sample is settled as expected or time is up. Returns the differences that
    /// are left.
    async fn settle(&mut self, services: &mut [Service]) -> Result<Vec<String>> {
        let started = Instant::now();
        loop {
            self.look().await?;
            let (_, settled) = self.ledger.n_deliveries();
            let expected = self.ledger.n_expected()?;
            let below = format!(
                "{} events published, {settled} of {expected} deliveries settled, {} s",
                self.ledger.n_published(),
                started.elapsed().as_secs(),
            );
            let line = format!("{settled} of {expected} deliveries settled");
            self.draw(&below, &line)?;
            let differences = self.ledger.differences(self.registered)?;
            if differences.is_empty() || started.elapsed() > SETTLE_PATIENCE {
                return Ok(differences);
            }
            services.iter_mut().try_for_each(Service::check)?;
            sleep(REFRESH).await;
        }
    }

    /// Publishes another event from time to time, until it is dropped.
    async fn stay(&mut self, services: &mut [Service]) -> Result<()> {
        let mut ticks = interval(REFRESH);
        let mut round = 0;
        let mut note = String::new();
        for tick in 1_usize.. {
            ticks.tick().await;
            if tick % REFRESHES_BETWEEN_EVENTS == 0 {
                let event = sample::again(round)?;
                self.fanfare.run(&["publish", "-"], Some(&event)).await?;
                self.ledger.publish(sample::event(&event)?);
                round += 1;
                note.clear();
            }
            for service in services.iter_mut() {
                // People may kill one to see what happens.
                if service.restart_if_ended(&self.fanfare.home)? {
                    note = format!("The {} ended and was started again. ", service.name());
                }
            }
            self.look().await?;
            let (known, settled) = self.ledger.n_deliveries();
            let events = self.ledger.n_published();
            let line = format!("{events} events, {settled} of {known} deliveries settled");
            self.draw(&format!("{line}\n{note}{STAYS}"), &format!("{line}. {note}"))?;
        }
        Ok(())
    }

    async fn look(&mut self) -> Result<()> {
        // Older deliveries are settled, because retries take only seconds.
        let list = ["deliveries", "list", "--limit", "500", "--json"];
        let list = self.fanfare.run(&list, None).await?;
        self.ledger.take(&list)
    }

    /// Draws the table. Without a terminal, prints `line` if it has changed.
    fn draw(&mut self, below: &str, line: &str) -> Result<()> {
        let table = screen::table(&self.ledger, self.registered)?;
        self.screen.draw(table, below)?;
        if !self.screen.is_live && self.last_line != line {
            eprintln!("{line}");
            line.clone_into(&mut self.last_line);
        }
        Ok(())
    }
}

/// The signals that end the demo. While this value exists, they do not end the process themselves.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
