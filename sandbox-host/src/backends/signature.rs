//! Compares a server's description of a model with the contract. This decides before anything is
//! sent, because a contract for another model protects nothing.
//!
//! Every input that the contract allows must be possible at the server: same name, same datatype,
//! every allowed size. For outputs, some size must be possible, because each response is checked
//! anyway. The protocol cannot mark an input as optional, so an input without a rule is a mismatch;
//! a contract can name it with `optional: true`. Outputs without a rule are never requested.

use std::collections::HashSet;

use tensorgate_policy::contract::{DimRule, TensorRule};
use tensorgate_policy::policy::Model;
use tensorgate_wire::proto::ModelMetadataResponse;
use tensorgate_wire::proto::model_metadata_response::TensorMetadata;

/// The most characters of a server's name in the log.
const MAX_QUOTED_CHARS: usize = 64;
/// The most differences that are reported.
const MAX_DIFFERENCES: usize = 8;

/// The only dimension of a tensor of any rank. No protocol has such a size.
pub const ANY_RANK: i64 = -2;

/// The result of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// They match.
    Fits,
    /// The server lists neither inputs nor outputs.
    Undescribed,
    /// They differ. All differences, for the log.
    Differs(String),
}

/// Compares a server's description with one version of a model.
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
        return Comparison::Undescribed;
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
    Comparison::Differs(found.join("; "))
}

/// Checks that every tensor of the contract is described once, with its datatype and matching
/// dimensions.
fn tensors(
    kind: &str,
    rules: &[TensorRule],
    said: &[TensorMetadata],
    found: &mut Vec<String>,
    fits: impl Fn(&DimRule, u64) -> bool,
) {
    // This runs before every call, so nothing is allocated without differences.
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
            // -1 means any size.
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

/// A server's text, shortened and escaped.
fn quote(text: &str) -> String {
    let cut: String = text.chars().take(MAX_QUOTED_CHARS).collect();
    format!("{cut:?}")
}

#[cfg(test)]
mod tests;
