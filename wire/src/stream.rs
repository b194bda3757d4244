//! Bodies that are too large to be held, decoded as they come: the head of a message whole, the elements of its tensors in pieces.
//!
//! Two forms can be read so, because they say everything else before the first element: OIP's binary data extension, and gRPC
//! with raw contents at the message's end, where every protobuf library puts them. What may not be larger than the bound on a head
//! is refused as too large: JSON, typed contents. The same strictness holds as for whole bodies, byte for byte, and the same faults
//! have the same names. Nothing is kept but a head that has not ended, and a few bytes.

use tensorgate_policy::contract::{Elements, Part};
use tensorgate_policy::decision::BodyFormat;
use tensorgate_policy::{Denial, InferRequest, Reason};

use crate::grpc::GrpcStream;
use crate::json::BinaryStream;

/// What a body turned out to hold, in order: one head, then the parts of every tensor that it announces.
#[derive(Clone, Copy, Debug)]
pub enum Event<'e> {
    /// All but the elements that are coming.
    Head {
        /// What it says.
        request: &'e InferRequest<'e>,
        /// Where each input's elements are.
        elements: &'e [Elements],
        /// How long the whole body is, by what its head says; what comes is held to that.
        body_bytes: usize,
    },
    /// Elements.
    Part(Part<'e>),
}

/// Who is told. A refusal ends the stream.
pub type Sink<'s> = dyn FnMut(Event<'_>) -> Result<(), Denial> + 's;

/// A body on its way.
#[derive(Debug)]
pub struct BodyStream {
    form: Form,
    /// It was refused: nothing that comes later is looked at.
    broken: bool,
}

#[derive(Debug)]
enum Form {
    Binary(BinaryStream),
    Grpc(GrpcStream),
}

impl BodyStream {
    /// A stream of a form that can be read in pieces; `None` for the others. `max_head_bytes` bounds all that comes before the first
    /// element; `declared`, the body's declared length, lets a sum that is wrong be told before its elements have passed.
    pub fn new(format: BodyFormat, max_head_bytes: usize, declared: Option<u64>) -> Option<Self> {
        let declared = declared.and_then(|bytes| usize::try_from(bytes).ok());
        let form = match format {
            BodyFormat::OipBinary { json_bytes } => {
                Form::Binary(BinaryStream::new(json_bytes, max_head_bytes, declared))
            }
            BodyFormat::OipGrpcInfer => Form::Grpc(GrpcStream::new(max_head_bytes, declared)),
            BodyFormat::OipJson
            | BodyFormat::OipGrpcModel
            | BodyFormat::TfJson
            | BodyFormat::TfGrpcPredict
            | BodyFormat::TfGrpcModel { .. }
            | BodyFormat::OpenAi(_)
            | BodyFormat::TorchJson
            | BodyFormat::TorchForm(_)
            | BodyFormat::TorchGrpc
            | BodyFormat::Template
            | BodyFormat::Raw
            | BodyFormat::Empty => return None,
        };
        Some(Self {
            form,
            broken: false,
        })
    }

    /// Takes the next bytes and tells `sink` what they bring. The first refusal, of the sink or of this, is the last word.
    ///
    /// # Errors
    /// What has come is wrong.
    pub fn feed(&mut self, piece: &[u8], sink: &mut Sink<'_>) -> Result<(), Denial> {
        self.latched(|form| match form {
            Form::Binary(stream) => stream.feed(piece, sink),
            Form::Grpc(stream) => stream.feed(piece, sink),
        })
    }

    /// The body is over: refuses one that should have gone on.
    ///
    /// # Errors
    /// It is not whole.
    pub fn end(&mut self) -> Result<(), Denial> {
        self.latched(|form| match form {
            Form::Binary(stream) => stream.end(),
            Form::Grpc(stream) => stream.end(),
        })
    }

    fn latched(
        &mut self,
        step: impl FnOnce(&mut Form) -> Result<(), Denial>,
    ) -> Result<(), Denial> {
        if self.broken {
            return Err(Denial::new(
                Reason::Overloaded,
                "internal: a refused body went on",
            ));
        }
        let outcome = step(&mut self.form);
        self.broken = outcome.is_err();
        outcome
    }
}

/// The refusal of a head that does not end within its bound.
pub(crate) fn head_too_large(what: &str, max_bytes: usize) -> Denial {
    Denial::new(
        Reason::BodyTooLarge,
        format!("{what} takes more than the {max_bytes} bytes that are held"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
    use super::*;

    #[test]
    fn a_sinks_refusal_is_the_last_word() {
        let body = br#"{"inputs":[]}"#;
        let format = BodyFormat::OipBinary {
            json_bytes: body.len(),
        };
        let mut stream = BodyStream::new(format, 64, None).unwrap();
        let mut events = 0;
        let mut refuse = |_: Event<'_>| {
            events += 1;
            Err(Denial::new(Reason::OutOfRange, "no"))
        };
        assert_eq!(
            stream.feed(body, &mut refuse).unwrap_err().reason,
            Reason::OutOfRange
        );
        assert!(stream.feed(body, &mut refuse).is_err());
        assert_eq!(events, 1);
    }

    #[test]
    fn only_forms_that_end_with_their_elements_can_pass_in_pieces() {
        for (format, expected) in [
            (BodyFormat::OipJson, false),
            (BodyFormat::OipGrpcModel, false),
            (BodyFormat::TfJson, false),
            (BodyFormat::TfGrpcPredict, false),
            (BodyFormat::TfGrpcModel { metadata: true }, false),
            (
                BodyFormat::OpenAi(tensorgate_policy::request::Api::Chat),
                false,
            ),
            (BodyFormat::TorchJson, false),
            (BodyFormat::TorchGrpc, false),
            (BodyFormat::Template, false),
            (BodyFormat::Raw, false),
            (BodyFormat::Empty, false),
            (BodyFormat::OipGrpcInfer, true),
            (BodyFormat::OipBinary { json_bytes: 1 }, true),
        ] {
            assert_eq!(
                BodyStream::new(format, 64, None).is_some(),
                expected,
                "{format:?}"
            );
        }
    }
}
