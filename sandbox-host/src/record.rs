//! One line and one count a request, however it ends: answered, refused, or left by its client.

use std::sync::Arc;

use tensorgate_policy::{Denial, Policy, Protocol};
use tokio::time::Instant;

use crate::metrics::{Metrics, ModelLabels, Raised, RequestLabels, micros};
use crate::pipeline::Timings;
use crate::request::{Caller, ModelRequest, Refused, Standing};

/// What is known of a request so far.
#[derive(Debug)]
pub struct Record {
    metrics: Arc<Metrics>,
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
    /// Bytes of the request's body.
    pub request_bytes: usize,
    /// How long its parts took.
    pub timings: Timings,
}

impl Record {
    /// A request has come.
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            started: Instant::now(),
            _in_flight: Raised::new(&metrics.in_flight),
            ended: false,
            caller: Caller::default(),
            protocol: Protocol::OipRest,
            model: String::new(),
            version: String::new(),
            operation: "",
            request_bytes: 0,
            timings: Timings::default(),
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
    }

    /// It was answered.
    pub fn allowed(&mut self, status: u16, response_bytes: usize) {
        self.end("allow", "", status, response_bytes);
    }

    /// It was refused by the judge.
    pub fn refused(&mut self, refused: &Refused) {
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
        self.denied(&refused.denial);
    }

    /// It was refused for what only the host can see.
    pub fn denied(&mut self, denial: &Denial) {
        let (request_id, client) = (self.caller.request_id.as_str(), self.client());
        let (model, reason, cause) = (
            self.model.as_str(),
            denial.reason.name(),
            denial.cause.as_str(),
        );
        tracing::warn!(request_id, client, model, reason, cause, "request denied");
        self.end("deny", denial.reason.name(), denial.reason.http_status(), 0);
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
        // 499: nginx's number for a client that closed its request; nobody is answered with it.
        self.end("gone", "", 499, 0);
    }
}
