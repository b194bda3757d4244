//! Starting, watching, stopping. Whatever happens in between, [`run`] ends with every process ended.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use tensorgate_host::admin::COMPILING;
use tensorgate_host::audit::als::service::FLUSH_MS;
use tensorgate_host::sources::SourceState;

use super::backends::Backends;
use super::board::Board;
use super::certificates::{Certificates, News};
use super::child::Child;
use super::follow::{Following, Sources};
use super::plan::{Plan, Ready};
use super::probe::Target;
use super::reload::{Processes, ReloadError, Reloaded};
use super::terminal::Terminal;
use super::{envoy, probe, proof};
use crate::Failure;
use crate::load::{LoadError, Loaded};

/// Time for one process to get ready, or to say that it still compiles handlers. Envoy compiles the
/// filter; on a busy machine that takes a while.
pub(super) const START_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at whether a process is ready or a request still under way.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Time for requests under way to end before Envoy is told to.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// Time for the last entries of Envoy's access log to leave it: two of its intervals.
const LAST_ENTRIES: Duration = Duration::from_millis(2 * FLUSH_MS);
/// Signals this close together ask once.
const SAME_WISH: Duration = Duration::from_millis(500);
/// Time for a process to end by itself. The host drains for at most 10 s.
const STOP_PATIENCE: Duration = Duration::from_secs(12);

/// The user interface of `up`: reads the policy, and reports what became of it.
pub trait Front {
    /// The policy's file.
    fn policy(&self) -> &Path;
    /// The gate answers. `unready`: a line for each cause for which a model is not ready.
    fn ready(&mut self, address: SocketAddr, unready: &[String]);
    /// The policy as it stands in its files now.
    fn load(&self) -> Result<Loaded, LoadError>;
    /// The files that a change of this policy would be in.
    fn files(&self, loaded: &Loaded) -> Vec<PathBuf>;
    /// What was read has faults. `serving` goes on.
    fn faulty(&mut self, error: LoadError, serving: &str);
    /// This is about to be put in force.
    fn loaded(&mut self, loaded: &Loaded);
    /// What became of a whole policy. `serving` is in force.
    fn reloaded(&mut self, outcome: Result<Reloaded, ReloadError>, serving: &str);
    /// What became of a version that only takes away from the one in force: it is, or why it cannot be.
    fn tightened(&mut self, outcome: Result<Reloaded, &str>);
    /// The files whose changes are not in force, now others than before.
    fn held(&mut self, held: &[SourceState]);
    /// What became of the listener's certificates, whose files changed.
    fn certificates(&mut self, news: &News);
    /// What is in force cannot be shown to others.
    fn failed(&mut self, failure: &Failure);
}

/// Starts a plan, says once that it is ready, and holds it up until a signal or the end of one of its
/// processes. `Ok` is a stop that was asked for. `sources` are what the plan was made of. `note` gets a text whenever an
/// embedded backend ends: the gate goes on.
pub async fn run(
    plan: &mut Plan,
    sources: Sources,
    front: &mut impl Front,
    note: &dyn Fn(&str),
) -> Result<(), Failure> {
    let mut certificates = plan.certificates.take();
    let plan = &*plan;
    let mut stop = Stop::new()?;
    let mut children = Vec::new();
    let mut backends = Backends::start(&plan.backends);
    let terminal = stop.terminal;
    let holding = async {
        backends.settle().await;
        tokio::select! {
            failure = hold(plan, &mut children, (sources, &mut certificates), front, terminal) => failure,
            never = backends.follow(note) => match never {},
        }
    };
    let outcome = tokio::select! {
        failure = holding => Err(failure),
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
    backends.end().await;
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
    (sources, certificates): (Sources, &mut Option<Certificates>),
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
    let Some(address) = address else {
        // It runs without a listener that it has refused: a port that is taken, for one.
        let log = children.last().map_or_else(String::new, Child::log_tail);
        return Failure::Failed(format!("Envoy does not listen; {log}"));
    };
    let listener = match certificates {
        Some(_) => Target::Tls(address),
        None => Target::Tcp(address),
    };
    let proved = tokio::select! {
        proved = proof::a_request_went_through_the_filter(plan, &listener) => proved,
        obituary = first_death(children) => return Failure::Failed(obituary),
    };
    match proved {
        Ok(unready) => front.ready(address, &unready),
        Err(why) => {
            let log = children.last().map_or_else(String::new, Child::log_tail);
            return Failure::Failed(format!("{why}; {log}"));
        }
    }
    match follow(plan, children, front, (sources, certificates), terminal).await {
        Ok(obituary) => Failure::Failed(obituary),
        Err(failure) => failure,
    }
}

/// Puts every change of the policy and of the certificates in force. Ends with the end of a process.
async fn follow(
    plan: &Plan,
    children: &mut [Child],
    front: &mut impl Front,
    (sources, certificates): (Sources, &mut Option<Certificates>),
    terminal: Terminal,
) -> Result<String, Failure> {
    let host_pid = children
        .get(plan.host)
        .and_then(Child::pid)
        .ok_or_else(|| Failure::Failed("the host does not run".into()))?;
    let processes = Processes::new(plan, host_pid);
    let front = RefCell::new(front);
    let board = Board::new(&plan.site, &front);
    let root = &plan.site.places.root;
    let mut following = Following::new(sources, processes, root, (&front, &board));
    let hangups = (listen(SignalKind::hangup())?, listen(SignalKind::hangup())?);
    tokio::select! {
        obituary = first_death(children) => Ok(obituary),
        never = following.run(hangups.0, terminal) => match never {},
        never = renew(plan, certificates, (&front, &board), (hangups.1, terminal)) => match never {},
    }
}

/// Puts certificates in force whenever they change, as far as they fit; all of them, whether they changed or not,
/// when that is asked for. They do not wait for the policy, nor does the policy for them.
async fn renew<F: Front>(
    plan: &Plan,
    certificates: &mut Option<Certificates>,
    (front, board): (&RefCell<&mut F>, &Board<'_, F>),
    (mut hangup, terminal): (Signal, Terminal),
) -> Infallible {
    let Some(certificates) = certificates else {
        return std::future::pending().await;
    };
    loop {
        let what = tokio::select! {
            _ = hangup.recv() => if terminal.is_gone() { continue } else { None },
            what = certificates.changed() => Some(what),
        };
        let news = match what {
            Some(what) => certificates.renew(what, &plan.envoy_admin).await,
            None => certificates.renew_all(&plan.envoy_admin).await,
        };
        board.certificates(what, &news);
        for news in &news {
            front.borrow_mut().certificates(news);
        }
    }
}

/// Looks until a process is ready; the last reason if it never was. A host may compile its handlers
/// for as long as that takes.
pub(super) async fn get_ready(ready: &Ready) -> Result<(), String> {
    let mut give_up = Instant::now().checked_add(START_PATIENCE);
    loop {
        let why = match ready {
            Ready::Accepts(target) if probe::accepts(target).await => return Ok(()),
            Ready::Accepts(_) => "it accepts no connection".to_owned(),
            Ready::Answers(target, path) => match probe::ask(target, "GET", path).await {
                Ok(_) => return Ok(()),
                Err(error) => error.to_string(),
            },
        };
        if why.ends_with(COMPILING) {
            give_up = Instant::now().checked_add(START_PATIENCE);
        }
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
