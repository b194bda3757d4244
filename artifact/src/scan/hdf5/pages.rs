//! Structures of a file, read at any address through a bounded cache.
//!
//! Structures refer to each other across the file. A cache of small pages makes a walk over them
//! cheap, also where each read opens a compressed member anew.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read as _};

use super::{LIMIT, STRUCTURE};
use crate::scan::source::Stop;
use crate::scan::{Input, Limits, Window, input};

const PAGE_BYTES: u64 = 16 << 10;
const MAX_PAGES: usize = 256;
/// What a read costs beside its bytes.
const READ_COST: u64 = 32;
/// Bytes that are read at once while the end of a text is looked for.
const TEXT_PART_BYTES: u64 = 64;

/// A file of HDF5.
pub(super) struct Pages<'i> {
    input: &'i mut dyn Input,
    length: u64,
    pages: HashMap<u64, Vec<u8>>,
    /// The numbers of the pages, the oldest first.
    order: VecDeque<u64>,
    /// Bytes that one structure may have.
    most: usize,
    /// Bytes of structures and texts that may still be read.
    bytes_left: u64,
}

impl<'i> Pages<'i> {
    /// The file with this content. Structures and texts may have four times `header_bytes`, and
    /// each structure a quarter of it.
    pub(super) fn new(input: &'i mut dyn Input, limits: &Limits) -> io::Result<Self> {
        let length = input::length(&mut *input)?;
        Ok(Self {
            input,
            length,
            pages: HashMap::new(),
            order: VecDeque::new(),
            most: limits.header_bytes / 4,
            bytes_left: u64::try_from(limits.header_bytes)
                .unwrap_or(u64::MAX)
                .saturating_mul(4),
        })
    }

    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Bytes that one structure may have.
    pub(super) const fn most(&self) -> usize {
        self.most
    }

    /// Checks that bytes are in the file.
    pub(super) fn check(&self, address: u64, count: u64) -> Result<(), Stop> {
        let end = address.checked_add(count);
        if end.is_some_and(|end| end <= self.length) {
            return Ok(());
        }
        let detail = format!("{count} bytes at {address} are beyond the end of the file");
        Err(Stop::malformed(address.min(self.length), STRUCTURE, detail))
    }

    /// Counts bytes that are read.
    pub(super) fn charge(&mut self, address: u64, count: u64) -> Result<(), Stop> {
        let cost = count.saturating_add(READ_COST);
        let Some(bytes_left) = self.bytes_left.checked_sub(cost) else {
            let detail = "the structures and texts have more bytes than are read";
            return Err(Stop::unknown(address, LIMIT, detail));
        };
        self.bytes_left = bytes_left;
        Ok(())
    }

    /// The bytes of a structure.
    pub(super) fn read(&mut self, address: u64, count: u64) -> Result<Vec<u8>, Stop> {
        self.check(address, count)?;
        let size = usize::try_from(count).ok();
        let Some(size) = size.filter(|size| *size <= self.most) else {
            let detail = format!("a structure of {count} bytes is more than is read");
            return Err(Stop::unknown(address, LIMIT, detail));
        };
        self.charge(address, count)?;
        let mut bytes = Vec::with_capacity(size);
        while bytes.len() < size {
            let read = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let position = address.saturating_add(read);
            let within = usize::try_from(position % PAGE_BYTES).unwrap_or(usize::MAX);
            let page = self.page(position / PAGE_BYTES)?;
            let part = page.get(within..).unwrap_or_default();
            let part = part.get(..size.saturating_sub(bytes.len())).unwrap_or(part);
            if part.is_empty() {
                let detail = "the file ends before its length";
                return Err(Stop::malformed(position, STRUCTURE, detail));
            }
            bytes.extend_from_slice(part);
        }
        Ok(bytes)
    }

    /// The bytes up to a zero, which is within the first `most` bytes.
    pub(super) fn text(&mut self, address: u64, most: u64) -> Result<Vec<u8>, Stop> {
        let mut text: Vec<u8> = Vec::new();
        loop {
            let read = u64::try_from(text.len()).unwrap_or(u64::MAX);
            let left = most.saturating_sub(read);
            if left == 0 {
                let detail = format!("a text has no end within {most} bytes");
                return Err(Stop::malformed(address, STRUCTURE, detail));
            }
            let position = address.saturating_add(read);
            let part = self.read(position, left.min(TEXT_PART_BYTES))?;
            let end = part.iter().position(|byte| *byte == 0);
            text.extend_from_slice(part.get(..end.unwrap_or(part.len())).unwrap_or_default());
            if end.is_some() {
                return Ok(text);
            }
        }
    }

    /// A part of the file as an input. The caller has checked that it is there.
    pub(super) fn window(&mut self, address: u64, count: u64) -> Window<'_> {
        Window::new(&mut *self.input, address, count)
    }

    fn page(&mut self, number: u64) -> io::Result<&[u8]> {
        if !self.pages.contains_key(&number) {
            if self.order.len() >= MAX_PAGES
                && let Some(oldest) = self.order.pop_front()
            {
                self.pages.remove(&oldest);
            }
            let mut page = Vec::new();
            let start = number.saturating_mul(PAGE_BYTES);
            let mut window = Window::new(&mut *self.input, start, PAGE_BYTES);
            window.read_to_end(&mut page)?;
            self.order.push_back(number);
            self.pages.insert(number, page);
        }
        Ok(self.pages.get(&number).map_or(&[], Vec::as_slice))
    }
}
