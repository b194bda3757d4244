//! Embedded backends: child processes that serve models. If one exits, only its own models become
//! unready, and it is restarted.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::child::Child;
use super::plan::Part;
use super::ready::{START_TIMEOUT, get_ready};

/// Delay before the first restart. It doubles with every further restart.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest delay. It is reset after a process has run for longer than this.
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// All embedded backends of a gate. Their processes end when this is dropped.
pub struct Backends {
    tasks: JoinSet<()>,
    /// Number of backends that became ready or ended at least once.
    settled: watch::Receiver<usize>,
    notes: mpsc::UnboundedReceiver<String>,
}

impl Backends {
    /// Starts all backends. Must be called on the main thread, see [`Child::start`].
    pub fn start(parts: &[Part]) -> Self {
        let (settle, settled) = watch::channel(0);
        let (note, notes) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for part in parts {
            tasks.spawn(keep(part.clone(), settle.clone(), note.clone()));
        }
        Self {
            tasks,
            settled,
            notes,
        }
    }

    /// Waits until each backend is ready or has ended, up to a timeout.
    pub async fn settle(&mut self) {
        let count = self.tasks.len();
        let settled = self.settled.wait_for(|settled| *settled >= count);
        let _ = timeout(START_TIMEOUT, settled).await;
    }

    /// Ends all backends.
    pub async fn end(mut self) {
        self.tasks.shutdown().await;
    }

    /// Forwards a note whenever a backend ends. Never returns.
    pub async fn follow(&mut self, note: &dyn Fn(&str)) -> Infallible {
        loop {
            match self.notes.recv().await {
                Some(text) => note(&text),
                None => std::future::pending().await,
            }
        }
    }
}

/// Runs one process and restarts it whenever it ends.
async fn keep(part: Part, settle: watch::Sender<usize>, notes: mpsc::UnboundedSender<String>) {
    let mut pause = FIRST_PAUSE;
    let mut first = true;
    let mut settled = || {
        let settled = usize::from(std::mem::take(&mut first));
        settle.send_modify(|count| *count = count.saturating_add(settled));
    };
    // The receiver is gone once the gate ends.
    let notify = |text: String| drop(notes.send(text));
    loop {
        let began = Instant::now();
        let why = match Child::start(&part.spec) {
            Ok(mut child) => {
                tokio::select! {
                    status = child.wait() => child.exit_report(&status),
                    ready = get_ready(&part.ready, |_| {}) => {
                        settled();
                        if let Err(why) = ready {
                            notify(format!("warning: {} is not ready: {why}", child.name()));
                        }
                        let status = child.wait().await;
                        child.exit_report(&status)
                    }
                }
            }
            Err(error) => format!("cannot start {}: {error}", part.spec.program.display()),
        };
        settled();
        if began.elapsed() > LAST_PAUSE {
            pause = FIRST_PAUSE;
        }
        notify(format!("warning: {why}\nit restarts in {pause:?}"));
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(LAST_PAUSE);
    }
}
