//! Connections that hold one of the console's slots without using it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fanfare_testkit::wait::eventually;
use tokio::net::{TcpSocket, TcpStream};

use super::client::send;
use crate::console::Console;
use crate::world::SOON;

/// More connections than the console has slots.
const MANY: usize = 700;

/// The largest static file.
async fn asset(address: SocketAddr) -> String {
    let page = send(address, "GET", "/sign-in", &[], b"").await.unwrap().body;
    let mut names = page.split('"').filter(|text| text.starts_with("/assets/htmx"));
    names.next().unwrap().to_owned()
}

/// Opens a connection with a small receive buffer, and requests the file so often that the answers
/// fit into no buffer. It never reads.
async fn unread(address: SocketAddr, path: &str) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.set_recv_buffer_size(2048).ok()?;
    let stream = socket.connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: console\r\n\r\n").repeat(100);
    let _ = stream.try_write(request.as_bytes());
    Some(stream)
}

#[tokio::test]
async fn idle_and_unread_connections_do_not_block_other_clients() {
    let console = Console::start().await;
    let address = console.address;
    let path = asset(address).await;
    for kind in ["not read", "silent"] {
        let mut held = Vec::new();
        for _ in 0..MANY {
            held.extend(match kind {
                "silent" => TcpStream::connect(address).await.ok(),
                _ => unread(address, &path).await,
            });
        }
        assert!(held.len() > 512, "{}", held.len());
        eventually(&format!("an answer among connections that are {kind}"), SOON, async || {
            let begun = Instant::now();
            let answer = send(address, "GET", "/sign-in", &[], b"").await;
            let answer = answer.map_err(|error| error.to_string())?;
            let quick = begun.elapsed() < Duration::from_secs(5);
            if answer.status == 200 && quick { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
        // Later requests are answered too, while these connections stay open.
        for _ in 0..20 {
            let answer = send(address, "GET", "/sign-in", &[], b"").await.unwrap();
            assert_eq!(answer.status, 200);
        }
        drop(held);
    }
}

#[tokio::test]
async fn unread_connection_is_closed_after_a_while() {
    let console = Console::start().await;
    let path = asset(console.address).await;
    let stream = unread(console.address, &path).await.unwrap();
    // A write to a connection that the peer has closed fails.
    eventually("the connection is closed", SOON, async || match stream.try_write(b"G") {
        Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}
