//! Starts a private PostgreSQL and RabbitMQ and prints their addresses, one to a line, to be used
//! in a shell. They end, and their data are removed, when this program ends, by Ctrl-C or
//! otherwise.

use std::io::{self, Write};
use std::path::Path;
use std::thread;

use anyhow::Result;
use fanfare_testkit::servers::Servers;

fn main() -> Result<()> {
    let dir = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let servers = Servers::start(Path::new(&dir))?;
    servers.create_database("fanfare")?;
    servers.create_vhost("fanfare")?;
    let mut out = io::stdout();
    writeln!(out, "FANFARE_DATABASE_URL={}", servers.database_url("fanfare"))?;
    writeln!(out, "FANFARE_AMQP_URL={}", servers.amqp_url("fanfare"))?;
    writeln!(out, "FANFARE_SERVERS_FOLDER={}", servers.folder().display())?;
    out.flush()?;
    loop {
        // The keeper ends the servers when a signal ends this program.
        thread::park();
    }
}
