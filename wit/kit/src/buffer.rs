//! Bytes that are aligned for elements of any type. Exhausted memory is a failure and does not end
//! the call.

use bytemuck::Pod;

use crate::failure::{Failure, room};

/// The number of bytes in a word.
const WORD: usize = 8;

/// Memory of a fixed length, aligned for eight-byte elements.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffer {
    words: Vec<u64>,
    /// The number of bytes in use.
    len: usize,
}

impl Buffer {
    /// A buffer of zeros.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub(crate) fn zeroed(len: usize) -> Result<Self, Failure> {
        // The allocator need not clear memory that was never written.
        let words = bytemuck::try_zeroed_vec(len.div_ceil(WORD))
            .map_err(|()| room(format!("cannot allocate {len} bytes")))?;
        Ok(Self { words, len })
    }

    /// A buffer of zeros for a number of elements.
    pub(crate) fn of<T: Pod>(count: usize) -> Result<Self, Failure> {
        let bytes = count
            .checked_mul(size_of::<T>())
            .ok_or_else(|| room("the number of bytes overflows"))?;
        Self::zeroed(bytes)
    }

    /// A buffer of words, of which `len` bytes count: all but some of the last word's.
    pub(crate) const fn of_words(words: Vec<u64>, len: usize) -> Self {
        Self { words, len }
    }

    /// The words, the last padded with zeros.
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

    /// The bytes as elements. Words are aligned for all our types, and each requested length is a
    /// multiple of the size.
    pub(crate) fn view<T: Pod>(&self) -> &[T] {
        bytemuck::try_cast_slice(self.bytes()).unwrap_or_default()
    }

    /// The bytes as mutable elements.
    pub(crate) fn view_mut<T: Pod>(&mut self) -> &mut [T] {
        bytemuck::try_cast_slice_mut(self.bytes_mut()).unwrap_or_default()
    }
}
