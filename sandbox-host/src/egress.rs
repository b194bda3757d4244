//! Egress: resolves capability requests of handlers over the network, with protection against
//! server-side request forgery. The policy checks URLs and addresses. A name is resolved once, and
//! the connection uses a checked address. No client data is added. Every request is counted,
//! limited and recorded.
//!
//! `resolve` resolves names, `exchange` sends HTTP over TLS to one address, `fetch` checks URLs and
//! follows redirects, `permits` limits concurrency. A loaded handler uses [`Egress`].

mod exchange;
mod fetch;
mod lookup;
mod resolve;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tensorgate_policy::policy::{Handler, Lookup};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::backends::tls::TlsError;
use crate::sandbox::{
    CallContext, CapabilityRequest, EgressBusy, ResolveFailure, ResolvedResource, ResourceResolver,
};
use crate::telemetry::metrics::Metrics;
use fetch::Fetcher;
use lookup::LookupClient;
pub use resolve::{Resolve, Resolving, SystemResolver};

/// The egress of one handler.
pub struct Egress {
    fetcher: Option<Arc<Fetcher>>,
    lookers: BTreeMap<String, Arc<LookupClient>>,
}

impl Egress {
    /// Creates the egress of a handler from its policy. Returns `None` if the policy grants none.
    /// Files are relative to `root`.
    ///
    /// # Errors
    /// Returns an error if files of authorities cannot be used.
    pub fn from_policy(
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
            let looker = LookupClient::new(
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

    /// Starts to resolve one request with a permit of its own. Returns `None` if the policy does
    /// not grant it.
    fn start(
        &self,
        ask: &CapabilityRequest,
        behalf: &CallContext,
        request_deadline: Option<Instant>,
    ) -> Result<Option<ResolvingResource>, EgressBusy> {
        let (ask, behalf) = (ask.clone(), behalf.clone());
        Ok(match ask {
            CapabilityRequest::File(url) => {
                let Some(fetcher) = self.fetcher.clone() else {
                    return Ok(None);
                };
                let place = fetcher.permits.acquire(&behalf.client).ok_or(EgressBusy)?;
                Some(Box::pin(async move {
                    let file = fetcher.fetch(&url, &behalf, request_deadline).await;
                    drop(place);
                    ResolvedResource::File(file)
                }))
            }
            CapabilityRequest::Columns {
                lookup,
                features,
                keys,
            } => {
                let Some(looker) = self.lookers.get(&lookup).cloned() else {
                    return Ok(None);
                };
                let place = looker.permits.acquire(&behalf.client).ok_or(EgressBusy)?;
                Some(Box::pin(async move {
                    let columns = looker
                        .look_up(&features, &keys, &behalf, request_deadline)
                        .await;
                    drop(place);
                    ResolvedResource::Columns(columns)
                }))
            }
        })
    }
}

/// A request in progress.
type ResolvingResource = Pin<Box<dyn Future<Output = ResolvedResource> + Send>>;

impl ResourceResolver for Egress {
    fn resolve<'b>(
        &'b self,
        asks: &'b [CapabilityRequest],
        behalf: &'b CallContext,
        request_deadline: Option<Instant>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<ResolvedResource>, EgressBusy>> + Send + 'b>> {
        Box::pin(async move {
            // All start at once, or none. There are permits for as many as one call may make.
            let mut tasks = JoinSet::new();
            for (index, ask) in asks.iter().enumerate() {
                if let Some(bringing) = self.start(ask, behalf, request_deadline)? {
                    tasks.spawn(async move { (index, bringing.await) });
                }
            }
            let nothing =
                |ask: &CapabilityRequest| ResolvedResource::failed(ask, ResolveFailure::Refused);
            let mut brought: Vec<_> = asks.iter().map(nothing).collect();
            // A task that ended abnormally leaves its request refused.
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

// Limits concurrent egress of a handler. One client may use half of the permits, so that slow
// requests leave the other half to other clients. There is no queue.

/// The permits of a handler.
#[derive(Debug)]
struct EgressPermits {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_client: HashMap<Arc<str>, usize>,
}

/// A permit, released on drop.
#[derive(Debug)]
struct EgressPermit {
    permits: Arc<EgressPermits>,
    client: Arc<str>,
}

impl EgressPermits {
    /// Creates this many permits.
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            taken: Mutex::default(),
        })
    }

    /// Acquires a permit for a client. Returns `None` if all are in use, or the client's half of
    /// them.
    fn acquire(self: &Arc<Self>, client: &Arc<str>) -> Option<EgressPermit> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.by_client.get(client).copied().unwrap_or(0);
        if taken.all >= self.most || own >= self.most.div_ceil(2) {
            return None;
        }
        taken.all = taken.all.saturating_add(1);
        taken
            .by_client
            .insert(Arc::clone(client), own.saturating_add(1));
        drop(taken);
        Some(EgressPermit {
            permits: Arc::clone(self),
            client: Arc::clone(client),
        })
    }
}

impl Drop for EgressPermit {
    fn drop(&mut self) {
        let mut taken = (self.permits.taken.lock()).unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        let left = taken.by_client.get_mut(&self.client).map(|own| {
            *own = own.saturating_sub(1);
            *own
        });
        if left == Some(0) {
            taken.by_client.remove(&self.client);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn one_client_has_half_of_the_places_and_gives_them_back() {
        let (places, a, b) = (EgressPermits::new(3), Arc::from("a"), Arc::from("b"));
        let first = places.acquire(&a).unwrap();
        let _second = places.acquire(&a).unwrap();
        assert!(places.acquire(&a).is_none(), "its half");
        let third = places.acquire(&b).unwrap();
        assert!(places.acquire(&b).is_none(), "all are taken");
        drop((first, third));
        assert!(places.acquire(&a).is_some());
        assert_eq!(places.taken.lock().unwrap().by_client.len(), 1);
    }
}
