//! Extracts facts from header fields: route, types, credential, and ambiguities. An ambiguous head
//! is reported as such, with a cause that contains no client data.

mod media_type;
mod target;

use std::borrow::Cow;

use tensorgate_policy::policy::{KeyLocations, MAX_KEY_HEADER_BYTES, Templates};
use tensorgate_policy::request::{
    CallerDigests, Coding, ContentType, Credential, Encoding, Head, Identity, Operation,
    Operations, Proofs, Protocol, Route,
};
use tensorgate_policy::{Policy, RequestHash};

use crate::limits::MAX_REQUEST_ID_BYTES;
use crate::trace_context::{CLIENT_TRACEPARENT, TRACEPARENT};
use crate::{credential, percent, route};
pub(crate) use media_type::{
    Charset, classify, classify_text, is_token, is_token_byte, speaks_grpc,
};
use target::Target;

/// Prefix of reserved headers, which clients must not send.
pub const OWN_PREFIX: &[u8] = b"x-tensorgate-";

/// Field with the signed context.
pub(crate) const CONTEXT: &str = "x-tensorgate-context";

/// Binary data extension: bytes of JSON at the beginning of a request or response body.
pub const JSON_LENGTH: &str = "inference-header-content-length";

/// Field with the proxy's information on client certificates.
pub const CERTIFICATE: &[u8] = b"x-forwarded-client-cert";

/// The content type of a form of names and values.
const URL_ENCODED: &str = "application/x-www-form-urlencoded";

/// Maximum length of a known field name.
const LONGEST_NAME: usize = 32;
const _: () = assert!(MAX_KEY_HEADER_BYTES <= LONGEST_NAME);

/// A parsed head.
#[derive(Debug)]
pub struct ReadHead<'a> {
    /// `:method`; empty if absent.
    pub method: &'a str,
    /// `:path` with its query, without the key; empty if absent. A query that is ignored is left
    /// out.
    pub path: Cow<'a, str>,
    /// Whether [`Self::path`] is without a query that is ignored.
    pub query_ignored: bool,
    /// `x-request-id` as it arrived; empty if absent. The proxy or its client has chosen it.
    pub request_id: &'a str,
    /// `:authority`, if it occurs.
    pub authority: Option<&'a str>,
    /// `grpc-timeout`, if it occurs once and is text.
    pub grpc_timeout: Option<&'a str>,
    /// The caller's trace, if it occurs once and is text, with the name of its field: its own, or
    /// the one to which Envoy moves it.
    pub traceparent: Option<(&'static str, &'a str)>,
    /// Whether a signed context was sent.
    pub has_context: bool,
    /// The credential.
    pub credential: Credential<'a>,
    /// Whether the path contained a key, or something like one; [`Self::path`] is without it.
    pub key_in_path: bool,
    /// Whether a cookie contained a key, or something like one.
    pub key_in_cookie: bool,
    /// `x-forwarded-client-cert`. Only meaningful if the proxy writes it itself.
    pub certificate: Option<&'a str>,
    header_bytes: usize,
    header_count: usize,
    ambiguous: Option<&'static str>,
    route: Route<'a>,
    /// Name of a parameter that an inference does not take.
    refused_query: Option<&'a str>,
    chunked: bool,
    content_type: ContentType<'a>,
    encoding: Encoding,
    json_length: Option<u64>,
    content_length: Option<u64>,
    end_of_stream: bool,
}

impl<'a> ReadHead<'a> {
    /// Parses all fields once, with keys at the default locations. Names are case-insensitive;
    /// values are any bytes. `end_of_stream`: no body follows.
    pub fn read<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &'a [(N, V)], end_of_stream: bool) -> Self {
        let fields = fields.iter();
        let fields = fields.map(|(name, value)| (name.as_ref(), value.as_ref()));
        Self::read_keys(fields, end_of_stream, &KeyLocations::USUAL)
    }

    /// As [`Self::read`], with keys at a policy's locations.
    pub fn read_keys(
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        end_of_stream: bool,
        places: &KeyLocations,
    ) -> Self {
        let mut known = Known::default();
        let (mut header_bytes, mut header_count) = (0_usize, 0_usize);
        let mut doubt = Doubt(None);
        for (name, value) in fields {
            header_count = header_count.saturating_add(1);
            // The proxy's own field is large and is not counted as client data.
            let value_bytes = if name.eq_ignore_ascii_case(CERTIFICATE) {
                0
            } else {
                value.len()
            };
            header_bytes = header_bytes
                .saturating_add(name.len())
                .saturating_add(value_bytes);
            doubt.unless(known.take(name, value, places));
        }
        let content_length = known.body_length(end_of_stream).unwrap_or_else(|cause| {
            doubt.unless(Err(cause));
            None
        });
        doubt.unless(known.consistent());

        let unknown = if known.content_type.is_some_and(speaks_grpc) {
            Protocol::OipGrpc
        } else {
            Protocol::OipRest
        };
        let method = known.method.unwrap_or_default();
        let raw_path = known.path.unwrap_or_default();
        let (path, key_in_path, in_path) = match places.query() {
            None => (Cow::Borrowed(raw_path), false, None),
            Some(name) => match credential::in_query(raw_path, name) {
                Ok(beside) => (beside.path, beside.key.is_some(), beside.key),
                Err(cause) => {
                    doubt.unless(Err(cause));
                    (Cow::Borrowed(percent::without_query(raw_path)), true, None)
                }
            },
        };
        let (key_in_cookie, in_cookie) = match places.cookie() {
            None => (false, None),
            Some(name) => match credential::in_cookies(&known.cookies, name) {
                Ok(key) => (key.is_some(), key),
                Err(cause) => {
                    doubt.unless(Err(cause));
                    (true, None)
                }
            },
        };
        let in_fields = known.has_credential();
        let sent = [in_fields, in_path.is_some(), in_cookie.is_some()];
        if sent.into_iter().filter(|sent| *sent).count() > 1 {
            doubt.unless(Err("two credentials were sent"));
        }
        let credential = match in_path.or(in_cookie) {
            Some(key) => Credential::ApiKey(key),
            None => credential::read(places, known.api_key, known.authorization),
        };
        let Target {
            route,
            path,
            query_ignored,
            refused_query,
        } = Target::resolve(method, raw_path, path, places.query(), unknown);
        let described = known.described(&route, end_of_stream, content_length);
        let (encoding, json_length) = described.unwrap_or_else(|cause| {
            doubt.unless(Err(cause));
            (Encoding::Unknown, None)
        });
        let content_type = known.content_type_of(&route, end_of_stream);
        let expects_body = !route.takes_no_body();
        Self {
            method,
            path,
            query_ignored,
            request_id: known.request_id.unwrap_or_default(),
            authority: known.authority,
            grpc_timeout: known.grpc_timeout.text(),
            traceparent: known.traceparent(),
            has_context: known.has_context,
            credential,
            key_in_path,
            key_in_cookie,
            certificate: known.certificate,
            header_bytes,
            header_count,
            ambiguous: doubt.0,
            route,
            refused_query,
            chunked: known.transfer_encoding.is_some(),
            content_type,
            encoding,
            json_length,
            content_length: content_length.filter(|bytes| *bytes > 0 || expects_body),
            end_of_stream,
        }
    }

    /// Whether the head is ambiguous, and so rejected for every caller.
    pub const fn is_ambiguous(&self) -> bool {
        self.ambiguous.is_some()
    }

    /// Whether its body is a stream of messages.
    pub const fn is_stream(&self) -> bool {
        self.route.is_stream()
    }

    /// As [`Self::into_head`], with all that is known of the caller and under a policy, which may
    /// have an OpenAI model at a path of TF Serving's or at an unknown one.
    pub fn into_head_under(
        self,
        identity: Identity,
        proofs: Proofs,
        withheld: Operations,
        policy: &Policy,
    ) -> Head<'a> {
        let operation = Operation::Metadata;
        let may = |name: &str| {
            let Identity::Client(client) = &identity else {
                return false;
            };
            !withheld.contains(operation)
                && policy.may(client, proofs, name, Protocol::OpenAi, operation)
        };
        let card = route::model_card(self.method, &self.path, &self.route, policy, may);
        let head = Head {
            proofs,
            withheld,
            ..self.into_head(identity, policy.templates())
        };
        match card {
            Some(route) => Head { route, ..head },
            None => head,
        }
    }

    /// The facts for a decision, with the caller's identity. An unknown path may be a route of the
    /// `templates`. Who calls this sets the request's hash, from the gate's own id, and its caller.
    pub fn into_head(self, identity: Identity, templates: &Templates) -> Head<'a> {
        let route = if let Route::Unknown { protocol } = self.route {
            route::own(self.method, &self.path, templates, protocol)
        } else {
            self.route
        };
        Head {
            header_bytes: self.header_bytes,
            header_count: self.header_count,
            ambiguous: self.ambiguous,
            identity,
            proofs: Proofs::NONE,
            withheld: Operations::default(),
            caller: CallerDigests::default(),
            request_hash: RequestHash::default(),
            route,
            query: self.refused_query,
            chunked: self.chunked,
            content_type: self.content_type,
            encoding: self.encoding,
            json_length: self.json_length,
            content_length: self.content_length,
            end_of_stream: self.end_of_stream,
        }
    }
}

/// Checks the name of a field that is not read.
fn unknown_name(name: &[u8]) -> Result<(), &'static str> {
    let (is_pseudo, token) = match name.strip_prefix(b":") {
        Some(rest) => (true, rest),
        None => (false, name),
    };
    if token.is_empty() || !token.iter().copied().all(is_token_byte) {
        return Err("a field name is not a token");
    }
    if is_pseudo {
        return Err("a pseudo-header is unknown");
    }
    Ok(())
}

/// Whether any byte is such a one. The loop does not stop early, so it can be vectorized.
fn any_byte(bytes: &[u8], is_it: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(false, |any, byte| any | is_it(*byte))
}

/// The coding that a value names; names are case-insensitive (RFC 9110, 8.4.1).
fn named(text: Option<&str>) -> Encoding {
    let Some(text) = text.map(|text| text.trim_matches(' ')) else {
        return Encoding::Identity;
    };
    if text.eq_ignore_ascii_case("identity") {
        return Encoding::Identity;
    }
    let codings = [Coding::Gzip, Coding::Deflate];
    let coding = codings
        .into_iter()
        .find(|coding| text.eq_ignore_ascii_case(coding.name()));
    coding.map_or(Encoding::Unknown, Encoding::Coded)
}

/// The first cause of ambiguity.
struct Doubt(Option<&'static str>);

impl Doubt {
    fn unless(&mut self, outcome: Result<(), &'static str>) {
        if let Err(cause) = outcome {
            self.0.get_or_insert(cause);
        }
    }
}

/// Known fields, each at most once.
#[derive(Default)]
struct Known<'a> {
    method: Option<&'a str>,
    path: Option<&'a str>,
    authority: Option<&'a str>,
    scheme: Option<&'a str>,
    host: Option<&'a str>,
    content_type: Option<&'a str>,
    content_length: Option<&'a str>,
    content_encoding: Option<&'a str>,
    transfer_encoding: Option<&'a str>,
    grpc_encoding: Option<&'a str>,
    json_length: Option<&'a str>,
    authorization: Option<&'a str>,
    /// From any field that holds keys.
    api_key: Option<&'a str>,
    /// Only kept if a cookie may be a key.
    cookies: Vec<&'a [u8]>,
    certificate: Option<&'a str>,
    request_id: Option<&'a str>,
    expect: Option<&'a str>,
    grpc_timeout: Single<'a>,
    traceparent: Single<'a>,
    client_traceparent: Single<'a>,
    has_context: bool,
}

/// A field that is ignored unless it occurs once.
#[derive(Clone, Copy, Default)]
enum Single<'a> {
    #[default]
    Absent,
    One(&'a [u8]),
    Repeated,
}

impl<'a> Single<'a> {
    fn add(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Absent => Self::One(value),
            Self::One(_) | Self::Repeated => Self::Repeated,
        };
    }

    fn text(self) -> Option<&'a str> {
        match self {
            Self::One(value) => str::from_utf8(value).ok(),
            Self::Absent | Self::Repeated => None,
        }
    }
}

impl<'a> Known<'a> {
    fn take(
        &mut self,
        name: &[u8],
        value: &'a [u8],
        places: &KeyLocations,
    ) -> Result<(), &'static str> {
        // RFC 9110, 5.5: dangerous in any field.
        if any_byte(value, |byte| matches!(byte, b'\0' | b'\r' | b'\n')) {
            return Err("a field value holds NUL, CR or LF");
        }
        if name
            .get(..OWN_PREFIX.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(OWN_PREFIX))
        {
            self.has_context |= name.eq_ignore_ascii_case(CONTEXT.as_bytes());
            return Err("a header field that is reserved for tensorgate was sent");
        }
        let mut lower = [0; LONGEST_NAME];
        let Some(lower) = lower.get_mut(..name.len()) else {
            return unknown_name(name);
        };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        let (slot, repeated) = match &*lower {
            b":method" => (&mut self.method, ":method is repeated"),
            b":path" => (&mut self.path, ":path is repeated"),
            b":authority" => (&mut self.authority, ":authority is repeated"),
            b":scheme" => (&mut self.scheme, ":scheme is repeated"),
            b"host" => (&mut self.host, "host is repeated"),
            b"content-type" => (&mut self.content_type, "content-type is repeated"),
            b"content-length" => (&mut self.content_length, "content-length is repeated"),
            b"content-encoding" => (&mut self.content_encoding, "content-encoding is repeated"),
            b"transfer-encoding" => (&mut self.transfer_encoding, "transfer-encoding is repeated"),
            b"grpc-encoding" => (&mut self.grpc_encoding, "grpc-encoding is repeated"),
            b"inference-header-content-length" => (
                &mut self.json_length,
                "inference-header-content-length is repeated",
            ),
            b"authorization" => (&mut self.authorization, "authorization is repeated"),
            b"x-forwarded-client-cert" => {
                (&mut self.certificate, "x-forwarded-client-cert is repeated")
            }
            b"x-request-id" => (&mut self.request_id, "x-request-id is repeated"),
            b"expect" => (&mut self.expect, "expect is repeated"),
            b"grpc-timeout" => {
                self.grpc_timeout.add(value);
                return Ok(());
            }
            name if name == TRACEPARENT.as_bytes() => {
                self.traceparent.add(value);
                return Ok(());
            }
            name if name == CLIENT_TRACEPARENT.as_bytes() => {
                self.client_traceparent.add(value);
                return Ok(());
            }
            // Another protocol or method, which an upstream might obey.
            b"upgrade" | b"http2-settings" => return Err("an upgrade is requested"),
            b"x-http-method-override" | b"x-http-method" | b"x-method-override" => {
                return Err("a method override is requested");
            }
            b"cookie" if places.cookie().is_some() => {
                self.cookies.push(value);
                return Ok(());
            }
            name if places.headers().any(|known| known.as_bytes() == name) => {
                (&mut self.api_key, "a field for keys is repeated")
            }
            _ => return unknown_name(name),
        };
        let text = str::from_utf8(value).map_err(|_| "a field value is not UTF-8")?;
        if any_byte(text.as_bytes(), |byte| byte.is_ascii_control()) {
            return Err("a field value holds control characters");
        }
        // Envoy joins some repeated fields with a comma, which no content type of a route has.
        let is_joined = &*lower == b"content-type" && text.contains(',');
        if slot.is_some() || is_joined {
            return Err(repeated);
        }
        *slot = Some(text);
        Ok(())
    }

    /// Whether a header field has a credential.
    const fn has_credential(&self) -> bool {
        self.api_key.is_some() || self.authorization.is_some()
    }

    fn traceparent(&self) -> Option<(&'static str, &'a str)> {
        let (name, value) = match (self.traceparent, self.client_traceparent) {
            (own, Single::Absent) => (TRACEPARENT, own),
            (Single::Absent, moved) => (CLIENT_TRACEPARENT, moved),
            // A client has sent both.
            _ => return None,
        };
        Some((name, value.text()?))
    }

    /// Coding of the body, from the protocol's own field.
    fn encoding(&self, protocol: Protocol) -> Encoding {
        let (own, other) = if protocol.is_grpc() {
            (self.grpc_encoding, self.content_encoding)
        } else {
            (self.content_encoding, self.grpc_encoding)
        };
        match (named(own), named(other)) {
            (encoding, Encoding::Identity) => encoding,
            _ => Encoding::Unknown,
        }
    }

    /// Coding of the body and length of its JSON. Some clients send fields that describe a body
    /// with every request: without a body they are ignored, and not forwarded.
    fn described(
        &self,
        route: &Route<'_>,
        end_of_stream: bool,
        length: Option<u64>,
    ) -> Result<(Encoding, Option<u64>), &'static str> {
        if has_no_body(route, end_of_stream) {
            return Ok((Encoding::Identity, None));
        }
        let json_length = self.json_length(end_of_stream, length)?;
        Ok((self.encoding(route.protocol()), json_length))
    }

    /// Declared type of the body, ignored without one. The proxy answers a request of gRPC's type
    /// in gRPC, whatever its route.
    ///
    /// TF Serving ignores the type, and its documentation calls it with `curl -d`, which declares a
    /// form. So that is JSON for its routes, if a header field has a credential: a page of another
    /// site can send a form with the cookies and the certificate of a browser, but no such field.
    fn content_type_of(&self, route: &Route<'_>, end_of_stream: bool) -> ContentType<'a> {
        let declared = self
            .content_type
            .filter(|declared| !has_no_body(route, end_of_stream) || speaks_grpc(declared))
            .map_or(ContentType::Absent, classify);
        let is_form = matches!(&declared, ContentType::Other(name) if name == URL_ENCODED);
        if is_form && route.protocol() == Protocol::TfRest && self.has_credential() {
            return ContentType::Json;
        }
        declared
    }

    /// Declared length of the body, if consistent with its framing.
    fn body_length(&self, end_of_stream: bool) -> Result<Option<u64>, &'static str> {
        let length = self.content_length.map(digits).transpose()?;
        if let Some(coding) = self.transfer_encoding {
            if length.is_some() {
                return Err("both content-length and transfer-encoding are set");
            }
            if !coding.eq_ignore_ascii_case("chunked") {
                return Err("transfer-encoding is not chunked");
            }
        }
        if end_of_stream && length.is_some_and(|length| length > 0) {
            return Err("content-length declares a body that is not sent");
        }
        Ok(length)
    }

    /// Declared length of the JSON in a body of this length, if consistent.
    fn json_length(
        &self,
        end_of_stream: bool,
        length: Option<u64>,
    ) -> Result<Option<u64>, &'static str> {
        // Triton parses this one with stoi, which accepts signs, blanks and trailing text.
        let json_length = self.json_length.map(digits).transpose()?;
        if self
            .json_length
            .is_some_and(|text| text.len() > 1 && text.starts_with('0'))
        {
            return Err("inference-header-content-length begins with a zero");
        }
        // The JSON's length counts plain bytes. For a compressed body the decoder compares the
        // lengths.
        let body_end = match (end_of_stream, named(self.content_encoding)) {
            (true, _) => Some(0),
            (false, Encoding::Identity) => length,
            (false, _) => None,
        };
        if let (Some(json), Some(end)) = (json_length, body_end)
            && json > end
        {
            return Err("inference-header-content-length is past the body");
        }
        Ok(json_length)
    }

    fn consistent(&self) -> Result<(), &'static str> {
        if self.method.is_none_or(str::is_empty) {
            return Err(":method is missing");
        }
        if self.path.is_none_or(str::is_empty) {
            return Err(":path is missing");
        }
        if let (Some(host), Some(authority)) = (self.host, self.authority)
            && host != authority
        {
            return Err("host and :authority differ");
        }
        if !self.host.into_iter().chain(self.authority).all(one_host) {
            return Err("the authority is not one host");
        }
        if self.api_key.is_some() && self.authorization.is_some() {
            return Err("two credentials were sent");
        }
        if self
            .expect
            .is_some_and(|expect| !expect.eq_ignore_ascii_case("100-continue"))
        {
            return Err("expect is not 100-continue");
        }
        let plain_id = |id: &str| {
            !id.is_empty()
                && id.len() <= MAX_REQUEST_ID_BYTES
                && id.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !self.request_id.is_none_or(plain_id) {
            return Err("x-request-id is not an id");
        }
        Ok(())
    }
}

/// Whether a request has no body that its fields could describe: its route takes none, or it infers
/// nothing and ends with its head. Unknown paths are among these, because statistics look like one
/// to most callers.
fn has_no_body(route: &Route<'_>, end_of_stream: bool) -> bool {
    let infers = route.operation().is_some_and(Operation::infers);
    route.takes_no_body() || end_of_stream && !infers && !route.protocol().is_grpc()
}

/// Whether a host or authority names exactly one host. Proxies join repeated fields with a comma
/// (RFC 9112, 3.2 requires rejection); user information is not allowed in HTTP.
fn one_host(text: &str) -> bool {
    text.bytes().all(|byte| {
        byte.is_ascii_graphic() && !matches!(byte, b',' | b'@' | b'/' | b'\\' | b'?' | b'#')
    })
}

/// One or more digits within 64 bits, without signs, blanks or other text.
fn digits(text: &str) -> Result<u64, &'static str> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_err(|_| "a length is beyond 64 bits")
    } else {
        Err("a length is not made of digits")
    }
}

#[cfg(test)]
mod card_tests;
#[cfg(test)]
mod tests;
