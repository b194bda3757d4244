//! A strict scanner of RFC 8259 over valid UTF-8: blanks, punctuation, nesting, whole values. The
//! depth is limited; strings and numbers have their own files.

use std::borrow::Cow;

use super::number::{Number, walk};
use crate::fault::BodyFault;
use crate::limits::{MAX_JSON_DEPTH, MAX_SCHEMA_JSON_DEPTH};

// Scanning a value takes a bit for each level.
const _: () = assert!(MAX_JSON_DEPTH <= 128 && MAX_SCHEMA_JSON_DEPTH <= 128);

/// A position in a document.
pub(super) struct Scanner<'a> {
    pub(super) text: &'a str,
    /// The next byte; never beyond the end, so stepping over a seen byte cannot overflow.
    pub(super) at: usize,
    depth: usize,
    /// Maximum depth of what is read now.
    max_depth: usize,
}

/// The text behind a comma and at most one blank. `None` if it begins with something else.
#[inline(always)]
pub(super) fn behind_comma(text: &[u8]) -> Option<&[u8]> {
    match text {
        [b',', b' ', behind @ ..] | [b',', behind @ ..] => Some(behind),
        _ => None,
    }
}

/// What may follow in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The first value, or the end.
    First,
    /// A value.
    Value,
    /// A comma, or the end.
    Separator,
}

impl<'a> Scanner<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            depth: 0,
            max_depth: MAX_JSON_DEPTH,
        }
    }

    /// A scanner of a whole body.
    pub(super) fn over(body: &'a [u8]) -> Result<Self, BodyFault> {
        let text = str::from_utf8(body).map_err(|error| BodyFault::Form {
            what: "not UTF-8",
            at: error.valid_up_to(),
        })?;
        Ok(Self::new(text))
    }

    pub(super) fn form(&self, what: &'static str) -> BodyFault {
        BodyFault::Form { what, at: self.at }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Steps over a byte that [`Self::peek`] has returned.
    pub(super) const fn step(&mut self) {
        self.at = self.at.wrapping_add(1);
    }

    /// The next non-blank byte.
    pub(super) fn token(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.step();
        }
        self.peek()
    }

    /// Steps over a comma, and a blank behind it, if a scalar follows; otherwise stays.
    pub(super) fn next_scalar(&mut self) -> bool {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let Some(next) = behind_comma(rest) else {
            return false;
        };
        let is_scalar = matches!(next, [b'-' | b'0'..=b'9' | b'"' | b't' | b'f', ..]);
        if is_scalar {
            self.at = self.text.len().wrapping_sub(next.len());
        }
        is_scalar
    }

    pub(super) fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), BodyFault> {
        if self.token() != Some(byte) {
            return Err(self.form(what));
        }
        self.step();
        Ok(())
    }

    /// Checks that nothing follows.
    pub(super) fn end(&mut self) -> Result<(), BodyFault> {
        if self.token().is_some() {
            return Err(self.form("something follows the document"));
        }
        Ok(())
    }

    /// Reads something that may nest to another depth, the document included.
    pub(super) fn within_depth<T>(
        &mut self,
        max_depth: usize,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let outside = std::mem::replace(&mut self.max_depth, max_depth);
        let result = read(self);
        self.max_depth = outside;
        result
    }

    fn enter(&mut self) -> Result<(), BodyFault> {
        self.depth = self.depth.wrapping_add(1);
        if self.depth > self.max_depth {
            return Err(BodyFault::Deep {
                max: self.max_depth,
                at: self.at,
            });
        }
        self.step();
        Ok(())
    }

    const fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.step();
    }

    /// Steps into the list or object whose bracket is next. Returns whether it has a value; one
    /// without is closed.
    pub(super) fn open(&mut self, closing: u8) -> Result<bool, BodyFault> {
        self.enter()?;
        let is_empty = self.token() == Some(closing);
        if is_empty {
            self.leave();
        }
        Ok(!is_empty)
    }

    /// Steps over what follows a value of a list or an object. Returns whether another value
    /// comes.
    pub(super) fn has_next(&mut self, in_object: bool) -> Result<bool, BodyFault> {
        match (self.token(), in_object) {
            (Some(b','), _) => {
                self.step();
                Ok(true)
            }
            (Some(b'}'), true) | (Some(b']'), false) => {
                self.leave();
                Ok(false)
            }
            (_, true) => Err(self.form("a comma or a closing brace is expected")),
            (_, false) => Err(self.form("a comma or a closing bracket is expected")),
        }
    }

    /// Reads the key of a member, and its colon.
    pub(super) fn key(&mut self) -> Result<Cow<'a, str>, BodyFault> {
        self.key_by(Self::string)
    }

    fn key_by<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, BodyFault>,
    ) -> Result<T, BodyFault> {
        if self.token() != Some(b'"') {
            return Err(self.form("a key is expected"));
        }
        let key = read(self)?;
        self.expect(b':', "a colon is expected")?;
        Ok(key)
    }

    /// Passes every member of an object to `member`, which reads the value.
    pub(super) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Cow<'a, str>) -> Result<(), BodyFault>,
    ) -> Result<(), BodyFault> {
        if self.token() != Some(b'{') {
            return Err(self.other("an object is expected"));
        }
        let mut has_next = self.open(b'}')?;
        while has_next {
            let key = self.key()?;
            member(self, key)?;
            has_next = self.has_next(true)?;
        }
        Ok(())
    }

    /// Passes every element of an array to `element`, which reads it.
    pub(super) fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), BodyFault>,
    ) -> Result<(), BodyFault> {
        if self.token() != Some(b'[') {
            return Err(self.other("a list is expected"));
        }
        let mut has_next = self.open(b']')?;
        while has_next {
            element(self)?;
            has_next = self.has_next(false)?;
        }
        Ok(())
    }

    /// The fault of a value of the wrong type. It is scanned first, so that excessive depth is
    /// reported as such.
    pub(super) fn other(&mut self, what: &'static str) -> BodyFault {
        let fault = self.form(what);
        self.value().err().unwrap_or(fault)
    }

    /// Scans one value of any type and returns whether it contains an object. It does not recurse,
    /// so that depth costs no stack.
    pub(super) fn value(&mut self) -> Result<bool, BodyFault> {
        let outside = self.depth;
        let mut objects = false;
        // A bit for each open list and object, the innermost last; it is set for an object.
        let mut open = 0_u128;
        loop {
            let opened: Option<u128> = match self.token() {
                Some(b'[') => self.open(b']')?.then_some(0),
                Some(b'{') => {
                    objects = true;
                    self.open(b'}')?.then_some(1)
                }
                Some(b'"') => self.skip_string().map(|()| None)?,
                Some(b'-' | b'0'..=b'9') => self.number().map(|_| None)?,
                _ => self.word().map(|_| None)?,
            };
            if let Some(bit) = opened {
                open = open << 1 | bit;
            } else {
                // A value has ended, and maybe some that it is the last one of.
                loop {
                    if self.depth == outside {
                        return Ok(objects);
                    }
                    if self.has_next(open & 1 == 1)? {
                        break;
                    }
                    open >>= 1;
                }
            }
            if open & 1 == 1 {
                self.key_by(Self::skip_string)?;
            }
        }
    }

    /// Scans the rest of `open` nested lists and returns whether it contains an object. `next` is
    /// the state of the innermost list.
    pub(super) fn rest_of_lists(&mut self, open: usize, mut next: Next) -> Result<bool, BodyFault> {
        let outside = self.depth;
        self.depth = outside.wrapping_add(open);
        let mut objects = false;
        while self.depth > outside {
            let token = self.token();
            match (next, token) {
                (Next::First | Next::Separator, Some(b']')) => {
                    self.leave();
                    next = Next::Separator;
                }
                (Next::Separator, Some(b',')) => {
                    self.step();
                    next = Next::Value;
                }
                (Next::Separator, _) => {
                    return Err(self.form("a comma or a closing bracket is expected"));
                }
                (Next::First | Next::Value, _) => {
                    objects |= self.value()?;
                    next = Next::Separator;
                }
            }
        }
        Ok(objects)
    }

    /// Reads a number.
    pub(super) fn number(&mut self) -> Result<Number<'a>, BodyFault> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        match walk(rest) {
            Ok((number, behind)) => {
                self.at = self.text.len().wrapping_sub(behind.len());
                Ok(number)
            }
            Err(position) => {
                self.at = self.at.wrapping_add(position);
                Err(self.form("a digit is expected"))
            }
        }
    }

    /// Reads `true`, `false` or `null`; the last is `None`.
    pub(super) fn word(&mut self) -> Result<Option<bool>, BodyFault> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        for (word, value) in [("true", Some(true)), ("false", Some(false)), ("null", None)] {
            if rest.starts_with(word.as_bytes()) {
                self.at = self.at.wrapping_add(word.len());
                return Ok(value);
            }
        }
        Err(self.form("a value is expected"))
    }
}
