//! Resources that a guest asks the host for: files and columns of features.

use std::collections::BTreeMap;

use bytes::Bytes;
use tensorgate_base::egress_log::ResolveFailure;

/// A resource that a guest requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CapabilityRequest {
    /// The file at a URL.
    File(String),
    /// Features of entities from a feature service.
    Columns {
        /// The lookup's name in the policy.
        lookup: String,
        /// The names of the features.
        features: Vec<String>,
        /// The entity keys.
        keys: Vec<String>,
    },
}

/// The result of one capability request.
#[derive(Clone, Debug, PartialEq)]
pub enum ResolvedResource {
    /// A file, or why there is none.
    File(Result<FetchedFile, ResolveFailure>),
    /// A column for each feature, or why there is none.
    Columns(Result<Vec<FeatureColumn>, ResolveFailure>),
}

impl ResolvedResource {
    /// A failed result of the kind that the request asks for.
    pub const fn failed(ask: &CapabilityRequest, why: ResolveFailure) -> Self {
        match ask {
            CapabilityRequest::File(_) => Self::File(Err(why)),
            CapabilityRequest::Columns { .. } => Self::Columns(Err(why)),
        }
    }
}

/// The values of one feature, one for each requested key.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureColumn {
    /// The feature's name.
    pub feature: String,
    /// The values, `None` where the service has none.
    pub values: Vec<Option<f64>>,
}

/// A fetched file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedFile {
    /// The media type that the server declared. The policy lists it.
    pub content_type: String,
    /// The content, at most the policy's `max_bytes`.
    pub data: Bytes,
}

/// The resources that were resolved for one call so far.
pub type ResolvedResources = BTreeMap<CapabilityRequest, ResolvedResource>;
