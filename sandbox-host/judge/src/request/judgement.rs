//! The judgement of one body, in parts. It stops at a charge that has to be awaited, and goes on
//! with the outcome. Between two parts nothing borrows the body, so a part may run on another
//! thread.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use tensorgate_base::owned;
use tensorgate_base::payload::Payload;
use tensorgate_policy::decision::{Acquire, AcquireOutcome, BodyFormat, BodySeen};
use tensorgate_policy::policy::Model;
use tensorgate_policy::request::OCTET_STREAM;
use tensorgate_policy::{Charge, ChargeOutcome, Denial, InferRequest, Now, Step};
use tensorgate_wire::encode::AnswerForm;

use super::{
    AcceptedHead, Caller, DeniedBody, DeniedRequest, ModelRequest, Verifier, unfinished, wide,
};
use crate::document::Document;

/// The most steps of one part: each stage of a decision occurs once.
const MAX_STEPS: usize = 12;

/// Counts what requests use.
pub trait Counters: Send + Sync {
    /// Makes a charge, or says that it has to be awaited.
    fn charge(&self, charge: &Charge) -> Counted;

    /// Acquires concurrency permits, which the request keeps until it ends.
    fn acquire(&self, acquire: &Acquire) -> AcquireOutcome;
}

/// The result of a charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It was made.
    Done(ChargeOutcome),
    /// Another server counts this limit.
    Awaited,
}

/// Limits of which nothing is spent and nothing is in flight before a request: for tools that judge
/// one.
#[derive(Clone, Copy, Debug)]
pub struct Unspent(pub Now);

impl Counters for Unspent {
    fn charge(&self, charge: &Charge) -> Counted {
        let previews = charge.limit_charges.iter().map(|limit_charge| {
            let allowance = &limit_charge.allowance;
            allowance.consume(&allowance.fresh(), self.0, limit_charge.amount)
        });
        let quotas = previews.map(|preview| {
            preview.map(|preview| preview.after.map_or(preview.before, |(after, _)| after))
        });
        let quotas: Option<Vec<_>> = quotas.collect();
        Counted::Done(quotas.map_or(ChargeOutcome::Failed, ChargeOutcome::from_quotas))
    }

    fn acquire(&self, acquire: &Acquire) -> AcquireOutcome {
        let mut permits = acquire.permits.iter();
        match permits.find(|permit| permit.amount > permit.limit) {
            Some(full) => AcquireOutcome::Refused {
                scope: full.scope.clone(),
                unit: full.unit,
            },
            None => AcquireOutcome::Acquired,
        }
    }
}

/// The judgement of the body of an accepted head.
#[derive(Debug)]
pub struct BodyJudgement {
    head: AcceptedHead,
    body: Bytes,
    /// The step at which the next part begins; `None`: the body is unread.
    next: Option<Step>,
    /// The request, once it is checked.
    request: Option<Box<ModelRequest>>,
    /// Whether the body names a model, which is read before the body is decoded.
    body_names_model: bool,
    /// The caller's own ID, once decoded.
    id: Option<String>,
}

/// Where a part has ended.
#[derive(Debug)]
pub enum Progress {
    /// At a charge that has to be awaited. Its outcome goes to [`BodyJudgement::charged`].
    Charge(Charge),
    /// At the end: the request passed every check.
    Passed(Box<ModelRequest>),
}

impl BodyJudgement {
    /// Begins the judgement of a complete body.
    pub fn new(head: AcceptedHead, body: Bytes) -> Self {
        Self {
            head,
            body,
            next: None,
            request: None,
            body_names_model: false,
            id: None,
        }
    }

    /// Runs the next part. The data that the request keeps is part of the body, or copied once.
    ///
    /// # Errors
    /// Returns the denial. The judgement is over then.
    pub fn run(
        &mut self,
        verifier: &Verifier,
        counters: &dyn Counters,
    ) -> Result<Progress, Box<DeniedRequest>> {
        let ended = self.steps(verifier, counters);
        ended.map_err(|denial| self.denied(verifier, denial))
    }

    /// Continues with the outcome of the charge at which the last part has ended. Returns whether
    /// the next part decodes the body.
    pub fn charged(&mut self, verifier: &Verifier, outcome: ChargeOutcome) -> bool {
        let step = self.head.decision.charged(&verifier.policy, outcome);
        let decodes = matches!(step, Step::Decode);
        self.next = Some(step);
        decodes
    }

    /// A denial for another cause, such as a failed computation.
    pub fn denied(&self, verifier: &Verifier, denial: Denial) -> Box<DeniedRequest> {
        let AcceptedHead {
            decision,
            caller,
            charges,
            ..
        } = &self.head;
        let origin = charges.origin_of_body(&denial, wide(self.body.len()));
        let mut denied = verifier.denied(denial, decision.protocol(), caller.clone(), origin);
        let body = DeniedBody::new(&verifier.policy, decision);
        denied.body = DeniedBody {
            names_model: self.body_names_model || body.names_model,
            id: self.id.clone(),
            ..body
        };
        denied
    }

    fn steps(&mut self, verifier: &Verifier, counters: &dyn Counters) -> Result<Progress, Denial> {
        let policy = Arc::clone(&verifier.policy);
        let (plan, body) = (self.head.plan, self.body.clone());
        let seen = BodySeen::Body(wide(body.len()));
        // A checked request has copied what it keeps.
        let plain = match self.request {
            Some(_) => Cow::Borrowed(&[][..]),
            None => tensorgate_wire::expand(&plan, &*body)?,
        };
        let mut step = match self.next.take() {
            Some(step) => step,
            None => {
                let addressee = tensorgate_wire::addressee(plan.format, &plain)?;
                self.body_names_model = addressee.is_some();
                self.head.decision.body(&policy, plain.len(), addressee)
            }
        };
        let mut decoded = None;
        for _ in 0..MAX_STEPS {
            let AcceptedHead {
                decision, charges, ..
            } = &mut self.head;
            step = match step {
                Step::Deny(denial) => return Err(denial),
                Step::Charge(charge) => match charges.make(&charge, seen, counters) {
                    Counted::Done(outcome) => decision.charged(&policy, outcome),
                    Counted::Awaited => return Ok(Progress::Charge(charge)),
                },
                Step::Acquire(acquire) => {
                    let outcome = charges.acquire(acquire, seen, counters);
                    decision.acquired(&policy, &outcome)
                }
                Step::Decode => {
                    let by = decision.read_by(&policy);
                    match tensorgate_wire::decode(plan.format, &plain, by) {
                        Ok(request) => {
                            self.id = request.id.as_deref().map(str::to_owned);
                            decision.message(&policy, decoded.insert(request))
                        }
                        // The denial reports the limits that were charged.
                        Err(denial) => decision.refuse(&policy, denial),
                    }
                }
                Step::Check => {
                    // No charge is awaited between the two steps.
                    let request = decoded.take().ok_or_else(unfinished)?;
                    let step = decision.check(&policy, &request);
                    if !matches!(step, Step::Deny(_)) {
                        let request = self.checked(verifier, request, &body)?;
                        self.request = Some(Box::new(request));
                    }
                    step
                }
                Step::Forward => {
                    let mut request = self.request.take().ok_or_else(unfinished)?;
                    request.remaining_quota = decision.rate_notes(&policy);
                    request.shadowed = decision.shadowed().to_vec();
                    request.caller = std::mem::take(&mut self.head.caller);
                    return Ok(Progress::Passed(request));
                }
                Step::Answer(..) | Step::ReadBody(_) | Step::ReadMessages(_) => {
                    return Err(unfinished());
                }
            };
        }
        Err(unfinished())
    }

    /// A request that passed its contract, without the caller and without what its charges leave.
    fn checked(
        &mut self,
        verifier: &Verifier,
        mut request: InferRequest<'_>,
        body: &Bytes,
    ) -> Result<ModelRequest, Denial> {
        let policy = &verifier.policy;
        let AcceptedHead {
            caller,
            decision,
            plan,
            content_type,
            claims,
            key,
            ..
        } = &mut self.head;
        let (Some(model), Some(operation), Some(version)) = (
            decision.model(),
            decision.operation(),
            decision.version(policy),
        ) else {
            return Err(unfinished());
        };
        let checked_model = policy.model(model);
        let ignored = checked_model.map(|model| model.drop_ignored(&mut request));
        let template = checked_model.and_then(Model::template);
        let form = AnswerForm::of(&request).in_template(template.cloned());
        let InferRequest {
            model: _,
            version: _,
            id,
            parameters,
            inputs,
            outputs,
            body: file,
            body_type: file_type,
            binary_data_output: _,
            by_column: _,
            document,
        } = request;
        let document = Document::from_body(
            policy,
            model,
            plan.format,
            document,
            claims,
            key,
            caller.client.as_deref(),
        );
        let outputs = outputs.into_iter().map(|output| output.name.into_owned());
        let payload = match (plan.format, file) {
            (BodyFormat::Raw, _) => Payload::Raw {
                content_type: content_type
                    .take()
                    .unwrap_or_else(|| OCTET_STREAM.to_owned()),
                data: body.clone(),
            },
            // A TorchServe request with a file.
            (_, Some(file)) => Payload::Raw {
                content_type: file_type.map_or_else(|| OCTET_STREAM.to_owned(), Cow::into_owned),
                data: owned::slice_of(body, file),
            },
            // After decompression, no elements are part of the body.
            (_, None) => Payload::Tensors(owned::tensors(inputs, body)),
        };
        let grant = decision.grant();
        Ok(ModelRequest {
            caller: Caller::default(),
            protocol: decision.protocol(),
            operation,
            model,
            grant,
            version: version.to_owned(),
            id: id.map(Cow::into_owned),
            parameters: parameters.into_iter().map(owned::parameter).collect(),
            outputs: outputs.collect(),
            form,
            payload,
            remaining_quota: Vec::new(),
            shadowed: Vec::new(),
            ignored: ignored.unwrap_or_default(),
            document,
            claims: std::mem::take(claims),
        })
    }
}
