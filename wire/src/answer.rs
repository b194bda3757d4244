//! The one place that maps a refusal to a response. What a caller reads is the reason's own sentence and, of its own request, the
//! field that is wrong; the cause never leaves for anywhere but the log.

use core::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tensorgate_policy::denial::{GrpcStatus, RateNote};
use tensorgate_policy::request::Protocol;
use tensorgate_policy::{Denial, Reason};

use crate::json_text::member;
use crate::protobuf::Message;

/// A refusal in the caller's own protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// RFC 9457 problem details plus the `error` member that clients of OIP and of TF Serving decode, a string for both.
    Rest {
        /// HTTP status.
        status: u16,
        /// Header fields, lower-case names; `content-type` included, `content-length` not.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// A trailers-only gRPC answer.
    Grpc {
        /// gRPC status.
        status: GrpcStatus,
        /// `grpc-message`, not yet percent-encoded.
        message: String,
        /// Further fields: `grpc-status-details-bin` (base64), `x-request-id`, rate fields.
        headers: Vec<(&'static str, String)>,
    },
}

impl Answer {
    /// The answer to a refused request. Every cause of one reason gives the caller the same text, but for the caller's own field.
    /// `request_id` is ours; an empty one is left out.
    pub fn to_denial(denial: &Denial, protocol: Protocol, request_id: &str) -> Self {
        let message = message(denial);
        let mut headers = Vec::new();
        match protocol {
            Protocol::OipRest | Protocol::TfRest => {
                headers.push(("content-type", "application/problem+json".to_owned()));
                headers.push(("cache-control", "no-store".to_owned()));
                if denial.reason == Reason::Unauthenticated {
                    headers.push(("www-authenticate", "Bearer realm=\"tensorgate\"".to_owned()));
                }
                headers.extend(denial.allow.map(|allow| ("allow", allow.to_owned())));
            }
            Protocol::OipGrpc | Protocol::TfGrpc => headers.push((
                "grpc-status-details-bin",
                STANDARD_NO_PAD.encode(details(denial, &message)),
            )),
        }
        if let Some(rate) = &denial.rate {
            rate_fields(rate, &mut headers);
        }
        if !request_id.is_empty() && request_id.bytes().all(|byte| byte.is_ascii_graphic()) {
            headers.push(("x-request-id", request_id.to_owned()));
        }
        match protocol {
            Protocol::OipRest | Protocol::TfRest => Self::Rest {
                status: denial.reason.http_status(),
                headers,
                body: problem(denial.reason, &message, request_id).into_bytes(),
            },
            Protocol::OipGrpc | Protocol::TfGrpc => Self::Grpc {
                status: denial.reason.grpc_status(),
                message,
                headers,
            },
        }
    }
}

/// The reason's sentence and, where the request was the caller's to get right, its field.
fn message(denial: &Denial) -> String {
    let title = denial.reason.title();
    match &denial.field {
        // What comes earlier is said to callers whom nobody knows yet, what comes later is not the caller's doing.
        Some(field) if (Reason::Malformed..=Reason::OutOfRange).contains(&denial.reason) => {
            format!("{title}: {field}")
        }
        _ => title.to_owned(),
    }
}

fn problem(reason: Reason, message: &str, request_id: &str) -> String {
    let mut body = String::from("{");
    member(&mut body, "type", &format!("urn:tensorgate:{reason}"));
    body.push(',');
    member(&mut body, "title", reason.title());
    // Writing to a String does not fail.
    let _ = write!(body, ",\"status\":{},", reason.http_status());
    if !request_id.is_empty() {
        member(&mut body, "instance", request_id);
        body.push(',');
    }
    member(&mut body, "error", message);
    body.push('}');
    body
}

/// The `RateLimit` and `RateLimit-Policy` fields (draft-ietf-httpapi-ratelimit-headers) and `Retry-After`. A wait of 0 says that
/// no wait helps: then there is nothing to retry after.
fn rate_fields(rate: &RateNote, headers: &mut Vec<(&'static str, String)>) {
    /// The largest integer of a structured field (RFC 9651, 3.3.1).
    const MAX_INTEGER: u64 = 999_999_999_999_999;
    let name = structured_string(&rate.policy);
    let (quota, window) = (rate.quota.min(MAX_INTEGER), rate.window_s.min(MAX_INTEGER));
    headers.push(("ratelimit-policy", format!("{name};q={quota};w={window}")));
    let wait = rate.retry_after_s.min(MAX_INTEGER);
    if wait == 0 {
        headers.push(("ratelimit", format!("{name};r=0")));
    } else {
        headers.push(("ratelimit", format!("{name};r=0;t={wait}")));
        headers.push(("retry-after", wait.to_string()));
    }
}

/// A string of a structured field: printable ASCII, quoted.
fn structured_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
}

/// `google.rpc.Status` with an `ErrorInfo` and, where waiting helps, a `RetryInfo`.
fn details(denial: &Denial, message: &str) -> Vec<u8> {
    let any = |kind: &str, value: Message| {
        Message::default()
            .bytes(1, format!("type.googleapis.com/google.rpc.{kind}"))
            .bytes(2, value.into_bytes())
    };
    let info = Message::default()
        .bytes(1, denial.reason.name())
        .bytes(2, "tensorgate");
    let status = denial.reason.grpc_status();
    let mut details = Message::default()
        .varint(1, u64::from(status as u8))
        .bytes(2, message)
        .message(3, any("ErrorInfo", info));
    if let Some(rate) = denial.rate.as_ref().filter(|rate| rate.retry_after_s > 0) {
        let delay = Message::default().varint(1, rate.retry_after_s);
        details = details.message(3, any("RetryInfo", Message::default().message(1, delay)));
    }
    details.into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;

    fn rest(denial: &Denial) -> (u16, Vec<(&'static str, String)>, serde_json::Value) {
        let Answer::Rest {
            status,
            headers,
            body,
        } = Answer::to_denial(denial, Protocol::OipRest, "0f3c")
        else {
            panic!("REST")
        };
        (status, headers, serde_json::from_slice(&body).unwrap())
    }

    fn header<'a>(headers: &'a [(&'static str, String)], name: &str) -> Option<&'a str> {
        headers
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_rest_answer_is_a_problem_with_an_error() {
        let denial = Denial::with_field(
            Reason::Shape,
            "input \"ima\\\"ge\": dim 2",
            "input image has 9 where [1, 8] may be",
        );
        let (status, headers, body) = rest(&denial);
        assert_eq!(status, 400);
        assert_eq!(
            body,
            serde_json::json!({
                "type": "urn:tensorgate:shape", "title": "an input has the wrong shape", "status": 400, "instance": "0f3c",
                "error": "an input has the wrong shape: input \"ima\\\"ge\": dim 2",
            })
        );
        let expected = [
            ("content-type", "application/problem+json"),
            ("cache-control", "no-store"),
            ("x-request-id", "0f3c"),
        ];
        assert_eq!(
            headers,
            expected.map(|(name, value)| (name, value.to_owned()))
        );
    }

    #[test]
    fn no_answer_holds_its_cause_and_only_tensor_faults_hold_a_field() {
        for reason in Reason::ALL {
            let denial = Denial::with_field(reason, "FIELD", "CAUSE");
            let (status, _, body) = rest(&denial);
            let names_field = (Reason::Malformed..=Reason::OutOfRange).contains(&reason);
            assert_eq!(status, reason.http_status());
            assert!(!body.to_string().contains("CAUSE"), "{reason}");
            assert_eq!(body.to_string().contains("FIELD"), names_field, "{reason}");
            let Answer::Grpc {
                status,
                message,
                headers,
            } = Answer::to_denial(&denial, Protocol::OipGrpc, "0f3c")
            else {
                panic!("gRPC")
            };
            assert_eq!(status, reason.grpc_status());
            assert_eq!(message.contains("FIELD"), names_field, "{reason}");
            let details = STANDARD_NO_PAD
                .decode(header(&headers, "grpc-status-details-bin").unwrap())
                .unwrap();
            let holds = |text: &[u8]| details.windows(text.len()).any(|window| window == text);
            assert!(
                holds(reason.name().as_bytes()) && holds(b"tensorgate") && !holds(b"CAUSE"),
                "{reason}"
            );
            assert_eq!(header(&headers, "x-request-id"), Some("0f3c"));
        }
    }

    #[test]
    fn answers_carry_what_their_status_asks_for() {
        let (_, headers, _) = rest(&Denial::new(Reason::Unauthenticated, "no credential"));
        assert_eq!(
            header(&headers, "www-authenticate"),
            Some("Bearer realm=\"tensorgate\"")
        );
        let (_, headers, _) = rest(&Denial {
            allow: Some("POST"),
            ..Denial::new(Reason::MethodNotAllowed, "GET")
        });
        assert_eq!(header(&headers, "allow"), Some("POST"));
        assert_eq!(header(&headers, "www-authenticate"), None);
    }

    #[test]
    fn a_rate_answer_says_when_to_come_back_if_ever() {
        let rate = |retry_after_s| RateNote {
            policy: "a\"b\\é".into(),
            quota: 100,
            window_s: 60,
            retry_after_s,
        };
        for (retry_after_s, limit, retry) in [
            (7, "\"a\\\"b\\\\?\";r=0;t=7", Some("7")),
            (0, "\"a\\\"b\\\\?\";r=0", None),
        ] {
            let denial = Denial {
                rate: Some(rate(retry_after_s)),
                ..Denial::new(Reason::RateLimited, "spent")
            };
            let (status, headers, _) = rest(&denial);
            assert_eq!(status, 429);
            assert_eq!(
                header(&headers, "ratelimit-policy"),
                Some("\"a\\\"b\\\\?\";q=100;w=60")
            );
            assert_eq!(header(&headers, "ratelimit"), Some(limit));
            assert_eq!(header(&headers, "retry-after"), retry);
            let details = details(&denial, "m");
            assert_eq!(
                details.windows(9).any(|window| window == b"RetryInfo"),
                retry.is_some()
            );
        }
        let denial = Denial {
            rate: Some(rate(7)),
            ..Denial::new(Reason::RateLimited, "spent")
        };
        let expected = [
            &b"\x08\x08\x12\x01m"[..],
            b"\x1a\x46\x0a\x28type.googleapis.com/google.rpc.ErrorInfo\x12\x1a\x0a\x0crate-limited\x12\x0atensorgate",
            b"\x1a\x30\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x04\x0a\x02\x08\x07",
        ]
        .concat();
        assert_eq!(details(&denial, "m"), expected);
    }

    #[test]
    fn an_id_that_is_no_header_value_stays_in_the_body() {
        let denial = Denial::new(Reason::Malformed, "cause");
        for id in ["", "a b", "a\r\nset-cookie: x", "é"] {
            let Answer::Rest { headers, body, .. } =
                Answer::to_denial(&denial, Protocol::OipRest, id)
            else {
                panic!("REST")
            };
            assert_eq!(header(&headers, "x-request-id"), None, "{id:?}");
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(
                body.get("instance").and_then(|id| id.as_str()),
                Some(id).filter(|id| !id.is_empty())
            );
        }
    }
}
