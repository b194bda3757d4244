//! Tensor files of torch before 1.6: five pickles, then the data of the storages.
//!
//! The pickles are a magic number, the protocol version, facts about the machine that wrote the
//! file, the model, and the keys of the storages. Each storage has its number of elements in front.

use std::collections::BTreeSet;
use std::io;

use super::super::finding::{Report, Verdict};
use super::super::input::Input;
use super::super::limits::Limits;
use super::super::reader::Reader;
use super::machine::Machine;
use super::walk::Work;
use crate::scan::rules::{self, Rule};

/// The magic number 0x1950a86a20f9469cfc6c and the version 1001, as torch pickles them.
pub(super) const PREFIX: [u8; 21] =
    *b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";
const RULE: &Rule = rules::TORCH_LEGACY;

/// Scans a legacy torch file. It is one if it begins with its magic number.
///
/// # Errors
/// The input cannot be read.
pub fn legacy_torch(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    // As many as in a zip file, whose table of contents takes as much memory as the list of names.
    let mut machine = Machine::new("torch legacy", limits.entries / 4);
    let mut reader = Reader::new(input)?;
    if reader.read_bytes(PREFIX.len())?.as_deref() != Some(PREFIX.as_slice()) {
        let detail = "the file does not begin as torch writes it";
        machine.report.add(Verdict::Malformed, 0, RULE, detail);
        return Ok(machine.report);
    }
    let mut work = Work::new(limits);
    // Facts about the machine, the model, and the keys.
    for (is_model, is_list) in [(false, false), (true, false), (false, true)] {
        machine.next_pickle();
        machine.is_torch = is_model;
        machine.list = is_list.then(Vec::new);
        if !work.follow(&mut reader, &mut machine)? || machine.report.is_final() {
            return Ok(machine.report);
        }
    }
    if let Some(detail) = storages(&mut reader, &machine)? {
        let offset = reader.position();
        machine
            .report
            .add(Verdict::Malformed, offset, RULE, &detail);
    }
    Ok(machine.report)
}

/// Passes over the storages up to the end of the file. Returns what is wrong with them.
fn storages(reader: &mut Reader<'_>, machine: &Machine) -> io::Result<Option<String>> {
    let keys = machine.list.as_deref().unwrap_or_default();
    let names: BTreeSet<_> = keys.iter().collect();
    if names.len() != keys.len() || !machine.storages.keys().eq(names) {
        let detail = "the list of storages and the storages of the model differ";
        return Ok(Some(detail.to_owned()));
    }
    for storage in keys.iter().filter_map(|key| machine.storages.get(key)) {
        let elements = reader.array()?.map(u64::from_le_bytes);
        if elements != Some(storage.elements) {
            let detail = format!("storage {} has another size than its tensors", storage.key);
            return Ok(Some(detail));
        }
        let bytes = storage
            .elements
            .checked_mul(u64::from(storage.element_bytes));
        let is_there = match bytes {
            Some(bytes) => reader.skip(bytes),
            None => false,
        };
        if !is_there {
            let detail = format!("storage {} goes beyond the end of the file", storage.key);
            return Ok(Some(detail));
        }
    }
    if reader.left() > 0 {
        return Ok(Some("bytes follow the last storage".to_owned()));
    }
    Ok(None)
}
