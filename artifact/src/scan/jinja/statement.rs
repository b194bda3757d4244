//! Follows a statement of a template.

use super::kind::Kinds;
use super::lists::is_list;
use super::reader::Reader;
use super::scope::{Block, check_name};
use super::token::Token;

use Token::{Name, Sign};

/// Reads a statement, and notes what it gives variables.
pub(super) fn check(reader: &mut Reader<'_, '_>) -> Result<(), String> {
    match reader.name()? {
        "if" => {
            reader.values(false)?;
            reader.scope.open(Block::If, None)
        }
        "elif" => {
            reader.scope.branch()?;
            reader.values(false).map(|_| ())
        }
        "else" => reader.scope.branch(),
        "for" => for_loop(reader),
        "macro" => definition(reader),
        "call" => call_block(reader),
        "set" => assignment(reader),
        "filter" => {
            let first = reader.filter(Kinds::COMPUTED_TEXT)?;
            reader.filters(first)?;
            reader.scope.open(Block::Filter, None)
        }
        "generation" => reader.scope.open(Block::Generation, None),
        "break" | "continue" => Ok(()),
        "endif" => reader.scope.close(Block::If),
        "endfor" => reader.scope.close(Block::For),
        "endmacro" => reader.scope.close(Block::Macro),
        "endcall" => reader.scope.close(Block::Call),
        "endset" => reader.scope.close(Block::Set),
        "endfilter" => reader.scope.close(Block::Filter),
        "endgeneration" => reader.scope.close(Block::Generation),
        other => Err(format!("the statement {other}")),
    }
}

/// The names that get a value, with commas and parentheses.
fn targets<'t>(reader: &mut Reader<'t, '_>) -> Result<Vec<&'t str>, String> {
    let mut names = Vec::new();
    loop {
        match reader.rest() {
            [Name("in"), ..] => return Ok(names),
            [Name(_), ..] => names.push(reader.name()?),
            [Sign(sign @ ("(" | ")" | ",")), ..] => reader.expect_sign(sign)?,
            _ => return Ok(names),
        }
    }
}

fn for_loop(reader: &mut Reader<'_, '_>) -> Result<(), String> {
    let names = targets(reader)?;
    if !reader.skip_name("in") {
        return Err("a loop over nothing".to_owned());
    }
    let start = reader.position;
    let items = reader.values(false)?;
    let keys = match (names.as_slice(), reader.since(start)) {
        ([key], [Name(mapping)]) => Some((*key, *mapping)),
        _ => None,
    };
    reader.scope.grow_items(items);
    reader.scope.open(Block::For, keys)?;
    for name in names {
        reader.scope.assign_item(name, items)?;
    }
    if reader.rest().contains(&Name("loop")) {
        return Err("the variable loop in the condition of a loop".to_owned());
    }
    if reader.skip_name("if") {
        reader.values(true)?;
    }
    Ok(())
}

fn definition(reader: &mut Reader<'_, '_>) -> Result<(), String> {
    let name = reader.name()?;
    reader.expect_sign("(")?;
    reader.scope.open(Block::Macro, None)?;
    let mut parameters = Vec::new();
    while !reader.skip_sign(")") {
        let parameter = reader.name()?;
        let mut default = Kinds::NONE;
        if reader.skip_sign("=") {
            default = reader.expression()?;
        }
        reader.scope.assign(parameter, default, false)?;
        parameters.push(parameter);
        if !matches!(reader.rest(), [Sign(")"), ..]) {
            reader.expect_sign(",")?;
        }
    }
    reader.scope.define_macro(name, parameters)
}

/// A call of a macro that prints the block where it calls `caller`. A block with parameters would
/// get values from the macro.
fn call_block(reader: &mut Reader<'_, '_>) -> Result<(), String> {
    let name = reader.name()?;
    if !reader.scope.is_macro(name) {
        return Err(format!("a block for {name}, which is no macro"));
    }
    reader.call(name)?;
    reader.scope.open(Block::Call, None)
}

fn assignment(reader: &mut Reader<'_, '_>) -> Result<(), String> {
    if let [Name(_), Sign("."), Name(attribute), ..] = reader.rest() {
        reader.name()?;
        reader.expect_sign(".")?;
        reader.name()?;
        check_name(attribute)?;
        let is_list = is_list_assigned(reader);
        let (value, is_block) = assigned(reader)?;
        reader.scope.set_attribute(attribute, value, is_list);
        return open_if(reader, is_block);
    }
    let start = reader.position;
    let names = targets(reader)?;
    let is_unpacked = !matches!(reader.since(start), [Name(_)]);
    if names.is_empty() {
        return Err("a value for no variable".to_owned());
    }
    let is_list = !is_unpacked && is_list_assigned(reader);
    let (mut value, is_block) = assigned(reader)?;
    if is_unpacked {
        value = value.data()?;
    }
    for name in names {
        reader.scope.assign(name, value, is_list)?;
    }
    open_if(reader, is_block)
}

/// Whether the value of an assignment is a list in brackets and nothing else.
fn is_list_assigned(reader: &Reader<'_, '_>) -> bool {
    matches!(reader.rest(), [Sign("="), value @ ..] if is_list(value))
}

/// The value of an assignment, and whether it is what the block after it prints.
fn assigned(reader: &mut Reader<'_, '_>) -> Result<(Kinds, bool), String> {
    if reader.skip_sign("=") {
        return Ok((reader.values(true)?, false));
    }
    let filtered = reader.filters(Kinds::COMPUTED_TEXT)?;
    Ok((filtered.with(Kinds::COMPUTED_TEXT), true))
}

fn open_if(reader: &mut Reader<'_, '_>, is_block: bool) -> Result<(), String> {
    if is_block {
        reader.scope.open(Block::Set, None)?;
    }
    Ok(())
}
