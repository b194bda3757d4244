//! What a driver gets: one concrete request and its expected decision.

use std::collections::BTreeMap;
use std::sync::Arc;

use tensorgate_policy::{Protocol, Reason};

use crate::file::Driver;

/// A header field: name and value as bytes.
pub type Field = (Vec<u8>, Vec<u8>);

/// One request under one policy.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// `file/case name [spelling]`.
    pub id: String,
    /// The policy's file, relative to the vectors' folder.
    pub policy_file: Arc<str>,
    /// The policy: canonical JSON of `raw::Policy`.
    pub policy_json: Arc<str>,
    /// Wall clock, Unix seconds.
    pub now_unix_s: u64,
    /// The client whose credential is sent; `None` for no credential or a wrong one.
    pub client: Option<String>,
    /// The request that is sent.
    pub request: RawRequest,
    /// How many times it is sent, at one instant; the last answer counts.
    pub repeat: u32,
    /// The tokens that every answer reports as used; `None`: it reports nothing.
    pub used: Option<u64>,
    /// The expected answer.
    pub expect: Expect,
    /// Reasons that must be noted as in shadow mode, in order of precedence; `None` where the case
    /// does not list them.
    pub shadow: Option<Vec<Reason>>,
    /// Header fields that the server behind gets (`Some`), and those that it must not get (`None`).
    pub headers: BTreeMap<String, Option<String>>,
    /// The drivers that can run it.
    pub only: Vec<Driver>,
}

impl Lowered {
    /// The error in the header fields that the server behind got, if any.
    pub fn wrong_headers(&self, got: &[(String, String)]) -> Option<String> {
        self.headers.iter().find_map(|(name, expected)| {
            let values: Vec<_> = got.iter().filter(|(known, _)| known == name).collect();
            let as_expected = match (values.as_slice(), expected) {
                ([], None) => true,
                ([(_, value)], Some(expected)) => value == expected,
                _ => false,
            };
            (!as_expected).then(|| format!("{}: {name} is {values:?}, not {expected:?}", self.id))
        })
    }

    /// Whether a driver can run it.
    pub fn runs_on(&self, driver: Driver) -> bool {
        self.only.contains(&driver)
    }
}

/// A request before a transport has encoded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRequest {
    /// Which transport a client would use: HTTP/1.1 for REST, HTTP/2 for gRPC.
    pub protocol: Protocol,
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// Header fields, pseudo-headers and lengths apart, in order.
    pub headers: Vec<Field>,
    /// The body.
    pub body: Vec<u8>,
    /// Set if the body comes in pieces of this many bytes and without a declared length.
    pub chunk_bytes: Option<usize>,
}

impl RawRequest {
    /// The path of streams of inferences.
    pub const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

    /// Whether its body is a stream of messages, each of which is judged on its own.
    pub fn is_stream(&self) -> bool {
        self.path == Self::STREAM
    }

    /// Every header field as a proxy's filter sees them: pseudo-headers first, and the length that
    /// an HTTP/1.1 client declares for a body in one piece.
    pub fn fields(&self) -> Vec<Field> {
        let pseudo = [
            (":method", self.method.as_str()),
            (":path", &self.path),
            (":authority", "gate.test"),
            (":scheme", "http"),
        ];
        let mut fields: Vec<Field> = pseudo
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        fields.extend(
            self.headers
                .iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value.clone())),
        );
        let declared = self
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case(b"content-length"));
        if !self.protocol.is_grpc()
            && self.chunk_bytes.is_none()
            && !self.body.is_empty()
            && !declared
        {
            fields.push((
                b"content-length".to_vec(),
                self.body.len().to_string().into_bytes(),
            ));
        }
        fields
    }

    /// The body in the pieces in which it is sent; none if it is empty.
    pub fn pieces(&self) -> Vec<Vec<u8>> {
        if self.body.is_empty() {
            return Vec::new();
        }
        self.body
            .chunks(self.chunk_bytes.unwrap_or(self.body.len()).max(1))
            .map(<[u8]>::to_vec)
            .collect()
    }
}

/// The decision that a request must get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Allowed.
    Allow,
    /// Refused.
    Deny {
        /// Why.
        reason: Reason,
        /// The caller's own field that the answer names; `None`: not compared.
        field: Option<String>,
    },
}
