//! What the host brings for handlers from elsewhere, and everything that keeps such a request from becoming somebody else's: URLs and addresses are
//! judged by the policy, a name is resolved once and connected to by the address that was judged, nothing of a client's
//! goes along, and every request is counted, bounded and told of.
//!
//! `resolve` asks what address a name has, `exchange` speaks HTTP over TLS to one address, `fetch` judges and follows,
//! `places` bounds how much goes on at once, and [`Reach`] is what a loaded handler asks.

mod columns;
mod exchange;
mod fetch;
mod lookup;
mod places;
mod resolve;
mod telling;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use tensorgate_policy::policy::{Handler, Lookup};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::backends::tls::TlsError;
use crate::metrics::Metrics;
use crate::sandbox::{Ask, Behalf, Bring, Brought, Busy, Missing};
use fetch::Fetcher;
use lookup::Looker;
pub use resolve::{Resolve, Resolving, SystemResolver};

/// What one handler may have brought.
pub struct Reach {
    fetcher: Option<Arc<Fetcher>>,
    lookers: BTreeMap<String, Arc<Looker>>,
}

impl Reach {
    /// For a handler, as its policy says; `None` if that grants it nothing. Files are relative to `root`. What comes of its asks is counted.
    ///
    /// # Errors
    /// Files of authorities that cannot be used.
    pub fn of(
        name: &str,
        rule: &Handler,
        root: &Path,
        resolver: &Arc<dyn Resolve>,
        metrics: &Metrics,
    ) -> Result<Option<Arc<Self>>, TlsError> {
        let fetcher = rule
            .fetch()
            .map(|rule| Fetcher::new(name, rule, root, Arc::clone(resolver), metrics).map(Arc::new))
            .transpose()?;
        let looker = |(lookup, rule): (&String, &Lookup)| {
            let looker = Looker::new(
                (name, lookup.as_str()),
                rule,
                root,
                Arc::clone(resolver),
                metrics,
            )?;
            Ok::<_, TlsError>((lookup.clone(), Arc::new(looker)))
        };
        let lookers: BTreeMap<_, _> = rule
            .lookups()
            .iter()
            .map(looker)
            .collect::<Result<_, _>>()?;
        let grants = fetcher.is_some() || !lookers.is_empty();
        Ok(grants.then(|| Arc::new(Self { fetcher, lookers })))
    }

    /// Begins to bring one thing, in a place of its own; nothing of what no policy grants.
    fn begin(
        &self,
        ask: &Ask,
        behalf: &Behalf,
        latest: Option<Instant>,
    ) -> Result<Option<Bringing>, Busy> {
        let (ask, behalf) = (ask.clone(), behalf.clone());
        Ok(match ask {
            Ask::File(url) => {
                let Some(fetcher) = self.fetcher.clone() else {
                    return Ok(None);
                };
                let place = fetcher.places.take(&behalf.client).ok_or(Busy)?;
                Some(Box::pin(async move {
                    let file = fetcher.fetch(&url, &behalf, latest).await;
                    drop(place);
                    Brought::File(file)
                }))
            }
            Ask::Columns {
                lookup,
                features,
                keys,
            } => {
                let Some(looker) = self.lookers.get(&lookup).cloned() else {
                    return Ok(None);
                };
                let place = looker.places.take(&behalf.client).ok_or(Busy)?;
                Some(Box::pin(async move {
                    let columns = looker.look_up(&features, &keys, &behalf, latest).await;
                    drop(place);
                    Brought::Columns(columns)
                }))
            }
        })
    }
}

/// One thing on its way.
type Bringing = Pin<Box<dyn Future<Output = Brought> + Send>>;

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
                if let Some(bringing) = self.begin(ask, behalf, latest)? {
                    tasks.spawn(async move { (index, bringing.await) });
                }
            }
            let nothing = |ask: &Ask| Brought::nothing(ask, Missing::Refused);
            let mut brought: Vec<_> = asks.iter().map(nothing).collect();
            // A task that ended in another way leaves what it was for refused.
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
