//! Ports for servers of tests.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, anyhow};
use uuid::Uuid;

/// Ports are taken from below the range that Linux gives to outgoing connections, so that none of
/// those can sit on a server's port while the server is stopped.
const FIRST_PORT: u16 = 15_000;
const N_PORTS: u16 = 15_000;

/// Finds a free port.
///
/// # Errors
///
/// There is none.
pub fn free_port() -> Result<u16> {
    free_ports().map(|[port]| port)
}

/// Finds free ports. They are held until all are found, so that they differ.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::with_capacity(N);
    for _ in 0..1000 {
        let (random, _) = Uuid::new_v4().as_u64_pair();
        let port = FIRST_PORT + u16::try_from(random % u64::from(N_PORTS))?;
        held.extend(
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(|listener| (port, listener)),
        );
        if held.len() == N {
            let ports: Vec<u16> = held.iter().map(|(port, _)| *port).collect();
            return ports.try_into().map_err(|_| anyhow!("counting ports"));
        }
    }
    Err(anyhow!("no free ports on 127.0.0.1 from {FIRST_PORT} up"))
}
