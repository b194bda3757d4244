//! Element data in blocks. An engine copies a list between components element by element: twenty
//! instructions for a byte, but only three a byte in blocks.

use crate::array::Array;
use crate::buffer::Buffer;
use crate::datatype::Datatype;
use crate::failure::{Failure, room};

/// The number of words in a block.
const BLOCK_WORDS: usize = 16;

/// 128 bytes in their order in memory.
pub type Block = [u64; BLOCK_WORDS];

impl Array {
    /// An array of a tensor's bytes: blocks, the bytes before the first, and the bytes after the
    /// last. Nothing is copied if there are only blocks.
    ///
    /// # Errors
    /// As [`Array::from_bytes`].
    pub fn from_blocks(
        datatype: Datatype,
        shape: &[usize],
        head: &[u8],
        blocks: Vec<Block>,
        rest: &[u8],
    ) -> Result<Self, Failure> {
        Self::of_buffer(datatype, shape, Buffer::of_blocks(head, blocks, rest)?)
    }

    /// The elements of [`Array::to_bytes`] in blocks, the last padded with zeros, and the number of
    /// bytes.
    ///
    /// # Errors
    /// As [`Array::to_bytes`].
    pub fn to_blocks(&self, wanted: Datatype) -> Result<(Vec<Block>, usize), Failure> {
        match self.narrowed(wanted)? {
            Some(made) => made.blocks(),
            None => self.buffer.blocks(),
        }
    }
}

impl Buffer {
    /// A buffer of bytes before blocks, blocks, and bytes after them.
    ///
    /// # Errors
    /// If memory for a copy is exhausted.
    pub(crate) fn of_blocks(head: &[u8], blocks: Vec<Block>, rest: &[u8]) -> Result<Self, Failure> {
        if head.is_empty() && rest.is_empty() {
            let words = blocks.into_flattened();
            let len = words.len().saturating_mul(size_of::<u64>());
            return Ok(Self::of_words(words, len));
        }
        let middle: &[u8] = bytemuck::cast_slice(&blocks);
        let len = [head, middle, rest]
            .iter()
            .try_fold(0_usize, |sum, part| sum.checked_add(part.len()))
            .ok_or_else(|| room("the number of bytes overflows"))?;
        let mut made = Self::zeroed(len)?;
        let mut left = made.bytes_mut();
        for part in [head, middle, rest] {
            let Some((to, behind)) = left.split_at_mut_checked(part.len()) else {
                break;
            };
            to.copy_from_slice(part);
            left = behind;
        }
        Ok(made)
    }

    /// A copy in blocks, the last padded with zeros, and the number of bytes.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub(crate) fn blocks(&self) -> Result<(Vec<Block>, usize), Failure> {
        let len = self.bytes().len();
        let (complete, rest) = self.words().as_chunks();
        let count = complete.len().saturating_add(usize::from(!rest.is_empty()));
        let mut blocks: Vec<Block> = Vec::new();
        blocks
            .try_reserve_exact(count)
            .map_err(|_| room(format!("cannot allocate {len} bytes")))?;
        blocks.extend_from_slice(complete);
        if !rest.is_empty() {
            let mut block = Block::default();
            for (to, from) in block.iter_mut().zip(rest) {
                *to = *from;
            }
            blocks.push(block);
        }
        Ok((blocks, len))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_any_length_are_the_bytes_that_they_were_made_of() {
        for length in [0, 1, 7, 8, 127, 128, 129, 255, 256, 1000] {
            let bytes: Vec<u8> = (0..length)
                .map(|at| u8::try_from(at % 251).unwrap())
                .collect();
            let array = Array::from_bytes(Datatype::Uint8, &[length], &bytes).unwrap();
            let (mut blocks, count) = array.to_blocks(Datatype::Uint8).unwrap();
            assert_eq!(count, length);
            assert_eq!(blocks.len(), length.div_ceil(128));
            let rest = length % 128;
            if rest > 0 {
                let last = blocks.pop().unwrap();
                let last: &[u8] = bytemuck::cast_slice(&last);
                assert!(last.iter().skip(rest).all(|filler| *filler == 0));
            }
            let tail = bytes.get(length - rest..).unwrap();
            let again = Array::from_blocks(Datatype::Uint8, &[length], &[], blocks, tail).unwrap();
            assert_eq!(again.bytes(), bytes);
        }
    }

    #[test]
    fn what_precedes_blocks_precedes_their_bytes() {
        let block: Vec<u8> = (10..138).collect();
        let words: Block = bytemuck::pod_read_unaligned(&block);
        for (head, rest) in [(&[1, 2, 3][..], &[][..]), (&[1, 2, 3], &[4, 5])] {
            let length = head.len() + block.len() + rest.len();
            let array = Array::from_blocks(Datatype::Uint8, &[length], head, vec![words], rest);
            assert_eq!(array.unwrap().bytes(), [head, &block, rest].concat());
        }
    }

    #[test]
    fn blocks_are_checked_against_the_shape_and_the_type_as_bytes_are() {
        let blocks = || vec![Block::default()];
        assert!(Array::from_blocks(Datatype::Fp32, &[33], &[], blocks(), &[0; 4]).is_ok());
        for (datatype, shape, rest) in [
            (Datatype::Fp32, &[32][..], &[0; 4][..]),
            (Datatype::Fp32, &[33], &[]),
            (Datatype::Uint8, &[1 << 31, 1 << 31], &[]),
        ] {
            let found = Array::from_blocks(datatype, shape, &[], blocks(), rest).unwrap_err();
            let bytes = [&[0; 128], rest].concat();
            let expected = Array::from_bytes(datatype, shape, &bytes).unwrap_err();
            assert_eq!(found, expected);
        }
        let halves = Array::from_blocks(Datatype::Fp16, &[64], &[], blocks(), &[]).unwrap();
        assert_eq!(halves.datatype(), Datatype::Fp32);
        let (narrow, count) = halves.to_blocks(Datatype::Bf16).unwrap();
        assert_eq!((narrow.len(), count), (1, 128));
        assert!(halves.to_blocks(Datatype::Uint8).is_err());
        let truths = Array::from_blocks(Datatype::Bool, &[2], &[], Vec::new(), &[2, 0]).unwrap();
        assert_eq!(truths.bytes(), [1, 0]);
    }
}
