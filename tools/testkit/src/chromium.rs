//! A `chromedriver` that belongs to one test: it starts Chromium and drives it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::daemon::Daemon;
use crate::keeper::Keeper;
use crate::ports::free_ports;
use crate::programs;
use crate::servers::make_folder;

const START_PATIENCE: Duration = Duration::from_mins(1);

/// A running `chromedriver`. It ends with its owner, and the profiles of its browsers go with it.
pub struct ChromeDriver {
    address: SocketAddr,
    folder: PathBuf,
    _daemon: Daemon,
    _keeper: Keeper,
}

impl ChromeDriver {
    /// Starts one, whose programs are installed where that is possible. Blocks until it answers.
    pub fn start() -> Result<Self> {
        let program = programs::find_or_install_chromedriver()?;
        let folder = make_folder(&std::env::temp_dir())?;
        let keeper = Keeper::of_owner(&folder)?;
        let [port] = free_ports()?;
        let mut command = Command::new(program);
        command.current_dir(&folder).arg(format!("--port={port}"));
        let mut daemon = Daemon::spawn(command, &folder, "chromedriver", "TERM")?;
        let log = folder.join("chromedriver.log");
        daemon
            .wait_until(START_PATIENCE, || {
                let log = fs::read_to_string(&log).unwrap_or_default();
                log.contains("was started successfully")
            })
            .context("starting ChromeDriver")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Self { address, folder, _daemon: daemon, _keeper: keeper })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The options with which Chromium shows nothing on a screen, keeps its profile in the driver's
    /// folder, and ends when the driver does.
    #[must_use]
    pub fn browser_arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "--headless=new".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-gpu".to_owned(),
            // Screenshots are as wide as their window.
            "--hide-scrollbars".to_owned(),
            // Chromium ends when the pipe breaks, however its driver ended.
            "--remote-debugging-pipe".to_owned(),
            format!("--user-data-dir={}", self.new_profile().display()),
        ];
        if rustix::process::geteuid().is_root() {
            // Chromium's sandbox refuses to work for root. It sees only pages of the tests.
            arguments.push("--no-sandbox".to_owned());
        }
        arguments
    }

    fn new_profile(&self) -> PathBuf {
        let name = format!("profile-{}", uuid::Uuid::new_v4().simple());
        Path::new(&self.folder).join(name)
    }
}
