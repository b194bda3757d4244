//! JSON templates: a unique route, and separate locations for all tensors.

use std::collections::BTreeMap;
use std::string::{String, ToString};

use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::policy::{
    Model, Pointer, Step, Template, Templates, TensorPointer, is_taken,
};
use tensorgate_policy::report::{Path, Valid, all, quote};
use tensorgate_policy::request::Protocol;
use tensorgate_policy::values::Shared;
use tensorgate_policy::values::datatype::Datatype;

use super::backend_rules::{no_half, sayable};
use super::names;
use crate::raw;

/// The kind of backend.
const HTTP_JSON: &str = "http-json";
/// Maximum length of a pointer.
const MAX_POINTER_BYTES: usize = 256;
/// The pointer element for every element of a list.
const ROWS: &str = "*";
/// Maximum names of a pointer: with lists of every rank below it, documents stay within the depth
/// limit.
const MAX_NAMES: usize = 6;
/// Maximum ignored members.
const MAX_IGNORED: usize = 64;

/// The model's side of a template.
pub(super) struct Sides<'m> {
    pub(super) protocols: &'m [Protocol],
    pub(super) versions: &'m [String],
    /// Whether requests without a version are routed by weight.
    pub(super) has_weights: bool,
    /// Inputs and outputs of clients.
    pub(super) clients: Side<'m>,
    /// Inputs and outputs of a backend that uses the template.
    pub(super) backend: Option<Side<'m>>,
    /// Whether handlers convert between the two.
    pub(super) handled: bool,
    /// Whether clients may send members without a location.
    pub(super) is_guardrail: bool,
}

/// Inputs and outputs.
#[derive(Clone, Copy)]
pub(super) struct Side<'m> {
    pub(super) inputs: &'m [TensorRule],
    pub(super) outputs: &'m [TensorRule],
}

/// Template of a model.
pub(super) fn template(
    model: &Path,
    raw: Option<&raw::Json>,
    sides: &Sides<'_>,
) -> Valid<Option<Shared<Template>>> {
    let path = model.field("json");
    let called = sides.protocols.contains(&Protocol::Json);
    let raw = match (raw, called || sides.backend.is_some()) {
        (None, false) => return Some(None),
        (Some(raw), true) => raw,
        (None, true) => {
            let what = if called {
                "protocol json"
            } else {
                "a backend of kind http-json"
            };
            return path.fail_with_fix(
                format!("is missing: {what} needs the model's route and pointers"),
                "json: {route: /classify, inputs: {…}, outputs: {…}}",
            );
        }
        (Some(_), false) => {
            return path.fail_with_fix(
                "has no effect without protocol json, or a backend of kind http-json",
                "protocols: [json]",
            );
        }
    };
    if called && sides.backend.is_some() && sides.handled {
        return path.fail_with_fix(
            "cannot describe both clients and backend: handlers change the tensors between them",
            "another protocol than json, or a backend of another kind",
        );
    }
    let Side {
        inputs: input_rules,
        outputs: output_rules,
    } = sides.backend.unwrap_or(sides.clients);
    let mut valid = Some(());
    let picked = sides.has_weights && sides.backend.is_none();
    if sides.versions.len() > 1 && !picked {
        valid = path.fail_with_fix(
            "cannot name a version, and the model has several",
            "a model for each",
        );
    }
    let route = route(&path.field("route"), raw.route.as_deref(), called);
    let inputs_path = path.field("inputs");
    let inputs = places(&inputs_path, &raw.inputs, input_rules);
    let outputs_path = path.field("outputs");
    let outputs = places(&outputs_path, &raw.outputs, output_rules);
    valid = valid.and(match sides.backend {
        Some(side) => spoken(&path, raw, side),
        None => complete(&path, raw, sides.clients.inputs),
    });
    let ignored = ignored(&path.field("ignored"), &raw.ignored);
    let (inputs, outputs, ignored) = (inputs?, outputs?, ignored?);
    let mut taken = Vec::new();
    for input in &inputs {
        valid = valid.and(apart(&inputs_path.key(&input.name), &mut taken, &input.at));
    }
    for (index, pointer) in ignored.iter().enumerate() {
        let path = path.field("ignored").index(index);
        valid = valid.and(apart(&path, &mut taken, pointer));
    }
    let mut taken = Vec::new();
    for output in &outputs {
        valid = valid.and(apart(
            &outputs_path.key(&output.name),
            &mut taken,
            &output.at,
        ));
    }
    valid = valid.and(even(&inputs_path, &inputs, input_rules));
    valid = valid.and(even(&outputs_path, &outputs, output_rules));
    valid?;
    Some(Some(Shared::from(Template {
        route: route?,
        inputs,
        outputs,
        ignored,
        is_guardrail: sides.is_guardrail,
    })))
}

/// Every required input has a location, and at least one output.
fn complete(path: &Path, raw: &raw::Json, inputs: &[TensorRule]) -> Option<()> {
    let mut valid = Some(());
    for rule in inputs.iter().filter(|rule| !rule.optional()) {
        valid = valid.and(placed(
            &path.field("inputs"),
            &raw.inputs,
            rule,
            "a required input",
        ));
    }
    if raw.outputs.is_empty() {
        valid = path
            .field("outputs")
            .fail_with_fix("is empty", "NAME: /NAME");
    }
    valid
}

/// Validates a backend's inputs and outputs against its template.
fn spoken(path: &Path, raw: &raw::Json, side: Side<'_>) -> Option<()> {
    let mut valid = Some(());
    let at = path.field("inputs");
    for rule in side.inputs {
        let base64 = raw
            .inputs
            .get(rule.name())
            .is_some_and(|location| location.bytes == raw::BytesAs::Base64);
        let there = placed(&at, &raw.inputs, rule, "an input of the backend");
        valid = valid.and(there).and(no_half(&at, rule, HTTP_JSON));
        // The location determines the encoding.
        if there.is_some() {
            valid = valid.and(sayable(&at, rule, base64));
        }
    }
    let at = path.field("outputs");
    for rule in side.outputs {
        valid = valid
            .and(placed(&at, &raw.outputs, rule, "an output of the backend"))
            .and(no_half(&at, rule, HTTP_JSON));
    }
    valid
}

/// A tensor has a location.
fn placed(
    path: &Path,
    places: &BTreeMap<String, raw::TensorPointer>,
    rule: &TensorRule,
    why: &str,
) -> Option<()> {
    if places.contains_key(rule.name()) {
        return Some(());
    }
    path.fail_with_fix(
        format!("has no pointer for {}, {why}", quote(rule.name())),
        format!("{}: /{}", rule.name(), rule.name()),
    )
}

/// Routes of all models; they are unique.
pub(super) fn templates(path: &Path, models: &[Model]) -> Option<Templates> {
    let mut templates = BTreeMap::new();
    let mut valid = Some(());
    for model in models {
        let Some(template) = model.template() else {
            continue;
        };
        let earlier = templates.insert(template.route.clone(), model.name().to_string());
        if let Some(earlier) = earlier {
            let section = match model.is_guardrail() {
                true => "guardrail",
                false => "json",
            };
            valid = path
                .key(model.name())
                .field(section)
                .field("route")
                .fail_with_fix(
                    format!("is also the route of model {}", quote(&earlier)),
                    "a different path",
                );
        }
    }
    valid.map(|()| Templates(templates))
}

/// A path that no other protocol uses.
pub(super) fn route(path: &Path, raw: Option<&str>, called: bool) -> Option<String> {
    let text = path.required(raw, "route: /classify")?;
    let route = names::route(path, text, "/classify")?;
    // Routes of backends are not restricted.
    if called && is_taken(text) {
        return path.fail_with_fix(
            format!("{} is a route of another protocol", quote(text)),
            "a different path",
        );
    }
    Some(route)
}

/// Locations of tensors, in the contract's order.
fn places(
    path: &Path,
    raw: &BTreeMap<String, raw::TensorPointer>,
    rules: &[TensorRule],
) -> Option<Vec<TensorPointer>> {
    let mut valid = Some(());
    for (name, location) in raw {
        let path = path.key(name);
        let Some(rule) = rules.iter().find(|rule| rule.name() == name) else {
            let names = rules.iter().map(TensorRule::name);
            valid = path.unknown("tensor", name, names);
            continue;
        };
        if location.bytes == raw::BytesAs::Base64 && rule.datatype() != Datatype::Bytes {
            valid = path.field("bytes").fail_with_fix(
                format!("is for BYTES, and {} is {}", quote(name), rule.datatype()),
                "remove it",
            );
        }
    }
    let places = rules.iter().filter_map(|rule| {
        let location = raw.get(rule.name())?;
        let path = path.key(rule.name());
        let at = pointer(&path, &location.pointer);
        Some(at.and_then(|at| {
            let shape = match (at.by_row(), rule.shape()) {
                (true, [_, rest @ ..]) => rest,
                (true, []) => {
                    return path.fail_with_fix(
                        format!("has *, and {} is a scalar", quote(rule.name())),
                        "a first dim that counts rows",
                    );
                }
                (false, shape) => shape,
            };
            Some(TensorPointer {
                name: rule.name().to_string(),
                at,
                base64: location.bytes == raw::BytesAs::Base64,
                scalar: shape.len() == 1,
                bare: matches!(shape, [dim] if dim.fixed() == Some(1)),
            })
        }))
    });
    valid.and(all(places))
}

fn ignored(path: &Path, raw: &[String]) -> Option<Vec<Pointer>> {
    path.up_to(raw.len(), MAX_IGNORED, "are too many")?;
    path.each(raw, |path, text| pointer(path, text))
}

/// A JSON Pointer (RFC 6901): empty, or names after slashes, with `~0` and `~1` for `~` and `/`;
/// the name `*` means every element of a list.
fn pointer(path: &Path, text: &str) -> Option<Pointer> {
    let wrong = |what: String| path.fail_with_fix(what, "a JSON Pointer such as /image");
    if text.len() > MAX_POINTER_BYTES {
        return wrong(format!("{} bytes are too long", text.len()));
    }
    if text.is_empty() {
        return Some(Pointer(Vec::new()));
    }
    let Some(names) = text.strip_prefix('/') else {
        return wrong(format!("{} does not begin with a slash", quote(text)));
    };
    let mut read = Vec::new();
    for name in names.split('/') {
        let mut plain = String::new();
        let mut characters = name.chars();
        while let Some(character) = characters.next() {
            match character {
                '~' => match characters.next() {
                    Some('0') => plain.push('~'),
                    Some('1') => plain.push('/'),
                    _ => {
                        return wrong(format!("{} has a ~ that is neither ~0 nor ~1", quote(text)));
                    }
                },
                other => plain.push(other),
            }
        }
        read.push(match name {
            ROWS => Step::Rows,
            _ => Step::Member(plain),
        });
    }
    if read.len() > MAX_NAMES {
        return wrong(format!(
            "{} names are too many, at most {MAX_NAMES} are allowed",
            read.len()
        ));
    }
    if read.iter().filter(|step| **step == Step::Rows).count() > 1 {
        return wrong(format!(
            "{} has more than one *: a list within a row belongs to the tensor",
            quote(text)
        ));
    }
    if read.last() == Some(&Step::Rows) {
        return wrong(format!(
            "{} ends with *: point at the list itself, which is the tensor",
            quote(text)
        ));
    }
    Some(Pointer(read))
}

/// Tensors in the same list have the same number of rows.
fn even(path: &Path, places: &[TensorPointer], rules: &[TensorRule]) -> Option<()> {
    let first_dim = |location: &TensorPointer| {
        let rule = rules.iter().find(|rule| rule.name() == location.name);
        rule.and_then(|rule| rule.shape().first())
    };
    let mut valid = Some(());
    for (index, location) in places.iter().enumerate() {
        let Some(list) = location.at.list() else {
            continue;
        };
        let mut earlier = places.iter().take(index);
        let Some(other) = earlier.find(|other| other.at.list() == Some(list)) else {
            continue;
        };
        let agree = match (first_dim(location), first_dim(other)) {
            (Some(one), Some(other)) if one.symbol.is_some() => one.symbol == other.symbol,
            (Some(one), Some(other)) => one.fixed().is_some() && one.fixed() == other.fixed(),
            _ => false,
        };
        if !agree {
            valid = path.key(&location.name).fail_with_fix(
                format!(
                    "is in the same list as {}, and their first dims may differ",
                    quote(&other.name)
                ),
                "the same name for the first dim of both",
            );
        }
    }
    valid
}

/// No location lies inside another.
fn apart<'p>(path: &Path, taken: &mut Vec<&'p Pointer>, pointer: &'p Pointer) -> Option<()> {
    if let Some(cause) = taken.iter().find_map(|other| pointer.against(other)) {
        return path.fail_with_fix(cause, "a different pointer");
    }
    taken.push(pointer);
    Some(())
}
