//! Whether a server's own description of a model fits the contract that its requests are judged by. It decides before
//! anything is dispatched: a contract that was written for another model protects nothing.
//!
//! Whatever the contract lets through must be possible at the server: an input must have the same name and datatype, and every
//! size that the contract allows. An answer must be possible within the contract: it is checked one by one anyway. The
//! protocol cannot say that an input is optional, so one that the contract does not name is a drift; a contract names it with
//! `optional: true`. Outputs that the contract does not name are never asked for.

use std::collections::HashSet;

use tensorgate_policy::contract::{DimRule, TensorRule};
use tensorgate_policy::policy::Model;
use tensorgate_wire::proto::ModelMetadataResponse;
use tensorgate_wire::proto::model_metadata_response::TensorMetadata;

/// What a server says of a name, characters kept for the log.
const MAX_QUOTED_CHARS: usize = 64;
/// Differences that are told; a model with none in common has many.
const MAX_DIFFERENCES: usize = 8;

/// The only dim of a tensor that may have any rank: no protocol has such a size.
pub const ANY_RANK: i64 = -2;

/// How a description and a contract compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// They agree.
    Fits,
    /// The server names neither inputs nor outputs: it describes nothing.
    Silent,
    /// They do not; every difference, for the log.
    Drifts(String),
}

/// Compares what a server says with what one version of one model must be there.
pub fn compare(model: &Model, version: &str, said: &ModelMetadataResponse) -> Comparison {
    let ModelMetadataResponse {
        name,
        versions,
        platform: _,
        inputs,
        outputs,
    } = said;
    let mut found = Vec::new();
    if *name != model.backend_model() {
        found.push(format!(
            "it describes model {}, not {:?}",
            quote(name),
            model.backend_model()
        ));
    }
    // Servers without versions list none.
    if !versions.is_empty() && !versions.iter().any(|listed| listed == version) {
        let listed: Vec<_> = versions
            .iter()
            .take(MAX_DIFFERENCES)
            .map(|version| quote(version))
            .collect();
        found.push(format!(
            "its versions are {}, without {:?}",
            listed.join(", "),
            version
        ));
    }
    if found.is_empty() && inputs.is_empty() && outputs.is_empty() {
        return Comparison::Silent;
    }
    tensors(
        "input",
        model.backend_inputs(),
        inputs,
        &mut found,
        |dim, size| dim.min() == size && dim.max() == size,
    );
    for said in inputs {
        if !model
            .backend_inputs()
            .iter()
            .any(|rule| rule.name() == said.name)
        {
            found.push(format!("input {} is not in the contract; name it there, with optional: true if the model can do without", quote(&said.name)));
        }
    }
    tensors(
        "output",
        model.backend_outputs(),
        outputs,
        &mut found,
        |dim, size| (dim.min()..=dim.max()).contains(&size),
    );
    if found.is_empty() {
        return Comparison::Fits;
    }
    let more = found.len().saturating_sub(MAX_DIFFERENCES);
    found.truncate(MAX_DIFFERENCES);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    Comparison::Drifts(found.join("; "))
}

/// Every tensor of the contract must be described once, with its datatype, and with dims that the rule fits.
fn tensors(
    kind: &str,
    rules: &[TensorRule],
    said: &[TensorMetadata],
    found: &mut Vec<String>,
    fits: impl Fn(&DimRule, u64) -> bool,
) {
    // Asked before every call: where there is nothing to tell, nothing is made.
    if said.len() > 1 {
        let mut names = HashSet::new();
        for tensor in said {
            if !names.insert(tensor.name.as_str()) {
                found.push(format!("{kind} {} is described twice", quote(&tensor.name)));
            }
        }
    }
    for rule in rules {
        let Some(tensor) = said.iter().find(|tensor| tensor.name == rule.name()) else {
            found.push(format!("it has no {kind} {:?}", rule.name()));
            continue;
        };
        let name = || format!("{kind} {:?}", rule.name());
        if tensor.datatype != rule.datatype().name() {
            found.push(format!(
                "{} is {} there, {} in the contract",
                name(),
                quote(&tensor.datatype),
                rule.datatype().name()
            ));
        }
        if tensor.shape == [ANY_RANK] {
            continue;
        }
        if tensor.shape.len() != rule.shape().len() {
            found.push(format!(
                "{} has {} dims there, {} in the contract",
                name(),
                tensor.shape.len(),
                rule.shape().len()
            ));
            continue;
        }
        for (place, (size, dim)) in tensor.shape.iter().zip(rule.shape()).enumerate() {
            // -1: any size.
            let fits = *size == -1 || u64::try_from(*size).is_ok_and(|size| fits(dim, size));
            if !fits {
                found.push(format!(
                    "{} has {size} in dim {place} there, {} in the contract",
                    name(),
                    range(dim)
                ));
            }
        }
    }
}

fn range(dim: &DimRule) -> String {
    match dim.fixed() {
        Some(size) => size.to_string(),
        None => format!("{} to {}", dim.min(), dim.max()),
    }
}

/// A server's text, safe to repeat.
fn quote(text: &str) -> String {
    let cut: String = text.chars().take(MAX_QUOTED_CHARS).collect();
    format!("{cut:?}")
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
