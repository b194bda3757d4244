//! Timers of streams. Envoy has none for HTTP filters, so one thread of the process wakes streams
//! when their timers are due. It sleeps while there is none.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use crate::abi::Scheduler;
use crate::clock::monotonic_ns;
use crate::lock::lock;

/// What a stream or a configuration is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A wait may be over.
    Wait = 0,
    /// The stream's time is over.
    End = 1,
    /// Background work of the worker is due.
    Tick = 2,
}

impl Event {
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Wait),
            1 => Some(Self::End),
            2 => Some(Self::Tick),
            _ => None,
        }
    }
}

/// A stream or a configuration that can be woken until it ends.
pub struct Wakeable(Mutex<Option<Scheduler>>);

impl Wakeable {
    pub const fn new(scheduler: Scheduler) -> Self {
        Self(Mutex::new(Some(scheduler)))
    }

    /// It ends: it is not woken any more.
    pub fn end(&self) {
        drop(lock(&self.0).take());
    }

    /// Wakes it now.
    pub fn wake(&self, event: Event) {
        // The lock is held, so that the scheduler is not deleted meanwhile.
        if let Some(scheduler) = &*lock(&self.0) {
            scheduler.wake(event as u64);
        }
    }
}

/// When a timer is due, in ns of the monotonic clock, and its number.
pub type Due = (u64, u64);

/// What a timer wakes, and with which event.
type Timer = (Weak<Wakeable>, Event);

struct Timers {
    by_due: BTreeMap<Due, Timer>,
    last: u64,
    /// When the thread wakes next, in ns of the monotonic clock. It sleeps on if a timer is
    /// cancelled, so that most new timers need not wake it.
    wakes_ns: u64,
}

static TIMERS: Mutex<Timers> = Mutex::new(Timers {
    by_due: BTreeMap::new(),
    last: 0,
    wakes_ns: u64::MAX,
});
static CHANGED: Condvar = Condvar::new();

/// Starts the thread, once.
///
/// # Errors
/// The system starts none.
pub fn start() -> Result<(), String> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    let start = || {
        let thread = std::thread::Builder::new().name("tensorgate".to_owned());
        let started = thread.spawn(run).map(drop);
        started.map_err(|fault| format!("no thread for timers: {fault}"))
    };
    STARTED.get_or_init(start).clone()
}

/// Wakes a stream with this event at a time of the monotonic clock.
pub fn wake_at(due_ns: u64, stream: &Arc<Wakeable>, event: Event) -> Due {
    let mut timers = lock(&TIMERS);
    let must_wake = due_ns < timers.wakes_ns;
    timers.last = timers.last.wrapping_add(1);
    let due = (due_ns, timers.last);
    timers.by_due.insert(due, (Arc::downgrade(stream), event));
    drop(timers);
    if must_wake {
        CHANGED.notify_one();
    }
    due
}

/// Removes timers. Those of streams that have ended would stay until they are due.
pub fn cancel(timers: impl IntoIterator<Item = Due>) {
    let mut all = lock(&TIMERS);
    for due in timers {
        all.by_due.remove(&due);
    }
}

fn run() {
    let mut timers = lock(&TIMERS);
    loop {
        let now_ns = monotonic_ns();
        let first_ns = timers
            .by_due
            .first_key_value()
            .map(|((due_ns, _), _)| *due_ns);
        timers = match first_ns {
            Some(due_ns) if due_ns <= now_ns => {
                let due = timers.by_due.pop_first();
                timers.wakes_ns = 0;
                drop(timers);
                if let Some((_, (stream, event))) = due
                    && let Some(stream) = stream.upgrade()
                {
                    stream.wake(event);
                }
                lock(&TIMERS)
            }
            Some(due_ns) => {
                timers.wakes_ns = due_ns;
                let wait = Duration::from_nanos(due_ns.saturating_sub(now_ns));
                let woken = CHANGED.wait_timeout(timers, wait);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                timers.wakes_ns = u64::MAX;
                CHANGED.wait(timers).unwrap_or_else(PoisonError::into_inner)
            }
        };
    }
}
