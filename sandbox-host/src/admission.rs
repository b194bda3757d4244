//! Admission control: limits the number of requests that are being read and checked.
//!
//! An overloaded host that accepts everything finishes nothing in time. So excess requests are
//! rejected at their head, where a rejection costs least.
//!
//! The limit adapts (additive increase, multiplicative decrease, as in TCP). While a body that the
//! gate has buffered is read and checked within a fifth of a second, the limit grows by one now and
//! then. When one takes longer, the limit shrinks by a tenth. Time in handlers and backends does
//! not count: they have queues of their own, and a slow one must not block the others. One client
//! leaves some slots to other active clients (`Shares`).

pub(crate) mod memory_budget;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::files;
use crate::telemetry::metrics::Metrics;
use crate::turns::ClientKey;

/// The target time for reading and checking a buffered body. It needs about a millisecond of work,
/// so at this value it waited for many others. A client with a timeout of one second still gets its
/// response.
const TARGET_TIME: Duration = Duration::from_millis(200);
/// The initial limit.
pub const FIRST_LIMIT: usize = 256;
/// The minimum, so that a host that was slow once can find out that it no longer is.
const MIN_LIMIT: usize = 16;
/// The maximum: the streams of several connections of a gate.
const MAX_LIMIT: usize = 4_096;
/// A step is this fraction of the limit.
const STEP: usize = 10;
/// After this time without a change, a reduced limit grows by a step, up to the initial limit. A
/// past burst says nothing about the next one.
const RECOVERY_INTERVAL: Duration = Duration::from_secs(1);
/// The body size up to which the gate has buffered the whole body under any policy. A longer body
/// may arrive slowly or take long because of its size, which does not show that the host is slow.
pub const HELD_BYTES: usize = 256 << 10;

/// The admission control of a host.
#[derive(Debug)]
pub struct Admission {
    state: Mutex<State>,
    shown: Gauge,
}

#[derive(Debug)]
struct State {
    limit: usize,
    inside: Shares,
    /// Requests that met the target time at high utilisation since the last change of the limit.
    good: usize,
    /// When the limit last shrank. Requests from before say nothing about the smaller limit.
    shrank: Option<Instant>,
    /// When the limit last shrank, or last grew without load.
    stepped: Option<Instant>,
}

impl Admission {
    /// Creates an admission control with the initial limit.
    pub fn new(metrics: &Metrics) -> Arc<Self> {
        let state = State {
            limit: FIRST_LIMIT,
            inside: Shares::default(),
            good: 0,
            shrank: None,
            stepped: None,
        };
        let shown = metrics.admission_limit.clone();
        shown.set(i64::try_from(FIRST_LIMIT).unwrap_or(i64::MAX));
        Arc::new(Self {
            state: Mutex::new(state),
            shown,
        })
    }

    /// Admits a client's request. Returns `None` if the limit is reached.
    pub fn admit(self: &Arc<Self>, client_key: ClientKey, now: Instant) -> Option<AdmissionPermit> {
        let mut state = self.lock();
        if state.recover(now) {
            self.publish(&state);
        }
        let limit = state.limit;
        if !state.inside.acquire(client_key, (0, 1), limit, now) {
            return None;
        }
        Some(AdmissionPermit {
            admission: Arc::clone(self),
            client_key,
            since: now,
        })
    }

    /// The number of admitted requests.
    pub fn inside(&self) -> usize {
        self.lock().inside.used()
    }

    /// Called under the lock, so that the latest value is shown.
    fn publish(&self, state: &State) {
        self.shown
            .set(i64::try_from(state.limit).unwrap_or(i64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the limit grew.
    fn recover(&mut self, now: Instant) -> bool {
        let long_ago =
            |stepped: Instant| now.saturating_duration_since(stepped) >= RECOVERY_INTERVAL;
        let grows = self.limit < FIRST_LIMIT && self.stepped.is_some_and(long_ago);
        if grows {
            let more = self.limit.div_euclid(STEP).max(1);
            self.limit = self.limit.saturating_add(more).min(FIRST_LIMIT);
            self.stepped = Some(now);
        }
        grows
    }

    fn adapt(&mut self, since: Instant, now: Instant) {
        if now.saturating_duration_since(since) > TARGET_TIME {
            // One step for all requests that were admitted together.
            if self.shrank.is_none_or(|shrank| since >= shrank) {
                let fewer = self.limit.div_euclid(STEP).max(1);
                self.limit = self.limit.saturating_sub(fewer).max(MIN_LIMIT);
                self.shrank = Some(now);
                self.stepped = Some(now);
                self.good = 0;
            }
        } else if self.inside.used().saturating_mul(2) >= self.limit {
            self.good = self.good.saturating_add(1);
            if self.good >= self.limit {
                self.limit = self.limit.saturating_add(1).min(MAX_LIMIT);
                self.good = 0;
            }
        }
    }
}

/// An admitted request, until dropped.
#[derive(Debug)]
pub struct AdmissionPermit {
    admission: Arc<Admission>,
    client_key: ClientKey,
    since: Instant,
}

impl AdmissionPermit {
    /// The body was read and checked. The time that this took adapts the limit.
    pub fn finish(self, now: Instant) {
        let mut state = self.admission.lock();
        state.adapt(self.since, now);
        self.admission.publish(&state);
    }
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        state.inside.release(self.client_key, (1, 1));
    }
}

// The source files of the policy, as the process that renders them reports them. `tensorgate up`
// writes the report beside the bundle, and the host shows it at `/generations`. The host does not
// use it otherwise.

/// The name of the file, beside the bundle.
const FILE: &str = "sources.json";
/// The largest file in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// The longest reason in characters.
const MAX_WHY: usize = 4096;

/// The reported state of the policy's files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sources {
    /// The policy's file.
    pub policy: Option<PathBuf>,
    /// The version that host and filters have.
    pub in_force: Option<String>,
    /// Revocation lists whose entries are all in that version.
    pub lists: Vec<ListInForce>,
    /// Changes that are not active.
    pub held: Vec<SourceState>,
    /// Why revocations in the files are not active, if so.
    pub revocations_held: Option<String>,
}

/// An active revocation list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListInForce {
    /// The policy field that names it.
    pub field: String,
    /// Its file.
    pub file: PathBuf,
    /// The SHA-256 digest of its content, in hex.
    pub sha256: String,
}

/// A file with a change that is not active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    /// The file.
    pub file: PathBuf,
    /// The reason.
    pub why: String,
}

impl SourceState {
    /// Creates an entry for a file. A long reason is shortened.
    pub fn new(file: impl AsRef<Path>, why: &str) -> Self {
        Self {
            file: file.as_ref().to_owned(),
            why: why.chars().take(MAX_WHY).collect(),
        }
    }
}

impl Sources {
    /// The path of the report beside a bundle.
    pub fn beside(bundle: &Path) -> PathBuf {
        bundle.with_file_name(FILE)
    }

    /// Reads the report. A missing or invalid one counts as empty.
    pub fn read(file: &Path) -> Self {
        let text = files::open(file).and_then(|file| files::at_most(file, MAX_BYTES));
        let text = text.ok().flatten().unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }
}

// Fair sharing of a resource that is not queued for: memory, admission slots.
//
// No client may have more than a fixed part of it. Once others are active, no client may have more
// than a multiple of what is left either (dynamic thresholds, Choudhury and Hahne, as in switch
// buffers). A flooding client is stopped while there is room for others, and several flooding
// clients converge to equal shares.

/// A client counts as active for this time after a request.
const RECENT: Duration = Duration::from_secs(60);
/// A client may have this many times what is left: seven eighths at most.
const TIMES_LEFT: usize = 7;

/// The last active client and the last different one. These two suffice to tell whether other
/// clients are active.
#[derive(Debug, Default)]
pub(crate) struct RecentClients {
    last: Option<(ClientKey, Instant)>,
    other: Option<(ClientKey, Instant)>,
}

impl RecentClients {
    /// Records a request of a client.
    pub(crate) fn record(&mut self, client_key: ClientKey, now: Instant) {
        if let Some(last) = self.last.filter(|(last, _)| *last != client_key) {
            self.other = Some(last);
        }
        self.last = Some((client_key, now));
    }

    /// Whether other clients are active.
    pub(crate) fn has_others(&self, client_key: ClientKey, now: Instant) -> bool {
        let other = |asked: &Option<(ClientKey, Instant)>| {
            asked.is_some_and(|(who, when)| {
                who != client_key && now.saturating_duration_since(when) < RECENT
            })
        };
        other(&self.last) || other(&self.other)
    }
}

/// The share of each client. Clients without a share are not listed.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    used: usize,
    /// Divisor for the part of one client's requests together; `None`: all.
    client_divisor: Option<NonZeroUsize>,
    clients: HashMap<ClientKey, Share>,
    lately: RecentClients,
}

#[derive(Debug, Default)]
struct Share {
    has: usize,
    /// The number of requests that hold the share.
    requests: usize,
}

impl Shares {
    /// Shares of a resource of which one client's requests get a part, even if it is alone.
    pub(crate) fn with_client_divisor(divisor: NonZeroUsize) -> Self {
        Self {
            client_divisor: Some(divisor),
            ..Self::default()
        }
    }

    /// The total of all shares.
    pub(crate) const fn used(&self) -> usize {
        self.used
    }

    /// Gives `more` to a request of a client that has `had` so far. Returns `false` and changes
    /// nothing if there is not enough, or if the rest is left to others.
    pub(crate) fn acquire(
        &mut self,
        client_key: ClientKey,
        (had, more): (usize, usize),
        total: usize,
        now: Instant,
    ) -> bool {
        if had == 0 {
            self.lately.record(client_key, now);
        }
        let Some(used) = self.used.checked_add(more).filter(|used| *used <= total) else {
            return false;
        };
        let share = self.clients.get(&client_key);
        let has = share.map_or(0, |share| share.has).saturating_add(more);
        let before = share.map_or(0, |share| share.requests);
        // A client's only request is limited by the total alone, because the policy allows requests
        // of that size.
        let only = before <= usize::from(had > 0);
        let alone = || {
            let others = self.clients.len() > usize::from(before > 0);
            !others && !self.lately.has_others(client_key, now)
        };
        let left = total.saturating_sub(used);
        let crowds_others = || has > left.saturating_mul(TIMES_LEFT) && !alone();
        let per_client = self.client_divisor.map_or(total, |divisor| total / divisor);
        if !only && (has > per_client || crowds_others()) {
            return false;
        }
        self.used = used;
        if more > 0 {
            let share = self.clients.entry(client_key).or_default();
            share.has = has;
            share.requests = share.requests.saturating_add(usize::from(had == 0));
        }
        true
    }

    /// Takes `less` back from a request that has `had`.
    pub(crate) fn release(&mut self, client_key: ClientKey, (had, less): (usize, usize)) {
        self.used = self.used.saturating_sub(less);
        let Some(share) = self.clients.get_mut(&client_key) else {
            return;
        };
        share.has = share.has.saturating_sub(less);
        if less > 0 && less >= had {
            share.requests = share.requests.saturating_sub(1);
        }
        if share.requests == 0 {
            self.clients.remove(&client_key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
    use super::*;

    fn one() -> ClientKey {
        ClientKey::from_name(Some("one"))
    }

    /// Admits as many requests as possible, and finishes them after `took`. Returns their number.
    fn wave(admission: &Arc<Admission>, now: &mut Instant, took: Duration) -> usize {
        let inside: Vec<_> = std::iter::from_fn(|| admission.admit(one(), *now)).collect();
        let count = inside.len();
        *now += took;
        for entered in inside {
            entered.finish(*now);
        }
        count
    }

    #[test]
    fn the_door_closes_at_its_limit_and_opens_when_one_leaves() {
        let (admission, now) = (Admission::new(&Metrics::new()), Instant::now());
        let mut inside: Vec<_> = std::iter::from_fn(|| admission.admit(one(), now)).collect();
        assert_eq!(inside.len(), FIRST_LIMIT);
        assert!(admission.admit(one(), now).is_none());
        drop(inside.pop());
        assert!(admission.admit(one(), now).is_some(), "one has left");
    }

    #[test]
    fn one_client_that_fills_the_door_leaves_it_open_to_another() {
        let (admission, now) = (Admission::new(&Metrics::new()), Instant::now());
        let other = ClientKey::from_name(Some("other"));
        drop(admission.admit(other, now));
        let inside: Vec<_> = std::iter::from_fn(|| admission.admit(one(), now)).collect();
        assert_eq!(inside.len(), FIRST_LIMIT / 8 * 7);
        let others: Vec<_> = std::iter::from_fn(|| admission.admit(other, now)).collect();
        assert!(others.len() >= FIRST_LIMIT / 16, "{}", others.len());
        drop((inside, others));
        assert_eq!(admission.inside(), 0);
    }

    #[test]
    fn a_slow_wave_is_one_step_down_and_good_ones_lead_up_again() {
        let (admission, mut now) = (Admission::new(&Metrics::new()), Instant::now());
        let (slow, quick) = (TARGET_TIME * 2, TARGET_TIME / 2);
        assert_eq!(wave(&admission, &mut now, slow), 256);
        assert_eq!(wave(&admission, &mut now, slow), 231, "a tenth fewer, once");
        assert_eq!(wave(&admission, &mut now, quick), 208);
        for _ in 0..6 {
            wave(&admission, &mut now, quick);
        }
        assert!((209..=214).contains(&wave(&admission, &mut now, quick)));
        for _ in 0..100 {
            wave(&admission, &mut now, slow);
        }
        assert_eq!(wave(&admission, &mut now, slow), MIN_LIMIT);
    }

    #[test]
    fn a_door_that_is_hardly_used_learns_nothing_from_quick_ones() {
        let (admission, now) = (Admission::new(&Metrics::new()), Instant::now());
        for _ in 0..FIRST_LIMIT * 3 {
            admission.admit(one(), now).unwrap().finish(now);
        }
        assert_eq!(admission.lock().limit, FIRST_LIMIT);
    }

    #[test]
    fn a_limit_that_shrank_comes_back_with_time_alone() {
        let (admission, mut now) = (Admission::new(&Metrics::new()), Instant::now());
        for _ in 0..100 {
            wave(&admission, &mut now, TARGET_TIME * 2);
        }
        assert_eq!(admission.lock().limit, MIN_LIMIT);
        for _ in 0..60 {
            now += RECOVERY_INTERVAL;
            drop(admission.admit(one(), now));
        }
        assert_eq!(admission.lock().limit, FIRST_LIMIT, "and no further");
    }

    #[test]
    fn a_request_that_leaves_unjudged_teaches_nothing() {
        let (admission, now) = (Admission::new(&Metrics::new()), Instant::now());
        drop(admission.admit(one(), now));
        let state = admission.lock();
        assert_eq!((state.limit, state.inside.used()), (FIRST_LIMIT, 0));
    }
}

#[cfg(test)]
mod fair_share_tests {
    use super::*;

    fn clients() -> [ClientKey; 3] {
        ["a", "b", "c"].map(|name| ClientKey::from_name(Some(name)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_counts_as_active_for_a_minute() {
        let [a, b, c] = clients();
        let mut lately = RecentClients::default();
        let asked =
            |lately: &RecentClients| [a, b, c].map(|who| lately.has_others(who, Instant::now()));
        assert_eq!(asked(&lately), [false; 3]);
        lately.record(a, Instant::now());
        lately.record(a, Instant::now());
        assert_eq!(asked(&lately), [false, true, true]);
        tokio::time::advance(Duration::from_secs(40)).await;
        lately.record(b, Instant::now());
        lately.record(b, Instant::now());
        assert_eq!(asked(&lately), [true; 3]);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(asked(&lately), [true, false, true]);
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(asked(&lately), [false; 3]);
    }

    /// Gives a client requests of one unit each until it gets no more. Returns their number.
    fn fill(shares: &mut Shares, client_key: ClientKey, total: usize) -> usize {
        let mut got = 0_usize;
        while shares.acquire(client_key, (0, 1), total, Instant::now()) {
            got = got.saturating_add(1);
        }
        got
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_alone_has_all_and_who_is_not_leaves_something() {
        let [a, b, c] = clients();
        let mut shares = Shares::default();
        assert_eq!(fill(&mut shares, a, 80), 80);
        assert!(
            !shares.acquire(b, (0, 1), 80, Instant::now()),
            "nothing is left"
        );
        (0..80).for_each(|_| shares.release(a, (1, 1)));
        assert_eq!(fill(&mut shares, a, 80), 70, "another has asked");
        assert_eq!(fill(&mut shares, b, 80), 8);
        assert!(
            shares.acquire(c, (0, 2), 80, Instant::now()),
            "its only request"
        );
        assert!(!shares.acquire(c, (0, 1), 80, Instant::now()));
        shares.release(c, (2, 2));
        // Another flooding client converges to the same share.
        for _ in 0..1_000 {
            shares.release(a, (1, 1));
            fill(&mut shares, b, 80);
            fill(&mut shares, a, 80);
            shares.release(b, (1, 1));
            fill(&mut shares, a, 80);
            fill(&mut shares, b, 80);
        }
        let has = |who| shares.clients.get(&who).map_or(0, |share| share.has);
        assert!(has(a).abs_diff(has(b)) <= 8, "{} {}", has(a), has(b));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_back_is_forgotten_to_the_last() {
        let [a, b, _] = clients();
        let mut shares = Shares::default();
        assert!(shares.acquire(a, (0, 5), 10, Instant::now()));
        assert!(shares.acquire(b, (0, 1), 10, Instant::now()));
        assert!(
            shares.acquire(a, (5, 4), 10, Instant::now()),
            "its only one"
        );
        assert!(!shares.acquire(b, (1, 1), 10, Instant::now()));
        assert_eq!(shares.used(), 10);
        shares.release(a, (9, 3));
        shares.release(a, (6, 6));
        shares.release(b, (1, 0));
        assert_eq!((shares.used(), shares.clients.len()), (1, 1));
        shares.release(b, (1, 1));
        assert_eq!((shares.used(), shares.clients.len()), (0, 0));
    }
}
