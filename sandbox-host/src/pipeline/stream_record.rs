//! The records of a stream and of its messages, each of which is a request of its own.

use std::sync::Arc;
use std::time::SystemTime;

use tensorgate_audit::record::{Decision, Verdict};
use tensorgate_judge::request::Caller;
use tensorgate_policy::{Denial, Operation};
use tensorgate_telemetry::metrics::GaugeGuard;
use tensorgate_telemetry::timings::Timings;
use tokio::time::Instant;

use super::record::{Record, wide};
use super::shadow::InShadow;

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

/// Records that a request opened a stream.
pub fn open_stream(record: &mut Record) {
    record.operation = Operation::Stream.name();
}

/// The record for the end of a stream, from the record that opened it. The audit record of its
/// start is that one's.
pub fn for_stream(opening: &Record) -> Record {
    let mut record = for_message(opening, opening.caller.clone());
    record.timings.trace = opening.timings.trace.clone();
    (record.began, record.started) = (opening.began, opening.started);
    (record.audited, record.ended, record.stream) = (true, true, None);
    record
}

/// The record of a message of a stream.
pub fn for_message(stream: &Record, caller: Caller) -> Record {
    let timings = Timings {
        trace: stream.timings.trace.of_message(&caller.request_id),
        ..Timings::default()
    };
    Record {
        metrics: Arc::clone(&stream.metrics),
        outcomes: Arc::clone(&stream.outcomes),
        audited: false,
        stream: Some(stream.caller.request_id.clone()),
        began: SystemTime::now(),
        method: stream.method.clone(),
        path: stream.path.clone(),
        source: stream.source.clone(),
        traceparent: stream.traceparent.clone(),
        message_id: None,
        rule: String::new(),
        started: Instant::now(),
        _in_flight: GaugeGuard::new(&stream.metrics.in_flight),
        ended: false,
        caller,
        claimed_request_id: None,
        protocol: stream.protocol,
        model: String::new(),
        version: String::new(),
        operation: stream.operation,
        infers: false,
        request_bytes: 0,
        timings,
        rates: Vec::new(),
        shadow: InShadow::default(),
        host_release: None,
    }
}

/// Records the end of the stream. The stream itself was counted when it began.
pub fn closed(record: &Record, end: StreamEnd<'_>, messages: u64, response_bytes: u64) {
    if let StreamEnd::Refused(denial) = end {
        record.count_overload(denial);
    }
    let decision = Decision {
        response_bytes,
        ..end_decision(record, end)
    };
    record.outcomes.closed(&decision, messages);
}

/// Records the end of several responses.
pub fn answered(record: &mut Record, end: StreamEnd<'_>, answers: u64, response_bytes: usize) {
    let decision = Decision {
        response_bytes: wide(response_bytes),
        ..end_decision(record, end)
    };
    record.outcomes.answers(&decision, answers);
    match end {
        StreamEnd::Whole => record.allowed(200, response_bytes),
        StreamEnd::Refused(denial) => record.log_denial(denial),
        StreamEnd::Left => {}
    }
}

fn end_decision(record: &Record, end: StreamEnd<'_>) -> Decision {
    match end {
        StreamEnd::Whole => record.answer_decision(200, 0),
        StreamEnd::Refused(denial) => record.denial_decision(denial),
        StreamEnd::Left => Decision {
            verdict: Verdict::Aborted,
            reason: "incomplete".to_owned(),
            status: 200,
            ..record.facts()
        },
    }
}
