//! A strict scanner of RFC 8259 over valid UTF-8: blanks, punctuation, nesting, whole values. It knows no fields. Depth is bounded
//! as it goes; strings and numbers have files of their own.

use std::borrow::Cow;

use crate::fault::BodyFault;
use crate::limits::MAX_JSON_DEPTH;

/// A place in a document.
pub(super) struct Scanner<'a> {
    pub(super) text: &'a str,
    /// The next byte; never past the end, so that stepping over a byte that was seen cannot overflow.
    pub(super) at: usize,
    depth: usize,
}

/// What may be next in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Its first value, or its end.
    First,
    /// A value.
    Value,
    /// A comma, or its end.
    Separator,
}

impl<'a> Scanner<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            depth: 0,
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

    /// Steps over a byte that [`Self::peek`] has seen.
    pub(super) const fn step(&mut self) {
        self.at = self.at.wrapping_add(1);
    }

    /// The next byte that is not blank.
    pub(super) fn token(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.step();
        }
        self.peek()
    }

    /// Steps over a comma that a number, a string, `true` or `false` follows without a blank; anything else stays.
    pub(super) fn next_scalar(&mut self) -> bool {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let next = matches!(rest, [b',', b'-' | b'0'..=b'9' | b'"' | b't' | b'f', ..]);
        if next {
            self.step();
        }
        next
    }

    pub(super) fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), BodyFault> {
        if self.token() != Some(byte) {
            return Err(self.form(what));
        }
        self.step();
        Ok(())
    }

    /// That nothing follows.
    pub(super) fn end(&mut self) -> Result<(), BodyFault> {
        if self.token().is_some() {
            return Err(self.form("something follows the document"));
        }
        Ok(())
    }

    fn enter(&mut self) -> Result<(), BodyFault> {
        self.depth = self.depth.wrapping_add(1);
        if self.depth > MAX_JSON_DEPTH {
            return Err(BodyFault::Deep { at: self.at });
        }
        self.step();
        Ok(())
    }

    const fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.step();
    }

    /// Hands every member of an object to `member`, which takes the value.
    pub(super) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Cow<'a, str>) -> Result<(), BodyFault>,
    ) -> Result<(), BodyFault> {
        self.open(b'{', "an object is expected")?;
        if self.token() == Some(b'}') {
            self.leave();
            return Ok(());
        }
        loop {
            if self.token() != Some(b'"') {
                return Err(self.form("a key is expected"));
            }
            let key = self.string()?;
            self.expect(b':', "a colon is expected")?;
            member(self, key)?;
            match self.token() {
                Some(b',') => self.step(),
                Some(b'}') => {
                    self.leave();
                    return Ok(());
                }
                _ => return Err(self.form("a comma or a closing brace is expected")),
            }
        }
    }

    /// Hands every element of an array to `element`, which takes it.
    pub(super) fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), BodyFault>,
    ) -> Result<(), BodyFault> {
        self.open(b'[', "a list is expected")?;
        if self.token() == Some(b']') {
            self.leave();
            return Ok(());
        }
        loop {
            element(self)?;
            match self.token() {
                Some(b',') => self.step(),
                Some(b']') => {
                    self.leave();
                    return Ok(());
                }
                _ => return Err(self.form("a comma or a closing bracket is expected")),
            }
        }
    }

    fn open(&mut self, bracket: u8, what: &'static str) -> Result<(), BodyFault> {
        if self.token() != Some(bracket) {
            return Err(self.other(what));
        }
        self.enter()
    }

    /// The fault of a value of another kind than expected. It is scanned first, so that what is also too deep is called so.
    pub(super) fn other(&mut self, what: &'static str) -> BodyFault {
        let fault = self.form(what);
        self.value().err().unwrap_or(fault)
    }

    /// Scans one value of any kind and says whether there is an object in it.
    pub(super) fn value(&mut self) -> Result<bool, BodyFault> {
        match self.token() {
            Some(b'[') => {
                let mut objects = false;
                self.array(|scanner| {
                    objects |= scanner.value()?;
                    Ok(())
                })?;
                Ok(objects)
            }
            Some(b'{') => {
                self.object(|scanner, _| scanner.value().map(drop))?;
                Ok(true)
            }
            Some(b'"') => self.skip_string().map(|()| false),
            Some(b'-' | b'0'..=b'9') => self.number().map(|_| false),
            _ => self.word().map(|_| false),
        }
    }

    /// Scans what is left of so many lists, each but the first in the one before, and says whether there is an object in it. Whoever opened them
    /// did not count them; `next` is of the innermost.
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

    /// Takes `true`, `false` or `null`; the last is `None`.
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
