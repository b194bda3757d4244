//! One line, one count and one audit record a request, however it ends: answered, refused, or left by its client.

mod stream;
mod told;

use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, Method, Request};
use tensorgate_policy::denial::RateNote;
use tensorgate_policy::policy::Grant;
use tensorgate_policy::{Denial, Policy, Protocol};
use tokio::time::Instant;

use crate::audit::record::{By, Decision, Event, SOURCE_HEADER, Verdict, path};
use crate::audit::{Audit, Ending, Outcomes, Unwritten};
use crate::metrics::{
    Metrics, ModelLabels, Raised, RequestLabels, ShadowLabels, VersionLabels, micros,
};
use crate::request::{Caller, ModelRequest, Refused, Standing};
use crate::shadow::InShadow;
use crate::timings::Timings;
pub use stream::StreamEnd;

/// What is known of a request so far.
#[derive(Debug)]
pub struct Record {
    metrics: Arc<Metrics>,
    outcomes: Arc<Outcomes>,
    /// The audit record is handed over.
    told: bool,
    /// Of a stream's message, the stream's id.
    stream: Option<String>,
    began: SystemTime,
    method: Method,
    path: String,
    source: Option<String>,
    rule: String,
    started: Instant,
    _in_flight: Raised,
    ended: bool,
    /// Who asks.
    pub caller: Caller,
    /// In which protocol to answer.
    pub protocol: Protocol,
    model: String,
    version: String,
    operation: &'static str,
    infers: bool,
    /// Bytes of the request's body.
    pub request_bytes: usize,
    /// How long its parts took.
    pub timings: Timings,
    /// What the caller's limits have left, for the answer.
    pub rates: Vec<RateNote>,
    /// What only its grant's mode lets pass.
    pub shadow: InShadow,
}

impl Record {
    /// A request has come.
    pub fn new<B>(metrics: &Arc<Metrics>, outcomes: &Arc<Outcomes>, request: &Request<B>) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            outcomes: Arc::clone(outcomes),
            told: false,
            stream: None,
            began: SystemTime::now(),
            method: request.method().clone(),
            path: path(request.uri().path()),
            source: source(request.headers()),
            rule: String::new(),
            started: Instant::now(),
            _in_flight: Raised::new(&metrics.in_flight),
            ended: false,
            caller: Caller::default(),
            protocol: Protocol::OipRest,
            model: String::new(),
            version: String::new(),
            operation: "",
            infers: false,
            request_bytes: 0,
            timings: Timings::default(),
            rates: Vec::new(),
            shadow: InShadow::default(),
        }
    }

    /// It is for a model of the policy.
    pub fn asks(&mut self, policy: &Policy, request: &ModelRequest) {
        self.model = policy
            .model(request.model)
            .map(|model| model.name().to_owned())
            .unwrap_or_default();
        self.version.clone_from(&request.version);
        self.operation = request.operation.name();
        self.infers = request.operation.infers();
        let grant = request.grant.and_then(|grant| policy.grant(grant));
        self.rule = grant
            .map(|grant| grant.name().to_owned())
            .unwrap_or_default();
        self.rates.clone_from(&request.rates);
        self.shadow = InShadow::new(
            grant.map(Grant::shadow).unwrap_or_default(),
            request.shadowed.clone(),
        );
    }

    /// Hands over the audit record of an answer. Returns once it is written.
    ///
    /// # Errors
    /// It is not: [`Self::untold`] or [`Self::let_go`] says what becomes of the request.
    pub async fn audit_answer(
        &mut self,
        status: u16,
        response_bytes: usize,
    ) -> Result<(), Unwritten> {
        self.told = true;
        let decision = self.answer(status, response_bytes);
        self.write(decision).await
    }

    async fn write(&self, decision: Decision) -> Result<(), Unwritten> {
        if self.stream.is_some() {
            self.outcomes.message(self.began, decision).await
        } else {
            self.outcomes.answered(self.began, decision).await
        }
    }

    /// What nobody waits for: of a message nobody else tells.
    fn leave(&self, decision: Decision) {
        if self.stream.is_some() {
            let event = Event::Decision(Box::new(decision));
            self.outcomes.audit().write(self.began, event);
        } else {
            self.outcomes.waits(self.began, decision);
        }
    }

    /// What is told of an answer in pieces that breaks off, once its audit record is written.
    pub fn ending(&self, status: u16) -> Ending {
        Ending::new(&self.outcomes, self.answer(status, 0), self.started)
    }

    /// It was answered.
    pub fn allowed(&mut self, status: u16, response_bytes: usize) {
        self.end("allow", "", status, response_bytes);
    }

    /// It was refused by the judge.
    pub async fn refused(&mut self, refused: &Refused) {
        self.caller.clone_from(&refused.caller);
        self.protocol = refused.protocol;
        let reason = refused.denial.reason.name();
        let cause = refused.denial.cause.as_str();
        let (request_id, client) = (self.caller.request_id.as_str(), self.client());
        match refused.standing {
            Standing::Stranger => {
                self.metrics.strangers.inc();
                tracing::error!(reason, cause, "a request that did not come from our gate");
            }
            Standing::OtherGeneration => {
                self.metrics.other_generation.inc();
                tracing::warn!(
                    request_id,
                    client,
                    reason,
                    cause,
                    "a request judged by another policy"
                );
            }
            Standing::Revoked => {
                self.metrics.revoked.inc();
                tracing::warn!(
                    request_id,
                    client,
                    reason,
                    cause,
                    "a request of a revoked client"
                );
            }
            // A refusal like any other.
            Standing::FirstJudged => {}
            Standing::Disagreement => {
                self.metrics
                    .disagreement
                    .get_or_create(&crate::metrics::ReasonLabels { reason })
                    .inc();
                tracing::error!(
                    request_id,
                    client,
                    gate = "allow",
                    host = "deny",
                    reason,
                    cause,
                    "gate and host disagree"
                );
            }
        }
        self.denied(&refused.denial).await;
    }

    /// It was refused for what only the host can see. What is refused stays so, whether or not the audit record can be written in time.
    pub async fn denied(&mut self, denial: &Denial) {
        self.denied_by(By::Host, denial).await;
    }

    async fn denied_by(&mut self, by: By, denial: &Denial) {
        self.told = true;
        let decision = Decision {
            by,
            ..self.refusal(denial)
        };
        if let Err(Unwritten::Never) = self.write(decision.clone()).await {
            self.leave(decision);
        }
        self.said(denial);
    }

    /// Its body broke off: it was refused before the host, or its caller has left. Which of the two, Envoy knows.
    pub fn broken_off(&mut self, denial: &Denial) {
        self.told = true;
        self.outcomes.waits(self.began, self.refusal(denial));
        self.said(denial);
    }

    /// It was answered, and is refused after all: its audit record is not written.
    pub fn untold(&mut self, denial: &Denial, why: Unwritten) {
        let decision = self.refusal(denial);
        match why {
            Unwritten::Never => self.leave(decision),
            Unwritten::Late => self.outcomes.ends_otherwise(decision),
        }
        self.said(denial);
    }

    /// It was answered and stays so, although its audit record is not written.
    pub fn let_go(&mut self, status: u16, response_bytes: usize, why: Unwritten) {
        if let Unwritten::Never = why {
            let decision = self.answer(status, response_bytes);
            self.leave(decision);
        }
        self.allowed(status, response_bytes);
    }

    /// A refusal's line and count.
    fn said(&mut self, denial: &Denial) {
        let (request_id, client) = (self.caller.request_id.as_str(), self.client());
        let (model, reason, cause) = (
            self.model.as_str(),
            denial.reason.name(),
            denial.cause.as_str(),
        );
        tracing::warn!(request_id, client, model, reason, cause, "request denied");
        self.end("deny", denial.reason.name(), denial.reason.http_status(), 0);
    }

    /// Counts and logs what only its grant's mode let pass.
    fn said_in_shadow(&self) {
        for denial in self.shadow.noted() {
            let reason = denial.reason.name();
            let labels = ShadowLabels {
                model: self.model.clone(),
                grant: self.rule.clone(),
                reason,
            };
            self.metrics.shadowed.get_or_create(&labels).inc();
            tracing::warn!(
                request_id = self.caller.request_id,
                client = self.client(),
                model = self.model,
                grant = self.rule,
                reason,
                cause = denial.cause,
                "request passed in shadow"
            );
        }
    }

    /// The log that it is told to.
    pub fn audit(&self) -> &Audit {
        self.outcomes.audit()
    }

    /// Whether it asks something of a model.
    pub fn for_a_model(&self) -> bool {
        !self.operation.is_empty()
    }

    fn client(&self) -> &str {
        self.caller.client.as_deref().unwrap_or_default()
    }

    fn end(
        &mut self,
        verdict: &'static str,
        reason: &'static str,
        status: u16,
        response_bytes: usize,
    ) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let took = self.started.elapsed();
        self.metrics
            .requests
            .get_or_create(&RequestLabels {
                model: self.model.clone(),
                verdict,
                reason,
            })
            .inc();
        self.metrics
            .request_seconds
            .get_or_create(&ModelLabels {
                model: self.model.clone(),
            })
            .observe(took.as_secs_f64());
        if self.infers {
            let statistics = &self.metrics.statistics;
            let answered = verdict == "allow";
            statistics.count(&self.model, &self.version, answered, took, &self.timings);
            let labels = VersionLabels {
                model: self.model.clone(),
                version: self.version.clone(),
                verdict,
            };
            self.metrics.inferences.get_or_create(&labels).inc();
        }
        self.said_in_shadow();
        tracing::info!(
            request_id = self.caller.request_id,
            client = self.client(),
            credential = self.caller.credential.as_deref(),
            model = self.model,
            version = self.version,
            operation = self.operation,
            protocol = self.protocol.name(),
            verdict,
            reason,
            status,
            request_bytes = self.request_bytes,
            response_bytes,
            total_us = micros(took),
            handler_us = micros(self.timings.handler),
            dispatch_us = micros(self.timings.dispatch),
            fuel = self.timings.fuel,
            "request"
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.told {
            let decision = Decision {
                verdict: Verdict::Aborted,
                reason: "incomplete".to_owned(),
                ..self.facts()
            };
            self.leave(decision);
        }
        // 499: nginx's number for a client that closed its request; nobody is answered with it.
        self.end("aborted", "", 499, 0);
    }
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// An address, or nothing.
fn source(headers: &HeaderMap) -> Option<String> {
    let address = headers.get(SOURCE_HEADER)?.to_str().ok()?;
    let address: std::net::IpAddr = address.parse().ok()?;
    Some(address.to_string())
}
