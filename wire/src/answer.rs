//! The only place that maps a denial to a response. The caller sees the reason's title, the invalid
//! field of its own request and what the contract expects of it. The cause is only logged.

use core::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tensorgate_policy::denial::{GrpcStatus, RateNote};
use tensorgate_policy::policy::Unit;
use tensorgate_policy::request::{Coding, Codings, Protocol};
use tensorgate_policy::{Denial, Reason};

use crate::grpc::writer::Message;
use crate::json_text::member;
use crate::unserved::UnservedApi;

/// A denial in the caller's protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// RFC 9457 problem details plus the `error` member that the route's clients expect: an object
    /// for OpenAI, a string for others.
    Rest {
        /// HTTP status.
        status: u16,
        /// Header fields with lower-case names, including `content-type` but not `content-length`.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// A trailers-only gRPC response.
    Grpc {
        /// gRPC status.
        status: GrpcStatus,
        /// `grpc-message`, not yet [`percent_encoded`].
        message: String,
        /// Further fields: `grpc-status-details-bin` (base64), `x-request-id`, rate limit fields.
        headers: Vec<(&'static str, String)>,
    },
}

impl Answer {
    /// The response to a denied request. All causes of one reason give the same text, except for
    /// the caller's own field and what is expected of it. `request_id` is the gate's id; an empty
    /// one is omitted.
    pub fn to_denial(denial: &Denial, protocol: Protocol, request_id: &str) -> Self {
        Self::new(denial, protocol, request_id, None)
    }

    /// As [`Self::to_denial`]. If the path belongs to an API that is not served, the response says
    /// what to use instead, in that API's form.
    pub fn to_denial_of_path(
        denial: &Denial,
        protocol: Protocol,
        request_id: &str,
        path: &str,
    ) -> Self {
        let is_unknown = denial.reason == Reason::NotAnInferenceRoute;
        let unserved = (is_unknown && protocol == Protocol::OpenAi)
            .then(|| UnservedApi::of_path(path))
            .flatten();
        Self::new(denial, protocol, request_id, unserved)
    }

    fn new(
        denial: &Denial,
        protocol: Protocol,
        request_id: &str,
        unserved: Option<UnservedApi>,
    ) -> Self {
        let message = match unserved {
            Some(api) => format!("{}: {}", denial.reason.title(), api.advice()),
            None => message(denial),
        };
        let reason = denial.reason.public_reason();
        let mut headers = Vec::new();
        if protocol.is_grpc() {
            headers.push((
                "grpc-status-details-bin",
                STANDARD_NO_PAD.encode(details(denial, &message)),
            ));
        } else {
            headers.push(("content-type", "application/problem+json".to_owned()));
            headers.push(("cache-control", "no-store".to_owned()));
            if reason == Reason::Unauthenticated {
                headers.push(("www-authenticate", "Bearer realm=\"tensorgate\"".to_owned()));
            }
            headers.extend(denial.allow.map(|allow| ("allow", allow.to_owned())));
        }
        headers.extend(denial.codings.map(|read| codings(protocol, read)));
        headers.extend(rate_fields(&denial.rates));
        let wait = denial.retry_after_s.map(|wait| wait.to_string());
        headers.extend(wait.map(|wait| ("retry-after", wait)));
        if !request_id.is_empty() && request_id.bytes().all(|byte| byte.is_ascii_graphic()) {
            headers.push(("x-request-id", request_id.to_owned()));
        }
        if protocol.is_grpc() {
            return Self::Grpc {
                status: denial.grpc_status(),
                message,
                headers,
            };
        }
        let status = denial.http_status();
        Self::Rest {
            status,
            headers,
            body: problem((reason, status), protocol, &message, request_id, unserved).into_bytes(),
        }
    }
}

/// The field that lists supported content codings: RFC 9110's (12.5.3), or gRPC's own.
fn codings(protocol: Protocol, read: Codings) -> (&'static str, String) {
    let name = if protocol.is_grpc() {
        "grpc-accept-encoding"
    } else {
        "accept-encoding"
    };
    let names = [IDENTITY].into_iter().chain(read.iter().map(Coding::name));
    (name, names.collect::<Vec<_>>().join(", "))
}

/// Name of no coding.
const IDENTITY: &str = "identity";

/// The reason's title and, if the caller's request is invalid, the field and what is expected of
/// it.
fn message(denial: &Denial) -> String {
    let title = denial.reason.title();
    match denial.described_field() {
        Some(field) if denial.reason.shows_field() => format!("{title}: {field}"),
        _ => title.to_owned(),
    }
}

/// Encodes a `grpc-message`: everything except printable ASCII without `%` is percent-encoded (gRPC
/// over HTTP/2, "Percent-Byte-Encoded").
pub fn percent_encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' | ..=0x1f | 0x7f.. => {
                // Writing to a string cannot fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
            _ => encoded.push(char::from(byte)),
        }
    }
    encoded
}

fn problem(
    (reason, status): (Reason, u16),
    protocol: Protocol,
    message: &str,
    request_id: &str,
    unserved: Option<UnservedApi>,
) -> String {
    // Anthropic's clients expect this `type`, and types of their own below it.
    let is_for_messages = unserved == Some(UnservedApi::Messages);
    let mut body = String::from("{");
    if is_for_messages {
        member(&mut body, "type", "error");
    } else {
        member(&mut body, "type", &format!("urn:tensorgate:{reason}"));
    }
    body.push(',');
    member(&mut body, "title", reason.title());
    // Writing to a String does not fail.
    let _ = write!(body, ",\"status\":{status},");
    if !request_id.is_empty() {
        member(&mut body, "instance", request_id);
        body.push(',');
    }
    if protocol == Protocol::OpenAi {
        body.push_str("\"error\":{");
        member(&mut body, "message", message);
        body.push(',');
        let kind = if is_for_messages {
            "not_found_error"
        } else {
            error_type(status)
        };
        member(&mut body, "type", kind);
        body.push_str(",\"param\":null,");
        member(&mut body, "code", error_code(reason));
        body.push('}');
    } else {
        member(&mut body, "error", message);
    }
    body.push('}');
    body
}

/// OpenAI's error type for a status.
fn error_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

/// The code of an error: OpenAI's own where its clients act on it, and otherwise the reason.
const fn error_code(reason: Reason) -> &'static str {
    match reason {
        Reason::BackendTooLong => "context_length_exceeded",
        Reason::BackendUnknownModel => "model_not_found",
        Reason::BackendBusy => "rate_limit_exceeded",
        reason => reason.name(),
    }
}

/// The `RateLimit` and `RateLimit-Policy` fields (draft-ietf-httpapi-ratelimit-headers): one item
/// per limit, no fields without limits. `t` is omitted if waiting never helps.
pub fn rate_fields(rates: &[RateNote]) -> Vec<(&'static str, String)> {
    /// Largest integer of a structured field (RFC 9651, 3.3.1).
    const MAX_INTEGER: u64 = 999_999_999_999_999;
    /// Usual size of an item, for preallocation.
    const USUAL_ITEM_BYTES: usize = 64;
    if rates.is_empty() {
        return Vec::new();
    }
    let room = rates.len().saturating_mul(USUAL_ITEM_BYTES);
    let (mut policies, mut limits) = (String::with_capacity(room), String::with_capacity(room));
    for rate in rates {
        let comma = if policies.is_empty() { "" } else { ", " };
        let name = structured_string(&rate.policy);
        let [quota, window_s, left] =
            [rate.quota, rate.window_s, rate.left].map(|number| number.min(MAX_INTEGER));
        // Requests are the default unit. The other units are not registered.
        let unit = match rate.unit {
            Unit::Requests => "",
            Unit::Elements => ";qu=\"tensor-elements\"",
            Unit::Bytes => ";qu=\"tensor-bytes\"",
            Unit::Tokens => ";qu=\"tokens\"",
        };
        // Writing to a String does not fail.
        let _ = write!(policies, "{comma}{name};q={quota}{unit};w={window_s}");
        let _ = write!(limits, "{comma}{name};r={left}");
        if let Some(reset_s) = rate.reset_s {
            let _ = write!(limits, ";t={}", reset_s.min(MAX_INTEGER));
        }
    }
    vec![("ratelimit-policy", policies), ("ratelimit", limits)]
}

/// A string of a structured field: printable ASCII in quotes.
fn structured_string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len().saturating_add(2));
    quoted.push('"');
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

/// `google.rpc.Status` with an `ErrorInfo` and, if waiting helps, a `RetryInfo`.
fn details(denial: &Denial, message: &str) -> Vec<u8> {
    let any = |kind: &str, value: Message| {
        Message::default()
            .bytes(1, format!("type.googleapis.com/google.rpc.{kind}"))
            .bytes(2, value.into_bytes())
    };
    let info = Message::default()
        .bytes(1, denial.reason.public_reason().name())
        .bytes(2, "tensorgate");
    let status = denial.grpc_status();
    let mut details = Message::default()
        .varint(1, u64::from(status as u8))
        .bytes(2, message)
        .message(3, any("ErrorInfo", info));
    if let Some(wait) = denial.retry_after_s {
        let delay = Message::default().varint(1, wait);
        details = details.message(3, any("RetryInfo", Message::default().message(1, delay)));
    }
    details.into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests"
    )]

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
    fn a_grpc_message_is_percent_encoded() {
        for (message, expected) in [
            ("not granted", "not granted"),
            ("50 %", "50 %25"),
            ("é\n", "%C3%A9%0A"),
            ("", ""),
        ] {
            assert_eq!(percent_encoded(message), expected);
        }
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
    fn a_servers_client_error_has_its_status_and_openais_code() {
        use tensorgate_policy::denial::ClientErrorStatus as Status;
        let invalid = "invalid_request_error";
        for (reason, server_status, (expected, kind, code)) in [
            (
                Reason::BackendTooLong,
                Status::BadRequest,
                (400_u16, invalid, "context_length_exceeded"),
            ),
            (
                Reason::BackendTooLong,
                Status::ContentTooLarge,
                (413, invalid, "context_length_exceeded"),
            ),
            (
                Reason::BackendRejected,
                Status::UnprocessableContent,
                (422, invalid, "backend-rejected"),
            ),
            (
                Reason::BackendUnknownModel,
                Status::NotFound,
                (404, invalid, "model_not_found"),
            ),
            (
                Reason::BackendBusy,
                Status::TooManyRequests,
                (429, "rate_limit_error", "rate_limit_exceeded"),
            ),
        ] {
            let denial = Denial {
                server_status: Some(server_status),
                ..Denial::new(reason, "CAUSE")
            };
            let Answer::Rest { status, body, .. } =
                Answer::to_denial(&denial, Protocol::OpenAi, "0f3c")
            else {
                panic!("REST")
            };
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(
                body.get("error"),
                Some(&serde_json::json!({
                    "message": reason.title(), "type": kind, "param": null, "code": code,
                }))
            );
            assert_eq!(status, expected, "{reason}");
            assert_eq!(body.get("status"), Some(&serde_json::json!(expected)));
            let Answer::Grpc { status, .. } = Answer::to_denial(&denial, Protocol::OipGrpc, "0f3c")
            else {
                panic!("gRPC")
            };
            assert_eq!(status, server_status.grpc());
        }
    }

    #[test]
    fn an_api_that_is_not_served_has_its_own_form_of_error() {
        let json = |reason, path| {
            let denial = Denial::new(reason, "CAUSE");
            match Answer::to_denial_of_path(&denial, Protocol::OpenAi, "0f3c", path) {
                Answer::Rest { status, body, .. } => {
                    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
                    (status, body)
                }
                Answer::Grpc { .. } => panic!("REST"),
            }
        };
        let unknown = Reason::NotAnInferenceRoute;
        let (status, body) = json(unknown, "/v1/messages?beta=true");
        assert_eq!(status, 404);
        assert_eq!(
            body,
            serde_json::json!({
                "type": "error", "title": "no such route", "status": 404, "instance": "0f3c",
                "error": {
                    "type": "not_found_error", "param": null, "code": "not-an-inference-route",
                    "message": "no such route: the Messages API is not served here, use OpenAI's \
                                POST /v1/chat/completions",
                },
            })
        );
        let (_, body) = json(unknown, "/v1/responses");
        assert_eq!(body["type"], "urn:tensorgate:not-an-inference-route");
        assert_eq!(body["error"]["type"], "invalid_request_error");
        assert!(
            body["error"]["message"]
                .as_str()
                .unwrap()
                .contains("/v1/chat/completions")
        );
        // Others learn nothing more than before.
        for (reason, path) in [
            (unknown, "/v1/files"),
            (Reason::Unauthenticated, "/v1/messages"),
            (Reason::NotGranted, "/v1/responses"),
        ] {
            let (_, body) = json(reason, path);
            assert_eq!(body["error"]["message"], reason.title(), "{path}");
        }
    }

    #[test]
    fn no_rejection_contains_its_cause_and_only_faults_of_the_request_name_a_field() {
        for reason in Reason::ALL {
            let expected = || Some("SHAPE".to_owned());
            let denial = Denial::with_field(reason, "FIELD", "CAUSE").expecting(expected());
            let (status, _, body) = rest(&denial);
            let of_the_head = [
                Reason::HeaderTooLarge,
                Reason::AmbiguousRequest,
                Reason::HttpVersion,
                Reason::NotAnInferenceRoute,
                Reason::UnsupportedMediaType,
                Reason::BodyTooLarge,
            ];
            let names_field = (Reason::Malformed..=Reason::UrlBlocked).contains(&reason)
                || of_the_head.contains(&reason);
            assert_eq!(status, reason.http_status());
            assert!(!body.to_string().contains("CAUSE"), "{reason}");
            let described = body.to_string().contains("FIELD: expected SHAPE");
            assert_eq!(described, names_field, "{reason}");
            let (_, _, unnamed) = rest(&Denial::new(reason, "CAUSE").expecting(expected()));
            assert!(!unnamed.to_string().contains("SHAPE"), "{reason}");
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
                holds(reason.public_reason().name().as_bytes())
                    && holds(b"tensorgate")
                    && !holds(b"CAUSE"),
                "{reason}"
            );
            assert_eq!(header(&headers, "x-request-id"), Some("0f3c"));
        }
    }

    #[test]
    fn rejections_have_the_headers_of_their_status() {
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
    fn a_rejected_content_encoding_lists_the_accepted_ones() {
        let refused = |codings: &[Coding]| Denial {
            codings: Some(codings.iter().copied().collect()),
            ..Denial::new(Reason::UnsupportedEncoding, "br")
        };
        for (codings, expected) in [
            (&[][..], "identity"),
            (&[Coding::Gzip], "identity, gzip"),
            (&Coding::ALL, "identity, gzip, deflate"),
        ] {
            let (status, headers, _) = rest(&refused(codings));
            assert_eq!(status, 415);
            assert_eq!(header(&headers, "accept-encoding"), Some(expected));
            let answer = Answer::to_denial(&refused(codings), Protocol::OipGrpc, "");
            let Answer::Grpc { headers, .. } = answer else {
                panic!("gRPC")
            };
            assert_eq!(header(&headers, "grpc-accept-encoding"), Some(expected));
        }
        let (_, headers, _) = rest(&Denial::new(Reason::UnsupportedEncoding, "binary data"));
        assert_eq!(header(&headers, "accept-encoding"), None);
    }

    fn note(policy: &str, unit: Unit, left: u64, reset_s: Option<u64>) -> RateNote {
        RateNote {
            policy: policy.into(),
            unit,
            quota: 100,
            window_s: 60,
            left,
            reset_s,
        }
    }

    #[test]
    fn a_rate_rejection_has_retry_after_if_waiting_helps() {
        for (wait, limit, retry) in [
            (Some(7), "\"a\\\"b\\\\?\";r=0;t=7", Some("7")),
            (None, "\"a\\\"b\\\\?\";r=0", None),
        ] {
            let denial = Denial {
                rates: vec![note("a\"b\\é", Unit::Requests, 0, wait)],
                retry_after_s: wait,
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
            retry_after_s: Some(7),
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
    fn every_limit_is_in_both_ratelimit_fields() {
        assert_eq!(rate_fields(&[]), []);
        let notes = [
            note("g", Unit::Requests, 3, Some(0)),
            note("g:elements", Unit::Elements, 1, Some(5)),
            RateNote {
                quota: u64::MAX,
                window_s: 86_400,
                ..note("g:bytes:day", Unit::Bytes, u64::MAX, Some(u64::MAX))
            },
        ];
        assert_eq!(
            rate_fields(&notes),
            [
                (
                    "ratelimit-policy",
                    "\"g\";q=100;w=60, \"g:elements\";q=100;qu=\"tensor-elements\";w=60, \
                     \"g:bytes:day\";q=999999999999999;qu=\"tensor-bytes\";w=86400"
                        .to_owned()
                ),
                (
                    "ratelimit",
                    "\"g\";r=3;t=0, \"g:elements\";r=1;t=5, \"g:bytes:day\";r=999999999999999;t=999999999999999"
                        .to_owned()
                ),
            ]
        );
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
