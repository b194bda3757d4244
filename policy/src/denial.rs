//! Denials: one reason for the caller, the full cause for the log.

mod answer_limit;
mod client_error;
mod overload;

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::Unit;
use crate::request::Codings;
pub use answer_limit::AnswerLimit;
pub use client_error::{ClientErrorStatus, UNAVAILABLE_RETRY_S};
pub use overload::OverloadCause;

/// A reason, as callers see it. The variants are in order of precedence: with several causes in one
/// request, the earliest reason is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the variants are the answer table's own names")]
pub enum Reason {
    HeaderTooLarge,
    AmbiguousRequest,
    HttpVersion,
    Unauthenticated,
    LockedOut,
    NotAnInferenceRoute,
    MethodNotAllowed,
    UnsupportedMediaType,
    UnsupportedEncoding,
    NotGranted,
    RateLimited,
    Concurrency,
    BodyTooLarge,
    Overloaded,
    Malformed,
    DuplicateKey,
    TooDeep,
    Parameter,
    OutputNotAllowed,
    UnknownInput,
    DuplicateInput,
    MissingInput,
    Datatype,
    Shape,
    SizeMismatch,
    ItemTooLong,
    NotFinite,
    OutOfRange,
    UrlBlocked,
    CostExceeded,
    Blocked,
    HandlerRejected,
    HandlerFault,
    BackendTooLong,
    BackendRejected,
    BackendUnknownModel,
    BackendBusy,
    BackendUnavailable,
    BackendTimeout,
    BackendFault,
}

/// gRPC status codes that reasons map to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are gRPC's own names")]
#[repr(u8)]
pub enum GrpcStatus {
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// Title for every caller that is not authenticated, for any reason.
const UNKNOWN_CALLER: &str = "a valid credential is required";

impl Reason {
    /// Every reason, in order of precedence.
    pub const ALL: [Self; 40] = [
        Self::HeaderTooLarge,
        Self::AmbiguousRequest,
        Self::HttpVersion,
        Self::Unauthenticated,
        Self::LockedOut,
        Self::NotAnInferenceRoute,
        Self::MethodNotAllowed,
        Self::UnsupportedMediaType,
        Self::UnsupportedEncoding,
        Self::NotGranted,
        Self::RateLimited,
        Self::Concurrency,
        Self::BodyTooLarge,
        Self::Overloaded,
        Self::Malformed,
        Self::DuplicateKey,
        Self::TooDeep,
        Self::Parameter,
        Self::OutputNotAllowed,
        Self::UnknownInput,
        Self::DuplicateInput,
        Self::MissingInput,
        Self::Datatype,
        Self::Shape,
        Self::SizeMismatch,
        Self::ItemTooLong,
        Self::NotFinite,
        Self::OutOfRange,
        Self::UrlBlocked,
        Self::CostExceeded,
        Self::Blocked,
        Self::HandlerRejected,
        Self::HandlerFault,
        Self::BackendTooLong,
        Self::BackendRejected,
        Self::BackendUnknownModel,
        Self::BackendBusy,
        Self::BackendUnavailable,
        Self::BackendTimeout,
        Self::BackendFault,
    ];

    /// Name, HTTP status, gRPC status and title of the reason.
    const fn row(self) -> (&'static str, u16, GrpcStatus, &'static str) {
        use GrpcStatus as G;
        match self {
            Self::HeaderTooLarge => (
                "header-too-large",
                431,
                G::ResourceExhausted,
                "request headers are too large",
            ),
            Self::AmbiguousRequest => (
                "ambiguous-request",
                400,
                G::InvalidArgument,
                "the request can be read in two ways",
            ),
            // Only the proxy rejects for it, before the filter sees a request.
            Self::HttpVersion => (
                "http-version",
                426,
                G::InvalidArgument,
                "HTTP/1.1 or HTTP/2 is required",
            ),
            Self::Unauthenticated => ("unauthenticated", 401, G::Unauthenticated, UNKNOWN_CALLER),
            Self::LockedOut => ("locked-out", 401, G::Unauthenticated, UNKNOWN_CALLER),
            Self::NotAnInferenceRoute => (
                "not-an-inference-route",
                404,
                G::Unimplemented,
                "no such route",
            ),
            Self::MethodNotAllowed => (
                "method-not-allowed",
                405,
                G::InvalidArgument,
                "the route does not allow this method",
            ),
            Self::UnsupportedMediaType => (
                "unsupported-media-type",
                415,
                G::InvalidArgument,
                "the content type is not accepted here",
            ),
            Self::UnsupportedEncoding => (
                "unsupported-encoding",
                415,
                G::InvalidArgument,
                "the content encoding is not accepted here",
            ),
            Self::NotGranted => ("not-granted", 403, G::PermissionDenied, "not granted"),
            Self::RateLimited => (
                "rate-limited",
                429,
                G::ResourceExhausted,
                "too many requests",
            ),
            Self::Concurrency => (
                "concurrency",
                429,
                G::ResourceExhausted,
                "too many requests at once",
            ),
            Self::BodyTooLarge => (
                "body-too-large",
                413,
                G::ResourceExhausted,
                "the request body is too large",
            ),
            Self::Overloaded => (
                "overloaded",
                503,
                G::Unavailable,
                "the service is overloaded",
            ),
            Self::Malformed => (
                "malformed",
                400,
                G::InvalidArgument,
                "the request body is malformed",
            ),
            Self::DuplicateKey => (
                "duplicate-key",
                400,
                G::InvalidArgument,
                "the request body repeats a key",
            ),
            Self::TooDeep => (
                "too-deep",
                400,
                G::InvalidArgument,
                "the request body is nested too deeply",
            ),
            Self::Parameter => (
                "parameter",
                400,
                G::InvalidArgument,
                "this gate's policy does not allow a parameter",
            ),
            Self::OutputNotAllowed => (
                "output-not-allowed",
                400,
                G::InvalidArgument,
                "this gate's policy does not allow a requested output",
            ),
            Self::UnknownInput => (
                "unknown-input",
                400,
                G::InvalidArgument,
                "an input is unknown",
            ),
            Self::DuplicateInput => (
                "duplicate-input",
                400,
                G::InvalidArgument,
                "an input is given twice",
            ),
            Self::MissingInput => (
                "missing-input",
                400,
                G::InvalidArgument,
                "an input is missing",
            ),
            Self::Datatype => (
                "datatype",
                400,
                G::InvalidArgument,
                "an input has the wrong datatype",
            ),
            Self::Shape => (
                "shape",
                400,
                G::InvalidArgument,
                "an input has the wrong shape",
            ),
            Self::SizeMismatch => (
                "size-mismatch",
                400,
                G::InvalidArgument,
                "an input's data does not fit its shape",
            ),
            Self::ItemTooLong => (
                "item-too-long",
                400,
                G::InvalidArgument,
                "an element is longer than this gate's policy allows",
            ),
            Self::NotFinite => (
                "not-finite",
                400,
                G::InvalidArgument,
                "an input holds a value that is not finite",
            ),
            Self::OutOfRange => (
                "out-of-range",
                400,
                G::InvalidArgument,
                "an input holds a value that this gate's policy does not allow",
            ),
            Self::UrlBlocked => (
                "url-blocked",
                400,
                G::InvalidArgument,
                "this gate's policy does not allow a URL",
            ),
            Self::CostExceeded => (
                "cost-exceeded",
                429,
                G::ResourceExhausted,
                "the request costs more than is left",
            ),
            Self::Blocked => (
                "blocked",
                403,
                G::PermissionDenied,
                "the client is blocked for a time",
            ),
            Self::HandlerRejected => (
                "handler-rejected",
                400,
                G::InvalidArgument,
                "the input was rejected",
            ),
            Self::HandlerFault => (
                "handler-fault",
                500,
                G::Internal,
                "the request could not be processed",
            ),
            Self::BackendTooLong => (
                "backend-too-long",
                400,
                G::InvalidArgument,
                "the input is longer than the model's context length or size limit",
            ),
            Self::BackendRejected => (
                "backend-rejected",
                400,
                G::InvalidArgument,
                "the model rejected a parameter or an input of the request",
            ),
            Self::BackendUnknownModel => (
                "backend-unknown-model",
                404,
                G::NotFound,
                "the model was not found",
            ),
            Self::BackendBusy => (
                "backend-busy",
                429,
                G::ResourceExhausted,
                "the model is busy",
            ),
            Self::BackendUnavailable => (
                "backend-unavailable",
                503,
                G::Unavailable,
                "the model is unavailable",
            ),
            Self::BackendTimeout => (
                "backend-timeout",
                504,
                G::DeadlineExceeded,
                "the model did not answer in time",
            ),
            Self::BackendFault => (
                "backend-fault",
                502,
                G::Internal,
                "the model gave no usable answer",
            ),
        }
    }

    /// The reason's name, as in `urn:tensorgate:<name>`.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// The reason that the caller sees: a lockout is visible in the log only.
    pub const fn public_reason(self) -> Self {
        if matches!(self, Self::LockedOut) {
            return Self::Unauthenticated;
        }
        self
    }

    /// HTTP status of a REST response.
    pub const fn http_status(self) -> u16 {
        self.row().1
    }

    /// The gRPC status.
    pub const fn grpc_status(self) -> GrpcStatus {
        self.row().2
    }

    /// Whether a rejection for this reason shows its field. The other reasons are for
    /// unauthenticated callers, or not the caller's fault.
    pub const fn shows_field(self) -> bool {
        matches!(
            self,
            // The proxy's own rejections: what to change.
            Self::HeaderTooLarge
                | Self::AmbiguousRequest
                | Self::HttpVersion
                | Self::BodyTooLarge
                // A query that is not taken, and the content types that are.
                | Self::NotAnInferenceRoute
                | Self::UnsupportedMediaType
                // Faults in the body.
                | Self::Malformed
                | Self::DuplicateKey
                | Self::TooDeep
                | Self::Parameter
                | Self::OutputNotAllowed
                | Self::UnknownInput
                | Self::DuplicateInput
                | Self::MissingInput
                | Self::Datatype
                | Self::Shape
                | Self::SizeMismatch
                | Self::ItemTooLong
                | Self::NotFinite
                | Self::OutOfRange
                | Self::UrlBlocked
                // A handler's own text for the caller, if its policy has `errors: public`.
                | Self::HandlerRejected
        )
    }

    /// One sentence for the caller that reveals nothing about the upstream.
    pub const fn title(self) -> &'static str {
        self.row().3
    }

    /// Whether it is a client error of the model's server. A compromised server chooses it.
    pub const fn is_chosen_by_server(self) -> bool {
        matches!(
            self,
            Self::BackendTooLong
                | Self::BackendRejected
                | Self::BackendUnknownModel
                | Self::BackendBusy
        )
    }

    /// The reason with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A denial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The reason.
    pub reason: Reason,
    /// The invalid field of the caller's own request (`input "image"`, `input "image": dim 2`), or
    /// what to change, for authenticated callers only. For `handler-rejected` it is the handler's
    /// own text. It never contains the source of a limit, or names that are neither in the request
    /// nor in the published contract.
    pub field: Option<String>,
    /// What the contract expects of that field. Without a field it is not shown.
    pub expected: Option<Box<Expected>>,
    /// Full cause, for the log.
    pub cause: String,
    /// For `rate-limited` and `cost-exceeded`: remaining quota of the caller's limits.
    pub rates: Vec<RateNote>,
    /// For these and `backend-busy`: whole seconds, rounded up, after which the same request is
    /// allowed; `None` if never.
    pub retry_after_s: Option<u64>,
    /// The status of a server's client error, which replaces the reason's.
    pub server_status: Option<ClientErrorStatus>,
    /// The bound that ended an answer or a stream after it had begun.
    pub limit: Option<AnswerLimit>,
    /// For `method-not-allowed`: the allowed method.
    pub allow: Option<&'static str>,
    /// For `unsupported-encoding` of a content coding: the supported codings.
    pub codings: Option<Codings>,
    /// For `overloaded`, and for no other reason: what is exhausted or failed. `None` too in a
    /// denial that was received, because its sender has counted it.
    pub overload: Option<OverloadCause>,
}

impl Denial {
    /// A denial with a cause for the log only. One for `overloaded` counts as a bug of tensorgate
    /// unless [`Self::overloaded_by`] names what is exhausted.
    pub fn new(reason: Reason, cause: impl Into<String>) -> Self {
        Self {
            reason,
            field: None,
            expected: None,
            cause: cause.into(),
            rates: Vec::new(),
            retry_after_s: None,
            server_status: None,
            limit: None,
            allow: None,
            codings: None,
            overload: (reason == Reason::Overloaded).then_some(OverloadCause::Internal),
        }
    }

    /// Names what is exhausted or failed. Changes nothing if the reason is not `overloaded`.
    #[must_use]
    pub fn overloaded_by(self, cause: OverloadCause) -> Self {
        Self {
            overload: self.overload.map(|_| cause),
            ..self
        }
    }

    /// Names the bound that ended an answer or a stream. The client reads it in place of the
    /// reason's title.
    #[must_use]
    pub fn limited_by(self, limit: AnswerLimit) -> Self {
        Self {
            limit: Some(limit),
            ..self
        }
    }

    /// What the client reads: the reason's title, or the bound that ended the answer.
    pub fn title(&self) -> &'static str {
        self.limit
            .map_or_else(|| self.reason.title(), AnswerLimit::text)
    }

    /// A denial that names the invalid field of the caller's own request.
    pub fn with_field(reason: Reason, field: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::new(reason, cause)
        }
    }

    /// Adds what the contract expects of the field: its datatype, shape or bound. The cause says
    /// it too, because the operator must not read less than the caller.
    #[must_use]
    pub fn expecting(mut self, expected: Option<String>) -> Self {
        if let Some(expected) = &expected {
            // An expectation may repeat the detail behind the field: what a schema may not hold.
            let detail = self.cause.split_once(": ").map(|(_field, detail)| detail);
            let is_in_cause = self.cause.contains(expected.as_str())
                || detail.is_some_and(|detail| expected.contains(detail));
            if !is_in_cause {
                self.cause.push_str("; expected ");
                self.cause.push_str(expected);
            }
        }
        Self {
            expected: expected.map(|expected| Box::new(Expected(expected))),
            ..self
        }
    }

    /// The invalid field and what the contract expects of it, as callers read it.
    pub fn described_field(&self) -> Option<Cow<'_, str>> {
        let field = self.field.as_deref()?;
        Some(match &self.expected {
            Some(expected) => Cow::Owned(format!("{field}: expected {}", expected.0)),
            None => Cow::Borrowed(field),
        })
    }
}

/// What a contract expects of a field, in words. A type of its own, so that a denial holds only a
/// pointer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected(pub String);

/// Maximum size of a shadow denial's cause in logs; it contains names of limits and tensors.
pub const MAX_SHADOW_DETAIL_BYTES: usize = 256;
/// Maximum number of shadow denials of one request in logs: one per reason, at filter and host.
pub const MAX_SHADOWED: usize = 8;

/// A denial that shadow mode let pass, as logs show it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shadowed {
    /// Name of its reason.
    pub reason: String,
    /// The cause, at most [`MAX_SHADOW_DETAIL_BYTES`].
    pub detail: String,
}

impl Shadowed {
    /// The log form of a denial, with its cause cut at a character boundary.
    pub fn of(denial: &Denial) -> Self {
        let end = denial.cause.floor_char_boundary(MAX_SHADOW_DETAIL_BYTES);
        Self {
            reason: denial.reason.name().into(),
            detail: denial.cause.get(..end).unwrap_or_default().into(),
        }
    }
}

/// Quota of one limit in a response: an item of `RateLimit` and of `RateLimit-Policy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateNote {
    /// The limit's public name.
    pub policy: String,
    /// The counted unit.
    pub unit: Unit,
    /// Units per window.
    pub quota: u64,
    /// The window, seconds.
    pub window_s: u64,
    /// Remaining units.
    pub left: u64,
    /// Whole seconds, rounded up, until the rejected request is allowed, or else until all units
    /// are available; `None` if never.
    pub reset_s: Option<u64>,
}
