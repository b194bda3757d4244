//! Handlers in a row: each is given what the one before made. What stands between two of them has no rule but that it can be tensors within
//! the sandbox's bounds; what the last one makes is held against the contract. Fuel, memory and time count for each call, the request's own
//! deadline for all of them.

use std::cell::Cell;

use tensorgate_policy::contract::{TensorRule, check_structure};
use tensorgate_policy::{Denial, Reason, Tensor};
use tokio::time::Instant;

use super::repute::Fault;
use super::{Links, Pipeline, Stage, broken};
use crate::budget::Held;
use crate::metrics::{FaultLabels, HandlerLabels};
use crate::owned;
use crate::room::no_room;
use crate::sandbox::{Behalf, Called, HandlerError, Payload, Role};
use crate::shadow::{InShadow, Values};
use crate::timings::Timings;

/// What each call of a request's handlers has in common.
pub(super) struct Asked<'a> {
    pub(super) request_id: &'a str,
    pub(super) behalf: &'a Behalf,
    /// When the request's time is over.
    pub(super) latest: Instant,
    pub(super) held: &'a mut Held,
    pub(super) timings: &'a mut Timings,
    pub(super) shadow: &'a mut InShadow,
}

impl Pipeline {
    /// Calls every link; `rules` are what the last one's tensors have to keep.
    pub(super) async fn chain(
        &self,
        links: &Links,
        role: Role,
        payload: Payload,
        rules: &[TensorRule],
        asked: &mut Asked<'_>,
    ) -> Result<Vec<Tensor<'static>>, Denial> {
        let mut payload = payload;
        let beside = asked.held.bytes();
        let stages = links.of(role);
        for (number, stage) in (1_usize..).zip(stages) {
            let started = Instant::now();
            let handler = stage.for_one(asked.latest, asked.behalf, asked.held)?;
            let called = match (role, payload) {
                (Role::Preprocess, payload) => handler.preprocess(asked.request_id, payload).await,
                (Role::Postprocess, Payload::Tensors(tensors)) => {
                    handler.postprocess(asked.request_id, tensors).await
                }
                (Role::Postprocess, Payload::Raw { .. }) => return Err(no_tensors()),
            };
            let is_last = number == stages.len();
            let rules = is_last.then_some((rules, links));
            let tensors = self.made(stage, role, started, called, rules, asked)?;
            if is_last {
                return Ok(tensors);
            }
            // What goes on to the next link is in memory beside whatever else is.
            let bytes = owned::data_bytes(&tensors).saturating_add(beside);
            if !asked.held.resize(bytes) {
                return Err(no_room("what a handler hands on"));
            }
            payload = Payload::Tensors(tensors);
        }
        match payload {
            Payload::Tensors(tensors) => Ok(tensors),
            Payload::Raw { .. } => Err(no_tensors()),
        }
    }

    /// What a handler made; counted, and its failures sorted. Without `rules` another handler is to read it.
    fn made(
        &self,
        stage: &Stage,
        role: Role,
        started: Instant,
        called: Result<Called, HandlerError>,
        rules: Option<(&[TensorRule], &Links)>,
        asked: &mut Asked<'_>,
    ) -> Result<Vec<Tensor<'static>>, Denial> {
        let timings = &mut *asked.timings;
        let took = started.elapsed();
        timings.handler = timings.handler.saturating_add(took);
        if role == Role::Postprocess {
            timings.postprocess = timings.postprocess.saturating_add(took);
        }
        let labels = HandlerLabels {
            handler: stage.name.clone(),
            role: role.export(),
        };
        self.metrics
            .handler_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        let fault = |cause: &'static str| {
            self.metrics
                .handler_faults
                .get_or_create(&FaultLabels {
                    handler: stage.name.clone(),
                    cause,
                })
                .inc();
        };
        let called = match called {
            Ok(called) => called,
            Err(HandlerError::Rejected { text, fuel_used }) => {
                timings.fuel = timings.fuel.saturating_add(fuel_used);
                return Err(Denial::new(
                    Reason::HandlerRejected,
                    format!("handler {:?}: {text}", stage.name),
                ));
            }
            Err(HandlerError::Overloaded(overload)) => {
                return Err(Denial::new(
                    Reason::Overloaded,
                    format!("handler {:?}: {overload}", stage.name),
                ));
            }
            Err(HandlerError::CutOff(cut_off)) => {
                return Err(Denial::new(
                    Reason::BackendUnavailable,
                    format!("handler {:?}: {cut_off}", stage.name),
                ));
            }
            Err(HandlerError::Fault {
                cause,
                detail,
                fuel_used,
            }) => {
                timings.fuel = timings.fuel.saturating_add(fuel_used);
                fault(cause.name());
                return Err(Denial::new(
                    Reason::HandlerFault,
                    format!("handler {:?}: {cause}: {detail}", stage.name),
                ));
            }
        };
        timings.fuel = timings.fuel.saturating_add(called.fuel_used);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a histogram's observation is a float"
        )]
        self.metrics
            .fuel
            .get_or_create(&labels)
            .observe(called.fuel_used as f64);
        if called.log_lines_dropped > 0 {
            self.metrics
                .handler_log_lines_dropped
                .inc_by(called.log_lines_dropped);
            tracing::warn!(
                request_id = asked.request_id,
                handler = stage.name,
                lines = called.log_lines_dropped,
                "handler log lines dropped"
            );
        }
        let who = format!("handler {:?}'s output", stage.name);
        let values = match role {
            Role::Preprocess => Values::Inputs,
            Role::Postprocess => Values::Outputs,
        };
        let Some((rules, links)) = rules else {
            let torn = |denial| broken(Reason::HandlerFault, &who, &denial);
            check_structure(&called.tensors)
                .map_err(torn)
                .inspect_err(|_| {
                    fault("contract");
                    called.standing.broke();
                })?;
            return Ok(called.tensors);
        };
        let asks = links.of(role).iter().any(Stage::asks);
        // Of the last thing that broke the rules: what is in shadow passes, and the first that may not is the last that is looked at.
        let whose = Cell::new(None);
        let own = |denial: Denial| {
            let of = links.repute.fault(role, asks, denial.reason);
            whose.set(Some(of));
            of.denial(&who, &denial)
        };
        let checked = asked.shadow.check(values, rules, &called.tensors, own);
        match (checked, whose.get()) {
            (Ok(()), None) => links.repute.keeps(role),
            (Ok(()), Some(_)) => {}
            (Err(denial), Some(Fault::Input)) => {
                called.standing.unkept();
                return Err(denial);
            }
            (Err(denial), _) => {
                fault("contract");
                called.standing.broke();
                return Err(denial);
            }
        }
        Ok(called.tensors)
    }
}

/// A raw body that no handler read.
fn no_tensors() -> Denial {
    Denial::new(
        Reason::HandlerFault,
        "a raw body, and no handler to read it",
    )
}
