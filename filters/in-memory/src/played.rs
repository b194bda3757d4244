//! Plays one whole request for a test, and checks what holds for each: what goes on when, what is
//! counted, logged and reported. A violation is a bug of a filter, and panics.
#![allow(
    clippy::panic,
    clippy::expect_used,
    reason = "for tests: says which invariant is broken"
)]

use tensorgate_filter_core::host::Verdict;
use tensorgate_filter_core::report::record::Record;
use tensorgate_policy::{Operation, Reason};
use tensorgate_wire::Answer;

pub use crate::stream::STREAM;
use crate::{Logged, Request, RequestOutcome, Stream};

/// Result of one request.
pub struct Played {
    /// The outcome; none if the request was neither answered nor forwarded completely.
    pub outcome: Option<RequestOutcome>,
    /// What the filter that decided knows about the request.
    pub record: Record,
    /// What the filters reported.
    pub logged: Logged,
}

impl Played {
    /// The reason of the rejection, if the request was rejected.
    pub const fn reason(&self) -> Option<Reason> {
        self.record.reason
    }

    /// Whether the request was forwarded.
    pub const fn allowed(&self) -> bool {
        matches!(self.outcome, Some(RequestOutcome::Forwarded { .. }))
    }

    /// The HTTP status of a rejection.
    pub const fn status(&self) -> Option<u16> {
        match &self.outcome {
            Some(RequestOutcome::Denied(Answer::Rest { status, .. })) => Some(*status),
            Some(RequestOutcome::Denied(Answer::Grpc { .. })) => Some(200),
            _ => None,
        }
    }

    /// The header fields of a forwarded request, as text.
    pub fn upstream(&self) -> Vec<(String, String)> {
        let Some(RequestOutcome::Forwarded { headers, .. }) = &self.outcome else {
            panic!("forwarded: {:?}", self.record)
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("made by the gate");
        headers
            .iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }
}

/// Delivers a request: head, each chunk of the body, trailers.
pub fn deliver(stream: &mut Stream, request: &Request) {
    let bare = request.body.is_empty() && request.trailers.is_none();
    stream.send_headers(&request.headers, bare);
    let body_bytes: usize = request.body.iter().map(Vec::len).sum();
    let is_held =
        !stream.is_stream() && !stream.forwards_headers() && body_bytes <= stream.max_held_bytes();
    let mut pieces = request.body.iter().peekable();
    while let Some(piece) = pieces.next() {
        assert!(
            !is_held || !stream.dispatched(),
            "nothing goes on before the body's end"
        );
        assert!(!stream.is_complete(), "the end waits for the verdict");
        stream.send_body(piece, pieces.peek().is_none() && request.trailers.is_none());
    }
    if let Some(trailers) = &request.trailers {
        assert!(
            !is_held || !stream.dispatched(),
            "nothing goes on before the trailers"
        );
        assert!(!stream.is_complete(), "the end waits for the verdict");
        stream.send_trailers(trailers);
    }
}

/// Value of an access log property.
pub fn property<'l>(logged: &'l Logged, name: &str) -> Option<&'l str> {
    let mut properties = logged.properties.iter();
    properties
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

/// The outcome in the access log; null if there is none.
pub fn outcome_told(logged: &Logged) -> serde_json::Value {
    property(logged, "tg_outcome").map_or(serde_json::Value::Null, |told| {
        serde_json::from_str(told).expect("JSON")
    })
}

/// A rejection as overloaded, and no other outcome, is counted once by its cause and logged with
/// it. Lines about callers without a valid credential have a quota.
fn check_overload(record: &Record, logged: &Logged) {
    let is_overload = record.reason == Some(Reason::Overloaded);
    assert_eq!(record.overload.is_some(), is_overload, "{record:?}");
    assert_eq!(logged.overloads, Vec::from_iter(record.overload));
    if let Some(cause) = record.overload {
        let member = format!(r#""overload":"{}""#, cause.name());
        let mut lines = logged.lines.iter();
        let is_logged = lines.any(|(_, line)| line.contains(&member));
        let has_quota = record.client.is_none();
        assert!(is_logged || has_quota, "{member}: {:?}", logged.lines);
    }
}

/// A stream of inferences has its own outcome. Without a host, each message has one too.
fn close_stream(stream: Stream) -> Played {
    let (outcome, record, logged) = stream.close();
    assert!(logged.counted.contains(&Verdict::Allow));
    let verdict = outcome_told(&logged).get("verdict").cloned();
    assert_eq!(verdict, Some("allow".into()));
    assert_eq!(logged.answers, 0, "the upstream answers");
    Played {
        outcome,
        record,
        logged,
    }
}

/// Ends a stream and checks its invariants.
pub fn close(stream: Stream) -> Played {
    let dispatched = stream.dispatched();
    if dispatched && stream.is_stream() {
        return close_stream(stream);
    }
    let forwards = stream.forwards_headers();
    let complete = stream.is_complete();
    let trailers = stream.trailers().to_vec();
    let (outcome, record, logged) = stream.close();
    let verdict = match (&outcome, record.reason) {
        (Some(RequestOutcome::Forwarded { .. }), None) => {
            assert!(trailers.is_empty(), "no trailer of a client's crosses");
            Verdict::Allow
        }
        (Some(RequestOutcome::Denied(_)), Some(reason)) => Verdict::Deny(reason),
        (None, None) => Verdict::Aborted,
        (outcome, reason) => panic!("outcome and record disagree: {outcome:?}, {reason:?}"),
    };
    assert_eq!(
        if forwards { complete } else { dispatched },
        verdict == Verdict::Allow,
        "only what is allowed reaches the upstream"
    );
    assert_eq!(logged.counted, [verdict], "each request counts once");
    check_overload(&record, &logged);
    assert_eq!(
        logged.answers,
        usize::from(matches!(verdict, Verdict::Deny(_))),
        "one answer to what is refused"
    );
    let told: serde_json::Value = outcome_told(&logged);
    let told = |name: &str| {
        told.get(name)
            .and_then(serde_json::Value::as_str)
            .map(str::to_owned)
    };
    assert_eq!(told("verdict").as_deref(), Some(verdict.name()));
    assert_eq!(told("reason").as_deref(), Some(verdict.reason()));
    for (name, known) in [
        ("client", record.client.as_deref()),
        ("credential", record.credential.as_deref()),
        ("model", record.model.as_deref()),
        ("operation", record.operation.map(Operation::name)),
        ("rule", record.rule.as_deref()),
    ] {
        assert_eq!(told(name).as_deref(), known, "{name}");
    }
    let worth_a_line = match verdict {
        Verdict::Deny(_) => true,
        Verdict::Allow => !logged.shadowed.is_empty(),
        Verdict::Aborted => false,
    };
    let mut lines = logged.lines.iter();
    let has_line = lines.any(|(_, line)| !line.contains("-left-out\""));
    let has_quota = record.client.is_none()
        || matches!(
            verdict,
            Verdict::Deny(Reason::Unauthenticated | Reason::LockedOut)
        );
    assert!(
        has_line == worth_a_line || (worth_a_line && has_quota),
        "a refusal is logged, and what is in shadow: {:?}",
        logged.lines
    );
    Played {
        outcome,
        record,
        logged,
    }
}
