//! The proxy outside of requests: clocks, HTTP calls and the requests that wait for their results.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use proxy_wasm::hostcalls;
use tensorgate_policy::Now;

use super::{Host, abi};
use tensorgate_filter_core::gate::Gate;
use tensorgate_filter_core::host::{
    FetchOutcome, HasStore, HostFault, HttpCall, HttpResponse, Level, Outside, Proxy as _,
    SharedStore,
};
use tensorgate_filter_core::keys::document::MAX_DOCUMENT_BYTES;

/// Tick period for background work, in milliseconds.
pub(crate) const TICK_MS: u32 = 1_000;
/// Tick period while requests wait.
const WAITING_TICK_MS: u32 = 20;
/// Tick period for an immediate tick.
pub(crate) const SOON_MS: u32 = 1;

thread_local! {
    /// Metrics of key sets by name. They outlive a configuration change, as the VM does.
    static METRICS: RefCell<BTreeMap<String, u32>> = const { RefCell::new(BTreeMap::new()) };
}

/// The proxy outside of requests.
pub(crate) struct Outer;

impl HasStore for Outer {
    fn store(&mut self) -> impl SharedStore {
        Host::outside()
    }
}

impl Outside for Outer {
    fn clocks(&mut self) -> Result<Now, HostFault> {
        Host::outside().now()
    }

    fn http_call(&mut self, call: &HttpCall<'_>) -> Result<u32, HostFault> {
        // The SDK's own call: its dispatcher must know the token, or it would panic on an unknown
        // response. Envoy returns only statuses that the SDK knows.
        let timeout = Duration::from_millis(call.timeout_ms);
        hostcalls::dispatch_http_call(
            call.cluster,
            call.headers.to_vec(),
            None,
            Vec::new(),
            timeout,
        )
        .map_err(|status| HostFault {
            call: "http_call",
            status: status as u32,
        })
    }

    fn log(&mut self, level: Level, line: &str) {
        Host::outside().log(level, line);
    }

    fn count_fetch(&mut self, issuer: &str, fetched: FetchOutcome) {
        if let Some(counter) = metric(fetched.metric(issuer), abi::define_counter) {
            abi::increment(counter);
        }
        if let FetchOutcome::Good(unix_s) = fetched {
            let name = FetchOutcome::time_metric(issuer);
            if let Some(gauge) = metric(name, abi::define_gauge) {
                abi::record(gauge, unix_s);
            }
        }
    }

    fn record_unused_keys(&mut self, issuer: &str, keys: usize) {
        let name = FetchOutcome::unused_keys_metric(issuer);
        if let (Some(gauge), Ok(keys)) = (metric(name, abi::define_gauge), u64::try_from(keys)) {
            abi::record(gauge, keys);
        }
    }
}

/// Id of a metric; `None` if the proxy cannot define it.
fn metric(name: String, define: fn(&str) -> Result<u32, HostFault>) -> Option<u32> {
    METRICS.with(|metrics| {
        let mut metrics = metrics.borrow_mut();
        if let Some(id) = metrics.get(&name) {
            return Some(*id);
        }
        let id = define(&name).ok()?;
        metrics.insert(name, id);
        Some(id)
    })
}

/// The HTTP response; `None` if there was none.
pub(crate) fn answered(fields: usize) -> Option<HttpResponse> {
    if fields == 0 {
        return None;
    }
    Some(HttpResponse {
        headers: abi::get_call_headers().ok()?,
        body: abi::call_body(MAX_DOCUMENT_BYTES.saturating_add(1)).ok()?,
    })
}

/// Waiting requests of one configuration, by context.
#[derive(Clone, Default)]
pub(crate) struct Waiting(Rc<RefCell<Vec<Waiter>>>);

struct Waiter {
    context: u32,
    gate: Weak<RefCell<Gate>>,
}

impl Waiter {
    fn is_needed(&self) -> bool {
        let gate = self.gate.upgrade();
        gate.is_some_and(|gate| gate.borrow().waits() || gate.borrow().has_pending_call())
    }
}

impl Waiting {
    /// Called after each request callback, which may have started a wait.
    pub(crate) fn note(&self, context: u32, gate: &Rc<RefCell<Gate>>) {
        if gate.borrow().waits() {
            let gate = Rc::downgrade(gate);
            self.0.borrow_mut().push(Waiter { context, gate });
        }
    }

    /// Tick period that the waiting requests need.
    pub(crate) fn tick_ms(&self) -> u32 {
        if self.0.borrow().is_empty() {
            TICK_MS
        } else {
            WAITING_TICK_MS
        }
    }

    /// Delivers the rate-limit service's answer to a request, from a callback of the
    /// configuration's own context.
    pub(crate) fn charge_response(&self, host: Host, token: u32, answer: Result<Vec<u8>, u32>) {
        let asked = |waiter: &Waiter| {
            let gate = waiter.gate.upgrade()?;
            let its_own = gate.borrow().is_waiting_for(token);
            its_own.then_some((waiter.context, gate))
        };
        let found = self.0.borrow().iter().find_map(asked);
        if let Some((context, gate)) = found
            && abi::set_effective_context(context).is_ok()
        {
            let mut host = Host {
                request: context,
                ..host
            };
            gate.borrow_mut()
                .on_rate_limit_response(&mut host, token, answer);
        }
        let _ = abi::set_effective_context(host.own);
        self.0.borrow_mut().retain(Waiter::is_needed);
    }

    /// Wakes every request whose wait is over, from a callback of the configuration's own context.
    pub(crate) fn wake(&self, own: u32) {
        let now_ns = match Host::outside().now() {
            Ok(now) => now.monotonic_ns,
            // Without a clock every wait counts as over.
            Err(_) => u64::MAX,
        };
        let mut due = Vec::new();
        self.0.borrow_mut().retain(|waiter| {
            let Some(gate) = waiter.gate.upgrade() else {
                return false;
            };
            let (waits, is_due) = (gate.borrow().waits(), gate.borrow().is_due(now_ns));
            if waits && is_due {
                due.push((waiter.context, gate));
                return false;
            }
            waiter.is_needed()
        });
        for (context, gate) in due {
            // Host calls act on that request until the next effective context is set.
            if abi::set_effective_context(context).is_ok() {
                let mut host = Host {
                    own,
                    request: context,
                };
                gate.borrow_mut().wake(&mut host);
                self.note(context, &gate);
                // A call made here belongs to the configuration's context.
                if gate.borrow().has_pending_call() {
                    let gate = Rc::downgrade(&gate);
                    self.0.borrow_mut().push(Waiter { context, gate });
                }
            }
        }
        let _ = abi::set_effective_context(own);
    }
}
