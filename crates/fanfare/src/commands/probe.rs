//! `fanfare probe`: checks the health of a process on this machine, for containers without another
//! HTTP client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::output;
use crate::settings::Settings;

/// How long to wait for the answer. A healthy process answers at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest part of an answer that is read, in bytes. Container tools show little more.
const LONGEST_ANSWER: u64 = 4096;

/// The arguments of `fanfare probe`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Check whether it can do its work now (/readyz), not only whether it runs (/healthz)
    #[arg(long)]
    ready: bool,
}

/// Sends a request to the address of `FANFARE_METRICS_LISTEN`, and prints the answer.
pub(crate) async fn run(args: &Args, settings: &Settings) -> anyhow::Result<()> {
    let Some(listen) = settings.telemetry.metrics_listen else {
        bail!(
            "FANFARE_METRICS_LISTEN is off, so no process can be checked; set it to the same address as \
             for the process"
        );
    };
    let address = reachable(listen);
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let answer = timeout(ANSWER_TIMEOUT, ask(address, path))
        .await
        .with_context(|| {
            format!("http://{address}{path} did not answer within {ANSWER_TIMEOUT:?}")
        })?
        .with_context(|| {
            format!("failed to get http://{address}{path}; check that the process runs")
        })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let body = output::plain(body.trim_end());
    match status(head) {
        Some(200) => output::print(&format!("{body}\n")),
        Some(status) => bail!("http://{address}{path} answered {status}: {body}"),
        None => bail!("the process that listens on {address} does not belong to Fanfare"),
    }
}

/// The address at which a process is reached. One that listens on all addresses is reached on the
/// loopback address.
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

/// Parses the status from an answer's head.
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
