//! Filters and tests of a template: which arguments they may have, and what they give.

use super::allowed::{
    ATTRIBUTE_FILTERS, FILTER_KEYWORDS, ITEM_FILTERS, MAPPED_ITEM_FILTERS, NUMBER_FILTERS, TESTS,
    TEXT_FILTERS,
};
use super::attribute::{attribute, element};
use super::kind::Kinds;
use super::reader::Reader;
use super::scope::Scope;
use super::token::Token;

use Token::{Name, Number, Sign, Text};

/// An argument of a call.
pub(super) struct Argument<'t, 'a> {
    pub(super) name: Option<&'t str>,
    pub(super) kinds: Kinds,
    /// Whether the argument is a list in brackets and nothing else.
    pub(super) is_list: bool,
    /// The text or number, if the argument is nothing else.
    pub(super) literal: Option<&'a Token<'t>>,
}

/// A test after its sign.
pub(super) fn test(reader: &mut Reader<'_, '_>, value: Kinds) -> Result<(), String> {
    reader.skip_name("not");
    let name = reader.name()?;
    if name != "defined" {
        value.data()?;
    }
    if !TESTS.contains(&name) || reader.is_sign(".") {
        return Err(format!("the test {name}"));
    }
    if reader.skip_sign("(") {
        reader.arguments(false)?;
        return Ok(());
    }
    // One argument may follow without parentheses.
    match reader.rest() {
        [Name("and" | "else" | "or"), ..] => {}
        [Name("is"), ..] => return Err("a test of a test".to_owned()),
        [Name(_) | Text(_) | Number | Sign("[" | "{"), ..] => {
            let start = reader.position;
            let argument = reader.primary()?;
            reader.postfix(start, argument)?.data()?;
        }
        _ => {}
    }
    Ok(())
}

/// What a filter gives for a value.
pub(super) fn apply(
    scope: &Scope<'_>,
    filter: &str,
    value: Kinds,
    arguments: &[Argument<'_, '_>],
) -> Result<Kinds, String> {
    let is_known = filter == "map"
        || TEXT_FILTERS.contains(&filter)
        || NUMBER_FILTERS.contains(&filter)
        || ITEM_FILTERS.contains(&filter);
    if !is_known {
        return Err(format!("the filter {filter}"));
    }
    // A filter may call what a namespace stored.
    if !matches!(filter, "count" | "length") {
        value.data()?;
    }
    check_keywords(filter, arguments)?;
    let unnamed = |argument: &&Argument<'_, '_>| argument.name.is_none();
    let positional = |position| arguments.iter().filter(unnamed).nth(position);
    match filter {
        "map" => return map(scope, value, arguments),
        "select" | "reject" => check_test(positional(0))?,
        "selectattr" | "rejectattr" => check_test(positional(1))?,
        _ => {}
    }
    let mut reached = Kinds::NONE;
    let known = ATTRIBUTE_FILTERS.iter().find(|(name, _)| *name == filter);
    if let Some((_, position)) = known {
        let named = named_attribute(arguments);
        for argument in named.into_iter().chain(positional(*position)) {
            reached = reached.with(path(scope, value, argument)?);
        }
    }
    // These give the attributes. Others give the items that have them.
    let value = match filter {
        "groupby" | "sum" => value.with(reached),
        _ => value,
    };
    let given = arguments.iter().map(|argument| argument.kinds);
    Ok(result(filter, value, given.fold(Kinds::NONE, Kinds::with)))
}

/// A filter that applies another one to each item, or reads an attribute of each.
fn map(scope: &Scope<'_>, value: Kinds, arguments: &[Argument<'_, '_>]) -> Result<Kinds, String> {
    let fold = |kinds: Kinds, argument: &Argument<'_, '_>| kinds.with(argument.kinds);
    let kinds = match arguments {
        [
            Argument {
                name: None,
                literal: Some(Text(mapped)),
                ..
            },
            given @ ..,
        ] => {
            let mapped = mapped.as_str();
            let is_text = TEXT_FILTERS.contains(&mapped) && mapped != "join";
            if !is_text
                && !NUMBER_FILTERS.contains(&mapped)
                && !MAPPED_ITEM_FILTERS.contains(&mapped)
            {
                return Err(format!("the filter {mapped} for each item"));
            }
            result(mapped, value, given.iter().fold(Kinds::NONE, fold))
        }
        _ => {
            let named = named_attribute(arguments);
            let is_plain = arguments.iter().all(|argument| argument.name.is_some());
            let Some(argument) = named.filter(|_| is_plain) else {
                return Err("a filter for each item whose name is computed".to_owned());
            };
            let kinds = path(scope, value, argument)?;
            arguments.iter().fold(kinds, fold)
        }
    };
    Ok(kinds.with(Kinds::LIST))
}

/// Checks that the names of arguments are on the list.
fn check_keywords(filter: &str, arguments: &[Argument<'_, '_>]) -> Result<(), String> {
    let known = FILTER_KEYWORDS.iter().find(|(name, _)| *name == filter);
    let known = known.map(|(_, keywords)| *keywords).unwrap_or_default();
    let mut names = arguments.iter().filter_map(|argument| argument.name);
    match names.find(|name| !known.contains(name)) {
        Some(name) => Err(format!("the argument {name} of the filter {filter}")),
        None => Ok(()),
    }
}

fn named_attribute<'b, 't, 'a>(arguments: &'b [Argument<'t, 'a>]) -> Option<&'b Argument<'t, 'a>> {
    let mut arguments = arguments.iter();
    arguments.find(|argument| argument.name == Some("attribute"))
}

/// Checks that the test that a filter applies is a plain text, and on the list.
fn check_test(argument: Option<&Argument<'_, '_>>) -> Result<(), String> {
    let Some(argument) = argument else {
        return Ok(());
    };
    match argument.literal {
        Some(Text(test)) if TESTS.contains(&test.as_str()) => Ok(()),
        _ => Err("a test for each item that is computed or not on the list".to_owned()),
    }
}

/// What the attribute has that an argument names: a number, or names with dots or commas between.
fn path(scope: &Scope<'_>, value: Kinds, argument: &Argument<'_, '_>) -> Result<Kinds, String> {
    match argument.literal {
        Some(Number) => element(value),
        Some(Text(names)) => {
            let mut kinds = value;
            for name in names.split(['.', ',']) {
                kinds = if name.bytes().all(|byte| byte.is_ascii_digit()) {
                    element(kinds)?
                } else {
                    attribute(scope, kinds, name)?
                };
            }
            Ok(kinds)
        }
        _ => Err("an attribute whose name is computed".to_owned()),
    }
}

/// What a filter gives for a value and its arguments.
fn result(filter: &str, value: Kinds, arguments: Kinds) -> Kinds {
    match filter {
        "float" | "int" => Kinds::NUMBER.with(arguments),
        "reverse" | "sum" => value.with(arguments).with_computed_text(),
        _ if NUMBER_FILTERS.contains(&filter) => Kinds::NUMBER,
        _ if TEXT_FILTERS.contains(&filter) => Kinds::COMPUTED_TEXT,
        _ => value.with(arguments),
    }
}
