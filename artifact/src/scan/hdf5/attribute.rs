//! Attributes: small values with a name. Their texts are passed on one by one.

use std::io::Cursor;

use super::global::Heap;
use super::pages::Pages;
use super::types::{self, Kind};
use super::{Attribute, STRUCTURE, Watch, fields::Fields};
use crate::scan::names::Names;
use crate::scan::source::Stop;
use crate::scan::{Input, Report};

/// Flags of a message whose type or size stands elsewhere.
const IS_SHARED: u8 = 3;

/// Adds a name that stands at an address. Readers differ in which of two equal ones they take.
pub(super) fn add_name(names: &mut Names, name: &[u8], address: u64) -> Result<(), Stop> {
    if names.add_key(name) {
        return Ok(());
    }
    let name = String::from_utf8_lossy(name);
    let detail = format!("the name {name} is there twice");
    Err(Stop::malformed(address, STRUCTURE, detail))
}

/// Reads an attribute message and passes it on.
pub(super) fn read(
    pages: &mut Pages<'_>,
    (body, address): (&[u8], u64),
    is_root: bool,
    names: &mut Names,
    watch: &mut dyn Watch,
    report: &mut Report,
) -> Result<(), Stop> {
    let mut fields = Fields::new(body, address);
    let version = fields.version(&[1, 2, 3], "an attribute")?;
    if fields.byte()? & IS_SHARED != 0 && version > 1 {
        return Err(fields.unknown("an attribute with a type that stands elsewhere"));
    }
    let [name_bytes, type_bytes, space_bytes] =
        [fields.u16()?, fields.u16()?, fields.u16()?].map(usize::from);
    if version == 3 {
        // The character set of the name.
        fields.bytes(1)?;
    }
    let name = part(&mut fields, name_bytes, version)?;
    let name = name.strip_suffix(b"\0").unwrap_or(name);
    add_name(names, name, address)?;
    let name = std::str::from_utf8(name)
        .ok()
        .filter(|name| !name.contains('\0'));
    let Some(name) = name else {
        return Err(fields.malformed("the name of an attribute is not a text"));
    };
    let type_address = fields.address();
    let datatype = types::datatype(part(&mut fields, type_bytes, version)?, type_address)?;
    let space_address = fields.address();
    let space = part(&mut fields, space_bytes, version)?;
    let (_, count) = types::space(space, space_address)?;
    let size = count.checked_mul(datatype.bytes);
    let size = size.and_then(|size| usize::try_from(size).ok());
    let data = fields.bytes(size.unwrap_or(usize::MAX))?;
    let attribute = Attribute {
        name,
        is_root,
        offset: address,
    };
    watch.attribute(&attribute, report);
    let element_bytes = usize::try_from(datatype.bytes).unwrap_or(usize::MAX);
    let mut pass_on = |text: &mut dyn Input| watch.text(&attribute, text, report);
    match datatype.kind {
        Kind::Number => {}
        Kind::Bytes => return Err(fields.unknown("an attribute of bytes")),
        Kind::Text => {
            for text in data.chunks(element_bytes) {
                let end = text.iter().rposition(|byte| *byte != 0);
                let end = end.map_or(0, |last| last.saturating_add(1));
                pass_on(&mut Cursor::new(text.get(..end).unwrap_or_default()))?;
            }
        }
        Kind::TextReference => {
            let mut references = Fields::new(data, address);
            // The texts of a list lie in few heaps, one after the other.
            let mut last_heap: Option<Heap> = None;
            while references.left() > 0 {
                let length = u64::from(references.u32()?);
                let heap_address = references.u64()?;
                let index = references.u32()?;
                if length == 0 {
                    pass_on(&mut Cursor::new(b""))?;
                    continue;
                }
                let heap = match last_heap.take() {
                    Some(heap) if heap.is_at(heap_address) => heap,
                    _ => Heap::new(pages, heap_address)?,
                };
                let (position, stored_bytes) = heap.object(index)?;
                last_heap = Some(heap);
                // Older readers take the whole object into room for the text.
                if length != stored_bytes {
                    return Err(references.malformed("a text has another length than its object"));
                }
                pages.charge(position, length)?;
                pass_on(&mut pages.window(position, length))?;
            }
        }
    }
    Ok(())
}

/// A part of a message. In version 1, zeros fill it up to a multiple of eight.
fn part<'b>(fields: &mut Fields<'b>, bytes: usize, version: u8) -> Result<&'b [u8], Stop> {
    let part = fields.bytes(bytes)?;
    if version == 1 {
        fields.bytes(bytes.next_multiple_of(8).saturating_sub(bytes))?;
    }
    Ok(part)
}
