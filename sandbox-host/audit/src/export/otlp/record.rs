//! Audit records as OTLP log records. The body is the line itself, so a receiver can verify the
//! hash chain, or its event of OCSF. Attributes repeat what receivers search for, with the names of
//! OpenTelemetry's semantic conventions where they have one.

use std::time::SystemTime;

use serde_json::{Map, Value as Json};
use tensorgate_base::rfc3339;
use tensorgate_net::post::otlp::messages::{
    AnyValue, KeyValue, Resource, Scope, Value, unix_nanos,
};
use tensorgate_policy::unhex;
use tensorgate_wire::trace_context::TraceParent;

use super::messages::{LogRecord, Request, ResourceLogs, ScopeLogs};
use crate::export::form::Form;
use crate::export::severity::Severity;
use crate::export::spool::Record;

/// The name of this service and of the source of records.
const SERVICE: &str = "tensorgate-host";
const SCOPE: &str = "tensorgate.audit";
/// The start of the name of an event. The rest is the record's type.
const EVENT_PREFIX: &str = "tensorgate.audit.";

/// Members of a line with their attributes.
const ATTRIBUTES: [(&str, &str); 25] = [
    ("action", "tensorgate.artifact.action"),
    ("digest", "tensorgate.artifact.digest"),
    ("kind", "tensorgate.artifact.kind"),
    ("name", "tensorgate.artifact.name"),
    ("signer", "tensorgate.artifact.signer"),
    ("source", "client.address"),
    ("prompt_tokens", "gen_ai.usage.input_tokens"),
    ("completion_tokens", "gen_ai.usage.output_tokens"),
    ("method", "http.request.method"),
    ("status", "http.response.status_code"),
    ("path", "url.path"),
    ("by", "tensorgate.by"),
    ("client", "tensorgate.client"),
    ("client_request_id", "tensorgate.client_request_id"),
    ("handler", "tensorgate.handler"),
    ("message_id", "tensorgate.message_id"),
    ("model", "tensorgate.model"),
    ("operation", "tensorgate.operation"),
    ("reason", "tensorgate.reason"),
    ("request_id", "tensorgate.request_id"),
    ("rule", "tensorgate.rule"),
    ("seq", "tensorgate.audit.seq"),
    ("subject", "tensorgate.subject"),
    ("verdict", "tensorgate.verdict"),
    ("version", "tensorgate.version"),
];

/// The request that sends records of a log.
pub(super) fn request(records: &[Record], form: &Form, now: SystemTime) -> Request {
    let instance = KeyValue::text("service.instance.id", &*form.log);
    let log_records = records.iter().map(|record| log_record(record, form, now));
    Request {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource::of_service(SERVICE, [instance])),
            scope_logs: vec![ScopeLogs {
                scope: Some(Scope::of_release(SCOPE)),
                log_records: log_records.collect(),
            }],
        }],
    }
}

fn log_record(record: &Record, form: &Form, now: SystemTime) -> LogRecord {
    let log = &*form.log;
    // The log only has objects.
    let line: Map<String, Json> = serde_json::from_str(&record.text).unwrap_or_default();
    let text = |member: &str| line.get(member).and_then(Json::as_str);
    let severity = Severity::of(record, &line);
    let mut attributes = vec![
        KeyValue::text("log.record.uid", record.uid(log)),
        KeyValue::text("tensorgate.audit.log", log),
    ];
    attributes.extend(ATTRIBUTES.iter().filter_map(|(member, attribute)| {
        let value = match line.get(*member)? {
            Json::String(text) => Value::Text(text.clone()),
            Json::Number(number) => Value::Integer(number.as_i64()?),
            Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => return None,
        };
        Some(KeyValue::new(attribute, value))
    }));
    // A trace of the gate's own comes before the one that the client names.
    let own_trace = text("trace_id").map(bytes::<16>);
    let trace = text("traceparent").and_then(TraceParent::read);
    let trace = trace.filter(|_| own_trace.is_none());
    let time = text("time").and_then(rfc3339::parse).unwrap_or(now);
    LogRecord {
        time_unix_nano: unix_nanos(time),
        severity_number: severity as i32,
        severity_text: severity.name().to_owned(),
        body: Some(AnyValue {
            value: Some(Value::Text(form.text(record).into_owned())),
        }),
        attributes,
        flags: trace.map_or(0, |trace| flags(trace.flags)),
        trace_id: own_trace
            .or_else(|| trace.map(|trace| bytes::<16>(trace.trace_id)))
            .unwrap_or_default(),
        span_id: trace.map_or_else(Vec::new, |trace| bytes::<8>(trace.span_id)),
        observed_time_unix_nano: unix_nanos(now),
        event_name: text("type").map_or_else(String::new, |kind| format!("{EVENT_PREFIX}{kind}")),
    }
}

/// The bytes of hex digits.
fn bytes<const N: usize>(digits: &str) -> Vec<u8> {
    unhex::<N>(digits.as_bytes()).map_or_else(Vec::new, Vec::from)
}

/// The trace flags of two hex digits.
fn flags(digits: &str) -> u32 {
    unhex::<1>(digits.as_bytes()).map_or(0, |[flags]| u32::from(flags))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "tests"
    )]
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn of(text: &str, lost: u64) -> LogRecord {
        let record = Record {
            seq: 7,
            text: text.to_owned(),
            lost,
        };
        let now = UNIX_EPOCH + Duration::from_secs(9);
        let form = Form {
            ocsf: None,
            log: "abc".into(),
        };
        let request = request(&[record], &form, now);
        request.resource_logs[0].scope_logs[0].log_records[0].clone()
    }

    #[test]
    fn a_record_has_the_severity_of_its_event() {
        let decision = r#"{"type":"decision","reason":"ok","verdict":"deny"}"#;
        let record = of(decision, 0);
        assert_eq!(record.severity_number, Severity::Warn as i32);
        assert_eq!(record.severity_text, "WARN");
        let lost = of(r#"{"type":"export-lost","first":3,"count":5}"#, 5);
        assert_eq!(lost.severity_text, "ERROR");
    }

    #[test]
    fn a_record_has_its_line_as_body_and_what_is_searched_for_as_attributes() {
        let line = r#"{"v":1,"seq":7,"time":"1970-01-01T00:00:01.5Z","type":"decision","verdict":"deny","client":"app","status":403,"shadow":[],"model":null}"#;
        let record = of(line, 0);
        assert_eq!(record.time_unix_nano, 1_500_000_000);
        assert_eq!(record.observed_time_unix_nano, 9_000_000_000);
        assert_eq!(record.event_name, "tensorgate.audit.decision");
        let body = record.body.unwrap().value.unwrap();
        assert_eq!(body, Value::Text(line.to_owned()));
        let expected = [
            KeyValue::text("log.record.uid", "abc-7"),
            KeyValue::text("tensorgate.audit.log", "abc"),
            KeyValue::new("http.response.status_code", Value::Integer(403)),
            KeyValue::text("tensorgate.client", "app"),
            KeyValue::new("tensorgate.audit.seq", Value::Integer(7)),
            KeyValue::text("tensorgate.verdict", "deny"),
        ];
        assert_eq!(record.attributes, expected);
    }

    #[test]
    fn a_record_has_the_ids_of_its_trace_and_its_tokens() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let line = format!(
            r#"{{"seq":7,"type":"decision","traceparent":"{trace}","prompt_tokens":5,"completion_tokens":3}}"#
        );
        let record = of(&line, 0);
        assert_eq!(record.trace_id[..2], [0x4b, 0xf9]);
        assert_eq!(record.trace_id.len(), 16);
        assert_eq!(
            record.span_id,
            [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]
        );
        assert_eq!(record.flags, 1);
        for (name, count) in [
            ("gen_ai.usage.input_tokens", 5),
            ("gen_ai.usage.output_tokens", 3),
        ] {
            let expected = KeyValue::new(name, Value::Integer(count));
            assert!(record.attributes.contains(&expected), "{name}");
        }
        let own = format!(
            r#"{{"seq":7,"type":"decision","traceparent":"{trace}","trace_id":"{}"}}"#,
            "0a".repeat(16)
        );
        let own = of(&own, 0);
        assert_eq!(own.trace_id, [0x0a; 16], "the gate's own");
        assert!(own.span_id.is_empty() && own.flags == 0);
        let without = of(r#"{"seq":7,"type":"decision","traceparent":"00-x"}"#, 0);
        assert!(without.trace_id.is_empty() && without.span_id.is_empty());
    }

    #[test]
    fn a_record_of_an_artifact_names_it() {
        let line = r#"{"seq":7,"type":"artifact","action":"loaded","kind":"model","name":"risk","version":"1","digest":"00ff","signer":"release"}"#;
        let expected = [
            KeyValue::text("tensorgate.artifact.action", "loaded"),
            KeyValue::text("tensorgate.artifact.digest", "00ff"),
            KeyValue::text("tensorgate.artifact.kind", "model"),
            KeyValue::text("tensorgate.artifact.name", "risk"),
            KeyValue::text("tensorgate.artifact.signer", "release"),
            KeyValue::new("tensorgate.audit.seq", Value::Integer(7)),
            KeyValue::text("tensorgate.version", "1"),
        ];
        assert_eq!(of(line, 0).attributes[2..], expected);
    }

    #[test]
    fn lost_records_have_an_id_of_their_own() {
        let record = of(r#"{"type":"export-lost","first":3,"count":5}"#, 5);
        let uid = KeyValue::text("log.record.uid", "abc-7-lost");
        assert_eq!(record.attributes[0], uid);
        // Without a time of its own, a record has the time at which it was sent.
        assert_eq!(record.time_unix_nano, record.observed_time_unix_nano);
    }
}
