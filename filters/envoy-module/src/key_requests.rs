//! What workers and the main thread tell each other about key sets.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tensorgate_filter_core::host::{FetchOutcome, HostFault, HttpResponse};
use tensorgate_policy::Policy;

use crate::abi::{Call, ConfigurationCall};
use crate::lock::lock;
use crate::timer::{Event, Wakeable};

/// The key sets of a configuration.
pub struct KeyRequests {
    /// Wakes the main thread.
    pub wakeable: Arc<Wakeable>,
    /// Issuers whose keys requests wait for.
    issuers: Mutex<Vec<String>>,
    /// Responses to fetches, by token.
    responses: Mutex<Vec<(u32, Option<HttpResponse>)>>,
    metrics: BTreeMap<String, KeyMetrics>,
    /// Changes of metrics that no stream has written yet. Envoy 1.38 lets only streams write.
    changes: Mutex<BTreeMap<Metric, u64>>,
    has_changes: AtomicBool,
}

/// Envoy's numbers of an issuer's metrics.
struct KeyMetrics {
    fetched: usize,
    failed: usize,
    fetched_unix_s: usize,
    unused_keys: usize,
}

/// A metric by Envoy's number, which counters and gauges have of their own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Metric {
    Counter(usize),
    Gauge(usize),
}

impl KeyRequests {
    /// Of a policy; `None` if it fetches no keys.
    ///
    /// # Errors
    /// Envoy cannot define a metric.
    pub fn new(call: &ConfigurationCall<'_>, policy: &Policy) -> Result<Option<Self>, HostFault> {
        let mut metrics = BTreeMap::new();
        for issuer in policy.issuers().iter().filter(|it| it.key_set().is_some()) {
            let name = issuer.name();
            let own = KeyMetrics {
                fetched: call.define_counter(&FetchOutcome::Good(0).metric(name))?,
                failed: call.define_counter(&FetchOutcome::Failed.metric(name))?,
                fetched_unix_s: call.define_gauge(&FetchOutcome::time_metric(name))?,
                unused_keys: call.define_gauge(&FetchOutcome::unused_keys_metric(name))?,
            };
            metrics.insert(name.to_owned(), own);
        }
        Ok((!metrics.is_empty()).then(|| Self {
            wakeable: Arc::new(Wakeable::new(call.scheduler())),
            issuers: Mutex::default(),
            responses: Mutex::default(),
            metrics,
            changes: Mutex::default(),
            has_changes: AtomicBool::new(false),
        }))
    }

    /// Has the main thread fetch keys early.
    pub fn request(&self, issuers: Vec<String>) {
        if !issuers.is_empty() {
            let mut all = lock(&self.issuers);
            for issuer in issuers {
                if !all.contains(&issuer) {
                    all.push(issuer);
                }
            }
            drop(all);
            self.wakeable.wake(Event::Wait);
        }
    }

    /// The issuers whose keys are to be fetched early.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.issuers))
    }

    /// Keeps a response until the next tick of the main thread.
    pub fn put_response(&self, token: u32, response: Option<HttpResponse>) {
        lock(&self.responses).push((token, response));
    }

    /// The responses that have come since.
    pub fn take_responses(&self) -> Vec<(u32, Option<HttpResponse>)> {
        std::mem::take(&mut *lock(&self.responses))
    }

    /// Counts a fetch.
    pub fn count_fetch(&self, issuer: &str, fetched: FetchOutcome) {
        let Some(metrics) = self.metrics.get(issuer) else {
            return;
        };
        match fetched {
            FetchOutcome::Good(unix_s) => {
                self.add_one(metrics.fetched);
                self.set(metrics.fetched_unix_s, unix_s);
            }
            FetchOutcome::Failed => self.add_one(metrics.failed),
        }
    }

    /// Records how many keys of an issuer's set cannot be used.
    pub fn record_unused_keys(&self, issuer: &str, keys: usize) {
        if let (Some(metrics), Ok(keys)) = (self.metrics.get(issuer), u64::try_from(keys)) {
            self.set(metrics.unused_keys, keys);
        }
    }

    /// Counts a panic of the main thread.
    pub fn count_panic(&self, counter: usize) {
        self.add_one(counter);
    }

    fn add_one(&self, counter: usize) {
        let mut changes = lock(&self.changes);
        let count = changes.entry(Metric::Counter(counter)).or_default();
        *count = count.saturating_add(1);
        self.has_changes.store(true, Ordering::Release);
    }

    fn set(&self, gauge: usize, value: u64) {
        let mut changes = lock(&self.changes);
        changes.insert(Metric::Gauge(gauge), value);
        self.has_changes.store(true, Ordering::Release);
    }

    /// Writes the metrics that have changed.
    pub fn write_metrics(&self, call: &Call<'_>) {
        if !self.has_changes.load(Ordering::Acquire) {
            return;
        }
        // The lock is held, so that no other worker writes an older value after this one.
        let mut changes = lock(&self.changes);
        self.has_changes.store(false, Ordering::Release);
        for (metric, value) in std::mem::take(&mut *changes) {
            match metric {
                Metric::Counter(counter) => call.increment_by(counter, value),
                Metric::Gauge(gauge) => call.set_gauge(gauge, value),
            }
        }
    }
}
