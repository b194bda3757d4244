//! The stack of an unpickler, with its marks.

use super::operation::Stop;
use super::value::Value;

/// Values on the stack, and marks.
const MAX_VALUES: usize = 300_000;
/// What an operation gets that needs more values than there are.
const UNDERFLOW: Stop = Stop::Malformed("an operation needs a value that is not on the stack");

/// Values above the last mark can be taken; those below can be taken when the mark is gone.
#[derive(Default)]
pub(super) struct Stack {
    values: Vec<Value>,
    marks: Vec<usize>,
}

impl Stack {
    /// Nothing is on the stack, and no mark.
    pub(super) const fn is_empty(&self) -> bool {
        self.values.is_empty() && self.marks.is_empty()
    }

    /// Removes all values and marks.
    pub(super) fn clear(&mut self) {
        self.values.clear();
        self.marks.clear();
    }

    fn above_mark(&self) -> bool {
        self.values.len() > self.marks.last().copied().unwrap_or_default()
    }

    /// Puts a value on top.
    pub(super) fn push(&mut self, value: Value) -> Result<(), Stop> {
        if self.values.len() >= MAX_VALUES {
            return Err(Stop::Limit("the stack has more than 300,000 values"));
        }
        self.values.push(value);
        Ok(())
    }

    /// The value on top.
    pub(super) fn top(&self) -> Result<&Value, Stop> {
        let top = self.values.last().filter(|_| self.above_mark());
        top.ok_or(UNDERFLOW)
    }

    /// Takes the value on top.
    pub(super) fn pop(&mut self) -> Result<Value, Stop> {
        if !self.above_mark() {
            return Err(UNDERFLOW);
        }
        self.values.pop().ok_or(UNDERFLOW)
    }

    /// Sets a mark.
    pub(super) fn mark(&mut self) -> Result<(), Stop> {
        if self.marks.len() >= MAX_VALUES {
            return Err(Stop::Limit("the stack has more than 300,000 marks"));
        }
        self.marks.push(self.values.len());
        Ok(())
    }

    /// Takes the last mark and all values above it.
    pub(super) fn pop_mark(&mut self) -> Result<Vec<Value>, Stop> {
        let no_mark = Stop::Malformed("an operation needs a mark that is not on the stack");
        let mark = self.marks.pop().ok_or(no_mark)?;
        Ok(self.values.split_off(mark.min(self.values.len())))
    }

    /// Takes the value on top, or the mark if nothing is above it.
    pub(super) fn pop_any(&mut self) -> Result<(), Stop> {
        if self.marks.last() == Some(&self.values.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }
}
