//! JSON numbers: their text, held to RFC 8259's grammar. Nothing is rounded here: a datatype decides what a text means.

use super::scan::Scanner;
use crate::fault::BodyFault;
use crate::limits::PLAIN_DIGITS;

/// A number's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number<'a> {
    /// As written: an optional minus, digits without a leading zero, then fraction and exponent.
    pub(super) text: &'a str,
    /// Neither fraction nor exponent, and not `-0`, which is a float to some parsers.
    pub(super) integer: bool,
}

impl Number<'_> {
    /// Whether it has more significant digits than an integer of 64 bits holds: a float's rounding then leaves its fast path, and
    /// one number can cost as much as a thousand.
    pub(super) fn is_long(&self) -> bool {
        // Most are shorter than that whatever their characters are.
        self.text.len() > PLAIN_DIGITS
            && self
                .text
                .bytes()
                .take_while(|byte| !matches!(byte, b'e' | b'E'))
                .filter(u8::is_ascii_digit)
                .skip_while(|byte| *byte == b'0')
                .count()
                > PLAIN_DIGITS
    }
}

impl<'a> Scanner<'a> {
    /// Takes a number.
    pub(super) fn number(&mut self) -> Result<Number<'a>, BodyFault> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.step();
        }
        let zero = self.peek() == Some(b'0');
        if zero {
            self.step();
        } else {
            self.digits()?;
        }
        let mut integer = true;
        if self.peek() == Some(b'.') {
            integer = false;
            self.step();
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            integer = false;
            self.step();
            if let Some(b'+' | b'-') = self.peek() {
                self.step();
            }
            self.digits()?;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        // What follows is checked by whoever takes the next token: a leading zero's second digit is no comma.
        Ok(Number {
            text,
            integer: integer && text != "-0",
        })
    }

    fn digits(&mut self) -> Result<(), BodyFault> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.form("a digit is expected"));
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.step();
        }
        Ok(())
    }
}
