//! The route of a model's requests: the handlers for each grant, and the backend.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tensorgate_policy::contract::{TensorRule, check_structure, check_tensors};
use tensorgate_policy::policy::{GrantId, Shadow, note};
use tensorgate_policy::{Denial, Reason, Tensor};
use tokio::time::Instant;

use super::{Pipeline, Timings, contract_denial};
use crate::admission::memory_budget::{MemoryPermit, out_of_memory};
use crate::dispatch::Dispatcher;
use crate::owned;
use crate::pipeline::mirroring::Mirrors;
use crate::sandbox::{CallContext, HandlerError, HandlerOutput, LoadedHandler, Payload, Role};
use crate::telemetry::metrics::{FaultLabels, HandlerLabels};

/// The route of one model.
pub struct ModelRoute {
    /// The model's handlers.
    pub links: HandlerChain,
    /// The handlers of grants that have their own.
    pub own: HashMap<GrantId, HandlerChain>,
    /// The backend or ensemble.
    pub target: Target,
    /// The versions in shadow.
    pub(crate) mirrors: Mirrors,
}

/// The handlers of a model, in the order of their calls.
pub struct HandlerChain {
    /// Before dispatch.
    pub(super) preprocess: Vec<Stage>,
    /// After dispatch.
    pub(super) postprocess: Vec<Stage>,
    /// The fault attribution of the handlers before dispatch.
    pub(super) history: ContractHistory,
}

impl HandlerChain {
    /// Creates a chain without history.
    pub fn new(preprocess: Vec<Stage>, postprocess: Vec<Stage>) -> Self {
        Self {
            preprocess,
            postprocess,
            history: ContractHistory::default(),
        }
    }

    /// The handlers of a role, in the order of their calls.
    pub(super) fn for_role(&self, role: Role) -> &[Stage] {
        match role {
            Role::Preprocess => &self.preprocess,
            Role::Postprocess => &self.postprocess,
        }
    }
}

/// What answers a model's requests.
pub enum Target {
    /// A backend.
    Backend(Arc<Dispatcher>),
    /// The backends of an ensemble's steps, in order.
    Ensemble(Vec<Arc<Dispatcher>>),
}

impl ModelRoute {
    /// The backend of a model that is not an ensemble.
    pub(super) fn backend(&self) -> Result<&Arc<Dispatcher>, Denial> {
        match &self.target {
            Target::Backend(backend) => Ok(backend),
            Target::Ensemble(_) => Err(Denial::new(
                Reason::BackendUnavailable,
                "an ensemble has no one backend",
            )),
        }
    }

    /// The handlers for clients of a grant.
    pub(super) fn chain(&self, grant: GrantId) -> &HandlerChain {
        self.own.get(&grant).unwrap_or(&self.links)
    }
}

// Fault attribution: whether a handler or the client's input is at fault when a handler's output
// breaks the contract.
//
// Each call starts fresh: it depends only on the handler's config and its input. So if the same
// handlers have kept the contract before, invalid values follow from this client's input, and
// another client's input may be fine.
//
// | violation | output of | at fault |
// |---|---|---|
// | names, datatypes, shapes, sizes | any handler | the handler |
// | values | preprocess handlers that have kept the contract before | the input |
// | values | preprocess handlers that never have | the handler |
// | values | preprocess handlers of which one may make capability requests | the handler |
// | values | postprocess handlers | the handler |
//
// - Violations by values are `not-finite`, `out-of-range`, `item-too-long` and `url-blocked`.
// - The history of a contract counts per policy version and model.
// - If the input is at fault, the response is 400 with that reason. The circuit breaker of the
//   last handler counts a success, as for a rejected input.
// - If the handler is at fault, the response is 500 `handler-fault` and the circuit breaker counts
//   a fault.
// - With capability requests, the values may come from another server. The input of postprocess
//   handlers does not come from a client.
//
// So a client cannot open the circuit of a handler, or its own, with input that the handler
// accepts. A handler that never keeps the model's contract is still detected.

/// What is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The handler.
    Handler,
    /// The client's input.
    Input,
}

/// The history of a handler chain under one policy, for one model and one set of clients.
#[derive(Debug, Default)]
pub(super) struct ContractHistory {
    /// Whether an output has kept the contract.
    kept: AtomicBool,
}

impl ContractHistory {
    /// Records that an output keeps the contract. Only preprocess handlers count.
    pub(super) fn record_kept(&self, role: Role) {
        if role != Role::Preprocess {
            return;
        }
        // Usually set already, so the shared memory is not written.
        if !self.kept.load(Ordering::Relaxed) {
            self.kept.store(true, Ordering::Relaxed);
        }
    }

    /// Attributes a contract violation with this reason. `asks` says whether a handler may make
    /// capability requests.
    pub(super) fn fault(&self, role: Role, asks: bool, reason: Reason) -> Fault {
        let kept = self.kept.load(Ordering::Relaxed);
        if role == Role::Preprocess && kept && !asks && is_value_fault(reason) {
            Fault::Input
        } else {
            Fault::Handler
        }
    }
}

impl Fault {
    /// The denial for the client: the reason, without names of tensors that the client did not
    /// send. The log has the whole cause.
    pub(super) fn denial(self, who: &str, denial: &Denial) -> Denial {
        match self {
            Self::Handler => contract_denial(Reason::HandlerFault, who, denial),
            Self::Input => contract_denial(denial.reason, who, denial),
        }
    }
}

/// Whether the reason is about values and not about the structure of a tensor.
const fn is_value_fault(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NotFinite | Reason::OutOfRange | Reason::ItemTooLong | Reason::UrlBlocked
    )
}

// Denials of one request that are not enforced: those of gate and verification, and those of
// handler and backend outputs. [`Shadow`] says which reasons are not enforced. The first denial of
// each reason is recorded here.

/// The shadow mode of a request.
#[derive(Debug, Default)]
pub struct InShadow {
    shadow: Shadow,
    noted: Vec<Denial>,
}

/// The kind of values that are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// The inputs of the backend.
    Inputs,
    /// The outputs of the backend, or of a postprocess handler.
    Outputs,
}

impl InShadow {
    /// Creates the shadow mode of a grant, with the denials so far.
    pub const fn new(shadow: Shadow, noted: Vec<Denial>) -> Self {
        Self { shadow, noted }
    }

    /// The denials that were not enforced.
    pub fn noted(&self) -> &[Denial] {
        &self.noted
    }

    /// Checks an output. `own` converts a denial to one with the producer's reason; the log has the
    /// whole cause.
    ///
    /// # Errors
    /// Returns the first denial that is enforced.
    pub fn check(
        &mut self,
        values: Values,
        rules: &[TensorRule],
        tensors: &[Tensor<'_>],
        own: impl Fn(Denial) -> Denial,
    ) -> Result<(), Denial> {
        let passes = |reason: Reason| match values {
            Values::Inputs => self.shadow.lets_pass(reason),
            Values::Outputs => self.shadow.lets_answer_pass(reason),
        };
        let noted = &mut self.noted;
        check_tensors(rules, tensors, &mut |denial| {
            if !passes(denial.reason) {
                return Err(denial);
            }
            note(noted, own(denial));
            Ok(())
        })
        .map_err(&own)
    }
}

// A handler in the pipeline of a model.

/// A loaded handler with its name in the policy.
#[derive(Clone)]
pub struct Stage {
    /// The name.
    pub name: String,
    /// The handler.
    pub handler: LoadedHandler,
}

impl Stage {
    /// Whether it may make capability requests.
    pub(super) fn uses_capabilities(&self) -> bool {
        self.handler.max_resolved_bytes() > 0
    }

    /// The handler for one request. Reserves memory in `held` for resolved resources.
    pub(super) fn for_request(
        &self,
        request_deadline: Instant,
        behalf: &CallContext,
        memory_permit: &mut MemoryPermit,
    ) -> Result<LoadedHandler, Denial> {
        let brought_bytes = self.handler.max_resolved_bytes();
        if !memory_permit.resize(memory_permit.bytes().saturating_add(brought_bytes)) {
            return Err(out_of_memory("a handler's capability requests"));
        }
        let client = (!behalf.client.is_empty()).then_some(&*behalf.client);
        let handler = self
            .handler
            .with_deadline(request_deadline)
            .for_client(client);
        Ok(handler.with_context(behalf.clone()))
    }
}

// Handlers in a row, each with the output of the previous one. Between two handlers, tensors only
// have to be well-formed and within the sandbox's limits. The last output is checked against the
// contract. Fuel, memory and timeout apply to each call, and the request's deadline to all of
// them.

/// The common inputs of a request's handler calls.
pub(super) struct CallContents<'a> {
    pub(super) request_id: &'a str,
    pub(super) behalf: &'a CallContext,
    /// The request's deadline.
    pub(super) request_deadline: Instant,
    pub(super) memory_permit: &'a mut MemoryPermit,
    pub(super) timings: &'a mut Timings,
    pub(super) shadow: &'a mut InShadow,
}

impl Pipeline {
    /// Calls every handler. `rules` are for the output of the last one.
    pub(super) async fn chain(
        &self,
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
                (Role::Preprocess, payload) => {
                    handler.preprocess(contents.request_id, payload).await
                }
                (Role::Postprocess, Payload::Tensors(tensors)) => {
                    handler.postprocess(contents.request_id, tensors).await
                }
                (Role::Postprocess, Payload::Raw { .. }) => return Err(no_tensors()),
            };
            let is_last = number == stages.len();
            let rules = is_last.then_some((rules, chain));
            let tensors = self.check_made(stage, role, started, called, rules, contents)?;
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
    /// follows.
    fn check_made(
        &self,
        stage: &Stage,
        role: Role,
        started: Instant,
        called: Result<HandlerOutput, HandlerError>,
        rules: Option<(&[TensorRule], &HandlerChain)>,
        contents: &mut CallContents<'_>,
    ) -> Result<Vec<Tensor<'static>>, Denial> {
        let timings = &mut *contents.timings;
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
                request_id = contents.request_id,
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
        let Some((rules, chain)) = rules else {
            let torn = |denial| contract_denial(Reason::HandlerFault, &who, &denial);
            check_structure(&called.tensors)
                .map_err(torn)
                .inspect_err(|_| {
                    fault("contract");
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
        match (checked, attribution.get()) {
            (Ok(()), None) => chain.history.record_kept(role),
            (Ok(()), Some(_)) => {}
            (Err(denial), Some(Fault::Input)) => {
                called.verdict.report_input_fault();
                return Err(denial);
            }
            (Err(denial), _) => {
                fault("contract");
                called.verdict.report_fault();
                return Err(denial);
            }
        }
        Ok(called.tensors)
    }
}

/// A raw body without a handler for it.
fn no_tensors() -> Denial {
    Denial::new(
        Reason::HandlerFault,
        "a raw body, and no handler to read it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_the_inputs_fault_where_handlers_have_kept_the_contract() {
        use Fault::{Handler, Input};
        use Role::{Postprocess, Preprocess};
        for (kept, role, asks, values) in [
            (true, Preprocess, false, Input),
            (false, Preprocess, false, Handler),
            (true, Preprocess, true, Handler),
            (true, Postprocess, false, Handler),
        ] {
            let repute = ContractHistory::default();
            if kept {
                repute.record_kept(Preprocess);
            }
            for reason in Reason::ALL {
                let expected = match reason.name() {
                    "not-finite" | "out-of-range" | "item-too-long" | "url-blocked" => values,
                    _ => Handler,
                };
                let case = format!("{kept} {role:?} {asks} {reason:?}");
                assert_eq!(repute.fault(role, asks, reason), expected, "{case}");
            }
        }
    }

    #[test]
    fn a_client_is_told_no_name_of_what_a_handler_made() {
        let broke = Denial::with_field(Reason::OutOfRange, "features", "element 3 is out of range");
        let input = Fault::Input.denial("handler \"h\"'s output", &broke);
        assert_eq!(input.reason, Reason::OutOfRange);
        assert_eq!(input.field, None);
        assert!(
            input
                .cause
                .contains("handler \"h\"'s output breaks the contract")
        );
        let handler = Fault::Handler.denial("handler \"h\"'s output", &broke);
        assert_eq!(handler.reason, Reason::HandlerFault);
        assert!(handler.cause.contains("out-of-range"), "{}", handler.cause);
    }
}

#[cfg(test)]
mod shadow_tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use serde_json::json;
    use tensorgate_policy::policy::{Accepts, Policy};
    use tensorgate_policy::{raw, validate};

    use super::*;

    fn policy(mode: &str) -> Policy {
        let raw: raw::Policy = serde_json::from_value(json!({
            "version": 1,
            "clients": {"c": {"api_keys": [{"sha256": "03".repeat(32)}]}},
            "backends": {"b": {"kind": "open-inference", "endpoints": ["http://127.0.0.1:1"], "max_in_flight": 1, "queue": 1, "timeout_ms": 9}},
            "models": {"m": {
                "backend": "b", "versions": ["1"], "protocols": ["oip-rest"],
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "range": [0, 1]}],
                "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}]
            }},
            "grants": [{"name": "g", "clients": ["c"], "models": ["m"], "operations": ["infer"], "mode": {mode: "shadow"}}]
        }))
        .unwrap();
        validate::validate(&raw).unwrap().0
    }

    /// Checks a handler's output as inputs or outputs. Returns the enforced reason and the recorded
    /// ones.
    fn check(mode: &str, values: Values, x: [f32; 2], shape: i64) -> (Option<Reason>, Vec<Reason>) {
        let policy = policy(mode);
        let Accepts::Tensors(contract) = policy.models()[0].accepts() else {
            return (None, Vec::new());
        };
        let tensor = Tensor {
            name: "x".into(),
            datatype: "FP32".into(),
            shape: vec![shape],
            parameters: Vec::new(),
            data: Ok(x.map(f32::to_le_bytes).concat().into()),
        };
        let mut shadow = InShadow::new(policy.grants()[0].shadow(), Vec::new());
        let own = |denial: Denial| Denial::new(Reason::HandlerFault, denial.cause);
        let checked = shadow.check(values, contract.inputs(), &[tensor], own);
        let noted = shadow.noted().iter().map(|denial| denial.reason).collect();
        (checked.err().map(|denial| denial.reason), noted)
    }

    #[test]
    fn values_that_a_handler_makes_pass_where_their_kind_is_in_shadow() {
        use Reason::HandlerFault;
        let (good, wrong) = ([0.0, 1.0], [f32::NAN, 2.0]);
        let refused = (Some(HandlerFault), Vec::new());
        let noted = (None, vec![HandlerFault]);
        for (mode, values, x, shape, expected) in [
            ("values", Values::Inputs, good, 2, (None, Vec::new())),
            ("values", Values::Inputs, wrong, 2, noted.clone()),
            ("values", Values::Outputs, wrong, 2, refused.clone()),
            ("outputs", Values::Outputs, wrong, 2, noted),
            ("outputs", Values::Inputs, wrong, 2, refused.clone()),
            ("default", Values::Inputs, good, 3, refused.clone()),
            ("default", Values::Outputs, wrong, 1, refused),
        ] {
            assert_eq!(check(mode, values, x, shape), expected, "{mode} {values:?}");
        }
    }
}
