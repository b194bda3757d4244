//! The only place that maps a denial to a response. The caller sees the reason's title, the invalid
//! field of its own request and what the contract expects of it. The cause is only logged.

use core::fmt::Write as _;
use std::borrow::Cow;

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

/// An answer as an HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer<'a> {
    /// Status.
    pub status: u16,
    /// Header fields.
    pub fields: Cow<'a, [(&'a str, Cow<'a, str>)]>,
    /// The body.
    pub body: &'a [u8],
}

impl Answer {
    /// The answer as an HTTP response. One of gRPC is a trailers-only response, not the proxy's own
    /// gRPC form: that form depends on the request's content type, and would answer 200 with text
    /// on a gRPC path without one.
    pub fn to_http(&self) -> HttpAnswer<'_> {
        fn borrowed<'a>((name, value): &'a (&'static str, String)) -> (&'a str, Cow<'a, str>) {
            (name, value.into())
        }
        match self {
            Self::Rest {
                status,
                headers,
                body,
            } => HttpAnswer {
                status: *status,
                fields: headers.iter().map(borrowed).collect::<Vec<_>>().into(),
                body,
            },
            Self::Grpc {
                status,
                message,
                headers,
            } => {
                let mut fields = vec![
                    ("content-type", "application/grpc".into()),
                    ("grpc-status", (*status as u8).to_string().into()),
                    ("grpc-message", percent_encoded(message).into()),
                ];
                fields.extend(headers.iter().map(borrowed));
                HttpAnswer {
                    status: 200,
                    fields: fields.into(),
                    body: &[],
                }
            }
        }
    }

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
            Some(api) => format!("{}: {}", denial.title(), api.advice()),
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
        let wait = denial.wait_s().map(|wait| wait.to_string());
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
            body: problem(
                (reason, denial.title(), status),
                protocol,
                &message,
                request_id,
                unserved,
            )
            .into_bytes(),
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
    let title = denial.title();
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
    (reason, title, status): (Reason, &str, u16),
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
    member(&mut body, "title", title);
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
        Reason::HeaderTooLarge
        | Reason::AmbiguousRequest
        | Reason::HttpVersion
        | Reason::Unauthenticated
        | Reason::LockedOut
        | Reason::NotAnInferenceRoute
        | Reason::MethodNotAllowed
        | Reason::UnsupportedMediaType
        | Reason::UnsupportedEncoding
        | Reason::NotGranted
        | Reason::RateLimited
        | Reason::Concurrency
        | Reason::BodyTooLarge
        | Reason::Overloaded
        | Reason::Malformed
        | Reason::DuplicateKey
        | Reason::TooDeep
        | Reason::Parameter
        | Reason::OutputNotAllowed
        | Reason::UnknownInput
        | Reason::DuplicateInput
        | Reason::MissingInput
        | Reason::Datatype
        | Reason::Shape
        | Reason::SizeMismatch
        | Reason::ItemTooLong
        | Reason::NotFinite
        | Reason::OutOfRange
        | Reason::UrlBlocked
        | Reason::CostExceeded
        | Reason::Blocked
        | Reason::HandlerRejected
        | Reason::HandlerFault
        | Reason::BackendRejected
        | Reason::BackendUnavailable
        | Reason::BackendTimeout
        | Reason::BackendFault => reason.name(),
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
    if let Some(wait) = denial.wait_s() {
        let delay = Message::default().varint(1, wait);
        details = details.message(3, any("RetryInfo", Message::default().message(1, delay)));
    }
    details.into_bytes()
}

#[cfg(test)]
mod tests;
