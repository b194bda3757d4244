//! Tables and vectors of a FlatBuffer, read in place with each offset checked.

use super::source::{Source, Stop};
use crate::scan::rules::Rule;

/// A FlatBuffer and the work that may still be done on it. Vectors may share their elements, so
/// that a small file can describe a very large tree.
pub(super) struct Reader<'i> {
    pub(super) source: Source<'i>,
    /// How many tables and numbers may still be read.
    pub(super) values_left: u64,
    /// The rule of findings about offsets.
    pub(super) rule: &'static Rule,
}

/// A table.
pub(super) struct Table {
    position: u64,
    /// The offset of each field from the table; zero if the field is absent.
    fields: Vec<u16>,
    /// Bytes of the table.
    size: u16,
}

/// A vector: where its elements begin, and how many there are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Vector {
    position: u64,
    pub(super) count: u64,
}

impl Reader<'_> {
    /// The table that a reference at a position leads to.
    pub(super) fn table(&mut self, reference: u64) -> Result<Table, Stop> {
        self.work(1)?;
        let position = self.target(reference)?;
        self.source.seek(position);
        let back = i32::from_le_bytes(self.source.array()?);
        let vtable = position.checked_add_signed(i64::from(back).saturating_neg());
        let Some(vtable) = vtable else {
            return Err(self.fault(position, "a table has no description"));
        };
        self.source.seek(vtable);
        let vtable_size = u16::from_le_bytes(self.source.array()?);
        let size = u16::from_le_bytes(self.source.array()?);
        let end = position.saturating_add(u64::from(size));
        if vtable_size < 4 || vtable_size % 2 != 0 || size < 4 || end > self.source.length() {
            return Err(self.fault(vtable, "the description of a table has no valid size"));
        }
        let bytes = self
            .source
            .read_bytes(usize::from(vtable_size.saturating_sub(4)))?;
        let pairs = bytes.chunks_exact(2);
        let fields = pairs.filter_map(|pair| pair.try_into().ok().map(u16::from_le_bytes));
        Ok(Table {
            position,
            fields: fields.collect(),
            size,
        })
    }

    /// The table that an element of a vector of references leads to.
    pub(super) fn element(&mut self, vector: Vector, index: u64) -> Result<Table, Stop> {
        self.table(vector.position.saturating_add(index.saturating_mul(4)))
    }

    /// A vector of elements of `size` bytes; empty if the field is absent.
    pub(super) fn vector(
        &mut self,
        table: &Table,
        field: usize,
        size: u64,
    ) -> Result<Vector, Stop> {
        let Some(reference) = self.field(table, field, 4)? else {
            return Ok(Vector::default());
        };
        let start = self.target(reference)?;
        self.source.seek(start);
        let count = u64::from(self.source.u32()?);
        if count.saturating_mul(size) > self.source.left() {
            return Err(self.fault(start, "a vector ends after the file"));
        }
        Ok(Vector {
            position: self.source.position(),
            count,
        })
    }

    /// The text of a field of at most `most` bytes; empty if the field is absent.
    pub(super) fn text(&mut self, table: &Table, field: usize, most: u64) -> Result<String, Stop> {
        let vector = self.vector(table, field, 1)?;
        let count = usize::try_from(vector.count).ok();
        let Some(count) = count.filter(|_| vector.count <= most) else {
            return Err(self.fault(vector.position, "a name is too long"));
        };
        self.source.seek(vector.position);
        let text = String::from_utf8(self.source.read_bytes(count)?);
        text.map_err(|_| self.fault(vector.position, "a name is not UTF-8"))
    }

    /// The numbers of a vector, one after the other.
    pub(super) fn each_i32(
        &mut self,
        vector: Vector,
        mut check: impl FnMut(i32) -> bool,
    ) -> Result<(), Stop> {
        self.work(vector.count)?;
        self.source.seek(vector.position);
        for _ in 0..vector.count {
            let number = i32::from_le_bytes(self.source.array()?);
            if !check(number) {
                let detail = format!("the index {number} is out of range");
                return Err(Stop::malformed(vector.position, self.rule, detail));
            }
        }
        Ok(())
    }

    pub(super) fn u8(&mut self, table: &Table, field: usize) -> Result<u8, Stop> {
        let Some(position) = self.field(table, field, 1)? else {
            return Ok(0);
        };
        self.source.seek(position);
        self.source.byte()
    }

    pub(super) fn u32(&mut self, table: &Table, field: usize) -> Result<u32, Stop> {
        let Some(position) = self.field(table, field, 4)? else {
            return Ok(0);
        };
        self.source.seek(position);
        self.source.u32()
    }

    pub(super) fn u64(&mut self, table: &Table, field: usize) -> Result<u64, Stop> {
        let Some(position) = self.field(table, field, 8)? else {
            return Ok(0);
        };
        self.source.seek(position);
        self.source.u64()
    }

    /// Where a field of `size` bytes is, if the table has it.
    fn field(&self, table: &Table, index: usize, size: u16) -> Result<Option<u64>, Stop> {
        let offset = table.fields.get(index).copied().unwrap_or_default();
        if offset == 0 {
            return Ok(None);
        }
        let end = offset.checked_add(size);
        if offset < 4 || end.is_none_or(|end| end > table.size) {
            return Err(self.fault(table.position, "a field lies outside its table"));
        }
        Ok(Some(table.position.saturating_add(u64::from(offset))))
    }

    /// Where a reference leads: forward, and into the file.
    fn target(&mut self, reference: u64) -> Result<u64, Stop> {
        self.source.seek(reference);
        let offset = u64::from(self.source.u32()?);
        let target = reference.saturating_add(offset);
        if offset == 0 || target >= self.source.length() {
            return Err(self.fault(reference, "a reference leads out of the file"));
        }
        Ok(target)
    }

    fn work(&mut self, values: u64) -> Result<(), Stop> {
        let Some(left) = self.values_left.checked_sub(values) else {
            let detail = "more values than this scan reads";
            return Err(Stop::unknown(self.source.position(), self.rule, detail));
        };
        self.values_left = left;
        Ok(())
    }

    fn fault(&self, at: u64, detail: &str) -> Stop {
        Stop::malformed(at, self.rule, detail)
    }
}
