//! Restrictions of outputs: an output's own rule, and a grant's restrictions.

use tensorgate_policy::contract::{DimRule, TensorRule};
use tensorgate_policy::contract::{Narrowed, Release};
use tensorgate_policy::policy::{Accepts, Model};
use tensorgate_policy::report::{Path, optional, quote};
use tensorgate_policy::values::datatype::Datatype;

use crate::raw::{self, Role};

/// Release settings of an output in the document.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub(super) role: Option<Role>,
    pub(super) round_decimals: Option<raw::RoundDecimals>,
    pub(super) top_k: Option<raw::TopK>,
}

impl Written {
    pub(super) const fn of(raw: &raw::Output) -> Self {
        Self {
            role: raw.role,
            round_decimals: raw.round_decimals,
            top_k: raw.top_k,
        }
    }
}

/// Rule of an output. `shape` is absent if it is invalid.
pub(super) fn output(
    path: &Path,
    raw: Written,
    datatype: Datatype,
    shape: Option<&[DimRule]>,
) -> Option<Release> {
    let (decimals_path, top_path) = (path.field("round_decimals"), path.field("top_k"));
    let round_decimals = optional(raw.round_decimals, |decimals| {
        decimals.check(&decimals_path)
    });
    let top_k = optional(raw.top_k, |top| top.check(&top_path));
    let mut valid = Some(());
    if !datatype.is_float() {
        for (field, written) in [
            ("role", raw.role.is_some()),
            ("round_decimals", raw.round_decimals.is_some()),
        ] {
            if written {
                let message = format!("elements of {datatype} have no decimals");
                valid = path.field(field).fail_with_fix(message, "remove it");
            }
        }
    }
    let scores = raw.role == Some(Role::ClassScores);
    if raw.top_k.is_some() && !scores {
        valid = top_path.fail_with_fix(
            "is only for class scores: in other outputs 0 is a value",
            "role: class-scores",
        );
    }
    if scores {
        match shape.map(<[DimRule]>::last) {
            Some(None) => {
                let path = path.field("role");
                valid = path.fail_with_fix("a scalar has no classes", "remove it");
            }
            Some(Some(classes)) if raw.top_k.is_some_and(|top| top.0 >= classes.max) => {
                let message = format!(
                    "has no effect: the output has at most {} classes",
                    classes.max
                );
                top_path.warn(message, "fewer, or remove it");
            }
            _ => {}
        }
        if raw.top_k.is_none() && raw.round_decimals.is_none() {
            path.warn(
                "full scores help to train a copy of the model",
                "round_decimals: 3, or top_k: 5",
            );
        }
    }
    valid?;
    Some(Release {
        scores,
        round_decimals: round_decimals?,
        top_k: top_k?,
    })
}

/// Outputs whose rule has no effect, because a postprocess handler replaces them.
pub(super) fn unmet(path: &Path, raw: &raw::Model) -> Option<()> {
    let mut valid = Some(());
    if raw.returns.is_none() {
        return valid;
    }
    for (index, output) in raw.outputs.iter().enumerate() {
        let Written {
            role: _,
            round_decimals,
            top_k,
        } = Written::of(output);
        for (field, written) in [
            ("round_decimals", round_decimals.is_some()),
            ("top_k", top_k.is_some()),
        ] {
            if written {
                valid = path.index(index).field(field).fail_with_fix(
                    "has no effect: clients get the outputs of the postprocess handler, not this one",
                    "set it under returns.outputs",
                );
            }
        }
    }
    valid
}

/// A model and its outputs for clients of the grant.
pub(super) type Given<'m> = (&'m Model, &'m [TensorRule]);

/// A grant's restrictions of outputs.
pub(super) fn grant(
    path: &Path,
    raw: &raw::Grant,
    infers: bool,
    models: &[Given<'_>],
) -> Option<Narrowed> {
    let (decimals_path, top_path) = (path.field("round_decimals"), path.field("top_k"));
    let outputs_path = path.field("outputs");
    let round_decimals = optional(raw.round_decimals, |decimals| {
        decimals.check(&decimals_path)
    });
    let top_k = optional(raw.top_k, |top| top.check(&top_path));
    let mut valid = Some(());
    for (path, written) in [
        (&outputs_path, raw.outputs.is_some()),
        (&decimals_path, raw.round_decimals.is_some()),
        (&top_path, raw.top_k.is_some()),
    ] {
        if written && !infers {
            let message = "has no effect: the grant does not allow inference";
            valid = path.fail_with_fix(message, "remove it");
        }
    }
    let documents = |(model, _): &&Given<'_>| {
        model.is_guardrail() || matches!(model.accepts(), Accepts::OpenAi(_))
    };
    let written = raw.outputs.is_some() || raw.round_decimals.is_some() || raw.top_k.is_some();
    if let Some((model, _)) = models.iter().find(documents).filter(|_| written) {
        let message = format!(
            "answers of model {} have no outputs to restrict",
            quote(model.name())
        );
        valid = path.fail_with_fix(message, "a grant of its own");
    }
    let rules = || models.iter().flat_map(|(_, returns)| *returns);
    // Without models, their own faults or the missing operation are reported.
    if !models.is_empty() {
        if raw.top_k.is_some() && !rules().any(|rule| rule.release.scores) {
            let message = "none of the models has an output of class scores";
            valid = top_path.fail_with_fix(message, "role: class-scores on that output");
        }
        if raw.round_decimals.is_some() && !rules().any(|rule| rule.datatype.is_float()) {
            let message = "none of the models has an output of floats";
            valid = decimals_path.fail_with_fix(message, "remove it");
        }
        if let Some(outputs) = raw.outputs.as_ref().filter(|outputs| !outputs.is_empty()) {
            valid = valid.and(named(&outputs_path, outputs, models));
        }
    }
    if let Some(outputs) = &raw.outputs {
        valid = valid.and(outputs_path.not_empty(outputs, "the names of outputs"));
        valid = valid.and(outputs_path.distinct(outputs));
    }
    let (round_decimals, top_k) = (round_decimals?, top_k?);
    valid.map(|()| Narrowed {
        outputs: raw.outputs.clone(),
        round_decimals,
        top_k,
    })
}

/// Every name is an output of some model, and every model has at least one of them.
fn named(path: &Path, outputs: &[String], models: &[Given<'_>]) -> Option<()> {
    let mut valid = Some(());
    let has = |returns: &[TensorRule], name: &str| returns.iter().any(|rule| rule.name == name);
    for (index, name) in outputs.iter().enumerate() {
        if !models.iter().any(|(_, returns)| has(returns, name)) {
            let known = models.iter().flat_map(|(_, returns)| *returns);
            let known = known.map(|rule| rule.name.as_str());
            valid = path
                .index(index)
                .unknown("output of these models", name, known);
        }
    }
    for (model, returns) in models {
        if valid.is_some() && !outputs.iter().any(|name| has(returns, name)) {
            valid = path.fail_with_fix(
                format!("has no output of model {}", quote(model.name())),
                "another grant for that model",
            );
        }
    }
    valid
}
