//! Compatibility of an ensemble with its models: tensor shapes and values, proofs and parameters.

use tensorgate_policy::contract::{Items, Numbers, ParameterBound, TensorRule, TextBound};
use tensorgate_policy::policy::{Accepts, Model};
use tensorgate_policy::report::{Path, quote};

/// Whether every tensor under one rule satisfies the form of another; values are checked at run
/// time.
pub(super) fn fits(given: &TensorRule, taken: &TensorRule) -> Result<(), String> {
    if given.datatype() != taken.datatype() {
        return Err(format!("is {}, not {}", given.datatype(), taken.datatype()));
    }
    if given.shape().len() != taken.shape().len() {
        return Err(format!(
            "has {} dims, not {}",
            given.shape().len(),
            taken.shape().len()
        ));
    }
    for (axis, (given, taken)) in given.shape().iter().zip(taken.shape()).enumerate() {
        if given.min() < taken.min() || given.max() > taken.max() {
            return Err(format!(
                "has {} to {} in dim {axis}, where {} to {} are accepted",
                given.min(),
                given.max(),
                taken.min(),
                taken.max()
            ));
        }
    }
    match (given.max_item_bytes(), taken.max_item_bytes()) {
        (Some(given), Some(taken)) if given > taken => Err(format!(
            "has items of up to {given} bytes, where up to {taken} are accepted"
        )),
        (None, Some(taken)) => Err(format!(
            "has items of any length, where up to {taken} bytes are accepted (max_item_bytes)"
        )),
        _ => Ok(()),
    }
}

/// Values that one rule allows and another rejects, as far as this can be compared.
pub(super) fn lets_in_more(given: &TensorRule, taken: &TensorRule) -> Option<&'static str> {
    let within = |(least, greatest): (f64, f64)| {
        given
            .range
            .is_some_and(|range| least <= range.0 && range.1 <= greatest)
    };
    let plain = |rule: &TensorRule| rule.numbers == Numbers::default();
    let listed = |rule: &TensorRule| rule.items == Items::default();
    if taken.finite && !given.finite && taken.datatype.is_float() {
        Some("rule for NaN and infinities")
    } else if taken.range.is_some_and(|range| !within(range)) {
        Some("range")
    } else if !plain(taken) && given.numbers != taken.numbers {
        Some("rule for numbers")
    } else if !listed(taken) && given.items != taken.items {
        Some("rule for elements")
    } else {
        None
    }
}

/// The ensemble must require the proofs of each of its models, so that its grants do not bypass
/// them.
pub(super) fn proofs(path: &Path, own: &Model, member: &Model) -> Option<()> {
    let met = |required| own.requires().is_some_and(|own| own.implies(required));
    if member.requires().is_none_or(met) {
        return Some(());
    }
    path.fail_with_fix(
        format!(
            "model {} requires credentials that the ensemble does not require",
            quote(member.name())
        ),
        "the same requires at the ensemble",
    )
}

/// Each parameter of the ensemble goes to at least one model, within the bounds of all that list
/// it.
pub(super) fn parameters<'m>(
    path: &Path,
    own: &Model,
    members: impl Iterator<Item = &'m Model> + Clone,
) -> Option<()> {
    let bounds = |model: &'m Model, name: &str| match model.accepts() {
        Accepts::Tensors(contract) => contract
            .parameters
            .iter()
            .find(|(listed, _)| listed == name)
            .map(|(_, bound)| bound),
        Accepts::Raw { .. } | Accepts::OpenAi(_) => None,
    };
    let Accepts::Tensors(contract) = own.accepts() else {
        return Some(());
    };
    let mut valid = Some(());
    for (name, bound) in &contract.parameters {
        let path = path.field("parameters").key(name);
        let mut listed = members
            .clone()
            .filter_map(|member| Some((member, bounds(member, name)?)))
            .peekable();
        if listed.peek().is_none() {
            valid = path.fail_with_fix("no model of the ensemble has this parameter", "remove it");
        }
        if let Some((member, _)) = listed.find(|(_, taken)| !bounds_fit(bound, taken)) {
            let message = format!(
                "model {} accepts fewer values of this parameter",
                quote(member.name())
            );
            valid = path.fail_with_fix(message, "the bounds of the model, or narrower ones");
        }
    }
    valid
}

fn bounds_fit(given: &ParameterBound, taken: &ParameterBound) -> bool {
    use ParameterBound::{Bool, False, Float, Int, IntOrText, OneOf, Text};
    let shorter = |given: &TextBound, taken: &TextBound| {
        let same_form = taken.pattern.is_none() || taken.pattern == given.pattern;
        same_form && given.max_bytes <= taken.max_bytes
    };
    match (given, taken) {
        (Int(least, greatest), Int(from, to) | IntOrText((from, to), _)) => {
            from <= least && greatest <= to
        }
        (Text(given), Text(taken) | IntOrText(_, taken)) => shorter(given, taken),
        (IntOrText((least, greatest), given), IntOrText((from, to), taken)) => {
            from <= least && greatest <= to && shorter(given, taken)
        }
        (False, False | Bool) => true,
        (Float(least, greatest), Float(from, to)) => from <= least && greatest <= to,
        (Bool, Bool) => true,
        (OneOf(given), OneOf(taken)) => given.iter().all(|text| taken.contains(text)),
        _ => false,
    }
}

/// Warns of an output that a model restricts but the ensemble does not.
pub(super) fn gives_more(given: &TensorRule, made: &TensorRule) -> Option<String> {
    let (own, member_release) = (given.release, made.release);
    let decimals = member_release.round_decimals;
    let top = member_release.top_k;
    if let Some(most) = decimals
        && own.round_decimals.is_none_or(|own| own > most)
    {
        return Some(format!("round_decimals: {most}"));
    }
    let most = top?;
    own.top_k
        .is_none_or(|own| own > most)
        .then(|| format!("role: class-scores, top_k: {most}"))
}
