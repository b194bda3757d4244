//! Splits a template into tags, and each tag into tokens, as the lexer of Jinja does.

/// Brackets within brackets, and expressions within expressions.
pub(super) const MAX_DEPTH: usize = 64;
/// Operators of two characters.
const PAIRS: [&str; 6] = ["==", "!=", ">=", "<=", "//", "**"];

/// A part of an expression.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token<'t> {
    Name(&'t str),
    Text(String),
    Number,
    /// An operator or a bracket.
    Sign(&'t str),
}

use Token::{Name, Number, Sign, Text};

/// What a template does that is not in the closed form, and where.
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) detail: String,
}

/// A statement or an expression of a template.
pub(super) struct Tag<'t> {
    /// Where it begins, in bytes.
    pub(super) at: usize,
    pub(super) is_statement: bool,
    pub(super) tokens: Vec<Token<'t>>,
}

/// All tags of a template, without comments.
pub(super) fn tags(text: &str) -> Result<Vec<Tag<'_>>, Fault> {
    let mut tags = Vec::new();
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
        let is_statement = mark == "{%";
        let closing = if is_statement { "%}" } else { "}}" };
        let (tokens, after) = tokens(body, closing).map_err(fault)?;
        tags.push(Tag {
            at,
            is_statement,
            tokens,
        });
        rest = after;
    }
    Ok(tags)
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
                rest = number(rest, tokens.last() == Some(&Sign(".")))?;
                tokens.push(Number);
            }
            '\'' | '"' => {
                let (text, after) = string(rest, first)?;
                tokens.push(Text(text));
                rest = after;
            }
            _ => {
                let (sign, after) = sign(rest, first)?;
                depth = match first {
                    '(' | '[' | '{' => depth.checked_add(1).filter(|depth| *depth <= MAX_DEPTH),
                    ')' | ']' | '}' => depth.checked_sub(1),
                    _ => Some(depth),
                }
                .ok_or_else(|| "brackets are nested too deeply, or close none".to_owned())?;
                tokens.push(Sign(sign));
                rest = after;
            }
        }
    }
}

/// Reads an operator or a bracket.
fn sign(text: &str, first: char) -> Result<(&str, &str), String> {
    let is_pair = PAIRS.iter().any(|pair| text.starts_with(pair));
    let is_one = matches!(
        first,
        '(' | ')' | '[' | ']' | '{' | '}' | ',' | '.' | ':' | '|'
    ) || matches!(first, '+' | '-' | '*' | '/' | '%' | '~' | '=' | '<' | '>');
    if is_pair {
        Ok(text.split_at(2))
    } else if is_one {
        Ok(text.split_at(1))
    } else {
        // Python normalises letters of other scripts in names.
        Err(format!("the character {first:?} in an expression"))
    }
}

/// Reads a decimal number, and answers the text after it. After a dot it is an index.
fn number(text: &str, is_index: bool) -> Result<&str, String> {
    let digits = |text: &str| text.len().saturating_sub(without_digits(text).len());
    let mut rest = without_digits(text);
    if !is_index {
        if let Some(fraction) = rest.strip_prefix('.').filter(|after| digits(after) > 0) {
            rest = without_digits(fraction);
        }
        if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
            let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits(exponent) > 0 {
                rest = without_digits(exponent);
            }
        }
    }
    if rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
        return Err("a number that is not decimal".to_owned());
    }
    Ok(rest)
}

fn without_digits(text: &str) -> &str {
    text.trim_start_matches(|c: char| c.is_ascii_digit())
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
