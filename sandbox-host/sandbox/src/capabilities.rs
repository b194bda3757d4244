//! Capability requests of a call: who resolves them, and how many a call may make.
//!
//! A guest never waits for the network. When a guest requests a resource that is not resolved yet,
//! its call ends. The host resolves the resource, and a fresh instance runs the same call again. A
//! guest cannot tell the runs apart, so its fuel and its output depend only on its input and the
//! resolved resources.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use tensorgate_base::egress_log::EgressLog;
use tensorgate_policy::policy::Handler;
use tokio::time::Instant;

use crate::call_request::CallRequest;
use crate::finished_call::CallCapture;
use crate::fixed_limits::MAX_CAPABILITY_REQUESTS;
use crate::resources::{CapabilityRequest, ResolvedResource, ResolvedResources};

/// The request that a handler call belongs to.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// The client's name.
    pub client: Arc<str>,
    /// The request's ID.
    pub request_id: Arc<str>,
    /// What the handler can read about the request.
    pub request: CallRequest,
    /// Where egress records of the request are collected.
    pub egress_log: EgressLog,
    /// Captures the handler calls, if capture is enabled.
    pub capture: Option<Arc<dyn CallCapture>>,
    /// The time at which the handler's clocks stand. `None` for the start of the call.
    pub at: Option<SystemTime>,
    /// The seed of the handler's random numbers. `None` for that of handler and request.
    pub seed: Option<[u8; 32]>,
}

impl Default for CallContext {
    fn default() -> Self {
        Self {
            client: Arc::from(""),
            request_id: Arc::from(""),
            request: CallRequest::default(),
            egress_log: EgressLog::default(),
            capture: None,
            at: None,
            seed: None,
        }
    }
}

/// The limit on concurrent egress is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EgressBusy;

/// Resolves capability requests. The implementation knows what a handler may request and from
/// where.
pub trait ResourceResolver: Send + Sync {
    /// Returns one result for each request, in the same order. `deadline` is the deadline of the
    /// client's request.
    fn resolve<'b>(
        &'b self,
        asks: &'b [CapabilityRequest],
        behalf: &'b CallContext,
        request_deadline: Option<Instant>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<ResolvedResource>, EgressBusy>> + Send + 'b>>;
}

/// The number of capability requests that a handler may make in one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CapabilityLimits {
    /// Files.
    pub(super) files: usize,
    /// Lookups, by name.
    pub(super) lookups: BTreeMap<String, usize>,
}

impl CapabilityLimits {
    /// The limits of a handler's policy.
    pub(super) fn from_policy(rule: &Handler) -> Self {
        Self {
            files: rule.fetch().map_or(0, |rule| rule.max_requests()),
            lookups: (rule.lookups().iter())
                .map(|(name, rule)| (name.clone(), rule.max_requests()))
                .collect(),
        }
    }
}

/// The capability requests of a call: those resolved in earlier runs, and those that this run found
/// unresolved.
#[derive(Debug, Default)]
pub(super) struct CapabilityState {
    pub(super) limits: CapabilityLimits,
    pub(super) resolved: Arc<ResolvedResources>,
    pub(super) pending: Vec<CapabilityRequest>,
}

impl CapabilityState {
    /// The results of these requests. Returns `None` if one is missing, and marks it as pending.
    pub(super) fn get(&mut self, asks: &[CapabilityRequest]) -> Option<Vec<ResolvedResource>> {
        for ask in asks {
            if !self.resolved.contains_key(ask) && !self.pending.contains(ask) {
                self.pending.push(ask.clone());
            }
        }
        if !self.pending.is_empty() {
            return None;
        }
        asks.iter()
            .map(|ask| self.resolved.get(ask).cloned())
            .collect()
    }

    /// Whether the call made more requests than it may.
    pub(super) fn exceeds_limits(&self) -> bool {
        let asked = || self.resolved.keys().chain(&self.pending);
        let files = asked()
            .filter(|ask| matches!(ask, CapabilityRequest::File(_)))
            .count();
        let of = |name: &str| {
            let named = |ask: &&CapabilityRequest| matches!(ask, CapabilityRequest::Columns { lookup, .. } if lookup == name);
            asked().filter(named).count()
        };
        asked().count() > MAX_CAPABILITY_REQUESTS
            || files > self.limits.files
            || asked().any(|ask| match ask {
                CapabilityRequest::File(_) => false,
                CapabilityRequest::Columns { lookup, .. } => {
                    of(lookup) > self.limits.lookups.get(lookup).copied().unwrap_or(0)
                }
            })
    }
}
