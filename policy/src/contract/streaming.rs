//! Streaming validation of elements, for requests that are too large to buffer.
//!
//! The head is validated like any request; for each tensor whose elements follow, its name,
//! datatype, shape and size. Then every element is checked once. The verdict equals that of
//! [`super::Contract::check`] on the whole request. With several faults, the first one in the
//! stream is reported, for any split into chunks. The only state is the beginning of a split
//! element.

use alloc::format;
use alloc::vec::Vec;

use tensorgate_values::datatype::Datatype;
use tensorgate_values::tensor::{DataFault, InferRequest};

use super::items::{Fault, Item, Values};
use super::kernels::{DataPosition, Tally};
use super::tensors::{Elements, INPUT, StreamedTensor};
use super::{Contract, OnValueFault, OutputScope, TensorRule, kernels, tensors};
use crate::denial::{Denial, Reason};

/// Size of the widest element, which also covers a `BYTES` length prefix.
const WIDEST_ELEMENT_BYTES: usize = 8;
/// Size of a `BYTES` length prefix.
const PREFIX_BYTES: usize = 4;

/// A part of the stream: for each tensor whose elements follow, its begin, chunks and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// The next tensor's elements begin.
    Begin {
        /// Their size.
        bytes: usize,
    },
    /// The next bytes; a chunk may end anywhere.
    Chunk(&'a [u8]),
    /// The tensor's elements are complete.
    End,
}

/// A check in progress.
#[derive(Clone, Debug)]
pub(crate) struct StreamingCheck {
    coming: Vec<StreamedTensor>,
    next: usize,
    open: Option<Open>,
}

/// The current tensor.
#[derive(Clone, Debug)]
struct Open {
    of: StreamedTensor,
    /// Bytes still to come.
    left: usize,
    /// Elements begun so far; complete except for an item's own bytes.
    seen: usize,
    /// The beginning of a split element or length prefix.
    split: [u8; WIDEST_ELEMENT_BYTES],
    split_bytes: usize,
    /// `BYTES`: remaining bytes of the current item.
    item_left: usize,
    /// `BYTES`: the current item, if its bytes are checked.
    item: Option<Item>,
    /// `BYTES`: whether a fault was reported and allowed to pass.
    reported: bool,
    /// Counts over the whole tensor.
    tally: Tally,
}

impl Contract {
    /// Validates everything before the elements. `elements` has one entry per input.
    pub(crate) fn check_head(
        &self,
        scope: &OutputScope<'_>,
        request: &InferRequest<'_>,
        elements: &[Elements],
        on_value_fault: &mut OnValueFault<'_>,
    ) -> Result<StreamingCheck, Denial> {
        self.check_all_but_tensors(scope, request)?;
        let inputs = &request.inputs;
        let coming = tensors::check_head(INPUT, &self.inputs, inputs, elements, on_value_fault)?;
        Ok(StreamingCheck {
            coming,
            next: 0,
            open: None,
        })
    }

    /// Validates the next part.
    pub(crate) fn check_part(
        &self,
        passing: &mut StreamingCheck,
        part: Part<'_>,
        on_value_fault: &mut OnValueFault<'_>,
    ) -> Result<(), Denial> {
        let (of, outcome) = match (part, passing.open.take()) {
            (Part::Begin { bytes }, None) => {
                let of = *passing.coming.get(passing.next).ok_or_else(disordered)?;
                passing.next = passing.next.saturating_add(1);
                passing.open = Some(Open {
                    of,
                    left: bytes,
                    seen: 0,
                    split: [0; WIDEST_ELEMENT_BYTES],
                    split_bytes: 0,
                    item_left: 0,
                    item: None,
                    reported: false,
                    tally: Tally::default(),
                });
                (of, self.rule(of).and_then(|rule| begins(rule, of, bytes)))
            }
            (Part::Chunk(piece), Some(mut open)) if piece.len() <= open.left => {
                let of = open.of;
                let outcome = self.rule(of).and_then(|rule| {
                    open.take(rule, piece, &mut report_value_fault(rule, on_value_fault))
                });
                passing.open = Some(open);
                (of, outcome)
            }
            (Part::End, Some(open)) if open.left == 0 => {
                let of = open.of;
                let outcome = self.rule(of).and_then(|rule| {
                    open.ends(rule, &mut report_value_fault(rule, on_value_fault))
                });
                (of, outcome)
            }
            _ => return Err(disordered()),
        };
        outcome.map_err(|(reason, cause)| match self.inputs.get(of.rule) {
            Some(rule) => tensors::deny(INPUT, rule, Some(of.elements), reason, cause),
            None => disordered(),
        })
    }

    fn rule(&self, of: StreamedTensor) -> Result<&TensorRule, Fault> {
        self.inputs
            .get(of.rule)
            .ok_or_else(|| (Reason::Overloaded, "internal: no such rule".into()))
    }
}

impl StreamingCheck {
    /// Whether every tensor is complete.
    pub(crate) const fn is_over(&self) -> bool {
        self.open.is_none() && self.next == self.coming.len()
    }
}

/// Parts out of order are a driver's fault and rejected.
fn disordered() -> Denial {
    Denial::new(
        Reason::Overloaded,
        "internal: elements passed out of their order",
    )
}

/// Reports a value fault of the current tensor.
fn report_value_fault<'f, 'u: 'f>(
    rule: &'f TensorRule,
    on_value_fault: &'f mut OnValueFault<'u>,
) -> impl FnMut(Fault) -> Result<(), Fault> + 'f {
    move |(reason, cause)| {
        let denial = tensors::deny(INPUT, rule, None, reason, &cause);
        on_value_fault(denial).map_err(|_| (reason, cause))
    }
}

/// `size-mismatch`: compares the announced size with the shape.
fn begins(rule: &TensorRule, of: StreamedTensor, bytes: usize) -> Result<(), Fault> {
    tensors::fits(rule.datatype, of.elements, bytes).map_err(|cause| (Reason::SizeMismatch, cause))
}

impl Open {
    fn take(
        &mut self,
        rule: &TensorRule,
        piece: &[u8],
        on_value_fault: &mut Values<'_>,
    ) -> Result<(), Fault> {
        self.left = self.left.saturating_sub(piece.len());
        match rule.datatype.size_bytes() {
            Some(size) => self.elements(rule, size, piece, on_value_fault),
            None => self.items(rule, piece, on_value_fault),
        }
    }

    /// Elements of fixed size: whole ones in place, a split one from both chunks.
    fn elements(
        &mut self,
        rule: &TensorRule,
        size: usize,
        mut piece: &[u8],
        on_value_fault: &mut Values<'_>,
    ) -> Result<(), Fault> {
        if self.split_bytes > 0 {
            let Some(element) = self.complete(size, &mut piece) else {
                return Ok(());
            };
            self.scan(rule, element.get(..size).unwrap_or(&[]), on_value_fault)?;
            self.seen = self.seen.saturating_add(1);
        }
        let split = piece.len().checked_rem(size).unwrap_or(0);
        let (aligned, rest) = piece.split_at(piece.len().saturating_sub(split));
        self.scan(rule, aligned, on_value_fault)?;
        self.seen = self
            .seen
            .saturating_add(aligned.len().checked_div(size).unwrap_or(0));
        let mut rest = rest;
        self.complete(size, &mut rest);
        Ok(())
    }

    /// `BYTES`: checks each item's length before its bytes.
    fn items(
        &mut self,
        rule: &TensorRule,
        mut piece: &[u8],
        on_value_fault: &mut Values<'_>,
    ) -> Result<(), Fault> {
        // Bytes of the tensor that are not checked yet.
        let mut ahead = self.left.saturating_add(piece.len());
        loop {
            let (here, rest) = piece
                .split_at_checked(self.item_left)
                .unwrap_or((piece, &[]));
            piece = rest;
            self.item_left = self.item_left.saturating_sub(here.len());
            ahead = ahead.saturating_sub(here.len());
            self.contents(rule, here, on_value_fault)?;
            if piece.is_empty() {
                return Ok(());
            }
            let before = piece.len();
            let prefix = self.complete(PREFIX_BYTES, &mut piece);
            ahead = ahead.saturating_sub(before.saturating_sub(piece.len()));
            let Some(prefix) = prefix else {
                return Ok(());
            };
            let [a, b, c, d, ..] = prefix;
            let length = usize::try_from(u32::from_le_bytes([a, b, c, d]))
                .ok()
                .filter(|length| *length <= ahead)
                .ok_or_else(|| (Reason::SizeMismatch, format!("{}", DataFault::Framing)))?;
            if self.seen >= self.of.elements {
                return Err(self.miscounted("more"));
            }
            // A rule without a limit allows no byte, as for a whole request.
            let most = rule.max_item_bytes.unwrap_or(0);
            if length > most {
                let index = self.seen;
                return Err((
                    Reason::ItemTooLong,
                    format!("element {index} has {length} bytes, {most} are allowed"),
                ));
            }
            if !rule.items.are_any() && !rule.items.is_over(self.reported) {
                self.item = Some(rule.items.begin(self.seen, length, self.reported)?);
            }
            self.seen = self.seen.saturating_add(1);
            self.item_left = length;
        }
    }

    /// Checks the current item's bytes, if needed.
    fn contents(
        &mut self,
        rule: &TensorRule,
        here: &[u8],
        on_value_fault: &mut Values<'_>,
    ) -> Result<(), Fault> {
        let Some(mut item) = self.item.take() else {
            return Ok(());
        };
        item.take(&rule.items, here, on_value_fault)?;
        if self.item_left == 0 {
            item.end(&rule.items, on_value_fault)?;
            self.reported |= item.is_reported();
            return Ok(());
        }
        self.item = Some(item);
        Ok(())
    }

    /// Completes a split element of `size` bytes; returns it once it is complete.
    fn complete(&mut self, size: usize, piece: &mut &[u8]) -> Option<[u8; WIDEST_ELEMENT_BYTES]> {
        let missing = size.saturating_sub(self.split_bytes).min(piece.len());
        let (head, rest) = piece.split_at_checked(missing)?;
        for (slot, byte) in self.split.iter_mut().skip(self.split_bytes).zip(head) {
            *slot = *byte;
        }
        *piece = rest;
        self.split_bytes = self.split_bytes.saturating_add(missing);
        if self.split_bytes < size {
            return None;
        }
        self.split_bytes = 0;
        Some(self.split)
    }

    /// Checks that no item is incomplete. For fixed sizes `begins` has checked this.
    fn ends(&self, rule: &TensorRule, on_value_fault: &mut Values<'_>) -> Result<(), Fault> {
        if self.split_bytes > 0 || self.item_left > 0 {
            return Err((Reason::SizeMismatch, format!("{}", DataFault::Framing)));
        }
        if self.seen != self.of.elements {
            return Err(self.miscounted("other"));
        }
        match self.tally.fault(rule) {
            Some(cause) => on_value_fault((Reason::OutOfRange, cause)),
            None => Ok(()),
        }
    }

    /// Checks the values of whole elements and counts them.
    fn scan(
        &mut self,
        rule: &TensorRule,
        data: &[u8],
        on_value_fault: &mut Values<'_>,
    ) -> Result<(), Fault> {
        let position = DataPosition {
            first: self.seen,
            run: self.of.run,
        };
        scan(rule, position, data, on_value_fault)?;
        self.tally.take(rule, data);
        Ok(())
    }

    fn miscounted(&self, how: &str) -> Fault {
        let elements = self.of.elements;
        (
            Reason::SizeMismatch,
            format!("{how} elements were sent than the {elements} of the shape"),
        )
    }
}

/// Takes the fault of the first value.
fn take_first(faults: &mut [(Option<usize>, Reason)]) -> Option<(usize, Reason)> {
    let left = faults.iter_mut().filter(|(index, _)| index.is_some());
    let (index, reason) = left.min_by_key(|(index, reason)| (*index, *reason))?;
    Some((index.take()?, *reason))
}

/// `datatype` (of BOOL), `not-finite`, `out-of-range`: checks whole elements. With several faults
/// the first one is reported, independent of chunks; of those that pass, the first of each kind.
fn scan(
    rule: &TensorRule,
    position: DataPosition,
    data: &[u8],
    on_value_fault: &mut Values<'_>,
) -> Result<(), Fault> {
    if kernels::clean(rule, position, data) {
        return Ok(());
    }
    let no_boolean = if rule.datatype == Datatype::Bool {
        data.iter().position(|byte| *byte > 1)
    } else {
        None
    };
    let not_finite = kernels::first_not_finite(rule, data);
    let out_of_range = kernels::first_out_of_range(rule, position, data);
    let mut faults = [
        (no_boolean, Reason::Datatype),
        (not_finite, Reason::NotFinite),
        (out_of_range, Reason::OutOfRange),
    ];
    if faults.iter().all(|(index, _)| index.is_none()) {
        let cause = "internal: a value is unclean and no scan finds it".into();
        return Err((Reason::OutOfRange, cause));
    }
    // If one value has two faults, the earlier reason is reported.
    while let Some((bad, reason)) = take_first(&mut faults) {
        let index = position.first.saturating_add(bad);
        if reason == Reason::Datatype {
            return Err((reason, format!("{}", DataFault::Kind { index })));
        }
        let fault = match reason == Reason::NotFinite {
            true => "not finite",
            false => "out of range",
        };
        on_value_fault((reason, format!("element {index} is {fault}")))?;
    }
    Ok(())
}
