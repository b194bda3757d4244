//! The header fields for the upstream, created from the evaluated request in one canonical form.
//!
//! A client's field is forwarded only if it is named here: the path, declared lengths, an accepted
//! media type, a deadline and a trace, each validated. Claims of a verified token are forwarded in
//! the fields that the policy names, which no client can send.

mod rewrite;

use tensorgate_identity::ClaimFields;
use tensorgate_policy::request::{ContentType, Encoding, FORM, Head, Protocol};
use tensorgate_wire::trace_context::{CLIENT_TRACEPARENT, TRACEPARENT, TraceParent};
use tensorgate_wire::{headers, refused_in};

use crate::host::Field;
pub(crate) use rewrite::Rewrite;

/// `:authority` if the caller's is not forwarded.
const AUTHORITY: &str = "tensorgate";

/// Maximum length of a forwarded `:authority`: a DNS name, a colon and a port.
const MAX_AUTHORITY_BYTES: usize = 253 + 1 + MAX_PORT_DIGITS;

/// Maximum digits of a port.
const MAX_PORT_DIGITS: usize = 5;

/// `:scheme` and `x-forwarded-proto`; the connection to the host is the proxy's own.
const SCHEME: &str = "http";

/// Usual number of fields without claims, for preallocation.
const USUAL_FIELDS: usize = 12;

/// Maximum digits of a `grpc-timeout` (gRPC over HTTP/2, "TimeoutValue").
const MAX_TIMEOUT_DIGITS: usize = 8;

/// Fields to forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// `:method`.
    pub method: String,
    /// `:path` with its query.
    pub path: String,
    /// `:authority`. Envoy selects the route again after its headers have changed, and a gateway's
    /// routes may be for certain hosts only.
    authority: String,
    /// The gate's id of the request.
    pub request_id: String,
    /// The `x-request-id` that is forwarded instead: the one that arrived. Empty: none.
    pub client_request_id: Option<String>,
    /// `grpc-timeout`, if it occurs once and is well-formed.
    pub grpc_timeout: Option<String>,
    /// The caller's `traceparent` for the host, with the name of its field. A model server never
    /// gets it.
    pub traceparent: Option<(&'static str, String)>,
    /// Claims of the caller's token.
    pub claims: ClaimFields,
    content_type: Option<String>,
    content_length: Option<String>,
    json_length: Option<String>,
    encoding: Encoding,
    protocol: Protocol,
    answer_protocol: Protocol,
}

impl Upstream {
    /// Collects the fields that may be forwarded; [`Upstream::accept`] adds the rest once the head
    /// is read.
    pub fn new(method: &str, path: &str, request_id: &str, fields: &[Field]) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            authority: authority(fields).unwrap_or(AUTHORITY).to_owned(),
            request_id: request_id.to_owned(),
            client_request_id: None,
            grpc_timeout: grpc_timeout(fields),
            traceparent: None,
            claims: ClaimFields::new(),
            content_type: None,
            content_length: None,
            json_length: None,
            encoding: Encoding::Identity,
            protocol: Protocol::OipRest,
            answer_protocol: Protocol::OipRest,
        }
    }

    /// Adds what the head declares.
    pub fn accept(&mut self, head: &Head<'_>) {
        self.protocol = head.route.protocol();
        self.content_type = match &head.content_type {
            ContentType::Json => Some("application/json".to_owned()),
            ContentType::Grpc => Some("application/grpc".to_owned()),
            ContentType::Form(boundary) => Some(format!("{FORM}; boundary={}", boundary.as_str())),
            ContentType::Other(media_type) => Some(media_type.clone().into_owned()),
            ContentType::Absent | ContentType::Malformed => None,
        };
        self.content_length = head.content_length.map(|bytes| bytes.to_string());
        self.json_length = head.json_length.map(|bytes| bytes.to_string());
        self.encoding = head.encoding;
        self.answer_protocol = if is_grpc(&head.content_type) {
            Protocol::OipGrpc
        } else if self.protocol == Protocol::Json {
            refused_in(&self.path, self.protocol)
        } else {
            self.protocol
        };
    }

    /// Protocol of a rejection: the route's, except for a gRPC content type on another route. Envoy
    /// converts every local response to such a request into gRPC and would choose its own status
    /// for an HTTP response.
    pub const fn answer_protocol(&self) -> Protocol {
        self.answer_protocol
    }

    /// Every field except the signed context, in order.
    pub fn fields(&self) -> Vec<(&str, &str)> {
        let mut fields = Vec::with_capacity(USUAL_FIELDS);
        fields.extend([
            (":method", self.method.as_str()),
            (":path", self.path.as_str()),
            (":authority", self.authority.as_str()),
            (":scheme", SCHEME),
            // Envoy finds no route without this field.
            ("x-forwarded-proto", SCHEME),
        ]);
        let request_id = self.client_request_id.as_ref().unwrap_or(&self.request_id);
        fields.extend((!request_id.is_empty()).then_some(("x-request-id", request_id.as_str())));
        fields.extend(
            self.traceparent
                .as_ref()
                .map(|(name, value)| (*name, value.as_str())),
        );
        fields.extend(
            self.content_type
                .as_deref()
                .map(|value| ("content-type", value)),
        );
        fields.extend(
            self.content_length
                .as_deref()
                .map(|value| ("content-length", value)),
        );
        fields.extend(
            self.json_length
                .as_deref()
                .map(|value| (headers::JSON_LENGTH, value)),
        );
        if let Encoding::Coded(coding) = self.encoding {
            let name = if self.protocol.is_grpc() {
                "grpc-encoding"
            } else {
                "content-encoding"
            };
            fields.push((name, coding.name()));
        }
        if self.protocol.is_grpc() {
            fields.push(("te", "trailers"));
            fields.extend(
                self.grpc_timeout
                    .as_deref()
                    .map(|value| ("grpc-timeout", value)),
            );
        }
        fields.extend(
            self.claims
                .iter()
                .map(|(name, value)| (&**name, value.as_str())),
        );
        fields
    }
}

/// The caller's `:authority`, if it occurs once and is well-formed.
fn authority(fields: &[Field]) -> Option<&str> {
    single_text(fields, ":authority").filter(|text| is_authority(text))
}

/// The value of a field that occurs once, as text. Names of fields are case-insensitive.
pub(crate) fn single_text<'f>(fields: &'f [Field], name: &str) -> Option<&'f str> {
    let mut values = fields
        .iter()
        .filter(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value);
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    core::str::from_utf8(value).ok()
}

/// Whether a text is `HOST` or `HOST:PORT`. The host's HTTP library resets a stream with another
/// `:authority`, and ends a connection, which clients share, after many such streams.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (text, "0"),
    };
    let bracketed = host.strip_prefix('[');
    let address = bracketed.and_then(|rest| rest.strip_suffix(']'));
    let is_host = address.map_or_else(
        || is_made_of(host, is_host_byte),
        |address| is_made_of(address, is_address_byte),
    );
    text.len() <= MAX_AUTHORITY_BYTES
        && is_host
        && port.len() <= MAX_PORT_DIGITS
        && is_made_of(port, |byte| byte.is_ascii_digit())
}

/// Whether a DNS name or an IPv4 address may have this byte.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._".contains(&byte)
}

/// Whether an IPv6 address may have this byte.
fn is_address_byte(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || b":.".contains(&byte)
}

/// Whether a text has one or more bytes, and only such ones.
fn is_made_of(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(allowed)
}

/// What Envoy treats as gRPC: the type alone or with a message format (`+proto`).
fn is_grpc(content_type: &ContentType<'_>) -> bool {
    match content_type {
        ContentType::Grpc => true,
        ContentType::Other(media_type) => media_type.starts_with("application/grpc+"),
        ContentType::Absent | ContentType::Json | ContentType::Form(_) | ContentType::Malformed => {
            false
        }
    }
}

/// The single well-formed `grpc-timeout`; a repeated or malformed one is ignored.
fn grpc_timeout(fields: &[Field]) -> Option<String> {
    let text = single_text(fields, "grpc-timeout")?;
    let digits = text.strip_suffix(['H', 'M', 'S', 'm', 'u', 'n'])?;
    let well_formed = (1..=MAX_TIMEOUT_DIGITS).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    well_formed.then(|| text.to_owned())
}

/// The caller's single valid `traceparent`, in its own field or in the one to which Envoy moves it.
/// A repeated or invalid one is dropped.
pub(crate) fn traceparent(fields: &[Field]) -> Option<(&'static str, String)> {
    let has = |name: &str| {
        let mut names = fields.iter().map(|(known, _)| known);
        names.any(|known| known.eq_ignore_ascii_case(name.as_bytes()))
    };
    let name = match (has(TRACEPARENT), has(CLIENT_TRACEPARENT)) {
        (true, false) => TRACEPARENT,
        (false, true) => CLIENT_TRACEPARENT,
        (true, true) | (false, false) => return None,
    };
    let text = single_text(fields, name)?;
    TraceParent::read(text).map(|_| (name, text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_forwarded_only_if_single_and_valid() {
        const TRACE: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let check = |values: &[&[u8]], expected: Option<&[u8]>| {
            let fields: Vec<Field> = values
                .iter()
                .map(|value| (b"traceparent".to_vec(), value.to_vec()))
                .collect();
            let mut upstream = Upstream::new("GET", "/v2", "ours", &fields);
            assert_eq!(upstream.traceparent, None, "without a host");
            upstream.traceparent = traceparent(&fields);
            let forwarded = upstream.fields();
            let found = forwarded.iter().find(|(name, _)| *name == TRACEPARENT);
            let found = found.map(|(_, value)| value.as_bytes());
            assert_eq!(found, expected, "{values:?}");
        };
        check(&[TRACE], Some(TRACE));
        check(&[], None);
        check(&[TRACE, TRACE], None);
        check(&[b"00-x"], None);
        check(&[b"\xff"], None);
    }

    #[test]
    fn a_trace_that_envoy_has_moved_is_forwarded_where_it_is() {
        const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let field = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        let moved = field(CLIENT_TRACEPARENT, TRACE);
        let expected = Some((CLIENT_TRACEPARENT, TRACE.to_owned()));
        assert_eq!(traceparent(std::slice::from_ref(&moved)), expected);
        let both = [moved, field(TRACEPARENT, TRACE)];
        assert_eq!(traceparent(&both), None, "a client has sent both");
        let joined = field(CLIENT_TRACEPARENT, &format!("{TRACE},{TRACE}"));
        assert_eq!(traceparent(&[joined]), None);
    }

    #[test]
    fn a_deadline_is_forwarded_only_if_single_and_well_formed() {
        let check = |values: &[&[u8]], expected: Option<&str>| {
            let fields: Vec<Field> = values
                .iter()
                .map(|value| (b"grpc-timeout".to_vec(), value.to_vec()))
                .collect();
            assert_eq!(grpc_timeout(&fields).as_deref(), expected, "{values:?}");
        };
        check(&[], None);
        check(&[b"1S"], Some("1S"));
        check(&[b"99999999n"], Some("99999999n"));
        check(&[b"100000000n"], None);
        check(&[b"S"], None);
        check(&[b"-1S"], None);
        check(&[b"+1S"], None);
        check(&[b"1s"], None);
        check(&[b"1\xff"], None);
        check(&[b"1S", b"2S"], None);
    }

    #[test]
    fn only_one_well_formed_authority_is_forwarded() {
        let check = |values: &[&[u8]], expected: &str| {
            let fields: Vec<Field> = values
                .iter()
                .map(|value| (b":authority".to_vec(), value.to_vec()))
                .collect();
            let upstream = Upstream::new("GET", "/v2", "", &fields);
            let forwarded = upstream
                .fields()
                .into_iter()
                .find(|(name, _)| *name == ":authority");
            assert_eq!(forwarded, Some((":authority", expected)), "{values:?}");
        };
        check(&[b"gate.example"], "gate.example");
        check(&[b"Gate_1.example:8443"], "Gate_1.example:8443");
        check(&[b"[::1]"], "[::1]");
        check(&[b"[::1]:443"], "[::1]:443");
        for other in [
            b"".as_slice(),
            b"gate.example:",
            b"gate.example:1:2",
            b"gate.example:123456",
            b"outbound|8443||gate.example",
            b"[::1",
            b"[gate]",
            b"gate]",
            b"gate\xff",
            &[b'a'; MAX_AUTHORITY_BYTES + 1],
        ] {
            check(&[other], AUTHORITY);
        }
        let longest = [b'a'; MAX_AUTHORITY_BYTES];
        check(&[&longest], &"a".repeat(MAX_AUTHORITY_BYTES));
        check(&[], AUTHORITY);
        check(&[b"gate.example", b"gate.example"], AUTHORITY);
    }

    #[test]
    fn a_host_gets_the_id_that_arrived_and_a_model_server_the_gates() {
        let check = |received: Option<&str>, expected: Option<&str>| {
            let mut upstream = Upstream::new("GET", "/v2", "ours", &[]);
            upstream.client_request_id = received.map(str::to_owned);
            let fields = upstream.fields();
            let forwarded = fields.iter().find(|(name, _)| *name == "x-request-id");
            assert_eq!(forwarded.map(|(_, value)| *value), expected, "{received:?}");
        };
        check(None, Some("ours"));
        check(Some("a_b.c=d:e/f,g"), Some("a_b.c=d:e/f,g"));
        check(Some(""), None);
    }
}
