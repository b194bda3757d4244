//! The table of client errors: which statuses of a server are the client's, and the category of
//! each.
//!
//! | HTTP | gRPC | category |
//! |---|---|---|
//! | 400 | `INVALID_ARGUMENT` | by the text below, otherwise an invalid parameter |
//! | 404 | `NOT_FOUND` | unknown model |
//! | 413 | `RESOURCE_EXHAUSTED`, of a message beyond the server's limit | too long |
//! | 422 | `FAILED_PRECONDITION` of OIP and TorchServe | by the text below, as 400 |
//! | 429 | `RESOURCE_EXHAUSTED`, unless memory is exhausted | busy |
//!
//! Each other status is a fault of the gate or of the server. `OUT_OF_RANGE` is one of them,
//! because this side makes it of an answer that is too large.

use tensorgate_judge::protocol_adapter::ProtocolAdapter;
use tensorgate_policy::denial::ClientErrorStatus;
use tensorgate_policy::values::safe_text::prefix;
use tonic::Code;

use super::Category;

/// The most bytes between the two parts of a pattern: a name or a number.
const MAX_GAP_BYTES: usize = 64;

/// The kind of a server, which decides how its errors are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backends) enum ServerKind {
    /// Triton, MLServer, KServe.
    OpenInference,
    /// TF Serving.
    TfServing,
    /// TorchServe.
    TorchServe,
    /// vLLM and other servers with the OpenAI API.
    OpenAi,
    /// Servers with a JSON format of their own.
    HttpJson,
}

/// Two parts of a text in lower case, at most [`MAX_GAP_BYTES`] apart. The second may be empty.
type Pattern = (&'static str, &'static str);

/// How servers of language models say that an input is too long.
const TOO_LONG: &[Pattern] = &[
    // The code and the text of OpenAI, which vLLM, SGLang and Mistral follow.
    ("context_length_exceeded", ""),
    ("string_above_max_length", ""),
    ("maximum context length", ""),
    ("reduce the length of", ""),
    ("exceed", "context window"),
    // vLLM and NVIDIA NIM. The last is an older text, of a prompt that leaves no room.
    ("context length is only", ""),
    ("too long to fit into the model", ""),
    ("maximum model length", ""),
    ("max_model_len", "exceed"),
    ("exceed", "max_model_len"),
    ("max_tokens must be at least 1, got -", ""),
    // SGLang.
    ("longer than the model", "context length"),
    ("maximum allowed length", ""),
    // llama.cpp.
    ("exceed_context_size", ""),
    ("exceed", "context size"),
    ("larger than the max context size", ""),
    ("context size has been exceeded", ""),
    // Ollama and LM Studio.
    ("exceed", "context length"),
    ("context length exceeded", ""),
    ("context length of only", ""),
    ("reached context length", ""),
    ("greater than the context length", ""),
    // TGI and TEI of Hugging Face.
    ("tokens + `max_new_tokens` must be", ""),
    ("must have less than", "tokens"),
    // TensorRT-LLM and Triton's backends.
    ("maximum input length", ""),
    ("maximum prompt length", ""),
    ("maximum sequence length", ""),
    ("exceed", "max_num_tokens"),
    ("exceed", "max_input_len"),
    ("greater than", "max_seq_len"),
    ("plus query length", ""),
    // Proxies of several providers.
    ("contextwindowexceeded", ""),
    ("maximum number of tokens", ""),
    ("exceed", "context limit"),
    ("exceeded model token limit", ""),
    ("prompt is too long", ""),
    ("prompt exceeds max length", ""),
    ("input is too long", ""),
    ("too many tokens", ""),
];

/// How servers with the OpenAI API or with their own JSON say that they do not know a model.
const NO_SUCH_MODEL: &[Pattern] = &[
    ("model_not_found", ""),
    ("model not found", ""),
    ("unknown model", ""),
    ("invalid model name", ""),
];

/// How servers of the Open Inference Protocol say so: Triton, and MLServer, which has one status.
const NO_SUCH_OIP_MODEL: &[Pattern] = &[("unknown model", ""), ("model ", " not found")];

/// How TF Serving says that an input is too long for a model, and that it does not know a model.
const TF_TOO_LONG: &[Pattern] = &[("maximum sequence length", "")];
const NO_SUCH_SERVABLE: &[Pattern] = &[("servable not found", "")];

/// How gRPC libraries (C++, Go, Java) say that a message is beyond the server's limit.
const MESSAGE_TOO_LARGE: &[Pattern] = &[
    ("received message larger than max", ""),
    ("message exceeds maximum size", ""),
];
/// How servers say that they have no memory, which is their own fault. As a client's error it
/// would be sent to the next server, too.
const NO_MEMORY: &[Pattern] = &[
    ("oom when allocating", ""),
    ("out of memory", ""),
    // XLA and ONNX Runtime.
    ("failed to allocate", ""),
    ("bad_alloc", ""),
];

impl ServerKind {
    pub(super) const fn from_protocol(protocol: ProtocolAdapter) -> Self {
        match protocol {
            ProtocolAdapter::OpenInference => Self::OpenInference,
            ProtocolAdapter::TfServing => Self::TfServing,
            ProtocolAdapter::TorchServe => Self::TorchServe,
        }
    }

    /// The texts of inputs that are too long, and of unknown models.
    const fn patterns(self) -> (&'static [Pattern], &'static [Pattern]) {
        match self {
            Self::OpenAi | Self::HttpJson => (TOO_LONG, NO_SUCH_MODEL),
            Self::OpenInference | Self::TorchServe => (TOO_LONG, NO_SUCH_OIP_MODEL),
            Self::TfServing => (TF_TOO_LONG, NO_SUCH_SERVABLE),
        }
    }
}

/// The category of a client error with this text. `body` is its bounded start.
pub(super) fn category(kind: ServerKind, status: ClientErrorStatus, body: &[u8]) -> Category {
    match status {
        ClientErrorStatus::NotFound => Category::UnknownModel,
        ClientErrorStatus::ContentTooLarge => Category::TooLong,
        ClientErrorStatus::TooManyRequests => Category::Busy,
        ClientErrorStatus::BadRequest | ClientErrorStatus::UnprocessableContent => {
            let text = String::from_utf8_lossy(body).to_ascii_lowercase();
            let (too_long, unknown_model) = kind.patterns();
            if has(&text, too_long) {
                Category::TooLong
            } else if has(&text, unknown_model) {
                Category::UnknownModel
            } else {
                Category::InvalidParameter
            }
        }
    }
}

/// The client error that a gRPC status of a server is.
pub(super) fn client_error(kind: ServerKind, code: Code, text: &str) -> Option<ClientErrorStatus> {
    match (code, kind) {
        (Code::InvalidArgument, _) => Some(ClientErrorStatus::BadRequest),
        (Code::NotFound, _) => Some(ClientErrorStatus::NotFound),
        // TF Serving means a model without its tables or variables.
        (Code::FailedPrecondition, ServerKind::TfServing) => None,
        (Code::FailedPrecondition, _) => Some(ClientErrorStatus::UnprocessableContent),
        (Code::ResourceExhausted, _) => {
            let text = text.to_ascii_lowercase();
            if has(&text, NO_MEMORY) {
                None
            } else if has(&text, MESSAGE_TOO_LARGE) {
                Some(ClientErrorStatus::ContentTooLarge)
            } else {
                Some(ClientErrorStatus::TooManyRequests)
            }
        }
        _ => None,
    }
}

/// Whether a text in lower case has one of these patterns.
fn has(text: &str, patterns: &[Pattern]) -> bool {
    patterns.iter().any(|&(first, second)| {
        text.match_indices(first).any(|(at, _)| {
            let rest = text.get(at.saturating_add(first.len())..);
            let near = MAX_GAP_BYTES.saturating_add(second.len());
            rest.is_some_and(|rest| prefix(rest, near).contains(second))
        })
    })
}
