//! One request's decision, as a machine without I/O: `begin → body → message → check`, with `charged` and `acquired` in between. A request is
//! charged once its grant is known, and for what it carries once that is checked.
//!
//! A driver feeds facts in and carries steps out:
//!
//! | step | what the driver does | then calls |
//! |---|---|---|
//! | [`Step::Deny`] | answers, logs | – |
//! | [`Step::Answer`] | answers a server-level question itself | – |
//! | [`Step::Charge`] | spends from limits | [`Decision::charged`] |
//! | [`Step::Acquire`] | takes places in flight | [`Decision::acquired`] |
//! | [`Step::ReadBody`] | buffers the whole body up to its bound, looks whom it is for | [`Decision::body`] |
//! | [`Step::ReadMessages`] | sends the head on, reads a stream message by message | [`Decision::of_message`] |
//! | [`Step::Decode`] | decodes the body | [`Decision::message`] |
//! | [`Step::Check`] | – | [`Decision::check`] |
//! | [`Step::Forward`] | sends the request on | – |
//!
//! A body larger than [`BodyPlan::hold_bytes`] is not held: once its head is there, the same steps are taken with what that
//! announces, with [`Decision::head_of_body`] in place of `body` and [`Decision::check_head`] in place of `check`; a charge that is
//! [`ChargeOutcome::Later`] is told by [`Decision::charged_late`] before the end. Its [`Step::Forward`] means that the head may go on; then
//! every part that passes is judged by [`Decision::pass`], and the end by [`Decision::passed`], whose [`Step::Forward`] is the verdict.
//!
//! A stream of inferences is many requests under one head: that is judged once, and every message by a decision of its own that begins where
//! the head's ended, with its own charges and its own verdict. Its body is the message.
//!
//! Once denied, always denied: every later call answers the same denial. A call that comes out of order is a driver's
//! fault; the machine cannot decide then and so denies with `overloaded`, the reason of every failure of the gate itself.
//!
//! It never reads a clock, spends, decodes or answers: those are the driver's.

mod content;
mod drive;
mod driver_fault;
mod facts;
mod gate;
mod passing;
mod places;
mod plan;
mod shadow;
mod spend;
mod step;
mod stream;

use alloc::vec::Vec;

use crate::contract::{Carried, Passing};
use crate::denial::{Denial, Reason};
use crate::draw::Draw;
use crate::policy::{Allowance, ClientId, GrantId, Level, ModelId, Policy};
use crate::raw::Scope;
use crate::request::{Head, Operation, Operations, Proofs, Protocol, Route};
use crate::tensor::InferRequest;

use driver_fault::{foreign_policy, out_of_order};
use plan::{grpc_plan, held_plan};

pub use drive::{decide_body, decide_head, decide_message};
pub use facts::ReadBy;
pub use step::{
    Acquire, AcquireOutcome, Addressee, BodyFormat, BodyPlan, Charge, ChargeOutcome, Debit,
    Expansion, Place, PlaceScope, PlaceUnit, Step,
};

/// One request's decision. Belongs to one [`Policy`], which every call takes again.
#[derive(Clone, Debug)]
pub struct Decision {
    client: Option<ClientId>,
    /// By what the caller has proven that it is the client.
    proofs: Proofs,
    /// What its credential does not extend to.
    withheld: Operations,
    /// What picks among versions.
    draw: Draw,
    grant: Option<GrantId>,
    model: Option<ModelId>,
    version: Option<u32>,
    operation: Option<Operation>,
    protocol: Protocol,
    denial: Option<Denial>,
    stage: Stage,
    /// How the body is read, once nothing stands before it.
    plan: BodyPlan,
    /// The body's declared length, bytes.
    declared: Option<u64>,
    /// The body's length, once it is whole, or announced by its head.
    body_bytes: u64,
    /// Whether the body passes in pieces, its head judged first.
    in_pieces: bool,
    /// The elements that are passing, in [`Stage::Passing`].
    passing: Option<Passing>,
    /// What the limits had that were charged.
    levels: Vec<(Allowance, Level)>,
    /// Charges whose outcome is still to be told, of a body that passes: for the request, or for what it carries.
    later: Vec<Option<Carried>>,
    /// What would have refused it but for its grant's mode.
    shadowed: Vec<Denial>,
}

/// Which call may come next. A denial is kept apart: it answers every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// [`Decision::charged`], for the request, with limits of one scope.
    Charge(After, Scope),
    /// [`Decision::charged`], for what it carries, which is checked; then it is sent on.
    ChargeContent(Carried, Scope),
    /// [`Decision::acquired`].
    Acquire(After),
    /// [`Decision::body`].
    Body,
    /// [`Decision::of_message`], as often as one comes.
    Messages,
    /// [`Decision::message`].
    Message,
    /// [`Decision::check`] or [`Decision::check_head`].
    Check,
    /// [`Decision::pass`] or [`Decision::passed`].
    Passing,
    /// None: forwarded, answered or refused.
    Over,
}

/// What named the model, and so what is charged after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// The head; then the body is read.
    Head,
    /// The whole body; then it is decoded.
    Body,
    /// The decoded message; then it is checked.
    Message,
}

impl Decision {
    /// Judges a head.
    pub fn begin(policy: &Policy, head: &Head<'_>) -> (Self, Step) {
        let mut decision = Self {
            client: None,
            proofs: head.proofs,
            withheld: head.withheld,
            draw: head.draw,
            grant: None,
            model: None,
            version: None,
            operation: None,
            protocol: head.route.protocol(),
            denial: None,
            stage: Stage::Over,
            plan: held_plan(policy, BodyFormat::Empty),
            declared: head.content_length,
            body_bytes: 0,
            in_pieces: false,
            passing: None,
            levels: Vec::new(),
            later: Vec::new(),
            shadowed: Vec::new(),
        };
        let step = decision.head(policy, head);
        let step = decision.latch(Some(policy), step);
        (decision, step)
    }

    /// Goes on after a charge.
    pub fn charged(&mut self, policy: &Policy, outcome: ChargeOutcome) -> Step {
        let step = match self.stage {
            Stage::Charge(after, Scope::Local) => self
                .spent(policy, Scope::Local, None, outcome)
                .and_then(|()| self.enter(policy, after)),
            Stage::Charge(after, Scope::Global) => self
                .spent(policy, Scope::Global, None, outcome)
                .and_then(|()| self.proceed(after)),
            Stage::ChargeContent(carried, scope) => self
                .spent(policy, scope, Some(carried), outcome)
                .and_then(|()| self.paid_content(policy, carried, scope)),
            _ => Err(out_of_order("charged")),
        };
        self.latch(Some(policy), step)
    }

    /// Whether a charge is not told yet that was [`ChargeOutcome::Later`].
    pub fn owes(&self) -> bool {
        !self.later.is_empty()
    }

    /// What a charge came to that was [`ChargeOutcome::Later`]. [`Step::Forward`]: as far as that goes, the rest may pass.
    pub fn charged_late(
        &mut self,
        policy: &Policy,
        charge: &Charge,
        outcome: ChargeOutcome,
    ) -> Step {
        let content = charge.is_of_content();
        let mut later = self.later.iter();
        let step = match later.position(|carried| carried.is_some() == content) {
            Some(place) if outcome != ChargeOutcome::Later => {
                let carried = self.later.remove(place);
                self.spent(policy, Scope::Global, carried, outcome)
                    .map(|()| Step::Forward)
            }
            _ => Err(out_of_order("charged_late")),
        };
        self.latch(Some(policy), step)
    }

    /// Goes on after places in flight were asked for.
    pub fn acquired(&mut self, policy: &Policy, outcome: &AcquireOutcome) -> Step {
        let step = match self.stage {
            Stage::Acquire(after) => {
                places::placed(outcome).and_then(|()| self.pay_globally(policy, after))
            }
            _ => Err(out_of_order("acquired")),
        };
        self.latch(Some(policy), step)
    }

    /// Goes on once the body is whole: `bytes` of it, framing included. `addressee` is whom it is for, where the body names the
    /// model and that can be told without decoding it: then nothing is decoded for whom no grant or no bucket lets in.
    pub fn body(
        &mut self,
        policy: &Policy,
        bytes: usize,
        addressee: Option<Addressee<'_>>,
    ) -> Step {
        let step = match self.stage {
            Stage::Body => {
                // Of a compressed one, what it may become: that is what stands behind the gate while it is in flight.
                let becomes = self
                    .plan
                    .expansion
                    .map_or(bytes, |expansion| expansion.most(bytes));
                self.body_bytes = u64::try_from(becomes).unwrap_or(u64::MAX);
                self.whole(policy, addressee)
            }
            _ => Err(out_of_order("body")),
        };
        self.latch(Some(policy), step)
    }

    /// The same for a body that is too large to be held, once its head is in: `bytes` is what that announces, and the rest is to pass in
    /// pieces.
    pub fn head_of_body(
        &mut self,
        policy: &Policy,
        bytes: usize,
        addressee: Option<Addressee<'_>>,
    ) -> Step {
        self.in_pieces = true;
        self.body(policy, bytes, addressee)
    }

    /// Refuses for a cause that the driver found (a body over its bound, bytes that do not decode). The first refusal
    /// stays.
    pub fn refuse(&mut self, policy: &Policy, denial: Denial) -> Step {
        self.latch(Some(policy), Err(denial))
    }

    /// Judges whom a decoded message is for: gRPC names the model there.
    pub fn message(&mut self, policy: &Policy, request: &InferRequest<'_>) -> Step {
        let step = match self.stage {
            Stage::Message => self.addressee(policy, request),
            _ => Err(out_of_order("message")),
        };
        self.latch(Some(policy), step)
    }

    /// Checks the decoded message against the model's contract.
    pub fn check(&mut self, policy: &Policy, request: &InferRequest<'_>) -> Step {
        let step = match self.stage {
            Stage::Check => self.content(policy, request),
            _ => Err(out_of_order("check")),
        };
        self.latch(Some(policy), step)
    }

    /// The first denial answers for good. It tells of every limit that was charged before it.
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

    /// Statistics, and a path of a model's own, are no route to whom they are not granted, as they are none where nobody grants them.
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

    /// What the headers decide, in the order of [`Reason`].
    fn head(&mut self, policy: &Policy, head: &Head<'_>) -> Result<Step, Denial> {
        gate::readable(policy, head)?;
        self.client = gate::client(policy, head)?;
        match &head.route {
            Route::Unknown { .. } => Err(Denial::new(
                Reason::NotAnInferenceRoute,
                "no rule names this method and path",
            )),
            Route::WrongMethod { allow, .. } => Err(Denial {
                allow: Some(allow),
                ..Denial::new(
                    Reason::MethodNotAllowed,
                    alloc::format!("the route allows {allow} only"),
                )
            }),
            Route::Server { protocol, question } => {
                gate::media_type(policy, head, *protocol, None)?;
                gate::encoding(policy, head, None)?;
                gate::no_binary_data(head)?;
                gate::may_ask(policy, head, self.client, *question)?;
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
                    gate::reaches(policy, self.client, *protocol, *operation)?;
                }
                if let (Protocol::Json, Some(model)) = (protocol, model) {
                    gate::in_scope(head.withheld, *operation)?;
                    self.resolve(policy, model, version.as_deref())?;
                }
                gate::media_type(policy, head, *protocol, Some(*operation))?;
                gate::encoding(policy, head, Some(*operation))?;
                gate::binary_data(head, *protocol, *operation)?;
                gate::in_scope(head.withheld, *operation)?;
                match (protocol.is_grpc(), model, version) {
                    (false, Some(model), version) => {
                        self.resolve(policy, model, version.as_deref())?;
                        self.plan = self.rest_plan(policy, head)?;
                        self.pay(policy, After::Head)
                    }
                    (true, None, None) => {
                        gate::reaches(policy, self.client, *protocol, *operation)?;
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

    /// Whom a whole body is for.
    fn whole(&mut self, policy: &Policy, addressee: Option<Addressee<'_>>) -> Result<Step, Denial> {
        match (self.protocol.body_names_model(), addressee) {
            (false, None) => self.enter(policy, After::Body),
            (false, Some(_)) => Err(named_twice()),
            // Nothing is decoded for which nobody pays.
            (true, None) if self.protocol == Protocol::OpenAi => Err(nobody()),
            (true, None) => self.proceed(After::Body),
            (
                true,
                Some(Addressee {
                    model,
                    version,
                    streams,
                }),
            ) => {
                self.asks_pieces(streams)?;
                self.resolve(policy, &model, version.as_deref())?;
                self.pay(policy, After::Body)
            }
        }
    }

    /// Whom the message is for.
    fn addressee(&mut self, policy: &Policy, request: &InferRequest<'_>) -> Result<Step, Denial> {
        let named = (request.model.as_deref(), request.version.as_deref());
        match (self.protocol.body_names_model(), named, self.model) {
            (false, (None, None), _) => self.proceed(After::Message),
            // It may say again what the path says, as KServe's client does, and nothing else.
            (false, (Some(name), None), Some(known))
                if policy
                    .model(known)
                    .is_some_and(|model| model.name() == name) =>
            {
                self.proceed(After::Message)
            }
            (false, ..) => Err(named_twice()),
            (true, (None, _), _) => Err(nobody()),
            (true, (Some(model), version), None) => {
                self.asks_pieces(request.streams())?;
                self.resolve(policy, model, version)?;
                self.pay(policy, After::Message)
            }
            (true, (Some(model), version), Some(known)) => {
                let known = (Some(known), self.version, self.grant, self.operation);
                self.asks_pieces(request.streams())?;
                self.resolve(policy, model, version)?;
                if (self.model, self.version, self.grant, self.operation) != known {
                    return Err(Denial::new(
                        Reason::Malformed,
                        "the message is for another model than its body was",
                    ));
                }
                self.proceed(After::Message)
            }
        }
    }

    /// All is judged that there is so far: sends on the whole, or the head of a body that passes in pieces.
    fn paid(&mut self) -> Result<Step, Denial> {
        self.stage = if self.passing.is_some() {
            Stage::Passing
        } else if self.later.is_empty() {
            Stage::Over
        } else {
            return Err(out_of_order("the end of a request that is not charged"));
        };
        Ok(Step::Forward)
    }

    /// Finds the one grant for this client, model, version and operation.
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
        let granted = gate::grant(policy, client, self.protocol, operation, named, self.draw)?;
        gate::proven(policy, granted.model, self.proofs)?;
        gate::takes(policy, granted.model, self.plan.format)?;
        self.model = Some(granted.model);
        self.version = Some(granted.version);
        self.grant = Some(granted.grant);
        gate::coded(policy, granted.model, self.plan.expansion)
    }

    fn read_body(&mut self) -> Result<Step, Denial> {
        self.fits()?;
        self.stage = Stage::Body;
        Ok(Step::ReadBody(self.plan))
    }

    /// What comes after the charges.
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

/// The body must name a model and does not.
fn nobody() -> Denial {
    Denial::new(Reason::NotGranted, "the message names no model")
}

/// A route and a body that both name a model could name two.
fn named_twice() -> Denial {
    Denial::with_field(
        Reason::Malformed,
        "model_name",
        "the body names another model than its route does",
    )
}

#[cfg(test)]
mod tests;
