//! Judges one request again, as if the gate had not: context, head, body, contract. Pure: bytes and a time go in, an
//! allowed request or a refusal comes out, so that offline tools and decision vectors run the host's own code.
//!
//! What it never does: it opens no socket, reads no clock and spends from no bucket: the gate has charged, and a charge comes here
//! to what it came to there; every place in flight counts as taken. A client's name is believed only from a context that the gate signed.

mod arrival;
mod claims;
mod limits;
mod refused;
mod stream;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use tensorgate_policy::decision::{BodyFormat, BodyPlan, decide_body, decide_head, decide_message};
use tensorgate_policy::denial::RateNote;
use tensorgate_policy::policy::{GrantId, Model, ModelId};
use tensorgate_policy::request::{ContentType, Identity, OCTET_STREAM, Proofs, ServerQuestion};
use tensorgate_policy::tensor::Parameter;
use tensorgate_policy::{
    Charge, Decision, Denial, Draw, InferRequest, Operation, Policy, Protocol, Reason, Step,
};
use tensorgate_wire::context::{Context, ContextFault, Key, Levels};
use tensorgate_wire::encode::AnswerForm;
use tensorgate_wire::headers::ReadHead;
use tensorgate_wire::settlement::Settlement;

use crate::document::Document;
use crate::owned;
use crate::sandbox::Payload;
use limits::{charged, has_charged_content, reserves_tokens};

pub use arrival::arrive;
pub use refused::{Caller, Refused, Standing};
pub use stream::Opened;

/// Seconds that a context may be older than the longest stream: scheduling and the hop between gate and host.
const CONTEXT_MARGIN_S: u64 = 5;

/// Header fields in the order they came, pseudo-headers included.
pub type Fields = [(Vec<u8>, Vec<u8>)];

/// The host's own decision under one policy.
#[derive(Clone)]
pub struct Judge {
    policy: Arc<Policy>,
    generation: String,
    key: Key,
    max_age_s: u64,
}

/// A head that was let through.
#[derive(Debug)]
pub enum Begun {
    /// A question about the server as a whole.
    Server {
        /// Who asks.
        caller: Caller,
        /// By what it has proven that.
        proofs: Proofs,
        /// In which protocol to answer.
        protocol: Protocol,
        /// What is asked.
        question: ServerQuestion,
    },
    /// A question to a model; its body comes next.
    Model(Box<Admitted>),
    /// A stream of inferences; its messages come next, each of which is a question by itself.
    Stream(Box<Opened>),
}

/// A head for a model, its body still to come.
#[derive(Debug)]
pub struct Admitted {
    caller: Caller,
    decision: Decision,
    plan: BodyPlan,
    content_type: Option<String>,
    /// Whether a filter has held the body against the contract, or does so while it passes.
    checked: bool,
    levels: Levels,
    claims: HeaderMap,
}

impl Admitted {
    /// Who asks.
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// How to read the body.
    pub const fn plan(&self) -> BodyPlan {
        self.plan
    }

    /// Whether its body lies at the gate already, all of it: a filter has checked it, and holds bodies up to so many bytes for that.
    pub const fn held_by_the_gate(&self) -> bool {
        self.checked
    }

    /// In which protocol to answer.
    pub const fn protocol(&self) -> Protocol {
        self.decision.protocol()
    }

    /// What its head was charged for had left.
    pub fn rates(&self, policy: &Policy) -> Vec<RateNote> {
        self.decision.rate_notes(policy)
    }

    /// What it says about gate and host if its body is refused. Every filter judges whom a body is for; what is in it only some.
    const fn standing(checked: bool, reason: Reason) -> Standing {
        if checked || matches!(reason, Reason::NotGranted) {
            Standing::Disagreement
        } else {
            Standing::FirstJudged
        }
    }
}

/// A request that passed.
#[derive(Debug)]
pub enum Allowed {
    /// A question about the server as a whole.
    Server(Protocol, ServerQuestion),
    /// A question to a model.
    Model(Box<ModelRequest>),
    /// Every message of a stream.
    Stream(Vec<ModelRequest>),
}

/// A checked request to one version of one model. It owns what it holds: the body it came from can go.
#[derive(Debug)]
pub struct ModelRequest {
    /// Who asks.
    pub caller: Caller,
    /// In which protocol to answer.
    pub protocol: Protocol,
    /// What is asked.
    pub operation: Operation,
    /// Of which model.
    pub model: ModelId,
    /// The grant that allows it.
    pub grant: Option<GrantId>,
    /// Of which version; always explicit.
    pub version: String,
    /// The caller's own id, echoed in the answer and nowhere else.
    pub id: Option<String>,
    /// Request parameters that a rule allows.
    pub parameters: Vec<Parameter<'static>>,
    /// Outputs asked for; empty means all.
    pub outputs: Vec<String>,
    /// How the answer is written.
    pub form: AnswerForm,
    /// What the model, or its preprocess handler, gets.
    pub payload: Payload,
    /// What the caller's limits have left.
    pub rates: Vec<RateNote>,
    /// What would have refused it but for its grant's mode.
    pub shadowed: Vec<Denial>,
    /// What the backend gets in place of it, where the protocol has no tensors.
    pub document: Option<Document>,
    /// What the caller's token says of it, for the backend.
    pub claims: HeaderMap,
    /// Whether the gate has reserved what it can come to.
    pub reserved: bool,
}

impl Judge {
    /// A judge under a policy, its generation, and the key that the gate signs with.
    pub fn new(policy: Arc<Policy>, generation: String, key: Key) -> Self {
        let max_age_s = policy
            .listen()
            .limits()
            .stream_ms
            .div_ceil(1_000)
            .saturating_add(CONTEXT_MARGIN_S);
        Self {
            policy,
            generation,
            key,
            max_age_s,
        }
    }

    /// The policy.
    pub const fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Judges a whole request at once. `now_unix_s`: the wall clock.
    ///
    /// # Errors
    /// The refusal.
    pub fn judge(
        &self,
        fields: &Fields,
        body: Bytes,
        now_unix_s: u64,
    ) -> Result<Allowed, Box<Refused>> {
        match self.head(fields, body.is_empty(), now_unix_s)? {
            Begun::Server {
                protocol, question, ..
            } => Ok(Allowed::Server(protocol, question)),
            Begun::Model(admitted) if body.len() > admitted.plan.max_bytes => {
                let max_bytes = admitted.plan.max_bytes;
                Err(self.too_large(*admitted, max_bytes))
            }
            Begun::Model(admitted) => self
                .body(*admitted, body)
                .map(|request| Allowed::Model(Box::new(request))),
            Begun::Stream(opened) => self.every_message(&opened, &body).map(Allowed::Stream),
        }
    }

    /// What a request used of the tokens that were reserved for it, signed for the gate.
    pub fn settlement(&self, request_id: &str, tokens: u64) -> String {
        let request_id = request_id.to_owned();
        Settlement { request_id, tokens }.sign(&self.key)
    }

    /// Judges a head. `end_of_stream`: no body follows.
    ///
    /// # Errors
    /// The refusal.
    pub fn head(
        &self,
        fields: &Fields,
        end_of_stream: bool,
        now_unix_s: u64,
    ) -> Result<Begun, Box<Refused>> {
        arrive(
            fields,
            end_of_stream,
            &self.key,
            now_unix_s,
            |read, context| self.begin(read, context, now_unix_s),
        )
    }

    /// The longest that a context of this policy counts, seconds.
    pub const fn max_age_s(&self) -> u64 {
        self.max_age_s
    }

    /// The policy's name.
    pub fn generation(&self) -> &str {
        &self.generation
    }

    /// Judges a head that [`arrive`] has read, with the context that came with it.
    ///
    /// # Errors
    /// The refusal.
    pub fn begin(
        &self,
        read: ReadHead<'_>,
        context: Result<Context, String>,
        now_unix_s: u64,
    ) -> Result<Begun, Box<Refused>> {
        let context = context.and_then(|context| {
            if now_unix_s.saturating_sub(context.issued_unix_s) > self.max_age_s {
                Err(ContextFault::Age.to_string())
            } else {
                Ok(context)
            }
        });
        let identity = match &context {
            Ok(Context {
                client: Some(client),
                ..
            }) => Identity::Client(client.clone()),
            Ok(Context { client: None, .. }) | Err(_) => Identity::Missing,
        };
        let mut head = read.into_head(identity, self.policy.templates());
        head.proofs = context.as_ref().map_or(Proofs::NONE, |one| one.proofs);
        // The gate's own id picks the version, as it did there.
        head.draw =
            (context.as_ref()).map_or_else(|_| Draw::default(), |one| Draw::of(&one.request_id));
        let protocol = head.route.protocol();
        let refused = |denial, caller, standing| {
            Err(Box::new(Refused {
                denial,
                protocol,
                caller,
                standing,
            }))
        };

        let context = match context {
            Ok(context) => context,
            Err(cause) => {
                return refused(
                    Denial::new(Reason::Unauthenticated, cause),
                    Caller::default(),
                    Standing::Stranger,
                );
            }
        };
        let caller = Caller {
            request_id: context.request_id,
            client: context.client,
            credential: context.credential,
            generation: context.generation.clone(),
        };
        if context.generation != self.generation {
            let cause = format!(
                "the gate judged by policy {}, this host holds {}",
                context.generation, self.generation
            );
            return refused(
                Denial::new(Reason::Overloaded, cause),
                caller,
                Standing::OtherGeneration,
            );
        }

        let Some(claims) = claims::fields(&context.claims) else {
            let denial = Denial::new(Reason::Overloaded, "a claim that no header field can hold");
            return refused(denial, caller, Standing::Disagreement);
        };
        claims::uncount(&mut head, &context.claims);
        let content_type = match &head.content_type {
            ContentType::Json => Some("application/json".to_owned()),
            declared => declared.name().map(str::to_owned),
        };
        let mut levels = context.levels;
        match decide_head(&self.policy, &head, |charge| charged(&mut levels, charge)) {
            (decision, Step::Answer(protocol, question)) => Ok(Begun::Server {
                caller,
                proofs: decision.proofs(),
                protocol,
                question,
            }),
            (decision, Step::ReadBody(plan)) => Ok(Begun::Model(Box::new(Admitted {
                caller,
                decision,
                plan,
                content_type,
                checked: context.checked,
                levels,
                claims,
            }))),
            (decision, Step::ReadMessages(plan)) => {
                let opened = Opened::new(caller, decision, plan, claims);
                Ok(Begun::Stream(Box::new(opened)))
            }
            (_, Step::Deny(denial)) => refused(denial, caller, Standing::Disagreement),
            (
                _,
                Step::Charge(_) | Step::Acquire(_) | Step::Decode | Step::Check | Step::Forward,
            ) => refused(unfinished(), caller, Standing::Disagreement),
        }
    }

    /// Judges the body of an admitted head. Copies out what the request keeps, once.
    ///
    /// # Errors
    /// The refusal.
    pub fn body(&self, admitted: Admitted, body: Bytes) -> Result<ModelRequest, Box<Refused>> {
        let Admitted {
            caller,
            mut decision,
            plan,
            content_type,
            checked,
            mut levels,
            claims,
        } = admitted;
        let content_is_charged = has_charged_content(&levels);
        let mut charged = |charge: &Charge| charged(&mut levels, charge);
        let protocol = decision.protocol();
        let refused = |denial: Denial, caller| {
            Err(Box::new(Refused {
                standing: Admitted::standing(checked, denial.reason),
                denial,
                protocol,
                caller,
            }))
        };

        let plain = match tensorgate_wire::expand(&plan, &*body) {
            Ok(plain) => plain,
            Err(denial) => return refused(denial, caller),
        };
        let addressee = match tensorgate_wire::addressee(plan.format, &plain) {
            Ok(addressee) => addressee,
            Err(denial) => return refused(denial, caller),
        };
        match decide_body(
            &mut decision,
            &self.policy,
            body.len(),
            addressee,
            &mut charged,
        ) {
            Step::Decode => {}
            Step::Deny(denial) => return refused(denial, caller),
            _ => return refused(unfinished(), caller),
        }
        let request =
            match tensorgate_wire::decode(plan.format, &plain, decision.read_by(&self.policy)) {
                Ok(request) => request,
                Err(denial) => return refused(denial, caller),
            };
        match decide_message(&mut decision, &self.policy, &request, charged) {
            Step::Forward => {}
            Step::Deny(denial) => return refused(denial, caller),
            _ => return refused(unfinished(), caller),
        }
        let (Some(model), Some(operation), Some(version)) = (
            decision.model(),
            decision.operation(),
            decision.version(&self.policy),
        ) else {
            return refused(unfinished(), caller);
        };

        let template = self.policy.model(model).and_then(Model::template);
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
        let document = Document::of(&self.policy, model, plan.format, document, &claims);
        let version = version.to_owned();
        let id = id.map(Cow::into_owned);
        let parameters = parameters.into_iter().map(owned::parameter).collect();
        let outputs = outputs
            .into_iter()
            .map(|output| output.name.into_owned())
            .collect();
        let payload = match (plan.format, file) {
            (BodyFormat::Raw, _) => Payload::Raw {
                content_type: content_type.unwrap_or_else(|| OCTET_STREAM.to_owned()),
                data: body,
            },
            // TorchServe's, with a file in it.
            (_, Some(file)) => Payload::Raw {
                content_type: file_type.map_or_else(|| OCTET_STREAM.to_owned(), Cow::into_owned),
                data: owned::part(&body, file),
            },
            (_, None) => Payload::Tensors(inputs.into_iter().map(owned::tensor).collect()),
        };
        Ok(ModelRequest {
            caller,
            protocol,
            operation,
            model,
            grant: decision.grant(),
            version,
            id,
            parameters,
            outputs,
            form,
            payload,
            rates: decision.rate_notes(&self.policy),
            shadowed: decision.shadowed().to_vec(),
            document,
            claims,
            reserved: content_is_charged
                && decision
                    .grant()
                    .and_then(|grant| self.policy.grant(grant))
                    .is_some_and(reserves_tokens),
        })
    }

    /// The refusal of an admitted head whose body runs over its bound.
    pub fn too_large(&self, admitted: Admitted, max_bytes: usize) -> Box<Refused> {
        let denial = Denial::new(
            Reason::BodyTooLarge,
            format!("the body is larger than {max_bytes} bytes"),
        );
        let protocol = admitted.protocol();
        Box::new(Refused {
            standing: Admitted::standing(admitted.checked, denial.reason),
            denial,
            protocol,
            caller: admitted.caller,
        })
    }
}

/// A decision that does not end is a denial.
fn unfinished() -> Denial {
    Denial::new(Reason::Overloaded, "the decision came to no end")
}
