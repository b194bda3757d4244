//! Read-only tables that a call uses in place, without decoding them. They are written once, when
//! the handler is configured. Readers trust the bounds that were checked then, and return `None`
//! instead of panicking if bytes are missing.

/// An entry of a table of numbers.
type Word = [u8; 4];

/// Writes sections one after another, each with its length before it.
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Appends a section.
    pub fn section(&mut self, section: &[u8]) {
        let length = u32::try_from(section.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(section);
    }

    /// Appends a section of numbers.
    pub fn numbers(&mut self, numbers: impl IntoIterator<Item = u32>) {
        let bytes: Vec<u8> = numbers.into_iter().flat_map(u32::to_le_bytes).collect();
        self.section(&bytes);
    }

    /// All sections.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads sections in the order in which they were written.
pub struct Reader<'t> {
    rest: &'t [u8],
}

impl<'t> Reader<'t> {
    /// Reads nothing yet.
    pub const fn new(bytes: &'t [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next section, or `None` if there is no complete one.
    pub fn section(&mut self) -> Option<&'t [u8]> {
        let (length, rest) = self.rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (section, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(section)
    }

    /// The next section, as numbers.
    pub fn numbers(&mut self) -> Option<Numbers<'t>> {
        Some(Numbers(self.section()?.as_chunks().0))
    }
}

/// A table of numbers.
#[derive(Clone, Copy)]
pub struct Numbers<'t>(&'t [Word]);

impl Numbers<'_> {
    /// The number at an index.
    pub fn get(&self, at: usize) -> Option<u32> {
        self.0.get(at).map(|word| u32::from_le_bytes(*word))
    }

    /// The number at an index, as an offset.
    pub fn place(&self, at: usize) -> Option<usize> {
        usize::try_from(self.get(at)?).ok()
    }

    /// The length of the table.
    pub const fn len(&self) -> usize {
        self.0.len()
    }
}

/// A sorted list of byte strings, each with a value. It is searched byte by byte, so a lookup costs
/// little more than reading the text.
#[derive(Clone, Copy)]
pub struct Strings<'t> {
    ends: Numbers<'t>,
    values: Numbers<'t>,
    text: &'t [u8],
}

/// A range of strings with a common prefix, and the prefix's length in bytes.
#[derive(Clone, Copy)]
pub struct Alike {
    from: usize,
    until: usize,
    depth: usize,
}

impl<'t> Strings<'t> {
    /// Writes the strings, which must be sorted and distinct.
    pub fn write<'s>(writer: &mut Writer, sorted: impl IntoIterator<Item = (&'s [u8], u32)>) {
        let (mut ends, mut values, mut text) = (Vec::new(), Vec::new(), Vec::new());
        for (string, value) in sorted {
            text.extend_from_slice(string);
            ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
            values.push(value);
        }
        writer.numbers(ends);
        writer.numbers(values);
        writer.section(&text);
    }

    /// Reads the strings that `write` wrote.
    pub fn read(reader: &mut Reader<'t>) -> Option<Self> {
        Some(Self {
            ends: reader.numbers()?,
            values: reader.numbers()?,
            text: reader.section()?,
        })
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.ends.len() == 0
    }

    /// The range of all strings.
    pub const fn all(&self) -> Alike {
        Alike {
            from: 0,
            until: self.ends.len(),
            depth: 0,
        }
    }

    /// The part of a range whose next byte is `byte`, or `None` if it is empty.
    pub fn next(&self, alike: Alike, byte: u8) -> Option<Alike> {
        let Alike { from, until, depth } = alike;
        let from = self.first(from, until, |at| self.byte(at, depth) >= Some(byte));
        let until = self.first(from, until, |at| self.byte(at, depth) > Some(byte));
        (from < until).then_some(Alike {
            from,
            until,
            depth: depth.saturating_add(1),
        })
    }

    /// The range of the strings that begin with these bytes.
    pub fn beginning(&self, bytes: &[u8]) -> Option<Alike> {
        bytes
            .iter()
            .try_fold(self.all(), |alike, byte| self.next(alike, *byte))
    }

    /// The value of the string that is equal to the range's prefix, which sorts first.
    pub fn whole(&self, alike: Alike) -> Option<u32> {
        let string = self.string(alike.from)?;
        (string.len() == alike.depth)
            .then(|| self.values.get(alike.from))
            .flatten()
    }

    /// The value of the string with exactly these bytes.
    pub fn get(&self, bytes: &[u8]) -> Option<u32> {
        self.whole(self.beginning(bytes)?)
    }

    /// The longest string of a range that `rest` begins with: its value, and its length within
    /// `rest`.
    pub fn longest(&self, mut alike: Alike, rest: &[u8]) -> Option<(u32, usize)> {
        let mut best = None;
        for (at, byte) in rest.iter().enumerate() {
            let Some(narrower) = self.next(alike, *byte) else {
                break;
            };
            alike = narrower;
            if let Some(value) = self.whole(alike) {
                best = Some((value, at.saturating_add(1)));
            }
        }
        best
    }

    fn string(&self, at: usize) -> Option<&'t [u8]> {
        let from = match at.checked_sub(1) {
            Some(before) => self.ends.place(before)?,
            None => 0,
        };
        self.text.get(from..self.ends.place(at)?)
    }

    fn byte(&self, at: usize, depth: usize) -> Option<u8> {
        self.string(at)?.get(depth).copied()
    }

    /// The first index in a range from which on a predicate holds.
    fn first(&self, mut from: usize, mut until: usize, holds: impl Fn(usize) -> bool) -> usize {
        while from < until {
            let middle = from.midpoint(until);
            if holds(middle) {
                until = middle;
            } else {
                from = middle.saturating_add(1);
            }
        }
        from
    }
}

/// Merges of two adjacent IDs, by the left one and then the right one.
#[derive(Clone, Copy)]
pub struct Merges<'t> {
    starts: Numbers<'t>,
    rights: Numbers<'t>,
    ranks: Numbers<'t>,
    made: Numbers<'t>,
}

/// One merge: its rank, and its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merge {
    /// The merge with the least rank goes first.
    pub rank: u32,
    /// The ID of the merged token.
    pub made: u32,
}

impl<'t> Merges<'t> {
    /// Writes the merges, sorted by left and right ID.
    pub fn write(writer: &mut Writer, sorted: &std::collections::BTreeMap<(u32, u32), Merge>) {
        let mut starts = Vec::new();
        for (at, (left, _)) in sorted.keys().enumerate() {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            let lefts = usize::try_from(*left).unwrap_or(usize::MAX);
            while starts.len() <= lefts {
                starts.push(at);
            }
        }
        starts.push(u32::try_from(sorted.len()).unwrap_or(u32::MAX));
        writer.numbers(starts);
        writer.numbers(sorted.keys().map(|(_, right)| *right));
        writer.numbers(sorted.values().map(|merge| merge.rank));
        writer.numbers(sorted.values().map(|merge| merge.made));
    }

    /// Reads the merges that `write` wrote.
    pub fn read(reader: &mut Reader<'t>) -> Option<Self> {
        Some(Self {
            starts: reader.numbers()?,
            rights: reader.numbers()?,
            ranks: reader.numbers()?,
            made: reader.numbers()?,
        })
    }

    /// The merge of two adjacent IDs, if there is one.
    pub fn get(&self, left: u32, right: u32) -> Option<Merge> {
        let left = usize::try_from(left).ok()?;
        let mut from = self.starts.place(left)?;
        let end = self.starts.place(left.saturating_add(1))?;
        let mut until = end;
        while from < until {
            let middle = from.midpoint(until);
            if self.rights.get(middle)? < right {
                from = middle.saturating_add(1);
            } else {
                until = middle;
            }
        }
        let found = from < end && self.rights.get(from)? == right;
        found.then_some(Merge {
            rank: self.ranks.get(from)?,
            made: self.made.get(from)?,
        })
    }
}
