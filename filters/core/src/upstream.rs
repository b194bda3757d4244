//! The header fields for the upstream, created from the evaluated request in one canonical form.
//!
//! A client's field is forwarded only if it is named here: the path, declared lengths, an accepted
//! media type and a deadline, each validated. Claims of a verified token are forwarded in the
//! fields that the policy names, which no client can send.

use tensorgate_identity::ClaimFields;
use tensorgate_policy::request::{ContentType, Encoding, FORM, Head, Protocol};
use tensorgate_wire::limits::MAX_REQUEST_ID_BYTES;
use tensorgate_wire::{headers, refused_in};

use crate::host::{Field, HostFault, Proxy};

/// `:authority` for the sandbox host.
const AUTHORITY: &str = "tensorgate";

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
    /// The request id; empty if the proxy set no valid one.
    pub request_id: String,
    /// `grpc-timeout`, if it occurs once and is well-formed.
    pub grpc_timeout: Option<String>,
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
            request_id: if is_request_id(request_id) {
                request_id.to_owned()
            } else {
                String::new()
            },
            grpc_timeout: grpc_timeout(fields),
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
        // Envelopes make a stream longer than declared.
        let declared = head.content_length.filter(|_| !head.route.is_stream());
        self.content_length = declared.map(|bytes| bytes.to_string());
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
            (":authority", AUTHORITY),
            (":scheme", SCHEME),
            // Envoy finds no route without this field.
            ("x-forwarded-proto", SCHEME),
            ("x-request-id", self.request_id.as_str()),
        ]);
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

/// Whether a text is a valid request id. A head that is rejected as ambiguous may have an invalid
/// one.
fn is_request_id(text: &str) -> bool {
    (1..=MAX_REQUEST_ID_BYTES).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
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
    let mut values = fields
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"grpc-timeout"))
        .map(|(_, value)| value);
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let text = core::str::from_utf8(value).ok()?;
    let digits = text.strip_suffix(['H', 'M', 'S', 'm', 'u', 'n'])?;
    let well_formed = (1..=MAX_TIMEOUT_DIGITS).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    well_formed.then(|| text.to_owned())
}

// Rewrites the client's headers into the forwarded headers: field by field if few differ,
// otherwise as a whole. Both ways give the same fields. Replacing a whole map costs a proxy as
// much as a dozen single changes.

/// Maximum number of single changes, except the signed context.
const MAX_CHANGES: usize = 6;

/// Changes to the proxy's headers that remain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rewrite {
    /// Replace all fields.
    Whole,
    /// Remove the fields of these names, then set the other fields.
    Fields {
        /// Names that are not forwarded.
        gone: Vec<String>,
        /// Indices of forwarded fields whose value differs, or that occurred not exactly once.
        put: Vec<usize>,
    },
}

impl Rewrite {
    /// No changes except fields that are known only when the head is forwarded.
    pub(crate) const DONE: Self = Self::Fields {
        gone: Vec::new(),
        put: Vec::new(),
    };

    /// Plans the changes from the proxy's fields to the forwarded fields.
    pub(crate) fn plan(fields: &[Field], crossing: &[(&str, &str)]) -> Self {
        let mut gone: Vec<String> = Vec::new();
        for (name, _) in fields {
            let crosses = crossing.iter().any(|(known, _)| known.as_bytes() == name);
            if crosses || gone.iter().any(|known| known.as_bytes() == name) {
                continue;
            }
            // A name that is not text is rejected before anything is forwarded.
            let (true, Ok(name)) = (gone.len() < MAX_CHANGES, str::from_utf8(name)) else {
                return Self::Whole;
            };
            gone.push(name.to_owned());
        }
        let is_so = |(name, value): &(&str, &str)| {
            let mut came = fields
                .iter()
                .filter(|(known, _)| known == name.as_bytes())
                .map(|(_, value)| value.as_slice());
            (came.next(), came.next()) == (Some(value.as_bytes()), None)
        };
        let put: Vec<_> = crossing
            .iter()
            .enumerate()
            .filter(|(_, field)| !is_so(field))
            .map(|(place, _)| place)
            .collect();
        if gone.len().saturating_add(put.len()) > MAX_CHANGES {
            return Self::Whole;
        }
        Self::Fields { gone, put }
    }

    /// Applies the plan. `crossing` are the planned fields; `added` is set in addition.
    pub(crate) fn carry_out(
        &self,
        proxy: &mut dyn Proxy,
        crossing: &[(&str, &str)],
        added: Option<(&str, &str)>,
    ) -> Result<(), HostFault> {
        match self {
            Self::Whole => {
                let fields: Vec<_> = crossing.iter().copied().chain(added).collect();
                proxy.replace_request_headers(&fields)
            }
            Self::Fields { gone, put } => {
                for name in gone {
                    proxy.remove_request_header(name)?;
                }
                let changed = put.iter().filter_map(|place| crossing.get(*place));
                for (name, value) in changed.copied().chain(added) {
                    proxy.set_request_header(name, value)?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn only_short_ascii_tokens_are_request_ids() {
        let check = |text: &str, kept: bool| {
            let upstream = Upstream::new("GET", "/v2", text, &[]);
            assert_eq!(upstream.request_id, if kept { text } else { "" });
        };
        check("8f1a2b3c-0000-4000-8000-000000000001", true);
        check("", false);
        check("a b", false);
        check("é", false);
        check("a\r\nb", false);
        check(&"a".repeat(MAX_REQUEST_ID_BYTES), true);
        check(&"a".repeat(MAX_REQUEST_ID_BYTES + 1), false);
    }
}

#[cfg(test)]
mod rewrite_tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]

    use super::*;

    const CROSSING: [(&str, &str); 3] = [(":path", "/v2"), (":authority", "ours"), ("te", "")];

    #[track_caller]
    fn check(fields: &[(&[u8], &[u8])], expected: Option<(&[&str], &[&str])>) {
        let fields: Vec<Field> = fields
            .iter()
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        let expected = expected.map_or(Rewrite::Whole, |(gone, put)| Rewrite::Fields {
            gone: gone.iter().map(|name| (*name).to_owned()).collect(),
            put: (0..CROSSING.len())
                .filter(|place| put.contains(&CROSSING[*place].0))
                .collect(),
        });
        assert_eq!(Rewrite::plan(&fields, &CROSSING), expected, "{fields:?}");
    }

    #[test]
    fn only_differing_fields_are_changed_and_repeated_fields_are_replaced() {
        let same: [(&[u8], &[u8]); 3] =
            [(b":path", b"/v2"), (b":authority", b"ours"), (b"te", b"")];
        let with = |more: &[(&'static [u8], &'static [u8])]| [&same, more].concat();
        check(&same, Some((&[], &[])));
        check(&[], Some((&[], &[":path", ":authority", "te"])));
        check(&with(&[(b"te", b"")]), Some((&[], &["te"])));
        check(&with(&[(b"te", b"x")]), Some((&[], &["te"])));
        check(
            &[
                (b":path", b"/v2 "),
                (b":authority", b"theirs"),
                (b"te", b""),
            ],
            Some((&[], &[":path", ":authority"])),
        );
        check(
            &with(&[
                (b"x-api-key", b"a"),
                (b"cookie", b"a"),
                (b"x-api-key", b"b"),
            ]),
            Some((&["x-api-key", "cookie"], &[])),
        );
        check(&with(&[(b"Te", b"")]), Some((&["Te"], &[])));
        check(&with(&[(b"\xff", b"")]), None);
    }

    #[test]
    fn a_head_with_many_foreign_fields_is_replaced() {
        let names: Vec<String> = (0..=MAX_CHANGES).map(|at| format!("x-{at}")).collect();
        let fields: Vec<(&[u8], &[u8])> = names
            .iter()
            .map(|name| (name.as_bytes(), b"1".as_slice()))
            .collect();
        check(&fields, None);
        // Three fields are dropped, three are added.
        let three: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
        check(
            fields.get(..3).unwrap_or_default(),
            Some((&three, &[":path", ":authority", "te"])),
        );
        check(fields.get(..4).unwrap_or_default(), None);
    }
}
