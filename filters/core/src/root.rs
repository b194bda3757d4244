//! A configured filter: state that all requests of one policy version share.
//!
//! The configuration is a [`FilterConfiguration`] with a policy that `render` has compiled. The
//! context key comes from the environment, because proxies show plugin configurations in their
//! config dumps. Any error rejects the configuration; the proxy then keeps the previous one.

mod body_limiter;
mod body_memory;
mod log_quotas;
mod shared_state;
mod small_bodies;
mod wait_limiter;

use std::cell::{Cell, RefCell};

use tensorgate_filter_load::{load, not_loaded};
use tensorgate_identity::{Identifier, TokenCache};
use tensorgate_policy::policy::{Grant, KeyLocations};
use tensorgate_policy::{
    Compiled, Fault, FilterConfiguration, FilterTarget, HeaderMode, Now, Policy, Severity,
};
use tensorgate_wire::context::{Key, KeyFault};

use crate::body::{ALWAYS_BUFFERED_BYTES, Delivery};
use crate::filter::Filter;
use crate::host::{HttpResponse, Outside, SharedStore};
use crate::keys::Keyring;
use crate::store::SlotFault;
use body_limiter::PERIOD_MS;
pub(crate) use body_limiter::{BodyLimiter, BodyProgress, Refused};
pub(crate) use body_memory::BodyMemory;
use log_quotas::LogQuotas;
pub use shared_state::create_shared_state;
use small_bodies::SmallBodies;
pub(crate) use small_bodies::client_number;
use wait_limiter::WaitLimiter;
pub(crate) use wait_limiter::WaitPermit;

/// Environment variable with the context key, 64 hex digits.
pub const CONTEXT_KEY_VARIABLE: &str = "TENSORGATE_CONTEXT_KEY";

/// Maximum bytes to read of a configuration: one more than allowed, so that an oversized
/// configuration is detected instead of truncated.
pub const READ_CONFIGURATION_BYTES: usize = FilterConfiguration::MAX_BYTES + 1;

/// Maximum number of requests of one worker that wait for a key. Each holds data of a client that
/// is not authenticated yet.
const MAX_WAITING_REQUESTS: usize = 64;
/// While ticks measure how late the worker is, key sets are looked at no more often than this, ns.
const KEYS_NS: u64 = 20_000_000;
/// Body bytes that these requests may buffer, all of one worker together. Their clients are not
/// authenticated yet.
const WAITING_BYTES: usize = 16 * ALWAYS_BUFFERED_BYTES;
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

/// A configured filter.
pub struct GateRoot {
    pub(crate) filter: Filter,
    pub(crate) policy: Policy,
    pub(crate) identifier: Identifier,
    /// Results of token verification. The cache belongs to this configuration; its keys include the
    /// policy version anyway.
    pub(crate) tokens: RefCell<TokenCache>,
    pub(crate) generation: String,
    /// `None` only if another filter signs the context, or if no host reads it.
    pub(crate) context_key: Option<Key>,
    /// Whether a sandbox host is behind this filter.
    has_host: bool,
    /// Key sets that issuers publish.
    pub(crate) keys: RefCell<Keyring>,
    /// Whether request headers wait for the verdict on the body.
    pub(crate) headers: HeaderMode,
    /// Whether a large body may be streamed while this filter reads it.
    may_stream: bool,
    /// Whether the policy has limits of end users.
    pub(crate) limits_users: bool,
    /// Whether the policy has limits of sources.
    pub(crate) limits_sources: bool,
    /// Whether the proxy delivers bodies while headers are held.
    pub(crate) delivery: Cell<Delivery>,
    /// Memory for small bodies that the filter copies.
    pub(crate) small_bodies: SmallBodies,
    /// Limit for bodies that this worker reads at the same time.
    pub(crate) body_limiter: BodyLimiter,
    /// When the key sets were last looked at, ns of the monotonic clock.
    keys_ticked_ns: Cell<u64>,
    /// Limit for requests that wait for a key.
    pub(crate) key_waiters: WaitLimiter,
    /// Quotas for log lines about callers without a valid credential.
    pub(crate) log_quotas: LogQuotas,
    /// A request has asked for an early tick.
    pub(crate) tick_requested: Cell<bool>,
    /// Whether the log says that another gate is before this one.
    pub(crate) is_second_logged: Cell<bool>,
    /// When the log named a host of another release, on the monotonic clock.
    pub(crate) mismatch_logged_ns: Cell<Option<u64>>,
}

impl GateRoot {
    /// Loads a configuration. `Ok` carries the warnings, `Err` all faults. No fault quotes the
    /// context key, which a filter that identifies callers must have, unless its configuration says
    /// that no host is behind it. A VM's memory never shrinks, so input is freed before the result
    /// grows.
    ///
    /// # Errors
    /// The faults of the configuration, if any is an error.
    pub fn configure(
        configuration: impl AsRef<[u8]>,
        context_key_hex: Option<&str>,
    ) -> Result<(Self, Vec<Fault>), Vec<Fault>> {
        Self::configure_as(None, configuration, context_key_hex, None)
    }

    /// As [`Self::configure`], as this filter and with this header mode.
    ///
    /// # Errors
    /// The faults of the configuration, if any is an error.
    pub fn configure_as(
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
        let root = Self::with_policy(filter, policy, generation, headers, has_host, context_key);
        faults.extend(root.unheld_bodies());
        Ok((root, faults))
    }

    /// A filter with a validated policy that has seen no request yet.
    fn with_policy(
        filter: Filter,
        policy: Policy,
        generation: String,
        headers: HeaderMode,
        has_host: bool,
        context_key: Option<Key>,
    ) -> Self {
        let capabilities = filter.capabilities();
        let may_charge = !has_host && (capabilities.charge || capabilities.check);
        let may_stream =
            !(may_charge && (policy.allowances()).any(|(.., allowance)| allowance.is_global()));
        let waiting_bytes = policy.listen().limits().hold_bytes.max(WAITING_BYTES);
        Self {
            filter,
            identifier: Identifier::new(&policy),
            tokens: RefCell::default(),
            keys: RefCell::new(Keyring::new(&policy, capabilities.identify)),
            key_waiters: WaitLimiter::new(MAX_WAITING_REQUESTS, waiting_bytes),
            headers,
            delivery: Cell::default(),
            small_bodies: SmallBodies::default(),
            body_limiter: BodyLimiter::default(),
            keys_ticked_ns: Cell::new(0),
            log_quotas: LogQuotas::default(),
            tick_requested: Cell::new(false),
            is_second_logged: Cell::new(false),
            mismatch_logged_ns: Cell::new(None),
            has_host,
            may_stream,
            limits_users: policy.limits_users(),
            limits_sources: policy.limits_sources(),
            policy,
            generation,
            context_key,
        }
    }

    /// The same configuration, without anything that requests have left in this one.
    #[must_use]
    pub fn without_state(&self) -> Self {
        Self::with_policy(
            self.filter,
            self.policy.clone(),
            self.generation.clone(),
            self.headers,
            self.has_host,
            self.context_key.clone(),
        )
    }

    /// How headers are treated while a body is evaluated.
    pub const fn headers(&self) -> HeaderMode {
        self.headers
    }

    /// Whether headers are forwarded before the body is evaluated.
    pub(crate) fn forwards_headers(&self) -> bool {
        self.headers == HeaderMode::Forward
    }

    /// The filter.
    pub const fn filter(&self) -> Filter {
        self.filter
    }

    /// Where requests may carry API keys, if this filter reads credentials. Other filters read the
    /// path unchanged: either the first filter has removed a key from it, or the path matches no
    /// route.
    pub(crate) fn key_locations(&self) -> &KeyLocations {
        static USUAL: KeyLocations = KeyLocations::USUAL;
        if self.filter.capabilities().identify {
            self.policy.listen().key_locations()
        } else {
            &USUAL
        }
    }

    /// The policy.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The key that signs contexts, if this filter has one.
    pub const fn context_key(&self) -> Option<&Key> {
        self.context_key.as_ref()
    }

    /// Whether a sandbox host is behind this filter and reads the contexts that it signs: the
    /// bundle does not deny it, and there is a key.
    pub const fn has_host(&self) -> bool {
        self.has_host
    }

    /// The key that signs for the host and verifies what it has signed; `None` without a host.
    pub(crate) fn host_key(&self) -> Option<&Key> {
        self.context_key.as_ref().filter(|_| self.has_host)
    }

    /// Whether a large body may be streamed while this filter reads it. Not where requests wait for
    /// the rate-limit service: nothing of a request is forwarded before it is charged.
    pub(crate) const fn may_stream(&self) -> bool {
        self.may_stream
    }

    /// A warning if bodies that the policy allows are too large to wait for shared limits.
    fn unheld_bodies(&self) -> Option<Fault> {
        let limits = self.policy.listen().limits();
        let is_unheld = !self.may_stream && limits.hold_bytes < limits.body_bytes;
        is_unheld.then(|| Fault {
            severity: Severity::Warning,
            ..Fault::error(
                "listen.limits.hold_bytes",
                "without a sandbox host, a body of more bytes is rejected: it would wait for limits of scope global",
            )
        })
    }

    /// The policy version.
    pub fn generation(&self) -> &str {
        &self.generation
    }

    /// Creates the slots of key sets and imports sets that workers of the previous policy have
    /// fetched.
    ///
    /// # Errors
    /// The store failed or is full.
    pub(crate) fn make_keys(&self, store: &mut dyn SharedStore, now: Now) -> Result<(), SlotFault> {
        let mut keys = self.keys.borrow_mut();
        keys.make_slots(store)?;
        keys.refresh(store, self.tokens.borrow_mut().keys_mut(), now, true);
        Ok(())
    }

    /// Whether there is background work: keys to fetch, or streams to end.
    pub fn ticks(&self) -> bool {
        !self.keys.borrow().is_empty() || self.forwards_headers()
    }

    /// Whether a request has asked for an early tick since the last call.
    pub fn was_tick_requested(&self) -> bool {
        self.tick_requested.take()
    }

    /// The tick period that measures how late this worker is, ms. `None` while little is in
    /// progress.
    pub fn busy_tick_ms(&self) -> Option<u32> {
        self.body_limiter.is_busy().then_some(PERIOD_MS)
    }

    /// Runs background work that is due.
    pub fn on_tick(&self, outside: &mut dyn Outside) {
        // Without a clock nothing counts as late.
        if let Ok(now) = outside.clocks() {
            self.body_limiter.on_tick(now.monotonic_ns);
            let idle_ns = now.monotonic_ns.saturating_sub(self.keys_ticked_ns.get());
            if self.busy_tick_ms().is_some() && !self.tick_requested.get() && idle_ns < KEYS_NS {
                return;
            }
            self.keys_ticked_ns.set(now.monotonic_ns);
        }
        let mut tokens = self.tokens.borrow_mut();
        self.keys.borrow_mut().on_tick(outside, tokens.keys_mut());
    }

    /// Handles the response to an HTTP call; `None` if there was none.
    pub fn on_answer(
        &self,
        outside: &mut dyn Outside,
        token: u32,
        answered: Option<&HttpResponse>,
    ) {
        let mut tokens = self.tokens.borrow_mut();
        let sets = tokens.keys_mut();
        let mut keys = self.keys.borrow_mut();
        keys.on_answer(outside, sets, token, answered);
    }

    /// Shuts this configuration down: no more calls or responses follow.
    pub fn close(&self, store: &mut dyn SharedStore) {
        self.keys.borrow_mut().close(store);
    }

    /// Publishes an issuer's key set as if it had just been fetched.
    ///
    /// # Errors
    /// What is wrong with the document, or that no such issuer has a key set URL.
    pub fn publish(
        &self,
        store: &mut dyn SharedStore,
        issuer: &str,
        document: &[u8],
        now: Now,
    ) -> Result<(), String> {
        let mut tokens = self.tokens.borrow_mut();
        let mut keys = self.keys.borrow_mut();
        keys.publish(store, tokens.keys_mut(), issuer, document, now)
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

/// A failed host call during configuration, as a fault of the configuration.
pub fn host_fault(fault: impl core::fmt::Display) -> Fault {
    Fault::error("", format!("the proxy cannot run the filter: {fault}"))
}
