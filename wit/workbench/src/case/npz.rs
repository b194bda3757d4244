//! Arrays in a `.npz` file: a zip archive as `numpy.savez` and `numpy.savez_compressed` write it.

use std::io::Read as _;

use flate2::Crc;
use flate2::read::DeflateDecoder;

/// Most arrays of a file.
const MAX_ARRAYS: usize = 1_000;
/// Largest array after decompression, bytes.
const MAX_ARRAY_BYTES: usize = 64 << 20;

/// Bytes of the record at the end of an archive, of an entry in its directory, and of the header
/// before a member.
const END_BYTES: usize = 22;
const ENTRY_BYTES: usize = 46;
const MEMBER_BYTES: usize = 30;

const CUT: &str = "the archive is cut off or damaged";

/// A member of the archive.
struct Entry {
    name: String,
    is_encrypted: bool,
    method: u16,
    crc: u32,
    compressed: usize,
    size: usize,
    begin: usize,
}

/// Reads the array of this name, in the form of a `.npy` file.
///
/// # Errors
/// The file is no archive of numpy's, or has no such array.
pub fn array(file: &[u8], name: &str) -> Result<Vec<u8>, String> {
    let entries = entries(file)?;
    let member = format!("{name}.npy");
    let Some(entry) = entries.iter().find(|entry| entry.name == member) else {
        let names = entries.iter().map(|entry| {
            let name = entry.name.as_str();
            name.strip_suffix(".npy").unwrap_or(name)
        });
        let names: Vec<&str> = names.collect();
        return Err(format!("no array {name:?}; it has {}", names.join(", ")));
    };
    content(file, entry)
}

/// The directory at the end of an archive. `numpy` writes no comment behind it.
fn entries(file: &[u8]) -> Result<Vec<Entry>, String> {
    let end = file.len().checked_sub(END_BYTES).ok_or(CUT)?;
    if u32_at(file, end) != Some(0x0605_4b50) {
        return Err("not an archive as numpy.savez writes it".to_owned());
    }
    let count = usize::from(u16_at(file, end.saturating_add(10)).ok_or(CUT)?);
    if count > MAX_ARRAYS {
        return Err(format!("more than {MAX_ARRAYS} arrays"));
    }
    let mut position = size_at(file, end.saturating_add(16))?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let at = |offset: usize| position.saturating_add(offset);
        if u32_at(file, position) != Some(0x0201_4b50) {
            return Err(CUT.to_owned());
        }
        let length = |offset| u16_at(file, at(offset)).map(usize::from).ok_or(CUT);
        let (name_bytes, more) = (length(28)?, length(30)?.saturating_add(length(32)?));
        let name = part(file, at(ENTRY_BYTES), name_bytes)?;
        entries.push(Entry {
            name: String::from_utf8_lossy(name).into_owned(),
            is_encrypted: length(8)? & 1 == 1,
            method: u16_at(file, at(10)).ok_or(CUT)?,
            crc: u32_at(file, at(16)).ok_or(CUT)?,
            compressed: size_at(file, at(20))?,
            size: size_at(file, at(24))?,
            begin: size_at(file, at(42))?,
        });
        position = at(ENTRY_BYTES)
            .saturating_add(name_bytes)
            .saturating_add(more);
    }
    Ok(entries)
}

/// The bytes of a member, decompressed and checked.
fn content(file: &[u8], entry: &Entry) -> Result<Vec<u8>, String> {
    if u32_at(file, entry.begin) != Some(0x0403_4b50) {
        return Err(CUT.to_owned());
    }
    let length = |offset: usize| {
        let length = u16_at(file, entry.begin.saturating_add(offset));
        length.map(usize::from).ok_or(CUT)
    };
    let begin = (entry.begin.saturating_add(MEMBER_BYTES))
        .saturating_add(length(26)?)
        .saturating_add(length(28)?);
    let stored = part(file, begin, entry.compressed)?;
    if entry.is_encrypted {
        return Err("the archive is encrypted".to_owned());
    }
    if entry.size > MAX_ARRAY_BYTES {
        return Err(format!("an array of more than {MAX_ARRAY_BYTES} bytes"));
    }
    let content = match entry.method {
        0 => stored.to_vec(),
        8 => {
            let most = u64::try_from(entry.size).unwrap_or(u64::MAX);
            let mut content = Vec::new();
            DeflateDecoder::new(stored)
                .take(most.saturating_add(1))
                .read_to_end(&mut content)
                .map_err(|cause| format!("{CUT}: {cause}"))?;
            content
        }
        method => return Err(format!("compression method {method} is not known")),
    };
    let mut crc = Crc::new();
    crc.update(&content);
    if content.len() != entry.size || crc.sum() != entry.crc {
        return Err(CUT.to_owned());
    }
    Ok(content)
}

fn part(file: &[u8], begin: usize, length: usize) -> Result<&[u8], String> {
    let end = begin.saturating_add(length);
    file.get(begin..end).ok_or_else(|| CUT.to_owned())
}

fn u16_at(file: &[u8], at: usize) -> Option<u16> {
    let bytes = file.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_le_bytes(*bytes))
}

fn u32_at(file: &[u8], at: usize) -> Option<u32> {
    let bytes = file.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

/// A size or an offset. Files of more than 4 GiB have them elsewhere, and are too large here.
fn size_at(file: &[u8], at: usize) -> Result<usize, String> {
    let size = u32_at(file, at).ok_or(CUT)?;
    usize::try_from(size).map_err(|_| CUT.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    /// `numpy.savez_compressed` wrote it: `x` has 1 to 4, and `y` 5 to 8.
    const FILE: &[u8] = include_bytes!("../../tests/arrays.npz");

    #[test]
    fn arrays_of_numpy_are_read() {
        let y = array(FILE, "y").unwrap();
        assert!(y.starts_with(b"\x93NUMPY") && y.ends_with(&[5, 6, 7, 8]));
        let x = array(FILE, "x").unwrap();
        assert!(x.ends_with(&[1, 2, 3, 4]));
        let fault = array(FILE, "z").unwrap_err();
        assert!(fault.contains("x, y"), "{fault}");
    }

    #[test]
    fn a_damaged_archive_is_refused() {
        for length in 0..FILE.len() {
            assert!(array(&FILE[..length], "x").is_err(), "{length}");
        }
        let mut damaged = FILE.to_vec();
        // A byte of the compressed elements of the first array.
        damaged[70] ^= 1;
        assert!(array(&damaged, "x").is_err());
    }
}
