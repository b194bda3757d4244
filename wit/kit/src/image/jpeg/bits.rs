//! Bits of a scan, and Huffman codes in them.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "shifts and counts below 64"
)]

/// The bits that one look into a table decodes. Most codes are shorter.
const LOOK: usize = 9;

/// The longest code.
const LONGEST: usize = 16;

/// A Huffman table.
pub(super) struct Table {
    /// The length of a code times 256, plus its symbol, by the next bits; 0 for a longer code.
    short: Box<[u16; 1 << LOOK]>,
    /// For each length, the first code that is too large for it.
    ends: [u32; LONGEST + 1],
    /// For each length, the position of the symbol of code 0.
    offsets: [i32; LONGEST + 1],
    symbols: Vec<u8>,
}

impl Table {
    /// A table of the numbers of codes of each length from 1, and their symbols. `None` if there
    /// are more codes of a length than fit.
    pub(super) fn of(counts: &[u8; LONGEST], symbols: &[u8]) -> Option<Self> {
        let mut made = Self {
            short: Box::new([0; 1 << LOOK]),
            ends: [0; LONGEST + 1],
            offsets: [0; LONGEST + 1],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut at) = (0_u32, 0_usize);
        for (length, count) in (1_usize..).zip(counts) {
            *made.offsets.get_mut(length)? = i32::try_from(at).ok()? - i32::try_from(code).ok()?;
            for symbol in symbols.get(at..at + usize::from(*count))? {
                if code >> length != 0 {
                    return None;
                }
                if length <= LOOK {
                    let first = (code as usize) << (LOOK - length);
                    let entries = made.short.get_mut(first..first + (1 << (LOOK - length)))?;
                    entries.fill(((length as u16) << 8) | u16::from(*symbol));
                }
                code += 1;
            }
            at += usize::from(*count);
            *made.ends.get_mut(length)? = code;
            code <<= 1;
        }
        Some(made)
    }
}

/// Reads bits of a scan up to its next marker. All functions return `None` at the end.
pub(super) struct Bits<'a> {
    rest: &'a [u8],
    /// The next bits, from the most significant one.
    buffer: u64,
    /// The number of bits in the buffer.
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) const fn of(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            buffer: 0,
            count: 0,
        }
    }

    /// The bytes from the next marker on. Bits before it are discarded.
    pub(super) fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Discards bits up to a restart marker of a number, and the marker.
    pub(super) fn restart(&mut self, number: u8) -> Option<()> {
        (self.buffer, self.count) = (0, 0);
        while let [0xff, 0xff, ..] = self.rest {
            self.rest = self.rest.get(1..)?;
        }
        self.rest = self.rest.strip_prefix(&[0xff, 0xd0 | (number & 7)])?;
        Some(())
    }

    /// Fills the buffer with 32 bits or more, if there are as many.
    fn fill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some((four, behind)) = self.rest.split_first_chunk::<4>() {
            let word = u32::from_be_bytes(*four);
            // Whether a byte of the word is 255, which a zero follows or which begins a marker.
            let inverse = !word;
            if inverse.wrapping_sub(0x0101_0101) & word & 0x8080_8080 == 0 {
                self.buffer |= u64::from(word) << (32 - self.count);
                self.count += 32;
                self.rest = behind;
                return;
            }
        }
        while self.count <= 56 {
            let (byte, behind) = match self.rest {
                [0xff, 0, behind @ ..] => (0xff, behind),
                [0xff, ..] | [] => return,
                [byte, behind @ ..] => (*byte, behind),
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
            self.rest = behind;
        }
    }

    fn take(&mut self, bits: u32) -> Option<()> {
        self.count = self.count.checked_sub(bits)?;
        self.buffer <<= bits;
        Some(())
    }

    /// The next symbol.
    pub(super) fn symbol(&mut self, table: &Table) -> Option<u8> {
        self.fill();
        let entry = *table.short.get((self.buffer >> (64 - LOOK)) as usize)?;
        if entry != 0 {
            self.take(u32::from(entry >> 8))?;
            return Some(entry as u8);
        }
        for length in LOOK + 1..=LONGEST {
            let code = (self.buffer >> (64 - length)) as u32;
            if code < *table.ends.get(length)? {
                self.take(length as u32)?;
                let at = i32::try_from(code).ok()? + *table.offsets.get(length)?;
                return table.symbols.get(usize::try_from(at).ok()?).copied();
            }
        }
        None
    }

    /// An unsigned number of at most 16 bits.
    pub(super) fn number(&mut self, bits: u32) -> Option<u32> {
        if bits == 0 {
            return Some(0);
        }
        self.fill();
        let number = (self.buffer >> (64 - bits)) as u32;
        self.take(bits)?;
        Some(number)
    }

    /// A signed number of a size from 0 to 15 bits, as JPEG codes it.
    pub(super) fn signed(&mut self, bits: u32) -> Option<i32> {
        let number = i32::try_from(self.number(bits)?).ok()?;
        let is_negative = bits > 0 && number >> (bits - 1) == 0;
        Some(if is_negative {
            number - (1 << bits) + 1
        } else {
            number
        })
    }
}
