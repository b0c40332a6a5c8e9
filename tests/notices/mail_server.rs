//! A mail server that takes every mail.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A mail server on a port of 127.0.0.1, in clear.
pub(super) struct MailServer {
    address: SocketAddr,
    mails: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl MailServer {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mails = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&mails);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&kept)));
            }
        });
        Self { address, mails, accepting }
    }

    pub(super) fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// The mails so far, each with its envelope's lines before it.
    pub(super) fn mails(&self) -> Vec<String> {
        self.mails.lock().unwrap().clone()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Speaks SMTP (RFC 5321) with one client.
async fn serve(stream: TcpStream, mails: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut lines = BufReader::new(reading).lines();
    writing.write_all(b"220 mail.test\r\n").await?;
    let mut mail = String::new();
    while let Some(line) = lines.next_line().await? {
        let command = line.to_ascii_uppercase();
        if command.starts_with("MAIL") || command.starts_with("RCPT") {
            mail.extend([&*line, "\n"]);
        }
        if command == "DATA" {
            writing.write_all(b"354 go on\r\n").await?;
            while let Some(line) = lines.next_line().await?.filter(|line| line != ".") {
                mail.extend([&*line, "\n"]);
            }
            mails.lock().unwrap().push(std::mem::take(&mut mail));
        }
        let is_end = command == "QUIT";
        writing.write_all(if is_end { b"221 bye\r\n" } else { b"250 fine\r\n" }).await?;
        if is_end {
            break;
        }
    }
    Ok(())
}
