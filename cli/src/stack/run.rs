//! Starts, watches and stops the processes. Every process has ended when [`run`] returns.

use std::cell::RefCell;
use std::convert::Infallible;
use std::time::Duration;

use tensorgate_audit::access_log_service::FLUSH_MS;
use tensorgate_cli_common::Failure;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use super::backends::Backends;
use super::certificates::Certificates;
use super::child::{Child, not_started};
use super::follow::{Following, Sources};
use super::front::Front;
use super::keep::Keeper;
use super::plan::Plan;
use super::presence::{Presence, Presences};
use super::probe::Target;
use super::process_event::ProcessEvent;
use super::process_reports::ProcessReports;
use super::progress::{StartProgress, run_named};
use super::ready::{POLL_INTERVAL, START_TIMEOUT, get_ready};
use super::reload::Processes;
use super::service_manager::{READY, STOPPING, notify};
use super::site::bundle;
use super::status_file::StatusFile;
use super::terminal::Terminal;
use super::{envoy, gate_changes, probe, proof};
use crate::render::cluster::ending;

/// Timeout for requests in flight at the end, if the policy in force cannot be read.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Delay for the last entries of Envoy's access log: two flush intervals.
const LAST_ENTRIES: Duration = Duration::from_millis(2 * FLUSH_MS);
/// Signals within this interval count as one.
const SAME_REQUEST: Duration = Duration::from_millis(500);
/// Timeout for a process to end after SIGTERM. The host drains for at most 10 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);

/// Starts the processes of a plan and keeps them running until a signal arrives, or until too many
/// of them have ended.
///
/// `Ok` means that a stop was requested. `sources` are the policy and files of the plan.
pub async fn run(plan: &mut Plan, sources: Sources, front: &mut impl Front) -> Result<(), Failure> {
    let mut certificates = plan.certificates.take();
    let plan = &*plan;
    let mut stop = Stop::new()?;
    let mut children = Vec::new();
    let mut backends = Backends::start(&plan.backends);
    let terminal = stop.terminal;
    let holding = async {
        let names = plan.backends.iter().map(|part| part.spec.name.as_str());
        let step = format!("waiting for {}", names.collect::<Vec<_>>().join(", "));
        let print = |line: &str| front.progress(line);
        run_named(&step, &print, backends.settle()).await;
        let processes = (&mut children, &mut backends);
        supervise(
            plan,
            processes,
            (sources, &mut certificates),
            front,
            terminal,
        )
        .await
    };
    let outcome = tokio::select! {
        failure = holding => Err(failure),
        () = stop.asked() => Ok(()),
    };
    notify(STOPPING);
    let print = |line: &str| front.progress(line);
    tokio::select! {
        () = wind_down(plan, &mut children, &print) => {}
        // A second request stops everything immediately.
        () = stop.asked_again() => {}
    }
    for child in &mut children {
        child.kill().await;
    }
    backends.end().await;
    outcome
}

/// The signals that request a stop. SIGHUP is one if the terminal has closed.
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

    /// Waits for a second request. Signals shortly after the first belong to the same request: a
    /// terminal signals the whole process group, and `make` forwards its own.
    async fn asked_again(&mut self) {
        let echo = Instant::now();
        loop {
            self.asked().await;
            if echo.elapsed() > SAME_REQUEST {
                return;
            }
        }
    }
}

/// Starts everything in order, keeps it running and follows the policy, until the gate must end.
async fn supervise<F: Front>(
    plan: &Plan,
    (children, backends): (&mut Vec<Child>, &mut Backends),
    (sources, certificates): (Sources, &mut Option<Certificates>),
    front: &mut F,
    terminal: Terminal,
) -> Failure {
    let front = RefCell::new(front);
    let reports = ProcessReports::new(&front, &plan.lock, &plan.running);
    let report = |event: &ProcessEvent| reports.report(event);
    let started = tokio::select! {
        started = start(plan, children, certificates.as_ref(), (&front, &reports)) => started,
        never = backends.follow(&report) => match never {},
    };
    let listener = match started {
        Ok(listener) => listener,
        Err(failure) => return failure,
    };
    let states = |at: usize| Presence::up(children.get(at).and_then(Child::pid));
    let presences = Presences {
        host: states(plan.host),
        envoy: states(plan.proxy),
    };
    let processes = Processes::new(plan, &presences);
    let keeper = Keeper::new(plan, &listener, &presences, &reports);
    let status_file = StatusFile::new(&plan.site, &front);
    let root = &plan.site.render_options.root;
    let mut following = Following::new(sources, processes, root, (&front, &status_file));
    let hangups =
        listen(SignalKind::hangup()).and_then(|first| Ok((first, listen(SignalKind::hangup())?)));
    let hangups = match hangups {
        Ok(hangups) => hangups,
        Err(failure) => return failure,
    };
    notify(READY);
    let envoy = (&plan.envoy_admin, &presences.envoy);
    tokio::select! {
        failure = keeper.keep(children) => failure,
        never = following.run(hangups.0, terminal) => match never {},
        never = renew(envoy, certificates, (&front, &status_file), (hangups.1, terminal)) => match never {},
        never = backends.follow(&report) => match never {},
        never = gate_changes::follow(&plan.host_admin, &front) => match never {},
    }
}

/// Starts the processes in order, each once the one before is ready. Returns where the gate listens
/// once a request has passed the filter.
async fn start<F: Front>(
    plan: &Plan,
    children: &mut Vec<Child>,
    certificates: Option<&Certificates>,
    (front, reports): (&RefCell<&mut F>, &ProcessReports<'_, F>),
) -> Result<Target, Failure> {
    let print = |line: &str| front.borrow().progress(line);
    for part in &plan.parts {
        let child = Child::start(&part.spec)
            .map_err(|error| Failure::Failed(not_started(&part.spec, &error).how))?;
        children.push(child);
        let mut progress = StartProgress::new(&part.spec.name, Instant::now());
        let ready = get_ready(&part.ready, |why| {
            for line in progress.lines(why, Instant::now()) {
                print(&line);
            }
        });
        tokio::select! {
            late = ready => {
                if let (Err(why), Some(child)) = (late, children.last()) {
                    return Err(Failure::Failed(format!("{} was not ready within {START_TIMEOUT:?}: {why}; {}", child.name(), child.log_tail())));
                }
            }
            exit_report = first_exit(children) => return Err(Failure::Failed(exit_report)),
        }
    }
    let failed = |why: String, children: &[Child]| {
        let log = children.last().map_or_else(String::new, Child::log_tail);
        Failure::Failed(format!("{why}; {log}"))
    };
    let address = envoy::gate_address(&plan.envoy_admin).await;
    // Envoy can listen without certificates, so they are checked separately.
    if let (Some(_), Some(certificates)) = (address, certificates) {
        let presence = Presence::default();
        let taken = certificates.taken((&plan.envoy_admin, &presence)).await;
        taken.map_err(|why| failed(why, children))?;
    }
    // Envoy continues without a rejected listener, for example if the port is in use.
    let address = address.ok_or_else(|| failed("Envoy does not listen".to_owned(), children))?;
    let (listener, scheme) = match certificates {
        Some(_) => (Target::Tls(address), "https"),
        None => (Target::Tcp(address), "http"),
    };
    let proof = proof::a_request_went_through_the_filter(plan, &listener);
    let proof = run_named("waiting for a request through the filter", &print, proof);
    let proved = tokio::select! {
        proved = proof => proved,
        exit_report = first_exit(children) => return Err(Failure::Failed(exit_report)),
    };
    let unready = proved.map_err(|why| failed(why, children))?;
    let url = format!("{scheme}://{address}");
    let described = reports.listens(&url);
    let mut front = front.borrow_mut();
    if let Err(error) = described {
        let why = format!("`tensorgate status` will not show this gate: {error}");
        front.failed(&Failure::Failed(why));
    }
    front.ready(&url, &unready);
    Ok(listener)
}

/// Applies changes of certificates, as far as they are valid. On request all files are read,
/// changed or not. Certificates and policy are independent of each other.
async fn renew<F: Front>(
    envoy: (&Target, &Presence),
    certificates: &mut Option<Certificates>,
    (front, status_file): (&RefCell<&mut F>, &StatusFile<'_, F>),
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
            Some(what) => certificates.renew(what, envoy).await,
            None => certificates.renew_all(envoy).await,
        };
        status_file.certificates(what, &news);
        for news in &news {
            front.borrow_mut().certificates(news);
        }
    }
}

/// Waits for the first process to end, and describes how it ended.
async fn first_exit(children: &mut [Child]) -> String {
    std::future::poll_fn(|context| {
        for child in children.iter_mut() {
            // Polled anew each time: waiting for a process keeps no state.
            let polled = std::pin::pin!(child.wait()).poll(context);
            if let std::task::Poll::Ready(status) = polled {
                return std::task::Poll::Ready(child.exit_report(&status));
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// How long requests in flight may take at the end: as long as in a pod with the policy in force.
fn drain_timeout(plan: &Plan) -> Duration {
    bundle(&plan.state)
        .ok()
        .flatten()
        .map_or(DRAIN_TIMEOUT, |bundle| {
            Duration::from_secs(ending::drain_s(&bundle.policy))
        })
}

/// Stops Envoy first: it closes its listener and finishes its requests. A failed health check makes
/// it close each connection with its next response, so that clients begin no further requests on
/// it. Then the processes behind it stop.
async fn wind_down(plan: &Plan, children: &mut [Child], print: &dyn Fn(&str)) {
    if children.len() == plan.parts.len()
        && probe::ask(&plan.envoy_admin, "POST", "/healthcheck/fail")
            .await
            .is_ok()
        && probe::ask(&plan.envoy_admin, "POST", "/drain_listeners")
            .await
            .is_ok()
    {
        let quiet = async {
            while envoy::active_requests(&plan.envoy_admin)
                .await
                .is_some_and(|active| active > 0)
            {
                sleep(POLL_INTERVAL).await;
            }
        };
        let longest = drain_timeout(plan);
        let step = format!(
            "waiting at most {} s for requests in flight; a second signal ends them",
            longest.as_secs()
        );
        // After the timeout, the remaining requests are aborted.
        let _ = run_named(&step, print, timeout(longest, quiet)).await;
        // Envoy does not flush its access log at exit, so wait for a flush.
        sleep(LAST_ENTRIES).await;
    }
    for child in children.iter_mut().rev() {
        if !child.stop(STOP_TIMEOUT).await {
            child.kill().await;
        }
    }
}
