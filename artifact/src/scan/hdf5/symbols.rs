//! Groups with a symbol table: a B-tree of version 1 whose leaves list names and objects. The names
//! lie in a local heap.

use super::pages::Pages;
use super::{LIMIT, fields::Fields};
use crate::scan::source::Stop;

/// The longest name, bytes.
const MAX_NAME_BYTES: u64 = 1_024;
/// Bytes of an entry.
const ENTRY_BYTES: u64 = 40;
/// The kind of a tree whose leaves are symbol tables.
const GROUP: u8 = 0;
/// What an entry repeats of its object.
const NOTHING: u32 = 0;
const SYMBOL_TABLE: u32 = 1;
const SOFT_LINK: u32 = 2;

/// An entry of a symbol table.
pub(super) struct Entry {
    /// Where the name is in the local heap.
    name: u64,
    /// The address of the object.
    pub(super) object: u64,
    /// The symbol table of the object, which some readers take from here.
    pub(super) cached: Option<(u64, u64)>,
    /// Whether the entry is a link to a path instead.
    pub(super) is_soft: bool,
}

/// Reads an entry.
pub(super) fn entry(fields: &mut Fields<'_>) -> Result<Entry, Stop> {
    let name = fields.u64()?;
    let object = fields.u64()?;
    let kind = fields.u32()?;
    fields.bytes(4)?;
    let (tree, heap) = (fields.u64()?, fields.u64()?);
    if !matches!(kind, NOTHING | SYMBOL_TABLE | SOFT_LINK) {
        return Err(fields.malformed(&format!("an entry of a symbol table of kind {kind}")));
    }
    Ok(Entry {
        name,
        object,
        cached: (kind == SYMBOL_TABLE).then_some((tree, heap)),
        is_soft: kind == SOFT_LINK,
    })
}

/// The names of a group.
pub(super) struct Names {
    address: u64,
    size: u64,
}

impl Names {
    /// The local heap at an address.
    pub(super) fn new(pages: &mut Pages<'_>, heap: u64) -> Result<Self, Stop> {
        let bytes = pages.read(heap, 32)?;
        let mut fields = Fields::new(&bytes, heap);
        fields.signature(b"HEAP")?;
        fields.version(&[0], "a local heap")?;
        fields.bytes(3)?;
        let size = fields.u64()?;
        // The list of free space.
        fields.bytes(8)?;
        let address = fields.u64()?;
        pages.check(address, size)?;
        Ok(Self { address, size })
    }

    /// The name of an entry.
    pub(super) fn name(&self, pages: &mut Pages<'_>, entry: &Entry) -> Result<Vec<u8>, Stop> {
        let most = self.size.saturating_sub(entry.name).min(MAX_NAME_BYTES);
        pages.text(self.address.saturating_add(entry.name), most)
    }
}

/// Reads the entries of the tree at an address, at most `most`.
pub(super) fn entries(pages: &mut Pages<'_>, tree: u64, most: usize) -> Result<Vec<Entry>, Stop> {
    let mut entries = Vec::new();
    // The level of a child is one less than that of its node, so the walk ends.
    let mut nodes = vec![(tree, None)];
    while let Some((address, expected_level)) = nodes.pop() {
        let bytes = pages.read(address, 24)?;
        let mut fields = Fields::new(&bytes, address);
        fields.signature(b"TREE")?;
        let kind = fields.byte()?;
        let level = fields.byte()?;
        let count = u64::from(fields.u16()?);
        if kind != GROUP || expected_level.is_some_and(|expected| expected != level) {
            return Err(fields.malformed("a node of a tree has another kind or level"));
        }
        let children = address.saturating_add(24);
        // A key is before each child, and one behind the last.
        let bytes = pages.read(children, count.saturating_mul(16).saturating_add(8))?;
        let mut fields = Fields::new(&bytes, children);
        for _ in 0..count {
            fields.bytes(8)?;
            let child = fields.u64()?;
            match level.checked_sub(1) {
                Some(level) => nodes.push((child, Some(level))),
                None => add_leaf(pages, child, &mut entries)?,
            }
            if entries.len() > most || nodes.len() > most {
                let detail = format!("a group has more than {most} entries");
                return Err(Stop::unknown(tree, LIMIT, detail));
            }
        }
    }
    Ok(entries)
}

fn add_leaf(pages: &mut Pages<'_>, address: u64, entries: &mut Vec<Entry>) -> Result<(), Stop> {
    let bytes = pages.read(address, 8)?;
    let mut fields = Fields::new(&bytes, address);
    fields.signature(b"SNOD")?;
    fields.version(&[1], "a symbol table")?;
    fields.bytes(1)?;
    let count = u64::from(fields.u16()?);
    let begin = address.saturating_add(8);
    let bytes = pages.read(begin, count.saturating_mul(ENTRY_BYTES))?;
    let mut fields = Fields::new(&bytes, begin);
    for _ in 0..count {
        entries.push(entry(&mut fields)?);
    }
    Ok(())
}
