//! Chat templates in Jinja: whether one only formats the data that it is given.
//!
//! Jinja reaches Python's objects by attributes, subscripts and filters, and a call of one of them
//! can run anything. A template is accepted only if each statement, filter, test, method and
//! function in it is on a list, and no name has the form of Python's internals. Everything else is
//! executable.

use std::collections::BTreeSet;

use super::{Report, Verdict};

/// The longest template that is followed, bytes. Those of published models have up to 30,000.
pub(super) const MAX_BYTES: usize = 256 << 10;
/// The rule of all findings about templates.
pub(super) const RULE: &str = "chat-template";
/// Brackets within brackets.
const MAX_DEPTH: usize = 64;

const STATEMENTS: &[&str] = &[
    "break",
    "continue",
    "elif",
    "else",
    "endfilter",
    "endfor",
    "endgeneration",
    "endif",
    "endmacro",
    "endset",
    "filter",
    "for",
    "generation",
    "if",
    "macro",
    "set",
];

/// Words after which a parenthesis groups, and a bracket begins a list.
const KEYWORDS: &[&str] = &["and", "else", "if", "in", "is", "not", "or"];

const FUNCTIONS: &[&str] = &[
    "dict",
    "namespace",
    "raise_exception",
    "range",
    "strftime_now",
];

/// Globals of Jinja and of web frameworks with a way to Python's modules.
const FORBIDDEN: &[&str] = &[
    "caller",
    "cycler",
    "g",
    "get_flashed_messages",
    "joiner",
    "lipsum",
    "request",
    "self",
    "super",
    "url_for",
];

const METHODS: &[&str] = &[
    "capitalize",
    "count",
    "endswith",
    "find",
    "get",
    "index",
    "isalpha",
    "isdigit",
    "isspace",
    "isupper",
    "items",
    "join",
    "keys",
    "lower",
    "lstrip",
    "replace",
    "rfind",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "title",
    "upper",
    "values",
];

const FILTERS: &[&str] = &[
    "abs",
    "batch",
    "capitalize",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
    "wordcount",
];

const TESTS: &[&str] = &[
    "boolean",
    "defined",
    "divisibleby",
    "eq",
    "equalto",
    "even",
    "false",
    "float",
    "ge",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "None",
    "not",
    "number",
    "odd",
    "sameas",
    "sequence",
    "string",
    "true",
    "undefined",
    "upper",
    "True",
];

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
    let mut checker = Checker::default();
    if let Err(fault) = checker.template(text) {
        let at = u64::try_from(fault.at).unwrap_or(u64::MAX);
        let at = offset.saturating_add(at);
        report.add(Verdict::Executable, at, RULE, &fault.detail);
    }
}

/// What a template does that is not on a list, and where.
struct Fault {
    at: usize,
    detail: String,
}

/// A part of an expression.
#[derive(Debug, PartialEq, Eq)]
enum Token<'t> {
    Name(&'t str),
    Text(String),
    Number,
    /// One character of an operator, or a bracket.
    Sign(char),
}

use Token::{Name, Number, Sign, Text};

/// What is known of a template so far.
#[derive(Default)]
struct Checker<'t> {
    macros: BTreeSet<&'t str>,
    /// Names that the template gives values.
    variables: BTreeSet<&'t str>,
    /// Whether a subscript is a variable.
    has_computed_subscript: bool,
    /// Whether a text is a piece of a name of Python's internals.
    has_underscore_piece: bool,
}

impl<'t> Checker<'t> {
    fn template(&mut self, text: &'t str) -> Result<(), Fault> {
        let mut rest = text;
        while let Some(start) = next_tag(rest) {
            let (_, tag) = rest.split_at(start);
            let at = text.len().saturating_sub(tag.len());
            let fault = |detail: String| Fault { at, detail };
            let (mark, body) = tag.split_at(2);
            if mark == "{#" {
                let end = body.split_once("#}");
                rest = end
                    .ok_or_else(|| fault("a comment does not end".to_owned()))?
                    .1;
                continue;
            }
            let closing = if mark == "{{" { "}}" } else { "%}" };
            let (tokens, after) = tokens(body, closing).map_err(fault)?;
            let checked = if mark == "{{" {
                self.expression(&tokens)
            } else {
                self.statement(&tokens)
            };
            checked.map_err(fault)?;
            rest = after;
        }
        if self.has_computed_subscript && self.has_underscore_piece {
            let detail = "names with underscores are put together, and subscripts are variables";
            return Err(Fault {
                at: 0,
                detail: detail.to_owned(),
            });
        }
        Ok(())
    }

    fn statement(&mut self, tokens: &[Token<'t>]) -> Result<(), String> {
        let Some((Name(statement), rest)) = tokens.split_first() else {
            return Err("a statement has no name".to_owned());
        };
        if !STATEMENTS.contains(statement) {
            return Err(format!("the statement {statement}"));
        }
        match *statement {
            "macro" => {
                let Some((Name(name), arguments)) = rest.split_first() else {
                    return Err("a macro has no name".to_owned());
                };
                self.assign(arguments)?;
                if self.variables.contains(name) || name.starts_with('_') {
                    return Err(format!("the macro {name} is a variable, too"));
                }
                self.macros.insert(*name);
                self.expression(arguments)
            }
            "filter" => match rest {
                [Name(filter)] if FILTERS.contains(filter) => Ok(()),
                _ => Err("a filter over a block that is not on the list".to_owned()),
            },
            "set" => {
                let targets = rest.split(|token| matches!(token, Sign('=' | '|'))).next();
                self.assign(targets.unwrap_or_default())?;
                self.expression(rest)
            }
            "for" => {
                let targets = rest.split(|token| *token == Name("in")).next();
                self.assign(targets.unwrap_or_default())?;
                self.expression(rest)
            }
            _ => self.expression(rest),
        }
    }

    /// Notes names that get values. One that can be called must not be among them.
    fn assign(&mut self, targets: &[Token<'t>]) -> Result<(), String> {
        for target in targets {
            let Name(name) = target else { continue };
            if FUNCTIONS.contains(name) || self.macros.contains(name) {
                return Err(format!("the function {name} gets another value"));
            }
            self.variables.insert(*name);
        }
        Ok(())
    }

    fn expression(&mut self, tokens: &[Token<'t>]) -> Result<(), String> {
        for (index, token) in tokens.iter().enumerate() {
            let (before, from) = tokens.split_at(index);
            let after = from.get(1..).unwrap_or_default();
            match token {
                Name(name) => self.name(name, before, after)?,
                Text(text) => self.text(text, after)?,
                Sign('(') if matches!(before.last(), Some(Text(_) | Sign(']' | ')' | '}'))) => {
                    return Err("a call of a value that has no name".to_owned());
                }
                Sign('[') if is_value(before.last()) => self.subscript(after)?,
                Number | Sign(_) => {}
            }
        }
        Ok(())
    }

    fn name(&self, name: &str, before: &[Token<'t>], after: &[Token<'t>]) -> Result<(), String> {
        if name.contains("__") {
            return Err(format!("the name {name}"));
        }
        let is_call = after.first() == Some(&Sign('('));
        match before {
            [.., Sign('.')] => {
                if name.starts_with('_') || (is_call && !METHODS.contains(&name)) {
                    return Err(format!("the attribute {name}"));
                }
            }
            [.., Sign('|')] => {
                if !FILTERS.contains(&name) || !has_plain_arguments(name, after) {
                    return Err(format!("the filter {name}"));
                }
            }
            [.., Name("is")] | [.., Name("is"), Name("not")] => {
                if !TESTS.contains(&name) {
                    return Err(format!("the test {name}"));
                }
            }
            _ if FORBIDDEN.contains(&name) => return Err(format!("the global {name}")),
            _ => {
                let is_known = FUNCTIONS.contains(&name) || self.macros.contains(name);
                if is_call && !is_known && !KEYWORDS.contains(&name) {
                    return Err(format!("a call of {name}"));
                }
                let is_attribute = name == "attribute" && after.first() == Some(&Sign('='));
                if is_attribute && !matches!(after.get(1), Some(Text(_) | Number | Sign('='))) {
                    return Err("an attribute whose name is computed".to_owned());
                }
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &str, after: &[Token<'t>]) -> Result<(), String> {
        // Formats reach attributes, and make any character.
        if matches!(after.first(), Some(Sign('%' | '['))) {
            return Err("a text that is a format or has a subscript".to_owned());
        }
        if text.contains("__") || text.contains("._") || text == "attr" {
            return Err(format!("the text {text:?} is a name of Python's internals"));
        }
        self.has_underscore_piece |= text.starts_with('_') || text.ends_with('_');
        Ok(())
    }

    /// The tokens after the bracket of a subscript. Jinja takes a text there for an attribute.
    fn subscript(&mut self, after: &[Token<'t>]) -> Result<(), String> {
        if let [Text(key), Sign(']'), ..] = after {
            return if key.starts_with('_') {
                Err(format!("the subscript {key:?}"))
            } else {
                Ok(())
            };
        }
        let mut depth = 0_usize;
        for token in after {
            match token {
                Sign(']') if depth == 0 => break,
                Sign('[' | '(' | '{') => depth = depth.saturating_add(1),
                Sign(']' | ')' | '}') => depth = depth.saturating_sub(1),
                Text(_) | Sign('~') if depth == 0 => {
                    return Err("a subscript that is computed from a text".to_owned());
                }
                Name(name) if *name != "loop" => self.has_computed_subscript = true,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether a bracket after this token is a subscript.
fn is_value(token: Option<&Token<'_>>) -> bool {
    match token {
        Some(Name(name)) => !KEYWORDS.contains(name),
        Some(Text(_) | Number | Sign(']' | ')' | '}')) => true,
        Some(Sign(_)) | None => false,
    }
}

/// Whether a filter that applies another one, or reads an attribute, names it in the template.
fn has_plain_arguments(filter: &str, after: &[Token<'_>]) -> bool {
    match (filter, after) {
        ("map", [Sign('('), Text(applied), ..]) => FILTERS.contains(&applied.as_str()),
        ("map" | "groupby", [Sign('('), Name("attribute"), Sign('='), Text(_), ..]) => true,
        ("selectattr" | "rejectattr" | "groupby", [Sign('('), Text(_), ..]) => true,
        ("map" | "selectattr" | "rejectattr" | "groupby", _) => false,
        _ => true,
    }
}

/// Where the next tag begins.
fn next_tag(text: &str) -> Option<usize> {
    let pairs = text.as_bytes().windows(2);
    let mut pairs = pairs.enumerate();
    let found = pairs.find(|(_, pair)| matches!(pair, [b'{', b'{' | b'%' | b'#']));
    found.map(|(index, _)| index)
}

/// Splits the expression of a tag into tokens, up to its end, and answers the text after the tag.
fn tokens<'t>(body: &'t str, closing: &str) -> Result<(Vec<Token<'t>>, &'t str), String> {
    let mut tokens = Vec::new();
    let mut depth = 0_usize;
    let mut rest = body.strip_prefix(['-', '+']).unwrap_or(body);
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        if depth == 0 {
            let trimmed = rest.strip_prefix(['-', '+']).unwrap_or(rest);
            if let Some(after) = trimmed.strip_prefix(closing) {
                return Ok((tokens, after));
            }
        }
        let Some(first) = rest.chars().next() else {
            return Err("a tag does not end".to_owned());
        };
        match first {
            'a'..='z' | 'A'..='Z' | '_' => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
                tokens.push(Name(name));
                rest = after;
            }
            '0'..='9' => {
                rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
                tokens.push(Number);
            }
            '\'' | '"' => {
                let (text, after) = string(rest, first)?;
                tokens.push(Text(text));
                rest = after;
            }
            '(' | '[' | '{' => {
                depth = depth.saturating_add(1);
                if depth > MAX_DEPTH {
                    return Err("brackets are nested too deeply".to_owned());
                }
                tokens.push(Sign(first));
                rest = rest.strip_prefix(first).unwrap_or_default();
            }
            ')' | ']' | '}' => {
                let outer = depth.checked_sub(1);
                depth = outer.ok_or_else(|| "a bracket closes none".to_owned())?;
                tokens.push(Sign(first));
                rest = rest.strip_prefix(first).unwrap_or_default();
            }
            '+' | '-' | '*' | '/' | '%' | '~' | '=' | '!' | '<' | '>' | '.' | ':' | '|' | ',' => {
                tokens.push(Sign(first));
                rest = rest.strip_prefix(first).unwrap_or_default();
            }
            // Python normalises letters of other scripts in names.
            _ => return Err(format!("the character {first:?} in an expression")),
        }
    }
}

/// Reads a text with its escapes.
fn string(quoted: &str, quote: char) -> Result<(String, &str), String> {
    let mut text = String::new();
    let mut chars = quoted.chars();
    chars.next();
    while let Some(c) = chars.next() {
        if c == quote {
            return Ok((text, chars.as_str()));
        }
        if c != '\\' {
            text.push(c);
            continue;
        }
        let digits = match chars.next() {
            Some('n') => {
                text.push('\n');
                continue;
            }
            Some('t') => {
                text.push('\t');
                continue;
            }
            Some('r') => {
                text.push('\r');
                continue;
            }
            Some(c @ ('\\' | '\'' | '"')) => {
                text.push(c);
                continue;
            }
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            _ => return Err("an escape that hides a character".to_owned()),
        };
        let hexadecimal: String = chars.by_ref().take(digits).collect();
        let code = u32::from_str_radix(&hexadecimal, 16).ok();
        let code = code.and_then(char::from_u32);
        text.push(code.ok_or_else(|| "an escape of no character".to_owned())?);
    }
    Err("a text does not end".to_owned())
}

#[cfg(test)]
mod tests;
