//! Parameters of a model's requests and inputs, and the names that are ignored.

use std::collections::BTreeMap;

use tensorgate_policy::contract::{ParameterBound, ParameterRules, TextBound};
use tensorgate_policy::policy::EMPTY_FINAL_RESPONSE;
use tensorgate_policy::report::{Path, all, optional};
use tensorgate_policy::values::BackendKind;

use super::items;
use super::names;
use crate::raw::{self, MAX_STRING_BYTES, ParameterRule, TextRule};

/// Maximum parameters of a request, as in the decoders.
const MAX_PARAMETERS: usize = 32;
/// Maximum allowed strings of a parameter.
const MAX_CHOICES: usize = 1024;

/// The parameters of a model that takes tensors.
pub(super) struct ModelParameters {
    pub(super) of_request: ParameterRules,
    /// By the input's name; only inputs with rules.
    pub(super) of_inputs: Vec<(String, ParameterRules)>,
    /// Names of parameters that are dropped if no rule names them.
    pub(super) ignored: Vec<String>,
}

/// Validates them. `path` is the model's.
pub(super) fn of_model(
    path: &Path,
    raw: &raw::Model,
    kind: Option<BackendKind>,
) -> Option<ModelParameters> {
    let request_path = path.field("parameters");
    let of_request = parameters(&request_path, &raw.parameters);
    if kind == Some(BackendKind::HttpJson) && !raw.parameters.is_empty() {
        request_path.error_with_fix(
            "cannot be sent in the JSON of a backend of kind http-json",
            "remove them",
        );
    }
    let of_request = with_final_response(&request_path, raw, of_request);
    let ignored_path = path.field("ignored");
    let ignored = ignored(&ignored_path, &raw.ignored);
    let accepts = raw.accepts.as_ref();
    if accepts.is_some_and(|accepts| accepts.raw.is_some()) {
        for (path, is_there) in [
            (&request_path, !raw.parameters.is_empty()),
            (&ignored_path, !raw.ignored.is_empty()),
        ] {
            if is_there {
                path.error_with_fix("a raw body cannot carry parameters", "remove them");
            }
        }
    }
    let of_inputs = of_inputs(path, raw, kind);
    Some(ModelParameters {
        of_request: of_request?,
        of_inputs: of_inputs?,
        ignored: ignored?,
    })
}

/// Parameters of a decoupled model: those of the policy, plus the one for an empty final response.
fn with_final_response(
    path: &Path,
    raw: &raw::Model,
    own: Option<ParameterRules>,
) -> Option<ParameterRules> {
    let mut own = own?;
    if raw.decoupled.is_none() {
        return Some(own);
    }
    if own.iter().any(|(name, _)| name == EMPTY_FINAL_RESPONSE) {
        return path
            .key(EMPTY_FINAL_RESPONSE)
            .fail_with_fix("is always allowed for a decoupled model", "remove it");
    }
    own.push((EMPTY_FINAL_RESPONSE.into(), ParameterBound::Bool));
    Some(own)
}

/// Parameters of tensors with their rules. In these protocols they are scalars.
fn parameters(path: &Path, raw: &BTreeMap<String, ParameterRule>) -> Option<ParameterRules> {
    let mut valid = Some(());
    for (name, rule) in raw {
        let path = path.key(name);
        for (field, is_there) in [
            ("object", rule.object.is_some()),
            ("max_items", rule.max_items.is_some()),
        ] {
            if is_there {
                valid = path.field(field).fail_with_fix(
                    "is for models of OpenAI's API: parameters of tensors are scalars",
                    "remove it",
                );
            }
        }
    }
    valid.and(members(path, raw))
}

/// Parameters of documents, or members of an object, with their rules. The recursion is limited by
/// the depth of a policy.
pub(super) fn members(
    path: &Path,
    raw: &BTreeMap<String, ParameterRule>,
) -> Option<ParameterRules> {
    let mut valid = Some(());
    valid = valid.and(path.up_to(raw.len(), MAX_PARAMETERS, "parameters are too many"));
    valid.and(all(raw.iter().map(|(name, rule)| {
        let path = path.key(name);
        let named = names::tensor_name(&path, name);
        let bound = bound(&path, rule);
        named.and(bound).map(|bound| (name.clone(), bound))
    })))
}

/// Whether names are few, and each is listed once.
pub(super) fn few_names(path: &Path, raw: &[String]) -> Option<()> {
    let valid = path.up_to(raw.len(), MAX_PARAMETERS, "names are too many");
    valid.and(path.distinct(raw))
}

/// Names of parameters that are dropped.
fn ignored(path: &Path, raw: &[String]) -> Option<Vec<String>> {
    let mut valid = few_names(path, raw);
    for (index, name) in raw.iter().enumerate() {
        valid = valid.and(names::tensor_name(&path.index(index), name));
    }
    valid.map(|()| raw.to_vec())
}

/// Parameters of a model's inputs, by the input's name. `path` is the model's.
fn of_inputs(
    path: &Path,
    raw: &raw::Model,
    kind: Option<BackendKind>,
) -> Option<Vec<(String, ParameterRules)>> {
    let mut valid = Some(());
    let accepted = raw.accepts.as_ref().map(|accepts| &accepts.inputs);
    let accepts_path = path.field("accepts").field("inputs");
    for (index, input) in accepted.into_iter().flatten().enumerate() {
        if !input.parameters.is_empty() {
            let path = accepts_path.index(index).field("parameters");
            valid = path.fail_with_fix(NO_HANDLER, "ignored, with their names, at the model");
        }
    }
    let mut rules = Vec::new();
    for (index, input) in raw.inputs.iter().enumerate() {
        if input.parameters.is_empty() {
            continue;
        }
        let path = path.field("inputs").index(index).field("parameters");
        if let Some(cause) = uncarried(raw, kind) {
            valid = path.fail_with_fix(cause, "ignored, with their names, at the model");
            continue;
        }
        for name in input.parameters.keys() {
            if is_of_form(name) {
                valid = path.key(name).fail_with_fix(
                    "says where or how elements are sent, and is never passed on",
                    "remove it",
                );
            }
        }
        match (&input.name, parameters(&path, &input.parameters)) {
            (Some(name), Some(bounds)) => rules.push((name.clone(), bounds)),
            // An input without a name is a fault of its own.
            (None, Some(_)) => {}
            (_, None) => valid = None,
        }
    }
    valid.map(|()| rules)
}

const NO_HANDLER: &str = "cannot be sent to a handler, which gets tensors without parameters";

/// Why parameters of inputs never reach a backend.
fn uncarried(raw: &raw::Model, kind: Option<BackendKind>) -> Option<String> {
    if raw.preprocess.is_some() || raw.accepts.is_some() {
        return Some(NO_HANDLER.into());
    }
    if raw.ensemble.is_some() {
        return Some("cannot be sent to the models of an ensemble".into());
    }
    let kind = match kind? {
        BackendKind::OpenInference => return None,
        BackendKind::Embedded => "embedded",
        BackendKind::TfServing => "tf-serving",
        BackendKind::TorchServe => "torchserve",
        BackendKind::HttpJson => "http-json",
        BackendKind::OpenAi => "openai",
    };
    Some(format!("cannot be sent to a backend of kind {kind}"))
}

/// Whether a parameter of a tensor says where its elements are, or how they are written. The
/// backend gets elements in one form only, and a parameter that contradicts it would bypass the
/// contract.
fn is_of_form(name: &str) -> bool {
    name.starts_with("shared_memory") || name.starts_with("binary_data")
}

fn bound(path: &Path, raw: &ParameterRule) -> Option<ParameterBound> {
    let each = value_bound(path, raw);
    let Some(most) = raw.max_items else {
        return each;
    };
    let path = path.field("max_items");
    if raw.object.is_some() {
        return path.fail_with_fix("is for lists of scalars, not of objects", "remove it");
    }
    let most = most.check(&path);
    Some(ParameterBound::List(most?, Box::new(each?)))
}

/// The bound of a scalar or object.
fn value_bound(path: &Path, raw: &ParameterRule) -> Option<ParameterBound> {
    let ParameterRule {
        int,
        float,
        bool,
        one_of,
        text,
        object,
        max_items: _,
    } = raw;
    match (int, float, bool, one_of, text, object) {
        (Some(bounds), None, None, None, text, None) => {
            let bounds = range(&path.field("int"), *bounds);
            let text = optional(text.as_ref(), |text| self::text(&path.field("text"), text));
            let (bounds, text) = (bounds?, text?);
            Some(match text {
                Some(text) => ParameterBound::IntOrText(bounds, text),
                None => ParameterBound::Int(bounds.0, bounds.1),
            })
        }
        (None, Some(bounds), None, None, None, None) => {
            let path = path.field("float");
            if !bounds.0.is_finite() || !bounds.1.is_finite() {
                return path.fail("a bound is not finite");
            }
            let (least, greatest) = range(&path, *bounds)?;
            Some(ParameterBound::Float(least, greatest))
        }
        (None, None, Some(is_bool), None, None, None) => {
            if !is_bool {
                return path.field("bool").fail_with_fix(
                    "cannot be false: it declares that the parameter is a bool",
                    "bool: true",
                );
            }
            Some(ParameterBound::Bool)
        }
        (None, None, None, Some(texts), None, None) => one_of_texts(&path.field("one_of"), texts),
        (None, None, None, None, Some(text), None) => {
            self::text(&path.field("text"), text).map(ParameterBound::Text)
        }
        (None, None, None, None, None, Some(rules)) => {
            let path = path.field("object");
            if rules.is_empty() {
                return path.fail_with_fix("names no member", "{enable_thinking: {bool: true}}");
            }
            members(&path, rules).map(ParameterBound::Object)
        }
        _ => path.fail(
            "needs exactly one of int, float, bool, one_of, text and object, or int and text",
        ),
    }
}

/// Bounds in their order.
fn range<N: PartialOrd + Copy + core::fmt::Display>(
    path: &Path,
    (least, greatest): (N, N),
) -> Option<(N, N)> {
    if least > greatest {
        return path.fail_with_fix(
            format!("{least} is greater than {greatest}"),
            format!("[{greatest}, {least}]"),
        );
    }
    Some((least, greatest))
}

fn one_of_texts(path: &Path, texts: &[String]) -> Option<ParameterBound> {
    path.not_empty(texts, "the allowed strings")?;
    path.up_to(texts.len(), MAX_CHOICES, "strings are too many")?;
    let mut valid = path.distinct(texts);
    for (index, text) in texts.iter().enumerate() {
        if text.len() as u64 > MAX_STRING_BYTES {
            valid = path.index(index).fail(format!(
                "{} bytes are too long, {MAX_STRING_BYTES} are allowed",
                text.len()
            ));
        }
    }
    valid.map(|()| ParameterBound::OneOf(texts.to_vec()))
}

fn text(path: &Path, raw: &TextRule) -> Option<TextBound> {
    let size_path = path.field("max_bytes");
    let max_bytes = size_path
        .required(raw.max_bytes, "max_bytes: 256")
        .and_then(|size| size.check(&size_path));
    let pattern = optional(raw.pattern.as_deref(), |text| {
        items::pattern(&path.field("pattern"), text)
    });
    Some(TextBound {
        max_bytes: max_bytes?,
        pattern: pattern?,
    })
}
