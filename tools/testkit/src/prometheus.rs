//! A Prometheus that belongs to one test, and `promtool`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::daemon::Daemon;
use crate::keeper::Keeper;
use crate::ports::free_ports;
use crate::programs;
use crate::servers::make_folder;

const START_PATIENCE: Duration = Duration::from_mins(1);
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// The configuration's name in the folder.
const CONFIG: &str = "prometheus.yml";

/// A running Prometheus. It ends with its owner, and its data go with it.
pub struct Prometheus {
    address: SocketAddr,
    daemon: Option<Daemon>,
    keeper: Option<Keeper>,
}

impl Prometheus {
    /// Starts one with this configuration, beside which the other files, by their names, are
    /// written; installs the program where that is possible. Blocks until it answers.
    pub fn start(config: &str, files: &[(&str, &str)]) -> Result<Self> {
        let program = programs::find_or_install_prometheus("prometheus")?;
        let folder = make_folder(&std::env::temp_dir())?;
        let keeper = Keeper::of_owner(&folder)?;
        for (name, text) in files.iter().copied().chain([(CONFIG, config)]) {
            fs::write(folder.join(name), text)?;
        }
        let [port] = free_ports()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut command = Command::new(program);
        command.current_dir(&folder).args([
            format!("--config.file={CONFIG}"),
            "--storage.tsdb.path=data".to_owned(),
            format!("--web.listen-address={address}"),
        ]);
        let mut daemon = Daemon::spawn(command, &folder, "prometheus", "TERM")?;
        let log = folder.join("prometheus.log");
        daemon
            .wait_until(START_PATIENCE, || {
                let log = fs::read_to_string(&log).unwrap_or_default();
                log.contains("Server is ready to receive web requests")
            })
            .context("starting Prometheus")?;
        Ok(Self { address, daemon: Some(daemon), keeper: Some(keeper) })
    }

    /// The samples that an expression has now.
    pub async fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let path = format!("/api/v1/query?query={}", encode(expression));
        let data = self.get(&path).await.with_context(|| format!("asking for {expression}"))?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }

    /// The alerts that are pending or firing.
    pub async fn alerts(&self) -> Result<Vec<Value>> {
        let data = self.get("/api/v1/alerts").await?;
        Ok(data["alerts"].as_array().cloned().unwrap_or_default())
    }

    /// The rules of all groups.
    pub async fn rules(&self) -> Result<Vec<Value>> {
        let data = self.get("/api/v1/rules").await?;
        let groups = data["groups"].as_array().cloned().unwrap_or_default();
        let rules = groups.iter().filter_map(|group| group["rules"].as_array());
        Ok(rules.flatten().cloned().collect())
    }

    async fn get(&self, path: &str) -> Result<Value> {
        // Version 1.0, so that the answer is not in chunks.
        let request = format!("GET {path} HTTP/1.0\r\nHost: prometheus\r\n\r\n");
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (_, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
        let mut body: Value = serde_json::from_str(body)?;
        ensure!(body["status"] == "success", "{}", body["error"]);
        Ok(body["data"].take())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // The keeper ends what runs and removes the folder, and this waits for it.
        drop(self.keeper.take());
        // Collects the process that has ended.
        let _ = self.daemon.take().map(|daemon| daemon.end(Signal::TERM, STOP_PATIENCE));
    }
}

/// Runs `promtool`, installed where that is possible; what it says when it fails is the error.
pub fn promtool(arguments: &[&str], in_folder: &Path) -> Result<String> {
    let program: PathBuf = programs::find_or_install_prometheus("promtool")?;
    let output = Command::new(program)
        .args(arguments)
        .current_dir(in_folder)
        .output()
        .context("running promtool")?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(stdout)
}

/// Percent-encodes what is not a letter or a digit.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
