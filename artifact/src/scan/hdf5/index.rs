//! B-trees of version 2, which index the links and attributes of an object by name or by order.
//!
//! Only the identifiers in the records are taken: where a link or an attribute is in the heap.

use super::pages::Pages;
use super::{LIMIT, STRUCTURE, UNDEFINED, fields::Fields};
use crate::scan::source::Stop;

/// Bytes of a node in front of its records, and of its checksum.
const NODE_OVERHEAD_BYTES: u64 = 10;
/// Bytes of a node in front of its records.
const NODE_PREFIX_BYTES: u64 = 6;
/// Levels of a tree. More of them would have more records than any file.
const MAX_DEPTH: u16 = 16;

/// The identifier of an object in a fractal heap. Those of links have seven bytes.
pub(super) type HeapId = [u8; 8];

/// What a tree indexes.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    LinkNames,
    LinkOrder,
    AttributeNames,
    AttributeOrder,
}

impl Kind {
    /// The number of the kind, the bytes of a record, and where the identifier is in it.
    const fn record(self) -> (u8, u64, std::ops::Range<usize>) {
        match self {
            Self::LinkNames => (5, 11, 4..11),
            Self::LinkOrder => (6, 15, 8..15),
            Self::AttributeNames => (8, 17, 0..8),
            Self::AttributeOrder => (9, 13, 0..8),
        }
    }

    /// Whether a record refers to a message that objects share.
    fn is_shared(self, record: &[u8]) -> bool {
        let is_attribute = matches!(self, Self::AttributeNames | Self::AttributeOrder);
        is_attribute && record.get(8).is_none_or(|flags| flags & 2 != 0)
    }
}

/// How the nodes of a level are written.
#[derive(Clone, Copy)]
struct Level {
    /// The most records of a node.
    most: u64,
    /// The most records of a node and all below it.
    most_below: u64,
    /// Bytes of a reference to a node of this level.
    reference_bytes: u64,
}

/// Reads the identifiers in the tree at an address, at most `most`.
pub(super) fn read(
    pages: &mut Pages<'_>,
    address: u64,
    kind: Kind,
    most: usize,
) -> Result<Vec<HeapId>, Stop> {
    let (number, record_bytes, _) = kind.record();
    let bytes = pages.read(address, 38)?;
    let mut fields = Fields::new(&bytes, address);
    fields.signature(b"BTHD")?;
    fields.version(&[0], "an index")?;
    let is_kind = fields.byte()? == number;
    let node_bytes = u64::from(fields.u32()?);
    if !is_kind || u64::from(fields.u16()?) != record_bytes {
        return Err(fields.malformed("an index has records of another kind"));
    }
    let depth = fields.u16()?;
    // When nodes are split and merged.
    fields.bytes(2)?;
    let root = fields.u64()?;
    let count = u64::from(fields.u16()?);
    let total = fields.u64()?;
    if usize::try_from(total).is_ok_and(|total| total > most) || depth > MAX_DEPTH {
        let detail = format!("an index of {total} records in {depth} levels is more than is read");
        return Err(Stop::unknown(address, LIMIT, detail));
    }
    let mut tree = Tree {
        kind,
        most,
        levels: levels(node_bytes, record_bytes, depth),
        ids: Vec::new(),
    };
    if root != UNDEFINED {
        tree.read(pages, (root, count, usize::from(depth)))?;
    }
    if u64::try_from(tree.ids.len()).is_ok_and(|found| found == total) {
        return Ok(tree.ids);
    }
    let detail = format!("an index of {total} records has {}", tree.ids.len());
    Err(Stop::malformed(address, STRUCTURE, detail))
}

/// The levels of a tree, the leaves first.
fn levels(node_bytes: u64, record_bytes: u64, depth: u16) -> Vec<Level> {
    let room = node_bytes.saturating_sub(NODE_OVERHEAD_BYTES);
    let most = room.checked_div(record_bytes).unwrap_or(0);
    // All levels count the records of a node in this width.
    let count_bytes = width(most);
    let mut level = Level {
        most,
        most_below: most,
        reference_bytes: count_bytes.saturating_add(8),
    };
    let mut levels = vec![level];
    for _ in 0..depth {
        let below = level;
        let room = room.saturating_sub(below.reference_bytes);
        let step = record_bytes.saturating_add(below.reference_bytes);
        let most = room.checked_div(step).unwrap_or(0);
        let children = most.saturating_add(1);
        let most_below = children.saturating_mul(below.most_below);
        let most_below = most_below.saturating_add(most);
        level = Level {
            most,
            most_below,
            reference_bytes: count_bytes
                .saturating_add(8)
                .saturating_add(width(most_below)),
        };
        levels.push(level);
    }
    levels
}

/// Bytes that a number up to `most` takes.
fn width(most: u64) -> u64 {
    u64::from(most.checked_ilog2().unwrap_or(0) / 8).saturating_add(1)
}

/// A tree while it is read.
struct Tree {
    kind: Kind,
    most: usize,
    levels: Vec<Level>,
    ids: Vec<HeapId>,
}

impl Tree {
    /// Reads a node and all below it. A node is its address, its records and its level, which is
    /// less than that of the node above, so the walk ends.
    fn read(&mut self, pages: &mut Pages<'_>, root: (u64, u64, usize)) -> Result<(), Stop> {
        let mut nodes = vec![root];
        while let Some((address, count, level)) = nodes.pop() {
            self.read_node(pages, (address, count, level), &mut nodes)?;
            if self.ids.len() > self.most || nodes.len() > self.most {
                let detail = "an index has more records than it declares";
                return Err(Stop::malformed(address, STRUCTURE, detail));
            }
        }
        Ok(())
    }

    fn read_node(
        &mut self,
        pages: &mut Pages<'_>,
        (address, count, level): (u64, u64, usize),
        nodes: &mut Vec<(u64, u64, usize)>,
    ) -> Result<(), Stop> {
        let (number, record_bytes, id) = self.kind.record();
        let own = self.levels.get(level).copied();
        if own.is_none_or(|own| count > own.most) {
            let detail = format!("a node of an index has {count} records");
            return Err(Stop::malformed(address, STRUCTURE, detail));
        }
        let below = level.checked_sub(1);
        let below = below.and_then(|below| Some((below, *self.levels.get(below)?)));
        let references = below.map_or(0, |(_, below)| {
            count
                .saturating_add(1)
                .saturating_mul(below.reference_bytes)
        });
        let size = count
            .saturating_mul(record_bytes)
            .saturating_add(references);
        let bytes = pages.read(address, size.saturating_add(NODE_PREFIX_BYTES))?;
        let mut fields = Fields::new(&bytes, address);
        fields.signature(if below.is_some() { b"BTIN" } else { b"BTLF" })?;
        fields.version(&[0], "a node of an index")?;
        if fields.byte()? != number {
            return Err(fields.malformed("a node of an index has another kind"));
        }
        for _ in 0..count {
            let record = fields.bytes(usize::try_from(record_bytes).unwrap_or(usize::MAX))?;
            if self.kind.is_shared(record) {
                return Err(fields.unknown("an attribute that objects share"));
            }
            let mut heap_id = HeapId::default();
            for (into, byte) in heap_id
                .iter_mut()
                .zip(record.get(id.clone()).unwrap_or_default())
            {
                *into = *byte;
            }
            self.ids.push(heap_id);
        }
        let Some((below_level, below)) = below else {
            return Ok(());
        };
        // The counts of the leaves have one width, and that of all below a node another.
        let count_bytes = self.levels.first().map_or(1, |leaf| width(leaf.most));
        let rest = below.reference_bytes.saturating_sub(8);
        let rest = usize::try_from(rest.saturating_sub(count_bytes)).unwrap_or(usize::MAX);
        let count_bytes = usize::try_from(count_bytes).unwrap_or(usize::MAX);
        for _ in 0..=count {
            let child = fields.u64()?;
            let records = fields.number(count_bytes)?;
            fields.bytes(rest)?;
            nodes.push((child, records, below_level));
        }
        Ok(())
    }
}
