//! The memory of an interpreter between two calls, which is its whole state: its only variable
//! global, the stack pointer, then has its first value.

use tensorgate_componentize::python::{BLOCK_BYTES, used_blocks};

/// Bytes of a page of WebAssembly.
const PAGE_BYTES: usize = 64 << 10;

/// A state of the interpreter.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The address of the block through which a call exchanges values with its host, or 0.
    pub exchange: u32,
    /// The address of the function that a call starts with, or 0.
    pub entry: u32,
    /// The memory.
    pub memory: Vec<u8>,
}

impl Snapshot {
    /// The state before the interpreter has run, whose memory has so many pages and these segments
    /// by their addresses. `None` if one is outside of it.
    pub fn new(segments: &[(u32, &[u8])], pages: u64) -> Option<Self> {
        let bytes = usize::try_from(pages).ok()?.checked_mul(PAGE_BYTES)?;
        let mut memory = vec![0; bytes];
        for (at, content) in segments {
            let start = usize::try_from(*at).ok()?;
            let target = memory.get_mut(start..)?.get_mut(..content.len())?;
            target.copy_from_slice(content);
        }
        Some(Self {
            exchange: 0,
            entry: 0,
            memory,
        })
    }

    /// The state as bytes: three numbers, and each block that is not zero, after its number.
    pub fn to_bytes(&self) -> Vec<u8> {
        let blocks = self.memory.len().div_ceil(BLOCK_BYTES);
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        let numbers = [self.exchange, self.entry, blocks];
        let mut bytes: Vec<u8> = numbers.into_iter().flat_map(u32::to_le_bytes).collect();
        for (index, block) in used_blocks(&self.memory) {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&index.to_le_bytes());
            bytes.extend_from_slice(block);
        }
        bytes
    }

    /// The state of [`Self::to_bytes`]; `None` for other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.split_at_checked(12)?;
        let (numbers, _) = numbers.as_chunks::<4>();
        let &[exchange, entry, blocks] = numbers else {
            return None;
        };
        let blocks = usize::try_from(u32::from_le_bytes(blocks)).ok()?;
        let mut memory = vec![0; blocks.checked_mul(BLOCK_BYTES)?];
        let (stored, cut) = rest.as_chunks::<{ BLOCK_BYTES + 4 }>();
        if !cut.is_empty() {
            return None;
        }
        for block in stored {
            let (index, content) = block.split_first_chunk::<4>()?;
            let index = usize::try_from(u32::from_le_bytes(*index)).ok()?;
            let start = index.checked_mul(BLOCK_BYTES)?;
            let target = memory.get_mut(start..)?.get_mut(..content.len())?;
            target.copy_from_slice(content);
        }
        Some(Self {
            exchange: u32::from_le_bytes(exchange),
            entry: u32::from_le_bytes(entry),
            memory,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_state_is_read_back() {
        let segments = [(70_000, &b"data"[..]), (65_536, &b"more"[..])];
        assert!(Snapshot::new(&segments, 1).is_none());
        let mut state = Snapshot::new(&segments, 2).unwrap();
        assert_eq!(state.memory.len(), 131_072);
        state.entry = 7;
        let bytes = state.to_bytes();
        assert_eq!(Snapshot::from_bytes(&bytes).unwrap(), state);
        assert!(bytes.len() < 20_000, "zeros are left out");
        let end = bytes.len().saturating_sub(1);
        for length in [5, 17, end] {
            let cut = bytes.get(..length).unwrap();
            assert_eq!(Snapshot::from_bytes(cut), None, "{length} bytes");
        }
    }
}
