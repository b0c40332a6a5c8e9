//! Outgoing HTTP: Fanfare sends every request to a webhook's address through [`Client`]. Requests
//! to addresses that the operator sets, such as an identity provider's, use [`trusted::Client`].
//!
//! There are two kinds of requests to webhooks: the POST of a notification ([`Client::post`]) and
//! the GET that verifies a new address ([`Client::verify`]). Both follow the same rules:
//!
//! - A connection is opened only to an address that the
//!   [`TargetPolicy`](fanfare_core::target::TargetPolicy) allows. A literal address in the URL is
//!   checked before sending. The addresses of a name are checked at the moment of connecting, so
//!   that changing the name's addresses in between has no effect.
//! - One call is one request: no redirects and no proxies. It is sent again only if the receiver
//!   has certainly not processed it (`exchange`).
//! - The status line decides, whatever follows it (`head`, `watch`).
//! - Whatever the peer does, a call ends within its timeout and keeps at most 16 KiB of the answer.
//!
//! The duration of the phases of a POST is recorded (`timing`).
//!
//! An error is a [`Failure`](fanfare_core::answer::Failure) with a sentence for the owner of the
//! webhook. The sentence reveals nothing about the network that the service runs in.

mod body;
mod client;
mod connector;
mod destination;
mod exchange;
mod failure;
#[doc(hidden)]
pub mod fuzzing;
mod handshake_error;
mod head;
mod lookup;
mod pool;
mod resolver;
mod stream;
mod timing;
mod tls;
pub mod trusted;
mod verify;
mod watch;

pub use client::{BuildError, Client, Config};
pub use destination::Destination;
pub use tls::TlsError;
pub use verify::{VerifyError, skips_verification};
