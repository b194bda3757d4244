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
use tensorgate_policy::policy::Backend;
use tensorgate_policy::{Denial, Reason};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::admission::RecentClients;
use crate::telemetry::metrics::{BackendLabels, GaugeGuard, Metrics};
use crate::turns::{ClientKey, Enqueued, Ticket, Turns};

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
        let shed = |cause| {
            self.rejected.inc();
            Err(Denial::new(Reason::Overloaded, cause))
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
                    "with {} requests queued before it, it would not be answered in the remaining {} ms",
                    before.saturating_sub(1),
                    left.as_millis()
                ));
            }
            let Some(joined) = fair.enqueue(client_key, tell) else {
                return Err(format!(
                    "the queue is full: {} requests wait for the backend, and no client has more of them",
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
            Err(cause) => return shed(cause),
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
                shed(format!(
                    "preempted: {} requests wait for the backend, and another client has fewer",
                    self.max_waiting
                ))
            }
            Ok(Err(_)) => shed("the backend's permits are closed".to_owned()),
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

// Fair queue for the permits of a backend (max-min fairness). It is a plain table without clock,
// lock or task.
//
// A released permit goes to the client that [`Turns`] names next. So one client's slow requests
// delay another client by at most one of them. A client that is alone may use every permit. While
// other clients are active, one eighth of the permits (if there are eight or more) is reserved for
// clients with fewer permits than that. Requests that hang then cannot block everyone.

/// The reserved part of the permits is one in this many.
const RESERVED_FRACTION: usize = 8;

/// The permits, their holders, and the queue. `T` notifies a queued request. The table is bounded
/// by the number of permits plus the queue length.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    limit: usize,
    max_waiting: usize,
    turns: Turns<T>,
    recent_clients: RecentClients,
}

/// A client that was granted a permit, and how to notify its request.
pub(super) type GrantedPermit<T> = (ClientKey, T);

impl<T> FairQueue<T> {
    /// Creates a queue with `limit` permits and at most `queue` waiting requests.
    pub(super) fn new(limit: usize, queue: usize) -> Self {
        Self {
            limit,
            max_waiting: queue,
            turns: Turns::default(),
            recent_clients: RecentClients::default(),
        }
    }

    /// The number of permits.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Whether all permits are in use or requests are waiting.
    pub(super) const fn is_saturated(&self) -> bool {
        self.turns.taken() >= self.limit || self.turns.waiting() > 0
    }

    /// The number of clients with waiting requests.
    pub(super) fn clients_waiting(&self) -> usize {
        self.turns.clients_waiting()
    }

    /// Acquires a permit at once, if no other client comes first.
    pub(super) fn try_acquire(&mut self, client_key: ClientKey, now: Instant) -> bool {
        self.recent_clients.record(client_key, now);
        let (taken, _) = self.turns.usage(client_key);
        let first = self.turns.next();
        let takes =
            self.admits(client_key, taken, now) && first.is_none_or(|(least, _)| least > taken);
        if takes {
            self.turns.acquire(client_key);
        }
        takes
    }

    /// The number of permits to be released before a new request of this client gets one, its own
    /// included, at the current shares.
    pub(super) fn permits_ahead(&self, client_key: ClientKey) -> usize {
        let (taken, waits) = self.turns.usage(client_key);
        let place = waits.saturating_add(1);
        let others = self.turns.clients_waiting();
        let others = others.saturating_sub(usize::from(waits > 0));
        let clients = others.saturating_add(1);
        // Up to its fair share, a client goes before clients that have theirs. Beyond it, clients
        // take turns.
        let share = self.limit.checked_div(clients).unwrap_or(self.limit);
        let beyond = place.saturating_sub(share.saturating_sub(taken));
        place
            .saturating_add(others.saturating_mul(beyond))
            .min(self.turns.waiting().saturating_add(1))
    }

    /// Adds a request to the queue, possibly preempting another. Returns `None` if the queue is
    /// full and no client has more requests.
    pub(super) fn enqueue(&mut self, client_key: ClientKey, tell: T) -> Option<Enqueued<T>> {
        self.turns.enqueue(client_key, self.max_waiting, tell).ok()
    }

    /// Removes a request from the queue.
    pub(super) fn remove(&mut self, waits: Ticket) {
        self.turns.remove(waits);
    }

    /// Releases a permit. Returns the requests that were granted one.
    pub(super) fn release(&mut self, client_key: ClientKey, now: Instant) -> Vec<GrantedPermit<T>> {
        self.turns.release(client_key);
        self.grant(now)
    }

    /// Sets the number of permits. Excess permits are removed as they are released. Returns the
    /// requests that were granted one.
    pub(super) fn set_limit(&mut self, limit: usize, now: Instant) -> Vec<GrantedPermit<T>> {
        self.limit = limit;
        self.grant(now)
    }

    fn grant(&mut self, now: Instant) -> Vec<GrantedPermit<T>> {
        let mut granted = Vec::new();
        while let Some((taken, client_key)) = self.turns.next() {
            if !self.admits(client_key, taken, now) {
                break;
            }
            granted.extend(self.turns.grant_next());
        }
        granted
    }

    /// Whether a client with this many permits may have one more.
    fn admits(&self, client_key: ClientKey, taken: usize, now: Instant) -> bool {
        let Some(free) = self
            .limit
            .checked_sub(self.turns.taken())
            .filter(|free| *free > 0)
        else {
            return false;
        };
        // With few permits none is reserved, because one would be too large a part.
        let kept = self.limit.div_euclid(RESERVED_FRACTION);
        if free > kept || taken < kept {
            return true;
        }
        let here = usize::from(self.turns.contains(client_key));
        self.turns.clients() <= here && !self.recent_clients.has_others(client_key, now)
    }
}

// Adaptive concurrency limit for a backend.
//
// Throughput rises with the number of requests in flight up to some point. Beyond it, more
// requests only add latency. The limit finds this point by trial: a step up is kept while
// throughput rises, a step down while throughput does not fall.
//
// Latency is not used as a signal, because batching servers trade it for throughput.

/// A step is this fraction of the limit.
const STEP_FRACTION: usize = 5;
/// A step up pays if throughput grows by at least this fraction of the relative growth of the
/// limit.
const MIN_GAIN_FRACTION: u128 = 4;
/// Responses per window for each permitted request. Fewer say little.
const RESPONSES_PER_SLOT: usize = 4;
/// The minimum number of responses per window.
const MIN_RESPONSES: usize = 64;
/// The minimum length of a window.
const MIN_WINDOW: Duration = Duration::from_millis(200);
/// The largest fraction of a window's responses that may arrive while the limit was not reached. A
/// limit that is not used cannot be measured.
const MAX_UNUSED_FRACTION: usize = 10;
/// Windows between two trials in the other direction when the limit is at its minimum or maximum.
const TRIAL_INTERVAL: u32 = 8;

/// The limit of one backend, with the measurements behind it.
#[derive(Debug)]
pub(super) struct AdaptiveLimit {
    min: usize,
    max: usize,
    limit: usize,
    window: Window,
    /// The result of the previous window.
    previous: Option<Measurement>,
    /// Windows since the limit reached its minimum or maximum.
    windows_at_bound: u32,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    responses: usize,
    unsaturated: usize,
}

#[derive(Clone, Copy, Debug)]
struct Measurement {
    limit: usize,
    /// Responses in a thousand seconds.
    rate: u128,
}

/// The direction of the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

impl Window {
    const fn new(now: Instant) -> Self {
        Self {
            since: now,
            responses: 0,
            unsaturated: 0,
        }
    }
}

impl AdaptiveLimit {
    /// Creates a limit that starts at the policy's maximum.
    pub(super) fn new(least: usize, most: usize, now: Instant) -> Self {
        let most = most.max(1);
        Self {
            min: least.clamp(1, most),
            max: most,
            limit: most,
            window: Window::new(now),
            previous: None,
            windows_at_bound: 0,
        }
    }

    /// The current limit.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Records a response. `saturated` says whether the limit was reached.
    pub(super) fn on_response(&mut self, saturated: bool, now: Instant) {
        let look = &mut self.window;
        look.responses = look.responses.saturating_add(1);
        look.unsaturated = look.unsaturated.saturating_add(usize::from(!saturated));
        let enough = self
            .limit
            .saturating_mul(RESPONSES_PER_SLOT)
            .max(MIN_RESPONSES);
        let took = now.saturating_duration_since(look.since);
        if look.responses < enough || took < MIN_WINDOW {
            return;
        }
        let found = Measurement {
            limit: self.limit,
            rate: rate(look.responses, took),
        };
        let unused = look.unsaturated.saturating_mul(MAX_UNUSED_FRACTION) > look.responses;
        self.window = Window::new(now);
        if unused {
            self.previous = None;
            return;
        }
        let way = self
            .previous
            .map_or(Direction::Down, |before| next_direction(before, found));
        self.previous = Some(found);
        self.step_to(way);
    }

    /// Records that the backend was overloaded: a request timed out, or the backend was busy.
    pub(super) fn on_overload(&mut self, now: Instant) {
        // Requests that were in flight together count as one overload.
        let since = now.saturating_duration_since(self.window.since);
        if self.previous.is_none() && since < MIN_WINDOW {
            return;
        }
        self.window = Window::new(now);
        self.previous = None;
        self.limit = self.limit.saturating_sub(self.step()).max(self.min);
    }

    fn step(&self) -> usize {
        self.limit.div_euclid(STEP_FRACTION).max(1)
    }

    fn step_to(&mut self, way: Direction) {
        let step = self.step();
        let to = match way {
            Direction::Up => self.limit.saturating_add(step).min(self.max),
            Direction::Down => self.limit.saturating_sub(step).max(self.min),
        };
        if to != self.limit {
            self.limit = to;
            self.windows_at_bound = 0;
            return;
        }
        // At the minimum or maximum, the other direction is tried now and then.
        self.windows_at_bound = self.windows_at_bound.saturating_add(1);
        if self.windows_at_bound >= TRIAL_INTERVAL {
            self.windows_at_bound = 0;
            self.limit = match way {
                Direction::Up => self.limit.saturating_sub(step).max(self.min),
                Direction::Down => self.limit.saturating_add(step).min(self.max),
            };
        }
    }
}

fn rate(answers: usize, took: Duration) -> u128 {
    let answers = u128::try_from(answers).unwrap_or(u128::MAX);
    let nanos = took.as_nanos().max(1);
    answers
        .saturating_mul(1_000_000_000_000)
        .checked_div(nanos)
        .unwrap_or(0)
}

/// The direction of the next step after two windows.
fn next_direction(before: Measurement, now: Measurement) -> Direction {
    let (small, large) = if before.limit < now.limit {
        (before, now)
    } else {
        (now, before)
    };
    // Compares (large.rate - small.rate) / small.rate with (large.limit - small.limit) /
    // small.limit.
    let size = |limit: usize| u128::try_from(limit).unwrap_or(u128::MAX);
    let gained = large
        .rate
        .saturating_sub(small.rate)
        .saturating_mul(size(small.limit))
        .saturating_mul(MIN_GAIN_FRACTION);
    let grown = size(large.limit)
        .saturating_sub(size(small.limit))
        .saturating_mul(small.rate);
    if gained >= grown && large.rate > small.rate {
        Direction::Up
    } else {
        Direction::Down
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod fair_queue_tests;

#[cfg(test)]
mod adaptive_concurrency_tests {
    use super::*;

    /// Feeds the responses of a server with throughput `rate(n)` at `n` requests in flight, for
    /// this many windows. Returns the limits that were tried.
    fn run(
        adaptive_limit: &mut AdaptiveLimit,
        looks: usize,
        rate: impl Fn(usize) -> f64,
    ) -> Vec<usize> {
        let mut now = adaptive_limit.window.since;
        let mut limits = Vec::new();
        for _ in 0..looks {
            let limit = adaptive_limit.limit();
            limits.push(limit);
            let pace = Duration::from_secs_f64(1.0 / rate(limit));
            let since = adaptive_limit.window.since;
            while adaptive_limit.window.since == since {
                now = now.checked_add(pace).unwrap_or(now);
                adaptive_limit.on_response(true, now);
            }
        }
        limits
    }

    fn as_f64(number: usize) -> f64 {
        u32::try_from(number).map_or(f64::MAX, f64::from)
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_of_so_many_workers_gets_about_as_many_and_loses_nothing() {
        for workers in [4, 16, 40] {
            let mut adaptive_limit = AdaptiveLimit::new(1, 256, Instant::now());
            // Each request takes 20 ms. Requests beyond the workers wait at the server.
            let rate = |there: usize| 50.0 * as_f64(there.min(workers));
            run(&mut adaptive_limit, 40, rate);
            let limits = run(&mut adaptive_limit, 40, rate);
            let mean = limits.iter().sum::<usize>().checked_div(limits.len());
            let mean = mean.unwrap_or(0);
            assert!(
                (workers.saturating_mul(7).div_euclid(10)
                    ..=workers.saturating_mul(14).div_ceil(10))
                    .contains(&mean),
                "{workers} workers: {limits:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_works_in_batches_keeps_what_makes_them_worth_it() {
        // A batch takes 20 ms plus 1 ms for each request, so throughput rises with each request,
        // less and less.
        let rate = |there: usize| as_f64(there) / (0.020 + 0.001 * as_f64(there));
        let mut adaptive_limit = AdaptiveLimit::new(1, 256, Instant::now());
        run(&mut adaptive_limit, 40, rate);
        let limits = run(&mut adaptive_limit, 40, rate);
        let mean = limits.iter().sum::<usize>().checked_div(limits.len());
        // At sixty requests, 1 % more requests bring a quarter of 1 % more throughput.
        assert!(
            mean.is_some_and(|mean| (40..=85).contains(&mean)),
            "{limits:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_knee_that_moves_is_found_again() {
        let mut adaptive_limit = AdaptiveLimit::new(1, 64, Instant::now());
        run(&mut adaptive_limit, 40, |there| 50.0 * as_f64(there.min(4)));
        assert!(adaptive_limit.limit() < 8, "{}", adaptive_limit.limit());
        let limits = run(&mut adaptive_limit, 60, |there| {
            50.0 * as_f64(there.min(48))
        });
        assert!(limits.iter().any(|limit| *limit >= 40), "{limits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_in_use_says_nothing_and_overload_is_one_step_at_a_time() {
        let start = Instant::now();
        let at = |ms: u64| {
            start
                .checked_add(Duration::from_millis(ms))
                .unwrap_or(start)
        };
        let mut adaptive_limit = AdaptiveLimit::new(1, 100, start);
        for ms in 0..10_000 {
            adaptive_limit.on_response(ms % 5 == 0, at(ms));
        }
        assert_eq!(adaptive_limit.limit(), 100);
        (0..50).for_each(|_| adaptive_limit.on_overload(at(20_000)));
        assert_eq!(adaptive_limit.limit(), 80);
        adaptive_limit.on_overload(at(20_300));
        assert_eq!(adaptive_limit.limit(), 64);
        (0..100).for_each(|second| adaptive_limit.on_overload(at(21_000 + second * 1_000)));
        assert_eq!(adaptive_limit.limit(), 1);
    }
}
