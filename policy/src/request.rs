//! Facts about a request's head, established by `wire` and `identity` and read by a
//! [`crate::Decision`].

mod boundary;
mod caller;
mod hash;
pub mod management;
mod proofs;

use alloc::borrow::Cow;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use tensorgate_values::named;

pub use boundary::Boundary;
pub use caller::{CallerDigest, CallerDigests, HolderDigest};
pub use hash::RequestHash;
pub use proofs::{Proof, Proofs, Requires};

named! {
    /// An inference protocol, as a policy names it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    pub enum Protocol {
        /// Open Inference Protocol v2 over REST: JSON, or a raw body for a handler.
        OipRest = "oip-rest",
        /// Open Inference Protocol v2 over gRPC.
        OipGrpc = "oip-grpc",
        /// TensorFlow Serving's predict API over REST, JSON by row or by column.
        TfRest = "tf-serving-rest",
        /// TensorFlow Serving's predict API over gRPC.
        TfGrpc = "tf-serving-grpc",
        /// OpenAI's completions, chat completions and embeddings over REST, as vLLM serves them.
        OpenAi = "openai",
        /// TorchServe's predictions over REST: JSON, a multipart form, or a raw body for a handler.
        TorchRest = "torchserve-rest",
        /// TorchServe's predictions over gRPC.
        TorchGrpc = "torchserve-grpc",
        /// JSON on a model's own route, with tensors at its template's locations.
        Json = "json",
    }
}

impl Protocol {
    /// Whether it uses gRPC: message frames, status in trailers.
    pub const fn is_grpc(self) -> bool {
        match self {
            Self::OipRest | Self::TfRest | Self::OpenAi | Self::TorchRest | Self::Json => false,
            Self::OipGrpc | Self::TfGrpc | Self::TorchGrpc => true,
        }
    }

    /// Whether the body and not the path names the model.
    pub const fn body_names_model(self) -> bool {
        match self {
            Self::OipRest | Self::TfRest | Self::TorchRest | Self::Json => false,
            Self::OipGrpc | Self::TfGrpc | Self::OpenAi | Self::TorchGrpc => true,
        }
    }
}

named! {
    /// An operation on a model; grants list these.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    pub enum Operation {
        /// Inference with a single response.
        Infer = "infer",
        /// Inference with a streamed response (OpenAI's API), or a stream of messages (OIP over
        /// gRPC).
        Stream = "stream",
        /// The model's signature.
        Metadata = "metadata",
        /// Whether the model can serve.
        Ready = "ready",
        /// How often the model ran, and how long that took.
        Statistics = "statistics",
    }
}

impl Operation {
    /// Whether the model runs: its input is validated and charged.
    pub const fn infers(self) -> bool {
        match self {
            Self::Infer | Self::Stream => true,
            Self::Metadata | Self::Ready | Self::Statistics => false,
        }
    }
}

/// A set of operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations(u8);

impl Operations {
    /// Whether the set contains an operation.
    pub const fn contains(self, operation: Operation) -> bool {
        self.0 & Self::bit(operation) != 0
    }

    /// Encodes the set in five bits.
    pub const fn to_bits(self) -> u8 {
        self.0
    }

    /// Decodes five bits; `None` for more.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits < 32 { Some(Self(bits)) } else { None }
    }

    const fn bit(operation: Operation) -> u8 {
        match operation {
            Operation::Infer => 1,
            Operation::Metadata => 2,
            Operation::Ready => 4,
            Operation::Stream => 8,
            Operation::Statistics => 16,
        }
    }
}

impl FromIterator<Operation> for Operations {
    fn from_iter<I: IntoIterator<Item = Operation>>(operations: I) -> Self {
        let operations = operations.into_iter();
        Self(operations.fold(0, |set, operation| set | Self::bit(operation)))
    }
}

/// An endpoint of OpenAI's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Api {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
    /// `/v1/embeddings`.
    Embeddings,
}

impl Api {
    /// All endpoints.
    pub const ALL: [Self; 3] = [Self::Chat, Self::Completions, Self::Embeddings];

    /// Its path, the same for clients and backends.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
        }
    }

    /// Whether its response may be streamed.
    pub const fn streams(self) -> bool {
        match self {
            Self::Chat | Self::Completions => true,
            Self::Embeddings => false,
        }
    }

    /// The policy's spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
        }
    }
}

/// A request about the whole server, which the gate answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerQuery {
    /// `/v2/health/live`, ServerLive.
    Live,
    /// `/v2/health/ready`, ServerReady.
    Ready,
    /// grpc.health.v1's Check: readiness in its own message.
    Health,
    /// `/v2`, ServerMetadata.
    Metadata,
    /// OpenAI's `/v1/models`: the models that the caller may use.
    Models,
}

/// Route of a method and path. Anything without a rule is [`Route::Unknown`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// An operation on a model. `model` is `None` if the body names it (gRPC).
    Model {
        /// Protocol of the path.
        protocol: Protocol,
        /// The operation.
        operation: Operation,
        /// The model in the path.
        model: Option<Cow<'a, str>>,
        /// The version in the path.
        version: Option<Cow<'a, str>>,
    },
    /// An inference of OpenAI's API; the body names the model.
    OpenAi {
        /// The endpoint.
        api: Api,
    },
    /// A request that the gate answers itself.
    Server {
        /// Protocol of the path.
        protocol: Protocol,
        /// The request.
        question: ServerQuery,
    },
    /// A known path with another method.
    WrongMethod {
        /// Protocol of the path.
        protocol: Protocol,
        /// The allowed method, for the `Allow` header.
        allow: &'static str,
    },
    /// Any other route, such as management routes.
    Unknown {
        /// Protocol of the response, by content type alone.
        protocol: Protocol,
    },
}

impl Route<'_> {
    /// Protocol of the response.
    pub const fn protocol(&self) -> Protocol {
        match self {
            Self::Model { protocol, .. }
            | Self::Server { protocol, .. }
            | Self::WrongMethod { protocol, .. }
            | Self::Unknown { protocol } => *protocol,
            Self::OpenAi { .. } => Protocol::OpenAi,
        }
    }

    /// The operation on a model. OpenAI's routes do not tell a stream from a single response.
    pub const fn operation(&self) -> Option<Operation> {
        match self {
            Self::Model { operation, .. } => Some(*operation),
            Self::OpenAi { .. } => Some(Operation::Infer),
            Self::Server { .. } | Self::WrongMethod { .. } | Self::Unknown { .. } => None,
        }
    }

    /// Whether a request of this route has no body: over REST, and nothing is inferred. Statistics
    /// are left out, because to most callers they must look like an unknown path.
    pub const fn takes_no_body(&self) -> bool {
        match self {
            Self::Server { protocol, .. } => !protocol.is_grpc(),
            Self::Model {
                protocol,
                operation: Operation::Metadata | Operation::Ready,
                ..
            } => !protocol.is_grpc(),
            Self::Model { .. }
            | Self::OpenAi { .. }
            | Self::WrongMethod { .. }
            | Self::Unknown { .. } => false,
        }
    }

    /// Whether the body is a stream of messages, each a request. OpenAI's routes do not tell.
    pub const fn is_stream(&self) -> bool {
        matches!(
            self,
            Self::Model {
                operation: Operation::Stream,
                ..
            }
        )
    }
}

/// The credential in a head. There is at most one kind: two make a head ambiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential<'a> {
    /// None.
    None,
    /// Text of an API key location, or of `authorization: Bearer` if it begins with `tg_`. If the
    /// policy has keys of any format, any bearer text that is not like a JWT. Untrusted.
    ApiKey(&'a str),
    /// Any other text of `authorization: Bearer`. Untrusted.
    Token(&'a str),
    /// An `authorization` header of an unknown scheme.
    Unknown,
}

/// Beginning of the log name of an API key. The first 16 hex digits of the key's digest follow.
pub const KEY_NAME: &str = "key:";

/// Whether a text has the form of a JWT (RFC 7519, 3; RFC 7515, 7.1): three parts of base64url. No
/// API key has this form, so each text in `authorization` is either a key or a token.
pub fn looks_like_jwt(text: &str) -> bool {
    let base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let mut parts = 0_usize;
    text.split('.').all(|part| {
        parts = parts.saturating_add(1);
        part.bytes().all(base64url)
    }) && parts == 3
}

/// The identity of a caller. The `&str` of a fault is the cause for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A client of the policy, by name.
    Client(SmolStr),
    /// No credential.
    Missing,
    /// A wrong, unknown or expired credential, or one from a wrong network.
    Refused(&'static str),
    /// The same from a locked-out source.
    LockedOut(&'static str),
    /// A credential that could not be verified because of an internal failure.
    Unverifiable(&'static str),
    /// Two credentials of two clients.
    Conflicting(&'static str),
}

/// A declared content type, classified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentType<'a> {
    /// No header.
    Absent,
    /// `application/json` with any parameters.
    Json,
    /// `application/grpc` or `application/grpc+proto`.
    Grpc,
    /// `multipart/form-data` with the boundary between its parts.
    Form(Boundary),
    /// Another valid type, lower-cased, without parameters.
    Other(Cow<'a, str>),
    /// Not a media type.
    Malformed,
}

impl ContentType<'_> {
    /// The type for rules of raw bodies; `None` if no rule can name it.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Form(_) => Some(FORM),
            Self::Other(name) => Some(name),
            Self::Absent | Self::Json | Self::Grpc | Self::Malformed => None,
        }
    }
}

/// Media type of a multipart form (RFC 7578).
pub const FORM: &str = "multipart/form-data";
/// Media type of plain bytes, and of a body without a type (RFC 9110, 8.3).
pub const OCTET_STREAM: &str = "application/octet-stream";

named! {
    /// A content coding, as `content-encoding` or `grpc-encoding` declares it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    pub enum Coding {
        /// `gzip` (RFC 1952).
        Gzip = "gzip",
        /// `deflate`: zlib's format (RFC 1950), as HTTP has it (RFC 9110, 8.4.1.2).
        Deflate = "deflate",
    }
}

/// A set of content codings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Codings {
    gzip: bool,
    deflate: bool,
}

impl Codings {
    /// Whether the set contains a coding.
    pub const fn contains(self, coding: Coding) -> bool {
        match coding {
            Coding::Gzip => self.gzip,
            Coding::Deflate => self.deflate,
        }
    }

    /// The codings in the set.
    pub fn iter(self) -> impl Iterator<Item = Coding> {
        Coding::ALL
            .into_iter()
            .filter(move |coding| self.contains(*coding))
    }
}

impl FromIterator<Coding> for Codings {
    fn from_iter<T: IntoIterator<Item = Coding>>(codings: T) -> Self {
        let mut all = Self::default();
        for coding in codings {
            match coding {
                Coding::Gzip => all.gzip = true,
                Coding::Deflate => all.deflate = true,
            }
        }
        all
    }
}

/// Declared coding of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// No coding.
    #[default]
    Identity,
    /// One supported coding.
    Coded(Coding),
    /// Another coding, several codings, or an invalid name.
    Unknown,
}

/// Facts known from the headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Size of all header names and values, including pseudo-headers.
    pub header_bytes: usize,
    /// Number of header fields, pseudo-headers included.
    pub header_count: usize,
    /// Why the head is ambiguous, if it is: repeated or conflicting credentials, lengths or types;
    /// a reserved header; a missing pseudo-header; a value that is not text.
    pub ambiguous: Option<&'static str>,
    /// The caller.
    pub identity: Identity,
    /// Proofs that the caller provided.
    pub proofs: Proofs,
    /// Operations whose scope the caller's token lacks, whatever is granted.
    pub withheld: Operations,
    /// End user and source, as far as they are known.
    pub caller: CallerDigests,
    /// Selects among versions.
    pub request_hash: RequestHash,
    /// The route.
    pub route: Route<'a>,
    /// For [`Route::Unknown`] of an inference's path with a query: the name of a parameter of that
    /// query. Empty: the query has no name that may be shown.
    pub query: Option<&'a str>,
    /// Whether a body comes in chunks (`transfer-encoding`), without a declared length.
    pub chunked: bool,
    /// Declared type of the body.
    pub content_type: ContentType<'a>,
    /// The declared content coding (`content-encoding`, and with gRPC `grpc-encoding`).
    pub encoding: Encoding,
    /// Declared bytes of JSON before binary tensors (`inference-header-content-length`).
    pub json_length: Option<u64>,
    /// Declared length of the body, in bytes.
    pub content_length: Option<u64>,
    /// Whether the request ends with its headers.
    pub end_of_stream: bool,
}

#[cfg(test)]
mod tests {
    use super::looks_like_jwt;

    #[test]
    fn three_parts_of_base64url_look_like_a_jwt() {
        for (text, expected) in [
            ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln", true),
            ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.", true),
            ("a-_.b.c", true),
            ("..", true),
            ("", false),
            ("a", false),
            ("a.b", false),
            ("a.b.c.d", false),
            ("a.b.c.d.e", false),
            ("a.b.c=", false),
            ("a.b+.c", false),
            ("a.b.c\u{e9}", false),
        ] {
            assert_eq!(looks_like_jwt(text), expected, "{text:?}");
        }
    }
}
