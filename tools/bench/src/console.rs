//! The console of an installation, asked as a browser or a program does.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use reqwest::Client;
use reqwest::header::{ACCEPT, AUTHORIZATION, COOKIE};

use crate::number;
use crate::report::Report;
use crate::stage::Stage;
use crate::world::World;

/// The token of the administrator's session.
const TOKEN: &str = "bench-0123456789abcdef0123456789abcdef";

/// A console, and a session of an administrator.
pub(crate) struct Console {
    client: Client,
    address: String,
}

impl Console {
    /// Starts a console of an installation.
    pub(crate) async fn open(stage: &Stage, world: &mut World) -> Result<Self> {
        let statement = format!(
            "-- bench_session
            insert into accounts (name_key, name, password_hash, administrator)
            values ('operator', 'operator', '', true);
            insert into sessions (token_digest, account_key, account_generation, created_at, expires_at)
            values (sha256('{TOKEN}'), 'operator', 1, now(), now() + interval '12 hours')"
        );
        stage.sql(&world.name, &statement)?;
        let address = world.start_console(stage).await?;
        Ok(Self { client: Client::builder().no_proxy().build()?, address })
    }

    /// Asks for a page or a list some times, and adds the median and the 99th percentile of the times.
    pub(crate) async fn measure(
        &self,
        report: &mut Report,
        (part, name): (&'static str, &str),
        path: &str,
        calls: u64,
    ) -> Result<()> {
        // The first ones plan statements, and load pages from the disk.
        for _ in 0..2 {
            self.get(path).await?;
        }
        let mut times = Vec::new();
        for _ in 0..calls {
            times.push(self.get(path).await?);
        }
        for (quantile_name, share) in [("p50", 0.5), ("p99", 0.99)] {
            report.add(part, &format!("{name}, {quantile_name}"), "ms", quantile(&times, share));
        }
        Ok(())
    }

    /// Milliseconds from the request to the end of the answer.
    async fn get(&self, path: &str) -> Result<f64> {
        let url = format!("{}{path}", self.address);
        let request = self.client.get(&url).header(AUTHORIZATION, format!("Bearer {TOKEN}"));
        let request = request.header(COOKIE, format!("fanfare_session={TOKEN}"));
        // At `/events` a browser gets the page, and a program is told to publish.
        let request = request.header(ACCEPT, "text/html, application/json");
        let start = Instant::now();
        let answer = request.send().await.with_context(|| format!("asking for {path}"))?;
        let status = answer.status();
        let body = answer.text().await?;
        let taken = start.elapsed().as_secs_f64() * 1e3;
        ensure!(status == 200, "{path} answers {status}: {body}");
        Ok(taken)
    }
}

/// A quantile of times.
pub(crate) fn quantile(times: &[f64], share: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = number::float(number::count(sorted.len().saturating_sub(1)));
    let index = usize::try_from(number::whole((last * share).ceil())).unwrap_or(usize::MAX);
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
