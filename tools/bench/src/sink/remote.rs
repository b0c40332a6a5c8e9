//! The sink as the process that measures sees it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use fanfare_testkit::service::Home;

use super::{Answer, Command, Manner, Seen};
use crate::process::Helper;

/// The sink answers at once, unless the machine is on its knees.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is asked while something is waited for.
const POLL: Duration = Duration::from_millis(50);

/// The sink's process.
#[derive(Debug)]
pub(crate) struct Sink {
    helper: Helper,
    open: Vec<u16>,
    closed: u16,
}

impl Sink {
    pub(crate) async fn start(home: &Home) -> Result<Self> {
        let mut helper = Helper::start(home, "sink")?;
        match helper.ask(&Command::Ports, PATIENCE).await? {
            Answer::Ports { open, closed } => Ok(Self { helper, open, closed }),
            other => bail!("the sink said {other:?} of its ports"),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.helper.id()
    }

    /// The address of a hook, which is counted under `group`. Hooks share the ports evenly, but for
    /// those of a gateway.
    pub(crate) fn url(&self, manner: Manner, group: &str, hook: usize) -> Result<String> {
        let open = |number: usize| self.open.get(number % self.open.len().max(1)).copied();
        let port = match manner {
            Manner::Refuse => Some(self.closed),
            Manner::Gateway => open(gateway(group)),
            _ => open(hook),
        };
        let port = port.context("the sink has no ports")?;
        Ok(format!("http://127.0.0.1:{port}/{}/{group}/{hook}", manner.name()))
    }

    /// Lets it do something.
    pub(crate) async fn tell(&mut self, command: &Command) -> Result<()> {
        match self.helper.ask(command, PATIENCE).await? {
            Answer::Done => Ok(()),
            other => bail!("the sink said {other:?} to {command:?}"),
        }
    }

    /// What was seen of a group.
    pub(crate) async fn seen(&mut self, group: &str) -> Result<Seen> {
        match self.helper.ask(&Command::Report(group.to_owned()), PATIENCE).await? {
            Answer::Seen(seen) => Ok(seen),
            other => bail!("the sink said {other:?} of a group"),
        }
    }

    /// Waits until so many different deliveries have come in all, for as long as some still come
    /// within `patience` of each other.
    pub(crate) async fn wait(
        &mut self,
        group: &str,
        distinct: u64,
        patience: Duration,
    ) -> Result<Seen> {
        let (mut best, mut since) = (0, Instant::now());
        loop {
            let seen = self.seen(group).await?;
            if seen.distinct >= distinct {
                return Ok(seen);
            }
            if seen.distinct > best {
                (best, since) = (seen.distinct, Instant::now());
            }
            if since.elapsed() > patience {
                let missing = distinct - seen.distinct;
                bail!("{missing} of {distinct} deliveries of {group} did not come: {seen:?}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(crate) async fn end(self) {
        self.helper.end().await;
    }
}

/// The number of the port that the hooks of a group share.
fn gateway(group: &str) -> usize {
    group.bytes().map(usize::from).sum()
}
