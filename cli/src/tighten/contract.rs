//! Whether a change of a model only tightens its contract: every request and response that the new
//! contract allows, the old one allows, too. What is not surely so counts as another contract.

use tensorgate_policy_compiler::raw::{Dim, Input, Model, Output};

/// Minimum of a bounded dimension without one.
const DEFAULT_MIN: u64 = 1;

/// Whether the models differ in their inputs and outputs alone, and these only become narrower.
pub fn only_tightens(now: &Model, next: &Model) -> bool {
    let rest = Model {
        inputs: next.inputs.clone(),
        outputs: next.outputs.clone(),
        ..now.clone()
    };
    rest == *next
        && all(&now.inputs, &next.inputs, narrows_input)
        && all(&now.outputs, &next.outputs, narrows_output)
}

fn narrows_input(now: &Input, next: &Input) -> bool {
    let rest = Input {
        shape: next.shape.clone(),
        range: next.range,
        max_abs: next.max_abs,
        channel_ranges: next.channel_ranges.clone(),
        allowed: next.allowed.clone(),
        min_distinct: next.min_distinct,
        max_zero_fraction: next.max_zero_fraction,
        finite: next.finite,
        optional: next.optional,
        max_item_bytes: next.max_item_bytes,
        min_item_bytes: next.min_item_bytes,
        utf8: next.utf8,
        pattern: next.pattern.clone(),
        media: next.media.clone(),
        url: next.url.clone(),
        ..now.clone()
    };
    let within = |now: &(f64, f64), next: &(f64, f64)| now.0 <= next.0 && next.1 <= now.1;
    rest == *next
        && narrows_shape(now.shape.as_ref(), next.shape.as_ref())
        && optional_rule(now.range.as_ref(), next.range.as_ref(), within)
        && optional_rule(now.max_abs.as_ref(), next.max_abs.as_ref(), |a, b| b <= a)
        && added_or_same(now.channel_ranges.as_ref(), next.channel_ranges.as_ref())
        && optional_rule(now.allowed.as_ref(), next.allowed.as_ref(), |a, b| {
            b.iter().all(|value| a.contains(value))
        })
        && next.min_distinct >= now.min_distinct
        && optional_rule(
            now.max_zero_fraction.as_ref(),
            next.max_zero_fraction.as_ref(),
            |a, b| b <= a,
        )
        && (is_finite(next.finite) || !is_finite(now.finite))
        && (now.optional || !next.optional)
        && same_or_less(now.max_item_bytes.as_ref(), next.max_item_bytes.as_ref())
        && next.min_item_bytes >= now.min_item_bytes
        && (next.utf8 || !now.utf8)
        && added_or_same(now.pattern.as_ref(), next.pattern.as_ref())
        && added_or_same(now.media.as_ref(), next.media.as_ref())
        && added_or_same(now.url.as_ref(), next.url.as_ref())
}

fn narrows_output(now: &Output, next: &Output) -> bool {
    let rest = Output {
        shape: next.shape.clone(),
        finite: next.finite,
        max_item_bytes: next.max_item_bytes,
        round_decimals: next.round_decimals,
        top_k: next.top_k,
        ..now.clone()
    };
    rest == *next
        && narrows_shape(now.shape.as_ref(), next.shape.as_ref())
        && (is_finite(next.finite) || !is_finite(now.finite))
        && same_or_less(now.max_item_bytes.as_ref(), next.max_item_bytes.as_ref())
        && optional_rule(
            now.round_decimals.as_ref(),
            next.round_decimals.as_ref(),
            |a, b| b <= a,
        )
        && optional_rule(now.top_k.as_ref(), next.top_k.as_ref(), |a, b| b <= a)
}

/// Whether each of a list is narrower than the one in its place.
fn all<T>(now: &[T], next: &[T], narrows: impl Fn(&T, &T) -> bool) -> bool {
    now.len() == next.len() && now.iter().zip(next).all(|(now, next)| narrows(now, next))
}

/// A rule that is narrower, or new. Without it everything is allowed.
fn optional_rule<T>(now: Option<&T>, next: Option<&T>, narrows: impl Fn(&T, &T) -> bool) -> bool {
    match (now, next) {
        (None, _) => true,
        (Some(now), Some(next)) => narrows(now, next),
        (Some(_), None) => false,
    }
}

/// A rule that is new, or the same: two of them are not compared.
fn added_or_same<T: PartialEq>(now: Option<&T>, next: Option<&T>) -> bool {
    now.is_none() || now == next
}

/// A maximum with a default, which is not known here.
fn same_or_less<T: PartialOrd>(now: Option<&T>, next: Option<&T>) -> bool {
    match (now, next) {
        (Some(now), Some(next)) => next <= now,
        (now, next) => now.is_none() && next.is_none(),
    }
}

/// Whether NaN and infinities are rejected, which is the default.
fn is_finite(rule: Option<bool>) -> bool {
    rule != Some(false)
}

fn narrows_shape(now: Option<&Vec<Dim>>, next: Option<&Vec<Dim>>) -> bool {
    match (now, next) {
        (Some(now), Some(next)) => all(now, next, narrows_dim),
        (now, next) => now.is_none() && next.is_none(),
    }
}

fn narrows_dim(now: &Dim, next: &Dim) -> bool {
    let min = |min: &Option<u64>| min.unwrap_or(DEFAULT_MIN);
    match (now, next) {
        (now, next) if now == next => true,
        (
            Dim::Bounded {
                name: now_name,
                min: now_min,
                max: Some(now_max),
            },
            Dim::Bounded {
                name: next_name,
                min: next_min,
                max: Some(next_max),
            },
        ) => now_name == next_name && min(now_min) <= min(next_min) && next_max <= now_max,
        (
            Dim::Bounded {
                name: None,
                min: now_min,
                max: Some(now_max),
            },
            Dim::Fixed(size),
        ) => (min(now_min)..=*now_max).contains(size),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_a_narrower_contract_tightens() {
        let model = json!({
            "backend": "b", "versions": ["1"], "protocols": ["oip-rest"],
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [{"max": 8}, 4], "range": [0.0, 1.0]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [{"max": 8}]}]
        });
        let read = |model: &Value| serde_json::from_value::<Model>(model.clone()).unwrap();
        for (pointer, value, expected) in [
            ("/inputs/0/range", json!([0.0, 0.5]), true),
            ("/inputs/0/range", json!([0.0, 2.0]), false),
            ("/inputs/0/range", Value::Null, false),
            ("/inputs/0/max_abs", json!(1), true),
            ("/inputs/0/min_distinct", json!(2), true),
            ("/inputs/0/finite", json!(true), true),
            ("/inputs/0/finite", json!(false), false),
            ("/inputs/0/optional", json!(true), false),
            ("/inputs/0/allowed", json!([0.5]), true),
            ("/inputs/0/shape/0", json!({"max": 4}), true),
            ("/inputs/0/shape/0", json!({"max": 8, "min": 2}), true),
            ("/inputs/0/shape/0", json!(8), true),
            ("/inputs/0/shape/0", json!({"max": 16}), false),
            ("/inputs/0/shape/0", json!(9), false),
            ("/inputs/0/shape/0", json!({"name": "n", "max": 4}), false),
            ("/inputs/0/shape/1", json!(3), false),
            ("/inputs/0/datatype", json!("FP64"), false),
            ("/inputs/0/name", json!("z"), false),
            ("/outputs/0/shape/0", json!({"max": 2}), true),
            ("/outputs/0/top_k", json!(1), true),
            ("/outputs/0/round_decimals", json!(2), true),
            ("/outputs/0/role", json!("logits"), false),
            ("/versions", json!(["1", "2"]), false),
            ("/backend", json!("c"), false),
            ("/backend", json!("b"), true),
        ] {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let mut next = model.clone();
            match next.pointer_mut(parent).unwrap() {
                Value::Array(items) => items[name.parse::<usize>().unwrap()] = value.clone(),
                parent => parent[name] = value.clone(),
            }
            let found = only_tightens(&read(&model), &read(&next));
            assert_eq!(found, expected, "{pointer} {value}");
        }
        let mut narrow = model.clone();
        narrow["inputs"][0]["max_abs"] = json!(1);
        assert!(
            !only_tightens(&read(&narrow), &read(&model)),
            "a rule is gone"
        );
    }
}
