//! Whether an unpickler would run code of a file that is of another format.
//!
//! Many bytes are opcodes, so that data often begin with some. An unpickler runs each operation
//! before it reads the next one. So this walk runs [`Machine`] and goes on wherever some unpickler
//! does:
//!
//! | the file has | it is also a pickle |
//! |---|---|
//! | a call, BUILD or a change of a container behind an import | yes: it runs before any fault |
//! | a STOP at its end, and no fault before | yes |
//! | an operation across the end of a frame, or a frame in a frame | yes: readers in C skip bytes |
//! | more operations than are followed | yes: what comes behind is not known |
//! | more values or marks than are followed, and an operation that needs one of them | yes |
//! | no opcode, too few values, a number that is none, a line that goes on | no: that is a fault |
//! | an import whose name is no text | no: that is a fault, too |
//! | a line of any length, a number that only some unpicklers read | neither: these are values |
//! | a persistent identifier, a number of `copyreg` | neither: they give nothing to call |
//! | an import, or a STOP, with data behind it | neither: at most a module is loaded |

use std::io;

use super::super::input::Input;
use super::super::limits::Limits;
use super::super::reader::Reader;
use super::machine::Machine;
use super::opcodes::Opcode;
use super::operation::{Argument, Operation, Stop, argument};

/// Operations that call a value or a method of it.
const CALLS: &[u8] = b"Rabeiosu\x81\x90\x92";

/// Whether an unpickler that begins at the first byte runs code, or comes to the end of the file.
///
/// # Errors
/// The input cannot be read.
pub(in crate::scan) fn is_in(input: &mut dyn Input, limits: &Limits) -> io::Result<bool> {
    let mut reader = Reader::new(input)?;
    let mut machine = Machine::new("pickle", 0);
    let (mut has_text, mut has_import, mut is_forgotten) = (false, false, false);
    for _ in 0..limits.operations {
        let offset = reader.position();
        let code = reader.byte()?.unwrap_or_default();
        let Some(opcode) = Opcode::from_code(code) else {
            return Ok(false);
        };
        let argument = argument(&mut reader, opcode.kind());
        let end = reader.position();
        if machine.is_frame_cut(offset, end, opcode) {
            return Ok(true);
        }
        let argument = match argument {
            Ok(argument) => argument,
            Err(Stop::Io(error)) => return Err(error),
            Err(Stop::Malformed(_)) => return Ok(false),
            // The line was passed, and some unpickler goes on behind it.
            Err(Stop::Ambiguous(_) | Stop::Limit(_)) => Argument::Line,
        };
        has_text |= matches!(argument, Argument::Text(_));
        has_import |= matches!(opcode, Opcode::Global | Opcode::Inst | Opcode::StackGlobal);
        let is_named = match &argument {
            Argument::Names(module, name) => is_name(module) && is_name(name),
            _ => has_text || opcode != Opcode::StackGlobal,
        };
        if !is_named {
            return Ok(false);
        }
        let operation = Operation {
            offset,
            opcode: on_any_value(opcode),
            argument,
        };
        match machine.run(operation, end, reader.left()) {
            Err(Stop::Io(error)) => return Err(error),
            Err(Stop::Malformed(_)) => return Ok(is_forgotten),
            Ok(true) if reader.left() == 0 => return Ok(true),
            _ if has_import && CALLS.contains(&code) => return Ok(true),
            Ok(true) => machine.next_pickle(),
            Ok(false) => {}
            Err(Stop::Ambiguous(_) | Stop::Limit(_)) => {
                machine.stack.clear();
                is_forgotten = true;
            }
        }
    }
    Ok(true)
}

/// An operation that takes and puts as many values, but no number of a memo, which only some
/// unpicklers may read, and no pairs, of which some change a container one by one.
const fn on_any_value(opcode: Opcode) -> Opcode {
    match opcode {
        Opcode::Get | Opcode::Binget | Opcode::LongBinget => Opcode::None,
        Opcode::Put | Opcode::Binput | Opcode::LongBinput | Opcode::Memoize => {
            Opcode::ReadonlyBuffer
        }
        Opcode::Dict => Opcode::List,
        Opcode::Setitems => Opcode::Appends,
        opcode => opcode,
    }
}

/// Whether a line can be the name of a module or of what is in it. Unpicklers decode it as UTF-8.
fn is_name(line: &[u8]) -> bool {
    let text = std::str::from_utf8(line);
    text.is_ok_and(|text| !text.is_empty() && !text.contains(char::is_control))
}

#[cfg(test)]
mod tests;
