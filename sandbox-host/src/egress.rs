//! Egress: resolves capability requests of handlers over the network, with protection against
//! server-side request forgery. The policy checks URLs and addresses. A name is resolved once, and
//! the connection uses a checked address. No client data is added to a handler's request. Every
//! request of a handler is counted, limited and recorded.
//!
//! `fetch` checks URLs and follows redirects, `lookup` asks feature services. Both use the
//! resolver, the connections and the permits of [`tensorgate_net`]. A loaded handler uses
//! [`Egress`].

mod features;
mod fetch;
mod lookup;
mod metrics;
mod pending_record;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use tensorgate_base::egress_log::ResolveFailure;
use tensorgate_net::pem::TlsError;
use tensorgate_net::resolve::Resolve;
use tensorgate_policy::policy::{Handler, Lookup};
use tensorgate_sandbox::{
    CallContext, CapabilityRequest, EgressBusy, ResolvedResource, ResourceResolver,
};
use tensorgate_telemetry::metrics::Metrics;
use tokio::task::JoinSet;
use tokio::time::Instant;

use fetch::Fetcher;
use lookup::LookupClient;

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
