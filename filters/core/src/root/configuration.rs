//! The configuration of a filter, which all its workers share.
//!
//! It is a [`FilterConfiguration`] with a policy that `render` has compiled. The context key comes
//! from the environment, because proxies show plugin configurations in their config dumps. Any
//! error rejects the configuration; the proxy then keeps the previous one.

use std::sync::Arc;

use tensorgate_filter_load::{load, not_loaded};
use tensorgate_policy::policy::Grant;
use tensorgate_policy::{
    Compiled, Fault, FilterConfiguration, FilterTarget, HeaderMode, Policy, Severity,
};
use tensorgate_wire::context::{Key, KeyFault};

use crate::filter::Filter;
use crate::store::KeyPrefix;

/// Environment variable with the context key, 64 hex digits.
pub const CONTEXT_KEY_VARIABLE: &str = "TENSORGATE_CONTEXT_KEY";

/// Maximum bytes to read of a configuration: one more than allowed, so that an oversized
/// configuration is detected instead of truncated.
pub const READ_CONFIGURATION_BYTES: usize = FilterConfiguration::MAX_BYTES + 1;

/// Maximum length of a policy version, in bytes; `render` writes 16 hex digits.
const MAX_GENERATION_BYTES: usize = 64;

/// The key that this filter signs with. The variable may hold the whole key file of the hosts,
/// where the new key comes first and the one that it replaces second.
fn signing_key(lines: &str) -> Result<Key, KeyFault> {
    let lines = lines.lines().filter(|line| !line.trim_ascii().is_empty());
    let mut keys = lines.map(Key::from_hex);
    let first = keys.next().ok_or(KeyFault::Form)??;
    keys.try_for_each(|key| key.map(drop))?;
    Ok(first)
}

/// A loaded configuration. Clones share the policy.
#[derive(Clone)]
pub struct Configuration {
    pub(super) filter: Filter,
    pub(super) policy: Arc<Policy>,
    pub(super) generation: String,
    /// Whether request headers wait for the verdict on the body.
    pub(super) headers: HeaderMode,
    /// Whether a sandbox host is behind this filter.
    pub(super) has_host: bool,
    /// How the policy's keys in shared data begin.
    pub(super) key_prefix: KeyPrefix,
    /// `None` only if another filter signs the context, or if no host reads it.
    pub(super) context_key: Option<Key>,
}

impl Configuration {
    /// Loads a configuration. `Ok` carries the warnings, `Err` all faults. No fault quotes the
    /// context key, which a filter that identifies callers must have, unless its configuration says
    /// that no host is behind it. `filter` and `mode` take precedence over the configuration's. A
    /// VM's memory never shrinks, so input is freed before the result grows.
    ///
    /// # Errors
    /// The faults of the configuration, if any is an error.
    pub fn load(
        filter: Option<Filter>,
        configuration: impl AsRef<[u8]>,
        context_key_hex: Option<&str>,
        mode: Option<HeaderMode>,
    ) -> Result<(Self, Vec<Fault>), Vec<Fault>> {
        let mut faults = Vec::new();
        let Compiled {
            generation,
            digest: _,
            target,
            warnings,
            policy,
        } = load(configuration).map_err(|fault| vec![fault])?;
        let FilterTarget {
            name,
            headers,
            host,
            policy_id,
        } = target.filter().map_err(|fault| vec![not_loaded(&fault)])?;
        let headers = mode.unwrap_or(headers);
        let named = match &name {
            Some(name) => Filter::from_name(name),
            None => Some(Filter::Gate),
        };
        let Some(filter) = filter.or(named) else {
            faults.push(Fault::error(
                "filter",
                "must be gate, auth, rate-limit or tensor-guard",
            ));
            return Err(faults);
        };
        let context_key = context_key_hex.map(signing_key).transpose();
        let fault = match &context_key {
            Ok(None) if filter.capabilities().identify && host => Some("is not set".to_owned()),
            // A lockout counts sources and credentials under names that are made with the key.
            Ok(None) if filter.capabilities().identify && policy.lockout().is_some() => {
                Some("is not set, and the policy's lockout needs it".to_owned())
            }
            Ok(_) => None,
            Err(fault) => Some(fault.to_string()),
        };
        faults.extend(fault.map(|message| Fault::error(CONTEXT_KEY_VARIABLE, message)));
        let context_key = context_key.unwrap_or_default();
        let has_host = host && context_key.is_some();
        if !is_generation(&generation) {
            faults.push(Fault::error(
                "generation",
                "must be 1 to 64 letters, digits or dashes",
            ));
        }
        if !has_host && messages_wait(&policy) {
            let cause = "messages of streams cannot wait for limits of scope global without a sandbox host: give the grant `scope: local`, or put a host behind the filter";
            faults.push(Fault::error("grants", cause));
        } else if !has_host && policy.has_host_limits() {
            let cause = "limits of users, sources and models are counted by a sandbox host: put one behind the filter";
            faults.push(Fault::error("grants", cause));
        } else if !has_host
            && filter != Filter::Gate
            && headers == HeaderMode::Forward
            && policy.rate_limit_service().is_some()
        {
            // Each filter of a chain would withhold the body and restore it after its wait.
            let cause = "limits of scope global need the filter `gate`, headers: hold, or a sandbox host behind the filter";
            faults.push(Fault::error("rate_limit_service", cause));
        }
        let is_enforced = faults.is_empty();
        faults.extend(warnings);
        if !is_enforced {
            return Err(faults);
        }
        let configuration = Self {
            filter,
            policy: Arc::new(policy),
            generation,
            headers,
            has_host,
            key_prefix: KeyPrefix::new(&policy_id),
            context_key,
        };
        faults.extend(configuration.unheld_bodies());
        Ok((configuration, faults))
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The filter.
    pub const fn filter(&self) -> Filter {
        self.filter
    }

    /// Whether a sandbox host is behind the filter.
    pub const fn has_host(&self) -> bool {
        self.has_host
    }

    /// Whether a large body may be streamed while this filter reads it. Not where requests wait for
    /// the rate-limit service: nothing of a request is forwarded before it is charged.
    pub(super) fn may_stream(&self) -> bool {
        let capabilities = self.filter.capabilities();
        let may_charge = !self.has_host && (capabilities.charge || capabilities.check);
        let mut allowances = self.policy.allowances();
        !(may_charge && allowances.any(|(.., allowance)| allowance.is_global()))
    }

    /// A warning if bodies that the policy allows are too large to wait for shared limits.
    fn unheld_bodies(&self) -> Option<Fault> {
        let limits = self.policy.listen().limits();
        let is_unheld = !self.may_stream() && limits.hold_bytes < limits.body_bytes;
        is_unheld.then(|| Fault {
            severity: Severity::Warning,
            ..Fault::error(
                "listen.limits.hold_bytes",
                "without a sandbox host, a body of more bytes is rejected: it would wait for limits of scope global",
            )
        })
    }
}

/// Whether messages of streams may wait for the rate-limit service.
fn messages_wait(policy: &Policy) -> bool {
    policy.grants().iter().any(Grant::messages_wait)
}

fn is_generation(name: &str) -> bool {
    (1..=MAX_GENERATION_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
