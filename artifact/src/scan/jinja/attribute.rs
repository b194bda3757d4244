//! What an attribute or an element of a value may be.

use super::allowed::{KEYWORD_OR_METHOD, LOOP_NUMBERS, is_hidden, is_method};
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
    let is_namespace = value == Kinds::NAMESPACE;
    if is_hidden(name) && !(is_namespace && scope.has_attribute(name)) {
        if name == KEYWORD_OR_METHOD && !value.has(Kinds::NAMESPACE) {
            return Ok(value.with(Kinds::METHOD).with(Kinds::BY_REQUEST_KEY));
        }
        return Err(format!("the attribute {name}"));
    }
    if value.is_within(Kinds::NAMESPACE) {
        return Ok(scope.attribute(name));
    }
    let mut kinds = value;
    if value.has(Kinds::NAMESPACE) {
        // Only lists and namespaces have namespaces in them, and a list has no attributes.
        kinds = kinds.without(Kinds::NAMESPACE);
        if scope.has_attribute(name) {
            kinds = kinds.with(scope.attribute(name));
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

/// What a text of the template is, which stands alone or is the name of an argument.
pub(super) fn name_text(text: &str) -> Kinds {
    if text.starts_with('_') || is_hidden(text) {
        Kinds::COMPUTED_TEXT
    } else {
        Kinds::TEXT
    }
}

/// What a mapping has at a key. A method there, or a function of the renderer, could be called by
/// the name of another method.
pub(super) fn entry(key: Option<&str>, value: Kinds) -> Kinds {
    let callable = Kinds::METHOD.with(Kinds::RENDERER_VARIABLE);
    if value.has(callable) && key.is_none_or(is_method) {
        value.with(Kinds::BY_REQUEST_KEY)
    } else {
        value
    }
}
