//! The log line, metrics and audit record of a request, whether it is answered, denied or abandoned
//! by its client.

use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, Method, Request};
use tensorgate_policy::denial::{RateNote, Shadowed};
use tensorgate_policy::policy::{Grant, Shadow};
use tensorgate_policy::{Denial, Operation, Policy, Protocol, Reason};
use tensorgate_wire::context::Refusal;
use tokio::time::Instant;

use super::Timings;
use super::route::InShadow;
use crate::audit::record::{
    By, Decision, Event, MAX_DETAIL_BYTES, MAX_METHOD_BYTES, SOURCE_HEADER, Verdict, clean,
    clean_shadowed, path,
};
use crate::audit::{Audit, Ending, Outcomes, Unwritten};
use crate::pipeline::request::{Caller, DenialOrigin, DeniedRequest, ModelRequest};
use crate::telemetry::metrics::{
    GaugeGuard, Metrics, ModelLabels, RequestLabels, ShadowLabels, VersionLabels, micros,
};

/// What is known of a request so far.
#[derive(Debug)]
pub struct Record {
    metrics: Arc<Metrics>,
    outcomes: Arc<Outcomes>,
    /// Whether the audit record was handed over.
    audited: bool,
    /// The stream's ID, for a message of a stream.
    stream: Option<String>,
    began: SystemTime,
    method: Method,
    path: String,
    source: Option<String>,
    rule: String,
    started: Instant,
    _in_flight: GaugeGuard,
    ended: bool,
    /// The caller.
    pub caller: Caller,
    /// The protocol of the response.
    pub protocol: Protocol,
    model: String,
    version: String,
    operation: &'static str,
    infers: bool,
    /// The size of the request body in bytes.
    pub request_bytes: usize,
    /// The durations of its parts.
    pub timings: Timings,
    /// The remaining quota of the caller's limits, for the response.
    pub rates: Vec<RateNote>,
    /// Denials that are not enforced because of the grant's mode.
    pub shadow: InShadow,
}

impl Record {
    /// Creates the record of an arrived request.
    pub fn new<B>(metrics: &Arc<Metrics>, outcomes: &Arc<Outcomes>, request: &Request<B>) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            outcomes: Arc::clone(outcomes),
            audited: false,
            stream: None,
            began: SystemTime::now(),
            method: request.method().clone(),
            path: path(request.uri().path()),
            source: source(request.headers()),
            rule: String::new(),
            started: Instant::now(),
            _in_flight: GaugeGuard::new(&metrics.in_flight),
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

    /// Records the model, version and grant of the request.
    pub fn set_request(&mut self, policy: &Policy, request: &ModelRequest) {
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
        self.rates.clone_from(&request.remaining_quota);
        self.shadow = InShadow::new(
            grant.map(Grant::shadow).unwrap_or_default(),
            request.shadowed.clone(),
        );
    }

    /// Writes the audit record of a response. Returns once it is written.
    ///
    /// # Errors
    /// Returns an error if it is not written. [`Self::deny_unaudited`] or [`Self::allow_unaudited`]
    /// then completes the request.
    pub async fn audit_answer(
        &mut self,
        status: u16,
        response_bytes: usize,
    ) -> Result<(), Unwritten> {
        self.audited = true;
        let decision = self.answer_decision(status, response_bytes);
        self.write(decision).await
    }

    async fn write(&self, decision: Decision) -> Result<(), Unwritten> {
        if self.stream.is_some() {
            self.outcomes.message(self.began, decision).await
        } else {
            self.outcomes.record_response(self.began, decision).await
        }
    }

    /// Hands over an audit record without waiting. Messages of a stream are recorded only here.
    fn hand_to_envoy(&self, decision: Decision) {
        if self.stream.is_some() {
            let event = Event::Decision(Box::new(decision));
            self.outcomes.audit().write(self.began, event);
        } else {
            self.outcomes.wait_for_envoy(self.began, decision);
        }
    }

    /// The recorder for an early end of a streamed response, once its audit record is written.
    pub fn ending(&self, status: u16) -> Ending {
        Ending::new(
            &self.outcomes,
            self.answer_decision(status, 0),
            self.started,
        )
    }

    /// Records that the request was answered.
    pub fn allowed(&mut self, status: u16, response_bytes: usize) {
        self.end("allow", "", status, response_bytes);
    }

    /// Records that verification denied the request.
    pub async fn refused(&mut self, refused: &DeniedRequest) {
        self.caller.clone_from(&refused.caller);
        self.protocol = refused.protocol;
        let reason = refused.denial.reason.name();
        let cause = refused.denial.cause.as_str();
        let (request_id, client) = (self.caller.request_id.as_str(), self.client());
        match refused.origin {
            DenialOrigin::UnknownSender => {
                self.metrics.unknown_senders.inc();
                tracing::error!(reason, cause, "request without a valid context of the gate");
            }
            DenialOrigin::OtherPolicyVersion => {
                self.metrics.other_generation.inc();
                tracing::warn!(
                    request_id,
                    client,
                    reason,
                    cause,
                    "request judged under another policy version"
                );
            }
            DenialOrigin::Revoked => {
                self.metrics.revoked.inc();
                tracing::warn!(
                    request_id,
                    client,
                    reason,
                    cause,
                    "request of a revoked client"
                );
            }
            // A regular denial.
            DenialOrigin::FirstCheck => {}
            DenialOrigin::Disagreement => {
                self.metrics
                    .disagreement
                    .get_or_create(&crate::telemetry::metrics::ReasonLabels { reason })
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

    /// Records a denial for a reason that only the host knows. The request stays denied whether or
    /// not its audit record is written in time.
    pub async fn denied(&mut self, denial: &Denial) {
        self.denied_by(By::Host, denial).await;
    }

    async fn denied_by(&mut self, by: By, denial: &Denial) {
        self.audited = true;
        let decision = Decision {
            by,
            ..self.denial_decision(denial)
        };
        if let Err(Unwritten::Never) = self.write(decision.clone()).await {
            self.hand_to_envoy(decision);
        }
        self.log_denial(denial);
    }

    /// Records that the body ended early: the request was denied before the host, or its client has
    /// left. Envoy knows which.
    pub fn broken_off(&mut self, denial: &Denial) {
        self.audited = true;
        self.outcomes
            .wait_for_envoy(self.began, self.denial_decision(denial));
        self.log_denial(denial);
    }

    /// Denies a request that was answered, because its audit record is not written.
    pub fn deny_unaudited(&mut self, denial: &Denial, why: Unwritten) {
        let decision = self.denial_decision(denial);
        match why {
            Unwritten::Never => self.hand_to_envoy(decision),
            Unwritten::Late => self.outcomes.amend_outcome(decision),
        }
        self.log_denial(denial);
    }

    /// Completes a request as answered although its audit record is not written.
    pub fn allow_unaudited(&mut self, status: u16, response_bytes: usize, why: Unwritten) {
        if let Unwritten::Never = why {
            let decision = self.answer_decision(status, response_bytes);
            self.hand_to_envoy(decision);
        }
        self.allowed(status, response_bytes);
    }

    /// Logs and counts a denial.
    fn log_denial(&mut self, denial: &Denial) {
        let (request_id, client) = (self.caller.request_id.as_str(), self.client());
        let (model, reason, cause) = (
            self.model.as_str(),
            denial.reason.name(),
            denial.cause.as_str(),
        );
        tracing::warn!(request_id, client, model, reason, cause, "request denied");
        self.end("deny", denial.reason.name(), denial.reason.http_status(), 0);
    }

    /// Logs and counts denials that were not enforced.
    fn log_shadowed(&self) {
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

    /// The audit log of this record.
    pub fn audit(&self) -> &Audit {
        self.outcomes.audit()
    }

    /// Whether the request is for a model.
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
        self.log_shadowed();
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
        if !self.audited {
            let decision = Decision {
                verdict: Verdict::Aborted,
                reason: "incomplete".to_owned(),
                ..self.facts()
            };
            self.hand_to_envoy(decision);
        }
        // 499 is nginx's status for a client that closed its request. No response has it.
        self.end("aborted", "", 499, 0);
    }
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The client's address, if it is valid.
fn source(headers: &HeaderMap) -> Option<String> {
    let address = headers.get(SOURCE_HEADER)?.to_str().ok()?;
    let address: std::net::IpAddr = address.parse().ok()?;
    Some(address.to_string())
}

// The audit record of a request.

impl Record {
    /// The record of a response.
    fn answer_decision(&self, status: u16, response_bytes: usize) -> Decision {
        Decision {
            verdict: Verdict::Allow,
            reason: "ok".to_owned(),
            status,
            grpc_status: self.protocol.is_grpc().then_some(0),
            response_bytes: wide(response_bytes),
            ..self.facts()
        }
    }

    /// The record of a denial.
    fn denial_decision(&self, denial: &Denial) -> Decision {
        let grpc = self.protocol.is_grpc();
        Decision {
            verdict: Verdict::Deny,
            reason: denial.reason.name().to_owned(),
            detail: Some(clean(&denial.cause, MAX_DETAIL_BYTES)),
            // A gRPC denial has HTTP status 200.
            status: if grpc {
                200
            } else {
                denial.reason.http_status()
            },
            grpc_status: grpc.then_some(denial.reason.grpc_status() as u8),
            ..self.facts()
        }
    }

    /// The fields that are known so far: caller, request and durations.
    fn facts(&self) -> Decision {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let spent = |duration| (!self.operation.is_empty()).then(|| micros(duration));
        Decision {
            request_id: some(&self.caller.request_id),
            stream: self.stream.clone(),
            by: By::Host,
            client: self.caller.client.clone(),
            credential: self.caller.credential.clone(),
            source: self.source.clone(),
            protocol: some(self.protocol.name()),
            method: Some(clean(self.method.as_str(), MAX_METHOD_BYTES)),
            path: some(&self.path),
            model: some(&self.model),
            version: some(&self.version),
            operation: some(self.operation),
            rule: some(&self.rule),
            shadow: {
                let noted = self.shadow.noted().iter();
                noted
                    .map(|denial| clean_shadowed(&Shadowed::of(denial)))
                    .collect()
            },
            generation: some(&self.caller.policy_version),
            request_bytes: wide(self.request_bytes),
            total_us: micros(self.started.elapsed()),
            handler_us: spent(self.timings.handler),
            dispatch_us: spent(self.timings.dispatch),
            queue_us: spent(self.timings.queue),
            reached: self.timings.reached.entries(),
            fuel: (!self.operation.is_empty()).then_some(self.timings.fuel),
            ..Decision::default()
        }
    }
}

// The records of a stream and of its messages, each of which is a request of its own.

/// How a stream ends.
#[derive(Clone, Copy, Debug)]
pub enum StreamEnd<'d> {
    /// Every message was answered.
    Whole,
    /// It was denied.
    Refused(&'d Denial),
    /// The client disconnected.
    Left,
}

impl Record {
    /// Records that the request opened a stream.
    pub fn open_stream(&mut self) {
        self.operation = Operation::Stream.name();
    }

    /// The record for the end of the same stream. The audit record of its start is this one's.
    pub fn for_stream(&self) -> Self {
        let mut record = self.for_message(self.caller.clone());
        (record.began, record.started) = (self.began, self.started);
        (record.audited, record.ended, record.stream) = (true, true, None);
        record
    }

    /// The record of a message of this stream.
    pub fn for_message(&self, caller: Caller) -> Self {
        Self {
            metrics: Arc::clone(&self.metrics),
            outcomes: Arc::clone(&self.outcomes),
            audited: false,
            stream: Some(self.caller.request_id.clone()),
            began: SystemTime::now(),
            method: self.method.clone(),
            path: self.path.clone(),
            source: self.source.clone(),
            rule: String::new(),
            started: Instant::now(),
            _in_flight: GaugeGuard::new(&self.metrics.in_flight),
            ended: false,
            caller,
            protocol: self.protocol,
            model: String::new(),
            version: String::new(),
            operation: self.operation,
            infers: false,
            request_bytes: 0,
            timings: Timings::default(),
            rates: Vec::new(),
            shadow: InShadow::default(),
        }
    }

    /// Writes the audit record of a message with several responses, before the first one is sent.
    ///
    /// # Errors
    /// Returns a denial if the record is not written and `must_audit` is set.
    pub async fn audit_opening(&mut self, must_be_told: bool) -> Result<(), Denial> {
        let Err(why) = self.audit_answer(200, 0).await else {
            return Ok(());
        };
        if must_be_told {
            let denial = Denial::new(Reason::Overloaded, why.to_string());
            self.deny_unaudited(&denial, why);
            return Err(denial);
        }
        if let Unwritten::Never = why {
            self.hand_to_envoy(self.answer_decision(200, 0));
        }
        Ok(())
    }

    /// Records a message that the gate denied. The audit log has it only from here.
    pub async fn refused_by_verifier(&mut self, refusal: &Refusal) {
        self.model = refusal.model.clone().unwrap_or_default();
        self.rule = refusal.rule.clone().unwrap_or_default();
        self.shadow = InShadow::new(Shadow::default(), refusal.shadowed.clone());
        self.denied_by(By::Gate, &refusal.denial).await;
    }

    /// Records the end of the stream.
    pub fn closed(&self, end: StreamEnd<'_>, messages: u64, response_bytes: u64) {
        let decision = Decision {
            response_bytes,
            ..self.end_decision(end)
        };
        self.outcomes.closed(&decision, messages);
    }

    /// Records the end of several responses.
    pub fn answered(&mut self, end: StreamEnd<'_>, answers: u64, response_bytes: usize) {
        let decision = Decision {
            response_bytes: wide(response_bytes),
            ..self.end_decision(end)
        };
        self.outcomes.answers(&decision, answers);
        match end {
            StreamEnd::Whole => self.allowed(200, response_bytes),
            StreamEnd::Refused(denial) => self.log_denial(denial),
            StreamEnd::Left => {}
        }
    }

    fn end_decision(&self, end: StreamEnd<'_>) -> Decision {
        match end {
            StreamEnd::Whole => self.answer_decision(200, 0),
            StreamEnd::Refused(denial) => self.denial_decision(denial),
            StreamEnd::Left => Decision {
                verdict: Verdict::Aborted,
                reason: "incomplete".to_owned(),
                status: 200,
                ..self.facts()
            },
        }
    }
}
