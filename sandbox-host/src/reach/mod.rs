//! What the host brings for handlers from elsewhere, and everything that keeps such a request from becoming somebody else's: URLs and addresses are
//! judged by the policy, a name is resolved once and connected to by the address that was judged, nothing of a client's
//! goes along, and every request is counted, bounded and told of.
//!
//! `resolve` asks what address a name has, `exchange` speaks HTTP over TLS to one address, `fetch` judges and follows,
//! `places` bounds how much goes on at once, and [`Reach`] is what a loaded handler asks.

mod exchange;
mod fetch;
mod places;
mod resolve;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use tensorgate_policy::policy::Handler;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::backends::tls::TlsError;
use crate::sandbox::{Ask, Behalf, Bring, Brought, Busy, Missing};
use fetch::Fetcher;
pub use resolve::{Resolve, Resolving, SystemResolver};

/// What one handler may have brought.
pub struct Reach {
    fetcher: Option<Arc<Fetcher>>,
}

impl Reach {
    /// For a handler, as its policy says; `None` if that grants it nothing. Files are relative to `root`.
    ///
    /// # Errors
    /// Files of authorities that cannot be used.
    pub fn of(
        name: &str,
        rule: &Handler,
        root: &Path,
        resolver: &Arc<dyn Resolve>,
    ) -> Result<Option<Arc<Self>>, TlsError> {
        let fetcher = rule
            .fetch()
            .map(|rule| Fetcher::new(name, rule, root, Arc::clone(resolver)).map(Arc::new))
            .transpose()?;
        Ok(fetcher.map(|fetcher| {
            Arc::new(Self {
                fetcher: Some(fetcher),
            })
        }))
    }
}

impl Bring for Reach {
    fn bring<'b>(
        &'b self,
        asks: &'b [Ask],
        behalf: &'b Behalf,
        latest: Option<Instant>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Brought>, Busy>> + Send + 'b>> {
        Box::pin(async move {
            // All at once, or none: places are there for as many as one call may ask for.
            let mut tasks = JoinSet::new();
            for (index, ask) in asks.iter().enumerate() {
                let Ask::File(url) = ask;
                let Some(fetcher) = &self.fetcher else {
                    continue;
                };
                let place = fetcher.places.take(&behalf.client).ok_or(Busy)?;
                let (fetcher, url, behalf) = (Arc::clone(fetcher), url.clone(), behalf.clone());
                tasks.spawn(async move {
                    let file = fetcher.fetch(&url, &behalf, latest).await;
                    drop(place);
                    (index, Brought::File(file))
                });
            }
            let mut brought: Vec<_> = asks
                .iter()
                .map(|Ask::File(_)| Brought::File(Err(Missing::Refused)))
                .collect();
            // A task that ended in another way leaves what it was for unavailable.
            while let Some(done) = tasks.join_next().await {
                let Ok((index, came)) = done else { continue };
                if let Some(slot) = brought.get_mut(index) {
                    *slot = came;
                }
            }
            Ok(brought)
        })
    }
}
