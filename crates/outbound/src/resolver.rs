//! Name resolution that returns permitted addresses only.
//!
//! The connector resolves names here each time that it opens a connection, and connects only to the
//! resulting addresses. So the addresses that are checked are the ones that are used.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use fanfare_core::target::TargetPolicy;
use hyper_util::client::legacy::connect::dns::Name;
use thiserror::Error;
use tower::Service;

use crate::lookup::Lookups;
use crate::timing::{self, Moment};

/// Why a name has no address to connect to. The owner of a webhook sees these messages, so they
/// don't contain addresses: otherwise a webhook could be used to query an internal resolver.
#[derive(Debug, Error)]
pub(crate) enum ResolveError {
    /// There is no such name, or the resolver did not answer.
    #[error("the name {name} could not be resolved")]
    Lookup {
        name: String,
        #[source]
        source: Option<std::io::Error>,
    },
    /// All of the name's addresses are blocked.
    #[error("the name {name} resolves to {reason}")]
    Blocked { name: String, reason: &'static str },
}

/// The system's resolver behind the target policy.
#[derive(Debug, Clone)]
pub(crate) struct PolicyResolver {
    policy: Arc<TargetPolicy>,
    lookups: Lookups,
}

impl PolicyResolver {
    pub(crate) fn new(policy: TargetPolicy) -> Self {
        Self { policy: Arc::new(policy), lookups: Lookups::system() }
    }
}

impl Service<Name> for PolicyResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ResolveError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ResolveError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (policy, lookups) = (Arc::clone(&self.policy), self.lookups.clone());
        Box::pin(async move {
            timing::note(Moment::Resolving);
            let addresses = resolve(&policy, &lookups, name.as_str()).await?;
            timing::note(Moment::Resolved);
            Ok(addresses.into_iter())
        })
    }
}

async fn resolve(
    policy: &TargetPolicy,
    lookups: &Lookups,
    name: &str,
) -> Result<Vec<SocketAddr>, ResolveError> {
    let failed = |source| ResolveError::Lookup { name: name.to_owned(), source };
    let found = lookups.find(name).await.map_err(|source| failed(Some(source)))?;
    permitted(policy, name, found.into_iter()).and_then(|addresses| match addresses {
        addresses if addresses.is_empty() => Err(failed(None)),
        addresses => Ok(addresses),
    })
}

/// The permitted addresses among those `found`; an error when all of them are blocked.
fn permitted(
    policy: &TargetPolicy,
    name: &str,
    found: impl Iterator<Item = SocketAddr>,
) -> Result<Vec<SocketAddr>, ResolveError> {
    let mut addresses = Vec::new();
    let mut reason = None;
    for address in found {
        match policy.check(address.ip()) {
            Ok(()) => addresses.push(address),
            Err(blocked) => {
                tracing::debug!(name, %blocked, "left out an address that webhooks may not reach");
                reason.get_or_insert(blocked.reason());
            }
        }
    }
    match reason {
        Some(reason) if addresses.is_empty() => {
            Err(ResolveError::Blocked { name: name.to_owned(), reason })
        }
        _ => Ok(addresses),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|ip| SocketAddr::new(ip.parse().expect("an address"), 0)).collect()
    }

    #[track_caller]
    fn check(found: &[&str], expect: Result<&[&str], &str>) {
        let policy = TargetPolicy::default();
        let result = permitted(&policy, "both.example", addresses(found).into_iter());
        assert_eq!(
            result.map_err(|error| error.to_string()),
            match expect {
                Ok(list) => Ok(addresses(list)),
                Err(reason) => Err(format!("the name both.example resolves to {reason}")),
            }
        );
    }

    #[test]
    fn only_permitted_addresses_are_left() {
        check(&["8.8.8.8", "2606:4700::1"], Ok(&["8.8.8.8", "2606:4700::1"]));
        check(&["10.0.0.1", "8.8.8.8", "::1"], Ok(&["8.8.8.8"]));
        check(&["::ffff:169.254.169.254", "10.0.0.1"], Err("a link-local address"));
        check(&[], Ok(&[]));
    }
}
