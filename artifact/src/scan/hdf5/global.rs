//! Global heaps, which hold texts of variable length.

use std::collections::BTreeMap;

use super::pages::Pages;
use super::{STRUCTURE, fields::Fields};
use crate::scan::source::Stop;

/// Bytes in front of the first object, and in front of the data of each.
const PREFIX_BYTES: u64 = 16;

/// A global heap.
pub(super) struct Heap {
    address: u64,
    /// Where the object of an index is, and its bytes.
    objects: BTreeMap<u32, (u64, u64)>,
}

impl Heap {
    /// Reads the list of objects in the heap at an address.
    pub(super) fn new(pages: &mut Pages<'_>, address: u64) -> Result<Self, Stop> {
        let bytes = pages.read(address, PREFIX_BYTES)?;
        let mut fields = Fields::new(&bytes, address);
        fields.signature(b"GCOL")?;
        fields.version(&[1], "a global heap")?;
        fields.bytes(3)?;
        let size = fields.u64()?;
        pages.check(address, size)?;
        let end = address.saturating_add(size);
        let mut position = address.saturating_add(PREFIX_BYTES);
        let mut objects = BTreeMap::new();
        while end.saturating_sub(position) >= PREFIX_BYTES {
            let bytes = pages.read(position, PREFIX_BYTES)?;
            let mut fields = Fields::new(&bytes, position);
            let index = u32::from(fields.u16()?);
            // The references to it, and reserved bytes.
            fields.bytes(6)?;
            let length = fields.u64()?;
            // The rest is free space. Behind a shorter one, some readers find more objects.
            if index == 0 && length == end.saturating_sub(position) {
                break;
            }
            if index == 0 {
                return Err(fields.malformed("free space of a global heap is not its end"));
            }
            let data = position.saturating_add(PREFIX_BYTES);
            let left = end.saturating_sub(data);
            let padded = length.checked_next_multiple_of(8);
            let Some(padded) = padded.filter(|padded| *padded <= left) else {
                return Err(fields.malformed("an object of a global heap goes beyond it"));
            };
            if objects.insert(index, (data, length)).is_some() {
                return Err(fields.malformed("a global heap has two objects of one index"));
            }
            position = data.saturating_add(padded);
        }
        Ok(Self { address, objects })
    }

    /// Whether the heap is the one at an address.
    pub(super) const fn is_at(&self, address: u64) -> bool {
        self.address == address
    }

    /// Where the object of an index is, and its bytes.
    pub(super) fn object(&self, index: u32) -> Result<(u64, u64), Stop> {
        self.objects.get(&index).copied().ok_or_else(|| {
            let detail = format!("a global heap has no object {index}");
            Stop::malformed(self.address, STRUCTURE, detail)
        })
    }
}
