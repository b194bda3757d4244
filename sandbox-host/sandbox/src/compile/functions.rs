//! Compiled functions that pass between a compiler for authors and the program that started it.
//!
//! Cranelift finds a function by a digest of its own: of the function's code and of all settings.
//! Which functions a compiler is given, its caller decides ([`super::Compiler`]).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use wasmtime::CacheStore;

/// Bytes of Cranelift's digest of a function.
const KEY_BYTES: usize = 32;

/// The functions of one compilation.
#[derive(Debug, Default)]
pub(super) struct Functions {
    known: HashMap<[u8; KEY_BYTES], Vec<u8>>,
    /// Functions that were compiled because none were known, as the caller keeps them: key, length
    /// and code of each.
    added: Mutex<Vec<u8>>,
}

impl Functions {
    /// The functions that a caller kept. What is incomplete is left out.
    pub(super) fn of(mut kept: &[u8]) -> Self {
        let mut known = HashMap::new();
        while let Some((key, code, rest)) = first(kept) {
            known.insert(key, code.to_vec());
            kept = rest;
        }
        Self {
            known,
            added: Mutex::default(),
        }
    }

    /// The functions that were compiled, if none were known.
    pub(super) fn added(&self) -> Vec<u8> {
        std::mem::take(&mut *self.added.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The first function, and what follows.
fn first(kept: &[u8]) -> Option<([u8; KEY_BYTES], &[u8], &[u8])> {
    let (key, rest) = kept.split_first_chunk()?;
    let (count, rest) = rest.split_first_chunk()?;
    let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
    let (code, rest) = rest.split_at_checked(count)?;
    Some((*key, code, rest))
}

impl CacheStore for Functions {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let key: [u8; KEY_BYTES] = key.try_into().ok()?;
        self.known.get(&key).map(|code| Cow::from(code.as_slice()))
    }

    fn insert(&self, key: &[u8], code: Vec<u8>) -> bool {
        let (true, true, Ok(count)) = (
            self.known.is_empty(),
            key.len() == KEY_BYTES,
            u64::try_from(code.len()),
        ) else {
            return false;
        };
        let mut added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        for part in [key, &count.to_le_bytes(), code.as_slice()] {
            added.extend_from_slice(part);
        }
        true
    }
}

/// Functions and what comes with them in a message: the length of the first, and both.
pub(super) fn joined(first: &[u8], second: &[u8]) -> Vec<u8> {
    let count = u64::try_from(first.len()).unwrap_or(u64::MAX);
    [&count.to_le_bytes()[..], first, second].concat()
}

/// What [`joined`] joined.
pub(super) fn parted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*count)).ok()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use std::sync::Arc;

    use super::*;
    use crate::engine;

    const COMPONENT: &str = r#"(component (core module
        (memory 1) (data (i32.const 0) "DATA")
        (func (export "f") (param i32) (result i32) (i32.load (local.get 0)))
        (func (export "g") (result i32) (call 0 (i32.const 4)))))"#;

    fn compiled(data: &str, functions: &Arc<Functions>) -> Vec<u8> {
        let component = wat::parse_str(COMPONENT.replace("DATA", data)).unwrap();
        let known = Arc::clone(functions) as Arc<dyn CacheStore>;
        let engine = engine::compiler(Some(known)).unwrap();
        engine.precompile_component(&component).unwrap()
    }

    #[test]
    fn known_functions_give_the_same_code_and_are_not_compiled_again() {
        let none = Arc::new(Functions::default());
        compiled("one", &none);
        let kept = none.added();
        let known = Arc::new(Functions::of(&kept));
        assert!(known.known.len() >= 2);
        let fresh = compiled("other", &Arc::default());
        assert_eq!(compiled("other", &known), fresh);
        assert_eq!(known.added(), [0_u8; 0]);
        let message = joined(&kept, b"component");
        assert_eq!(parted(&message), Some((&kept[..], &b"component"[..])));
        assert_eq!(parted(message.get(..kept.len()).unwrap()), None);
        let cut = kept.len().saturating_sub(1);
        let cut = Functions::of(kept.get(..cut).unwrap());
        assert!(cut.known.len() <= known.known.len());
        assert!(cut.get(b"short").is_none());
    }
}
