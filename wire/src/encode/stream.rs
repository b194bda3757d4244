//! `ModelStreamInferResponse`: a response in a stream, or the rejection of one message, after which
//! the stream continues.

use tensorgate_policy::{Denial, Protocol};

use super::small_frame;
use crate::answer::Answer;
use crate::grpc::FRAME_HEADER_BYTES;
use crate::grpc::writer::Message;

/// `error_message`.
const ERROR_MESSAGE: u32 = 1;
/// `infer_response`.
const INFER_RESPONSE: u32 = 2;
/// `ModelInferResponse.model_name`.
const MODEL_NAME: u32 = 1;
/// `ModelInferResponse.model_version`.
const MODEL_VERSION: u32 = 2;
/// `ModelInferResponse.id`.
const ID: u32 = 3;
/// `ModelInferResponse.parameters`.
const PARAMETERS: u32 = 4;

/// Parameters of a rejection: the reason, and the seconds to wait.
pub const REASON: &str = "tensorgate_reason";
const RETRY_AFTER_S: &str = "tensorgate_retry_after_s";

/// Whether a response of a decoupled model is the last one to its message.
pub const FINAL_RESPONSE: &str = "triton_final_response";

/// Converts a unary response frame to one of a stream. `last`: whether it is the last one to its
/// message, if there may be several.
pub fn stream_answer(mut unary: Vec<u8>, last: Option<bool>) -> Option<Vec<u8>> {
    if let Some(last) = last {
        // Fields of a message may be in any order.
        let parameters = Message::default().message(PARAMETERS, final_response(last));
        unary.extend_from_slice(&parameters.into_bytes());
    }
    let length = unary.len().checked_sub(FRAME_HEADER_BYTES)?;
    let head = Message::default().prefix(INFER_RESPONSE, length);
    let message_length = u32::try_from(head.len().checked_add(length)?).ok()?;
    let header = [&[0][..], &message_length.to_be_bytes(), &head].concat();
    unary.splice(..FRAME_HEADER_BYTES, header);
    Some(unary)
}

/// An empty last response to a message.
pub fn stream_end(model: &str, version: &str, id: Option<&str>) -> Vec<u8> {
    let response = Message::default()
        .bytes(MODEL_NAME, model)
        .bytes(MODEL_VERSION, version)
        .bytes(ID, id.unwrap_or_default())
        .message(PARAMETERS, final_response(true));
    small_frame(Message::default().message(INFER_RESPONSE, response))
}

/// An entry of parameters.
fn parameter(name: &str, value: Message) -> Message {
    Message::default().bytes(1, name).message(2, value)
}

fn final_response(last: bool) -> Message {
    // A oneof member is present even with its default value.
    let value = Message::default().flag(1, last);
    parameter(FINAL_RESPONSE, value)
}

/// The rejection of one message: the text as for a unary request, its own id and the reason.
pub fn stream_refusal(denial: &Denial, id: Option<&str>) -> Vec<u8> {
    let text = match Answer::to_denial(denial, Protocol::OipGrpc, "") {
        Answer::Grpc { message, .. } => message,
        Answer::Rest { .. } => String::new(),
    };
    let reason = Message::default().bytes(3, denial.reason.public_reason().name());
    let mut response = Message::default()
        .bytes(ID, id.unwrap_or_default())
        .message(PARAMETERS, parameter(REASON, reason));
    if let Some(wait_s) = denial.wait_s() {
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
            assert_eq!(stream_answer(unary, None), Some(expected), "{length}");
        }
        assert_eq!(stream_answer(vec![0; 4], None), None);
    }

    #[test]
    fn each_of_several_answers_marks_whether_it_is_the_last() {
        let name = b"triton_final_response";
        for (last, value) in [(false, 0), (true, 1)] {
            let parameter = [&b"\x22\x1b\x0a\x15"[..], name, b"\x12\x02\x08", &[value]].concat();
            let unary = frame(Message::default().bytes(1, "vec")).unwrap();
            let inner = [&b"\x0a\x03vec"[..], &parameter].concat();
            let expected = frame(Message::default().element(INFER_RESPONSE, inner)).unwrap();
            assert_eq!(stream_answer(unary, Some(last)), Some(expected));
            if last {
                let inner = [&b"\x0a\x03vec\x12\x011\x1a\x04mine"[..], &parameter].concat();
                let expected = frame(Message::default().element(INFER_RESPONSE, inner)).unwrap();
                assert_eq!(stream_end("vec", "1", Some("mine")), expected);
            }
        }
    }

    #[test]
    fn a_stream_rejection_contains_only_public_text() {
        let denial = Denial {
            retry_after_s: Some(3),
            ..Denial::with_field(Reason::Shape, "input \"x\"", "CAUSE")
        };
        let refusal = stream_refusal(&denial, Some("mine"));
        let holds = |text: &str| refusal.windows(text.len()).any(|it| it == text.as_bytes());
        assert!(holds("an input has the wrong shape: input \"x\""));
        assert!(holds("mine") && holds("tensorgate_reason") && holds("tensorgate_retry_after_s"));
        assert!(!holds("CAUSE"));
        let locked = stream_refusal(&Denial::new(Reason::LockedOut, "CAUSE"), None);
        let holds = |text: &str| locked.windows(text.len()).any(|it| it == text.as_bytes());
        assert!(holds("unauthenticated") && !holds("locked-out"));
    }
}
