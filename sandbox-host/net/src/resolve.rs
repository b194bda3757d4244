//! Name resolution. A name is resolved once for each connection, and the addresses that were
//! checked are the ones connected to.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::permits::{EgressPermit, EgressPermits};

/// The most concurrent lookups. The system's resolver uses a thread for each, which cannot be
/// cancelled.
const MAX_OPEN: usize = 64;
/// The most lookups of one handler. A zone that never answers blocks them long after the handler
/// has stopped waiting. One client may have half of them, because it may choose names below a `*.`
/// of the policy.
const MAX_PER_CLIENT: usize = MAX_OPEN / 4;
/// The most addresses of a name that are used.
pub(crate) const MAX_ADDRESSES: usize = 32;

/// A pending lookup.
pub type Resolving<'r> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'r>>;

/// Resolves names to addresses.
pub trait Resolve: Send + Sync {
    /// All addresses of a name, for a client.
    fn resolve<'r>(&'r self, host: &'r str, client: &'r Arc<str>) -> Resolving<'r>;
}

/// The system's resolver.
#[derive(Debug)]
pub struct SystemResolver {
    open: Arc<Semaphore>,
    own: Arc<EgressPermits>,
}

impl SystemResolver {
    /// The same resolver for another handler, with a lookup limit of its own.
    #[must_use]
    pub fn share(&self) -> Self {
        Self {
            open: Arc::clone(&self.open),
            own: EgressPermits::new(MAX_PER_CLIENT),
        }
    }

    /// Permits for a lookup, held until it ends.
    fn permits(&self, client: &Arc<str>) -> io::Result<(EgressPermit, OwnedSemaphorePermit)> {
        let own = (self.own.acquire(client)).ok_or_else(|| {
            io::Error::other(
                "too many names are being resolved for this handler, or for this client of it",
            )
        })?;
        let open = (Arc::clone(&self.open).try_acquire_owned())
            .map_err(|_| io::Error::other("too many names are being resolved"))?;
        Ok((own, open))
    }
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self {
            open: Arc::new(Semaphore::new(MAX_OPEN)),
            own: EgressPermits::new(MAX_PER_CLIENT),
        }
    }
}

impl Resolve for SystemResolver {
    fn resolve<'r>(&'r self, host: &'r str, client: &'r Arc<str>) -> Resolving<'r> {
        Box::pin(async move {
            let open = self.permits(client)?;
            // A trailing dot keeps the resolver from appending a search domain to a full name.
            let whole = if host.contains('.') {
                format!("{host}.")
            } else {
                host.to_owned()
            };
            until_ended(open, system_addresses(whole, 0)).await
        })
    }
}

/// The addresses of a name, by the system's resolver.
pub async fn system_addresses(host: String, port: u16) -> io::Result<Vec<IpAddr>> {
    let found = tokio::net::lookup_host((host, port)).await?;
    Ok(found.map(|address| address.ip()).collect())
}

/// Runs a lookup. It continues if its caller leaves, and holds its permit until it ends.
pub async fn until_ended(
    permit: impl Send + 'static,
    lookup: impl Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
) -> io::Result<Vec<IpAddr>> {
    let running = tokio::spawn(async move {
        let found = lookup.await;
        drop(permit);
        found
    });
    running.await.map_err(io::Error::other)?
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_handler_whose_names_are_never_resolved_leaves_others_their_questions() {
        let system = SystemResolver::default();
        let shares: Vec<_> = std::iter::repeat_with(|| system.share()).take(5).collect();
        let clients = ["a", "b"].map(Arc::from);
        let of = |share: &SystemResolver, client| {
            std::iter::repeat_with(|| share.permits(client).ok())
                .map_while(|leave| leave)
                .collect::<Vec<_>>()
        };
        let alone = of(&system, &clients[0]);
        assert_eq!(alone.len(), MAX_PER_CLIENT / 2, "one client's");
        drop(alone);
        let open = |share: &SystemResolver| {
            let both = clients.iter().map(|client| of(share, client));
            both.flatten().collect::<Vec<_>>()
        };
        let mut held: Vec<_> = (shares.iter()).map(open).collect();
        let counts: Vec<_> = held.iter().map(Vec::len).collect();
        assert_eq!(
            counts,
            [
                MAX_PER_CLIENT,
                MAX_PER_CLIENT,
                MAX_PER_CLIENT,
                MAX_PER_CLIENT,
                0
            ]
        );
        held.remove(0);
        assert!(
            shares.last().unwrap().permits(&clients[0]).is_ok(),
            "the first is done"
        );
    }
}
