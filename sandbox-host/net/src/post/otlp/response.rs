//! What the response of a receiver means for what was sent.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use prost::Message as _;
use tensorgate_policy::values::safe_text::printable_prefix;

use super::messages;

/// The longest text of a receiver that is kept, in bytes.
const MAX_TEXT_BYTES: usize = 128;

/// What became of what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The receiver has it, except for items that it rejected for good.
    Received {
        /// The number of rejected items.
        rejected: u64,
        /// Why, in the receiver's words.
        why: String,
    },
    /// The receiver cannot use it: less at once may succeed.
    Unusable(String),
    /// It has to be sent again.
    Failed {
        /// Why.
        cause: String,
        /// The pause that the receiver asks for.
        pause: Option<Duration>,
    },
}

impl Delivery {
    /// A failure without a pause that the receiver asks for.
    pub fn failed(cause: impl ToString) -> Self {
        Self::Failed {
            cause: cause.to_string(),
            pause: None,
        }
    }
}

/// A response of a receiver.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Bytes,
}

impl Response {
    /// What became of what was sent. The module's table says it for each status.
    pub(super) fn delivery(self) -> Delivery {
        let status = self.status;
        if status.is_success() {
            return match messages::Response::decode(self.body) {
                Ok(response) => received(response.partial_success.unwrap_or_default()),
                Err(_) => Delivery::failed("the receiver's response is not one of OTLP"),
            };
        }
        let cause = format!("the receiver responded with {status}");
        match status {
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY => Delivery::Unusable(cause),
            _ => Delivery::Failed {
                cause,
                pause: self.retry_after,
            },
        }
    }
}

fn received(partial: messages::PartialSuccess) -> Delivery {
    let text = String::from_utf8_lossy(&partial.error_message);
    Delivery::Received {
        rejected: u64::try_from(partial.rejected).unwrap_or_default(),
        why: printable_prefix(&text, MAX_TEXT_BYTES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(status: u16, body: &[u8]) -> Delivery {
        let response = Response {
            status: StatusCode::from_u16(status).unwrap_or_default(),
            retry_after: Some(Duration::from_secs(7)),
            body: Bytes::copy_from_slice(body),
        };
        response.delivery()
    }

    #[test]
    fn success_counts_what_was_rejected() {
        let received = |rejected, why: &str| Delivery::Received {
            rejected,
            why: why.to_owned(),
        };
        for (body, expected) in [
            (&b""[..], received(0, "")),
            (&b"\x0a\x00"[..], received(0, "")),
            (
                &b"\x0a\x08\x08\x03\x12\x04no\n!"[..],
                received(3, "no\u{fffd}!"),
            ),
            // A negative number, and a message that is not UTF-8.
            (
                &b"\x0a\x0e\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x12\x01\xff"[..],
                received(0, "\u{fffd}"),
            ),
        ] {
            assert_eq!(delivery(200, body), expected, "{body:?}");
        }
        for body in [
            &b"<html>"[..],
            &b"{\"partialSuccess\":{}}"[..],
            &b"\x0a\x7f"[..],
        ] {
            let found = delivery(200, body);
            assert!(
                matches!(found, Delivery::Failed { .. }),
                "{body:?}: {found:?}"
            );
        }
    }

    #[test]
    fn only_content_that_a_receiver_cannot_use_is_given_up() {
        for status in [400, 413, 422] {
            let found = delivery(status, b"");
            assert!(
                matches!(found, Delivery::Unusable(_)),
                "{status}: {found:?}"
            );
        }
        for status in [301, 401, 403, 404, 405, 429, 500, 502, 503, 504] {
            let found = delivery(status, b"");
            let later = Some(Duration::from_secs(7));
            assert!(
                matches!(found, Delivery::Failed { pause, .. } if pause == later),
                "{status}: {found:?}"
            );
        }
    }
}
