//! The fields of a structure in memory. The least byte of a number comes first.

use super::STRUCTURE;
use crate::scan::source::Stop;

/// A position in a structure.
pub(super) struct Fields<'b> {
    rest: &'b [u8],
    /// Where `rest` begins in the file.
    address: u64,
}

impl<'b> Fields<'b> {
    /// The fields of a structure at `address`.
    pub(super) const fn new(bytes: &'b [u8], address: u64) -> Self {
        Self {
            rest: bytes,
            address,
        }
    }

    /// Where the next field is in the file.
    pub(super) const fn address(&self) -> u64 {
        self.address
    }

    /// Bytes that are left.
    pub(super) const fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'b [u8], Stop> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.malformed("a structure ends before its last field"));
        };
        self.rest = rest;
        let taken_bytes = u64::try_from(count).unwrap_or(u64::MAX);
        self.address = self.address.saturating_add(taken_bytes);
        Ok(taken)
    }

    /// A number of up to eight bytes.
    pub(super) fn number(&mut self, bytes: usize) -> Result<u64, Stop> {
        let mut number = [0; 8];
        let field = self.bytes(bytes)?;
        match number.get_mut(..bytes) {
            Some(low) => low.copy_from_slice(field),
            None => return Err(self.malformed("a number is longer than 64 bits")),
        }
        Ok(u64::from_le_bytes(number))
    }

    pub(super) fn byte(&mut self) -> Result<u8, Stop> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Stop> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Stop> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Stop> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// The four letters with which a structure begins.
    pub(super) fn signature(&mut self, expected: &[u8; 4]) -> Result<(), Stop> {
        if self.array()? == *expected {
            return Ok(());
        }
        let expected = String::from_utf8_lossy(expected);
        Err(self.malformed(&format!("a structure does not begin with {expected}")))
    }

    /// The version of a structure, which `what` names.
    pub(super) fn version(&mut self, known: &[u8], what: &str) -> Result<u8, Stop> {
        let version = self.byte()?;
        if known.contains(&version) {
            return Ok(version);
        }
        Err(self.unknown(&format!("{what} has version {version}")))
    }

    /// The structure breaks the format.
    pub(super) fn malformed(&self, detail: &str) -> Stop {
        Stop::malformed(self.address, STRUCTURE, detail)
    }

    /// The structure is not followed.
    pub(super) fn unknown(&self, detail: &str) -> Stop {
        Stop::unknown(self.address, STRUCTURE, detail)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let bytes = self.bytes(N)?;
        let array = <[u8; N]>::try_from(bytes);
        array.map_err(|_| self.malformed("a structure ends before its last field"))
    }
}
