//! Reader for TorchServe's `.mar` archives: zip files with a manifest and a handler.
//!
//! Only these two files are unpacked, with size limits before and during unpacking. Nothing is
//! written to disk.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};

use flate2::Crc;
use flate2::read::DeflateDecoder;
use serde::Deserialize;

use super::{MAX_SOURCE_BYTES, Source};

/// Path of the manifest.
const MANIFEST: &str = "MAR-INF/MANIFEST.json";

/// End of the central directory: signature, size, and the maximum size of the comment.
const END: [u8; 4] = *b"PK\x05\x06";
const END_BYTES: u64 = 22;
const MAX_COMMENT_BYTES: u64 = 65_535;
/// Central directory entry and local file header: signatures and sizes.
const LISTED: [u8; 4] = *b"PK\x01\x02";
const LISTED_BYTES: usize = 46;
const LOCAL: [u8; 4] = *b"PK\x03\x04";
const LOCAL_BYTES: usize = 30;

/// Maximum size of the central directory in bytes, and number of entries.
const MAX_LIST_BYTES: u64 = 4 << 20;
const MAX_FILES: usize = 10_000;
/// Maximum number of files in a report.
const MAX_REPORTED: usize = 50;

/// Compression methods: stored and deflated.
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// TorchServe's built-in handlers and their classes. Archives name but do not contain them.
const BUILTIN_HANDLERS: [(&str, &str); 5] = [
    ("base_handler", "BaseHandler"),
    ("image_classifier", "ImageClassifier"),
    ("image_segmenter", "ImageSegmenter"),
    ("object_detector", "ObjectDetector"),
    ("text_classifier", "TextClassifier"),
];

#[derive(Deserialize)]
struct Manifest {
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    handler: String,
}

/// A central directory entry.
struct Entry {
    encrypted: bool,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    at: u64,
}

/// Reads the handler of an archive.
///
/// # Errors
/// The file is not a supported archive, or contains no handler.
pub fn handler(mut archive: impl Read + Seek, max_bytes: u64) -> Result<Source, String> {
    let (list_at, entries) = list(&mut archive, max_bytes)?;
    let text = |name: &str, archive: &mut _| {
        let entry = entries
            .get(name)
            .ok_or_else(|| format!("holds no {name}"))?;
        let bytes =
            unpack(archive, name, entry, list_at).map_err(|fault| format!("{name}: {fault}"))?;
        String::from_utf8(bytes).map_err(|_| format!("{name} is not text"))
    };
    let manifest = text(MANIFEST, &mut archive)?;
    let manifest: Manifest =
        serde_json::from_str(&manifest).map_err(|error| format!("{MANIFEST}: {error}"))?;
    let named = manifest.model.handler;
    let beside = entries.keys().filter(|name| !name.ends_with('/'));
    let mut beside: Vec<String> = beside.take(MAX_REPORTED).cloned().collect();
    if let Some((module, class)) = BUILTIN_HANDLERS.iter().find(|(module, _)| *module == named) {
        return Ok(Source {
            file: named.clone(),
            text: builtin_source(module, class),
            beside,
        });
    }
    // `module.py:function` names a function.
    let file = named.split(':').next().unwrap_or_default();
    let file = match file.strip_suffix(".py") {
        Some(_) => file.to_owned(),
        None => format!("{file}.py"),
    };
    let text = text(&file, &mut archive)?;
    beside.retain(|name| *name != file && name != MANIFEST);
    Ok(Source { file, text, beside })
}

/// Equivalent source of a built-in handler, reduced to what the analysis needs.
fn builtin_source(module: &str, class: &str) -> String {
    format!(
        "from ts.torch_handler.{module} import {class}\n\nclass Handler({class}):\n    def preprocess(self, data): ...\n    def inference(self, data): ...\n    def postprocess(self, data): ...\n"
    )
}

/// Offset and entries of the central directory.
fn list(
    archive: &mut (impl Read + Seek),
    max_bytes: u64,
) -> Result<(u64, BTreeMap<String, Entry>), String> {
    let no_archive = || "not a supported zip archive".to_owned();
    let size = archive
        .seek(SeekFrom::End(0))
        .map_err(|cause| cause.to_string())?;
    if size > max_bytes {
        return Err(format!("larger than {max_bytes} bytes"));
    }
    let tail_at = size.saturating_sub(END_BYTES.saturating_add(MAX_COMMENT_BYTES));
    let tail = piece(archive, tail_at, size.saturating_sub(tail_at))?;
    // The last record whose comment ends at the end of the file.
    let end = tail
        .windows(END.len())
        .enumerate()
        .rev()
        .filter(|(_, bytes)| *bytes == END)
        .find_map(|(at, _)| {
            let record = tail.get(at..)?;
            let comment = usize::from(half(record, 20)?);
            (record.len() == comment.checked_add(22)?).then_some((at, record))
        });
    let (end_at, record) = end.ok_or_else(no_archive)?;
    let count = usize::from(half(record, 10).ok_or_else(no_archive)?);
    let bytes = u64::from(word(record, 12).ok_or_else(no_archive)?);
    let list_at = u64::from(word(record, 16).ok_or_else(no_archive)?);
    let end_at = tail_at.saturating_add(u64::try_from(end_at).map_err(|_| no_archive())?);
    let parts = half(record, 4) == Some(0) && half(record, 6) == Some(0);
    if !parts || half(record, 8) != half(record, 10) || list_at.checked_add(bytes) != Some(end_at) {
        return Err(no_archive());
    }
    if count > MAX_FILES || bytes > MAX_LIST_BYTES {
        return Err(format!("more than {MAX_FILES} files"));
    }
    let listed = piece(archive, list_at, bytes)?;
    let mut rest = listed.as_slice();
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let (name, entry, after) = entry(rest).ok_or_else(no_archive)?;
        if entries.insert(name.clone(), entry).is_some() {
            return Err(format!("holds {name} twice"));
        }
        rest = after;
    }
    if rest.is_empty() {
        Ok((list_at, entries))
    } else {
        Err(no_archive())
    }
}

fn entry(bytes: &[u8]) -> Option<(String, Entry, &[u8])> {
    let (head, rest) = bytes.split_at_checked(LISTED_BYTES)?;
    if !head.starts_with(&LISTED) {
        return None;
    }
    let (name, rest) = rest.split_at_checked(usize::from(half(head, 28)?))?;
    let beside = usize::from(half(head, 30)?).checked_add(usize::from(half(head, 32)?))?;
    let (_, rest) = rest.split_at_checked(beside)?;
    let entry = Entry {
        encrypted: half(head, 8)? & 1 == 1,
        method: half(head, 10)?,
        crc: word(head, 16)?,
        packed: u64::from(word(head, 20)?),
        size: u64::from(word(head, 24)?),
        at: u64::from(word(head, 42)?),
    };
    let name = core::str::from_utf8(name).ok()?;
    let plain = !name.is_empty() && !name.chars().any(char::is_control);
    plain.then(|| (name.to_owned(), entry, rest))
}

/// Unpacks a file. The central directory is authoritative; the local header must agree with it.
fn unpack(
    archive: &mut (impl Read + Seek),
    name: &str,
    entry: &Entry,
    list_at: u64,
) -> Result<Vec<u8>, String> {
    if entry.encrypted {
        return Err("encrypted".to_owned());
    }
    if entry.size > MAX_SOURCE_BYTES || entry.packed > MAX_SOURCE_BYTES {
        return Err(format!("larger than {MAX_SOURCE_BYTES} bytes"));
    }
    let cut = || "lies outside of the archive".to_owned();
    let head = piece(archive, entry.at, LOCAL_BYTES as u64)?;
    let name_bytes = u64::from(half(&head, 26).ok_or_else(cut)?);
    let extra_bytes = u64::from(half(&head, 28).ok_or_else(cut)?);
    let name_at = entry.at.checked_add(LOCAL_BYTES as u64).ok_or_else(cut)?;
    let same = head.starts_with(&LOCAL)
        && half(&head, 8) == Some(entry.method)
        && piece(archive, name_at, name_bytes)? == name.as_bytes();
    if !same {
        return Err("differs between the archive and its directory".to_owned());
    }
    let at = name_at
        .saturating_add(name_bytes)
        .saturating_add(extra_bytes);
    if at.saturating_add(entry.packed) > list_at {
        return Err(cut());
    }
    let packed = piece(archive, at, entry.packed)?;
    let unpacked = match entry.method {
        STORED => packed,
        DEFLATED => {
            let mut unpacked = Vec::new();
            DeflateDecoder::new(packed.as_slice())
                .take(entry.size.saturating_add(1))
                .read_to_end(&mut unpacked)
                .map_err(|cause| cause.to_string())?;
            unpacked
        }
        other => return Err(format!("packed by method {other}")),
    };
    let mut crc = Crc::new();
    crc.update(&unpacked);
    if u64::try_from(unpacked.len()) != Ok(entry.size) || crc.sum() != entry.crc {
        return Err("does not match the archive's directory".to_owned());
    }
    Ok(unpacked)
}

/// Reads a range of the file. The caller bounds its size.
fn piece(archive: &mut (impl Read + Seek), at: u64, bytes: u64) -> Result<Vec<u8>, String> {
    archive
        .seek(SeekFrom::Start(at))
        .map_err(|cause| cause.to_string())?;
    let mut piece = Vec::new();
    let read = archive.take(bytes).read_to_end(&mut piece);
    let read = read.map_err(|cause| cause.to_string())?;
    if u64::try_from(read) == Ok(bytes) {
        Ok(piece)
    } else {
        Err("ends early".to_owned())
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|bytes| u16::from_le_bytes(*bytes))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests;
