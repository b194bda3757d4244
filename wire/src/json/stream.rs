//! The binary data extension in pieces: the JSON is held, and every blob behind it passes.

use std::borrow::Cow;

use tensorgate_policy::Denial;
use tensorgate_policy::contract::{Elements, Part};

use super::binary::{add_up, head, left_over, no_json, short};
use crate::fault::BodyFault;
use crate::headers::JSON_LENGTH;
use crate::raw::Budget;
use crate::stream::{Event, Sink, head_too_large};

/// A body on its way.
#[derive(Debug)]
pub(crate) struct BinaryStream {
    json_bytes: usize,
    max_head_bytes: usize,
    declared: Option<usize>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// In the JSON, this much of it held.
    Json(Vec<u8>),
    /// Behind it.
    Blobs {
        /// Sizes of the blobs that have not begun.
        sizes: std::vec::IntoIter<usize>,
        /// Bytes left of the one that has.
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
            place: Place::Json(Vec::new()),
        }
    }

    pub(crate) fn feed(&mut self, mut piece: &[u8], sink: &mut Sink<'_>) -> Result<(), Denial> {
        if let Place::Json(held) = &mut self.place {
            if self.json_bytes > self.max_head_bytes {
                return Err(head_too_large("the JSON", self.max_head_bytes));
            }
            let missing = self.json_bytes.saturating_sub(held.len());
            let Some((json, rest)) = piece.split_at_checked(missing) else {
                held.extend_from_slice(piece);
                return Ok(());
            };
            piece = rest;
            let sizes = if held.is_empty() {
                self.head(json, sink)?
            } else {
                held.extend_from_slice(json);
                let json = core::mem::take(held);
                self.head(&json, sink)?
            };
            self.place = Place::Blobs {
                sizes: sizes.into_iter(),
                left: None,
            };
        }
        match &mut self.place {
            Place::Json(_) => Ok(()),
            Place::Blobs { sizes, left } => pass(sizes, left, piece, sink),
        }
    }

    /// Reads the JSON and tells of it; gives the sizes of the blobs.
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
                Some(_) => input.with(Ok(Cow::Borrowed(&[]))),
                None => input.convert(&mut budget)?,
            });
            elements.push(size.map_or(Elements::Here, |bytes| Elements::Coming(Some(bytes))));
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
        match &self.place {
            // Nothing was fed at all: the same fault as for an empty piece.
            Place::Json(_) if self.json_bytes == 0 => Err(no_json().into()),
            Place::Json(_) => {
                Err(BodyFault::field(JSON_LENGTH, "is past the end of the body").into())
            }
            Place::Blobs { left: None, sizes } if sizes.as_slice().is_empty() => Ok(()),
            Place::Blobs { .. } => Err(short().into()),
        }
    }
}

/// Hands a piece on, blob by blob.
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
            sink(Event::Part(Part::Piece(now)))?;
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
