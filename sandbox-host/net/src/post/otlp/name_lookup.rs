//! Looks up the name of a receiver, at most once at a time.
//!
//! The system's resolver uses a thread for each lookup, which cannot be cancelled. A resolver that
//! never answers would collect a thread for each attempt to send. The `SystemResolver` for handlers
//! is not used here, because it resolves no name relative to a search domain, as a collector in
//! Kubernetes may have.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::resolve::until_ended;

/// The lookups of one exporter.
pub(super) struct NameLookup(Arc<Semaphore>);

impl Default for NameLookup {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl NameLookup {
    /// Runs a lookup, unless an earlier one has not ended. It continues if its caller leaves.
    ///
    /// # Errors
    /// Returns an error if the lookup fails, or if an earlier one has not ended.
    pub(super) async fn run(
        &self,
        lookup: impl Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
    ) -> io::Result<Vec<IpAddr>> {
        let permit = Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            io::Error::other(
                "an earlier lookup of the receiver's name has not ended: check the system's \
                 resolver",
            )
        })?;
        until_ended(permit, lookup).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_lookup_that_hangs_lets_no_other_begin_until_it_has_ended() {
        let lookup = NameLookup::default();
        let (answer, answered) = oneshot::channel::<()>();
        let hanging = lookup.run(async move {
            let ended = answered.await.map_err(io::Error::other);
            ended.map(|()| Vec::new())
        });
        let left = timeout(Duration::from_millis(10), hanging).await;
        assert!(left.is_err(), "its caller leaves");
        let found = || async { Ok::<_, io::Error>(vec![IpAddr::from([192, 0, 2, 1])]) };
        let second = lookup.run(found()).await.unwrap_err();
        assert!(second.to_string().contains("an earlier lookup"), "{second}");
        answer.send(()).unwrap();
        let freed = timeout(Duration::from_secs(30), lookup.0.acquire()).await;
        drop(freed.unwrap().unwrap());
        assert_eq!(lookup.run(found()).await.unwrap().len(), 1);
    }
}
