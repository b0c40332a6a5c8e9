//! Who is at the other end of a connection.

use std::net::IpAddr;

/// The address that sends a request: the last proxy's, if there is one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);
