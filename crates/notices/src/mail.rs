//! Notices by mail.

use std::time::Duration;

use fanfare_core::notice::Notice;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Mailboxes};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use thiserror::Error;

use crate::NotSent;

/// How long the mail server may take for each step.
const STEP_TIME: Duration = Duration::from_secs(10);

/// A mail server. `Debug` does not show its address, which may hold a password.
#[derive(Clone)]
pub struct Server(AsyncSmtpTransport<Tokio1Executor>);

/// A text that is not the URL of a mail server.
#[derive(Debug, Error)]
#[error("the URL of the mail server can't be used")]
pub struct BadServer;

impl Server {
    /// Parses `smtps://user:password@host`, which begins with TLS, or `smtp://…?tls=required`, which
    /// changes to it. `smtp://` alone sends in clear.
    ///
    /// # Errors
    ///
    /// [`BadServer`]: it is not such a URL.
    pub fn parse(url: &str) -> Result<Self, BadServer> {
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url).map_err(|_| BadServer)?;
        Ok(Self(builder.timeout(Some(STEP_TIME)).build()))
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server(…)")
    }
}

/// A mail address, perhaps with a name.
#[must_use]
pub fn address(text: &str) -> Option<Mailbox> {
    text.trim().parse().ok()
}

/// Mail addresses that are separated by commas; at least one.
#[must_use]
pub fn addresses(text: &str) -> Option<Mailboxes> {
    let all: Mailboxes = text.trim().parse().ok()?;
    (all.iter().count() > 0).then_some(all)
}

/// Mail by a server, from one sender.
#[derive(Debug, Clone)]
pub struct Mail {
    server: Server,
    from: Mailbox,
}

impl Mail {
    /// Mail by this server.
    #[must_use]
    pub fn new(server: &Server, from: Mailbox) -> Self {
        Self { server: server.clone(), from }
    }

    /// Connects to the server and signs in, and sends nothing.
    ///
    /// # Errors
    ///
    /// [`NotSent::MailServer`] says what the server or the connection lacks.
    pub async fn check(&self) -> Result<(), NotSent> {
        match self.server.0.test_connection().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(NotSent::MailServerSilent),
            Err(error) => Err(NotSent::MailServer(error)),
        }
    }

    /// Sends one mail with these notices.
    pub(crate) async fn send(&self, to: &Mailboxes, notices: &[Notice]) -> Result<(), NotSent> {
        let mail = self.write(to, notices).map_err(NotSent::Unwritable)?;
        self.server.0.send(mail).await.map(drop).map_err(NotSent::MailServer)
    }

    fn write(&self, to: &Mailboxes, notices: &[Notice]) -> Result<Message, lettre::error::Error> {
        let subject = match notices {
            [one] => format!("Fanfare: {}", one.kind.code()),
            several => format!("Fanfare: {} notices", several.len()),
        };
        let ids: Vec<String> =
            notices.iter().map(|notice| notice.id.simple().to_string()).collect();
        let lines: Vec<String> = notices
            .iter()
            .map(|notice| {
                let (at, id) = (fanfare_core::notice::time(notice.at), notice.id.simple());
                format!("{}\n{at}, {}, notice {id}\n", notice.sentence(), notice.kind.code())
            })
            .collect();
        let mut mail = Message::builder()
            .from(self.from.clone())
            // The same notices are the same message, however often they are sent.
            .message_id(Some(format!("<{}@fanfare>", ids.join("."))))
            .subject(subject)
            .header(ContentType::TEXT_PLAIN);
        for to in to.clone() {
            mail = mail.to(to);
        }
        mail.body(lines.join("\n"))
    }
}
