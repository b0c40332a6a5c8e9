//! The only way out: every HTTP request that Fanfare makes to a webhook's address goes through
//! [`Client`]. What goes to an address that the operator set, an identity provider's, goes through
//! [`trusted::Client`] instead.
//!
//! Two things are sent, a notification's POST ([`Client::post`]) and the GET that verifies a new
//! address ([`Client::verify`]), both under the same rules:
//!
//! - The connection goes to an address that the [`TargetPolicy`](fanfare_core::target::TargetPolicy)
//!   lets pass. A literal address in the URL is judged before sending, a name's addresses at the
//!   moment of connecting, so a name that changes its mind in between gains nothing.
//! - One call is one request: no redirects and no proxies. It is sent again only when the receiver
//!   surely processed nothing of it (`exchange`).
//! - The status line decides, whatever follows it (`head`, `watch`).
//! - Whatever the peer does, a call ends within its timeout and keeps at most 16 KiB of the answer.
//!
//! How long the parts of a POST took is noted on the way (`parts`).
//!
//! What goes wrong comes back as a [`Failure`](fanfare_core::answer::Failure) with a sentence for a
//! person that tells the owner of a webhook nothing about the network the service runs in.

mod body;
mod client;
mod connector;
mod destination;
mod exchange;
mod failed;
mod head;
mod lookup;
mod parts;
mod pool;
mod refused;
mod resolver;
mod stream;
mod tls;
pub mod trusted;
mod verify;
mod watch;

pub use client::{BuildError, Client, Config};
pub use destination::Destination;
pub use tls::TlsError;
pub use verify::{VerifyError, skips_verification};
