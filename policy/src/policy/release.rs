//! The part of a response that a client gets: outputs, decimals and scores. Full responses would
//! help clients to train a copy of the model.
//!
//! The host applies this to every valid response, after the postprocess handler and before
//! encoding. Shapes are unchanged.

use alloc::vec::Vec;

use tensorgate_values::tensor::Tensor;

use super::Grant;
use crate::contract::{TensorRule, keep_greatest, round, top_score};

/// The smaller of two limits.
fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The part of an output's values that a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// Class scores: the largest of each row; all by default.
    pub top_k: Option<usize>,
    /// Floats: decimals; all by default.
    pub round_decimals: Option<u32>,
}

/// The part of an output that a grant's clients get; `None` for nothing.
pub fn given(rule: &TensorRule, grant: &Grant) -> Option<Given> {
    let (own, narrowed) = (rule.release, &grant.narrowed);
    let top_k = least(own.top_k, narrowed.top_k).filter(|_| own.scores);
    let round_decimals = least(own.round_decimals, narrowed.round_decimals);
    grant.publishes(&rule.name).then_some(Given {
        top_k,
        round_decimals: round_decimals.filter(|_| rule.datatype.is_float()),
    })
}

/// Restricts the outputs of a response for a client of a grant. `rules` are those that validated
/// it.
pub fn release(rules: &[TensorRule], grant: &Grant, outputs: &mut Vec<Tensor<'static>>) {
    outputs.retain(|output| grant.publishes(&output.name));
    for output in outputs {
        let named = |rule: &&TensorRule| rule.name == output.name;
        let (Some(rule), Ok(data)) = (rules.iter().find(named), &mut output.data) else {
            continue;
        };
        let Some(Given {
            top_k,
            round_decimals,
        }) = given(rule, grant)
        else {
            continue;
        };
        let row = output
            .shape
            .last()
            .and_then(|dim| usize::try_from(*dim).ok());
        let mut released = core::mem::take(data).into_vec();
        if let (Some(k), Some(row)) = (top_k, row) {
            keep_greatest(rule.datatype, row, k, &mut released);
        }
        if let Some(decimals) = round_decimals {
            round(rule.datatype, decimals, &mut released);
        }
        *data = released.into();
    }
}

/// The most classes of an output whose most likely one is looked for. The host does this on the
/// thread of the request.
const MAX_CLASSES: usize = 65_536;

/// The most likely class of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopClass {
    /// Its position.
    pub class: usize,
    /// Its share of all scores, in millionths.
    pub confidence: u32,
}

/// The most likely class by the first output with class scores that are at most 65,536. Of several
/// rows, the first counts.
/// `rules` are those that validated the response, which is not released yet.
pub fn top_class(rules: &[TensorRule], outputs: &[Tensor<'_>]) -> Option<TopClass> {
    outputs.iter().find_map(|output| {
        let named = |rule: &&TensorRule| rule.name == output.name;
        let rule = rules.iter().find(named)?;
        if !rule.release.scores {
            return None;
        }
        let row = usize::try_from(*output.shape.last()?).ok()?;
        if row > MAX_CLASSES {
            return None;
        }
        let row_bytes = row.checked_mul(rule.datatype.size_bytes()?)?;
        let data = output.data.as_ref().ok()?;
        let (class, confidence) = top_score(rule.datatype, data.get(..row_bytes)?)?;
        Some(TopClass { class, confidence })
    })
}

#[cfg(test)]
mod tests;
