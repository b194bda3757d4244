//! The decision on one request, as a state machine without I/O: `begin`, `body`, `message` and
//! `check`, with `charged` and `acquired` in between. A request is charged once its grant is known,
//! and its content once that is validated.
//!
//! A driver feeds facts in and executes steps:
//!
//! | step | what the driver does | then calls |
//! |---|---|---|
//! | [`Step::Deny`] | responds, logs | – |
//! | [`Step::Answer`] | answers a server-level request itself | – |
//! | [`Step::Charge`] | charges limits | [`Decision::charged`] |
//! | [`Step::Acquire`] | acquires concurrency permits | [`Decision::acquired`] |
//! | [`Step::ReadBody`] | buffers the body, finds the addressee | [`Decision::body`] |
//! | [`Step::ReadMessages`] | forwards the head, reads messages | [`Decision::of_message`] |
//! | [`Step::Decode`] | decodes the body | [`Decision::message`] |
//! | [`Step::Check`] | – | [`Decision::check`] |
//! | [`Step::Forward`] | forwards the request | – |
//!
//! A body larger than [`BodyPlan::hold_bytes`] may be streamed; a driver that may wait for limits
//! buffers it whole ([`BodyPlan::buffered`]). Once the head of a body that streams has arrived, the
//! same steps use the announced sizes, with [`Decision::head_of_body`] in place of `body` and
//! [`Decision::check_head`] in place of `check`. Their [`Step::Forward`] means that the head may be
//! forwarded. Then [`Decision::pass`] validates each part, and [`Decision::passed`] gives the
//! verdict at the end. A complete body that is in memory in pieces is validated in parts, too, by a
//! [`PartsCheck`] in place of `check`.
//!
//! A stream of inferences is many requests with one head. The head is evaluated once. Each message
//! has its own decision, which continues from the head's, with its own charges and verdict. The
//! message is its body.
//!
//! A denial is final: every later call returns the same denial. A call out of order is a bug of the
//! driver; the decision then denies with `overloaded`, the reason for every internal failure.
//!
//! The decision never reads a clock, charges, decodes or responds; the driver does.

mod charges;
mod checks;
mod content;
mod drive;
pub mod global;
mod maker;
mod parts;
mod permits;
mod plan;
mod step;

use alloc::vec::Vec;

use smallvec::SmallVec;
use tensorgate_values::tensor::InferRequest;
use tensorgate_values::{Scope, getters};

use crate::contract::{Contract, Elements, OutputScope, Part, RequestCost, StreamingCheck};
use crate::denial::{Denial, Reason};
use crate::policy::{
    Accepts, Allowance, ClientId, GrantId, Model, ModelId, Policy, RemainingQuota, Shadow, Unit,
};
use crate::request::{
    Api, CallerDigests, Head, Operation, Operations, Proofs, Protocol, RequestHash, Route,
};

use charges::Limited;
use content::{Received, answered_in_json, deny_or_note};
use plan::{buffered_plan, grpc_plan, rest_plan};
use step::{foreign_policy, out_of_order};

pub use drive::{decide_body, decide_head, decide_message};
pub use maker::{BodySeen, FilterWork, Maker, maker_of_charge, maker_of_permit};
pub use parts::PartsCheck;
pub use plan::ReadBy;
pub use step::{
    Acquire, AcquireOutcome, Addressee, BodyFormat, BodyPlan, Charge, ChargeOutcome, Expansion,
    LimitCharge, PermitRequest, PermitScope, PermitUnit, SLOT_PREFIX, Step,
};

/// Decision on one request. It belongs to one [`Policy`], which every call must pass.
#[derive(Clone, Debug)]
pub struct Decision {
    client: Option<ClientId>,
    /// Proofs that the caller has provided.
    proofs: Proofs,
    /// Operations that the credential does not allow.
    withheld: Operations,
    /// End user and source.
    caller: CallerDigests,
    /// Selects among versions.
    request_hash: RequestHash,
    grant: Option<GrantId>,
    model: Option<ModelId>,
    version: Option<u32>,
    operation: Option<Operation>,
    protocol: Protocol,
    denial: Option<Denial>,
    stage: Stage,
    /// How the body is read, once that is known.
    plan: BodyPlan,
    /// Declared length of the body, in bytes.
    declared: Option<u64>,
    /// Whether a body comes in chunks.
    chunked: bool,
    /// Length of the body, once it is complete or announced by its head.
    body_bytes: u64,
    /// Whether the body is streamed, with its head evaluated first.
    streamed: bool,
    /// Validation of streamed elements, in [`Stage::Streaming`].
    streaming: Option<StreamingCheck>,
    /// Quotas of the charged limits.
    charged_quotas: Charged,
    /// Denials that the grant's shadow mode let pass.
    shadowed: Vec<Denial>,
}

/// Limits that were charged, and their quotas.
type Charged = SmallVec<[(Allowance, RemainingQuota); 1]>;

/// The call that may come next. A denial is stored separately: it answers every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// [`Decision::charged`], for the request.
    Charge(After, Scope),
    /// [`Decision::charged`], for validated content; then the request is forwarded.
    ChargeContent(RequestCost, Limited),
    /// [`Decision::acquired`].
    Acquire(After),
    /// [`Decision::body`].
    Body,
    /// [`Decision::of_message`], once per message.
    Messages,
    /// [`Decision::message`].
    Message,
    /// [`Decision::check`] or [`Decision::check_head`].
    Check,
    /// [`Decision::pass`] or [`Decision::passed`].
    Streaming,
    /// None: forwarded, answered or denied.
    Over,
}

/// What named the model, and thus what follows the charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// The head; then the body is read.
    Head,
    /// The whole body; then it is decoded.
    Body,
    /// The decoded message; then it is validated.
    Message,
}

getters! { Decision {
    /// The client, once known.
    client: Option<ClientId>,
    /// Proofs that the caller has provided.
    proofs: Proofs,
    /// The grant, once found.
    grant: Option<GrantId>,
    /// The model, once granted.
    model: Option<ModelId>,
    /// The operation, once the route is known.
    operation: Option<Operation>,
    /// Protocol of the response.
    protocol: Protocol,
    /// Declared length of the body, in bytes.
    declared: Option<u64>,
    /// The denial, if any.
    denial: Option<&Denial>,
    /// Denials that the grant's shadow mode let pass: the first of each reason.
    shadowed: &[Denial],
} }

impl Decision {
    /// Evaluates a head.
    pub fn begin(policy: &Policy, head: &Head<'_>) -> (Self, Step) {
        let mut decision = Self {
            client: None,
            proofs: head.proofs,
            withheld: head.withheld,
            caller: head.caller,
            request_hash: head.request_hash,
            grant: None,
            model: None,
            version: None,
            operation: None,
            protocol: head.route.protocol(),
            denial: None,
            stage: Stage::Over,
            plan: buffered_plan(policy, BodyFormat::Empty),
            declared: head.content_length,
            chunked: head.chunked,
            body_bytes: 0,
            streamed: false,
            streaming: None,
            charged_quotas: Charged::new(),
            shadowed: Vec::new(),
        };
        let step = decision.head(policy, head);
        let step = decision.latch(Some(policy), step);
        (decision, step)
    }

    /// Continues after a charge.
    pub fn charged(&mut self, policy: &Policy, outcome: ChargeOutcome) -> Step {
        let step = if let Stage::Charge(after, scope) = self.stage {
            self.apply_charge(policy, Limited::Grant(scope), None, outcome)
                .and_then(|()| self.request_charged(policy, after, scope))
        } else if let Stage::ChargeContent(cost, limited) = self.stage {
            self.apply_charge(policy, limited, Some(cost), outcome)
                .and_then(|()| self.charge_content_from(policy, cost, limited.next()))
        } else {
            Err(out_of_order("charged"))
        };
        self.latch(Some(policy), step)
    }

    /// Continues after an acquisition of concurrency permits.
    pub fn acquired(&mut self, policy: &Policy, outcome: &AcquireOutcome) -> Step {
        let step = if let Stage::Acquire(after) = self.stage {
            permits::acquire_result(outcome).and_then(|()| self.charge_callers(policy, after))
        } else {
            Err(out_of_order("acquired"))
        };
        self.latch(Some(policy), step)
    }

    /// Continues once the body is complete: `bytes` of it, framing included, and expanded if it was
    /// compressed. These count as in flight. `addressee` is the model that the body names, if that
    /// is known without decoding. Then nothing is decoded for a request without a grant or quota.
    pub fn body(
        &mut self,
        policy: &Policy,
        bytes: usize,
        addressee: Option<Addressee<'_>>,
    ) -> Step {
        let step = if self.stage == Stage::Body {
            self.body_bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            self.complete_body(policy, addressee)
        } else {
            Err(out_of_order("body"))
        };
        self.latch(Some(policy), step)
    }

    /// As [`Self::body`], for a body that is too large to buffer, once its head has arrived.
    /// `bytes` is the announced size; the rest is streamed.
    pub fn head_of_body(
        &mut self,
        policy: &Policy,
        bytes: usize,
        addressee: Option<Addressee<'_>>,
    ) -> Step {
        self.streamed = true;
        self.body(policy, bytes, addressee)
    }

    /// Denies for a cause that the driver found, such as a body over its limit or an undecodable
    /// body. The first denial stays.
    pub fn refuse(&mut self, policy: &Policy, denial: Denial) -> Step {
        self.latch(Some(policy), Err(denial))
    }

    /// Evaluates the addressee of a decoded message, for gRPC.
    pub fn message(&mut self, policy: &Policy, request: &InferRequest<'_>) -> Step {
        let step = if self.stage == Stage::Message {
            self.addressee(policy, request)
        } else {
            Err(out_of_order("message"))
        };
        self.latch(Some(policy), step)
    }

    /// Validates the decoded message against the model's contract.
    pub fn check(&mut self, policy: &Policy, request: &InferRequest<'_>) -> Step {
        let step = if self.stage == Stage::Check {
            self.content(policy, request)
        } else {
            Err(out_of_order("check"))
        };
        self.latch(Some(policy), step)
    }

    /// Validates the head of a message whose elements follow; `elements` says where each input's
    /// are. The content is charged then. An invalid element later gives no refund, so faults do not
    /// make requests cheaper.
    pub fn check_head(
        &mut self,
        policy: &Policy,
        request: &InferRequest<'_>,
        elements: &[Elements],
    ) -> Step {
        let step = if self.stage == Stage::Check {
            self.head_of_content(policy, request, elements)
        } else {
            Err(out_of_order("check_head"))
        };
        self.latch(Some(policy), step)
    }

    /// Validates a part. [`Step::Forward`]: the part may be forwarded.
    pub fn pass(&mut self, policy: &Policy, part: Part<'_>) -> Step {
        let shadow = self.shadow(policy);
        let step = match (self.stage, self.streaming.as_mut()) {
            (Stage::Streaming, Some(passing)) => contract(policy, self.model)
                .and_then(|contract| {
                    contract.check_part(passing, part, &mut |denial| {
                        deny_or_note(shadow, &mut self.shadowed, denial)
                    })
                })
                .map(|()| Step::Forward),
            _ => Err(out_of_order("pass")),
        };
        self.latch(Some(policy), step)
    }

    /// Ends a streamed body. [`Step::Forward`]: the request is allowed.
    pub fn passed(&mut self) -> Step {
        let over = (self.streaming.take()).is_some_and(|passing| passing.is_over());
        let step = if self.stage == Stage::Streaming && over {
            self.stage = Stage::Over;
            Ok(Step::Forward)
        } else {
            Err(out_of_order("passed"))
        };
        self.latch(None, step)
    }

    /// The decision of the next message, which continues with [`Decision::body`]. It is final if no
    /// stream is open.
    #[must_use]
    pub fn of_message(&self) -> Self {
        let stage = if self.stage == Stage::Messages {
            Stage::Body
        } else {
            Stage::Over
        };
        Self {
            stage,
            ..self.clone()
        }
    }

    /// The version, once granted; always explicit.
    pub fn version<'p>(&self, policy: &'p Policy) -> Option<&'p str> {
        let index = usize::try_from(self.version?).ok()?;
        Some(policy.model(self.model?)?.versions().get(index)?.as_str())
    }

    /// Information of the model that a decoder needs, once the model is known.
    pub fn read_by<'p>(&self, policy: &'p Policy) -> ReadBy<'p> {
        let model = self.model.and_then(|id| policy.model(id));
        ReadBy {
            inputs: match model.map(Model::accepts) {
                Some(Accepts::Tensors(contract)) => contract.inputs(),
                Some(Accepts::Raw { .. } | Accepts::OpenAi(_)) | None => &[],
            },
            template: model.and_then(Model::template).map(|template| &**template),
            only_checks: false,
        }
    }

    /// Quotas of the charged limits on requests, in order.
    pub fn request_quotas(&self) -> impl Iterator<Item = RemainingQuota> + '_ {
        self.charged_quotas
            .iter()
            .filter(|(allowance, _)| allowance.unit == Unit::Requests)
            .map(|(_, quota)| *quota)
    }

    /// Whether the bytes of a raw body are checked, because its model restricts the file types.
    pub fn reads_raw(&self, policy: &Policy) -> bool {
        let model = self.granted(policy);
        model.is_ok_and(|model| matches!(model.accepts(), Accepts::Raw { media: Some(_), .. }))
    }

    /// Stores the first denial. It reports every limit that was charged before.
    fn latch(&mut self, policy: Option<&Policy>, step: Result<Step, Denial>) -> Step {
        if let Some(denial) = &self.denial {
            return Step::Deny(denial.clone());
        }
        match step {
            Ok(step) => step,
            Err(denial) => {
                let mut denial = self.unlisted(denial);
                denial.rates = policy.map_or_else(Vec::new, |policy| self.rate_notes(policy));
                self.stage = Stage::Over;
                self.denial = Some(denial.clone());
                Step::Deny(denial)
            }
        }
    }

    /// Statistics and custom model paths look like unknown routes to clients without a grant.
    fn unlisted(&self, denial: Denial) -> Denial {
        let hidden = self.operation == Some(Operation::Statistics)
            || (self.protocol, self.operation) == (Protocol::Json, Some(Operation::Infer));
        if hidden && denial.reason == Reason::NotGranted {
            return Denial {
                reason: Reason::NotAnInferenceRoute,
                ..denial
            };
        }
        denial
    }

    /// Evaluates the headers, in the order of [`Reason`].
    fn head(&mut self, policy: &Policy, head: &Head<'_>) -> Result<Step, Denial> {
        checks::readable(policy, head)?;
        self.client = checks::client(policy, head)?;
        match &head.route {
            Route::Unknown { .. } => Err(checks::no_route(head)),
            Route::WrongMethod { allow, .. } => Err(Denial {
                allow: Some(allow),
                ..Denial::new(
                    Reason::MethodNotAllowed,
                    alloc::format!("the route allows {allow} only"),
                )
            }),
            Route::Server { protocol, question } => {
                checks::media_type(policy, head, *protocol, None)?;
                checks::encoding(policy, head, None)?;
                checks::no_binary_data(head)?;
                checks::may_ask(policy, head, self.client, *question)?;
                if !protocol.is_grpc() {
                    self.fits()?;
                }
                Ok(Step::Answer(*protocol, *question))
            }
            Route::OpenAi { api } => self.open_ai(policy, head, *api),
            Route::Model {
                protocol,
                operation,
                model,
                version,
            } => {
                self.operation = Some(*operation);
                if *operation == Operation::Statistics {
                    checks::reaches(policy, self.client, *protocol, *operation)?;
                }
                if let (Protocol::Json, Some(model)) = (protocol, model) {
                    checks::in_scope(head.withheld, *operation)?;
                    self.resolve(policy, model, version.as_deref())?;
                }
                checks::media_type(policy, head, *protocol, Some(*operation))?;
                checks::encoding(policy, head, Some(*operation))?;
                checks::binary_data(head, *protocol, *operation)?;
                checks::in_scope(head.withheld, *operation)?;
                match (protocol.is_grpc(), model, version) {
                    (false, Some(model), version) => {
                        self.resolve(policy, model, version.as_deref())?;
                        let model = self.model.ok_or_else(foreign_policy)?;
                        self.plan = rest_plan(policy, head, model, (*protocol, *operation))?;
                        self.charge_request(policy, After::Head)
                    }
                    (true, None, None) => {
                        checks::reaches(policy, self.client, *protocol, *operation)?;
                        self.plan = grpc_plan(policy, head, *protocol, *operation)?;
                        if head.route.is_stream() {
                            return self.open(policy);
                        }
                        self.read_body()
                    }
                    _ => Err(Denial::new(
                        Reason::NotGranted,
                        "the route does not say where the model is named",
                    )),
                }
            }
        }
    }

    /// Whether the body and not the path names the model. The path of OpenAI's `/v1/models/NAME`
    /// does, and no body may follow.
    fn body_names_model(&self) -> bool {
        self.protocol.body_names_model() && self.plan.format != BodyFormat::Empty
    }

    /// Evaluates the addressee of a whole body.
    fn complete_body(
        &mut self,
        policy: &Policy,
        addressee: Option<Addressee<'_>>,
    ) -> Result<Step, Denial> {
        match (self.body_names_model(), addressee) {
            (false, None) => self.acquire_permits(policy, After::Body),
            (false, Some(_)) => Err(named_twice()),
            // Nothing is decoded before it is charged.
            (true, None) if self.protocol == Protocol::OpenAi => Err(no_model_named()),
            (true, None) => self.proceed(After::Body),
            (true, Some(named)) => {
                self.asks_pieces(named.streams)?;
                self.resolve(policy, &named.model, named.version.as_deref())?;
                self.charge_request(policy, After::Body)
            }
        }
    }

    /// Evaluates the addressee of the message.
    fn addressee(&mut self, policy: &Policy, request: &InferRequest<'_>) -> Result<Step, Denial> {
        let named = (request.model.as_deref(), request.version.as_deref());
        match (self.body_names_model(), named, self.model) {
            (false, (None, None), _) => self.proceed(After::Message),
            // The body may repeat the path's model and the version that answers, as KServe's client
            // does, but not name others.
            (false, (name, version), Some(known)) => {
                let model = policy.model(known).map(Model::name);
                if name.is_some() && name != model {
                    return Err(named_twice());
                }
                if version.is_some() && version != self.version(policy) {
                    return Err(another_version());
                }
                self.proceed(After::Message)
            }
            (false, _, None) => Err(named_twice()),
            (true, (None, _), _) => Err(no_model_named()),
            (true, (Some(model), version), None) => {
                self.asks_pieces(request.streams())?;
                self.resolve(policy, model, version)?;
                self.charge_request(policy, After::Message)
            }
            (true, (Some(model), version), Some(known)) => {
                let known = (Some(known), self.version, self.grant, self.operation);
                self.asks_pieces(request.streams())?;
                self.resolve(policy, model, version)?;
                if (self.model, self.version, self.grant, self.operation) != known {
                    return Err(Denial::new(
                        Reason::Malformed,
                        "the message is for another model than its body named",
                    ));
                }
                self.proceed(After::Message)
            }
        }
    }

    /// The granted model.
    fn granted<'p>(&self, policy: &'p Policy) -> Result<&'p Model, Denial> {
        let model = self.model.and_then(|id| policy.model(id));
        model.ok_or_else(foreign_policy)
    }

    /// Validates the message.
    fn content(&mut self, policy: &Policy, request: &InferRequest<'_>) -> Result<Step, Denial> {
        let model = self.granted(policy)?;
        let (shadow, scope) = (self.shadow(policy), self.output_scope(policy));
        let received = Received {
            format: self.plan.format,
            bytes: self.body_bytes,
            request,
        };
        let cost = content::check(model, &scope, &received, &mut |denial| {
            deny_or_note(shadow, &mut self.shadowed, denial)
        })?;
        match cost {
            Some(cost) => self.charge_content(policy, cost),
            None => Ok(self.accept()),
        }
    }

    /// Validates the head of a message.
    fn head_of_content(
        &mut self,
        policy: &Policy,
        request: &InferRequest<'_>,
        elements: &[Elements],
    ) -> Result<Step, Denial> {
        let (model, contract) = (self.granted(policy)?, contract(policy, self.model)?);
        let (shadow, scope) = (self.shadow(policy), self.output_scope(policy));
        answered_in_json(self.plan.format, &scope, model, request)?;
        let passing = contract.check_head(&scope, request, elements, &mut |denial| {
            deny_or_note(shadow, &mut self.shadowed, denial)
        })?;
        self.streaming = Some(passing);
        let cost = contract.cost_of_head(request, elements, self.body_bytes);
        self.charge_content(policy, cost)
    }

    /// Outputs that the caller may request.
    fn output_scope<'p>(&self, policy: &'p Policy) -> OutputScope<'p> {
        let grant = self.grant.and_then(|id| policy.grant(id));
        let returns = (grant.zip(self.model)).and_then(|(grant, id)| grant.own_returns(id));
        OutputScope {
            narrowed: grant.map(|grant| &grant.narrowed),
            returns,
        }
    }

    /// The shadow mode of this request; none until its grant is found.
    fn shadow(&self, policy: &Policy) -> Shadow {
        let grant = self.grant.and_then(|id| policy.grant(id));
        grant.map(|grant| grant.shadow()).unwrap_or_default()
    }

    /// Evaluates the head of an OpenAI request. The body names the model.
    fn open_ai(&mut self, policy: &Policy, head: &Head<'_>, api: Api) -> Result<Step, Denial> {
        let (protocol, operation) = (Protocol::OpenAi, Operation::Infer);
        self.operation = Some(operation);
        checks::media_type(policy, head, protocol, Some(operation))?;
        // No model of this API accepts compressed bodies.
        checks::encoding(policy, head, None)?;
        checks::no_binary_data(head)?;
        let may = |operation| {
            checks::in_scope(head.withheld, operation)?;
            checks::reaches(policy, self.client, protocol, operation)
        };
        // The body determines which of the two it is.
        may(operation).or_else(|denial| match api.streams() {
            true => may(Operation::Stream).map_err(|_| denial),
            false => Err(denial),
        })?;
        self.plan = buffered_plan(policy, BodyFormat::OpenAi(api));
        self.read_body()
    }

    /// Sets the operation of a request whose body requests a streamed response.
    fn asks_pieces(&mut self, streams: bool) -> Result<(), Denial> {
        let BodyFormat::OpenAi(api) = self.plan.format else {
            return Ok(());
        };
        let operation = if streams && api.streams() {
            Operation::Stream
        } else {
            Operation::Infer
        };
        self.operation = Some(operation);
        checks::in_scope(self.withheld, operation)
    }

    /// Opens an accepted stream: its permits are still to be acquired.
    fn open(&mut self, policy: &Policy) -> Result<Step, Denial> {
        // A declared length covers all messages together and has no limit.
        self.declared = None;
        self.acquire_permits(policy, After::Head)
    }

    /// Marks the stream as open.
    fn opened(&mut self) -> Step {
        self.stage = Stage::Messages;
        Step::ReadMessages(self.plan)
    }

    /// Whether this is a stream of messages, or one of its messages. In other protocols a stream is
    /// one request with a streamed response.
    pub(super) fn of_stream(&self) -> bool {
        (self.protocol, self.operation) == (Protocol::OipGrpc, Some(Operation::Stream))
    }

    /// Rejects a declared length over the plan's limit before the body is read.
    fn fits(&self) -> Result<(), Denial> {
        if self.chunked && self.plan.format == BodyFormat::Empty {
            return Err(Denial::new(
                Reason::Malformed,
                "a transfer-encoding is set where no body is allowed",
            ));
        }
        let Some(declared) = self.declared else {
            return Ok(());
        };
        if usize::try_from(declared).map_or(true, |declared| declared > self.plan.max_bytes) {
            return Err(Denial::new(
                Reason::BodyTooLarge,
                alloc::format!(
                    "{declared} bytes are declared, {} are allowed",
                    self.plan.max_bytes
                ),
            ));
        }
        if self.plan.format == BodyFormat::Empty && declared > 0 {
            return Err(Denial::new(
                Reason::Malformed,
                alloc::format!("{declared} bytes are declared where no body is allowed"),
            ));
        }
        Ok(())
    }

    /// Accepts what has arrived: the whole request, or the head of a streamed body.
    const fn accept(&mut self) -> Step {
        self.stage = if self.streaming.is_some() {
            Stage::Streaming
        } else {
            Stage::Over
        };
        Step::Forward
    }

    /// Finds the single grant for this client, model, version and operation.
    fn resolve(
        &mut self,
        policy: &Policy,
        model: &str,
        version: Option<&str>,
    ) -> Result<(), Denial> {
        let (Some(client), Some(operation)) = (self.client, self.operation) else {
            return Err(foreign_policy());
        };
        let named = (model, version);
        let granted = checks::grant(
            policy,
            client,
            self.protocol,
            operation,
            named,
            self.request_hash,
        )?;
        checks::proven(policy, granted.model, self.proofs)?;
        checks::takes(policy, granted.model, self.plan.format)?;
        self.model = Some(granted.model);
        self.version = Some(granted.version);
        self.grant = Some(granted.grant);
        checks::coded(policy, granted.model, self.plan.expansion)
    }

    fn read_body(&mut self) -> Result<Step, Denial> {
        self.fits()?;
        self.stage = Stage::Body;
        Ok(Step::ReadBody(self.plan))
    }

    /// The step after the charges.
    fn proceed(&mut self, after: After) -> Result<Step, Denial> {
        match after {
            After::Head if self.of_stream() => Ok(self.opened()),
            After::Head => self.read_body(),
            After::Body => {
                self.stage = Stage::Message;
                Ok(Step::Decode)
            }
            After::Message => {
                self.stage = Stage::Check;
                Ok(Step::Check)
            }
        }
    }
}

/// Contract of a model that takes tensors.
fn contract(policy: &Policy, model: Option<ModelId>) -> Result<&Contract, Denial> {
    match model.and_then(|id| policy.model(id)).map(Model::accepts) {
        Some(Accepts::Tensors(contract)) => Ok(contract),
        _ => Err(foreign_policy()),
    }
}

/// The body must name a model and does not.
fn no_model_named() -> Denial {
    Denial::new(Reason::NotGranted, "the message names no model")
}

/// The route and the body both name a model, possibly two different ones.
fn named_twice() -> Denial {
    Denial::with_field(
        Reason::Malformed,
        "model_name",
        "the body names another model than its route does",
    )
}

/// The body names a version, and another one answers.
fn another_version() -> Denial {
    Denial::with_field(
        Reason::Malformed,
        "model_version",
        "the body names another version than the one that answers",
    )
}

#[cfg(test)]
mod tests;
