//! The check of elements that pass by in pieces, for requests that are too large to be held.
//!
//! A request's head is checked as any request is; of each tensor whose elements follow, all that the head says: name, datatype,
//! dims, bytes. Then every element is checked once, as it passes. The verdict is that of [`super::Contract::check`] on the
//! same request in one piece; of several faults, the one that passes first is told, however the pieces are cut. Nothing is kept but
//! the beginning of an element that a cut has split.

use alloc::format;
use alloc::vec::Vec;

use super::items::{Fault, Item, Values};
use super::kernels::{Place, Tally};
use super::{Asked, Contract, TensorRule, Unkept, kernels, tensors};
use crate::datatype::Datatype;
use crate::denial::{Denial, Reason};
use crate::tensor::{DataFault, InferRequest};

/// Bytes of the widest element, and of more than a `BYTES` item's length.
const WIDEST_ELEMENT_BYTES: usize = 8;
/// Bytes of a `BYTES` item's length.
const PREFIX_BYTES: usize = 4;

/// Where an input's elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements {
    /// In the request: its tensor has them, or says why not.
    Here,
    /// Behind the request, this many bytes of them where that is known already. Its tensor's data is empty.
    Coming(Option<usize>),
}

/// What passes by, in order: of each tensor whose elements are coming its begin, its pieces, its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// The next tensor's elements begin.
    Begin {
        /// How many bytes they are.
        bytes: usize,
    },
    /// The next bytes of them; a piece may end anywhere.
    Piece(&'a [u8]),
    /// That was all of them.
    End,
}

/// A check on its way.
#[derive(Clone, Debug)]
pub(crate) struct Passing {
    coming: Vec<Coming>,
    next: usize,
    open: Option<Open>,
}

/// A tensor whose elements are to pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coming {
    /// Its rule's place in the contract.
    pub(super) rule: usize,
    /// Elements that its shape says.
    pub(super) elements: usize,
    /// Elements of one channel that lie side by side, where channels have ranges.
    pub(super) run: usize,
}

/// The tensor that is passing.
#[derive(Clone, Debug)]
struct Open {
    of: Coming,
    /// Bytes still to come.
    left: usize,
    /// Elements, or items, that were begun and are whole but for the item's own bytes.
    seen: usize,
    /// The beginning of a split element, or of an item's length.
    split: [u8; WIDEST_ELEMENT_BYTES],
    split_bytes: usize,
    /// `BYTES`: bytes of the present item still to come.
    item_left: usize,
    /// `BYTES`: the present item, where its bytes are looked at.
    item: Option<Item>,
    /// `BYTES`: whether something against an item was told, and the tensor passes all the same.
    told: bool,
    /// What is counted over the whole.
    tally: Tally,
}

impl Contract {
    /// Checks all that a request says before the elements that are coming. `elements` has one entry an input.
    pub(crate) fn check_head(
        &self,
        asked: &Asked<'_>,
        request: &InferRequest<'_>,
        elements: &[Elements],
        unkept: &mut Unkept<'_>,
    ) -> Result<Passing, Denial> {
        self.check_all_but_tensors(asked, request)?;
        let inputs = &request.inputs;
        let coming = tensors::check_head("input", &self.inputs, inputs, elements, unkept)?;
        Ok(Passing {
            coming,
            next: 0,
            open: None,
        })
    }

    /// Checks what passes.
    pub(crate) fn check_part(
        &self,
        passing: &mut Passing,
        part: Part<'_>,
        unkept: &mut Unkept<'_>,
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
                    told: false,
                    tally: Tally::default(),
                });
                (of, self.rule(of).and_then(|rule| begins(rule, of, bytes)))
            }
            (Part::Piece(piece), Some(mut open)) if piece.len() <= open.left => {
                let of = open.of;
                let outcome = self
                    .rule(of)
                    .and_then(|rule| open.take(rule, piece, &mut told(rule, unkept)));
                passing.open = Some(open);
                (of, outcome)
            }
            (Part::End, Some(open)) if open.left == 0 => {
                let of = open.of;
                let outcome = self
                    .rule(of)
                    .and_then(|rule| open.ends(rule, &mut told(rule, unkept)));
                (of, outcome)
            }
            _ => return Err(disordered()),
        };
        outcome.map_err(|(reason, cause)| match self.inputs.get(of.rule) {
            Some(rule) => tensors::deny("input", rule, reason, cause),
            None => disordered(),
        })
    }

    fn rule(&self, of: Coming) -> Result<&TensorRule, Fault> {
        self.inputs
            .get(of.rule)
            .ok_or_else(|| (Reason::Overloaded, "internal: no such rule".into()))
    }
}

impl Passing {
    /// Whether every tensor has passed to its end.
    pub(crate) const fn is_over(&self) -> bool {
        self.open.is_none() && self.next == self.coming.len()
    }
}

/// Parts came out of order: a driver's fault, so nothing passes.
fn disordered() -> Denial {
    Denial::new(
        Reason::Overloaded,
        "internal: elements passed out of their order",
    )
}

/// Tells of a value of a tensor that is passing.
fn told<'f, 'u: 'f>(
    rule: &'f TensorRule,
    unkept: &'f mut Unkept<'u>,
) -> impl FnMut(Fault) -> Result<(), Fault> + 'f {
    move |(reason, cause)| {
        let denial = tensors::deny("input", rule, reason, &cause);
        unkept(denial).map_err(|_| (reason, cause))
    }
}

/// `size-mismatch`: the bytes that are to come against the shape.
fn begins(rule: &TensorRule, of: Coming, bytes: usize) -> Result<(), Fault> {
    tensors::fits(rule.datatype, of.elements, bytes).map_err(|cause| (Reason::SizeMismatch, cause))
}

impl Open {
    fn take(
        &mut self,
        rule: &TensorRule,
        piece: &[u8],
        unkept: &mut Values<'_>,
    ) -> Result<(), Fault> {
        self.left = self.left.saturating_sub(piece.len());
        match rule.datatype.size_bytes() {
            Some(size) => self.elements(rule, size, piece, unkept),
            None => self.items(rule, piece, unkept),
        }
    }

    /// Elements of one size: whole ones where they lie, a split one from both of its pieces.
    fn elements(
        &mut self,
        rule: &TensorRule,
        size: usize,
        mut piece: &[u8],
        unkept: &mut Values<'_>,
    ) -> Result<(), Fault> {
        if self.split_bytes > 0 {
            let Some(element) = self.complete(size, &mut piece) else {
                return Ok(());
            };
            self.scan(rule, element.get(..size).unwrap_or(&[]), unkept)?;
            self.seen = self.seen.saturating_add(1);
        }
        let split = piece.len().checked_rem(size).unwrap_or(0);
        let (whole, rest) = piece.split_at(piece.len().saturating_sub(split));
        self.scan(rule, whole, unkept)?;
        self.seen = self
            .seen
            .saturating_add(whole.len().checked_div(size).unwrap_or(0));
        let mut rest = rest;
        self.complete(size, &mut rest);
        Ok(())
    }

    /// `BYTES`: every item's length before its bytes have come, then these.
    fn items(
        &mut self,
        rule: &TensorRule,
        mut piece: &[u8],
        unkept: &mut Values<'_>,
    ) -> Result<(), Fault> {
        // Bytes of the tensor that are not yet looked at.
        let mut ahead = self.left.saturating_add(piece.len());
        loop {
            let (here, rest) = piece
                .split_at_checked(self.item_left)
                .unwrap_or((piece, &[]));
            piece = rest;
            self.item_left = self.item_left.saturating_sub(here.len());
            ahead = ahead.saturating_sub(here.len());
            self.contents(rule, here, unkept)?;
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
            // A rule without a bound lets no byte through, as in the check of a whole request.
            let most = rule.max_item_bytes.unwrap_or(0);
            if length > most {
                let index = self.seen;
                return Err((
                    Reason::ItemTooLong,
                    format!("element {index} has {length} bytes, {most} are allowed"),
                ));
            }
            if !rule.items.are_any() && !rule.items.is_over(self.told) {
                self.item = Some(rule.items.begin(self.seen, length, self.told)?);
            }
            self.seen = self.seen.saturating_add(1);
            self.item_left = length;
        }
    }

    /// What the present item says; nothing where nobody asks.
    fn contents(
        &mut self,
        rule: &TensorRule,
        here: &[u8],
        unkept: &mut Values<'_>,
    ) -> Result<(), Fault> {
        let Some(mut item) = self.item.take() else {
            return Ok(());
        };
        item.take(&rule.items, here, unkept)?;
        if self.item_left == 0 {
            item.end(&rule.items, unkept)?;
            self.told |= item.told();
            return Ok(());
        }
        self.item = Some(item);
        Ok(())
    }

    /// Adds to what is split until there are `size` bytes of it; gives them, and is empty again, once there are.
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

    /// That nothing is left in the middle. Of elements of one size the begin has said so already.
    fn ends(&self, rule: &TensorRule, unkept: &mut Values<'_>) -> Result<(), Fault> {
        if self.split_bytes > 0 || self.item_left > 0 {
            return Err((Reason::SizeMismatch, format!("{}", DataFault::Framing)));
        }
        if self.seen != self.of.elements {
            return Err(self.miscounted("other"));
        }
        match self.tally.fault(rule) {
            Some(cause) => unkept((Reason::OutOfRange, cause)),
            None => Ok(()),
        }
    }

    /// Every value of whole elements, and what is counted of them.
    fn scan(
        &mut self,
        rule: &TensorRule,
        data: &[u8],
        unkept: &mut Values<'_>,
    ) -> Result<(), Fault> {
        let place = Place {
            first: self.seen,
            run: self.of.run,
        };
        scan(rule, place, data, unkept)?;
        self.tally.take(rule, data);
        Ok(())
    }

    fn miscounted(&self, how: &str) -> Fault {
        let elements = self.of.elements;
        (
            Reason::SizeMismatch,
            format!("{how} elements came than the {elements} that the shape says"),
        )
    }
}

/// `datatype` (of BOOL), `not-finite`, `out-of-range`: every value of whole elements. Of
/// several bad ones the first is told, so that it does not matter where the pieces were cut; of those that pass all the same, the
/// first of each kind.
fn scan(
    rule: &TensorRule,
    place: Place,
    data: &[u8],
    unkept: &mut Values<'_>,
) -> Result<(), Fault> {
    if kernels::clean(rule, place, data) {
        return Ok(());
    }
    let no_boolean = match rule.datatype {
        Datatype::Bool => data.iter().position(|byte| *byte > 1),
        _ => None,
    };
    let not_finite = kernels::first_not_finite(rule, data);
    let out_of_range = kernels::first_out_of_range(rule, place, data);
    let mut bad: Vec<(usize, Reason)> = [
        (no_boolean, Reason::Datatype),
        (not_finite, Reason::NotFinite),
        (out_of_range, Reason::OutOfRange),
    ]
    .into_iter()
    .filter_map(|(index, reason)| Some((index?, reason)))
    .collect();
    // Where one value is wrong in two ways, the earlier reason is told.
    bad.sort_unstable();
    if bad.is_empty() {
        let cause = "internal: a value is unclean and no scan finds it".into();
        return Err((Reason::OutOfRange, cause));
    }
    for (bad, reason) in bad {
        let index = place.first.saturating_add(bad);
        match reason {
            Reason::Datatype => return Err((reason, format!("{}", DataFault::Kind { index }))),
            Reason::NotFinite => unkept((reason, format!("element {index} is not finite")))?,
            _ => unkept((reason, format!("element {index} is out of range")))?,
        }
    }
    Ok(())
}
