//! Lists that a template begins in brackets and appends to.
//!
//! `append` and `pop` change the list itself, which other variables may hold, too. So a template
//! may call them only of a variable or of an attribute of a namespace whose values all are lists
//! in brackets. What is appended is then known of that name, and flows from there to whatever else
//! holds the list. Data of a request is never changed, and a method is none of a list.

use super::filter::Argument;
use super::kind::Kinds;
use super::scope::Scope;
use super::token::Token;

use Token::{Name, Sign};

/// Methods that change a list.
pub(super) const LIST_METHODS: &[&str] = &["append", "pop"];

/// Whether an expression is a list in brackets and nothing else.
pub(super) fn is_list(expression: &[Token<'_>]) -> bool {
    if !matches!(expression.first(), Some(Sign("["))) {
        return false;
    }
    let mut depth = 0_usize;
    let end = expression.iter().position(|token| {
        match token {
            Sign("(" | "[" | "{") => depth = depth.saturating_add(1),
            Sign(")" | "]" | "}") => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    });
    end.and_then(|end| end.checked_add(1)) == Some(expression.len())
}

/// What a call of a method gives that changes a list. `receiver` is all before the arguments.
pub(super) fn change<'t>(
    scope: &mut Scope<'t>,
    method: &str,
    receiver: &[Token<'t>],
    arguments: &[Argument<'t, '_>],
) -> Result<Kinds, String> {
    let given = match (method, arguments) {
        ("append", [value]) if value.name.is_none() => value.kinds,
        ("pop", []) => Kinds::NONE,
        ("pop", [index]) if index.name.is_none() && index.kinds.is_within(Kinds::NUMBERS) => {
            Kinds::NONE
        }
        _ => return Err(format!("the arguments of {method}")),
    };
    if given.has(Kinds::METHOD.with(Kinds::BY_REQUEST_KEY)) {
        return Err(format!("a method as the argument of {method}"));
    }
    let kinds = match receiver {
        [Name(name), Sign("."), Name(_), Sign("(")] if scope.is_list(name) => {
            scope.grow_variable(name, given);
            scope.variable(name)
        }
        [
            Name(space),
            Sign("."),
            Name(name),
            Sign("."),
            Name(_),
            Sign("("),
        ] if scope.variable(space).is_within(Kinds::NAMESPACE) && scope.is_list_attribute(name) => {
            scope.grow_attribute(name, given);
            scope.attribute(name)
        }
        _ => return Err(format!("the method {method} of what may be no list")),
    };
    Ok(if method == "append" {
        Kinds::NUMBER
    } else {
        kinds
    })
}
