//! The processor that a program is for, from its ELF header. A program that needs a library or a
//! loader is refused, because an image has neither.
//!
//! Source: System V Application Binary Interface, "ELF Header" and "Program Header", 64-bit form.

/// Where fields of the header begin, in bytes.
const CLASS: usize = 4;
const BYTE_ORDER: usize = 5;
const TYPE: usize = 0x10;
const MACHINE: usize = 0x12;
const SEGMENTS: usize = 0x20;
const SEGMENT_BYTES: usize = 0x36;
const SEGMENT_COUNT: usize = 0x38;
/// 64-bit, little-endian.
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
/// Types of files that run: at a fixed address, and at any.
const EXECUTABLE: u16 = 2;
const POSITION_INDEPENDENT: u16 = 3;
/// The machines that images exist for.
const X86_64: u16 = 62;
const AARCH64: u16 = 183;
/// The type of a segment that names a loader.
const INTERPRETER: u32 = 3;

/// Why a file is no program for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramFault {
    /// Another format.
    #[error("is not a 64-bit little-endian ELF file")]
    NotElf,
    /// An object file or a core dump.
    #[error("is an ELF file that is not a program")]
    NotAProgram,
    /// A processor without images.
    #[error("is for ELF machine {0}; images exist for x86-64 (62) and AArch64 (183)")]
    Machine(u16),
    /// It ends before its program headers do.
    #[error("ends before its ELF program headers do")]
    Truncated,
    /// It is not linked statically.
    #[error("needs a loader, which an image does not have: link it statically")]
    NotStatic,
}

/// The processor as OCI images name it.
///
/// # Errors
/// The file is no static program for a known processor.
pub fn architecture(program: &[u8]) -> Result<&'static str, ProgramFault> {
    let is_elf = program.starts_with(b"\x7fELF")
        && program.get(CLASS) == Some(&CLASS_64)
        && program.get(BYTE_ORDER) == Some(&LITTLE_ENDIAN);
    if !is_elf {
        return Err(ProgramFault::NotElf);
    }
    let half = |at| {
        field(program, at)
            .map(u16::from_le_bytes)
            .ok_or(ProgramFault::Truncated)
    };
    if !matches!(half(TYPE)?, EXECUTABLE | POSITION_INDEPENDENT) {
        return Err(ProgramFault::NotAProgram);
    }
    let architecture = match half(MACHINE)? {
        X86_64 => "amd64",
        AARCH64 => "arm64",
        other => return Err(ProgramFault::Machine(other)),
    };
    let first = field(program, SEGMENTS)
        .and_then(|bytes| usize::try_from(u64::from_le_bytes(bytes)).ok())
        .ok_or(ProgramFault::Truncated)?;
    let segment_bytes = usize::from(half(SEGMENT_BYTES)?);
    for number in 0..usize::from(half(SEGMENT_COUNT)?) {
        let kind = number
            .checked_mul(segment_bytes)
            .and_then(|offset| first.checked_add(offset))
            .and_then(|at| field(program, at))
            .map(u32::from_le_bytes)
            .ok_or(ProgramFault::Truncated)?;
        if kind == INTERPRETER {
            return Err(ProgramFault::NotStatic);
        }
    }
    Ok(architecture)
}

/// The bytes of a field.
fn field<const BYTES: usize>(program: &[u8], at: usize) -> Option<[u8; BYTES]> {
    program
        .get(at..at.checked_add(BYTES)?)
        .and_then(|bytes| bytes.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::{ProgramFault, architecture};

    /// A header with one program header after it.
    fn program(kind: u8, machine: u8, segment: u8) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(16, 0);
        bytes.extend([kind, 0, machine, 0]);
        bytes.resize(32, 0);
        bytes.push(64);
        bytes.resize(54, 0);
        bytes.extend([56, 0, 1, 0]);
        bytes.resize(64, 0);
        bytes.push(segment);
        bytes.resize(120, 0);
        bytes
    }

    #[test]
    fn only_static_programs_for_known_processors_are_accepted() {
        for (kind, machine, segment, expected) in [
            (2, 62, 1, Ok("amd64")),
            (3, 62, 1, Ok("amd64")),
            (3, 183, 1, Ok("arm64")),
            (1, 62, 1, Err(ProgramFault::NotAProgram)),
            (3, 40, 1, Err(ProgramFault::Machine(40))),
            (3, 62, 3, Err(ProgramFault::NotStatic)),
        ] {
            let found = architecture(&program(kind, machine, segment));
            assert_eq!(found, expected, "{kind} {machine} {segment}");
        }
        let whole = program(3, 62, 1);
        for (end, expected) in [
            (0, ProgramFault::NotElf),
            (17, ProgramFault::Truncated),
            (40, ProgramFault::Truncated),
            (67, ProgramFault::Truncated),
        ] {
            let found = architecture(whole.get(..end).unwrap_or_default());
            assert_eq!(found, Err(expected), "{end}");
        }
        // 32-bit, and big-endian.
        for (at, value) in [(4, 1), (5, 2)] {
            let mut other = whole.clone();
            if let Some(byte) = other.get_mut(at) {
                *byte = value;
            }
            assert_eq!(architecture(&other), Err(ProgramFault::NotElf), "{at}");
        }
    }
}
