//! Fractal heaps, which hold the links and attributes of objects with many of them.
//!
//! Blocks of doubling size make one space of addresses. Objects that have a block of their own, and
//! objects that are packed into an identifier, are not followed.

use super::index::HeapId;
use super::pages::Pages;
use super::{STRUCTURE, fields::Fields};
use crate::scan::source::Stop;

/// Tables within each other. The size of a table doubles with each row, so that 64 bits end it.
const MAX_DEPTH: usize = 64;
/// The version of an identifier, and what kind of object it is for.
const ID_KIND: u8 = 0xf0;

/// A fractal heap.
pub(super) struct Heap {
    address: u64,
    /// Bytes of an offset and of a length in an identifier.
    offset_bytes: usize,
    length_bytes: usize,
    /// Blocks in a row of a table.
    width: u64,
    /// Bytes of a block of the first row.
    start_bytes: u64,
    /// Rows of blocks with objects. The rows behind them have tables.
    block_rows: u64,
    root: u64,
    /// Rows of the root; zero if it is a block with objects.
    root_rows: u64,
}

/// A block of a heap.
struct Block {
    address: u64,
    /// Where the block begins in the space of the heap.
    start: u64,
    bytes: u64,
}

impl Heap {
    /// Reads the header of the heap at an address.
    pub(super) fn new(pages: &mut Pages<'_>, address: u64) -> Result<Self, Stop> {
        let bytes = pages.read(address, 142)?;
        let mut fields = Fields::new(&bytes, address);
        fields.signature(b"FRHP")?;
        fields.version(&[0], "a fractal heap")?;
        let id_bytes = usize::from(fields.u16()?);
        if fields.u16()? != 0 {
            return Err(fields.unknown("a fractal heap with filters"));
        }
        fields.bytes(1)?;
        let most_object_bytes = u64::from(fields.u32()?);
        // Statistics, and what is not followed.
        fields.bytes(96)?;
        let width = u64::from(fields.u16()?);
        let start_bytes = fields.u64()?;
        let most_block_bytes = fields.u64()?;
        let space_bits = fields.u16()?;
        fields.bytes(2)?;
        let root = fields.u64()?;
        let root_rows = u64::from(fields.u16()?);
        let most_bytes = most_object_bytes.min(most_block_bytes);
        let offset_bytes = usize::from(space_bits.div_ceil(8));
        let length_bytes = most_bytes.checked_ilog2().unwrap_or(0) / 8;
        let length_bytes = usize::try_from(length_bytes).unwrap_or(0).saturating_add(1);
        let is_known = width.is_power_of_two()
            && start_bytes.is_power_of_two()
            && most_block_bytes.is_power_of_two()
            && most_block_bytes >= start_bytes
            && (1..=64).contains(&space_bits)
            && offset_bytes.saturating_add(length_bytes) < id_bytes.min(8);
        if !is_known {
            return Err(fields.malformed("a fractal heap whose sizes do not fit together"));
        }
        let block_rows = most_block_bytes.ilog2().saturating_sub(start_bytes.ilog2());
        Ok(Self {
            address,
            offset_bytes,
            length_bytes,
            width,
            start_bytes,
            block_rows: u64::from(block_rows).saturating_add(2),
            root,
            root_rows,
        })
    }

    /// The bytes of an object, and where they are in the file.
    pub(super) fn object(
        &self,
        pages: &mut Pages<'_>,
        id: &HeapId,
    ) -> Result<(Vec<u8>, u64), Stop> {
        let mut fields = Fields::new(id, self.address);
        if fields.byte()? & ID_KIND != 0 {
            return Err(fields.unknown("an object of a heap that is not in its blocks"));
        }
        let offset = fields.number(self.offset_bytes)?;
        let length = fields.number(self.length_bytes)?;
        let block = self.block(pages, offset)?;
        let within = offset.saturating_sub(block.start);
        let end = within.checked_add(length);
        if end.is_none_or(|end| end > block.bytes) {
            return Err(fields.malformed("an object of a heap goes beyond its block"));
        }
        self.check_block(pages, &block, b"FHDB")?;
        let address = block.address.saturating_add(within);
        Ok((pages.read(address, length)?, address))
    }

    /// The block at an offset of the heap.
    fn block(&self, pages: &mut Pages<'_>, offset: u64) -> Result<Block, Stop> {
        let mut block = Block {
            address: self.root,
            start: 0,
            bytes: self.start_bytes,
        };
        let mut rows = self.root_rows;
        for _ in 0..MAX_DEPTH {
            if rows == 0 {
                return Ok(block);
            }
            self.check_block(pages, &block, b"FHIB")?;
            let (row, column, start) = self.cell(offset.saturating_sub(block.start));
            if row >= rows {
                let detail = "an object of a heap is beyond its blocks";
                return Err(Stop::malformed(block.address, STRUCTURE, detail));
            }
            let cell = row.saturating_mul(self.width).saturating_add(column);
            let prefix = self.prefix_bytes().saturating_add(cell.saturating_mul(8));
            let address = block.address.saturating_add(prefix);
            let bytes = pages.read(address, 8)?;
            block = Block {
                address: Fields::new(&bytes, address).u64()?,
                start: block.start.saturating_add(start),
                bytes: self.row_bytes(row),
            };
            rows = if row < self.block_rows {
                0
            } else {
                // The rows of a table that has as many bytes as the cell.
                let first_row = self.first_row_bytes().ilog2();
                let bits = block.bytes.checked_ilog2().unwrap_or(0);
                u64::from(bits.saturating_sub(first_row)).saturating_add(1)
            };
        }
        let detail = "tables of a heap are nested too deeply";
        Err(Stop::malformed(self.address, STRUCTURE, detail))
    }

    /// The row and column of a table for an offset in it, and the offset at which the cell begins.
    fn cell(&self, offset: u64) -> (u64, u64, u64) {
        let first_row = self.first_row_bytes();
        let row = if offset < first_row {
            0
        } else {
            u64::from(offset.ilog2().saturating_sub(first_row.ilog2())).saturating_add(1)
        };
        let row_start = if row == 0 {
            0
        } else {
            1_u64.wrapping_shl(offset.ilog2())
        };
        let bytes = self.row_bytes(row);
        let column = offset.saturating_sub(row_start).checked_div(bytes);
        let column = column.unwrap_or(0);
        let start = row_start.saturating_add(column.saturating_mul(bytes));
        (row, column, start)
    }

    /// Bytes of a cell of a row. The first two rows are equal, then each has twice as many.
    fn row_bytes(&self, row: u64) -> u64 {
        let doublings = u32::try_from(row.saturating_sub(1)).unwrap_or(u32::MAX);
        let factor = 1_u64.checked_shl(doublings).unwrap_or(u64::MAX);
        self.start_bytes.saturating_mul(factor)
    }

    const fn first_row_bytes(&self) -> u64 {
        self.start_bytes.saturating_mul(self.width)
    }

    /// Bytes of a block in front of its content.
    fn prefix_bytes(&self) -> u64 {
        let offset_bytes = u64::try_from(self.offset_bytes).unwrap_or(u64::MAX);
        offset_bytes.saturating_add(13)
    }

    /// Checks that a block is one of this heap and of this offset.
    fn check_block(
        &self,
        pages: &mut Pages<'_>,
        block: &Block,
        signature: &[u8; 4],
    ) -> Result<(), Stop> {
        let bytes = pages.read(block.address, self.prefix_bytes())?;
        let mut fields = Fields::new(&bytes, block.address);
        fields.signature(signature)?;
        fields.version(&[0], "a block of a heap")?;
        let is_own = fields.u64()? == self.address;
        if is_own && fields.number(self.offset_bytes)? == block.start {
            return Ok(());
        }
        Err(fields.malformed("a block of a heap is that of another one"))
    }
}
