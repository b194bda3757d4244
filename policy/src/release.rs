//! What of an answer a client gets: which outputs, how many decimals, how many scores. The whole of it is what a copy of the model is trained on.
//!
//! The host applies it to every answer that has kept its contract, behind the postprocess handler and before any protocol is written. A tensor keeps its shape.

use alloc::string::String;
use alloc::vec::Vec;

use crate::contract::{TensorRule, keep_greatest, round};
use crate::policy::Grant;
use crate::tensor::Tensor;

/// What an output's rule says of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Release {
    /// Whether its values are scores of classes, along the last dim.
    pub(crate) scores: bool,
    pub(crate) round_decimals: Option<u32>,
    pub(crate) top_k: Option<usize>,
}

/// What a grant says of it, for its clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Narrowed {
    /// The outputs that they get; all unless given.
    pub(crate) outputs: Option<Vec<String>>,
    pub(crate) round_decimals: Option<u32>,
    pub(crate) top_k: Option<usize>,
}

/// The narrower of two bounds.
fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// How much of an output's values a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// Of class scores: the greatest of each row; all unless given.
    pub top_k: Option<usize>,
    /// Of floats: all unless given.
    pub round_decimals: Option<u32>,
}

/// How much of an output a grant's clients get; `None` for nothing.
pub fn given(rule: &TensorRule, grant: &Grant) -> Option<Given> {
    let (own, narrowed) = (rule.release, &grant.narrowed);
    let top_k = least(own.top_k, narrowed.top_k).filter(|_| own.scores);
    let round_decimals = least(own.round_decimals, narrowed.round_decimals);
    grant.publishes(&rule.name).then_some(Given {
        top_k,
        round_decimals: round_decimals.filter(|_| rule.datatype.is_float()),
    })
}

/// The outputs of an answer that a client gets under a grant, as it gets them. `rules` are those that the answer was checked against.
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
        if let (Some(k), Some(row)) = (top_k, row) {
            keep_greatest(rule.datatype, row, k, data.to_mut());
        }
        if let Some(decimals) = round_decimals {
            round(rule.datatype, decimals, data.to_mut());
        }
    }
}

#[cfg(test)]
mod tests;
