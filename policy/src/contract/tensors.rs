//! Validates tensors against rules: names, datatypes, shapes, sizes and, last and most expensive,
//! all values.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use smallvec::{SmallVec, smallvec};
use tensorgate_values::datatype::Datatype;
use tensorgate_values::tensor::{DataFault, Tensor, items};
use tensorgate_values::tensor_data::TensorData;

use super::items::Fault;
use super::kernels::{DataPosition, Tally};
use super::{DimRule, Numbers, OnValueFault, TensorRule, kernels, number_check, quote};
use crate::denial::{Denial, Reason};

/// The noun of a caller's own tensor. Only its denials say what the contract expects: other tensors
/// belong to handlers and backends.
pub(super) const INPUT: &str = "input";

/// Where an input's elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements {
    /// In the request: its tensor has data or a fault.
    Inline,
    /// After the request, with their size if known. The tensor's data is empty.
    Streamed(Option<usize>),
}

/// A tensor whose elements follow.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamedTensor {
    /// Index of its rule in the contract.
    pub(super) rule: usize,
    /// Number of elements of its shape.
    pub(super) elements: usize,
    /// Consecutive elements of one channel, if channels have ranges.
    pub(super) run: usize,
}

/// Number of tensors without an allocation.
const USUAL_TENSORS: usize = 8;

type Pairs<'r, 't> = SmallVec<[Pair<'r, 't>; USUAL_TENSORS]>;

/// A tensor and its rule.
#[derive(Clone, Copy)]
struct Pair<'r, 't> {
    noun: &'static str,
    rule: &'r TensorRule,
    tensor: &'t Tensor<'t>,
}

impl Pair<'_, '_> {
    fn field(&self) -> String {
        field(self.noun, self.rule)
    }

    fn deny(&self, reason: Reason, cause: impl core::fmt::Display) -> Denial {
        deny(self.noun, self.rule, self.counted(), reason, cause)
    }

    fn deny_dim(&self, axis: usize, expected: String, cause: impl core::fmt::Display) -> Denial {
        let field = format!("{}: dim {axis}", self.field());
        Denial::with_field(Reason::Shape, field.as_str(), format!("{field}: {cause}"))
            .expecting((self.noun == INPUT).then_some(expected))
    }

    /// Number of elements of the shape, if memory could hold them.
    fn counted(&self) -> Option<usize> {
        self.tensor.shape.iter().try_fold(1_usize, |elements, dim| {
            elements.checked_mul(usize::try_from(*dim).ok()?)
        })
    }

    /// Number of elements of the shape.
    fn elements(&self) -> Result<usize, Denial> {
        self.counted().ok_or_else(|| {
            self.deny(
                Reason::SizeMismatch,
                "the shape has more elements than fit into memory",
            )
        })
    }

    /// Position of its elements: the whole tensor.
    fn position(&self) -> DataPosition {
        DataPosition {
            first: 0,
            run: run(self.rule, self.tensor),
        }
    }

    /// Fault of the tensor as a whole.
    fn tally(&self) -> Option<String> {
        let mut tally = Tally::default();
        tally.take(self.rule, self.data());
        tally.fault(self.rule)
    }

    /// Whether the rule allows all values.
    fn is_clean(&self) -> bool {
        match &self.tensor.data {
            Ok(TensorData::Checked(checked)) => number_check::satisfies(self.rule, checked),
            Ok(data) => kernels::clean(self.rule, self.position(), data) && self.tally().is_none(),
            Err(_) => false,
        }
    }

    /// The elements, if no earlier pass has rejected them. An unexpected fault gives no data and
    /// thus a rejection. There are none to read of checked numbers, for which [`Self::is_clean`]
    /// decides.
    fn data(&self) -> &[u8] {
        self.tensor.data.as_deref().unwrap_or(&[])
    }
}

/// Validates tensors, one pass per reason. `noun` is the caller's word for a tensor.
pub(super) fn check(
    noun: &'static str,
    rules: &[TensorRule],
    tensors: &[Tensor<'_>],
    on_value_fault: &mut OnValueFault<'_>,
) -> Result<(), Denial> {
    let pairs = pair(noun, rules, tensors)?;
    for pass in [datatypes, shapes, sizes, item_lengths] {
        pass(&pairs)?;
    }
    values(&pairs, on_value_fault)?;
    contents(&pairs, on_value_fault)
}

/// Validates tensors of which some elements follow later, as far as possible now. Returns the
/// streamed tensors in order. `elements` has one entry per tensor.
pub(super) fn check_head(
    noun: &'static str,
    rules: &[TensorRule],
    tensors: &[Tensor<'_>],
    elements: &[Elements],
    on_value_fault: &mut OnValueFault<'_>,
) -> Result<Vec<StreamedTensor>, Denial> {
    let pairs = pair(noun, rules, tensors)?;
    for pass in [datatypes, shapes] {
        pass(&pairs)?;
    }
    // Tensors are unique, so pairs are in the order of the tensors.
    let deliveries: Vec<_> = pairs.iter().zip(elements).collect();
    if deliveries.len() != tensors.len() {
        return Err(Denial::new(
            Reason::Overloaded,
            "internal: a request's tensors and places differ in number",
        ));
    }
    let mut here = Vec::with_capacity(deliveries.len());
    let mut coming = Vec::with_capacity(deliveries.len());
    for (pair, delivery) in deliveries {
        let bytes = match delivery {
            Elements::Inline => {
                sizes(core::slice::from_ref(pair))?;
                here.push(*pair);
                continue;
            }
            Elements::Streamed(bytes) => *bytes,
        };
        let elements = pair.elements()?;
        if let Some(bytes) = bytes {
            fits(pair.rule.datatype, elements, bytes)
                .map_err(|cause| pair.deny(Reason::SizeMismatch, cause))?;
        }
        let rule = rules.iter().position(|rule| rule.name == pair.rule.name);
        let run = run(pair.rule, pair.tensor);
        coming.extend(rule.map(|rule| StreamedTensor {
            rule,
            elements,
            run,
        }));
    }
    item_lengths(&here)?;
    values(&here, on_value_fault)?;
    contents(&here, on_value_fault)?;
    Ok(coming)
}

fn field(noun: &str, rule: &TensorRule) -> String {
    format!("{noun} {}", quote(&rule.name))
}

/// The denial of a tensor whose shape says this number of elements.
pub(super) fn deny(
    noun: &str,
    rule: &TensorRule,
    elements: Option<usize>,
    reason: Reason,
    cause: impl core::fmt::Display,
) -> Denial {
    let field = field(noun, rule);
    let expected = match noun {
        INPUT => expected(rule, elements, reason),
        _ => None,
    };
    Denial::with_field(reason, field.as_str(), format!("{field}: {cause}")).expecting(expected)
}

/// What a rule expects of a caller's tensor that breaks it: datatype, shape and bounds. Lists,
/// patterns, URL rules and thresholds over a whole tensor are not described, because a description
/// would help to evade them.
fn expected(rule: &TensorRule, elements: Option<usize>, reason: Reason) -> Option<String> {
    let datatype = rule.datatype;
    match reason {
        Reason::MissingInput => Some(format!("{datatype} of shape {}", shape(&rule.shape))),
        Reason::Datatype => Some(format!("{datatype}")),
        Reason::Shape => Some(format!("shape {}", shape(&rule.shape))),
        Reason::SizeMismatch => elements.map(|count| match datatype.size_bytes() {
            Some(size) => format!("{count} elements of {size} bytes"),
            None => format!("{count} elements"),
        }),
        Reason::ItemTooLong => {
            (rule.max_item_bytes).map(|most| format!("at most {most} bytes for each element"))
        }
        Reason::OutOfRange if rule.items.media.is_some() => {
            (rule.items.media.as_ref()).map(|media| media.expected())
        }
        Reason::OutOfRange if rule.numbers == Numbers::default() => match rule.range {
            Some((least, greatest)) => Some(format!("values from {least} to {greatest}")),
            None => (datatype.size_bytes()).map(|_| format!("values of {datatype}")),
        },
        Reason::HeaderTooLarge
        | Reason::AmbiguousRequest
        | Reason::HttpVersion
        | Reason::Unauthenticated
        | Reason::LockedOut
        | Reason::NotAnInferenceRoute
        | Reason::MethodNotAllowed
        | Reason::UnsupportedMediaType
        | Reason::UnsupportedEncoding
        | Reason::NotGranted
        | Reason::RateLimited
        | Reason::Concurrency
        | Reason::BodyTooLarge
        | Reason::Overloaded
        | Reason::Malformed
        | Reason::DuplicateKey
        | Reason::TooDeep
        | Reason::Parameter
        | Reason::OutputNotAllowed
        | Reason::UnknownInput
        | Reason::DuplicateInput
        | Reason::NotFinite
        | Reason::OutOfRange
        | Reason::UrlBlocked
        | Reason::CostExceeded
        | Reason::Blocked
        | Reason::HandlerRejected
        | Reason::HandlerFault
        | Reason::BackendTooLong
        | Reason::BackendRejected
        | Reason::BackendUnknownModel
        | Reason::BackendBusy
        | Reason::BackendUnavailable
        | Reason::BackendTimeout
        | Reason::BackendFault => None,
    }
}

/// A shape as text: `[1 to 32, 3]`.
fn shape(dims: &[DimRule]) -> String {
    let dims: Vec<String> = dims.iter().map(bounds).collect();
    format!("[{}]", dims.join(", "))
}

fn bounds(dim: &DimRule) -> String {
    match dim.fixed() {
        Some(size) => format!("{size}"),
        None => format!("{} to {}", dim.min, dim.max),
    }
}

/// Consecutive elements of one channel: the product of the dimensions after the axis; 0 without
/// channels.
fn run(rule: &TensorRule, tensor: &Tensor<'_>) -> usize {
    let Some(channels) = &rule.numbers.channels else {
        return 0;
    };
    let behind = tensor.shape.iter().skip(channels.axis.saturating_add(1));
    behind.fold(1_usize, |elements, dim| {
        elements.saturating_mul(usize::try_from(*dim).unwrap_or(0))
    })
}

/// Checks that a size matches a number of elements; `BYTES` elements have their own lengths.
pub(super) fn fits(datatype: Datatype, elements: usize, bytes: usize) -> Result<(), String> {
    match datatype.size_bytes() {
        Some(size) if elements.checked_mul(size) != Some(bytes) => Err(format!(
            "{bytes} bytes were sent, the shape has {elements} elements of {size}"
        )),
        _ => Ok(()),
    }
}

/// `unknown-input`, `duplicate-input`, `missing-input`: matches tensors and rules.
fn pair<'r, 't>(
    noun: &'static str,
    rules: &'r [TensorRule],
    tensors: &'t [Tensor<'t>],
) -> Result<Pairs<'r, 't>, Denial> {
    let named = |name: &str| format!("{noun} {}", quote(name));
    let mut pairs = Pairs::with_capacity(tensors.len().min(rules.len()));
    let mut duplicate = None;
    let mut seen: SmallVec<[bool; USUAL_TENSORS]> = smallvec![false; rules.len()];
    for tensor in tensors {
        let Some((rule, seen)) = rules
            .iter()
            .zip(&mut seen)
            .find(|(rule, _)| rule.name == tensor.name)
        else {
            let field = named(&tensor.name);
            let cause = format!("{field}: the contract has no such tensor");
            return Err(Denial::with_field(Reason::UnknownInput, field, cause));
        };
        if core::mem::replace(seen, true) {
            duplicate = duplicate.or(Some(rule));
        } else {
            pairs.push(Pair { noun, rule, tensor });
        }
    }
    if let Some(rule) = duplicate {
        let field = named(&rule.name);
        let cause = format!("{field}: given twice");
        return Err(Denial::with_field(Reason::DuplicateInput, field, cause));
    }
    for (rule, seen) in rules.iter().zip(seen) {
        if !seen && !rule.optional {
            return Err(deny(noun, rule, None, Reason::MissingInput, "not given"));
        }
    }
    for pair in &pairs {
        if pair.tensor.data == Err(DataFault::Missing) {
            return Err(pair.deny(Reason::MissingInput, DataFault::Missing));
        }
    }
    Ok(pairs)
}

/// `datatype`: the contract's name, and data of that kind.
fn datatypes(pairs: &[Pair<'_, '_>]) -> Result<(), Denial> {
    for pair in pairs {
        if pair.tensor.datatype != pair.rule.datatype.name() {
            let cause = format!(
                "{} is not {}",
                quote(&pair.tensor.datatype),
                pair.rule.datatype
            );
            return Err(pair.deny(Reason::Datatype, cause));
        }
        if let Err(fault @ DataFault::Kind { .. }) = pair.tensor.data {
            return Err(pair.deny(Reason::Datatype, fault));
        }
    }
    Ok(())
}

/// `shape`: rank, bounds of every dimension, equal dimensions per symbol.
fn shapes(pairs: &[Pair<'_, '_>]) -> Result<(), Denial> {
    let mut symbols: SmallVec<[(u32, u64, &Pair<'_, '_>); USUAL_TENSORS]> = SmallVec::new();
    for pair in pairs {
        // Lists that disagree with their shape, or with each other, leave no dimensions to check.
        if pair.tensor.data == Err(DataFault::Nesting) {
            return Err(pair.deny(Reason::Shape, DataFault::Nesting));
        }
        let (rank, wanted) = (pair.tensor.shape.len(), pair.rule.shape.len());
        if rank != wanted {
            return Err(pair.deny(Reason::Shape, format!("rank {rank} is not {wanted}")));
        }
        for (axis, (dim, rule)) in pair.tensor.shape.iter().zip(&pair.rule.shape).enumerate() {
            let DimRule { min, max, symbol } = *rule;
            let size = match u64::try_from(*dim) {
                Ok(size) if (min..=max).contains(&size) => size,
                _ => {
                    let cause = format!("{dim} is not between {min} and {max}");
                    return Err(pair.deny_dim(axis, bounds(rule), cause));
                }
            };
            let Some(symbol) = symbol else { continue };
            match symbols.iter().find(|(bound, ..)| *bound == symbol) {
                None => symbols.push((symbol, size, pair)),
                Some((_, first, _)) if *first == size => {}
                Some((_, first, other)) => {
                    let cause = format!("it is {size}, but {} has {first}", other.field());
                    let expected = format!("{first}, {cause}");
                    return Err(pair.deny_dim(axis, expected, cause));
                }
            }
        }
    }
    Ok(())
}

/// `size-mismatch`: bytes or length-prefixed elements as the shape requires.
fn sizes(pairs: &[Pair<'_, '_>]) -> Result<(), Denial> {
    for pair in pairs {
        let data = match &pair.tensor.data {
            Ok(data) => data,
            Err(fault @ DataFault::Framing) => return Err(pair.deny(Reason::SizeMismatch, fault)),
            // The values could not be converted to raw form; later passes report that.
            Err(_) => continue,
        };
        let elements = pair.elements()?;
        if pair.rule.datatype == Datatype::Bytes {
            match items(data).try_fold(0_usize, |count, item| item.map(|_| count.saturating_add(1)))
            {
                Ok(count) if count == elements => continue,
                Ok(count) => {
                    return Err(pair.deny(
                        Reason::SizeMismatch,
                        format!("{count} elements were sent, the shape has {elements}"),
                    ));
                }
                Err(fault) => return Err(pair.deny(Reason::SizeMismatch, fault)),
            }
        }
        fits(pair.rule.datatype, elements, data.raw_bytes())
            .map_err(|cause| pair.deny(Reason::SizeMismatch, cause))?;
    }
    Ok(())
}

/// `item-too-long`: length of every `BYTES` element.
fn item_lengths(pairs: &[Pair<'_, '_>]) -> Result<(), Denial> {
    for pair in pairs
        .iter()
        .filter(|pair| pair.rule.datatype == Datatype::Bytes)
    {
        // A rule without a limit allows no byte; validation gives every `BYTES` rule one.
        let most = pair.rule.max_item_bytes.unwrap_or(0);
        for (index, item) in items(pair.data()).enumerate() {
            let length = item
                .map_err(|fault| pair.deny(Reason::SizeMismatch, fault))?
                .len();
            if length > most {
                let cause = format!("element {index} has {length} bytes, {most} are allowed");
                return Err(pair.deny(Reason::ItemTooLong, cause));
            }
        }
    }
    Ok(())
}

/// `not-finite`, `out-of-range`: every value. A valid request needs one scan per tensor; only a
/// rejected one is scanned again to find the value.
fn values(pairs: &[Pair<'_, '_>], on_value_fault: &mut OnValueFault<'_>) -> Result<(), Denial> {
    if pairs.iter().all(Pair::is_clean) {
        return Ok(());
    }
    let mut passing = false;
    for pair in pairs {
        if let Ok(TensorData::Checked(_)) = pair.tensor.data
            && !pair.is_clean()
        {
            let cause = "internal: the elements were checked against another rule";
            return Err(pair.deny(Reason::OutOfRange, cause));
        }
        if let Err(fault @ DataFault::NotFinite { .. }) = pair.tensor.data {
            return Err(pair.deny(Reason::NotFinite, fault));
        }
        if let Some(index) = kernels::first_not_finite(pair.rule, pair.data()) {
            on_value_fault(pair.deny(Reason::NotFinite, format!("element {index} is not finite")))?;
            passing = true;
        }
    }
    for pair in pairs {
        if let Err(fault) = pair.tensor.data {
            return Err(pair.deny(Reason::OutOfRange, fault));
        }
        if let Some(index) = kernels::first_out_of_range(pair.rule, pair.position(), pair.data()) {
            let denial = pair.deny(
                Reason::OutOfRange,
                format!("element {index} is out of range"),
            );
            if kernels::holds_no_boolean(pair.rule, pair.data()) {
                return Err(denial);
            }
            on_value_fault(denial)?;
            passing = true;
        }
        if let Some(cause) = pair.tally() {
            on_value_fault(pair.deny(Reason::OutOfRange, cause))?;
            passing = true;
        }
    }
    if passing {
        return Ok(());
    }
    // A bad result without a cause is an internal error, so it is rejected.
    Err(Denial::new(
        Reason::OutOfRange,
        "internal: a value is unclean and no scan finds it",
    ))
}

/// `out-of-range`, `url-blocked`: contents of `BYTES` elements.
fn contents(pairs: &[Pair<'_, '_>], on_value_fault: &mut OnValueFault<'_>) -> Result<(), Denial> {
    let mut blocked = None;
    let looked_at = |pair: &&Pair<'_, '_>| !pair.rule.items.are_any();
    for pair in pairs.iter().filter(looked_at) {
        let rule = &pair.rule.items;
        // If a tensor's fault is allowed to pass, only one fault is reported.
        let mut passing = false;
        for (index, item) in items(pair.data()).enumerate() {
            let item = item.map_err(|fault| pair.deny(Reason::SizeMismatch, fault))?;
            if rule.is_over(passing) {
                break;
            }
            let before = passing;
            let mut reported = |(reason, cause): Fault| {
                on_value_fault(pair.deny(reason, &cause)).map_err(|_| (reason, cause))?;
                passing = true;
                Ok(())
            };
            let judged = rule.begin(index, item.len(), before).and_then(|mut state| {
                state.take(rule, item, &mut reported)?;
                state.end(rule, &mut reported)
            });
            match judged {
                Ok(()) => {}
                Err((Reason::UrlBlocked, cause)) => {
                    blocked = blocked.or_else(|| Some(pair.deny(Reason::UrlBlocked, cause)));
                }
                Err((reason, cause)) => return Err(pair.deny(reason, cause)),
            }
        }
    }
    blocked.map_or(Ok(()), Err)
}
