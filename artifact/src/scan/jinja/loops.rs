//! Loops whose variables have the items of the loop, and no other values.
//!
//! A variable of a loop ends with the loop, and one of the same name elsewhere is another one. So
//! what is known of one says nothing of the other, unless a tag within the loop gives the name
//! another value.

use std::collections::BTreeMap;

use super::token::{Tag, Token};

use Token::{Name, Sign};

/// Variables of one loop that are looked at. Published models have two.
const MAX_VARIABLES: usize = 8;
/// Loops within loops. The readings end at fewer blocks.
const MAX_LOOPS: usize = 64;

/// A loop that has not ended.
struct OpenLoop<'t> {
    /// The position of its tag.
    tag: usize,
    /// The variables that no tag has given another value yet.
    variables: Vec<&'t str>,
}

/// The variables of each loop that are its own, by the position of its tag.
pub(super) fn own_variables<'t>(tags: &[Tag<'t>]) -> BTreeMap<usize, Vec<&'t str>> {
    let mut found = BTreeMap::new();
    let mut open: Vec<OpenLoop<'t>> = Vec::new();
    for (index, tag) in tags.iter().enumerate() {
        if !tag.is_statement {
            continue;
        }
        match tag.tokens.as_slice() {
            [Name("for"), rest @ ..] => {
                if open.len() >= MAX_LOOPS {
                    return BTreeMap::new();
                }
                open.push(OpenLoop {
                    tag: index,
                    variables: targets(rest),
                });
            }
            [Name("endfor"), ..] => {
                if let Some(ended) = open.pop() {
                    found.insert(ended.tag, ended.variables);
                }
            }
            [Name("set"), Name(_), Sign("."), ..] => {}
            [Name("set"), rest @ ..] => {
                let end = rest.iter().position(|token| *token == Sign("="));
                let end = end.unwrap_or(rest.len());
                remove(&mut open, rest.get(..end).unwrap_or_default());
            }
            [Name("macro"), rest @ ..] => remove(&mut open, rest),
            _ => {}
        }
    }
    found
}

/// The names before `in`.
fn targets<'t>(rest: &[Token<'t>]) -> Vec<&'t str> {
    let before = rest.iter().take_while(|token| **token != Name("in"));
    let names = before.filter_map(|token| match token {
        Name(name) => Some(*name),
        _ => None,
    });
    let names: Vec<&str> = names.take(MAX_VARIABLES.saturating_add(1)).collect();
    if names.len() > MAX_VARIABLES {
        return Vec::new();
    }
    names
}

/// Takes names that get another value from the loops around.
fn remove(open: &mut [OpenLoop<'_>], tokens: &[Token<'_>]) {
    for name in tokens {
        if let Name(name) = name {
            for around in &mut *open {
                around.variables.retain(|variable| variable != name);
            }
        }
    }
}
