//! Byte-level BPE: the bytes of a word, of which pairs are merged in the order that the vocabulary
//! learnt. Work grows as n log n with a word's bytes in every case.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use super::table::{Merge, Merges, Numbers, Reader, Strings};

/// The ID of a byte that the vocabulary lacks.
pub const NONE: u32 = u32::MAX;

/// A vocabulary and its merges.
pub struct Bpe<'t> {
    /// The ID of each byte.
    bytes: Numbers<'t>,
    /// Words that are tokens without any merge; empty if only merges make tokens.
    whole: Strings<'t>,
    merges: Merges<'t>,
    unknown: Option<u32>,
    fuse: bool,
}

/// A part of a word, linked to its neighbours.
#[derive(Clone, Copy)]
struct Part {
    id: u32,
    before: Option<usize>,
    after: Option<usize>,
    gone: bool,
}

/// A possible merge. They are ordered by rank, then from the left.
type Waiting = Reverse<(u32, usize, u32)>;

impl<'t> Bpe<'t> {
    /// Reads the tables that were written.
    pub fn read(reader: &mut Reader<'t>, unknown: Option<u32>, fuse: bool) -> Option<Self> {
        Some(Self {
            bytes: reader.numbers()?,
            whole: Strings::read(reader)?,
            merges: Merges::read(reader)?,
            unknown,
            fuse,
        })
    }

    /// Appends a word's IDs.
    pub fn ids(&self, word: &str, ids: &mut Vec<u32>) {
        if let Some(id) = self.whole.get(word.as_bytes()) {
            return ids.push(id);
        }
        let mut parts = self.bytes_of(word);
        let mut waiting = BinaryHeap::new();
        for at in 0..parts.len() {
            self.offer(&parts, Some(at), &mut waiting);
        }
        while let Some(Reverse((_, at, made))) = waiting.pop() {
            self.merge(&mut parts, at, made, &mut waiting);
        }
        ids.extend(parts.iter().filter(|part| !part.gone).map(|part| part.id));
    }

    /// The IDs of the word's bytes. If the vocabulary fuses unknown bytes, a run of them is one
    /// unknown token.
    fn bytes_of(&self, word: &str) -> Vec<Part> {
        let mut found = Vec::with_capacity(word.len());
        let mut in_unknown = false;
        for byte in word.bytes() {
            let id = self.bytes.get(usize::from(byte)).filter(|id| *id != NONE);
            let fused = id.is_none() && in_unknown && self.fuse;
            in_unknown = id.is_none();
            if let Some(id) = id.or(self.unknown).filter(|_| !fused) {
                found.push(id);
            }
        }
        let last = found.len().saturating_sub(1);
        let parts = found.into_iter().enumerate().map(|(at, id)| Part {
            id,
            before: at.checked_sub(1),
            after: at.checked_add(1).filter(|after| *after <= last),
            gone: false,
        });
        parts.collect()
    }

    /// The merge of a part and the next one, if there is one.
    fn of(&self, parts: &[Part], at: usize) -> Option<Merge> {
        let left = parts.get(at).filter(|part| !part.gone)?;
        self.merges.get(left.id, parts.get(left.after?)?.id)
    }

    fn offer(&self, parts: &[Part], at: Option<usize>, waiting: &mut BinaryHeap<Waiting>) {
        if let Some(at) = at
            && let Some(Merge { rank, made }) = self.of(parts, at)
        {
            waiting.push(Reverse((rank, at, made)));
        }
    }

    /// Merges two parts, unless they were merged with others meanwhile.
    fn merge(
        &self,
        parts: &mut [Part],
        at: usize,
        made: u32,
        waiting: &mut BinaryHeap<Waiting>,
    ) -> Option<()> {
        if self.of(parts, at)?.made != made {
            return None;
        }
        let right = parts.get(at)?.after?;
        let beyond = parts.get(right)?.after;
        parts.get_mut(right)?.gone = true;
        if let Some(beyond) = beyond {
            parts.get_mut(beyond)?.before = Some(at);
        }
        let left = parts.get_mut(at)?;
        left.id = made;
        left.after = beyond;
        let before = left.before;
        self.offer(parts, before, waiting);
        self.offer(parts, Some(at), waiting);
        Some(())
    }
}

/// The characters of the bytes in a byte-level vocabulary. Visible bytes are their own characters;
/// the others are those from U+0100.
pub fn characters() -> [char; 256] {
    let mut beyond = '\u{100}'..;
    let mut all = ['\0'; 256];
    for (byte, place) in (u8::MIN..=u8::MAX).zip(&mut all) {
        let itself = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        *place = if itself {
            char::from(byte)
        } else {
            beyond.next().unwrap_or_default()
        };
    }
    all
}
