//! Zip files for tests, with each field of each record as a test wants it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write as _;

use flate2::Compression;
use flate2::Crc;
use flate2::write::DeflateEncoder;

/// A pickle of an empty dictionary.
pub(in crate::scan) const EMPTY_DICT: &[u8] = b"\x80\x02}q\x00.";
/// A pickle that runs a command.
pub(in crate::scan) const OS_SYSTEM: &[u8] = b"cos\nsystem\n(S'id'\ntR.";

/// A member, as its two headers describe it and as it is.
#[derive(Clone)]
pub(in crate::scan) struct File {
    pub(in crate::scan) name: Vec<u8>,
    pub(in crate::scan) local_name: Vec<u8>,
    /// The bytes in the file.
    pub(in crate::scan) bytes: Vec<u8>,
    pub(in crate::scan) compressed_bytes: u32,
    pub(in crate::scan) size: u32,
    pub(in crate::scan) crc: u32,
    pub(in crate::scan) flags: u16,
    pub(in crate::scan) method: u16,
    pub(in crate::scan) attributes: u32,
    pub(in crate::scan) extra: Vec<u8>,
    pub(in crate::scan) local_extra: Vec<u8>,
    /// Whether the local header leaves checksum and sizes to the descriptor.
    pub(in crate::scan) later: bool,
    /// What follows the bytes.
    pub(in crate::scan) after: Vec<u8>,
    /// Where the central directory says that the local header is.
    pub(in crate::scan) offset: Option<u32>,
}

impl File {
    /// A stored member.
    pub(in crate::scan) fn stored(name: &str, content: &[u8]) -> Self {
        let mut crc = Crc::new();
        crc.update(content);
        let size = u32::try_from(content.len()).unwrap();
        Self {
            name: name.into(),
            local_name: name.into(),
            bytes: content.to_vec(),
            compressed_bytes: size,
            size,
            crc: crc.sum(),
            flags: 0,
            method: 0,
            attributes: 0,
            extra: Vec::new(),
            local_extra: Vec::new(),
            later: false,
            after: Vec::new(),
            offset: None,
        }
    }

    /// A deflated member.
    pub(in crate::scan) fn deflated(name: &str, content: &[u8]) -> Self {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content).unwrap();
        let bytes = encoder.finish().unwrap();
        Self {
            compressed_bytes: u32::try_from(bytes.len()).unwrap(),
            bytes,
            method: 8,
            ..Self::stored(name, content)
        }
    }

    /// The member with a descriptor after it.
    pub(in crate::scan) fn with_descriptor(mut self, signature: &[u8]) -> Self {
        self.flags |= 8;
        self.later = true;
        self.after = signature.to_vec();
        for value in [self.crc, self.compressed_bytes, self.size] {
            self.after.extend(value.to_le_bytes());
        }
        self
    }

    fn local(&self) -> Vec<u8> {
        let later = |value: u32| if self.later { 0 } else { value };
        let mut bytes = b"PK\x03\x04\x14\0".to_vec();
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend(self.method.to_le_bytes());
        bytes.extend([0; 4]);
        for value in [self.crc, self.compressed_bytes, self.size].map(later) {
            bytes.extend(value.to_le_bytes());
        }
        for part in [&self.local_name, &self.local_extra] {
            bytes.extend(u16::try_from(part.len()).unwrap().to_le_bytes());
        }
        for part in [
            &self.local_name,
            &self.local_extra,
            &self.bytes,
            &self.after,
        ] {
            bytes.extend(part);
        }
        bytes
    }

    fn central(&self, offset: u32) -> Vec<u8> {
        let mut bytes = b"PK\x01\x02\x14\x03\x14\0".to_vec();
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend(self.method.to_le_bytes());
        bytes.extend([0; 4]);
        for value in [self.crc, self.compressed_bytes, self.size] {
            bytes.extend(value.to_le_bytes());
        }
        for part in [&self.name, &self.extra] {
            bytes.extend(u16::try_from(part.len()).unwrap().to_le_bytes());
        }
        // The comment, the disk and the internal attributes.
        bytes.extend([0; 6]);
        bytes.extend(self.attributes.to_le_bytes());
        bytes.extend(self.offset.unwrap_or(offset).to_le_bytes());
        bytes.extend(&self.name);
        bytes.extend(&self.extra);
        bytes
    }
}

/// An archive of the files, up to the records at its end, with the start of its central directory.
pub(in crate::scan) fn body(files: &[File]) -> (Vec<u8>, u32) {
    let mut bytes = Vec::new();
    let mut central = Vec::new();
    for file in files {
        let offset = u32::try_from(bytes.len()).unwrap();
        central.extend(file.central(offset));
        bytes.extend(file.local());
    }
    let start = u32::try_from(bytes.len()).unwrap();
    bytes.extend(central);
    (bytes, start)
}

/// An end record for an archive whose central directory ends at `end`.
pub(in crate::scan) fn end(count: u16, start: u32, end: usize) -> Vec<u8> {
    let mut bytes = b"PK\x05\x06\0\0\0\0".to_vec();
    bytes.extend(count.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    let length = u32::try_from(end).unwrap().checked_sub(start).unwrap();
    bytes.extend(length.to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0; 2]);
    bytes
}

/// A zip file.
pub(in crate::scan) fn zip(files: &[File]) -> Vec<u8> {
    let (mut bytes, start) = body(files);
    let record = end(u16::try_from(files.len()).unwrap(), start, bytes.len());
    bytes.extend(record);
    bytes
}
