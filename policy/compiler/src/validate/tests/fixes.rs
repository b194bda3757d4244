//! Fixes: what `check` suggests is accepted by `check`. Every document that a test of this folder
//! checks is an example. Each fix of its faults that is a value in YAML is applied to it, at the
//! fault, in place of it, beside it or in a section around it, and the document is checked again.

use serde_json::Map;

use super::*;

/// Fixes that read as a value and that no test can apply, and why.
const NOT_APPLIED: [(&str, &str); 15] = [
    (
        "range: [least, greatest]",
        "the range is that of the model's data",
    ),
    ("listen.tls.client_ca", "it is a file of the operator"),
    ("client_ca", "it is a file of the operator"),
    ("{file: keys.jwks.json}", "it is a file of the operator"),
    (
        "rate_limit_service.redis, or scope: local",
        "it is a server of the operator",
    ),
    ("https://", "it is the beginning of a URL"),
    (
        "quiet, or watch.off",
        "which of the two is the operator's choice",
    ),
    ("subject", "it is the key that the value belongs to"),
    ("rate", "how many requests pass is the operator's choice"),
    (
        "operations: [infer, stream]",
        "which grant has them is the operator's choice",
    ),
    ("finite: true", "it is for the tensor of that name"),
    (
        "utf8: true, or bytes: base64 beside its pointer",
        "it is for the tensor of that name",
    ),
    (
        "protocols: [oip-rest], or remove statistics",
        "it is for the models of the grant",
    ),
    (
        "tools, or response_format: [json_schema]",
        "the bounds of tools are the operator's choice",
    ),
    (
        "tools, or response_format: [json_schema], of chat",
        "the bounds of tools are the operator's choice",
    ),
];
/// A document with more faults is an example of hostile input, not of a fix.
const MAX_FAULTS: usize = 8;

/// What a fix says to do at the path of its fault.
#[derive(Debug, PartialEq)]
enum Edit {
    Remove,
    Put(Value),
    /// A number in place of another one.
    Bound(u64),
    Member(String, Value),
}

/// The edit of a fix. `None` if it is prose, or has a placeholder.
fn parse(fix: &str) -> Option<Edit> {
    if matches!(fix, "remove it" | "remove them") {
        return Some(Edit::Remove);
    }
    let first = fix.split(", or ").next()?.split("; ").next()?;
    let mut bounds = ["at least ", "at most "].into_iter();
    let bound = bounds.find_map(|prefix| first.strip_prefix(prefix));
    if let Some(bound) = bound {
        let number: u64 = bound.trim_end_matches(" bytes").parse().ok()?;
        return Some(Edit::Bound(number));
    }
    let all_of = |text| flow(text, &[]).filter(|(_, rest)| rest.trim().is_empty());
    let is_key = |key: &str| key.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_'));
    match first.split_once(": ") {
        Some((key, text)) if is_key(key) => {
            all_of(text).map(|(value, _)| Edit::Member(key.into(), value))
        }
        _ => all_of(first).map(|(value, _)| Edit::Put(value)),
    }
}

/// A value in YAML's flow style, and what is behind it.
fn flow<'t>(text: &'t str, stops: &[char]) -> Option<(Value, &'t str)> {
    let text = text.trim_start();
    let next = |rest: &'t str| {
        let rest = rest.trim_start();
        rest.strip_prefix(',').unwrap_or(rest).trim_start()
    };
    if let Some(rest) = text.strip_prefix('{') {
        let (mut rest, mut map) = (rest.trim_start(), Map::new());
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once(": ")?;
            let key = key.trim_matches('"');
            scalar(key)?;
            let (value, after) = flow(after, &[',', '}'])?;
            map.insert(key.into(), value);
            rest = next(after);
        }
        return Some((Value::Object(map), rest.strip_prefix('}')?));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (mut rest, mut list) = (rest.trim_start(), Vec::new());
        while !rest.starts_with(']') {
            let (value, after) = flow(rest, &[',', ']'])?;
            list.push(value);
            rest = next(after);
        }
        return Some((Value::Array(list), rest.strip_prefix(']')?));
    }
    if let Some(rest) = text.strip_prefix('"') {
        let (word, rest) = rest.split_once('"')?;
        return Some((word.into(), rest));
    }
    let (word, rest) = text.split_at(text.find(stops).unwrap_or(text.len()));
    Some((scalar(word.trim())?, rest))
}

/// A word, a number or a boolean. `None` for prose and placeholders (`FILE`).
fn scalar(word: &str) -> Option<Value> {
    let is_placeholder = word.bytes().all(|byte| byte.is_ascii_uppercase());
    let is_placeholder = is_placeholder || word.contains("host:port");
    if is_placeholder || word.contains([' ', '…', '`', '(']) {
        return None;
    }
    let number = serde_json::from_str(word).ok();
    let number = number.filter(|value: &Value| value.is_number() || value.is_boolean());
    Some(number.unwrap_or_else(|| word.into()))
}

/// The keys and indices of a path, outermost first.
fn steps(path: &str) -> Vec<String> {
    let (mut steps, mut step, mut quoted) = (Vec::new(), String::new(), false);
    if path.is_empty() {
        return steps;
    }
    for character in path.chars() {
        match character {
            '"' => quoted = !quoted,
            '.' | '[' if !quoted => steps.push(core::mem::take(&mut step)),
            ']' if !quoted => {}
            character => step.push(character),
        }
    }
    steps.push(step);
    steps
}

/// The value at these steps.
fn at<'d>(document: &'d mut Value, steps: &[String]) -> Option<&'d mut Value> {
    steps.iter().try_fold(document, |value, step| {
        if value.is_object() {
            return value.as_object_mut()?.get_mut(step);
        }
        let index: usize = step.parse().ok()?;
        value.as_array_mut()?.get_mut(index)
    })
}

/// The document with a value put or, without one, removed.
fn edited(document: &Value, steps: &[String], value: Option<Value>) -> Option<Value> {
    let mut document = document.clone();
    let (last, parents) = steps.split_last()?;
    match (at(&mut document, parents)?, value) {
        (Value::Object(map), Some(value)) => {
            map.insert(last.clone(), value);
        }
        (Value::Object(map), None) => {
            map.remove(last)?;
        }
        (Value::Array(list), value) => {
            let index = last.parse::<usize>().ok();
            let index = index.filter(|index| *index < list.len())?;
            match value {
                Some(value) => list[index] = value,
                None => {
                    list.remove(index);
                }
            }
        }
        _ => return None,
    }
    Some(document)
}

/// What may be put or removed, and where: at the fault or, for a member, in the mappings around it.
fn places(document: &Value, path: &str, edit: &Edit) -> Vec<(Vec<String>, Option<Value>)> {
    let fault = steps(path);
    let (key, value) = match edit {
        Edit::Remove => return [(fault, None)].into(),
        Edit::Put(value) => return [(fault, Some(value.clone()))].into(),
        // The size of a list or of a text is no value: which ones go is the operator's choice.
        Edit::Bound(number) => {
            let found = at(&mut document.clone(), &fault).is_none_or(|value| value.is_number());
            let target = found.then(|| (fault, Some(Value::from(*number))));
            return target.into_iter().collect();
        }
        Edit::Member(key, value) => (key, value),
    };
    if fault.last() == Some(key) {
        return [(fault, Some(value.clone()))].into();
    }
    let mut document = document.clone();
    let mut places = Vec::new();
    if at(&mut document, &fault).is_none() {
        places.push((fault.clone(), Some(json!({key: value}))));
    }
    for depth in (0..=fault.len()).rev() {
        if at(&mut document, &fault[..depth]).is_some_and(|value| value.is_object()) {
            let mut target = fault[..depth].to_vec();
            target.push(key.clone());
            places.push((target, Some(value.clone())));
        }
    }
    places
}

/// The document with another key in place of the one that the fault is about.
fn renamed(document: &Value, path: &str, edit: &Edit) -> Option<(Value, Vec<String>)> {
    let name = match edit {
        Edit::Put(Value::String(name)) => name.clone(),
        Edit::Put(Value::Number(number)) => number.to_string(),
        _ => return None,
    };
    let mut document = document.clone();
    let mut target = steps(path);
    let old = target.pop()?;
    let map = at(&mut document, &target)?.as_object_mut()?;
    let value = map.remove(&old)?;
    map.insert(name.clone(), value);
    target.push(name);
    Some((document, target))
}

/// Whether the document with a fix lacks the fault, and has no error where the fix was made. A
/// document that had only warnings has no error at all.
fn accepts(document: Value, fault: &Fault, target: &[String]) -> Result<(), String> {
    let read = serde_json::from_value::<crate::raw::Policy>(document);
    let raw = read.map_err(|error| error.to_string())?;
    let after = match validate(&raw) {
        Ok((_, warnings)) => warnings,
        Err(faults) => faults,
    };
    let wrong = after.iter().find(|found| {
        let is_same = found.path == fault.path && found.message == fault.message;
        let is_there = steps(&found.path).starts_with(target);
        let is_new = is_there || fault.severity == Severity::Warning;
        is_same || (found.severity == Severity::Error && is_new)
    });
    wrong.map_or(Ok(()), |found| Err(found.to_string()))
}

/// Applies every fix of a document that has at most one error.
pub(super) fn check(document: &Value, faults: &[Fault]) {
    let is_error = |fault: &&Fault| fault.severity == Severity::Error;
    let errors = faults.iter().filter(is_error).count();
    if errors > 1 || faults.len() > MAX_FAULTS {
        return;
    }
    for fault in faults {
        // Warnings beside an error are about a document that is not read to its end.
        let is_example = errors == 0 || fault.severity == Severity::Error;
        let fix = fault.fix.as_deref().unwrap_or_default();
        let is_known = NOT_APPLIED.iter().any(|(known, _)| *known == fix);
        let Some(edit) = parse(fix).filter(|_| is_example && !is_known) else {
            continue;
        };
        // A member may also stand in place of the key that the fault is about.
        let is_member = matches!(edit, Edit::Member(..));
        let fault_steps = steps(&fault.path);
        let is_key = (fault_steps.split_last())
            .and_then(|(_, parents)| at(&mut document.clone(), parents).map(|it| it.is_object()));
        let without = edited(document, &fault_steps, None);
        let without = without.filter(|_| is_member && is_key == Some(true));
        let mut documents = [Some(document.clone()), without].into_iter().flatten();
        let mut refused = Vec::new();
        let accepted = documents.any(|document| {
            let mut places = places(&document, &fault.path, &edit).into_iter();
            places.any(|(target, value)| {
                let Some(edited) = edited(&document, &target, value) else {
                    return false;
                };
                let accepted = accepts(edited, fault, &target);
                accepted.map_err(|why| refused.push(why)).is_ok()
            })
        });
        let accepted = accepted
            || renamed(document, &fault.path, &edit)
                .is_some_and(|(document, target)| accepts(document, fault, &target).is_ok());
        // A fault may be about what stands nowhere in the document.
        let is_applied = accepted || refused.is_empty();
        assert!(is_applied, "the fix of {fault} is refused: {refused:#?}");
    }
}

#[test]
fn fixes_are_read_as_values_and_prose_is_not() {
    let member = |key: &str, value| Some(Edit::Member(key.into(), value));
    for (fix, expected) in [
        ("remove it", Some(Edit::Remove)),
        ("at least 65536, or lower the max", Some(Edit::Bound(65536))),
        ("at most 9 bytes", Some(Edit::Bound(9))),
        ("at most N", None),
        ("[png, jpeg]", Some(Edit::Put(json!(["png", "jpeg"])))),
        ("32KiB", Some(Edit::Put(json!("32KiB")))),
        ("0.01", Some(Edit::Put(json!(0.01)))),
        ("true", Some(Edit::Put(json!(true)))),
        ("[\"1\"]", Some(Edit::Put(json!(["1"])))),
        ("lockout: {}", member("lockout", json!({}))),
        (
            "cost: {tokens: 100000, window_s: 60}",
            member("cost", json!({"tokens": 100000, "window_s": 60})),
        ),
        (
            "versions: {\"1\": {weight: 95}}, or remove it",
            member("versions", json!({"1": {"weight": 95}})),
        ),
        ("tls: {ca: FILE}", None),
        ("watch: {off: […]}", None),
        ("openai: {chat: {…}}", None),
        ("the names of models", None),
        ("encodings: [gzip] on a model", None),
    ] {
        assert_eq!(parse(fix), expected, "{fix}");
    }
    assert_eq!(
        steps("models.\"a.b\".inputs[0].x"),
        ["models", "a.b", "inputs", "0", "x"]
    );
}

#[test]
#[should_panic(expected = "is refused")]
fn a_fix_that_is_refused_is_found() {
    let document = with("/grants/0/cost", Value::Null);
    let fault = Fault {
        severity: Severity::Warning,
        path: "grants[0]".into(),
        message: "without a cost limit".into(),
        fix: Some("cost: {bytes: 1, window_s: 60}".into()),
    };
    check(&document, &[fault]);
}
