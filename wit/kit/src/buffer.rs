//! Bytes that lie where elements of any type may: memory is asked for, and its lack is a failure, not the end of the call.

use bytemuck::Pod;

use crate::failure::{Failure, room};

/// Bytes of a word.
const WORD: usize = 8;

/// Memory of a known length, aligned for eight-byte elements.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffer {
    words: Vec<u64>,
    /// Bytes in use.
    len: usize,
}

impl Buffer {
    /// Zeros.
    ///
    /// # Errors
    /// If there is no room.
    pub(crate) fn zeroed(len: usize) -> Result<Self, Failure> {
        let count = len.div_ceil(WORD);
        let mut words = Vec::new();
        words
            .try_reserve_exact(count)
            .map_err(|_| room(format!("no room for {len} bytes")))?;
        words.resize(count, 0);
        Ok(Self { words, len })
    }

    /// Zeros, as many elements.
    pub(crate) fn of<T: Pod>(count: usize) -> Result<Self, Failure> {
        let bytes = count
            .checked_mul(size_of::<T>())
            .ok_or_else(|| room("more bytes than can be counted"))?;
        Self::zeroed(bytes)
    }

    /// Words, of which so many bytes count: all, but for some of the last one's.
    pub(crate) const fn of_words(words: Vec<u64>, len: usize) -> Self {
        Self { words, len }
    }

    /// The words, the last filled up with zeros.
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    /// A copy of bytes.
    pub(crate) fn copied(bytes: &[u8]) -> Result<Self, Failure> {
        let mut made = Self::zeroed(bytes.len())?;
        made.bytes_mut().copy_from_slice(bytes);
        Ok(made)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        let bytes: &[u8] = bytemuck::cast_slice(&self.words);
        bytes.get(..self.len).unwrap_or_default()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words);
        bytes.get_mut(..self.len).unwrap_or_default()
    }

    /// As elements. Words are aligned for all of ours, and each length that is asked for is a whole number of them.
    pub(crate) fn view<T: Pod>(&self) -> &[T] {
        bytemuck::try_cast_slice(self.bytes()).unwrap_or_default()
    }

    /// As elements that can be written.
    pub(crate) fn view_mut<T: Pod>(&mut self) -> &mut [T] {
        bytemuck::try_cast_slice_mut(self.bytes_mut()).unwrap_or_default()
    }
}
