//! Concurrency limit and queue of one backend.
//!
//! A bounded number of requests is in flight, a bounded number waits, and the rest is rejected. The
//! limit is fixed by the policy or adapted within it. [`FairQueue`] decides which request comes
//! next and which is preempted.
//!
//! A request that could not be answered before its deadline is rejected at once. Otherwise, in a
//! long queue, every request would reach the backend when its deadline is nearly over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tensorgate_base::client_key::ClientKey;
use tensorgate_base::turns::Ticket;
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::policy::Backend;
use tensorgate_policy::{Denial, Reason};
use tensorgate_telemetry::labels::BackendLabels;
use tensorgate_telemetry::metrics::{GaugeGuard, Metrics};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::adaptive_limit::AdaptiveLimit;
use super::fair_queue::FairQueue;

/// The weight of the latest hold time in the moving average is one in this many.
const AVERAGE_WEIGHT: u32 = 8;
/// The margin that is added to an estimated wait is one in this many, because hold times vary.
const WAIT_MARGIN: u128 = 4;
/// The most clients whose own average is kept.
const MAX_CLIENTS: usize = 1_024;
/// A client without news for this long may queue one request regardless of its average. A backend
/// that was slow may be fast again, and the client must be able to find out while others keep the
/// backend busy.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The limiter of one backend.
#[derive(Debug)]
pub(super) struct ConcurrencyLimiter {
    queue_state: Mutex<FairQueue<oneshot::Sender<QueueOutcome>>>,
    max_waiting: usize,
    adaptive: Option<Mutex<AdaptiveLimit>>,
    hold_times: Mutex<HoldTimes>,
    limit: Gauge,
    queued: Gauge,
    clients: Gauge,
    rejected: Counter,
    preempted: Counter,
}

/// What happens to a queued request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueueOutcome {
    /// The request has a permit.
    Granted,
    /// The request lost its slot in the queue to another client.
    Preempted,
}

/// A concurrency permit. It is released when dropped.
#[derive(Debug)]
pub struct Permit {
    client_key: ClientKey,
    acquired: Instant,
    /// Whether the request got a response, or is getting one.
    answered: bool,
    limiter: Arc<ConcurrencyLimiter>,
}

impl Permit {
    /// Marks the request as answered. Only then does its whole hold time count in the average.
    pub(super) const fn mark_answered(&mut self) {
        self.answered = true;
    }
}

/// Moving averages of how long permits are held. Empty until the first permit is released.
#[derive(Debug, Default)]
struct HoldTimes {
    shared: Option<Duration>,
    by_client: HashMap<ClientKey, ClientHoldTime>,
}

/// The average of one client.
#[derive(Clone, Copy, Debug)]
struct ClientHoldTime {
    mean: Duration,
    /// When a permit was released, or a request was queued to find out.
    updated: Instant,
}

impl HoldTimes {
    /// Records a hold time. A request that was cut short only raises the average.
    fn record(&mut self, client_key: ClientKey, had: Duration, served: bool, now: Instant) {
        let part = |whole: Duration| whole.checked_div(AVERAGE_WEIGHT).unwrap_or(whole);
        let next = |mean: Option<Duration>| match mean {
            Some(mean) if served || had > mean => {
                Some(mean.saturating_sub(part(mean)).saturating_add(part(had)))
            }
            None if served => Some(had),
            known => known,
        };
        self.shared = next(self.shared);
        let Some(mean) = next(self.by_client.get(&client_key).map(|own| own.mean)) else {
            return;
        };
        // Forgotten averages are learned again.
        if self.by_client.len() >= MAX_CLIENTS && !self.by_client.contains_key(&client_key) {
            self.by_client.clear();
        }
        self.by_client
            .insert(client_key, ClientHoldTime { mean, updated: now });
    }

    /// Whether a request with `ahead` permits before it would miss its deadline at the recent hold
    /// times.
    fn would_miss_deadline(
        &mut self,
        client_key: ClientKey,
        (before, limit): (usize, usize),
        left: Duration,
        now: Instant,
    ) -> bool {
        let (Some(all), Some(own)) = (self.shared, self.by_client.get_mut(&client_key)) else {
            return false;
        };
        let number = |number: usize| u128::try_from(number).unwrap_or(u128::MAX);
        let waits = all.as_nanos().saturating_mul(number(before));
        let waits = waits.div_euclid(number(limit).max(1));
        // Hold times vary.
        let waits = waits.saturating_add(waits.div_euclid(WAIT_MARGIN));
        let late = waits.saturating_add(own.mean.as_nanos()) > left.as_nanos();
        if late && now.saturating_duration_since(own.updated) >= PROBE_INTERVAL {
            own.updated = now;
            return false;
        }
        late
    }
}

impl ConcurrencyLimiter {
    pub(super) fn new(rule: &Backend, labels: &BackendLabels, metrics: &Metrics) -> Arc<Self> {
        let most = rule.max_in_flight();
        let adaptive_limit = |least| Mutex::new(AdaptiveLimit::new(least, most, Instant::now()));
        let limit = metrics.backend_limit.get_or_create(labels).clone();
        limit.set(gauge_value(most));
        Arc::new(Self {
            queue_state: Mutex::new(FairQueue::new(most, rule.queue())),
            max_waiting: rule.queue(),
            adaptive: rule.min_in_flight().map(adaptive_limit),
            hold_times: Mutex::default(),
            limit,
            queued: metrics.backend_queue.get_or_create(labels).clone(),
            clients: metrics.backend_queue_clients.get_or_create(labels).clone(),
            rejected: metrics.rejected.get_or_create(labels).clone(),
            preempted: metrics.preempted.get_or_create(labels).clone(),
        })
    }

    /// Acquires a permit for a client. The requests of one client are served in order.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        client_key: ClientKey,
        deadline: Instant,
    ) -> Result<Permit, Denial> {
        let now = Instant::now();
        let place = || Permit {
            client_key,
            acquired: Instant::now(),
            answered: false,
            limiter: Arc::clone(self),
        };
        let shed = |overload, cause| {
            self.rejected.inc();
            let denial = Denial::new(Reason::Overloaded, cause);
            Err(denial.overloaded_by(overload))
        };
        let (tell, told) = oneshot::channel();
        let mut gives_way = None;
        let waits = self.change(|fair| {
            if fair.try_acquire(client_key, now) {
                return Ok(None);
            }
            let left = deadline.saturating_duration_since(now);
            let before = fair.permits_ahead(client_key);
            let before_it = (before, fair.limit());
            if lock(&self.hold_times).would_miss_deadline(client_key, before_it, left, now) {
                return Err(format!(
                    "shed: with {} requests queued before it, it would not be answered in the remaining {} ms",
                    before.saturating_sub(1),
                    left.as_millis()
                ));
            }
            let Some(joined) = fair.enqueue(client_key, tell) else {
                return Err(format!(
                    "shed: the queue is full, {} requests wait for the backend, and no client has more of them",
                    self.max_waiting
                ));
            };
            gives_way = joined.preempted;
            Ok(Some(joined.waits))
        });
        if let Some(other) = gives_way {
            // The preempted request may have left in this moment.
            let _ = other.send(QueueOutcome::Preempted);
        }
        let waits = match waits {
            Ok(None) => return Ok(place()),
            Ok(Some(waits)) => waits,
            Err(cause) => return shed(OverloadCause::BackendQueue, cause),
        };
        let mut waiting = QueuedRequest {
            limiter: self,
            client_key,
            position: waits,
            outcome: told,
        };
        let _raised = GaugeGuard::new(&self.queued);
        match tokio::time::timeout_at(deadline, &mut waiting.outcome).await {
            Ok(Ok(QueueOutcome::Granted)) => Ok(place()),
            Ok(Ok(QueueOutcome::Preempted)) => {
                self.preempted.inc();
                let cause = format!(
                    "gave way: the queue is full, {} requests wait for the backend, and another client has fewer of them",
                    self.max_waiting
                );
                shed(OverloadCause::Preempted, cause)
            }
            Ok(Err(_)) => {
                let cause = "internal: the backend's permits are closed".to_owned();
                shed(OverloadCause::Internal, cause)
            }
            Err(_) => Err(Denial::new(
                Reason::BackendTimeout,
                "no slot at the backend became free within the deadline",
            )),
        }
    }

    /// Records that the backend answered a request.
    pub(super) fn on_response(&self) {
        if self.adaptive.is_some() {
            let in_use = lock(&self.queue_state).is_saturated();
            self.adjust(|adaptive_limit, now| adaptive_limit.on_response(in_use, now));
        }
    }

    /// Records that the backend timed out or was busy.
    pub(super) fn on_overload(&self) {
        self.adjust(AdaptiveLimit::on_overload);
    }

    fn adjust(&self, learn: impl Fn(&mut AdaptiveLimit, Instant)) {
        let Some(adaptive_limit) = &self.adaptive else {
            return;
        };
        let now = Instant::now();
        let mut adaptive_limit = lock(adaptive_limit);
        let before = adaptive_limit.limit();
        learn(&mut adaptive_limit, now);
        let after = adaptive_limit.limit();
        if after == before {
            return;
        }
        // Under the lock, so that the limit that is set last is also the one shown.
        let granted = self.change(|fair| fair.set_limit(after, now));
        self.limit.set(gauge_value(after));
        drop(adaptive_limit);
        self.notify(granted);
    }

    fn release(&self, client_key: ClientKey) {
        let granted = self.change(|fair| fair.release(client_key, Instant::now()));
        self.notify(granted);
    }

    /// Notifies the requests that were granted a permit. If a request has left meanwhile, its
    /// permit is released.
    fn notify(&self, mut granted: Vec<(ClientKey, oneshot::Sender<QueueOutcome>)>) {
        while let Some((client_key, tell)) = granted.pop() {
            if tell.send(QueueOutcome::Granted).is_err() {
                granted.extend(self.change(|fair| fair.release(client_key, Instant::now())));
            }
        }
    }

    fn change<R>(
        &self,
        change: impl FnOnce(&mut FairQueue<oneshot::Sender<QueueOutcome>>) -> R,
    ) -> R {
        let mut fair = lock(&self.queue_state);
        let before = gauge_value(fair.clients_waiting());
        let changed = change(&mut fair);
        let after = gauge_value(fair.clients_waiting());
        self.clients.inc_by(after.saturating_sub(before));
        changed
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gauge_value(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now = Instant::now();
        let had = now.saturating_duration_since(self.acquired);
        lock(&self.limiter.hold_times).record(self.client_key, had, self.answered, now);
        self.limiter.release(self.client_key);
    }
}

/// A request in the queue. Dropping it removes it from the queue, and releases a permit that was
/// granted in the meantime.
struct QueuedRequest<'a> {
    limiter: &'a ConcurrencyLimiter,
    client_key: ClientKey,
    position: Ticket,
    outcome: oneshot::Receiver<QueueOutcome>,
}

impl Drop for QueuedRequest<'_> {
    fn drop(&mut self) {
        self.outcome.close();
        match self.outcome.try_recv() {
            Ok(QueueOutcome::Granted) => self.limiter.release(self.client_key),
            Ok(QueueOutcome::Preempted) => {}
            Err(_) => self.limiter.change(|fair| fair.remove(self.position)),
        }
    }
}

#[cfg(test)]
mod tests;
