//! Requests and responses of backends with JSON templates. Responses are parsed as untrusted input.

use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::policy::{Step, Template, TensorPointer};
use tensorgate_policy::{Datatype, Tensor};

use crate::encode::template::{document, most_bytes};
use crate::json;
use crate::owned::owned;

/// Size of a document besides its tensors; in responses, also of ignored members.
pub(crate) const OVERHEAD_BYTES: usize = 64 << 10;
/// Size of a number with separators: a float has up to 24 characters, plus blanks.
const NUMBER_BYTES: usize = 32;
/// Brackets of a list, a comma and blanks.
const LIST_BYTES: usize = 8;
/// An escaped character.
const ESCAPED_BYTES: usize = 6;
/// Size of a `BYTES` element without a limit.
const DEFAULT_ITEM_BYTES: usize = 64 << 10;

/// Maximum size of [`request`].
pub fn most_request_bytes(template: &Template, inputs: &[Tensor<'_>]) -> usize {
    inputs.iter().fold(OVERHEAD_BYTES, |sum, input| {
        sum.saturating_add(most_bytes(input, template.inputs()))
    })
}

/// A request with these inputs. `None` if JSON cannot represent one: not finite, not text, or
/// inconsistent with its shape.
pub fn request(template: &Template, inputs: &[Tensor<'_>]) -> Option<Vec<u8>> {
    document(inputs, template.inputs()).ok()
}

/// Maximum size of a valid response, with usual JSON formatting.
pub fn most_answer_bytes(template: &Template, rules: &[TensorRule]) -> usize {
    rules.iter().fold(OVERHEAD_BYTES, |sum, rule| {
        let pointer = template
            .outputs()
            .iter()
            .find(|pointer| pointer.name() == rule.name());
        sum.saturating_add(most_of(rule, pointer))
    })
}

/// The same for one tensor.
pub(crate) fn most_of(rule: &TensorRule, pointer: Option<&TensorPointer>) -> usize {
    let (mut elements, mut lists) = (1_usize, 1_usize);
    for dim in rule.shape() {
        lists = lists.saturating_add(elements);
        elements = elements.saturating_mul(usize::try_from(dim.max()).unwrap_or(usize::MAX));
    }
    let each = match rule.datatype() {
        Datatype::Bytes => rule
            .max_item_bytes()
            .unwrap_or(DEFAULT_ITEM_BYTES)
            .saturating_mul(ESCAPED_BYTES)
            .saturating_add(NUMBER_BYTES),
        Datatype::Bool
        | Datatype::Uint8
        | Datatype::Uint16
        | Datatype::Uint32
        | Datatype::Uint64
        | Datatype::Int8
        | Datatype::Int16
        | Datatype::Int32
        | Datatype::Int64
        | Datatype::Fp16
        | Datatype::Bf16
        | Datatype::Fp32
        | Datatype::Fp64 => NUMBER_BYTES,
    };
    let steps = pointer.map_or(&[][..], |pointer| pointer.at().steps());
    let way = steps.iter().fold(0_usize, |sum, step| {
        let name = match step {
            Step::Member(name) => name.len().saturating_mul(ESCAPED_BYTES),
            Step::Rows => 0,
        };
        sum.saturating_add(name).saturating_add(LIST_BYTES)
    });
    let rows = rule.shape().first().map_or(1, |dim| dim.max());
    let ways = match steps.contains(&Step::Rows) {
        true => usize::try_from(rows).unwrap_or(usize::MAX),
        false => 1,
    };
    elements
        .saturating_mul(each)
        .saturating_add(lists.saturating_mul(LIST_BYTES))
        .saturating_add(way.saturating_mul(ways))
}

/// Tensors of a response. The caller validates them against the contract; the error is for the log.
pub fn answer(
    template: &Template,
    rules: &[TensorRule],
    body: &[u8],
) -> Result<Vec<Tensor<'static>>, String> {
    let tensors =
        json::template_answer(body, template, rules).map_err(|fault| fault.to_string())?;
    tensors.into_iter().map(owned).collect()
}
