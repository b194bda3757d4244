//! The memo of an unpickler: numbered values that a pickle stores and takes again.
//!
//! Each pickle of a stream has a memo of its own if the loader calls `pickle.load` again, and the
//! memo of the ones before if it calls `load` of the same unpickler. Both are followed. A value
//! that would be another one in the other memo is not known.

use std::collections::HashMap;

use super::operation::Stop;
use super::value::Value;

/// Values in both memos together.
const MAX_ENTRIES: usize = 450_000;
/// The greatest usual number of a value. CPython's unpickler makes room for 16 bytes a number up to
/// it; the one in Python makes none, and goes on.
const MAX_USUAL_INDEX: u32 = 1 << 24;

/// The memo of the current pickle, and that of a loader that keeps its memo.
#[derive(Default)]
pub(super) struct Memo {
    own: HashMap<u32, Value>,
    /// Nothing while the first pickle runs, because it would be the same.
    shared: Option<HashMap<u32, Value>>,
}

impl Memo {
    /// Another pickle of the stream begins.
    pub(super) fn next_pickle(&mut self) {
        let own = std::mem::take(&mut self.own);
        if self.shared.is_none() {
            self.shared = Some(own);
        }
    }

    /// Stores a value under a number. Returns whether the number is so high that some unpicklers
    /// run out of memory.
    pub(super) fn put(&mut self, index: i64, value: Value) -> Result<bool, Stop> {
        let index = u32::try_from(index).map_err(|_| Stop::Ambiguous("no memo has this number"))?;
        self.check_room()?;
        if let Some(shared) = &mut self.shared {
            shared.insert(index, value.clone());
        }
        self.own.insert(index, value);
        Ok(index > MAX_USUAL_INDEX)
    }

    /// Stores a value under the number of values. An earlier PUT can have used that number.
    pub(super) fn memoize(&mut self, value: Value) -> Result<(), Stop> {
        self.check_room()?;
        if let Some(shared) = &mut self.shared {
            append(shared, value.clone());
        }
        append(&mut self.own, value);
        Ok(())
    }

    fn check_room(&self) -> Result<(), Stop> {
        let shared = self.shared.as_ref().map_or(0, HashMap::len);
        if self.own.len().saturating_add(shared) >= MAX_ENTRIES {
            return Err(Stop::Limit("the memo has more than 450,000 values"));
        }
        Ok(())
    }

    /// The value under a number.
    pub(super) fn get(&self, index: i64) -> Result<Value, Stop> {
        let missing = Stop::Malformed("the memo has no value of this number");
        let Ok(index) = u32::try_from(index) else {
            return Err(missing);
        };
        let other = self.shared.as_ref().and_then(|shared| shared.get(&index));
        let Some(own) = self.own.get(&index) else {
            return Err(match other {
                Some(_) => Stop::Ambiguous("only the memo of an earlier pickle has this number"),
                None => missing,
            });
        };
        if other.is_some_and(|other| own != other) {
            return Ok(Value::Opaque);
        }
        Ok(own.clone())
    }
}

fn append(memo: &mut HashMap<u32, Value>, value: Value) {
    let index = u32::try_from(memo.len()).unwrap_or(u32::MAX);
    memo.insert(index, value);
}
