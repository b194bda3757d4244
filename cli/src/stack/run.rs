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
use super::child::Child;
use super::follow::{Following, Sources};
use super::front::Front;
use super::plan::Plan;
use super::probe::Target;
use super::progress::{StartProgress, run_named};
use super::ready::{POLL_INTERVAL, START_TIMEOUT, get_ready};
use super::reload::Processes;
use super::running::Running;
use super::status_file::StatusFile;
use super::terminal::Terminal;
use super::{envoy, probe, proof};

/// Timeout for requests in flight before Envoy is stopped.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Delay for the last entries of Envoy's access log: two flush intervals.
const LAST_ENTRIES: Duration = Duration::from_millis(2 * FLUSH_MS);
/// Signals within this interval count as one.
const SAME_REQUEST: Duration = Duration::from_millis(500);
/// Timeout for a process to end after SIGTERM. The host drains for at most 10 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);

/// Starts the processes of a plan and keeps them running until a signal arrives or a process ends.
///
/// `Ok` means that a stop was requested. `sources` are the policy and files of the plan. `note` is
/// called whenever an embedded backend ends; the gate continues.
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
        let names = plan.backends.iter().map(|part| part.spec.name.as_str());
        let step = format!("waiting for {}", names.collect::<Vec<_>>().join(", "));
        run_named(&step, &|line: &str| front.progress(line), backends.settle()).await;
        tokio::select! {
            failure = supervise(plan, &mut children, (sources, &mut certificates), front, terminal) => failure,
            never = backends.follow(note) => match never {},
        }
    };
    let outcome = tokio::select! {
        failure = holding => Err(failure),
        () = stop.asked() => Ok(()),
    };
    tokio::select! {
        () = wind_down(plan, &mut children) => {}
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

/// Starts everything in order and follows the policy, until a process ends unexpectedly.
async fn supervise(
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
        let mut progress = StartProgress::new(&part.spec.name, Instant::now());
        let ready = get_ready(&part.ready, |why| {
            for line in progress.lines(why, Instant::now()) {
                front.progress(&line);
            }
        });
        tokio::select! {
            late = ready => {
                if let (Err(why), Some(child)) = (late, children.last()) {
                    return Failure::Failed(format!("{} was not ready within {START_TIMEOUT:?}: {why}; {}", child.name(), child.log_tail()));
                }
            }
            exit_report = first_exit(children) => return Failure::Failed(exit_report),
        }
    }
    let address = envoy::gate_address(&plan.envoy_admin).await;
    // Envoy can listen without certificates, so they are checked separately.
    if let (Some(_), Some(certificates)) = (address, &*certificates)
        && let Err(why) = certificates.taken(&plan.envoy_admin).await
    {
        let log = children.last().map_or_else(String::new, Child::log_tail);
        return Failure::Failed(format!("{why}; {log}"));
    }
    let Some(address) = address else {
        // Envoy continues without a rejected listener, for example if the port is in use.
        let log = children.last().map_or_else(String::new, Child::log_tail);
        return Failure::Failed(format!("Envoy does not listen; {log}"));
    };
    let listener = match certificates {
        Some(_) => Target::Tls(address),
        None => Target::Tcp(address),
    };
    let print = |line: &str| front.progress(line);
    let proof = proof::a_request_went_through_the_filter(plan, &listener);
    let proof = run_named("waiting for a request through the filter", &print, proof);
    let proved = tokio::select! {
        proved = proof => proved,
        exit_report = first_exit(children) => return Failure::Failed(exit_report),
    };
    match proved {
        Ok(unready) => {
            let scheme = match listener {
                Target::Tls(_) => "https",
                _ => "http",
            };
            let url = format!("{scheme}://{address}");
            let running = Running {
                listen: Some(url.clone()),
                ..plan.running.clone()
            };
            if let Err(error) = plan.lock.describe(&running) {
                let why = format!("`tensorgate status` will not show this gate: {error}");
                front.failed(&Failure::Failed(why));
            }
            front.ready(&url, &unready);
        }
        Err(why) => {
            let log = children.last().map_or_else(String::new, Child::log_tail);
            return Failure::Failed(format!("{why}; {log}"));
        }
    }
    match follow(plan, children, front, (sources, certificates), terminal).await {
        Ok(exit_report) => Failure::Failed(exit_report),
        Err(failure) => failure,
    }
}

/// Applies changes of the policy and the certificates until a process ends.
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
        .ok_or_else(|| Failure::Failed("the host is not running".into()))?;
    let processes = Processes::new(plan, host_pid);
    let front = RefCell::new(front);
    let status_file = StatusFile::new(&plan.site, &front);
    let root = &plan.site.render_options.root;
    let mut following = Following::new(sources, processes, root, (&front, &status_file));
    let hangups = (listen(SignalKind::hangup())?, listen(SignalKind::hangup())?);
    tokio::select! {
        exit_report = first_exit(children) => Ok(exit_report),
        never = following.run(hangups.0, terminal) => match never {},
        never = renew(plan, certificates, (&front, &status_file), (hangups.1, terminal)) => match never {},
    }
}

/// Applies changes of certificates, as far as they are valid. On request all files are read,
/// changed or not. Certificates and policy are independent of each other.
async fn renew<F: Front>(
    plan: &Plan,
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
            Some(what) => certificates.renew(what, &plan.envoy_admin).await,
            None => certificates.renew_all(&plan.envoy_admin).await,
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

/// Stops Envoy first: it closes its listener and finishes its requests. A failed health check makes
/// it close each connection with its next response, so that clients begin no further requests on
/// it. Then the processes behind it stop.
async fn wind_down(plan: &Plan, children: &mut [Child]) {
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
        // After the timeout, the remaining requests are aborted.
        let _ = timeout(DRAIN_TIMEOUT, quiet).await;
        // Envoy does not flush its access log at exit, so wait for a flush.
        sleep(LAST_ENTRIES).await;
    }
    for child in children.iter_mut().rev() {
        if !child.stop(STOP_TIMEOUT).await {
            child.kill().await;
        }
    }
}
