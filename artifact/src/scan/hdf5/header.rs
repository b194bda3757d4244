//! Object headers, versions 1 and 2: the messages that describe an object.

use super::pages::Pages;
use super::{LIMIT, STRUCTURE, fields::Fields};
use crate::scan::source::Stop;

/// Messages of a header: the most that version 1 can count.
const MAX_MESSAGES: usize = 0xffff;
/// Kinds of messages that are about the header itself.
const NIL: u16 = 0x00;
const CONTINUATION: u16 = 0x10;
/// The flag of a message that refers to one elsewhere.
const SHARED: u8 = 2;
/// Flags of a header of version 2.
const HAS_CREATION_ORDER: u8 = 0x04;
const HAS_PHASES: u8 = 0x10;
const HAS_TIMES: u8 = 0x20;

/// A message of a header.
pub(super) struct Message {
    pub(super) kind: u16,
    /// Where the body is in the file.
    pub(super) address: u64,
    pub(super) body: Vec<u8>,
}

/// Reads the messages of the object at an address.
pub(super) fn read(pages: &mut Pages<'_>, address: u64) -> Result<Vec<Message>, Stop> {
    if pages.read(address, 4)? == b"OHDR" {
        read_new(pages, address)
    } else {
        read_old(pages, address)
    }
}

/// A header of version 1.
fn read_old(pages: &mut Pages<'_>, address: u64) -> Result<Vec<Message>, Stop> {
    let bytes = pages.read(address, 16)?;
    let mut fields = Fields::new(&bytes, address);
    fields.version(&[1], "an object header")?;
    fields.bytes(1)?;
    let declared = usize::from(fields.u16()?);
    // How many links refer to the object.
    fields.bytes(4)?;
    let size = u64::from(fields.u32()?);
    let mut header = Header {
        is_old: true,
        prefix_bytes: 8,
        messages: Vec::new(),
        count: 0,
        bytes: 0,
        chunks: vec![(address.saturating_add(16), size)],
    };
    header.read_chunks(pages)?;
    if header.count != declared {
        let count = header.count;
        let detail = format!("an object header of {declared} messages has {count}");
        return Err(Stop::malformed(address, STRUCTURE, detail));
    }
    Ok(header.messages)
}

/// A header of version 2.
fn read_new(pages: &mut Pages<'_>, address: u64) -> Result<Vec<Message>, Stop> {
    let bytes = pages.read(address, 6)?;
    let mut fields = Fields::new(&bytes, address);
    fields.signature(b"OHDR")?;
    fields.version(&[2], "an object header")?;
    let flags = fields.byte()?;
    let times = if flags & HAS_TIMES == 0 { 0 } else { 16 };
    let phases = if flags & HAS_PHASES == 0 { 0 } else { 4 };
    let address = fields
        .address()
        .saturating_add(times)
        .saturating_add(phases);
    let width = 1_u64.wrapping_shl(u32::from(flags & 3));
    let bytes = pages.read(address, width)?;
    let size = Fields::new(&bytes, address).number(bytes.len())?;
    let mut header = Header {
        is_old: false,
        prefix_bytes: if flags & HAS_CREATION_ORDER == 0 {
            4
        } else {
            6
        },
        messages: Vec::new(),
        count: 0,
        bytes: 0,
        chunks: vec![(address.saturating_add(width), size)],
    };
    header.read_chunks(pages)?;
    Ok(header.messages)
}

/// A header while it is read.
struct Header {
    is_old: bool,
    /// Bytes of a message in front of its body.
    prefix_bytes: usize,
    messages: Vec<Message>,
    /// How many messages there are, with those about the header itself.
    count: usize,
    /// Bytes of all parts.
    bytes: usize,
    /// Where the parts are, and the bytes of the messages in each.
    chunks: Vec<(u64, u64)>,
}

impl Header {
    fn read_chunks(&mut self, pages: &mut Pages<'_>) -> Result<(), Stop> {
        let mut index = 0_usize;
        while let Some((address, size)) = self.chunks.get(index).copied() {
            let bytes = pages.read(address, size)?;
            self.bytes = self.bytes.saturating_add(bytes.len());
            if self.bytes > pages.most() {
                let detail = "an object header has more bytes than are read";
                return Err(Stop::unknown(address, LIMIT, detail));
            }
            self.read_messages(pages, &bytes, address)?;
            index = index.saturating_add(1);
        }
        Ok(())
    }

    fn read_messages(
        &mut self,
        pages: &mut Pages<'_>,
        bytes: &[u8],
        address: u64,
    ) -> Result<(), Stop> {
        let mut fields = Fields::new(bytes, address);
        while fields.left() >= self.prefix_bytes {
            let kind = if self.is_old {
                fields.u16()?
            } else {
                u16::from(fields.byte()?)
            };
            let size = usize::from(fields.u16()?);
            let flags = fields.byte()?;
            // Reserved bytes, or the order of creation.
            let known_bytes = if self.is_old { 5 } else { 4 };
            fields.bytes(self.prefix_bytes.saturating_sub(known_bytes))?;
            let address = fields.address();
            let body = fields.bytes(size)?;
            self.count = self.count.saturating_add(1);
            if self.count > MAX_MESSAGES {
                let detail = "an object header has more messages than are read";
                return Err(Stop::unknown(address, LIMIT, detail));
            }
            if kind == NIL {
                continue;
            }
            if flags & SHARED != 0 {
                let detail = format!("a message of kind {kind:#x} refers to another one");
                return Err(Stop::unknown(address, STRUCTURE, detail));
            }
            if kind == CONTINUATION {
                self.continue_at(pages, &mut Fields::new(body, address))?;
            } else {
                self.messages.push(Message {
                    kind,
                    address,
                    body: body.to_vec(),
                });
            }
        }
        // In version 2, fewer bytes than a message needs are a gap.
        if self.is_old && fields.left() > 0 {
            return Err(fields.malformed("bytes follow the last message of an object header"));
        }
        Ok(())
    }

    /// Notes the part that a message refers to.
    fn continue_at(&mut self, pages: &mut Pages<'_>, fields: &mut Fields<'_>) -> Result<(), Stop> {
        let address = fields.u64()?;
        let size = fields.u64()?;
        if self.is_old {
            self.chunks.push((address, size));
            return Ok(());
        }
        // A signature and a checksum are around the messages.
        let bytes = pages.read(address, 4)?;
        Fields::new(&bytes, address).signature(b"OCHK")?;
        let Some(size) = size.checked_sub(8) else {
            return Err(fields.malformed("a part of an object header has no room for a message"));
        };
        self.chunks.push((address.saturating_add(4), size));
        Ok(())
    }
}
