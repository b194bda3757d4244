//! Reads the tokens of a tag one after the other.

use super::scope::Scope;
use super::token::Token;

use Token::{Name, Sign};

/// The tokens of one tag, and how many of them were read.
pub(super) struct Reader<'t, 'a> {
    pub(super) tokens: &'a [Token<'t>],
    pub(super) position: usize,
    /// Expressions around the next token.
    pub(super) depth: usize,
    pub(super) scope: &'a mut Scope<'t>,
}

impl<'t, 'a> Reader<'t, 'a> {
    pub(super) const fn new(tokens: &'a [Token<'t>], scope: &'a mut Scope<'t>) -> Self {
        Self {
            tokens,
            position: 0,
            depth: 0,
            scope,
        }
    }

    /// The tokens from a position up to the next one.
    pub(super) fn since(&self, start: usize) -> &'a [Token<'t>] {
        self.tokens.get(start..self.position).unwrap_or_default()
    }

    /// The tokens that were not read.
    pub(super) fn rest(&self) -> &'a [Token<'t>] {
        self.tokens.get(self.position..).unwrap_or_default()
    }

    pub(super) const fn advance(&mut self) {
        self.position = self.position.saturating_add(1);
    }

    pub(super) fn is_sign(&self, sign: &str) -> bool {
        matches!(self.rest(), [Sign(found), ..] if *found == sign)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.rest(), [Name(found), ..] if *found == name)
    }

    pub(super) fn skip_sign(&mut self, sign: &str) -> bool {
        self.operator(&[sign]).is_some()
    }

    pub(super) fn skip_name(&mut self, name: &str) -> bool {
        let is_there = self.is_name(name);
        if is_there {
            self.advance();
        }
        is_there
    }

    /// Reads one of these operators.
    pub(super) fn operator(&mut self, operators: &[&str]) -> Option<&'t str> {
        match self.rest() {
            [Sign(found), ..] if operators.contains(found) => {
                self.advance();
                Some(*found)
            }
            _ => None,
        }
    }

    pub(super) fn expect_sign(&mut self, sign: &str) -> Result<(), String> {
        if self.skip_sign(sign) {
            Ok(())
        } else {
            Err(format!("no {sign} where the grammar has one"))
        }
    }

    pub(super) fn name(&mut self) -> Result<&'t str, String> {
        match self.rest() {
            [Name(name), ..] => {
                self.advance();
                Ok(*name)
            }
            _ => Err("no name where the grammar has one".to_owned()),
        }
    }

    /// Whether the value that began at a token is only assigned, passed on, or looked for.
    pub(super) fn is_alone(&self, start: usize) -> bool {
        let before = start.checked_sub(1).and_then(|at| self.tokens.get(at));
        let is_defined = matches!(
            self.rest(),
            [Name("is"), Name("defined"), ..] | [Name("is"), Name("not"), Name("defined"), ..]
        );
        is_defined
            || (matches!(before, Some(Sign("(" | "," | "=")))
                && matches!(self.rest(), [] | [Sign(")" | ","), ..]))
    }

    /// Checks that all tokens were read.
    pub(super) fn end(&self) -> Result<(), String> {
        if self.rest().is_empty() {
            Ok(())
        } else {
            Err("an expression goes on after its end".to_owned())
        }
    }
}
