//! nginx with the configuration of a test.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::ports;
use crate::process::Process;
use crate::programs;

/// One process, which ends with its owner, and writes into its own folder only.
const MAIN: &str = "\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include site.conf;
}
";

/// Free ports of 127.0.0.1.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    ports::free_ports()
}

/// Starts nginx in `folder`, with what belongs into its `http` block. Installs it where that is
/// possible; blocks meanwhile.
pub fn start(folder: &Path, site: &str) -> Result<Process> {
    let program = programs::find_or_install_nginx()?;
    fs::write(folder.join("nginx.conf"), MAIN).context("writing nginx.conf")?;
    fs::write(folder.join("site.conf"), site).context("writing site.conf")?;
    let folder = folder.to_str().context("the path is not UTF-8")?;
    Ok(Process::spawn(&program, &["-p", folder, "-c", "nginx.conf", "-e", "stderr"], []))
}
