//! Header fields to facts: route, types, credential, and whatever makes a head ambiguous. It never decides: a head that can be
//! read in two ways is reported as such, with a cause that holds nothing of the caller's.

use tensorgate_policy::policy::Templates;
use tensorgate_policy::request::{
    Coding, ContentType, Credential, Encoding, Head, Identity, Operations, Proofs, Protocol, Route,
};

use crate::limits::MAX_REQUEST_ID_BYTES;
use crate::{credential, media_type, route};

/// Our own headers begin so; a client that sends one is refused.
pub const OWN_PREFIX: &[u8] = b"x-tensorgate-";

/// The binary data extension: how many bytes of JSON a body begins with, on requests and answers.
pub const JSON_LENGTH: &str = "inference-header-content-length";

/// The longest field name that means anything here, bytes.
const LONGEST_NAME: usize = 32;

/// A head, read once.
#[derive(Debug)]
pub struct ReadHead<'a> {
    /// `:method`; empty if absent.
    pub method: &'a str,
    /// `:path` with its query; empty if absent.
    pub path: &'a str,
    /// `x-request-id` as the proxy set it; empty if absent.
    pub request_id: &'a str,
    /// What came as proof of identity.
    pub credential: Credential<'a>,
    /// `x-forwarded-client-cert`. Only a proxy that makes it itself gives it a meaning.
    pub certificate: Option<&'a str>,
    header_bytes: usize,
    header_count: usize,
    ambiguous: Option<&'static str>,
    route: Route<'a>,
    content_type: ContentType<'a>,
    encoding: Encoding,
    json_length: Option<u64>,
    content_length: Option<u64>,
    end_of_stream: bool,
}

impl<'a> ReadHead<'a> {
    /// Reads every field once. Names are compared without case; values are bytes and may be anything.
    /// `end_of_stream`: no body follows.
    pub fn read<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &'a [(N, V)], end_of_stream: bool) -> Self {
        let mut known = Known::default();
        let mut header_bytes = 0_usize;
        let mut doubt = Doubt(None);
        for (name, value) in fields {
            let (name, value) = (name.as_ref(), value.as_ref());
            header_bytes = header_bytes
                .saturating_add(name.len())
                .saturating_add(value.len());
            doubt.unless(known.take(name, value));
        }
        let (content_length, json_length) = match known.lengths(end_of_stream) {
            Ok(lengths) => lengths,
            Err(cause) => {
                doubt.unless(Err(cause));
                (None, None)
            }
        };
        doubt.unless(known.consistent());

        let unknown = if known.content_type.is_some_and(media_type::speaks_grpc) {
            Protocol::OipGrpc
        } else {
            Protocol::OipRest
        };
        let method = known.method.unwrap_or_default();
        let path = known.path.unwrap_or_default();
        let route = route::resolve(method, path, unknown);
        let encoding = known.encoding(route.protocol());
        Self {
            method,
            path,
            request_id: known.request_id.unwrap_or_default(),
            credential: credential::read(known.api_key, known.authorization),
            certificate: known.certificate,
            header_bytes,
            header_count: fields.len(),
            ambiguous: doubt.0,
            route,
            content_type: known
                .content_type
                .map_or(ContentType::Absent, media_type::classify),
            encoding,
            json_length,
            content_length,
            end_of_stream,
        }
    }

    /// The facts that a decision reads, with the identity that the credential came to. A path that no protocol has may be a model's own, by one of
    /// the `templates`.
    pub fn into_head(self, identity: Identity, templates: &Templates) -> Head<'a> {
        let route = match self.route {
            Route::Unknown { protocol } => route::own(self.method, self.path, templates, protocol),
            known => known,
        };
        Head {
            header_bytes: self.header_bytes,
            header_count: self.header_count,
            ambiguous: self.ambiguous,
            identity,
            proofs: Proofs::NONE,
            withheld: Operations::default(),
            route,
            content_type: self.content_type,
            encoding: self.encoding,
            json_length: self.json_length,
            content_length: self.content_length,
            end_of_stream: self.end_of_stream,
        }
    }
}

/// What a field's text names; names are compared without case (RFC 9110, 8.4.1).
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

/// The first cause of doubt.
struct Doubt(Option<&'static str>);

impl Doubt {
    fn unless(&mut self, outcome: Result<(), &'static str>) {
        if let Err(cause) = outcome {
            self.0.get_or_insert(cause);
        }
    }
}

/// The fields that are used, each at most once.
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
    api_key: Option<&'a str>,
    certificate: Option<&'a str>,
    request_id: Option<&'a str>,
    expect: Option<&'a str>,
}

impl<'a> Known<'a> {
    fn take(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), &'static str> {
        let pseudo = name.first() == Some(&b':');
        let token = name.strip_prefix(b":").unwrap_or(name);
        if token.is_empty() || !token.iter().copied().all(media_type::is_token_byte) {
            return Err("a field name is not a token");
        }
        // RFC 9110, 5.5: dangerous in any field, used or not.
        if value
            .iter()
            .any(|byte| matches!(byte, b'\0' | b'\r' | b'\n'))
        {
            return Err("a field value holds NUL, CR or LF");
        }
        if name
            .get(..OWN_PREFIX.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(OWN_PREFIX))
        {
            return Err("a field of the gate's own came from outside");
        }
        let mut lower = [0; LONGEST_NAME];
        let Some(lower) = lower.get_mut(..name.len()) else {
            return if pseudo {
                Err("a pseudo-header is unknown")
            } else {
                Ok(())
            };
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
            b"x-api-key" => (&mut self.api_key, "x-api-key is repeated"),
            b"x-forwarded-client-cert" => {
                (&mut self.certificate, "x-forwarded-client-cert is repeated")
            }
            b"x-request-id" => (&mut self.request_id, "x-request-id is repeated"),
            b"expect" => (&mut self.expect, "expect is repeated"),
            // Another protocol on this connection, or another method on this request: what stands behind might obey.
            b"upgrade" | b"http2-settings" => return Err("an upgrade is asked for"),
            b"x-http-method-override" | b"x-http-method" | b"x-method-override" => {
                return Err("a method override is asked for");
            }
            _ if pseudo => return Err("a pseudo-header is unknown"),
            _ => return Ok(()),
        };
        let text = str::from_utf8(value).map_err(|_| "a field value is not UTF-8")?;
        if text.bytes().any(|byte| byte.is_ascii_control()) {
            return Err("a field value holds control characters");
        }
        if slot.is_some() {
            return Err(repeated);
        }
        *slot = Some(text);
        Ok(())
    }

    /// How the body is coded, as the field says that the protocol has for it. The other one has no meaning there, and says nothing else.
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

    /// The declared lengths of the body and of the JSON that it begins with, if every length agrees.
    fn lengths(&self, end_of_stream: bool) -> Result<(Option<u64>, Option<u64>), &'static str> {
        let length = self.content_length.map(digits).transpose()?;
        if let Some(coding) = self.transfer_encoding {
            if length.is_some() {
                return Err("content-length comes with transfer-encoding");
            }
            if !coding.eq_ignore_ascii_case("chunked") {
                return Err("transfer-encoding is not chunked");
            }
        }
        if end_of_stream && length.is_some_and(|length| length > 0) {
            return Err("content-length declares a body that does not come");
        }
        // Triton reads this one with stoi: signs, blanks and what follows the digits pass there.
        let json_length = self.json_length.map(digits).transpose()?;
        if self
            .json_length
            .is_some_and(|text| text.len() > 1 && text.starts_with('0'))
        {
            return Err("inference-header-content-length begins with a zero");
        }
        // The JSON's length counts plain bytes, the body's those that come: of a compressed body the decoder compares them.
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
        Ok((length, json_length))
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
            return Err("two credentials came");
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

/// Whether a host or authority can name one host only. A proxy joins repeated ones with a comma (RFC 9112, 3.2 has them
/// refused); user information is none of HTTP's. Nothing here routes by it.
fn one_host(text: &str) -> bool {
    text.bytes().all(|byte| {
        byte.is_ascii_graphic() && !matches!(byte, b',' | b'@' | b'/' | b'\\' | b'?' | b'#')
    })
}

/// One or more digits within 64 bits: no sign, blank, list or anything after.
fn digits(text: &str) -> Result<u64, &'static str> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_err(|_| "a length is beyond 64 bits")
    } else {
        Err("a length is not made of digits")
    }
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
