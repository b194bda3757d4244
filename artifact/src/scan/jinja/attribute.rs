//! What an attribute or an element of a value may be.

use super::allowed::{HIDDEN_ATTRIBUTES, LOOP_NUMBERS, is_method};
use super::kind::Kinds;
use super::scope::{Scope, check_name};

/// The value of an attribute of this name, or of an element with this key.
pub(super) fn attribute(scope: &Scope<'_>, value: Kinds, name: &str) -> Result<Kinds, String> {
    check_name(name)?;
    if value.has(Kinds::BY_REQUEST_KEY) {
        return Err(format!(
            "the attribute {name} of what a variable in a subscript reached"
        ));
    }
    if value.has(Kinds::LOOP) {
        return match name {
            _ if value != Kinds::LOOP => Err(format!("the attribute {name} of a loop or else")),
            "nextitem" | "previtem" => Ok(scope.items()),
            _ if LOOP_NUMBERS.contains(&name) => Ok(Kinds::NUMBER),
            _ => Err(format!("the attribute {name} of a loop")),
        };
    }
    if value.is_within(Kinds::NAMESPACE) {
        return Ok(scope.attribute(name));
    }
    if HIDDEN_ATTRIBUTES.contains(&name) {
        return Err(format!("the attribute {name}"));
    }
    let mut kinds = value;
    if value.has(Kinds::NAMESPACE) {
        kinds = kinds.with(scope.attribute(name));
        // Only a mapping has further namespaces in it that have the name.
        if !value.has(Kinds::MAPPING) && !scope.attribute(name).has(Kinds::NAMESPACE) {
            kinds = kinds.without(Kinds::NAMESPACE);
        }
    }
    Ok(if is_method(name) {
        kinds.with(Kinds::METHOD)
    } else {
        kinds
    })
}

/// The value of an element at a number.
pub(super) fn element(value: Kinds) -> Result<Kinds, String> {
    if value.has(Kinds::BY_REQUEST_KEY.with(Kinds::LOOP)) {
        return Err("an element of a loop, or of what a variable reached".to_owned());
    }
    Ok(value)
}
