//! What addresses a name has. Asked once for each connection; what is judged is what is connected to.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Semaphore;

/// Questions that may be open at once: the system's resolver takes a thread for each, and cannot be told to stop.
const MAX_OPEN: usize = 64;
/// Addresses of one name that are looked at.
pub(super) const MAX_ADDRESSES: usize = 32;

/// An answer that is to come.
pub type Resolving<'r> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'r>>;

/// Knows the addresses of names.
pub trait Resolve: Send + Sync {
    /// Every address of a name.
    fn resolve<'r>(&'r self, host: &'r str) -> Resolving<'r>;
}

/// The machine's own resolver.
#[derive(Debug)]
pub struct SystemResolver {
    open: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self {
            open: Arc::new(Semaphore::new(MAX_OPEN)),
        }
    }
}

impl Resolve for SystemResolver {
    fn resolve<'r>(&'r self, host: &'r str) -> Resolving<'r> {
        Box::pin(async move {
            let Ok(open) = Arc::clone(&self.open).try_acquire_owned() else {
                return Err(io::Error::other("too many names are being resolved"));
            };
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
