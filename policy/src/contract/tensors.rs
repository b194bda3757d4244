//! Tensors against rules: names, datatypes, shapes, sizes and, last and dearest, every value.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::items::Fault;
use super::kernels::{Place, Tally};
use super::passing::{Coming, Elements};
use super::{DimRule, TensorRule, Unkept, kernels, quote};
use crate::datatype::Datatype;
use crate::denial::{Denial, Reason};
use crate::tensor::{DataFault, Tensor, items};

/// A tensor and the rule of its name.
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
        deny(self.noun, self.rule, reason, cause)
    }

    fn deny_dim(&self, axis: usize, cause: impl core::fmt::Display) -> Denial {
        let field = format!("{}: dim {axis}", self.field());
        Denial::with_field(Reason::Shape, field.as_str(), format!("{field}: {cause}"))
    }

    /// How many elements the shape says.
    fn elements(&self) -> Result<usize, Denial> {
        let elements = self.tensor.shape.iter().try_fold(1_usize, |elements, dim| {
            elements.checked_mul(usize::try_from(*dim).ok()?)
        });
        elements.ok_or_else(|| {
            self.deny(
                Reason::SizeMismatch,
                "the shape says more elements than memory has bytes",
            )
        })
    }

    /// Where its elements lie, all of them.
    fn place(&self) -> Place {
        Place {
            first: 0,
            run: run(self.rule, self.tensor),
        }
    }

    /// What is wrong with its elements as a whole.
    fn tally(&self) -> Option<String> {
        let mut tally = Tally::default();
        tally.take(self.rule, self.data());
        tally.fault(self.rule)
    }

    /// The elements, once no pass before has refused them. An error that no pass knows gives nothing, and so a refusal.
    fn data(&self) -> &[u8] {
        self.tensor.data.as_deref().unwrap_or(&[])
    }
}

/// Checks tensors against rules, one pass a reason. `noun` is what the caller calls a tensor.
pub(super) fn check(
    noun: &'static str,
    rules: &[TensorRule],
    tensors: &[Tensor<'_>],
    unkept: &mut Unkept<'_>,
) -> Result<(), Denial> {
    let pairs = pair(noun, rules, tensors)?;
    for pass in [datatypes, shapes, sizes, item_lengths] {
        pass(&pairs)?;
    }
    values(&pairs, unkept)?;
    contents(&pairs, unkept)
}

/// Checks tensors of which some have their elements behind them, as far as can be said before these come; gives what is to
/// come, in order. `elements` has one entry a tensor.
pub(super) fn check_head(
    noun: &'static str,
    rules: &[TensorRule],
    tensors: &[Tensor<'_>],
    elements: &[Elements],
    unkept: &mut Unkept<'_>,
) -> Result<Vec<Coming>, Denial> {
    let pairs = pair(noun, rules, tensors)?;
    for pass in [datatypes, shapes] {
        pass(&pairs)?;
    }
    // No tensor comes twice, so that pairs are in the tensors' order.
    let places: Vec<_> = pairs.iter().zip(elements).collect();
    if places.len() != tensors.len() {
        return Err(Denial::new(
            Reason::Overloaded,
            "internal: a request's tensors and places differ in number",
        ));
    }
    let mut here = Vec::with_capacity(places.len());
    let mut coming = Vec::with_capacity(places.len());
    for (pair, place) in places {
        let bytes = match place {
            Elements::Here => {
                sizes(core::slice::from_ref(pair))?;
                here.push(*pair);
                continue;
            }
            Elements::Coming(bytes) => *bytes,
        };
        let elements = pair.elements()?;
        if let Some(bytes) = bytes {
            fits(pair.rule.datatype, elements, bytes)
                .map_err(|cause| pair.deny(Reason::SizeMismatch, cause))?;
        }
        let rule = rules.iter().position(|rule| rule.name == pair.rule.name);
        let run = run(pair.rule, pair.tensor);
        coming.extend(rule.map(|rule| Coming {
            rule,
            elements,
            run,
        }));
    }
    item_lengths(&here)?;
    values(&here, unkept)?;
    contents(&here, unkept)?;
    Ok(coming)
}

fn field(noun: &str, rule: &TensorRule) -> String {
    format!("{noun} {}", quote(&rule.name))
}

/// The refusal of a tensor.
pub(super) fn deny(
    noun: &str,
    rule: &TensorRule,
    reason: Reason,
    cause: impl core::fmt::Display,
) -> Denial {
    let field = field(noun, rule);
    Denial::with_field(reason, field.as_str(), format!("{field}: {cause}"))
}

/// Elements of one channel that lie side by side: the dims behind the axis. Where there are no channels, none.
fn run(rule: &TensorRule, tensor: &Tensor<'_>) -> usize {
    let Some(channels) = &rule.numbers.channels else {
        return 0;
    };
    let behind = tensor.shape.iter().skip(channels.axis.saturating_add(1));
    behind.fold(1_usize, |elements, dim| {
        elements.saturating_mul(usize::try_from(*dim).unwrap_or(0))
    })
}

/// Whether so many bytes are what so many elements take; of `BYTES`, whose elements have a length of their own, any may be.
pub(super) fn fits(datatype: Datatype, elements: usize, bytes: usize) -> Result<(), String> {
    match datatype.size_bytes() {
        Some(size) if elements.checked_mul(size) != Some(bytes) => Err(format!(
            "{bytes} bytes came, the shape says {elements} elements of {size}"
        )),
        _ => Ok(()),
    }
}

/// `unknown-input`, `duplicate-input`, `missing-input`: brings tensors and rules together.
fn pair<'r, 't>(
    noun: &'static str,
    rules: &'r [TensorRule],
    tensors: &'t [Tensor<'t>],
) -> Result<Vec<Pair<'r, 't>>, Denial> {
    let named = |name: &str| format!("{noun} {}", quote(name));
    let mut pairs = Vec::with_capacity(tensors.len().min(rules.len()));
    let mut duplicate = None;
    let mut seen = vec![false; rules.len()];
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
            let field = named(&rule.name);
            let cause = format!("{field}: not given");
            return Err(Denial::with_field(Reason::MissingInput, field, cause));
        }
    }
    for pair in &pairs {
        if pair.tensor.data == Err(DataFault::Missing) {
            return Err(pair.deny(Reason::MissingInput, DataFault::Missing));
        }
    }
    Ok(pairs)
}

/// `datatype`: spelled as the contract has it, and data of that kind.
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

/// `shape`: rank, every dim within its bounds, dims of one symbol equal across the tensors.
fn shapes(pairs: &[Pair<'_, '_>]) -> Result<(), Denial> {
    let mut symbols: Vec<(u32, u64)> = Vec::new();
    for pair in pairs {
        // Lists that disagree with their shape, or with each other where nothing else says one, leave no dims to look at.
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
                    return Err(
                        pair.deny_dim(axis, format!("{dim} is not between {min} and {max}"))
                    );
                }
            };
            let Some(symbol) = symbol else { continue };
            match symbols.iter().find(|(bound, _)| *bound == symbol) {
                None => symbols.push((symbol, size)),
                Some((_, first)) if *first == size => {}
                Some((_, first)) => {
                    return Err(pair.deny_dim(
                        axis,
                        format!("{size} is not the {first} that the dim of the same name has"),
                    ));
                }
            }
        }
    }
    Ok(())
}

/// `size-mismatch`: as many bytes, or length-prefixed elements, as the shape says.
fn sizes(pairs: &[Pair<'_, '_>]) -> Result<(), Denial> {
    for pair in pairs {
        let data = match &pair.tensor.data {
            Ok(data) => data.as_ref(),
            Err(fault @ DataFault::Framing) => return Err(pair.deny(Reason::SizeMismatch, fault)),
            // The values could not be brought into raw form; the last passes say so.
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
                        format!("{count} elements came, the shape says {elements}"),
                    ));
                }
                Err(fault) => return Err(pair.deny(Reason::SizeMismatch, fault)),
            }
        }
        fits(pair.rule.datatype, elements, data.len())
            .map_err(|cause| pair.deny(Reason::SizeMismatch, cause))?;
    }
    Ok(())
}

/// `item-too-long`: the length of every element of `BYTES`.
fn item_lengths(pairs: &[Pair<'_, '_>]) -> Result<(), Denial> {
    for pair in pairs
        .iter()
        .filter(|pair| pair.rule.datatype == Datatype::Bytes)
    {
        // A rule without a bound lets no byte through: validation gives every rule of BYTES one.
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

/// `not-finite`, `out-of-range`: every value. A clean request costs one scan a tensor; only a refused one is scanned again
/// to find which value it was.
fn values(pairs: &[Pair<'_, '_>], unkept: &mut Unkept<'_>) -> Result<(), Denial> {
    if pairs.iter().all(|pair| {
        pair.tensor
            .data
            .as_ref()
            .is_ok_and(|data| kernels::clean(pair.rule, pair.place(), data))
            && pair.tally().is_none()
    }) {
        return Ok(());
    }
    let mut passing = false;
    for pair in pairs {
        if let Err(fault @ DataFault::NotFinite { .. }) = pair.tensor.data {
            return Err(pair.deny(Reason::NotFinite, fault));
        }
        if let Some(index) = kernels::first_not_finite(pair.rule, pair.data()) {
            unkept(pair.deny(Reason::NotFinite, format!("element {index} is not finite")))?;
            passing = true;
        }
    }
    for pair in pairs {
        if let Err(fault) = pair.tensor.data {
            return Err(pair.deny(Reason::OutOfRange, fault));
        }
        if let Some(index) = kernels::first_out_of_range(pair.rule, pair.place(), pair.data()) {
            let denial = pair.deny(
                Reason::OutOfRange,
                format!("element {index} is out of range"),
            );
            if kernels::holds_no_boolean(pair.rule, pair.data()) {
                return Err(denial);
            }
            unkept(denial)?;
            passing = true;
        }
        if let Some(cause) = pair.tally() {
            unkept(pair.deny(Reason::OutOfRange, cause))?;
            passing = true;
        }
    }
    if passing {
        return Ok(());
    }
    // Unclean, and neither scan says why: a fault of ours, so nothing passes.
    Err(Denial::new(
        Reason::OutOfRange,
        "internal: a value is unclean and no scan finds it",
    ))
}

/// `out-of-range`, `url-blocked`: what the items of `BYTES` say.
fn contents(pairs: &[Pair<'_, '_>], unkept: &mut Unkept<'_>) -> Result<(), Denial> {
    let mut blocked = None;
    let looked_at = |pair: &&Pair<'_, '_>| !pair.rule.items.are_any();
    for pair in pairs.iter().filter(looked_at) {
        let rule = &pair.rule.items;
        // Of a tensor that passes all the same one fault is told, however many items have one.
        let mut passing = false;
        for (index, item) in items(pair.data()).enumerate() {
            let item = item.map_err(|fault| pair.deny(Reason::SizeMismatch, fault))?;
            if rule.is_over(passing) {
                break;
            }
            let before = passing;
            let mut told = |(reason, cause): Fault| {
                unkept(pair.deny(reason, &cause)).map_err(|_| (reason, cause))?;
                passing = true;
                Ok(())
            };
            let judged = rule.begin(index, item.len(), before).and_then(|mut state| {
                state.take(rule, item, &mut told)?;
                state.end(rule, &mut told)
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
