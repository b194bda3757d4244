//! A caller's grammar: the EBNF of llama.cpp (GBNF), xgrammar and SGLang, and a subset of Lark's
//! notation (rules, texts, expressions). A server compiles the grammar, so it is limited by its
//! size after all rules and repetitions are expanded.
//!
//! Recursive rules are rejected: their expansion has no end, and servers may exhaust their stack.
//! Features that refer outside the grammar or that servers read differently are rejected too:
//! directives (`%import`, `%ignore`, `%json`), vocabulary tokens (`<think>`), look-aheads,
//! templates, priorities and flags.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::constraints::Grammars;
use crate::contract::pattern::{Expression, Fault, MAX_REPEATS, Meter};

/// Maximum depth of groups.
const MAX_DEPTH: usize = 16;
/// Maximum depth of expressions with rules expanded; a filter's VM has that much stack.
const MAX_HEIGHT: usize = 64;
/// Maximum number of expressions with rules expanded.
const MAX_EXPRESSIONS: usize = 16_384;
/// Bytes of a rule's name.
const MAX_NAME_BYTES: usize = 64;

/// A grammar notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notation {
    /// `root ::= "yes" | "no"`.
    Ebnf,
    /// `start: "yes" | "no"`.
    Lark,
}

impl Notation {
    /// The notation that servers with both choose for a text.
    pub(super) fn of(text: &str) -> Self {
        if text.contains(Self::Ebnf.defines()) {
            Self::Ebnf
        } else {
            Self::Lark
        }
    }

    const fn defines(self) -> &'static str {
        match self {
            Self::Ebnf => "::=",
            Self::Lark => ":",
        }
    }

    const fn root(self) -> &'static str {
        match self {
            Self::Ebnf => "root",
            Self::Lark => "start",
        }
    }
}

/// Checks a grammar.
pub(super) fn check(
    text: &str,
    notation: Notation,
    rule: &Grammars,
    meter: &mut Meter,
) -> Result<(), Fault> {
    if text.len() > rule.max_bytes {
        return Err("a grammar larger than the contract allows");
    }
    let mut reader = Reader {
        text,
        notation,
        meter,
    };
    let mut rules = BTreeMap::new();
    while let Some(name) = reader.definition() {
        let body = reader.any(0)?;
        if rules.insert(name, (body, Known::Unknown)).is_some() {
            return Err("a grammar has a rule twice");
        }
        if rules.len() > rule.max_rules {
            return Err("a grammar has more rules than the contract allows");
        }
    }
    if !reader.text.is_empty() {
        return Err("a grammar has something that no rule begins with");
    }
    if !rules.contains_key(notation.root()) {
        return Err("a grammar has no rule to begin with");
    }
    let names: Vec<&str> = rules.keys().copied().collect();
    let mut whole = Rules {
        rules,
        left: MAX_EXPRESSIONS,
    };
    // Unused rules are compiled too.
    for name in names {
        let expression = whole.of(name, 0)?;
        reader
            .meter
            .expression(&expression, notation == Notation::Lark)?;
    }
    Ok(())
}

/// Body of a rule.
#[derive(Clone, Debug)]
enum Body<'t> {
    Said(Expression),
    Rule(&'t str),
    All(Vec<Self>),
    Any(Vec<Self>),
    Repeat(alloc::boxed::Box<Self>, u32, Option<u32>),
}

/// State of a rule.
#[derive(Clone, Debug)]
enum Known {
    Unknown,
    /// The rule is being expanded: a reference now is recursive.
    Open,
    Whole(Expression),
}

/// Rules, each expanded once.
struct Rules<'t> {
    rules: BTreeMap<&'t str, (Body<'t>, Known)>,
    /// Remaining number of expressions.
    left: usize,
}

impl<'t> Rules<'t> {
    fn of(&mut self, name: &str, depth: usize) -> Result<Expression, Fault> {
        let place = self.rules.get_mut(name);
        let (body, known) = place.ok_or("a grammar names a rule that it has not")?;
        match known {
            Known::Open => return Err("a rule of a grammar reaches itself"),
            Known::Whole(expression) => return Ok(expression.clone()),
            Known::Unknown => *known = Known::Open,
        }
        let body = core::mem::replace(body, Body::All(Vec::new()));
        let expression = self.put(body, depth)?;
        if let Some((_, known)) = self.rules.get_mut(name) {
            *known = Known::Whole(expression.clone());
        }
        Ok(expression)
    }

    /// Expands at most [`MAX_HEIGHT`] levels. The height limit makes the verdict independent of the
    /// order of rules.
    fn put(&mut self, body: Body<'t>, depth: usize) -> Result<Expression, Fault> {
        let deeper = depth.saturating_add(1);
        let expression = match body {
            _ if depth > MAX_HEIGHT => return Err(DEEP),
            Body::Said(expression) => expression,
            Body::Rule(name) => {
                let expression = self.of(name, depth)?;
                let left = self.left.checked_sub(expression.size());
                self.left = left.ok_or("a grammar comes to too much")?;
                expression
            }
            Body::All(bodies) => Expression::all(self.each(bodies, deeper)?),
            Body::Any(bodies) => Expression::any(self.each(bodies, deeper)?),
            Body::Repeat(body, min, max) => {
                let expression = self.put(*body, deeper)?;
                if max.is_none() && expression.may_be_empty() {
                    return Err("in a grammar, what may be nothing is repeated without an end");
                }
                expression.repeated(min, max)
            }
        };
        if expression.height() > MAX_HEIGHT {
            return Err(DEEP);
        }
        Ok(expression)
    }

    fn each(&mut self, bodies: Vec<Body<'t>>, depth: usize) -> Result<Vec<Expression>, Fault> {
        let bodies = bodies.into_iter();
        bodies.map(|body| self.put(body, depth)).collect()
    }
}

const DEEP: Fault = "a grammar has too much inside itself";

/// Reads a text from its beginning.
struct Reader<'t, 'm> {
    text: &'t str,
    notation: Notation,
    meter: &'m mut Meter,
}

impl<'t> Reader<'t, '_> {
    /// Skips blanks and EBNF comments; other notations treat `#` differently.
    fn blanks(&mut self) {
        loop {
            self.text = self.text.trim_start_matches([' ', '\t', '\n', '\r']);
            match self.text.strip_prefix('#') {
                Some(comment) if self.notation == Notation::Ebnf => {
                    let end = comment.find('\n').unwrap_or(comment.len());
                    self.text = comment.get(end..).unwrap_or_default();
                }
                _ => return,
            }
        }
    }

    fn takes(&mut self, wanted: char) -> bool {
        let rest = self.text.strip_prefix(wanted);
        self.text = rest.unwrap_or(self.text);
        rest.is_some()
    }

    fn take(&mut self) -> Option<char> {
        let mut characters = self.text.chars();
        let character = characters.next();
        self.text = characters.as_str();
        character
    }

    /// Reads a name, if there is one.
    fn name(&mut self) -> Option<&'t str> {
        let ebnf = self.notation == Notation::Ebnf;
        let part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || ebnf && byte == b'-';
        let end = self.text.bytes().position(|byte| !part(byte));
        let (name, rest) = self.text.split_at_checked(end.unwrap_or(self.text.len()))?;
        let good = !name.starts_with(|first: char| !first.is_ascii_alphabetic() && first != '_');
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !good {
            return None;
        }
        self.text = rest;
        Some(name)
    }

    /// Reads the beginning of a rule and returns its name.
    fn definition(&mut self) -> Option<&'t str> {
        self.blanks();
        let before = self.text;
        let name = self.name()?;
        self.blanks();
        match self.text.strip_prefix(self.notation.defines()) {
            Some(rest) => {
                self.text = rest;
                Some(name)
            }
            None => {
                self.text = before;
                None
            }
        }
    }

    fn any(&mut self, depth: usize) -> Result<Body<'t>, Fault> {
        if depth > MAX_DEPTH {
            return Err("a grammar has too many groups inside groups");
        }
        let first = self.all(depth)?;
        if !self.text.starts_with('|') {
            return Ok(first);
        }
        let mut ways: Vec<Body<'t>> = [first].into();
        while self.takes('|') {
            ways.push(self.all(depth)?);
        }
        Ok(Body::Any(ways))
    }

    fn all(&mut self, depth: usize) -> Result<Body<'t>, Fault> {
        let mut parts = Vec::new();
        loop {
            self.blanks();
            let before = self.text;
            // The sequence ends where the next rule begins.
            if self.text.is_empty()
                || self.text.starts_with(['|', ')'])
                || self.definition().is_some()
            {
                self.text = before;
                return Ok(match parts.pop() {
                    Some(only) if parts.is_empty() => only,
                    last => {
                        parts.extend(last);
                        Body::All(parts)
                    }
                });
            }
            let part = self.one(depth)?;
            parts.push(self.repeated(part)?);
        }
    }

    fn one(&mut self, depth: usize) -> Result<Body<'t>, Fault> {
        if let Some(name) = self.name() {
            return Ok(Body::Rule(name));
        }
        match (self.take(), self.notation) {
            (Some('('), _) => {
                let body = self.any(depth.saturating_add(1))?;
                if self.takes(')') {
                    Ok(body)
                } else {
                    Err("a group of a grammar is not closed")
                }
            }
            (Some('"'), _) => self.literal(),
            (Some('['), Notation::Ebnf) => self.class(),
            (Some('.'), Notation::Ebnf) => Ok(Body::Said(Expression::one(Vec::new(), true))),
            (Some('/'), Notation::Lark) => self.expression(),
            _ => Err("a grammar has something that no rule may say"),
        }
    }

    fn repeated(&mut self, body: Body<'t>) -> Result<Body<'t>, Fault> {
        let (min, max) = match self.text.chars().next() {
            Some('?') => (0, Some(1)),
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('{') => {
                self.take();
                let (bounds, rest) = self.text.split_once('}').ok_or(BOUNDS)?;
                let (min, max) = match bounds.split_once(',') {
                    None => (number(bounds)?, Some(number(bounds)?)),
                    Some((min, "")) => (number(min)?, None),
                    Some((min, max)) => (number(min)?, Some(number(max)?)),
                };
                self.text = rest;
                if max.is_some_and(|max| max < min || max == 0) {
                    return Err(BOUNDS);
                }
                return self.once(Body::Repeat(body.into(), min, max));
            }
            _ => return Ok(body),
        };
        self.take();
        self.once(Body::Repeat(body.into(), min, max))
    }

    /// An expression that is not repeated again.
    fn once(&self, body: Body<'t>) -> Result<Body<'t>, Fault> {
        if self.text.starts_with(['?', '*', '+', '{', '~']) {
            return Err("in a grammar, a repeat is repeated");
        }
        Ok(body)
    }

    /// Reads the rest of a quoted text.
    fn literal(&mut self) -> Result<Body<'t>, Fault> {
        let mut parts = Vec::new();
        loop {
            let character = match self.take() {
                Some('"') => break,
                Some(character) => self.character(character)?,
                None => return Err("a text of a grammar is not closed"),
            };
            let point = u32::from(character);
            parts.push(Expression::one([(point, point)].into(), false));
        }
        // Some servers read a letter after the quote as a flag.
        if self
            .text
            .starts_with(|next: char| next.is_alphanumeric() || next == '_')
        {
            return Err("a text of a grammar has flags");
        }
        Ok(Body::Said(Expression::all(parts)))
    }

    /// A character of a text or class, escaped or not.
    fn character(&mut self, first: char) -> Result<char, Fault> {
        const UNKNOWN: Fault = "a grammar has an escape that servers read differently";
        if first.is_control() {
            return Err("a text of a grammar has a control character");
        }
        if first != '\\' {
            return Ok(first);
        }
        let digits = match self.take() {
            Some('n') => return Ok('\n'),
            Some('r') => return Ok('\r'),
            Some('t') => return Ok('\t'),
            Some(same @ ('"' | '\\' | '[' | ']' | '-' | '^')) => return Ok(same),
            Some('x') => 2,
            Some('u') => 4,
            _ => return Err(UNKNOWN),
        };
        let (digits, rest) = self.text.split_at_checked(digits).ok_or(UNKNOWN)?;
        self.text = rest;
        let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let point = u32::from_str_radix(digits, 16).ok().filter(|_| plain);
        point.and_then(char::from_u32).ok_or(UNKNOWN)
    }

    /// Reads the rest of a character class.
    fn class(&mut self) -> Result<Body<'t>, Fault> {
        const OPEN: Fault = "a class of a grammar is not closed";
        let others = self.takes('^');
        let mut set = Vec::new();
        loop {
            let first = match self.take().ok_or(OPEN)? {
                ']' => break,
                '[' => return Err("a class of a grammar has a [ in it"),
                first => u32::from(self.character(first)?),
            };
            if !self.text.starts_with('-') || self.text.starts_with("-]") {
                set.push((first, first));
                continue;
            }
            self.take();
            let last = self.take().filter(|last| *last != '[').ok_or(OPEN)?;
            let last = u32::from(self.character(last)?);
            if last < first {
                return Err("a class of a grammar has a range the wrong way round");
            }
            set.push((first, last));
        }
        if set.is_empty() {
            return Err("a class of a grammar has no characters");
        }
        Ok(Body::Said(Expression::one(set, others)))
    }

    /// Reads the rest of an expression between slashes.
    fn expression(&mut self) -> Result<Body<'t>, Fault> {
        let mut escaped = false;
        let end = self.text.find(|character| {
            let ends = character == '/' && !escaped;
            escaped = character == '\\' && !escaped;
            ends
        });
        let parts = end.and_then(|end| self.text.split_at_checked(end));
        let (text, rest) = parts.ok_or("an expression of a grammar is not closed")?;
        self.text = rest.strip_prefix('/').unwrap_or(rest);
        if self
            .text
            .starts_with(|next: char| next.is_alphanumeric() || next == '_')
        {
            return Err("an expression of a grammar has flags");
        }
        Ok(Body::Said(self.meter.read(text)?))
    }
}

const BOUNDS: Fault = "a repeat of a grammar is not {m}, {m,} or {m,n} within the bounds";

/// Reads a repetition bound.
fn number(digits: &str) -> Result<u32, Fault> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| plain);
    number.filter(|number| *number <= MAX_REPEATS).ok_or(BOUNDS)
}
