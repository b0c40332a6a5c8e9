//! The handle of the measuring process to the sink.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use fanfare_testkit::service::Home;

use super::{Answer, Command, Manner, Seen};
use crate::process::Helper;

/// The time limit of a command. The sink normally answers at once.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The interval of requests while deliveries are awaited.
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
        match helper.ask(&Command::Ports, TIMEOUT).await? {
            Answer::Ports { open, closed } => Ok(Self { helper, open, closed }),
            other => bail!("the sink said {other:?} of its ports"),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.helper.id()
    }

    /// The address of a hook, which is counted for `group`. Hooks are spread evenly over the ports,
    /// except those of a gateway.
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

    /// Sends a command without a result.
    pub(crate) async fn send(&mut self, command: &Command) -> Result<()> {
        match self.helper.ask(command, TIMEOUT).await? {
            Answer::Done => Ok(()),
            other => bail!("the sink said {other:?} to {command:?}"),
        }
    }

    /// The counts of a group.
    pub(crate) async fn seen(&mut self, group: &str) -> Result<Seen> {
        match self.helper.ask(&Command::Report(group.to_owned()), TIMEOUT).await? {
            Answer::Seen(seen) => Ok(seen),
            other => bail!("the sink said {other:?} of a group"),
        }
    }

    /// Waits until `distinct` different deliveries have arrived in all. Fails if no further one
    /// arrives for `loss_timeout`.
    pub(crate) async fn wait(
        &mut self,
        group: &str,
        distinct: u64,
        loss_timeout: Duration,
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
            if since.elapsed() > loss_timeout {
                let missing = distinct - seen.distinct;
                bail!("{missing} of {distinct} deliveries of {group} did not arrive: {seen:?}");
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
