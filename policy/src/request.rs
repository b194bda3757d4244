//! Facts about a request's head, as `wire` and `identity` establish them and as a [`crate::Decision`] reads them.

mod boundary;
mod proofs;

use alloc::borrow::Cow;

use crate::draw::Draw;

pub use boundary::Boundary;
pub use proofs::{Proof, Proofs, Requires};

/// An inference protocol, as a policy names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Open Inference Protocol v2 over REST, JSON or a raw body that a handler accepts.
    OipRest,
    /// Open Inference Protocol v2 over gRPC.
    OipGrpc,
    /// TensorFlow Serving's predict API over REST, JSON by row or by column.
    TfRest,
    /// TensorFlow Serving's predict API over gRPC.
    TfGrpc,
    /// OpenAI's completions, chat completions and embeddings over REST, as vLLM and its like serve them.
    OpenAi,
    /// TorchServe's predictions over REST: JSON, a form of parts, or a raw body that a handler accepts.
    TorchRest,
    /// TorchServe's predictions over gRPC.
    TorchGrpc,
    /// JSON over a route of the model's own, tensors where its template has them.
    Json,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 8] = [
        Self::OipRest,
        Self::OipGrpc,
        Self::TfRest,
        Self::TfGrpc,
        Self::OpenAi,
        Self::TorchRest,
        Self::TorchGrpc,
        Self::Json,
    ];

    /// The policy's spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OipRest => "oip-rest",
            Self::OipGrpc => "oip-grpc",
            Self::TfRest => "tf-serving-rest",
            Self::TfGrpc => "tf-serving-grpc",
            Self::OpenAi => "openai",
            Self::TorchRest => "torchserve-rest",
            Self::TorchGrpc => "torchserve-grpc",
            Self::Json => "json",
        }
    }

    /// The protocol that a name spells.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.name() == name)
    }

    /// Whether it travels over gRPC: a frame around each message, the status in trailers.
    pub const fn is_grpc(self) -> bool {
        match self {
            Self::OipRest | Self::TfRest | Self::OpenAi | Self::TorchRest | Self::Json => false,
            Self::OipGrpc | Self::TfGrpc | Self::TorchGrpc => true,
        }
    }

    /// Whether the body names the model, and not the path.
    pub const fn body_names_model(self) -> bool {
        match self {
            Self::OipRest | Self::TfRest | Self::TorchRest | Self::Json => false,
            Self::OipGrpc | Self::TfGrpc | Self::OpenAi | Self::TorchGrpc => true,
        }
    }
}

/// What a caller wants done with a model; grants list these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Inference, answered in one piece.
    Infer,
    /// Inference that is answered in pieces (OpenAI's API), or over a stream of messages, each a request by itself (OIP over gRPC).
    Stream,
    /// The model's signature.
    Metadata,
    /// Whether the model can serve.
    Ready,
    /// How often the model was run, and how long that took.
    Statistics,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 5] = [
        Self::Infer,
        Self::Stream,
        Self::Metadata,
        Self::Ready,
        Self::Statistics,
    ];

    /// The policy's spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Infer => "infer",
            Self::Stream => "stream",
            Self::Metadata => "metadata",
            Self::Ready => "ready",
            Self::Statistics => "statistics",
        }
    }

    /// The operation that a name spells.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|operation| operation.name() == name)
    }

    /// Whether the model runs: what it is given is held against its contract, and costs.
    pub const fn infers(self) -> bool {
        match self {
            Self::Infer | Self::Stream => true,
            Self::Metadata | Self::Ready | Self::Statistics => false,
        }
    }
}

/// Operations, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations(u8);

impl Operations {
    /// Whether an operation is in it.
    pub const fn contains(self, operation: Operation) -> bool {
        self.0 & Self::bit(operation) != 0
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

/// What of OpenAI's API a request is to.
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
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Chat, Self::Completions, Self::Embeddings];

    /// Its one path, the same at the gate and behind it.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
        }
    }

    /// Whether what it answers may come in pieces.
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

/// A question about the server as a whole, which the gate answers by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerQuestion {
    /// `/v2/health/live`, ServerLive.
    Live,
    /// `/v2/health/ready`, ServerReady.
    Ready,
    /// grpc.health.v1's Check: readiness, in words of its own.
    Health,
    /// `/v2`, ServerMetadata.
    Metadata,
    /// OpenAI's `/v1/models`: which models the caller may use.
    Models,
}

/// Where a request's method and path lead. Everything that is not listed by a rule is [`Route::Unknown`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// An operation on a model. `model` is `None` where the body names it (gRPC).
    Model {
        /// Which protocol the path belongs to.
        protocol: Protocol,
        /// What is asked.
        operation: Operation,
        /// The model that the path names.
        model: Option<Cow<'a, str>>,
        /// The version that the path names.
        version: Option<Cow<'a, str>>,
    },
    /// An inference of OpenAI's API; the body names the model.
    OpenAi {
        /// Which.
        api: Api,
    },
    /// A question that the gate answers.
    Server {
        /// Which protocol the path belongs to.
        protocol: Protocol,
        /// Which question.
        question: ServerQuestion,
    },
    /// A known path with another method than its own.
    WrongMethod {
        /// Which protocol the path belongs to.
        protocol: Protocol,
        /// The one method it allows, for the `Allow` header.
        allow: &'static str,
    },
    /// Management routes, other servers' routes and anything else.
    Unknown {
        /// The protocol that an answer should speak, judged by content type alone.
        protocol: Protocol,
    },
}

impl Route<'_> {
    /// The protocol in which to answer.
    pub const fn protocol(&self) -> Protocol {
        match self {
            Self::Model { protocol, .. }
            | Self::Server { protocol, .. }
            | Self::WrongMethod { protocol, .. }
            | Self::Unknown { protocol } => *protocol,
            Self::OpenAi { .. } => Protocol::OpenAi,
        }
    }

    /// Whether a body on it is a stream of messages, each a request by itself. OpenAI's routes do not say it.
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

/// What a head carries as proof of who is calling. At most one kind: two credentials make a head ambiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential<'a> {
    /// None.
    None,
    /// The text of `x-api-key`, or of `authorization: Bearer` where it begins with `tg_`. Untrusted.
    ApiKey(&'a str),
    /// The text of `authorization: Bearer` where it begins otherwise. Untrusted.
    Token(&'a str),
    /// An `authorization` header of a scheme that no rule knows.
    Unknown,
}

/// Who a request's credential says is calling. The `&str` of a fault is the log's cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A client of the policy, by name.
    Client(alloc::string::String),
    /// No credential came.
    Missing,
    /// A credential came and is wrong, unknown, expired, or right and from a wrong place.
    Refused(&'static str),
    /// The same from where too many wrong ones came.
    LockedOut(&'static str),
    /// A credential came, and what judges it could not do its work: nothing is known of it.
    Unjudged(&'static str),
    /// Two credentials came that prove two clients.
    Conflicting(&'static str),
}

/// A declared content type, brought into the classes that matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentType<'a> {
    /// No header.
    Absent,
    /// `application/json`, parameters such as `charset=utf-8` apart.
    Json,
    /// `application/grpc` or `application/grpc+proto`.
    Grpc,
    /// `multipart/form-data` with the boundary between its parts.
    Form(Boundary),
    /// Another well-formed type, lower-cased, without parameters.
    Other(Cow<'a, str>),
    /// Not a media type.
    Malformed,
}

impl ContentType<'_> {
    /// The type as a rule for raw bodies may name it; `None` for those that no rule can name.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Form(_) => Some(FORM),
            Self::Other(name) => Some(name),
            Self::Absent | Self::Json | Self::Grpc | Self::Malformed => None,
        }
    }
}

/// The media type of a form of parts (RFC 7578).
pub const FORM: &str = "multipart/form-data";
/// The media type of plain bytes, and of a body that does not say its own (RFC 9110, 8.3).
pub const OCTET_STREAM: &str = "application/octet-stream";

/// A content coding, as `content-encoding` or `grpc-encoding` declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Coding {
    /// `gzip` (RFC 1952).
    Gzip,
    /// `deflate`: zlib's format (RFC 1950), as HTTP has it (RFC 9110, 8.4.1.2).
    Deflate,
}

impl Coding {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Gzip, Self::Deflate];

    /// Its name on the wire and in a policy.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// The coding that a name spells.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|coding| coding.name() == name)
    }
}

/// Some of the content codings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Codings {
    gzip: bool,
    deflate: bool,
}

impl Codings {
    /// Whether this is one of them.
    pub const fn contains(self, coding: Coding) -> bool {
        match coding {
            Coding::Gzip => self.gzip,
            Coding::Deflate => self.deflate,
        }
    }

    /// Each of them.
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

/// How a body is declared to be coded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    #[default]
    Identity,
    /// By one coding that can be read.
    Coded(Coding),
    /// Otherwise: by another coding, by several, or by a name that is none.
    Unknown,
}

/// What is known when the headers are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Bytes of all header names and values together, pseudo-headers included.
    pub header_bytes: usize,
    /// Number of header fields, pseudo-headers included.
    pub header_count: usize,
    /// Why the head can be read in two ways, if it can: repeated or conflicting credentials, lengths,
    /// types; a header in our own name; a missing pseudo-header; a value that is not text.
    pub ambiguous: Option<&'static str>,
    /// Who is calling.
    pub identity: Identity,
    /// By what it has proven that.
    pub proofs: Proofs,
    /// What its credential does not extend to, whatever is granted: operations whose scope a token lacks.
    pub withheld: Operations,
    /// What picks among versions for it.
    pub draw: Draw,
    /// Where to.
    pub route: Route<'a>,
    /// The body's declared type.
    pub content_type: ContentType<'a>,
    /// The declared content coding (`content-encoding`, and with gRPC `grpc-encoding`).
    pub encoding: Encoding,
    /// Bytes of JSON that the body begins with, binary tensors behind it, if declared (`inference-header-content-length`).
    pub json_length: Option<u64>,
    /// Declared body length in bytes, if declared.
    pub content_length: Option<u64>,
    /// Whether the request ends with its headers.
    pub end_of_stream: bool,
}
