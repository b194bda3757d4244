//! Python pickles of protocols 0 to 5: what loading them would import, call and change.
//!
//! Each operation is followed as CPython's unpickler would follow it, but nothing is imported or
//! called. A pickle is safe if it imports only names of a short list, calls them with plain data,
//! and ends where the file ends. Everything else that it could do counts as code. Nothing is safe
//! because it is absent from a list of dangerous names.
//!
//! The data of arrays and tensors is passed over without being read, unless it looks like a pickle
//! itself.

mod allowed;
mod calls;
mod generators;
#[cfg(test)]
mod golden;
mod joblib;
mod keys;
mod legacy;
mod machine;
mod memo;
mod opcodes;
mod operation;
mod script;
mod stack;
mod tensors;
#[cfg(test)]
mod tests;
mod value;
mod walk;

use std::collections::BTreeMap;
use std::io;

use self::walk::Work;
use super::finding::Report;
use super::input::Input;
use super::limits::Limits;

pub use self::calls::Storage;
pub use self::legacy::legacy_torch;
pub(super) use self::operation::AMBIGUOUS;
pub(super) use self::walk::LIMIT;

/// Scans a file of one or more pickles.
///
/// # Errors
/// The input cannot be read.
pub fn scan(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let mut work = Work::new(limits);
    let machine = work.stream(input, "pickle", false)?;
    Ok(machine.report)
}

/// Scans the pickle of a torch archive. Its persistent identifiers name storages, which are
/// members of the archive; they are returned by their names.
///
/// # Errors
/// The input cannot be read.
pub fn scan_torch(
    input: &mut dyn Input,
    limits: &Limits,
) -> io::Result<(Report, BTreeMap<String, Storage>)> {
    scan_storages(input, Work::new(limits))
}

/// Scans a pickle of a TorchScript program. Its objects are of the program's own classes, whose
/// code is a finding of the archive, not of the pickle.
///
/// # Errors
/// The input cannot be read.
pub fn scan_torchscript(
    input: &mut dyn Input,
    limits: &Limits,
) -> io::Result<(Report, BTreeMap<String, Storage>)> {
    let mut work = Work::new(limits);
    work.is_script = true;
    scan_storages(input, work)
}

fn scan_storages(
    input: &mut dyn Input,
    mut work: Work<'_>,
) -> io::Result<(Report, BTreeMap<String, Storage>)> {
    let machine = work.stream(input, "pickle", true)?;
    Ok((machine.report, machine.storages))
}
