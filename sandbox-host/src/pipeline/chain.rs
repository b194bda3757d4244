//! Handlers in a row, each with the output of the previous one. Between two handlers, tensors only
//! have to be well-formed and within the sandbox's limits. The last output is checked against the
//! contract. Fuel, memory and timeout apply to each call, and the request's deadline to all of
//! them.

use std::cell::Cell;

use tensorgate_base::memory_budget::MemoryPermit;
use tensorgate_base::owned;
use tensorgate_base::payload::{Payload, Role};
use tensorgate_policy::contract::guardrail::check_answer;
use tensorgate_policy::contract::{TensorRule, check_structure};
use tensorgate_policy::{Denial, Reason, Tensor};
use tensorgate_sandbox::{CallContext, HandlerError, HandlerOutput};
use tensorgate_telemetry::handler_statistics::HandlerCall;
use tensorgate_telemetry::labels::{FaultLabels, HandlerLabels};
use tensorgate_telemetry::metrics::Metrics;
use tensorgate_telemetry::spans::{self, Part};
use tensorgate_telemetry::timings::Timings;
use tokio::time::Instant;

use crate::admission::body_memory::out_of_memory;

use super::attribution::Fault;
use super::contract_denial;
use super::route::HandlerChain;
use super::shadow::{InShadow, Values};
use super::stage::Stage;

/// The common inputs of a request's handler calls.
pub(super) struct CallContents<'a> {
    pub(super) request_id: &'a str,
    /// Its carried bytes change from handler to handler.
    pub(super) behalf: &'a mut CallContext,
    /// The request's deadline.
    pub(super) request_deadline: Instant,
    /// The characters of the text of a guardrail, whose answer the handlers make.
    pub(super) analyzed_characters: Option<usize>,
    pub(super) memory_permit: &'a mut MemoryPermit,
    pub(super) timings: &'a mut Timings,
    pub(super) shadow: &'a mut InShadow,
}

/// Calls every handler of a role. `rules` are for the output of the last one.
pub(super) async fn run(
    metrics: &Metrics,
    chain: &HandlerChain,
    role: Role,
    payload: Payload,
    rules: &[TensorRule],
    contents: &mut CallContents<'_>,
) -> Result<Vec<Tensor<'static>>, Denial> {
    let mut payload = payload;
    let beside = contents.memory_permit.bytes();
    let stages = chain.for_role(role);
    for (number, stage) in (1_usize..).zip(stages) {
        let started = Instant::now();
        let handler = stage.for_request(
            contents.request_deadline,
            contents.behalf,
            contents.memory_permit,
        )?;
        let called = match (role, payload) {
            (Role::Preprocess, payload) => handler.preprocess(contents.request_id, payload).await,
            (Role::Postprocess, Payload::Tensors(tensors)) => {
                handler.postprocess(contents.request_id, tensors).await
            }
            (Role::Postprocess, Payload::Raw { .. }) => return Err(no_tensors()),
        };
        if let Ok(called) = &called {
            contents.behalf.request.carry = called.carry.clone();
        }
        let is_last = number == stages.len();
        let rules = is_last.then_some((rules, chain));
        let tensors = check_made(metrics, stage, role, started, called, rules, contents)?;
        if is_last {
            return Ok(tensors);
        }
        // An intermediate output is in memory in addition to everything else.
        let bytes = owned::data_bytes(&tensors).saturating_add(beside);
        if !contents.memory_permit.resize(bytes) {
            return Err(out_of_memory("a handler's output"));
        }
        payload = Payload::Tensors(tensors);
    }
    match payload {
        Payload::Tensors(tensors) => Ok(tensors),
        Payload::Raw { .. } => Err(no_tensors()),
    }
}

/// Records a handler's output and classifies its failures. Without `rules` another handler
/// follows. `tensorgate handler logs` finds a fault's line by its target.
fn check_made(
    metrics: &Metrics,
    stage: &Stage,
    role: Role,
    started: Instant,
    called: Result<HandlerOutput, HandlerError>,
    rules: Option<(&[TensorRule], &HandlerChain)>,
    contents: &mut CallContents<'_>,
) -> Result<Vec<Tensor<'static>>, Denial> {
    let (timings, request_id) = (&mut *contents.timings, contents.request_id);
    let took = started.elapsed();
    timings.handler = timings.handler.saturating_add(took);
    if role == Role::Postprocess {
        timings.postprocess = timings.postprocess.saturating_add(took);
    }
    timings.trace.add(Part {
        name: format!("handler {}", stage.name),
        took,
        attributes: spans::text("tensorgate.role", role.export())
            .into_iter()
            .collect(),
        failed: matches!(called, Err(HandlerError::Fault { .. })),
    });
    let labels = HandlerLabels {
        handler: stage.name.clone(),
        role: role.export(),
    };
    metrics
        .handler_seconds
        .get_or_create(&labels)
        .observe(took.as_secs_f64());
    metrics
        .handler_log_lines_dropped
        .inc_by(stage.handler.take_dropped_log_lines());
    let count = |call| metrics.handlers.count(&stage.name, role.export(), call);
    let fault = |cause: &'static str, detail: &str| {
        count(HandlerCall::Fault(cause));
        metrics
            .handler_faults
            .get_or_create(&FaultLabels {
                handler: stage.name.clone(),
                cause,
            })
            .inc();
        // The fields that identify the call come last: the text form is read from its end.
        tracing::warn!(
            target: "tensorgate::handler::fault",
            cause,
            detail,
            handler = stage.name,
            request_id,
            "handler fault"
        );
    };
    let called = match called {
        Ok(called) => called,
        Err(HandlerError::Rejected {
            text,
            caller,
            fuel_used,
        }) => {
            timings.fuel = timings.fuel.saturating_add(fuel_used);
            count(HandlerCall::Rejected);
            let cause = format!("handler {:?}: {text}", stage.name);
            let shown = caller.filter(|_| stage.handler.has_public_errors());
            return Err(match shown {
                Some(shown) => Denial::with_field(Reason::HandlerRejected, shown, cause),
                None => Denial::new(Reason::HandlerRejected, cause),
            });
        }
        Err(HandlerError::Overloaded(overload)) => {
            count(HandlerCall::Overloaded);
            metrics
                .handler_shed
                .get_or_create(&FaultLabels {
                    handler: stage.name.clone(),
                    cause: overload.name(),
                })
                .inc();
            let denial = Denial::new(
                Reason::Overloaded,
                format!("handler {:?}: {overload}", stage.name),
            );
            return Err(denial.overloaded_by(overload.cause()));
        }
        Err(HandlerError::CircuitOpen(cut_off)) => {
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
            fault(cause.name(), &detail);
            return Err(Denial::new(
                Reason::HandlerFault,
                format!("handler {:?}: {cause}: {detail}", stage.name),
            ));
        }
    };
    timings.fuel = timings.fuel.saturating_add(called.fuel_used);
    count(HandlerCall::Finished {
        fuel: called.fuel_used,
        memory_bytes: called.memory_peak_bytes,
        ran_us: called.ran_us,
        queued_us: called.queued_us,
    });
    #[expect(
        clippy::cast_precision_loss,
        reason = "a histogram's observation is a float"
    )]
    metrics
        .fuel
        .get_or_create(&labels)
        .observe(called.fuel_used as f64);
    let who = format!("handler {:?}'s output", stage.name);
    let values = match role {
        Role::Preprocess => Values::Inputs,
        Role::Postprocess => Values::Outputs,
    };
    let Some((rules, chain)) = rules else {
        let torn = |denial| contract_denial(Reason::HandlerFault, &who, &denial);
        check_structure(&called.tensors)
            .map_err(torn)
            .inspect_err(|denial| {
                fault("contract", &denial.cause);
                called.verdict.report_fault();
            })?;
        return Ok(called.tensors);
    };
    let asks = chain.for_role(role).iter().any(Stage::uses_capabilities);
    // The attribution of the last broken rule. Rules in shadow mode pass, and the first
    // enforced one ends the check.
    let attribution = Cell::new(None);
    let own = |denial: Denial| {
        let fault = chain.history.fault(role, asks, denial.reason);
        attribution.set(Some(fault));
        fault.denial(&who, &denial)
    };
    let checked = contents.shadow.check(values, rules, &called.tensors, own);
    let checked = checked.and_then(|()| match contents.analyzed_characters {
        Some(characters) => check_answer(characters, &called.tensors).map_err(|cause| {
            attribution.set(Some(Fault::Handler));
            let cause = format!("{who} breaks the guardrail contract: {cause}");
            Denial::new(Reason::HandlerFault, cause)
        }),
        None => Ok(()),
    });
    match (checked, attribution.get()) {
        (Ok(()), None) => chain.history.record_kept(role),
        (Ok(()), Some(_)) => {}
        (Err(denial), Some(Fault::Input)) => {
            called.verdict.report_input_fault();
            return Err(denial);
        }
        (Err(denial), _) => {
            fault("contract", &denial.cause);
            called.verdict.report_fault();
            return Err(denial);
        }
    }
    Ok(called.tensors)
}

/// A raw body without a handler for it.
fn no_tensors() -> Denial {
    Denial::new(
        Reason::HandlerFault,
        "a raw body, but no handler that reads it",
    )
}
