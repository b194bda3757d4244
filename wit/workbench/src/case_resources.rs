//! Serves files and features from a test case instead of the network. Requests are checked against
//! the manifest's `fetch:` and `lookups:`, as in the host.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use tensorgate_base::egress_log::ResolveFailure;
use tensorgate_policy::policy::Handler;
use tensorgate_sandbox::{
    CallContext, CapabilityRequest, EgressBusy, FeatureColumn, FetchedFile, ResolvedResource,
    ResourceResolver,
};
use tokio::time::Instant;

use crate::case::Features;

/// Resources of a test case.
pub struct CaseResources {
    /// Rules for requests.
    pub rule: Handler,
    /// Files by URL.
    pub files: BTreeMap<String, FetchedFile>,
    /// Feature values by lookup, feature and key.
    pub features: Features,
}

impl CaseResources {
    fn file(&self, url: &str) -> Result<FetchedFile, ResolveFailure> {
        let rule = self.rule.fetch().ok_or(ResolveFailure::Refused)?;
        rule.target(url).map_err(|_| ResolveFailure::Refused)?;
        let file = self.files.get(url).ok_or(ResolveFailure::NotFound)?;
        if file.data.len() > rule.max_bytes() {
            Err(ResolveFailure::TooLarge)
        } else if !rule.content_types().contains(&file.content_type) {
            Err(ResolveFailure::WrongType)
        } else {
            Ok(file.clone())
        }
    }
}

impl CaseResources {
    fn columns(
        &self,
        lookup: &str,
        features: &[String],
        keys: &[String],
    ) -> Result<Vec<FeatureColumn>, ResolveFailure> {
        let rule = self
            .rule
            .lookups()
            .get(lookup)
            .ok_or(ResolveFailure::Refused)?;
        rule.takes(features, keys)
            .map_err(|_| ResolveFailure::Refused)?;
        let known = self.features.get(lookup);
        let columns = features.iter().map(|feature| {
            let known = known.and_then(|features| features.get(feature));
            let value = |key| known.and_then(|keys| keys.get(key)).copied();
            FeatureColumn {
                feature: feature.clone(),
                values: keys.iter().map(value).collect(),
            }
        });
        Ok(columns.collect())
    }
}

impl ResourceResolver for CaseResources {
    fn resolve<'b>(
        &'b self,
        asks: &'b [CapabilityRequest],
        _: &'b CallContext,
        _: Option<Instant>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<ResolvedResource>, EgressBusy>> + Send + 'b>> {
        let resolved = asks
            .iter()
            .map(|ask| match ask {
                CapabilityRequest::File(url) => ResolvedResource::File(self.file(url)),
                CapabilityRequest::Columns {
                    lookup,
                    features,
                    keys,
                } => ResolvedResource::Columns(self.columns(lookup, features, keys)),
            })
            .collect();
        Box::pin(std::future::ready(Ok(resolved)))
    }
}
