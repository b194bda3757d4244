//! Archives that are made of a fuzzer's bytes, because no fuzzer finds the checksums of one.

use std::io::Write as _;

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

/// Members of an archive. More are left out.
const MAX_MEMBERS: usize = 32;
/// The bit of a member's first byte that deflates it.
const IS_DEFLATED: u8 = 0x80;
/// Bytes of a block of tar.
const BLOCK_BYTES: usize = 512;

/// A kind of archive, with the names that its members may have.
#[derive(Debug)]
pub(super) enum Archive {
    Zip(&'static [&'static str]),
    Tar(&'static [&'static str]),
}

/// A member of an archive.
pub(super) struct Member<'d> {
    pub(super) name: &'static str,
    pub(super) content: &'d [u8],
    is_deflated: bool,
}

impl Archive {
    /// The members in a fuzzer's bytes: each begins with a byte that selects its name, and the
    /// length of its content in two bytes.
    pub(super) fn members<'d>(&self, data: &'d [u8]) -> Vec<Member<'d>> {
        let (Self::Zip(names) | Self::Tar(names)) = self;
        let mut members = Vec::new();
        let mut rest = data;
        while let [selector, low, high, after @ ..] = rest
            && members.len() < MAX_MEMBERS
        {
            let length = usize::from(u16::from_le_bytes([*low, *high])).min(after.len());
            let (content, next) = after.split_at(length);
            members.push(Member {
                name: names[usize::from(selector & !IS_DEFLATED) % names.len()],
                content,
                is_deflated: selector & IS_DEFLATED != 0,
            });
            rest = next;
        }
        members
    }

    /// The file.
    pub(super) fn write(&self, members: &[Member<'_>]) -> Vec<u8> {
        match self {
            Self::Zip(_) => zip(members),
            Self::Tar(_) => tar(members),
        }
    }
}

/// A zip file, by APPNOTE 4.3.
fn zip(members: &[Member<'_>]) -> Vec<u8> {
    let mut file: Vec<u8> = Vec::new();
    let mut directory: Vec<u8> = Vec::new();
    for member in members {
        let (method, packed) = if member.is_deflated {
            (8_u16, deflate(member.content))
        } else {
            (0, member.content.to_vec())
        };
        let mut crc = Crc::new();
        crc.update(member.content);
        // What both headers have: version, flags, method, time, checksum, sizes, and the lengths
        // of the name and of what follows it.
        let common = [
            &b"\x14\0\0\0"[..],
            &method.to_le_bytes(),
            &[0; 4],
            &crc.sum().to_le_bytes(),
            &number(packed.len()),
            &number(member.content.len()),
            &number(member.name.len()),
        ]
        .concat();
        directory.extend([b"PK\x01\x02\x14\x03", &common[..], &[0; 10]].concat());
        directory.extend(number(file.len()));
        directory.extend(member.name.as_bytes());
        file.extend([b"PK\x03\x04", &common[..], member.name.as_bytes(), &packed].concat());
    }
    let count = number(members.len());
    let end = [
        b"PK\x05\x06\0\0\0\0",
        &count[..2],
        &count[..2],
        &number(directory.len()),
        &number(file.len()),
        &[0; 2],
    ]
    .concat();
    [file, directory, end].concat()
}

/// Four bytes, the least first.
fn number(value: usize) -> [u8; 4] {
    let value = u32::try_from(value).expect("an input has a few kilobytes");
    value.to_le_bytes()
}

fn deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).expect("it is in memory");
    encoder.finish().expect("it is in memory")
}

/// A tar file with headers of POSIX.
fn tar(members: &[Member<'_>]) -> Vec<u8> {
    let mut file: Vec<u8> = Vec::new();
    for member in members {
        let mut header = [0; BLOCK_BYTES];
        header[..member.name.len()].copy_from_slice(member.name.as_bytes());
        let size = format!("{:011o}", member.content.len());
        header[124..135].copy_from_slice(size.as_bytes());
        header[148..156].fill(b' ');
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().copied().map(u32::from).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        file.extend(header);
        file.extend(member.content);
        file.resize(file.len().next_multiple_of(BLOCK_BYTES), 0);
    }
    file.resize(file.len() + 2 * BLOCK_BYTES, 0);
    file
}
