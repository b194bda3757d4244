//! Starting, watching, stopping. Whatever happens in between, [`run`] ends with every process ended.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use tensorgate_host::audit::als::service::FLUSH_MS;

use super::certificates::{Certificates, News, What};
use super::child::Child;
use super::plan::{Plan, Ready};
use super::reload::{Processes, ReloadError, Reloaded};
use super::terminal::Terminal;
use super::watch::{Change, Watch};
use super::{envoy, probe};
use crate::Failure;
use crate::load::{LoadError, Loaded};

/// Time for one process to get ready. The host compiles its handlers, Envoy the filter; on a busy machine that takes a while.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at whether a process is ready or a request still under way.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Time for requests under way to end before Envoy is told to.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// Time for the last entries of Envoy's access log to leave it: two of its intervals.
const LAST_ENTRIES: Duration = Duration::from_millis(2 * FLUSH_MS);
/// Signals this close together ask once.
const SAME_WISH: Duration = Duration::from_millis(500);
/// Time for a process to end by itself. The host drains for at most 10 s.
const STOP_PATIENCE: Duration = Duration::from_secs(12);

/// The one who started it: is told things, and has the policy.
pub trait Front {
    /// The gate answers.
    fn ready(&mut self, address: SocketAddr);
    /// The policy as it stands in its files now.
    fn load(&self) -> Result<Loaded, LoadError>;
    /// The files that a change of this policy would be in.
    fn files(&self, loaded: &Loaded) -> Vec<PathBuf>;
    /// What was read has faults, and changes nothing.
    fn faulty(&mut self, error: LoadError);
    /// This is about to be put in force.
    fn loaded(&mut self, loaded: &Loaded);
    /// Files that were rewritten in place, and are not taken in for that. `held`: nor is another that was replaced meanwhile.
    fn rewritten(&mut self, files: &[PathBuf], held: bool);
    /// What became of the listener's certificates, whose files changed.
    fn certificates(&mut self, news: &News);
    /// What became of another policy.
    fn reloaded(&mut self, outcome: Result<Reloaded, ReloadError>, serving: &str);
}

/// Starts a plan, says once that it is ready, and holds it up until a signal or the end of one of its
/// processes. `Ok` is a stop that was asked for. `watch` is over the files of the policy that the plan was made of, and has been since
/// before they were read.
pub async fn run(plan: &mut Plan, watch: Watch, front: &mut impl Front) -> Result<(), Failure> {
    let mut certificates = plan.certificates.take();
    let plan = &*plan;
    let mut stop = Stop::new()?;
    let mut children = Vec::new();
    let outcome = tokio::select! {
        failure = hold(plan, &mut children, (watch, &mut certificates), front, stop.terminal) => Err(failure),
        () = stop.asked() => Ok(()),
    };
    tokio::select! {
        () = wind_down(plan, &mut children) => {}
        // Asked twice: at once.
        () = stop.asked_again() => {}
    }
    for child in &mut children {
        child.kill().await;
    }
    outcome
}

/// The signals that ask for an end. SIGHUP is one where it says that the terminal has closed.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    terminal: Terminal,
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::Failed(format!("cannot listen for signals: {error}")))
}

impl Stop {
    fn new() -> Result<Self, Failure> {
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            terminal: Terminal::at_start(),
        })
    }

    async fn asked(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => if self.terminal.is_gone() { return },
            }
        }
    }

    /// Asked again. What comes right after the first is the same wish: a terminal tells the whole process group, and `make`
    /// passes on what it got.
    async fn asked_again(&mut self) {
        let echo = Instant::now();
        loop {
            self.asked().await;
            if echo.elapsed() > SAME_WISH {
                return;
            }
        }
    }
}

/// Starts everything in order, then follows the policy until an end that nobody asked for.
async fn hold(
    plan: &Plan,
    children: &mut Vec<Child>,
    (watch, certificates): (Watch, &mut Option<Certificates>),
    front: &mut impl Front,
    terminal: Terminal,
) -> Failure {
    for part in &plan.parts {
        match Child::start(&part.spec) {
            Ok(child) => children.push(child),
            Err(error) => {
                return Failure::Failed(format!(
                    "cannot start {}: {error}",
                    part.spec.program.display()
                ));
            }
        }
        tokio::select! {
            late = get_ready(&part.ready) => {
                if let (Err(why), Some(child)) = (late, children.last()) {
                    return Failure::Failed(format!("{} was not ready within {START_PATIENCE:?}: {why}; {}", child.name(), child.log_tail()));
                }
            }
            obituary = first_death(children) => return Failure::Failed(obituary),
        }
    }
    let address = envoy::gate_address(&plan.envoy_admin).await;
    // It listens before it has certificates, and without.
    if let (Some(_), Some(certificates)) = (address, &*certificates)
        && let Err(why) = certificates.taken(&plan.envoy_admin).await
    {
        let log = children.last().map_or_else(String::new, Child::log_tail);
        return Failure::Failed(format!("{why}; {log}"));
    }
    match address {
        Some(address) => front.ready(address),
        // It runs without a listener that it has refused: a port that is taken, for one.
        None => {
            let log = children.last().map_or_else(String::new, Child::log_tail);
            return Failure::Failed(format!("Envoy does not listen; {log}"));
        }
    }
    match follow(plan, children, front, (watch, certificates), terminal).await {
        Ok(obituary) => Failure::Failed(obituary),
        Err(failure) => failure,
    }
}

/// Puts every change of the policy in force. Ends with the end of a process.
async fn follow(
    plan: &Plan,
    children: &mut [Child],
    front: &mut impl Front,
    (mut watch, certificates): (Watch, &mut Option<Certificates>),
    terminal: Terminal,
) -> Result<String, Failure> {
    let mut hangup = listen(SignalKind::hangup())?;
    let host_pid = children
        .get(plan.host)
        .and_then(Child::pid)
        .ok_or_else(|| Failure::Failed("the host does not run".into()))?;
    let mut processes = Processes {
        site: &plan.site,
        envoy: &plan.envoy_admin,
        envoy_log: &plan.envoy_log,
        host: &plan.host_admin,
        host_pid,
        in_force: plan.site.started().clone(),
    };
    loop {
        let asked = tokio::select! {
            obituary = first_death(children) => return Ok(obituary),
            _ = hangup.recv() => if terminal.is_gone() { continue } else { true },
            what = changed(certificates) => {
                renew(plan, certificates, front, Some(what)).await;
                continue;
            }
            change = watch.changed() => match change {
                Change::Whole => false,
                Change::InPlace(files) => {
                    front.rewritten(&files, false);
                    continue;
                }
                Change::Beside(files) => {
                    front.rewritten(&files, true);
                    continue;
                }
            },
        };
        if asked {
            watch.renew();
            renew(plan, certificates, front, None).await;
        }
        let loaded = watch.settle(|| front.load(), |loaded| front.files(loaded));
        // Nobody asked for what came there while it was read.
        if !asked && !watch.stands() {
            continue;
        }
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                front.faulty(error);
                continue;
            }
        };
        front.loaded(&loaded);
        let outcome = tokio::select! {
            obituary = first_death(children) => return Ok(obituary),
            outcome = processes.put(&loaded) => outcome,
        };
        front.reloaded(outcome, &processes.in_force.generation);
    }
}

/// Waits until some of the listener's certificates are others; for ever without TLS.
async fn changed(certificates: &mut Option<Certificates>) -> What {
    match certificates {
        Some(certificates) => certificates.changed().await,
        None => std::future::pending().await,
    }
}

/// Puts certificates in force that changed, or all, as far as they fit, and tells of it.
async fn renew(
    plan: &Plan,
    certificates: &mut Option<Certificates>,
    front: &mut impl Front,
    what: Option<What>,
) {
    let Some(certificates) = certificates else {
        return;
    };
    let news = match what {
        Some(what) => certificates
            .renew(what, &plan.envoy_admin)
            .await
            .into_iter()
            .collect(),
        None => certificates.renew_all(&plan.envoy_admin).await,
    };
    for news in &news {
        front.certificates(news);
    }
}

/// Looks until a process is ready; the last reason if it never was.
async fn get_ready(ready: &Ready) -> Result<(), String> {
    let give_up = Instant::now().checked_add(START_PATIENCE);
    loop {
        let why = match ready {
            Ready::Accepts(target) if probe::accepts(target).await => return Ok(()),
            Ready::Accepts(_) => "it accepts no connection".to_owned(),
            Ready::Answers(target, path) => match probe::ask(target, "GET", path).await {
                Ok(_) => return Ok(()),
                Err(error) => error.to_string(),
            },
        };
        if give_up.is_none_or(|give_up| Instant::now() >= give_up) {
            return Err(why);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Waits for the first process to end, and tells of it.
async fn first_death(children: &mut [Child]) -> String {
    std::future::poll_fn(|context| {
        for child in children.iter_mut() {
            // Polled anew each time: waiting for a process keeps no state of its own.
            let polled = std::pin::pin!(child.wait()).poll(context);
            if let std::task::Poll::Ready(status) = polled {
                return std::task::Poll::Ready(child.obituary(&status));
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// Envoy first: it takes no more connections and ends the requests it has; then what stood behind it.
async fn wind_down(plan: &Plan, children: &mut [Child]) {
    if children.len() == plan.parts.len()
        && probe::ask(&plan.envoy_admin, "POST", "/drain_listeners")
            .await
            .is_ok()
    {
        let quiet = async {
            while envoy::active_requests(&plan.envoy_admin)
                .await
                .is_some_and(|active| active > 0)
            {
                sleep(LOOK_EVERY).await;
            }
        };
        // Past it the rest is cut.
        let _ = timeout(DRAIN_PATIENCE, quiet).await;
        // Envoy ends without a look at what it has not told of yet: once more its timer, and some time to send.
        sleep(LAST_ENTRIES).await;
    }
    for child in children.iter_mut().rev() {
        if !child.stop(STOP_PATIENCE).await {
            child.kill().await;
        }
    }
}
