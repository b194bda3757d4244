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
mod polyglot;
mod script;
mod stack;
mod tensors;
#[cfg(test)]
mod tests;
mod value;
mod walk;

use std::collections::BTreeMap;
use std::io;

use self::machine::Machine;
use self::opcodes::Opcode;
use self::walk::Work;
use super::finding::Report;
use super::input::Input;
use super::limits::Limits;

pub(super) use self::allowed::is_torch_constant;
pub use self::calls::Storage;
pub use self::legacy::legacy_torch;
pub(super) use self::polyglot::is_in;

/// Whether a file begins with the PROTO opcode of a pickle and an opcode that exists.
pub(super) const fn begins(head: &[u8]) -> bool {
    matches!(head, [0x80, 0..=5, next, ..] if Opcode::from_code(*next).is_some())
}

/// Scans a file of one or more pickles.
///
/// # Errors
/// The input cannot be read.
pub fn scan(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let machine = Machine::new("pickle", limits.entries);
    let machine = Work::new(limits).stream(input, machine)?;
    Ok(machine.report)
}

/// Scans a pickle of a torch archive. Its persistent identifiers name storages, which are members
/// of the archive; they are returned by their names. If it is a part of a TorchScript program, its
/// objects are of the program's own classes, whose code is a finding of the archive.
///
/// # Errors
/// The input cannot be read.
pub fn scan_torch(
    input: &mut dyn Input,
    limits: &Limits,
    is_script: bool,
) -> io::Result<(Report, BTreeMap<String, Storage>)> {
    let mut machine = Machine::new("pickle", limits.entries);
    machine.is_torch = true;
    machine.is_script = is_script;
    let machine = Work::new(limits).stream(input, machine)?;
    Ok((machine.report, machine.storages))
}
