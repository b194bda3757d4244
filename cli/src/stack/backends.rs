//! Embedded backends: child processes that serve models. If one exits, only its own models become
//! unready, and it is restarted.

use std::convert::Infallible;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::child::{Child, not_started};
use super::plan::Part;
use super::process_event::ProcessEvent;
use super::ready::{START_TIMEOUT, get_ready};
use super::restarts::Backoff;

/// All embedded backends of a gate. Their processes end when this is dropped.
pub struct Backends {
    tasks: JoinSet<()>,
    /// Number of backends that became ready or ended at least once.
    settled: watch::Receiver<usize>,
    /// Without a bound, because the delays of restarts bound them.
    events: mpsc::UnboundedReceiver<ProcessEvent>,
}

impl Backends {
    /// Starts all backends. Must be called on the main thread, see [`Child::start`].
    pub fn start(parts: &[Part]) -> Self {
        let (settle, settled) = watch::channel(0);
        let (report, events) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for part in parts {
            tasks.spawn(keep(part.clone(), settle.clone(), report.clone()));
        }
        Self {
            tasks,
            settled,
            events,
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

    /// Reports whatever becomes of a backend. Never returns.
    pub async fn follow(&mut self, report: &dyn Fn(&ProcessEvent)) -> Infallible {
        loop {
            match self.events.recv().await {
                Some(event) => report(&event),
                None => std::future::pending().await,
            }
        }
    }
}

/// Runs one process and restarts it whenever it ends.
async fn keep(
    part: Part,
    settle: watch::Sender<usize>,
    events: mpsc::UnboundedSender<ProcessEvent>,
) {
    let mut backoff = Backoff::default();
    let mut first = true;
    let mut settled = || {
        let settled = usize::from(std::mem::take(&mut first));
        settle.send_modify(|count| *count = count.saturating_add(settled));
    };
    // The receiver is gone once the gate ends.
    let report = |event: ProcessEvent| drop(events.send(event));
    let name = || part.spec.name.clone();
    for number in 0_u32.. {
        let began = Instant::now();
        let end = match Child::start(&part.spec) {
            Ok(mut child) => {
                tokio::select! {
                    status = child.wait() => child.record_end(&status, number),
                    ready = get_ready(&part.ready, |_| {}) => {
                        settled();
                        match ready {
                            Ok(()) if number == 0 => {}
                            Ok(()) => report(ProcessEvent::Restarted(name(), began.elapsed())),
                            Err(why) => report(ProcessEvent::NotReady(name(), why)),
                        }
                        let status = child.wait().await;
                        child.record_end(&status, number)
                    }
                }
            }
            Err(error) => not_started(&part.spec, &error),
        };
        settled();
        let delay = backoff.delay(Instant::now());
        report(ProcessEvent::Ended(end, delay));
        sleep(delay).await;
    }
}
