//! What becomes of a stream and of its messages, each of which is a request of its own.

use std::sync::Arc;
use std::time::SystemTime;

use tensorgate_policy::policy::Shadow;
use tensorgate_policy::{Denial, Operation, Reason};
use tensorgate_wire::context::Refusal;
use tokio::time::Instant;

use super::{Raised, Record, wide};
use crate::audit::Unwritten;
use crate::audit::record::{By, Decision, Verdict};
use crate::request::Caller;
use crate::shadow::InShadow;
use crate::timings::Timings;

/// How a stream ends.
#[derive(Clone, Copy, Debug)]
pub enum StreamEnd<'d> {
    /// Every message of it was answered.
    Whole,
    /// It was ended.
    Refused(&'d Denial),
    /// Nobody waits for its answers any more.
    Left,
}

impl Record {
    /// It opened a stream.
    pub fn opens_a_stream(&mut self) {
        self.operation = Operation::Stream.name();
    }

    /// The same stream, for who tells how it ends: its line is this one's to write.
    pub fn of_stream(&self) -> Self {
        let mut record = self.of_message(self.caller.clone());
        (record.began, record.started) = (self.began, self.started);
        (record.told, record.ended, record.stream) = (true, true, None);
        record
    }

    /// A message has come over the stream that this is of.
    pub fn of_message(&self, caller: Caller) -> Self {
        Self {
            metrics: Arc::clone(&self.metrics),
            outcomes: Arc::clone(&self.outcomes),
            told: false,
            stream: Some(self.caller.request_id.clone()),
            began: SystemTime::now(),
            method: self.method.clone(),
            path: self.path.clone(),
            source: self.source.clone(),
            rule: String::new(),
            started: Instant::now(),
            _in_flight: Raised::new(&self.metrics.in_flight),
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

    /// It will be answered several times: returns once its line is written, before the first answer leaves.
    ///
    /// # Errors
    /// It is not written, and `must_be_told`.
    pub async fn opens(&mut self, must_be_told: bool) -> Result<(), Denial> {
        let Err(why) = self.audit_answer(200, 0).await else {
            return Ok(());
        };
        if must_be_told {
            let denial = Denial::new(Reason::Overloaded, why.to_string());
            self.untold(&denial, why);
            return Err(denial);
        }
        if let Unwritten::Never = why {
            self.leave(self.answer(200, 0));
        }
        Ok(())
    }

    /// It is a message that the gate refused. The gate's own log has it too; the audit log has it from here alone.
    pub async fn refused_by_the_gate(&mut self, refusal: &Refusal) {
        self.model = refusal.model.clone().unwrap_or_default();
        self.rule = refusal.rule.clone().unwrap_or_default();
        self.shadow = InShadow::new(Shadow::default(), refusal.shadowed.clone());
        self.denied_by(By::Gate, &refusal.denial).await;
    }

    /// The stream that it opened is over.
    pub fn closed(&self, end: StreamEnd<'_>, messages: u64, response_bytes: u64) {
        let decision = Decision {
            response_bytes,
            ..self.ended_so(end)
        };
        self.outcomes.closed(&decision, messages);
    }

    /// The several answers to it are over.
    pub fn answered(&mut self, end: StreamEnd<'_>, answers: u64, response_bytes: usize) {
        let decision = Decision {
            response_bytes: wide(response_bytes),
            ..self.ended_so(end)
        };
        self.outcomes.answers(&decision, answers);
        match end {
            StreamEnd::Whole => self.allowed(200, response_bytes),
            StreamEnd::Refused(denial) => self.said(denial),
            StreamEnd::Left => {}
        }
    }

    fn ended_so(&self, end: StreamEnd<'_>) -> Decision {
        match end {
            StreamEnd::Whole => self.answer(200, 0),
            StreamEnd::Refused(denial) => self.refusal(denial),
            StreamEnd::Left => Decision {
                verdict: Verdict::Aborted,
                reason: "incomplete".to_owned(),
                status: 200,
                ..self.facts()
            },
        }
    }
}
