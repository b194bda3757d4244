//! Parser for raw HTTP/1.1 messages, as strict as the Envoy that `render` configures.
//!
//! The result is what that Envoy would pass to the filter. Messages that Envoy itself would reject
//! are rejected here with the same reason; nothing else is checked.

use tensorgate_filter_core::host::Field;
use tensorgate_in_memory_proxy::Request;
use tensorgate_policy::Reason;

use crate::render::envoy::bounds::Bounds;

/// Maximum number of header fields that are parsed.
const MAX_FIELDS: usize = 2048;
/// Maximum digits of a chunk size. A body needs at most 16 MiB, in hexadecimal without leading
/// zeros.
const MAX_CHUNK_DIGITS: usize = 8;
/// Methods that Envoy's HTTP/1.1 codec knows and that can reach a gate; others are rejected with
/// 400.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];
/// Hop-by-hop header fields, which Envoy removes.
const HOP_BY_HOP: [&str; 4] = ["connection", "keep-alive", "proxy-connection", "upgrade"];
/// Fields that Envoy joins with a comma if they are repeated, among those that a gate reads. It
/// hands over others as often as they are sent.
const JOINED: [&str; 6] = [
    "authorization",
    "content-encoding",
    "content-type",
    "expect",
    "grpc-timeout",
    "x-request-id",
];

/// A rejection that Envoy itself would send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The reason that Envoy's reply is mapped to.
    pub reason: Reason,
    /// The cause, for the log.
    pub detail: String,
    /// Whether the message is a gRPC call, as far as it could be read.
    pub grpc: bool,
}

/// How a body is framed.
enum Framing {
    None,
    Length(usize),
    Chunked,
}

/// Reads one message.
pub fn read(bytes: &[u8], bounds: &Bounds) -> Result<Request, Refused> {
    let mut fields = vec![httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let ambiguous = |detail: &str| Refused {
        reason: Reason::AmbiguousRequest,
        detail: detail.to_owned(),
        grpc: false,
    };
    let too_large = |detail: &str| Refused {
        reason: Reason::HeaderTooLarge,
        detail: detail.to_owned(),
        grpc: false,
    };
    let head_bytes = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => {
            return Err(Refused {
                reason: Reason::Malformed,
                detail: "the header section does not end".into(),
                grpc: false,
            });
        }
        Err(httparse::Error::TooManyHeaders) => {
            return Err(too_large("too many header fields for the proxy"));
        }
        Err(error) => {
            return Err(ambiguous(&format!(
                "not an HTTP/1.1 message (request line, header fields, an empty line, then the body): {error}"
            )));
        }
    };
    if u64::try_from(head_bytes).is_ok_and(|bytes| bytes > bounds.header_kib.saturating_mul(1024)) {
        return Err(too_large("header section too large for the proxy"));
    }
    if u64::try_from(head.headers.len()).is_ok_and(|count| count > bounds.headers) {
        return Err(too_large("too many header fields for the proxy"));
    }
    let headers: Vec<(String, Vec<u8>)> = head
        .headers
        .iter()
        .map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()))
        .collect();
    let grpc = values(&headers, "content-type").any(|value| value.starts_with(b"application/grpc"));
    let judge = || {
        let head = Head {
            method: head.method.unwrap_or_default(),
            target: head.path.unwrap_or_default(),
            version: head.version,
            headers,
        };
        let framing = head.framing()?;
        let headers = head.lower()?;
        let body = body(framing, bytes.get(head_bytes..).unwrap_or_default(), bounds)?;
        Ok(Request {
            headers,
            body: if body.is_empty() {
                Vec::new()
            } else {
                vec![body]
            },
            trailers: None,
        })
    };
    judge().map_err(|refused: Refused| Refused { grpc, ..refused })
}

fn values<'h>(headers: &'h [(String, Vec<u8>)], name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    headers
        .iter()
        .filter(move |(other, _)| other == name)
        .map(|(_, value)| value.as_slice())
}

fn ambiguous(detail: &str) -> Refused {
    Refused {
        reason: Reason::AmbiguousRequest,
        detail: detail.to_owned(),
        grpc: false,
    }
}

/// Whether Envoy ignores an offer of an upgrade: to HTTP/2, or to TLS in any version.
fn is_ignored_upgrade(offer: &[u8]) -> bool {
    let tls = offer.get(..4).unwrap_or_default();
    offer.eq_ignore_ascii_case(b"h2c") || tls.eq_ignore_ascii_case(b"TLS/")
}

struct Head<'m> {
    method: &'m str,
    target: &'m str,
    version: Option<u8>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Head<'_> {
    /// How the body is framed. Contradictory framing is rejected.
    fn framing(&self) -> Result<Framing, Refused> {
        let lengths: Vec<&[u8]> = values(&self.headers, "content-length").collect();
        let codings: Vec<&[u8]> = values(&self.headers, "transfer-encoding").collect();
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Ok(Framing::None),
            ([length], []) => {
                let digits = std::str::from_utf8(length)
                    .ok()
                    .filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
                digits
                    .and_then(|digits| digits.parse().ok())
                    .map(Framing::Length)
                    .ok_or_else(|| ambiguous("content-length is not a number"))
            }
            ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
            ([], _) => Err(ambiguous("a transfer coding other than chunked")),
            (_, []) => Err(ambiguous("several content-length fields")),
            _ => Err(ambiguous("content-length and transfer-encoding together")),
        }
    }

    /// The values of `upgrade`; none count unless `connection` names an upgrade.
    fn upgrades(&self) -> Vec<&[u8]> {
        let is_offered = values(&self.headers, "connection").any(|value| {
            value
                .to_ascii_lowercase()
                .windows(7)
                .any(|part| part == b"upgrade")
        });
        if is_offered {
            values(&self.headers, "upgrade").collect()
        } else {
            Vec::new()
        }
    }

    /// The header map as the filter sees it.
    fn lower(&self) -> Result<Vec<Field>, Refused> {
        if self.version != Some(1) {
            return Err(Refused {
                reason: Reason::HttpVersion,
                ..ambiguous("not http/1.1")
            });
        }
        if !METHODS.contains(&self.method) {
            return Err(ambiguous("a method that http/1.1 does not know"));
        }
        if self.headers.iter().any(|(name, _)| name.contains('_')) {
            return Err(ambiguous("a header name with an underscore"));
        }
        let upgrades = self.upgrades();
        let mut offers = upgrades
            .iter()
            .flat_map(|value| value.split(|byte| *byte == b','));
        if !offers.all(|offer| is_ignored_upgrade(offer.trim_ascii())) {
            return Err(ambiguous("a protocol upgrade"));
        }
        // With an offer of HTTP/2 alone, Envoy drops its settings too.
        let drops_settings =
            matches!(upgrades.as_slice(), [offer] if offer.eq_ignore_ascii_case(b"h2c"));
        let hosts: Vec<&[u8]> = values(&self.headers, "host").collect();
        let (path, authority) = self.destination(hosts.join(&b","[..]))?;
        if authority.is_empty() {
            return Err(ambiguous("no host"));
        }
        let mut map: Vec<Field> = vec![(b":authority".to_vec(), authority)];
        map.extend(path.map(|path| (b":path".to_vec(), path.as_bytes().to_vec())));
        map.push((b":method".to_vec(), self.method.as_bytes().to_vec()));
        map.push((b":scheme".to_vec(), b"http".to_vec()));
        let fields = (self.headers.iter())
            .filter(|(name, _)| name != "host" && !HOP_BY_HOP.contains(&name.as_str()))
            .filter(|(name, _)| !drops_settings || name != "http2-settings");
        for (name, value) in fields {
            let is_joined = JOINED.contains(&name.as_str());
            let earlier = map
                .iter_mut()
                .find(|(known, _)| is_joined && known.as_slice() == name.as_bytes());
            match earlier {
                Some((_, joined)) => {
                    joined.push(b',');
                    joined.extend_from_slice(value);
                }
                None => map.push((name.clone().into_bytes(), value.clone())),
            }
        }
        Ok(map)
    }

    /// Path and authority, from a path, an absolute URL or the authority of CONNECT.
    fn destination(&self, host: Vec<u8>) -> Result<(Option<&str>, Vec<u8>), Refused> {
        if self.method == "CONNECT" {
            return Ok((None, self.target.as_bytes().to_vec()));
        }
        let (path, authority) = match self
            .target
            .strip_prefix("http://")
            .or_else(|| self.target.strip_prefix("https://"))
        {
            Some(rest) => {
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
                (
                    if path.is_empty() { "/" } else { path },
                    authority.as_bytes().to_vec(),
                )
            }
            None => (self.target, host),
        };
        if !path.starts_with('/') {
            return Err(Refused {
                reason: Reason::NotAnInferenceRoute,
                detail: "the target is not a path".into(),
                grpc: false,
            });
        }
        if path.contains('#') {
            return Err(ambiguous("a path with a fragment"));
        }
        Ok((Some(path), authority))
    }
}

/// The complete body. Only line ends may follow it.
fn body(framing: Framing, rest: &[u8], bounds: &Bounds) -> Result<Vec<u8>, Refused> {
    let extra = match framing {
        Framing::None => "a body without content-length or transfer-encoding",
        Framing::Length(_) => "the body is longer than its content-length",
        Framing::Chunked => "bytes after the last chunk",
    };
    let (body, after) = match framing {
        Framing::None => (Vec::new(), rest),
        Framing::Length(length) => match rest.split_at_checked(length) {
            Some((body, after)) => (body.to_vec(), after),
            None => return Err(incomplete("the body is shorter than its content-length")),
        },
        Framing::Chunked => dechunk(rest, bounds)?,
    };
    if after.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
        return Err(ambiguous(extra));
    }
    Ok(body)
}

fn incomplete(detail: &str) -> Refused {
    Refused {
        reason: Reason::Malformed,
        detail: detail.to_owned(),
        grpc: false,
    }
}

/// Decodes a chunked body. Trailers are dropped, as Envoy drops them for HTTP/1.1.
fn dechunk<'b>(mut rest: &'b [u8], bounds: &Bounds) -> Result<(Vec<u8>, &'b [u8]), Refused> {
    let mut body = Vec::new();
    loop {
        let (line, after) = take_line(rest)?;
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(digits)
            .ok()
            .filter(|text| {
                !text.is_empty()
                    && text.len() <= MAX_CHUNK_DIGITS
                    && text.bytes().all(|byte| byte.is_ascii_hexdigit())
            })
            .and_then(|text| usize::from_str_radix(text, 16).ok())
            .ok_or_else(|| ambiguous("a chunk without a size"))?;
        if size == 0 {
            rest = after;
            break;
        }
        let (chunk, after) = after
            .split_at_checked(size)
            .ok_or_else(|| incomplete("a chunk is shorter than its size"))?;
        body.extend_from_slice(chunk);
        if u64::try_from(body.len()).is_ok_and(|length| length > bounds.body_bytes) {
            // Larger than allowed: the filter rejects it by the bytes read so far.
            return Ok((body, &[]));
        }
        rest = after
            .strip_prefix(b"\r\n")
            .ok_or_else(|| ambiguous("a chunk does not end at its size"))?;
    }
    loop {
        let (line, after) = take_line(rest)?;
        rest = after;
        if line.is_empty() {
            return Ok((body, rest));
        }
    }
}

/// The bytes up to the next line end.
fn take_line(bytes: &[u8]) -> Result<(&[u8], &[u8]), Refused> {
    let end = bytes
        .windows(2)
        .position(|pair| pair == b"\r\n")
        .ok_or_else(|| incomplete("the chunked body does not end"))?;
    Ok((
        bytes.get(..end).unwrap_or_default(),
        bytes.get(end.saturating_add(2)..).unwrap_or_default(),
    ))
}
