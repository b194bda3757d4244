//! `ModelStreamInferResponse`: an answer over a stream, or the refusal of one message of it, after which the stream goes on.

use tensorgate_policy::{Denial, Protocol};

use super::small_frame;
use crate::answer::Answer;
use crate::grpc::FRAME_HEADER_BYTES;
use crate::protobuf::Message;

/// `error_message`.
const ERROR_MESSAGE: u32 = 1;
/// `infer_response`.
const INFER_RESPONSE: u32 = 2;
/// `ModelInferResponse.id`.
const ID: u32 = 3;
/// `ModelInferResponse.parameters`.
const PARAMETERS: u32 = 4;

/// The parameters of a refusal: its reason's name, and after how many seconds the same message passes.
pub const REASON: &str = "tensorgate_reason";
const RETRY_AFTER_S: &str = "tensorgate_retry_after_s";

/// An answer, as it stands in its frame by itself, as one of a stream.
pub fn stream_answer(mut unary: Vec<u8>) -> Option<Vec<u8>> {
    let length = unary.len().checked_sub(FRAME_HEADER_BYTES)?;
    let head = Message::default().prefix(INFER_RESPONSE, length);
    let whole = u32::try_from(head.len().checked_add(length)?).ok()?;
    let header = [&[0][..], &whole.to_be_bytes(), &head].concat();
    unary.splice(..FRAME_HEADER_BYTES, header);
    Some(unary)
}

/// The refusal of one message: the same text that a caller gets to a request by itself, its own id, and the reason by name.
pub fn stream_refusal(denial: &Denial, id: Option<&str>) -> Vec<u8> {
    let text = match Answer::to_denial(denial, Protocol::OipGrpc, "") {
        Answer::Grpc { message, .. } => message,
        Answer::Rest { .. } => String::new(),
    };
    let parameter =
        |name: &str, value: Message| Message::default().bytes(1, name).message(2, value);
    let reason = Message::default().bytes(3, denial.reason.told().name());
    let mut response = Message::default()
        .bytes(ID, id.unwrap_or_default())
        .message(PARAMETERS, parameter(REASON, reason));
    if let Some(wait_s) = denial.retry_after_s {
        let wait = Message::default().varint(2, wait_s);
        response = response.message(PARAMETERS, parameter(RETRY_AFTER_S, wait));
    }
    let answer = Message::default()
        .bytes(ERROR_MESSAGE, text)
        .message(INFER_RESPONSE, response);
    small_frame(answer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use tensorgate_policy::Reason;

    use super::*;
    use crate::encode::frame;

    #[test]
    fn an_answer_keeps_its_bytes_within_the_streams_own_message() {
        for length in [0_usize, 1, 127, 128, 70_000] {
            let message = vec![7; length];
            let unary = frame(Message::default().bytes(1, &message)).unwrap();
            let inner = unary.get(FRAME_HEADER_BYTES..).unwrap().to_vec();
            let expected = frame(Message::default().element(INFER_RESPONSE, inner)).unwrap();
            assert_eq!(stream_answer(unary), Some(expected), "{length}");
        }
        assert_eq!(stream_answer(vec![0; 4]), None);
    }

    #[test]
    fn a_refusal_says_what_a_caller_may_read_and_nothing_more() {
        let denial = Denial {
            retry_after_s: Some(3),
            ..Denial::with_field(Reason::Shape, "input \"x\"", "CAUSE")
        };
        let told = stream_refusal(&denial, Some("mine"));
        let holds = |text: &str| told.windows(text.len()).any(|it| it == text.as_bytes());
        assert!(holds("an input has the wrong shape: input \"x\""));
        assert!(holds("mine") && holds("tensorgate_reason") && holds("tensorgate_retry_after_s"));
        assert!(!holds("CAUSE"));
        let locked = stream_refusal(&Denial::new(Reason::LockedOut, "CAUSE"), None);
        let holds = |text: &str| locked.windows(text.len()).any(|it| it == text.as_bytes());
        assert!(holds("unauthenticated") && !holds("locked-out"));
    }
}
