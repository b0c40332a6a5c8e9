//! `fanfare probe`: asks a process of this machine how it is, for containers that have no other
//! program to ask with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::output;
use crate::settings::Settings;

/// A process that is well answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// As much of an answer as a person wants to read in a list of containers, in bytes.
const LONGEST_ANSWER: u64 = 4096;

/// The arguments of `fanfare probe`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ask whether it can do its work now (/readyz), not only whether it runs (/healthz)
    #[arg(long)]
    ready: bool,
}

/// Asks at the address of `FANFARE_METRICS_LISTEN`, and prints the answer.
pub(crate) async fn run(args: &Args, settings: &Settings) -> anyhow::Result<()> {
    let Some(listen) = settings.telemetry.metrics_listen else {
        bail!(
            "there is nothing to ask: FANFARE_METRICS_LISTEN is off; set it as the process has it"
        );
    };
    let address = reachable(listen);
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let answer = timeout(PATIENCE, ask(address, path))
        .await
        .with_context(|| format!("http://{address}{path} did not answer in {PATIENCE:?}"))?
        .with_context(|| format!("failed to ask http://{address}{path}; does the process run?"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let body = output::plain(body.trim_end());
    match status(head) {
        Some(200) => output::print(&format!("{body}\n")),
        Some(status) => bail!("http://{address}{path} answered {status}: {body}"),
        None => bail!("what listens on {address} is no process of Fanfare"),
    }
}

/// Where a process that listens everywhere is reached.
fn reachable(mut listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    listen
}

async fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The status of an answer's head.
fn status(head: &str) -> Option<u16> {
    head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unspecified_address_is_probed_on_loopback() {
        for (listen, address) in [
            ("0.0.0.0:9090", "127.0.0.1:9090"),
            ("[::]:1", "[::1]:1"),
            ("10.0.0.1:7", "10.0.0.1:7"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), address);
        }
    }

    #[test]
    fn status_is_parsed() {
        assert_eq!(status("HTTP/1.1 503 Service Unavailable\r\nx: y"), Some(503));
        assert_eq!(status("SSH-2.0"), None);
    }
}
