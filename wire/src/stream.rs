//! Streaming decoder for bodies that are too large to buffer: the head of a message is buffered,
//! tensor elements pass in chunks.
//!
//! Two formats can be streamed, because everything else precedes the first element: OIP's binary
//! data extension, and gRPC with raw contents at the message's end, as protobuf libraries write it.
//! Other formats must fit the head's limit. The strictness and the faults equal those for whole
//! bodies. Only an incomplete head and a few bytes are kept.

use tensorgate_policy::decision::BodyFormat;
use tensorgate_policy::{Denial, Reason};

use crate::grpc::GrpcStream;
use crate::json::BinaryStream;
use crate::stream_event::Sink;

/// A body in progress.
#[derive(Debug)]
pub struct BodyStream {
    form: Form,
    /// Whether it was rejected; further data is ignored.
    broken: bool,
}

#[derive(Debug)]
enum Form {
    Binary(BinaryStream),
    Grpc(GrpcStream),
}

impl BodyStream {
    /// Whether [`Self::new`] has a decoder for this format.
    pub const fn can_decode(format: BodyFormat) -> bool {
        matches!(
            format,
            BodyFormat::OipBinary { .. } | BodyFormat::OipGrpcInfer
        )
    }

    /// A decoder for a streamable format; `None` for others. `max_head_bytes` limits everything
    /// before the first element. `declared`, the body's declared length, allows an early check of
    /// its sizes.
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

    /// Decodes the next bytes and passes events to `sink`. The first denial is final.
    ///
    /// # Errors
    /// The data is invalid.
    pub fn feed(&mut self, piece: &[u8], sink: &mut Sink<'_>) -> Result<(), Denial> {
        self.latched(|form| match form {
            Form::Binary(stream) => stream.feed(piece, sink),
            Form::Grpc(stream) => stream.feed(piece, sink),
        })
    }

    /// Ends the body.
    ///
    /// # Errors
    /// It is incomplete.
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
                "internal: a rejected body continued",
            ));
        }
        let outcome = step(&mut self.form);
        self.broken = outcome.is_err();
        outcome
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
    use super::*;
    use crate::stream_event::Event;

    #[test]
    fn a_rejection_by_the_sink_is_final() {
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
    fn only_encodings_that_end_with_their_elements_can_be_streamed() {
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
