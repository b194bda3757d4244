//! What this host counts for requests: local limits and concurrency permits in its memory, shared
//! limits in Redis or at another server. Usage of windows longer than a minute is kept in a file
//! beside the audit log.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tensorgate_audit::sealed_file;
use tensorgate_base::unix_time::{now_unix_ms, now_unix_s};
use tensorgate_judge::request::{Counted, Counters};
use tensorgate_limits::saved_limits::{self, MAX_FILE_BYTES};
use tensorgate_limits::{
    InFlight, InFlightPermits, LocalLimits, LocalReservation, Reservations, SavedLimit,
    SharedCharges, SharedLimits, Spent,
};
use tensorgate_policy::decision::{Acquire, AcquireOutcome};
use tensorgate_policy::{Charge, ChargeOutcome, Now, Policy};
use tensorgate_telemetry::metrics::Metrics;

/// The name of the file.
const FILE: &str = "limits-spent.bin";
/// The beginning of the file. The number is that of its form.
const FORM: &[u8] = b"tensorgate-limits 1\n";
/// The shortest and the longest pause after a save of changed usage. A host that crashes forgets
/// this much.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// Between them, the pause is so many times as long as the save. 262,144 states take a third of a
/// second.
const PAUSE_RATIO: u32 = 20;

/// The counters of this host.
pub struct HostCounters {
    started: Instant,
    limits: Arc<LocalLimits>,
    in_flight: Arc<InFlight>,
    shared: SharedCharges,
    file: PathBuf,
    /// Held while the file is written, so that an older state never follows a newer one.
    saving: Mutex<()>,
}

/// What one request is charged. It counts under the policy that judges the request.
pub struct RequestCounters {
    host: Arc<HostCounters>,
    reserved: Mutex<TokenReservations>,
    permits: Mutex<Vec<InFlightPermits>>,
}

/// What a judged request has of its limits until it ends.
#[derive(Debug)]
pub struct RequestUsage {
    /// Reserved tokens, if there are any.
    pub refund: Option<TokenRefund>,
    /// Concurrency permits.
    pub permits: Vec<InFlightPermits>,
}

/// Reserved tokens of one request.
#[derive(Debug, Default)]
struct TokenReservations {
    local: Vec<LocalReservation>,
    shared: Vec<Reservations>,
}

/// Gives unused tokens back once a request has reported how many it used. Dropped without a report,
/// it gives nothing back.
pub struct TokenRefund {
    host: Arc<HostCounters>,
    reserved: TokenReservations,
}

/// Whether no host has run before: there is no audit log, or an empty one. It is called before the
/// log is opened.
pub fn is_first_start(log: &Path) -> bool {
    match std::fs::metadata(log) {
        Ok(log) => log.len() == 0,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

impl HostCounters {
    /// Starts with what the file beside an audit log says. It is called while this process has the
    /// log's lock, so that an older process writes no more.
    pub fn start(log: &Path, is_first: bool, metrics: &Arc<Metrics>) -> Self {
        let file = log.with_file_name(FILE);
        let started = Instant::now();
        let (spent, saved) = match read(&file) {
            Ok(Some(saved)) => (Spent::Known, Some(saved)),
            Ok(None) if is_first => (Spent::Known, None),
            missing => {
                let cause = missing.err().unwrap_or_else(|| "it is missing".to_owned());
                let path = file.display();
                tracing::error!(
                    "{path}: {cause}: limits with windows over a minute begin half spent"
                );
                (Spent::Half, None)
            }
        };
        let now = now(started);
        let limits = Arc::new(LocalLimits::new(spent, now));
        if let Some((at_unix_ms, saved)) = saved {
            // A clock that went back gives nothing back.
            let ago_ns = now_unix_ms()
                .saturating_sub(at_unix_ms)
                .saturating_mul(1_000_000);
            let invalid = limits.restore(saved, ago_ns, now);
            if invalid > 0 {
                let path = file.display();
                tracing::error!(invalid, "states of limits in {path} are invalid");
            }
        }
        // The file exists from now on, although nothing is spent yet.
        limits.not_saved();
        let clock = Box::new(move || self::now(started));
        let shared = SharedCharges::new(Arc::clone(&limits), Arc::clone(metrics), clock);
        Self {
            started,
            limits,
            in_flight: Arc::default(),
            shared,
            file,
            saving: Mutex::default(),
        }
    }

    /// The counters for one request.
    pub fn for_request(self: &Arc<Self>) -> Arc<RequestCounters> {
        Arc::new(RequestCounters {
            host: Arc::clone(self),
            reserved: Mutex::default(),
            permits: Mutex::default(),
        })
    }

    /// Saves changed usage. It blocks on a file.
    ///
    /// # Errors
    /// Returns why the file cannot be written. The next call tries again.
    pub fn save(&self) -> io::Result<()> {
        let _saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.limits.take_changed() {
            return Ok(());
        }
        let mut left_out = 0;
        let written = sealed_file::replace(&self.file, FORM, |content| {
            let now = now(self.started);
            left_out = self.limits.append_saved(now, now_unix_ms(), content);
        });
        if left_out > 0 {
            let path = self.file.display();
            tracing::error!(left_out, "{path} has no room for all states of limits");
        }
        if written.is_err() {
            self.limits.not_saved();
            // An older state would give back what was spent since. Without the file, half is spent.
            drop(std::fs::remove_file(&self.file));
        }
        written
    }
}

/// Saves changed usage every second, until it is aborted. With very many users a save takes longer,
/// and the pauses too.
pub async fn save_regularly(counters: Arc<HostCounters>) {
    let mut was_saved = true;
    loop {
        let started = Instant::now();
        was_saved = save(&counters, was_saved).await;
        let pause = started.elapsed().saturating_mul(PAUSE_RATIO);
        tokio::time::sleep(pause.clamp(MIN_PAUSE, MAX_PAUSE)).await;
    }
}

/// Saves changed usage at the end.
pub async fn save_last(counters: Arc<HostCounters>) {
    save(&counters, true).await;
}

/// Logs the first of several failures.
async fn save(counters: &Arc<HostCounters>, was_saved: bool) -> bool {
    let saving = Arc::clone(counters);
    let saved = tokio::task::spawn_blocking(move || saving.save()).await;
    let saved = saved.unwrap_or_else(|panic| {
        counters.limits.not_saved();
        Err(io::Error::other(panic))
    });
    if let Err(cause) = &saved
        && was_saved
    {
        let (path, cause) = (counters.file.display(), cause.to_string());
        tracing::error!(cause, "{path} cannot be written: a restart forgets usage");
    }
    saved.is_ok()
}

impl RequestCounters {
    /// Makes a charge of limits that hosts share. `limits` are those of the policy in its Redis.
    pub async fn charge_shared(
        &self,
        policy: &Policy,
        limits: Option<&Arc<SharedLimits>>,
        charge: &Charge,
        request_id: &str,
    ) -> ChargeOutcome {
        let Some(service) = policy.rate_limit_service() else {
            return ChargeOutcome::Failed;
        };
        let shared = &self.host.shared;
        let (outcome, reserved) = shared.charge(limits, service, charge, request_id).await;
        if !reserved.is_empty() {
            self.with_reserved(|held| held.shared.push(reserved));
        }
        outcome
    }

    /// Hands over what was reserved and acquired.
    pub fn take_usage(&self) -> RequestUsage {
        let reserved = self.with_reserved(std::mem::take);
        let has_tokens = !reserved.local.is_empty() || !reserved.shared.is_empty();
        RequestUsage {
            refund: has_tokens.then(|| TokenRefund {
                host: Arc::clone(&self.host),
                reserved,
            }),
            permits: std::mem::take(&mut *self.permits()),
        }
    }

    fn permits(&self) -> MutexGuard<'_, Vec<InFlightPermits>> {
        self.permits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_reserved<T>(&self, change: impl FnOnce(&mut TokenReservations) -> T) -> T {
        change(&mut self.reserved.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Counters for RequestCounters {
    fn charge(&self, charge: &Charge) -> Counted {
        if !charge.scope.is_local() {
            return Counted::Awaited;
        }
        let host = &self.host;
        let (outcome, reserved) = host.limits.charge(charge, now(host.started));
        self.with_reserved(|held| held.local.extend(reserved));
        Counted::Done(outcome)
    }

    fn acquire(&self, acquire: &Acquire) -> AcquireOutcome {
        match self.host.in_flight.acquire(acquire) {
            Ok(permits) => {
                self.permits().push(permits);
                AcquireOutcome::Acquired
            }
            Err(refused) => refused,
        }
    }
}

impl TokenRefund {
    /// Gives back what was not used, or charges what was used beyond the reservation. Redis is not
    /// awaited.
    pub fn used(self, tokens: u64) {
        let Self { host, reserved } = self;
        let TokenReservations { local, shared } = reserved;
        host.limits.settle(local, tokens, now(host.started));
        if !shared.is_empty() {
            tokio::spawn(async move {
                for reserved in shared {
                    host.shared.settle(reserved, tokens).await;
                }
            });
        }
    }
}

impl fmt::Debug for HostCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostCounters").finish_non_exhaustive()
    }
}

impl fmt::Debug for TokenRefund {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRefund").finish_non_exhaustive()
    }
}

/// Both clocks. The monotonic one begins with this process, at one second, because zero stands for
/// a limit that was never used.
fn now(started: Instant) -> Now {
    let elapsed = started.elapsed().saturating_add(Duration::from_secs(1));
    Now {
        unix_s: now_unix_s(),
        monotonic_ns: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
    }
}

fn read(file: &Path) -> Result<Option<(u64, Vec<SavedLimit>)>, String> {
    let Some(bytes) = sealed_file::read(file, FORM, MAX_FILE_BYTES)? else {
        return Ok(None);
    };
    let saved = saved_limits::decode(&bytes).ok_or("it is damaged")?;
    Ok(Some(saved))
}
