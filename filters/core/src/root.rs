//! A configured filter: state that all requests of one policy version share in one worker.

mod body_limiter;
mod body_memory;
mod configuration;
mod log_quotas;
mod shared_state;
mod small_bodies;
mod wait_limiter;

use std::cell::{Cell, RefCell};

use tensorgate_identity::{Identifier, TokenCache};
use tensorgate_policy::policy::KeyLocations;
use tensorgate_policy::{Fault, HeaderMode, Now, Policy};
use tensorgate_wire::context::Key;

use crate::body::{ALWAYS_BUFFERED_BYTES, Delivery};
use crate::filter::Filter;
use crate::host::{HttpResponse, Outside, SharedStore};
use crate::keys::Keyring;
use crate::store::{KeyPrefix, SlotFault};
use body_limiter::PERIOD_MS;
pub(crate) use body_limiter::{BodyLimiter, BodyProgress, Refused};
pub(crate) use body_memory::BodyMemory;
pub use configuration::{CONTEXT_KEY_VARIABLE, Configuration, READ_CONFIGURATION_BYTES};
use log_quotas::LogQuotas;
pub use shared_state::create_shared_state;
use small_bodies::SmallBodies;
pub(crate) use small_bodies::client_number;
use wait_limiter::WaitLimiter;
pub(crate) use wait_limiter::WaitPermit;

/// Maximum number of requests of one worker that wait for a key. Each holds data of a client that
/// is not authenticated yet.
const MAX_WAITING_REQUESTS: usize = 64;
/// While ticks measure how late the worker is, key sets are looked at no more often than this, ns.
const KEYS_NS: u64 = 20_000_000;
/// Body bytes that these requests may buffer, all of one worker together. Their clients are not
/// authenticated yet.
const WAITING_BYTES: usize = 16 * ALWAYS_BUFFERED_BYTES;

/// A configured filter.
pub struct GateRoot {
    configuration: Configuration,
    pub(crate) identifier: Identifier,
    /// Results of token verification. The cache belongs to this configuration; its keys include the
    /// policy version anyway.
    pub(crate) tokens: RefCell<TokenCache>,
    /// Key sets that issuers publish.
    pub(crate) keys: RefCell<Keyring>,
    /// Whether a large body may be streamed while this filter reads it.
    may_stream: bool,
    /// Whether any client may open streams of messages, for which the policy searches all grants.
    takes_messages: bool,
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
    /// Loads a configuration, as [`Configuration::load`] does.
    ///
    /// # Errors
    /// The faults of the configuration, if any is an error.
    pub fn configure(
        configuration: impl AsRef<[u8]>,
        context_key_hex: Option<&str>,
    ) -> Result<(Self, Vec<Fault>), Vec<Fault>> {
        let (configuration, warnings) =
            Configuration::load(None, configuration, context_key_hex, None)?;
        Ok((Self::new(&configuration), warnings))
    }

    /// The same configuration, without anything that requests have left in this one.
    #[must_use]
    pub fn without_state(&self) -> Self {
        Self::new(&self.configuration)
    }

    /// A filter of this configuration that has seen no request yet.
    pub fn new(configuration: &Configuration) -> Self {
        let policy = &configuration.policy;
        let capabilities = configuration.filter.capabilities();
        let waiting_bytes = policy.listen().limits().hold_bytes.max(WAITING_BYTES);
        Self {
            identifier: Identifier::new(policy),
            tokens: RefCell::default(),
            keys: RefCell::new(Keyring::new(
                policy,
                capabilities.identify,
                &configuration.key_prefix,
            )),
            key_waiters: WaitLimiter::new(MAX_WAITING_REQUESTS, waiting_bytes),
            delivery: Cell::default(),
            small_bodies: SmallBodies::default(),
            body_limiter: BodyLimiter::default(),
            keys_ticked_ns: Cell::new(0),
            log_quotas: LogQuotas::default(),
            tick_requested: Cell::new(false),
            is_second_logged: Cell::new(false),
            mismatch_logged_ns: Cell::new(None),
            may_stream: configuration.may_stream(),
            takes_messages: policy.takes_messages(),
            limits_users: policy.limits_users(),
            limits_sources: policy.limits_sources(),
            configuration: configuration.clone(),
        }
    }

    /// How headers are treated while a body is evaluated.
    pub const fn headers(&self) -> HeaderMode {
        self.configuration.headers
    }

    /// Whether headers are forwarded before the body is evaluated.
    pub(crate) fn forwards_headers(&self) -> bool {
        self.headers() == HeaderMode::Forward
    }

    /// The filter.
    pub const fn filter(&self) -> Filter {
        self.configuration.filter
    }

    /// Where requests may carry API keys, if this filter reads credentials. Other filters read the
    /// path unchanged: either the first filter has removed a key from it, or the path matches no
    /// route.
    pub(crate) fn key_locations(&self) -> &KeyLocations {
        static USUAL: KeyLocations = KeyLocations::USUAL;
        if self.filter().capabilities().identify {
            self.policy().listen().key_locations()
        } else {
            &USUAL
        }
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.configuration.policy
    }

    /// The key that signs contexts, if this filter has one.
    pub const fn context_key(&self) -> Option<&Key> {
        self.configuration.context_key.as_ref()
    }

    /// How the policy's keys in shared data begin.
    pub const fn key_prefix(&self) -> &KeyPrefix {
        &self.configuration.key_prefix
    }

    /// Whether a sandbox host is behind this filter and reads the contexts that it signs: the
    /// bundle does not deny it, and there is a key.
    pub const fn has_host(&self) -> bool {
        self.configuration.has_host
    }

    /// The key that signs for the host and verifies what it has signed; `None` without a host.
    pub(crate) fn host_key(&self) -> Option<&Key> {
        self.context_key().filter(|_| self.has_host())
    }

    /// Whether any client may open streams of messages, whose responses are read.
    pub const fn takes_messages(&self) -> bool {
        self.takes_messages
    }

    /// Whether a large body may be streamed while this filter reads it. Not where requests wait for
    /// the rate-limit service: nothing of a request is forwarded before it is charged.
    pub(crate) const fn may_stream(&self) -> bool {
        self.may_stream
    }

    /// The policy version.
    pub fn generation(&self) -> &str {
        &self.configuration.generation
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

    /// The proxy delivers bodies while headers are held, so no request is watched for that.
    pub fn expect_bodies(&self) {
        self.delivery.set(Delivery::Works);
    }

    /// Whether there are keys to fetch.
    pub fn fetches_keys(&self) -> bool {
        !self.keys.borrow().is_empty()
    }

    /// Whether there is background work: keys to fetch, or streams to end.
    pub fn ticks(&self) -> bool {
        self.fetches_keys() || self.forwards_headers()
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

    /// Measures how late this worker is. Part of [`Self::on_tick`], for a worker that fetches no
    /// keys because another thread of its process does.
    pub fn measure_lateness(&self, now_ns: u64) {
        self.body_limiter.on_tick(now_ns);
    }

    /// No tick comes that would measure how late this worker is.
    pub fn forget_tick(&self) {
        self.body_limiter.forget_tick();
    }

    /// Imports the key sets that another thread has fetched.
    pub fn import_keys(&self, store: &mut dyn SharedStore, now: Now) {
        let mut tokens = self.tokens.borrow_mut();
        let mut keys = self.keys.borrow_mut();
        keys.refresh(store, tokens.keys_mut(), now, true);
    }

    /// Issuers whose keys this worker's requests have asked for since the last call.
    pub fn take_key_requests(&self) -> Vec<String> {
        self.keys.borrow_mut().take_requests()
    }

    /// Asks for an early fetch of an issuer's keys, for a request of another worker.
    pub fn request_keys(&self, issuer: &str) {
        self.keys.borrow_mut().request(issuer);
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

/// A failed host call during configuration, as a fault of the configuration.
pub fn host_fault(fault: impl core::fmt::Display) -> Fault {
    Fault::error("", format!("the proxy cannot run the filter: {fault}"))
}
