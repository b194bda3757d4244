//! Files of HDF5 for tests, with each message of each object as a test wants it.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

use super::UNDEFINED;

/// Kinds of messages.
pub(in crate::scan) const SPACE: u8 = 1;
pub(in crate::scan) const LINK_INFO: u8 = 2;
pub(in crate::scan) const DATATYPE: u8 = 3;
pub(in crate::scan) const LINK: u8 = 6;
pub(in crate::scan) const EXTERNAL_FILES: u8 = 7;
pub(in crate::scan) const LAYOUT: u8 = 8;
pub(in crate::scan) const FILTERS: u8 = 11;
pub(in crate::scan) const ATTRIBUTE: u8 = 12;
pub(in crate::scan) const CONTINUATION: u8 = 16;
pub(in crate::scan) const SYMBOL_TABLE: u8 = 17;

/// A message: its kind and its body.
pub(in crate::scan) type Message = (u8, Vec<u8>);

/// A file while it is written. The superblock has version 2, and the root group comes last.
pub(in crate::scan) struct Writer {
    bytes: Vec<u8>,
    root: Vec<Message>,
}

impl Writer {
    /// A file whose root group has all links in its header.
    pub(in crate::scan) fn new() -> Self {
        Self {
            bytes: vec![0; 48],
            root: vec![link_info(UNDEFINED, UNDEFINED, None)],
        }
    }

    /// A file whose root group has these messages alone.
    pub(in crate::scan) fn with_root(messages: Vec<Message>) -> Self {
        Self {
            bytes: vec![0; 48],
            root: messages,
        }
    }

    /// Appends bytes, and answers where they begin.
    pub(in crate::scan) fn put(&mut self, bytes: &[u8]) -> u64 {
        let address = u64::try_from(self.bytes.len()).unwrap();
        self.bytes.extend_from_slice(bytes);
        address
    }

    /// Appends an object, and answers where it is.
    pub(in crate::scan) fn object(&mut self, messages: &[Message]) -> u64 {
        let mut body = Vec::new();
        for (kind, data) in messages {
            body.push(*kind);
            body.extend(u16::try_from(data.len()).unwrap().to_le_bytes());
            body.push(0);
            body.extend_from_slice(data);
        }
        let mut header = b"OHDR\x02\x02".to_vec();
        header.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
        header.extend(body);
        // The checksum.
        header.extend([0; 4]);
        self.put(&header)
    }

    /// Appends an object with a header of version 1.
    pub(in crate::scan) fn old_object(&mut self, messages: &[Message]) -> u64 {
        let mut body = Vec::new();
        for (kind, data) in messages {
            let size = data.len().next_multiple_of(8);
            body.extend(u16::from(*kind).to_le_bytes());
            body.extend(u16::try_from(size).unwrap().to_le_bytes());
            body.extend([0; 4]);
            body.extend_from_slice(data);
            body.resize(body.len().next_multiple_of(8), 0);
        }
        let mut header = vec![1, 0];
        header.extend(u16::try_from(messages.len()).unwrap().to_le_bytes());
        header.extend(1_u32.to_le_bytes());
        header.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
        header.extend([0; 4]);
        header.extend(body);
        self.put(&header)
    }

    /// Adds a message to the root group.
    pub(in crate::scan) fn root(mut self, message: Message) -> Self {
        self.root.push(message);
        self
    }

    /// Adds a dataset of two numbers with this layout and further messages to the root group.
    pub(in crate::scan) fn dataset(mut self, layout: Vec<u8>, more: &[Message]) -> Self {
        let mut messages = vec![(SPACE, space(&[2])), (DATATYPE, float()), (LAYOUT, layout)];
        messages.extend_from_slice(more);
        let address = self.object(&messages);
        self.root(link("d", address))
    }

    /// The bytes of the file.
    pub(in crate::scan) fn file(mut self) -> Vec<u8> {
        let root = std::mem::take(&mut self.root);
        let root = self.object(&root);
        self.file_with_root(root)
    }

    /// The bytes of a file whose superblock has version 0. Its entry of the root group repeats this
    /// symbol table. The writer began with as many bytes.
    pub(in crate::scan) fn old_file(mut self, root: u64, (tree, heap): (u64, u64)) -> Vec<u8> {
        let mut superblock = b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0\x04\0\x10\0\0\0\0\0".to_vec();
        let end = u64::try_from(self.bytes.len()).unwrap();
        superblock.extend(words(&[
            0, UNDEFINED, end, UNDEFINED, 0, root, 1, tree, heap,
        ]));
        drop(self.bytes.splice(..superblock.len(), superblock));
        self.bytes
    }

    /// The bytes of a file with this root group.
    pub(in crate::scan) fn file_with_root(mut self, root: u64) -> Vec<u8> {
        let mut superblock = b"\x89HDF\r\n\x1a\n\x02\x08\x08\x00".to_vec();
        let end = u64::try_from(self.bytes.len()).unwrap();
        superblock.extend(words(&[0, UNDEFINED, end, root]));
        superblock.extend([0; 4]);
        drop(self.bytes.splice(..48, superblock));
        self.bytes
    }
}

/// Numbers of eight bytes.
pub(in crate::scan) fn words(numbers: &[u64]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

/// Where links are stored.
pub(in crate::scan) fn link_info(heap: u64, by_name: u64, by_order: Option<u64>) -> Message {
    let mut body = vec![0, if by_order.is_some() { 2 } else { 0 }];
    body.extend(words(&[heap, by_name]));
    body.extend(words(by_order.as_slice()));
    (LINK_INFO, body)
}

/// A link to an object.
pub(in crate::scan) fn link(name: &str, object: u64) -> Message {
    let mut body = vec![1, 0, u8::try_from(name.len()).unwrap()];
    body.extend(name.as_bytes());
    body.extend(object.to_le_bytes());
    (LINK, body)
}

/// A link of another kind.
pub(in crate::scan) fn other_link(name: &str, kind: u8, value: &[u8]) -> Message {
    let mut body = vec![1, 8, kind, u8::try_from(name.len()).unwrap()];
    body.extend(name.as_bytes());
    body.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
    body.extend_from_slice(value);
    (LINK, body)
}

/// A dataspace.
pub(in crate::scan) fn space(sizes: &[u64]) -> Vec<u8> {
    let is_simple = u8::from(!sizes.is_empty());
    let mut body = vec![2, u8::try_from(sizes.len()).unwrap(), 0, is_simple];
    body.extend(words(sizes));
    body
}

/// The type of a number of four bytes.
pub(in crate::scan) fn float() -> Vec<u8> {
    let mut body = b"\x11\x20\x1f\x00\x04\x00\x00\x00".to_vec();
    body.extend(b"\x00\x00\x20\x00\x17\x08\x00\x17\x7f\x00\x00\x00");
    body
}

/// The type of a text of variable length.
pub(in crate::scan) fn text_reference() -> Vec<u8> {
    b"\x19\x01\x00\x00\x10\x00\x00\x00\x13\x00\x00\x00\x01\x00\x00\x00".to_vec()
}

/// An attribute of this type with one element.
pub(in crate::scan) fn attribute_of(name: &str, datatype: &[u8], value: &[u8]) -> Message {
    let shape = space(&[]);
    let mut body = vec![3, 0];
    for size in [name.len() + 1, datatype.len(), shape.len()] {
        body.extend(u16::try_from(size).unwrap().to_le_bytes());
    }
    body.push(0);
    body.extend(name.as_bytes());
    body.push(0);
    body.extend_from_slice(datatype);
    body.extend(shape);
    body.extend_from_slice(value);
    (ATTRIBUTE, body)
}

/// An attribute with a text of fixed length.
pub(in crate::scan) fn attribute(name: &str, text: &str) -> Message {
    let mut datatype = b"\x13\x00\x00\x00".to_vec();
    datatype.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
    attribute_of(name, &datatype, text.as_bytes())
}

/// A layout in one piece.
pub(in crate::scan) fn contiguous(address: u64, size: u64) -> Vec<u8> {
    let mut body = vec![3, 1];
    body.extend(words(&[address, size]));
    body
}

/// A layout in chunks of so many numbers of four bytes, which are not written.
pub(in crate::scan) fn chunked(count: u32) -> Vec<u8> {
    let mut body = vec![3, 2, 2];
    body.extend(words(&[UNDEFINED]));
    body.extend(count.to_le_bytes());
    body.extend(4_u32.to_le_bytes());
    body
}
