//! A model server's client error, which the client gets: the server's status and a category of a
//! closed list, in the gate's own words.
//!
//! A compromised server chooses one of these statuses and categories, and a wait within bounds. Its
//! text goes to the log only: bounded, escaped, and possibly with a part of the prompt.

mod table;

use std::fmt;

use http::{HeaderMap, StatusCode};
use tensorgate_judge::protocol_adapter::ProtocolAdapter;
use tensorgate_policy::denial::ClientErrorStatus;
use tensorgate_policy::values::safe_text::{escaped, prefix};
use tensorgate_policy::{Denial, Reason};
use tonic::Status;

pub(super) use table::ServerKind;
use table::{category, client_error};

/// The most bytes of an error answer that are read.
pub(super) const MAX_BODY_BYTES: usize = 4 << 10;
/// The most bytes of a server's text in the log, before they are escaped.
const MAX_TEXT_BYTES: usize = 512;
/// The seconds after which a client may ask a busy server again, if the server says nothing usable.
const DEFAULT_RETRY_AFTER_S: u64 = 5;
/// The longest wait in seconds that a server may ask for.
const MAX_RETRY_AFTER_S: u64 = 3_600;
/// The most digits of a `retry-after` that is read.
const MAX_RETRY_AFTER_DIGITS: usize = 4;

/// What a client error is about. The set is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Category {
    /// The input is too long for the model or its server.
    TooLong,
    /// A parameter or an input is invalid. Also each error that no row of the table describes.
    InvalidParameter,
    /// The server does not know the model.
    UnknownModel,
    /// The server has too many requests.
    Busy,
}

impl Category {
    const fn reason(self) -> Reason {
        match self {
            Self::TooLong => Reason::BackendTooLong,
            Self::InvalidParameter => Reason::BackendRejected,
            Self::UnknownModel => Reason::BackendUnknownModel,
            Self::Busy => Reason::BackendBusy,
        }
    }
}

/// A client error of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    category: Category,
    status: ClientErrorStatus,
    retry_after_s: Option<u64>,
    /// The status and the text of the server, for the log.
    answer: String,
}

impl Rejection {
    /// A client error over HTTP, with the start of its body.
    pub(super) fn from_http(
        kind: ServerKind,
        status: ClientErrorStatus,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Self {
        let category = category(kind, status, body);
        let label = StatusCode::from_u16(status.http()).unwrap_or(StatusCode::BAD_REQUEST);
        Self {
            retry_after_s: wait(category, headers),
            category,
            status,
            answer: format!("{label}: {}", safe_text(&String::from_utf8_lossy(body))),
        }
    }

    /// A client error over gRPC. `None` if the status is a fault of the server.
    pub(super) fn from_grpc(protocol: ProtocolAdapter, status: &Status) -> Option<Self> {
        let kind = ServerKind::from_protocol(protocol);
        let (code, text) = (status.code(), prefix(status.message(), MAX_BODY_BYTES));
        let error = client_error(kind, code, text)?;
        let category = category(kind, error, text.as_bytes());
        Some(Self {
            retry_after_s: wait(category, &HeaderMap::new()),
            category,
            status: error,
            answer: format!("{code:?}: {}", safe_text(text)),
        })
    }

    /// Whether the server would answer the same request later.
    pub(crate) fn is_busy(&self) -> bool {
        self.category == Category::Busy
    }

    /// The denial for the client. `cause` is for the log.
    pub(super) fn to_denial(&self, cause: String) -> Denial {
        Denial {
            server_status: Some(self.status),
            retry_after_s: self.retry_after_s,
            ..Denial::new(self.category.reason(), cause)
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.answer)
    }
}

/// One bounded line of a server's text.
fn safe_text(text: &str) -> String {
    escaped(prefix(text, MAX_TEXT_BYTES))
}

/// How long a client of a busy server should wait.
fn wait(category: Category, headers: &HeaderMap) -> Option<u64> {
    let seconds = retry_after_s(headers).unwrap_or(DEFAULT_RETRY_AFTER_S);
    (category == Category::Busy).then_some(seconds)
}

/// The server's `retry-after` in seconds, within bounds. A date is not read.
fn retry_after_s(headers: &HeaderMap) -> Option<u64> {
    let digits = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || digits.len() > MAX_RETRY_AFTER_DIGITS {
        return None;
    }
    let seconds: u64 = digits.parse().ok()?;
    (1..=MAX_RETRY_AFTER_S)
        .contains(&seconds)
        .then_some(seconds)
}

#[cfg(test)]
mod tests;
