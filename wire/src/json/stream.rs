//! Streaming decoder of the binary data extension: the JSON is buffered, and the blobs pass
//! through.

use tensorgate_policy::Denial;
use tensorgate_policy::contract::{Elements, Part};
use tensorgate_policy::tensor_data::TensorData;

use super::binary::{add_up, head, left_over, no_json, short};
use crate::fault::BodyFault;
use crate::headers::JSON_LENGTH;
use crate::raw_contents::Budget;
use crate::stream_event::{Event, Sink, head_too_large};

/// A body in progress.
#[derive(Debug)]
pub(crate) struct BinaryStream {
    json_bytes: usize,
    max_head_bytes: usize,
    declared: Option<usize>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// In the JSON, with the buffered part.
    Json(Vec<u8>),
    /// After the JSON.
    Blobs {
        /// Sizes of the remaining blobs.
        sizes: std::vec::IntoIter<usize>,
        /// Remaining bytes of the current blob.
        left: Option<usize>,
    },
}

impl BinaryStream {
    pub(crate) const fn new(
        json_bytes: usize,
        max_head_bytes: usize,
        declared: Option<usize>,
    ) -> Self {
        Self {
            json_bytes,
            max_head_bytes,
            declared,
            state: State::Json(Vec::new()),
        }
    }

    pub(crate) fn feed(&mut self, mut piece: &[u8], sink: &mut Sink<'_>) -> Result<(), Denial> {
        if let State::Json(buffered) = &mut self.state {
            if self.json_bytes > self.max_head_bytes {
                return Err(head_too_large("the JSON", self.max_head_bytes));
            }
            let missing = self.json_bytes.saturating_sub(buffered.len());
            let Some((json, rest)) = piece.split_at_checked(missing) else {
                buffered.extend_from_slice(piece);
                return Ok(());
            };
            piece = rest;
            let sizes = if buffered.is_empty() {
                self.head(json, sink)?
            } else {
                buffered.extend_from_slice(json);
                let json = core::mem::take(buffered);
                self.head(&json, sink)?
            };
            self.state = State::Blobs {
                sizes: sizes.into_iter(),
                left: None,
            };
        }
        match &mut self.state {
            State::Json(_) => Ok(()),
            State::Blobs { sizes, left } => pass(sizes, left, piece, sink),
        }
    }

    /// Decodes the JSON and reports it; returns the sizes of the blobs.
    fn head(&self, json: &[u8], sink: &mut Sink<'_>) -> Result<Vec<usize>, Denial> {
        let mut budget = Budget::new();
        let (document, sizes) = head(json, &mut budget)?;
        if let Some(declared) = self.declared {
            add_up(&sizes, declared.saturating_sub(self.json_bytes))?;
        }
        let mut elements = Vec::with_capacity(sizes.len());
        let mut tensors = Vec::with_capacity(sizes.len());
        for (input, size) in document.inputs.into_iter().zip(&sizes) {
            tensors.push(match size {
                Some(_) => input.with(Ok(TensorData::default())),
                None => input.convert(&mut budget)?,
            });
            elements.push(size.map_or(Elements::Inline, |bytes| Elements::Streamed(Some(bytes))));
        }
        let coming = sizes
            .iter()
            .flatten()
            .fold(self.json_bytes, |sum, size| sum.saturating_add(*size));
        sink(Event::Head {
            request: &document.rest.with(tensors),
            elements: &elements,
            body_bytes: coming,
        })?;
        Ok(sizes.into_iter().flatten().collect())
    }

    pub(crate) fn end(&self) -> Result<(), Denial> {
        match &self.state {
            // No data at all: the same fault as for an empty chunk.
            State::Json(_) if self.json_bytes == 0 => Err(no_json().into()),
            State::Json(_) => {
                Err(BodyFault::field(JSON_LENGTH, "is past the end of the body").into())
            }
            State::Blobs { left: None, sizes } if sizes.as_slice().is_empty() => Ok(()),
            State::Blobs { .. } => Err(short().into()),
        }
    }
}

/// Passes a chunk on, blob by blob.
fn pass(
    sizes: &mut std::vec::IntoIter<usize>,
    open: &mut Option<usize>,
    mut piece: &[u8],
    sink: &mut Sink<'_>,
) -> Result<(), Denial> {
    loop {
        let Some(left) = *open else {
            let Some(bytes) = sizes.next() else {
                return if piece.is_empty() {
                    Ok(())
                } else {
                    Err(left_over().into())
                };
            };
            sink(Event::Part(Part::Begin { bytes }))?;
            *open = Some(bytes);
            continue;
        };
        let (now, rest) = piece.split_at(left.min(piece.len()));
        if !now.is_empty() {
            sink(Event::Part(Part::Chunk(now)))?;
        }
        piece = rest;
        let left = left.saturating_sub(now.len());
        *open = Some(left);
        if left > 0 {
            return Ok(());
        }
        sink(Event::Part(Part::End))?;
        *open = None;
    }
}
