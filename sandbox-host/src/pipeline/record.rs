//! The log line, metrics and audit record of a request, whether it is answered, denied or abandoned
//! by its client.

use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, Method, Request};
use tensorgate_audit::record::{Decision, Event, SOURCE_HEADER, Verdict, path};
use tensorgate_audit::{Audit, Ending, Outcomes, Unwritten};
use tensorgate_judge::request::{Caller, DenialOrigin, DeniedBody, DeniedRequest, ModelRequest};
use tensorgate_policy::denial::{OverloadCause, RateNote};
use tensorgate_policy::policy::{Grant, Shadow};
use tensorgate_policy::{Denial, Policy, Protocol, Reason};
use tensorgate_telemetry::labels::{
    IgnoredLabels, ModelLabels, OverloadLabels, RequestLabels, ShadowLabels, VersionLabels,
};
use tensorgate_telemetry::metrics::{GaugeGuard, Metrics, micros};
use tensorgate_telemetry::timings::Timings;
use tokio::time::Instant;

use super::shadow::InShadow;
use crate::traces::ArrivedTrace;

/// What is known of a request so far.
#[derive(Debug)]
pub struct Record {
    pub(super) metrics: Arc<Metrics>,
    pub(super) outcomes: Arc<Outcomes>,
    /// Whether the audit record was handed over.
    pub(super) audited: bool,
    /// The stream's ID, for a message of a stream.
    pub(super) stream: Option<String>,
    pub(super) began: SystemTime,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) source: Option<String>,
    pub(super) traceparent: Option<String>,
    /// The `id` of the client's own message.
    pub(super) message_id: Option<String>,
    pub(super) rule: String,
    pub(super) started: Instant,
    pub(super) _in_flight: GaugeGuard,
    pub(super) ended: bool,
    /// The caller.
    pub caller: Caller,
    /// The request ID in the context of an unknown sender. It proves nothing.
    pub claimed_request_id: Option<String>,
    /// The protocol of the response.
    pub protocol: Protocol,
    pub(super) model: String,
    pub(super) version: String,
    pub(super) operation: &'static str,
    pub(super) infers: bool,
    /// The size of the request body in bytes.
    pub request_bytes: usize,
    /// The durations of its parts.
    pub timings: Timings,
    /// The remaining quota of the caller's limits, for the response.
    pub rates: Vec<RateNote>,
    /// Denials that are not enforced because of the grant's mode.
    pub shadow: InShadow,
    /// What the response tells a gateway of another release about this host, signed.
    pub host_release: Option<String>,
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
            traceparent: ArrivedTrace::of(request.headers()).client,
            message_id: None,
            rule: String::new(),
            started: Instant::now(),
            _in_flight: GaugeGuard::new(&metrics.in_flight),
            ended: false,
            caller: Caller::default(),
            claimed_request_id: None,
            protocol: Protocol::OipRest,
            model: String::new(),
            version: String::new(),
            operation: "",
            infers: false,
            request_bytes: 0,
            timings: Timings::default(),
            rates: Vec::new(),
            shadow: InShadow::default(),
            host_release: None,
        }
    }

    /// Records the model, version and grant of the request.
    pub fn set_request(&mut self, policy: &Policy, request: &ModelRequest) {
        self.model = policy
            .model(request.model)
            .map(|model| model.name().to_owned())
            .unwrap_or_default();
        self.version.clone_from(&request.version);
        self.set_message_id(request.id.as_deref());
        self.operation = request.operation.name();
        self.infers = request.operation.infers();
        let grant = request.grant.and_then(|grant| policy.grant(grant));
        self.rule = grant
            .map(|grant| grant.name().to_owned())
            .unwrap_or_default();
        self.rates.clone_from(&request.remaining_quota);
        for name in &request.ignored {
            let labels = IgnoredLabels {
                model: self.model.clone(),
                name: name.clone(),
            };
            self.metrics.ignored.get_or_create(&labels).inc();
        }
        if (request.document.as_ref()).is_some_and(|document| document.escaped) {
            let model = self.model.clone();
            let labels = ModelLabels { model };
            self.metrics.escaped.get_or_create(&labels).inc();
        }
        self.shadow = InShadow::new(
            grant.map(Grant::shadow).unwrap_or_default(),
            request.shadowed.clone(),
        );
    }

    /// Writes the audit record of a response. Returns once the response may be sent. Requests about
    /// the server are always answered, because a host with a full disk is alive.
    ///
    /// # Errors
    /// Returns the denial of a request for a model, if its record is not written and `must_audit`
    /// returns true. The denial is recorded.
    pub async fn audit_answer(
        &mut self,
        status: u16,
        response_bytes: usize,
        must_audit: impl FnOnce() -> bool,
    ) -> Result<(), Denial> {
        self.audited = true;
        let decision = self.answer_decision(status, response_bytes);
        let Err(why) = self.write(decision).await else {
            return Ok(());
        };
        if self.is_for_a_model() && must_audit() {
            let denial = why.to_denial();
            let decision = self.denial_decision(&denial);
            match why {
                Unwritten::Never => self.hand_to_envoy(decision),
                Unwritten::Late => self.outcomes.amend_outcome(decision),
            }
            self.log_denial(&denial);
            return Err(denial);
        }
        if let Unwritten::Never = why {
            self.hand_to_envoy(self.answer_decision(status, response_bytes));
        }
        Ok(())
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

    /// The recorder for the end of a streamed response, once its audit record is written.
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
        let DeniedBody {
            names_model: _,
            model,
            grant,
            id,
            shadowed,
        } = &refused.body;
        self.model = model.clone().unwrap_or_default();
        self.rule = grant.clone().unwrap_or_default();
        self.set_message_id(id.as_deref());
        self.shadow = InShadow::new(Shadow::default(), shadowed.clone());
        let reason = refused.denial.reason.name();
        let cause = refused.denial.cause.as_str();
        let (request_id, client) = (self.caller.request_id.as_str(), self.client());
        match refused.origin {
            // Logged once a minute, with both releases.
            DenialOrigin::OtherRelease => {
                self.write_denial(&refused.denial).await;
                self.count_denial(&refused.denial);
                return;
            }
            DenialOrigin::UnknownSender => {
                let request_id = self.claimed_request_id.as_deref().unwrap_or_default();
                self.metrics.unknown_senders.inc();
                tracing::error!(
                    request_id,
                    reason,
                    cause,
                    "request without a valid context of the gate"
                );
            }
            DenialOrigin::OtherPolicyVersion => {
                tracing::warn!(
                    request_id,
                    client,
                    reason,
                    cause,
                    "request rejected under another policy version than its filter's"
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
            DenialOrigin::FirstCheck | DenialOrigin::Counted => {}
            DenialOrigin::Disagreement => {
                self.metrics
                    .disagreement
                    .get_or_create(&tensorgate_telemetry::labels::ReasonLabels { reason })
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
        match self.claimed_request_id.clone() {
            Some(claimed) => self.denied_unproven(&refused.denial, claimed),
            None => self.denied(&refused.denial).await,
        }
    }

    /// Records the denial of a sender with another key than this host's. Envoy reports the request
    /// too if the sender is a gateway, and both reports become one record.
    fn denied_unproven(&mut self, denial: &Denial, claimed_request_id: String) {
        self.audited = true;
        let decision = Decision {
            request_id: Some(claimed_request_id),
            ..self.denial_decision(denial)
        };
        self.outcomes.wait_for_envoy_unproven(self.began, decision);
        self.log_denial(denial);
    }

    /// Records a denial for a reason that only the host knows. The request stays denied whether or
    /// not its audit record is written in time.
    pub async fn denied(&mut self, denial: &Denial) {
        self.write_denial(denial).await;
        self.log_denial(denial);
    }

    async fn write_denial(&mut self, denial: &Denial) {
        self.audited = true;
        let decision = self.denial_decision(denial);
        if let Err(Unwritten::Never) = self.write(decision.clone()).await {
            self.hand_to_envoy(decision);
        }
    }

    /// Records that the body ended early: the request was denied before the host, or its client has
    /// left. Envoy knows which.
    pub fn broken_off(&mut self, denial: &Denial) {
        self.audited = true;
        self.outcomes
            .wait_for_envoy(self.began, self.denial_decision(denial));
        self.log_denial(denial);
    }

    /// Counts and logs a panic of the request, or of the message of a stream. Returns the denial.
    pub fn panicked(&self, panic: String) -> Denial {
        self.metrics.panics.inc();
        let (request_id, cause) = (self.caller.request_id.as_str(), panic.as_str());
        if self.stream.is_some() {
            tracing::error!(request_id, cause, "a message panicked");
        } else {
            tracing::error!(request_id, cause, "a request panicked");
        }
        Denial::new(Reason::HandlerFault, panic)
    }

    /// Logs and counts a denial.
    pub(super) fn log_denial(&mut self, denial: &Denial) {
        let overload = denial.overload.map(OverloadCause::name);
        let (request_id, client) = (self.request_id(), self.client());
        let (model, reason, cause) = (
            self.model.as_str(),
            denial.reason.name(),
            denial.cause.as_str(),
        );
        tracing::warn!(
            request_id,
            client,
            model,
            reason,
            overload,
            cause,
            "request denied"
        );
        self.count_denial(denial);
    }

    fn count_denial(&mut self, denial: &Denial) {
        if !self.ended {
            self.count_overload(denial);
        }
        self.end("deny", denial.reason.name(), denial.http_status(), 0);
    }

    /// Counts a denial as overloaded by its cause. The gate counts its own.
    pub(super) fn count_overload(&self, denial: &Denial) {
        if let Some(cause) = denial.overload {
            let labels = OverloadLabels {
                cause: cause.name(),
            };
            self.metrics.overloaded.get_or_create(&labels).inc();
        }
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
    fn is_for_a_model(&self) -> bool {
        !self.operation.is_empty()
    }

    /// The gate's request ID, or the one that an unknown sender claims; empty without any.
    pub(super) fn request_id(&self) -> &str {
        match self.caller.request_id.as_str() {
            "" => self.claimed_request_id.as_deref().unwrap_or_default(),
            request_id => request_id,
        }
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
        self.end_trace(verdict, reason, status);
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

pub(super) fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The client's address, if it is valid.
fn source(headers: &HeaderMap) -> Option<String> {
    let address = headers.get(SOURCE_HEADER)?.to_str().ok()?;
    let address: std::net::IpAddr = address.parse().ok()?;
    Some(address.to_string())
}
