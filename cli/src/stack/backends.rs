//! Embedded backends: processes of ours that serve models. One that ends makes its own models
//! unready and is started again; the gate and all other models go on.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::child::Child;
use super::plan::Part;
use super::run::{START_PATIENCE, get_ready};

/// Pause before the first start after an end. Each further one takes twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause. A process that ran for longer than this starts with the shortest one again.
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// All embedded backends of a gate. Their processes end with this.
pub struct Backends {
    tasks: JoinSet<()>,
    /// How many have taken connections or ended once.
    settled: watch::Receiver<usize>,
    notes: mpsc::UnboundedReceiver<String>,
}

impl Backends {
    /// Starts each. Must be called on the main thread: see [`Child::start`].
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

    /// Waits until each has taken connections or ended, or has had its time.
    pub async fn settle(&mut self) {
        let count = self.tasks.len();
        let settled = self.settled.wait_for(|settled| *settled >= count);
        let _ = timeout(START_PATIENCE, settled).await;
    }

    /// Ends all of them.
    pub async fn end(mut self) {
        self.tasks.shutdown().await;
    }

    /// Passes on a note whenever one ends, for ever.
    pub async fn follow(&mut self, note: &dyn Fn(&str)) -> Infallible {
        loop {
            match self.notes.recv().await {
                Some(text) => note(&text),
                None => std::future::pending().await,
            }
        }
    }
}

/// Starts one process whenever it does not run.
async fn keep(part: Part, settle: watch::Sender<usize>, notes: mpsc::UnboundedSender<String>) {
    let mut pause = FIRST_PAUSE;
    let mut first = true;
    let mut settled = || {
        let settled = usize::from(std::mem::take(&mut first));
        settle.send_modify(|count| *count = count.saturating_add(settled));
    };
    // The other end is gone once the gate ends.
    let tell = |text: String| drop(notes.send(text));
    loop {
        let began = Instant::now();
        let why = match Child::start(&part.spec) {
            Ok(mut child) => {
                tokio::select! {
                    status = child.wait() => child.obituary(&status),
                    ready = get_ready(&part.ready) => {
                        settled();
                        if let Err(why) = ready {
                            tell(format!("warning: {} is not ready: {why}", child.name()));
                        }
                        let status = child.wait().await;
                        child.obituary(&status)
                    }
                }
            }
            Err(error) => format!("cannot start {}: {error}", part.spec.program.display()),
        };
        settled();
        if began.elapsed() > LAST_PAUSE {
            pause = FIRST_PAUSE;
        }
        tell(format!("warning: {why}\nit is started again in {pause:?}"));
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(LAST_PAUSE);
    }
}
