//! The header fields for the upstream, created from the evaluated request in one canonical form.
//!
//! A client's field is forwarded only if it is named here: the path, declared lengths, an accepted
//! media type, a deadline and a trace, each validated. Claims of a verified token are forwarded in
//! the fields that the policy names, which no client can send.

mod rewrite;

use std::fmt::Write as _;
use std::ops::Range;

use smallvec::SmallVec;
use tensorgate_identity::ClaimFields;
use tensorgate_policy::request::{ContentType, Encoding, FORM, Head, Protocol};
use tensorgate_wire::headers::ReadHead;
use tensorgate_wire::trace_context::TraceParent;
use tensorgate_wire::{headers, refused_in};

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

/// Usual size of the values, for preallocation.
const USUAL_BYTES: usize = 256;

/// Maximum digits of a `grpc-timeout` (gRPC over HTTP/2, "TimeoutValue").
const MAX_TIMEOUT_DIGITS: usize = 8;

/// Fields to forward. Their values are in one block of memory.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// All values that are not fixed.
    text: String,
    /// Names, and where their values are. The method and the path are the first two.
    fields: Vec<(&'static str, Value)>,
    request_id: Range<usize>,
    /// Claims of the caller's token.
    pub claims: ClaimFields,
    answer_protocol: Protocol,
}

/// The value of a field.
#[derive(Clone, Debug)]
enum Value {
    Fixed(&'static str),
    Written(Range<usize>),
}

impl Upstream {
    /// Collects the fields that may be forwarded; [`Upstream::accept`] adds the rest once the head
    /// is evaluated. `request_id` is the gate's. Only a host can tell the id that arrived from the
    /// gate's, which is in the context, so only a host (`has_host`) gets that one, and the caller's
    /// trace.
    pub fn new(read: &ReadHead<'_>, request_id: &str, has_host: bool) -> Self {
        let mut new = Self {
            text: String::with_capacity(USUAL_BYTES.saturating_add(read.path.len())),
            fields: Vec::with_capacity(USUAL_FIELDS),
            request_id: 0..0,
            claims: ClaimFields::new(),
            answer_protocol: Protocol::OipRest,
        };
        new.write(":method", read.method);
        new.write(":path", &read.path);
        // Envoy selects the route again after its headers have changed, and a gateway's routes may
        // be for certain hosts only.
        match read.authority.filter(|text| is_authority(text)) {
            Some(authority) => new.write(":authority", authority),
            None => new.fix(":authority", AUTHORITY),
        }
        new.fix(":scheme", SCHEME);
        // Envoy finds no route without this field.
        new.fix("x-forwarded-proto", SCHEME);
        new.request_id = new.append(request_id);
        let (id, trace) = if has_host {
            let trace = read.traceparent;
            let trace = trace.filter(|(_, text)| TraceParent::read(text).is_some());
            (new.append(read.request_id), trace)
        } else {
            (new.request_id.clone(), None)
        };
        if !id.is_empty() {
            new.fields.push(("x-request-id", Value::Written(id)));
        }
        if let Some((name, text)) = trace {
            new.write(name, text);
        }
        new
    }

    /// Adds what the head declares. `grpc_timeout` is the caller's, as it arrived.
    pub fn accept(&mut self, head: &Head<'_>, grpc_timeout: Option<&str>) {
        let protocol = head.route.protocol();
        match &head.content_type {
            ContentType::Json => self.fix("content-type", "application/json"),
            ContentType::Grpc => self.fix("content-type", "application/grpc"),
            ContentType::Form(boundary) => {
                let boundary = boundary.as_str();
                self.format("content-type", format_args!("{FORM}; boundary={boundary}"));
            }
            ContentType::Other(media_type) => self.write("content-type", media_type),
            ContentType::Absent | ContentType::Malformed => {}
        }
        if let Some(bytes) = head.content_length {
            self.format("content-length", format_args!("{bytes}"));
        }
        if let Some(bytes) = head.json_length {
            self.format(headers::JSON_LENGTH, format_args!("{bytes}"));
        }
        if let Encoding::Coded(coding) = head.encoding {
            let name = if protocol.is_grpc() {
                "grpc-encoding"
            } else {
                "content-encoding"
            };
            self.fix(name, coding.name());
        }
        if protocol.is_grpc() {
            self.fix("te", "trailers");
            if let Some(text) = grpc_timeout.filter(|text| is_grpc_timeout(text)) {
                self.write("grpc-timeout", text);
            }
        }
        self.answer_protocol = if is_grpc(&head.content_type) {
            Protocol::OipGrpc
        } else if protocol == Protocol::Json {
            refused_in(self.path(), protocol)
        } else {
            protocol
        };
    }

    /// Protocol of a rejection: the route's, except for a gRPC content type on another route. Envoy
    /// converts every local response to such a request into gRPC and would choose its own status
    /// for an HTTP response.
    pub const fn answer_protocol(&self) -> Protocol {
        self.answer_protocol
    }

    /// `:method`.
    pub fn method(&self) -> &str {
        self.value(0)
    }

    /// `:path` with its query.
    pub fn path(&self) -> &str {
        self.value(1)
    }

    /// The gate's id of the request.
    pub fn request_id(&self) -> &str {
        self.written(&self.request_id)
    }

    /// Every field except the signed context, in order.
    pub fn fields(&self) -> SmallVec<[(&str, &str); USUAL_FIELDS]> {
        let fields = self.fields.iter();
        let fields = fields.map(|(name, value)| (*name, self.text_of(value)));
        let claims = self.claims.iter();
        let claims = claims.map(|(name, value)| (&**name, value.as_str()));
        fields.chain(claims).collect()
    }

    fn value(&self, position: usize) -> &str {
        let field = self.fields.get(position);
        field.map_or("", |(_, value)| self.text_of(value))
    }

    fn text_of(&self, value: &Value) -> &str {
        match value {
            Value::Fixed(text) => text,
            Value::Written(range) => self.written(range),
        }
    }

    fn written(&self, range: &Range<usize>) -> &str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    fn append(&mut self, value: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(value);
        start..self.text.len()
    }

    fn write(&mut self, name: &'static str, value: &str) {
        let range = self.append(value);
        self.fields.push((name, Value::Written(range)));
    }

    fn format(&mut self, name: &'static str, value: core::fmt::Arguments<'_>) {
        let start = self.text.len();
        // A string takes everything.
        let _ = self.text.write_fmt(value);
        let range = start..self.text.len();
        self.fields.push((name, Value::Written(range)));
    }

    fn fix(&mut self, name: &'static str, value: &'static str) {
        self.fields.push((name, Value::Fixed(value)));
    }
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

/// Whether a text is a well-formed `grpc-timeout`.
fn is_grpc_timeout(text: &str) -> bool {
    let digits = text.strip_suffix(['H', 'M', 'S', 'm', 'u', 'n']);
    digits.is_some_and(|digits| {
        (1..=MAX_TIMEOUT_DIGITS).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use tensorgate_policy::policy::Templates;
    use tensorgate_policy::request::Identity;
    use tensorgate_wire::trace_context::{CLIENT_TRACEPARENT, TRACEPARENT};

    use super::*;

    const PATH: &str = "/v2/models/m/infer";
    const GRPC_PATH: &str = "/inference.GRPCInferenceService/ModelInfer";

    /// The forwarded values of a field, for a head with these fields.
    fn forwarded(path: &str, has_host: bool, fields: &[(&str, &[u8])], name: &str) -> Vec<String> {
        let first = [(":method", b"POST".as_slice()), (":path", path.as_bytes())];
        let fields = [&first, fields].concat();
        let read = ReadHead::read(&fields, false);
        let mut upstream = Upstream::new(&read, "ours", has_host);
        let grpc_timeout = read.grpc_timeout;
        let head = read.into_head(Identity::Missing, &Templates::default());
        upstream.accept(&head, grpc_timeout);
        let fields = upstream.fields();
        let named = fields.iter().filter(|(known, _)| *known == name);
        named.map(|(_, value)| (*value).to_owned()).collect()
    }

    #[test]
    fn a_trace_is_forwarded_only_if_single_and_valid() {
        const TRACE: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        const JOINED: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01,\
                                00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        // Envoy moves the field to the second name.
        for (name, other) in [
            (TRACEPARENT, CLIENT_TRACEPARENT),
            (CLIENT_TRACEPARENT, TRACEPARENT),
        ] {
            let check = |fields: &[(&str, &[u8])], expected: &[&[u8]]| {
                assert!(
                    forwarded(PATH, false, fields, name).is_empty(),
                    "without a host"
                );
                let found = forwarded(PATH, true, fields, name);
                let found: Vec<_> = found.iter().map(String::as_bytes).collect();
                assert_eq!(found, expected, "{fields:?}");
                assert!(forwarded(PATH, true, fields, other).is_empty());
            };
            check(&[(name, TRACE)], &[TRACE]);
            check(&[], &[]);
            check(&[(name, TRACE), (name, TRACE)], &[]);
            check(&[(name, JOINED)], &[]);
            // A client has sent both.
            check(&[(name, TRACE), (other, TRACE)], &[]);
            check(&[(name, b"00-x")], &[]);
            check(&[(name, b"\xff")], &[]);
        }
    }

    #[test]
    fn a_deadline_is_forwarded_only_if_single_and_well_formed() {
        let check = |values: &[&[u8]], expected: Option<&str>| {
            let mut fields: Vec<_> = values
                .iter()
                .map(|value| ("grpc-timeout", *value))
                .collect();
            fields.push(("content-type", b"application/grpc"));
            let found = forwarded(GRPC_PATH, false, &fields, "grpc-timeout");
            assert_eq!(found, Vec::from_iter(expected), "{values:?}");
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
            let fields: Vec<_> = values.iter().map(|value| (":authority", *value)).collect();
            let found = forwarded(PATH, false, &fields, ":authority");
            assert_eq!(found, [expected], "{values:?}");
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
    }

    #[test]
    fn a_host_gets_the_id_that_arrived_and_a_model_server_the_gates() {
        let check = |has_host, received: Option<&str>, expected: Option<&str>| {
            let fields = received.map(|id| ("x-request-id", id.as_bytes()));
            let found = forwarded(PATH, has_host, fields.as_slice(), "x-request-id");
            assert_eq!(found, Vec::from_iter(expected), "{received:?}");
        };
        check(false, Some("theirs"), Some("ours"));
        check(true, Some("a_b.c=d:e/f,g"), Some("a_b.c=d:e/f,g"));
        check(true, None, None);
    }
}
