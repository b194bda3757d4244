//! What addresses a name has. Asked once for each connection; what is judged is what is connected to.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::places::{Place, Places};

/// Questions that may be open at once: the system's resolver takes a thread for each, and cannot be told to stop.
const MAX_OPEN: usize = 64;
/// Of those, one handler's: whoever serves a zone that never answers holds up that many, long after the handler has stopped waiting. Half of them are
/// one client's: it may choose names below a `*.` of the policy.
const MAX_OF_ONE: usize = MAX_OPEN / 4;
/// Addresses of one name that are looked at.
pub(super) const MAX_ADDRESSES: usize = 32;

/// An answer that is to come.
pub type Resolving<'r> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'r>>;

/// Knows the addresses of names.
pub trait Resolve: Send + Sync {
    /// Every address of a name, for a client.
    fn resolve<'r>(&'r self, host: &'r str, client: &'r Arc<str>) -> Resolving<'r>;
}

/// The machine's own resolver.
#[derive(Debug)]
pub struct SystemResolver {
    open: Arc<Semaphore>,
    own: Arc<Places>,
}

impl SystemResolver {
    /// The same for another handler, which has a share of its own of the questions that may be open.
    #[must_use]
    pub fn share(&self) -> Self {
        Self {
            open: Arc::clone(&self.open),
            own: Places::new(MAX_OF_ONE),
        }
    }

    /// Leave to ask, held until the question ends.
    fn ask(&self, client: &Arc<str>) -> io::Result<(Place, OwnedSemaphorePermit)> {
        let own = (self.own.take(client)).ok_or_else(|| {
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
            own: Places::new(MAX_OF_ONE),
        }
    }
}

impl Resolve for SystemResolver {
    fn resolve<'r>(&'r self, host: &'r str, client: &'r Arc<str>) -> Resolving<'r> {
        Box::pin(async move {
            let open = self.ask(client)?;
            // A name with dots is whole: no search list may put something behind it.
            let whole = if host.contains('.') {
                format!("{host}.")
            } else {
                host.to_owned()
            };
            // It goes on if nobody waits for it any more, and counts as open until it ends.
            let asking = tokio::spawn(async move {
                let found = tokio::net::lookup_host((whole, 0)).await;
                drop(open);
                found.map(|found| found.map(|address| address.ip()).collect::<Vec<_>>())
            });
            asking.await.map_err(io::Error::other)?
        })
    }
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
            std::iter::repeat_with(|| share.ask(client).ok())
                .map_while(|leave| leave)
                .collect::<Vec<_>>()
        };
        let alone = of(&system, &clients[0]);
        assert_eq!(alone.len(), MAX_OF_ONE / 2, "one client's");
        drop(alone);
        let open = |share: &SystemResolver| {
            let both = clients.iter().map(|client| of(share, client));
            both.flatten().collect::<Vec<_>>()
        };
        let mut held: Vec<_> = (shares.iter()).map(open).collect();
        let counts: Vec<_> = held.iter().map(Vec::len).collect();
        assert_eq!(counts, [MAX_OF_ONE, MAX_OF_ONE, MAX_OF_ONE, MAX_OF_ONE, 0]);
        held.remove(0);
        assert!(
            shares.last().unwrap().ask(&clients[0]).is_ok(),
            "the first is done"
        );
    }
}
