//! Keeps the required processes running: one that ends unexpectedly is started again with the files
//! in force, until too many have ended in a short time.
//!
//! A process finds the same sockets and addresses as the one before, and the files in force:
//! [`super::reload`] and [`super::certificates`] write them before a process reads them, and put
//! the previous ones back if it rejects them or ends.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::process::ExitStatus;
use std::task::Poll;

use tensorgate_cli_common::Failure;
use tokio::time::{Instant, sleep};

use super::child::{Child, log_summary, not_started};
use super::front::Front;
use super::plan::{ENVOY, Part, Plan};
use super::presence::Presences;
use super::probe::Target;
use super::process_event::{ProcessEnd, ProcessEvent};
use super::process_reports::ProcessReports;
use super::ready::get_ready;
use super::restarts::{Backoff, EndBudget, MAX_ENDS, WINDOW};
use super::{envoy, proof};

/// What restarts the required processes of a plan.
pub struct Keeper<'a, F> {
    plan: &'a Plan,
    listener: &'a Target,
    presences: &'a Presences,
    reports: &'a ProcessReports<'a, F>,
    budget: RefCell<EndBudget>,
}

impl<'a, F: Front> Keeper<'a, F> {
    /// For processes that run. `listener` is the gate's address.
    pub fn new(
        plan: &'a Plan,
        listener: &'a Target,
        presences: &'a Presences,
        reports: &'a ProcessReports<'a, F>,
    ) -> Self {
        Self {
            plan,
            listener,
            presences,
            reports,
            budget: RefCell::default(),
        }
    }

    /// Restarts processes until too many have ended. Returns why the gate must end.
    pub async fn keep(&self, children: &mut [Child]) -> Failure {
        let mut keepers: Vec<_> = (children.iter_mut().zip(&self.plan.parts).enumerate())
            .map(|(at, (child, part))| Box::pin(self.keep_one(child, part, at == self.plan.host)))
            .collect();
        poll_fn(|context| {
            for keeper in &mut keepers {
                if let Poll::Ready(failure) = keeper.as_mut().poll(context) {
                    return Poll::Ready(failure);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Restarts one process, which runs, whenever it has ended.
    async fn keep_one(&self, child: &mut Child, part: &Part, is_host: bool) -> Failure {
        let presence = if is_host {
            &self.presences.host
        } else {
            &self.presences.envoy
        };
        let mut backoff = Backoff::default();
        let mut number = 0_u32;
        let status = child.wait().await;
        let mut end = child.record_end(&status, number);
        loop {
            presence.ended();
            number = number.saturating_add(1);
            let now = Instant::now();
            let delay = backoff.delay(now);
            if !self.budget.borrow_mut().count(now) {
                return self.give_up(&end);
            }
            self.reports.report(&ProcessEvent::Ended(end, delay));
            sleep(delay).await;
            presence.may_start().await;
            let began = Instant::now();
            presence.starting();
            end = match self.start(child, part, number).await {
                Ok(()) => {
                    presence.ready(child.pid());
                    let event = ProcessEvent::Restarted(part.spec.name.clone(), began.elapsed());
                    self.reports.report(&event);
                    let status = self.wait(child, is_host).await;
                    child.record_end(&status, number)
                }
                Err(end) => end,
            };
        }
    }

    /// Starts a process in place of one that has ended, and waits until it is ready.
    async fn start(&self, child: &mut Child, part: &Part, number: u32) -> Result<(), ProcessEnd> {
        *child = Child::start(&part.spec).map_err(|error| not_started(&part.spec, &error))?;
        let ready = async {
            get_ready(&part.ready, |_| {}).await?;
            // Envoy also runs without a listener, for example if its address is in use now.
            if part.spec.name == ENVOY
                && envoy::gate_address(&self.plan.envoy_admin).await.is_none()
            {
                return Err("it does not listen".to_owned());
            }
            Ok(())
        };
        let late = tokio::select! {
            status = child.wait() => return Err(child.record_end(&status, number)),
            ready = ready => ready.err(),
        };
        let Some(why) = late else { return Ok(()) };
        child.kill().await;
        let status = child.wait().await;
        Err(ProcessEnd {
            how: format!("not ready: {why}"),
            ..child.record_end(&status, number)
        })
    }

    /// Waits for the end of a process that is ready. A host is told that Envoy has its filter.
    async fn wait(&self, child: &mut Child, is_host: bool) -> io::Result<ExitStatus> {
        if is_host {
            tokio::select! {
                status = child.wait() => return status,
                () = proof::wake_host(self.plan, self.listener) => {}
            }
        }
        child.wait().await
    }

    /// The reason why the gate ends.
    fn give_up(&self, end: &ProcessEnd) -> Failure {
        let ProcessEnd {
            process, how, log, ..
        } = end;
        let tail = match log {
            Some(log) => log_summary(&self.plan.state.join(log)),
            None => "it has no log".to_owned(),
        };
        Failure::Failed(format!(
            "{process} ended unexpectedly ({how}), and processes of the gate have now ended {MAX_ENDS} times within {} s: the gate stops; {tail}",
            WINDOW.as_secs()
        ))
    }
}
