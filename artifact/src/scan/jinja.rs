//! Chat templates in Jinja: whether one only formats the data that it is given.
//!
//! Jinja reaches Python's objects by attributes, subscripts, filters and formats, and a call of one
//! of them can run anything. A template is accepted only in a closed form: each statement, filter,
//! test, method and function is on a list, each name is a plain text of the template, and nothing
//! that the template stored is called. Variables and attributes may have any other name than those
//! that lead to Python's objects. Everything else is executable.
//!
//! A text that a template forms (`~`, `join`, `replace`, a block, `append` and more) is never a
//! name that reaches an attribute, whatever its characters are. A subscript takes a text of the
//! template unchanged, a number, or data of a request, whose value leads nowhere. Filters take
//! attributes and tests as plain texts. So `'_' ~ x` may be printed, and joined to any other text.
//!
//! - `token` splits a template into tags and tokens, as Jinja does, and `reader` reads them.
//! - `kind` has what is known of a value, and `scope` that of each variable.
//! - `attribute` and `filter` have the rules for what a value leads to.
//! - `lists` has the lists that a template appends to, and `loops` the variables of loops.
//! - `statement` and `expression` follow the grammar of Jinja 3.1.
//!
//! Values flow through variables, macros and namespaces, so a template is read until nothing new is
//! known of them. What has no value then may be anything, which the last readings check. The
//! readings have a bound.

use super::{Report, Severity, Verdict};
use crate::scan::rules::{self, Rule};

mod allowed;
mod attribute;
mod expression;
mod filter;
mod kind;
mod lists;
mod loops;
mod reader;
mod scope;
mod statement;
mod token;

use reader::Reader;
use scope::Scope;
use token::{Fault, Tag, Token};

/// The longest template that is followed, bytes. Those of published models have up to 30,000.
pub(super) const MAX_BYTES: usize = 256 << 10;
/// The rule of all findings about templates.
pub(super) const RULE: &Rule = rules::CHAT_TEMPLATE;
/// How often a template is read. Those of published models need up to 8 readings.
const MAX_READINGS: usize = 16;

/// Adds a finding if the template can do more than format data. `offset` is where it begins.
pub(super) fn check(template: &[u8], offset: u64, report: &mut Report) {
    let Ok(text) = str::from_utf8(template) else {
        report.add(
            Verdict::Malformed,
            offset,
            RULE,
            "the template is not UTF-8",
        );
        return;
    };
    if template.len() > MAX_BYTES {
        let detail = format!("the template has more than {MAX_BYTES} bytes");
        report.add(Verdict::Unknown, offset, RULE, &detail);
        return;
    }
    let at = |fault: &Fault| offset.saturating_add(u64::try_from(fault.at).unwrap_or(u64::MAX));
    match judge(text) {
        Ok(None) => {}
        Ok(Some(found)) => report.add(Verdict::Unknown, at(&found), RULE, &found.detail),
        Err(found) => report.add_executable(severity(text), at(&found), RULE, &found.detail),
    }
}

/// That of a template that is refused. Attributes with underscores, in whatever way they are
/// written, lead from a value to the modules of Python.
fn severity(template: &str) -> Severity {
    let attacks = ["__", "\\x5f", "\\u005f", "_'~'_", "_\"~\"_", "attr("];
    if attacks.into_iter().any(|text| template.contains(text)) {
        Severity::Critical
    } else {
        Severity::High
    }
}

/// Follows a template, and answers what of it only some loaders know.
fn judge(text: &str) -> Result<Option<Fault>, Fault> {
    let tags = token::tags(text)?;
    let mut scope = Scope::new(&tags);
    for tag in &tags {
        if let (true, [Token::Name("macro"), Token::Name(name), ..]) =
            (tag.is_statement, tag.tokens.as_slice())
        {
            scope
                .announce_macro(name)
                .map_err(|detail| Fault { at: tag.at, detail })?;
        }
    }
    for _ in 0..MAX_READINGS {
        scope.begin_reading();
        for (index, tag) in tags.iter().enumerate() {
            scope.begin_tag(index);
            read(tag, &mut scope).map_err(|detail| Fault { at: tag.at, detail })?;
        }
        if !scope.has_grown() {
            if scope.is_complete() {
                return Ok(unknown_filter(&scope, &tags));
            }
            scope.complete();
        }
    }
    Err(Fault {
        at: 0,
        detail: "values are passed on through too many variables".to_owned(),
    })
}

/// The first filter that only some loaders have.
fn unknown_filter(scope: &Scope<'_>, tags: &[Tag<'_>]) -> Option<Fault> {
    let (index, filter) = scope.loader_filter()?;
    Some(Fault {
        at: tags.get(index)?.at,
        detail: format!("the filter {filter} is none of Jinja: some loaders add it"),
    })
}

fn read<'t>(tag: &Tag<'t>, scope: &mut Scope<'t>) -> Result<(), String> {
    let mut reader = Reader::new(&tag.tokens, scope);
    if tag.is_statement {
        statement::check(&mut reader)?;
    } else {
        reader.values(true)?;
    }
    reader.end()
}

#[cfg(test)]
mod tests;
