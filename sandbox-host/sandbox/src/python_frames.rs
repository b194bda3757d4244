//! The lines of Python code at which the engine ended a call, from the interpreter's memory.
//!
//! An exception has a traceback. A call that runs out of fuel, time or stack ends inside an
//! instruction of CPython, which can report nothing. Its memory still has the frames, and CPython
//! has a table for debuggers that says where (`_Py_DebugOffsets`): a cookie, then the offset of
//! each field. QuickJS has no such table, so a handler in JavaScript has no lines here.
//!
//! The guest controls its memory. What is read from it may be false, so it is only shown, escaped,
//! and the work on it is bounded.

use std::iter::Peekable;

use tensorgate_policy::values::safe_text::escaped;
use wasmtime::{Store, WasmCoreDump};

use crate::fixed_limits::{
    MAX_PYTHON_FRAMES, MAX_PYTHON_LINE_TABLE_BYTES, MAX_PYTHON_NAME_BYTES, MAX_PYTHON_SEARCH_BYTES,
    MAX_PYTHON_VISITED_FRAMES,
};

/// The first bytes of the table.
const COOKIE: [u8; 8] = *b"xdebugpy";

/// The release whose table is known, that of the runtime, in the upper half of a version.
const RELEASE: usize = 0x030f;

// The numbers of the entries of the table, which have 8 bytes each. They differ between releases.
// The data of bytes follows their length, and the length and the data of a text follow its state.
const VERSION: usize = 1;
const FIRST_INTERPRETER: usize = 5;
const FIRST_THREAD: usize = 9;
const CURRENT_FRAME: usize = 26;
const PREVIOUS_FRAME: usize = 40;
const EXECUTABLE: usize = 41;
const INSTRUCTION: usize = 42;
const OWNER: usize = 44;
const FILE_NAME: usize = 48;
const FUNCTION_NAME: usize = 49;
const LINE_TABLE: usize = 51;
const FIRST_LINE: usize = 52;
const INSTRUCTIONS: usize = 56;
const BYTES_LENGTH: usize = 87;
const TEXT_STATE: usize = 90;

/// The owner of a frame that has code of Python is below this number.
const INTERPRETER_OWNED: u8 = 3;

/// The bits of a reference that are no part of the address.
const TAG_BITS: usize = 3;

/// The bits of a text that is ASCII, with its letters after its head.
const ASCII: usize = 0b110_0000;

/// The file that connects a handler with the host. Its frames are not the author's.
const OWN_FILE: &str = "tensorgate_entry.py";

/// The innermost frames of a call that ended with this error, outermost first, as in
/// `handler.py:3 in preprocess, handler.py:9 in scale`. `None` if the guest's code did not run, or
/// is not Python.
pub(super) fn frames<T: 'static>(error: &wasmtime::Error, store: &Store<T>) -> Option<String> {
    let dump = error.downcast_ref::<WasmCoreDump>()?;
    let mut memories = dump.memories().iter().map(|memory| memory.data(store));
    let mut searched = 0_usize;
    memories.find_map(|memory| {
        let rest = MAX_PYTHON_SEARCH_BYTES.saturating_sub(searched);
        searched = searched.saturating_add(memory.len());
        Interpreter::find(memory, rest)?.frames()
    })
}

/// An interpreter in a linear memory.
struct Interpreter<'m> {
    memory: &'m [u8],
    /// The address of the table.
    table: usize,
}

impl<'m> Interpreter<'m> {
    /// The interpreter whose table is in the first bytes of a memory.
    fn find(memory: &'m [u8], most_bytes: usize) -> Option<Self> {
        let searched = memory.get(..memory.len().min(most_bytes))?;
        let (words, _) = searched.as_chunks::<{ COOKIE.len() }>();
        let index = words.iter().position(|word| *word == COOKIE)?;
        let table = index.checked_mul(COOKIE.len())?;
        let found = Self { memory, table };
        let version = found.entry(VERSION)?;
        (version / 0x1_0000 == RELEASE).then_some(found)
    }

    fn frames(&self) -> Option<String> {
        let interpreter = self.field(self.table, FIRST_INTERPRETER)?;
        let thread = self.field(interpreter, FIRST_THREAD)?;
        let mut next = self.field(thread, CURRENT_FRAME);
        let mut frames = Vec::new();
        for _ in 0..MAX_PYTHON_VISITED_FRAMES {
            let Some(frame) = next.filter(|_| frames.len() < MAX_PYTHON_FRAMES) else {
                break;
            };
            frames.extend(self.frame(frame));
            next = self.field(frame, PREVIOUS_FRAME);
        }
        frames.reverse();
        (!frames.is_empty()).then(|| escaped(&frames.join(", ")))
    }

    /// The text of a frame. `None` if it has no line of the author.
    fn frame(&self, frame: usize) -> Option<String> {
        let owner = self.memory.get(self.address(frame, OWNER)?)?;
        if *owner >= INTERPRETER_OWNED {
            return None;
        }
        let code = self.field(frame, EXECUTABLE)? & !TAG_BITS;
        let path = self.text(self.field(code, FILE_NAME)?)?;
        let file = path.rsplit('/').next().unwrap_or_default();
        if file == OWN_FILE || file.starts_with('<') {
            return None;
        }
        let name = self.text(self.field(code, FUNCTION_NAME)?);
        let instruction = self.field(frame, INSTRUCTION)?;
        let offset = instruction.checked_sub(self.address(code, INSTRUCTIONS)?)?;
        let first = self.field(code, FIRST_LINE)?;
        let table = self.line_table(self.field(code, LINE_TABLE)?)?;
        let line = line_at(table, first, offset)?;
        Some(format!("{file}:{line} in {}", name.unwrap_or("?")))
    }

    fn line_table(&self, bytes: usize) -> Option<&'m [u8]> {
        let length = self.field(bytes, BYTES_LENGTH)?;
        let start = self.address(bytes, BYTES_LENGTH + 1)?;
        self.bytes(start, length.min(MAX_PYTHON_LINE_TABLE_BYTES))
    }

    /// A text in ASCII. Paths and names are hardly ever anything else.
    fn text(&self, text: usize) -> Option<&'m str> {
        let length = self.field(text, TEXT_STATE + 1)?;
        let start = self.address(text, TEXT_STATE + 2)?;
        let letters = self.bytes(start, length.min(MAX_PYTHON_NAME_BYTES))?;
        let is_ascii = self.field(text, TEXT_STATE)? & ASCII == ASCII;
        str::from_utf8(letters).ok().filter(|_| is_ascii)
    }

    /// An entry of the table: a version, or an offset.
    fn entry(&self, index: usize) -> Option<usize> {
        let start = self.table.checked_add(index.checked_mul(8)?)?;
        let bytes = self.memory.get(start..)?.first_chunk()?;
        usize::try_from(u64::from_le_bytes(*bytes)).ok()
    }

    /// The address of an object's field.
    fn address(&self, object: usize, index: usize) -> Option<usize> {
        object.checked_add(self.entry(index)?)
    }

    /// The number or the address in an object's field. No object has the address 0.
    fn field(&self, object: usize, index: usize) -> Option<usize> {
        if object == 0 {
            return None;
        }
        self.number(self.address(object, index)?)
    }

    fn number(&self, address: usize) -> Option<usize> {
        let bytes = self.memory.get(address..)?.first_chunk()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    }

    fn bytes(&self, start: usize, length: usize) -> Option<&'m [u8]> {
        self.memory.get(start..start.checked_add(length)?)
    }
}

/// The line of the instruction at an offset in bytes, by the table of a function whose first line
/// is `first` (`InternalDocs/code_objects.md` of CPython). `None` if it has none.
fn line_at(table: &[u8], first: usize, offset: usize) -> Option<i64> {
    let (mut line, mut end) = (i64::try_from(first).ok()?, 0_usize);
    let mut bytes = table.iter().copied().peekable();
    while let Some(head) = bytes.next() {
        let kind = (head & 0x78) / 8;
        line = line.checked_add(match kind {
            10..=12 => i64::from(kind.saturating_sub(10)),
            13 | 14 => signed(&mut bytes)?,
            _ => 0,
        })?;
        // Instructions have 2 bytes each.
        let instructions = usize::from(head & 7).saturating_add(1);
        end = end.saturating_add(instructions.saturating_mul(2));
        if offset < end {
            return (kind != 15).then_some(line);
        }
        while bytes.next_if(|byte| byte & 0x80 == 0).is_some() {}
    }
    None
}

/// A signed number in parts of 6 bits, lowest first. Its lowest bit is the sign.
fn signed(bytes: &mut Peekable<impl Iterator<Item = u8>>) -> Option<i64> {
    let (mut value, mut unit) = (0_i64, 1_i64);
    loop {
        let byte = bytes.next()?;
        value = value.checked_add(i64::from(byte & 0x3f).checked_mul(unit)?)?;
        if byte & 0x40 == 0 {
            break;
        }
        unit = unit.checked_mul(64)?;
    }
    let magnitude = value / 2;
    Some(if value % 2 == 0 {
        magnitude
    } else {
        magnitude.saturating_neg()
    })
}

#[cfg(test)]
mod tests;
