//! What a streaming decoder passes on: the head of a body, then parts of its tensors.

use tensorgate_policy::contract::{Elements, Part};
use tensorgate_policy::{Denial, InferRequest, Reason};

/// Decoded part of a body, in order: one head, then the parts of every tensor.
#[derive(Clone, Copy, Debug)]
pub enum Event<'e> {
    /// Everything except streamed elements.
    Head {
        /// The decoded request.
        request: &'e InferRequest<'e>,
        /// Where each input's elements are.
        elements: &'e [Elements],
        /// Size of the whole body according to its head; the rest must match.
        body_bytes: usize,
    },
    /// Elements.
    Part(Part<'e>),
}

/// Receiver of events. A denial ends the stream.
pub type Sink<'s> = dyn FnMut(Event<'_>) -> Result<(), Denial> + 's;

/// Denial of a head that exceeds its limit.
pub(crate) fn head_too_large(what: &str, max_bytes: usize) -> Denial {
    Denial::new(
        Reason::BodyTooLarge,
        format!("{what} is larger than the {max_bytes} bytes that are buffered"),
    )
}
