//! The file with what rules have learned, beside the audit log. It survives restarts of the host.
//!
//! It has the key of all hashes, so only the host's user may read it. A digest at its end tells a
//! damaged file. Such a file, one of another release, or one of another user is not used: rules
//! then learn anew.

use std::io;
use std::path::{Path, PathBuf};

use tensorgate_audit::sealed_file;

use crate::saved::Saved;
use crate::table::{self, HashKey};

/// The name of the file.
const FILE: &str = "alerts-learned.bin";
/// The beginning of a file. The number is that of its form.
const FORM: &[u8] = b"tensorgate-watch 1\n";
/// The largest file in bytes. The tables of all rules take less.
const MAX_BYTES: u64 = 64 << 20;

/// The file with what rules have learned.
#[derive(Debug)]
pub struct LearnedFile(PathBuf);

impl LearnedFile {
    /// The file beside an audit log.
    pub fn beside(log: &Path) -> Self {
        Self(log.with_file_name(FILE))
    }

    /// Reads what was saved, and uses its key of hashes. `None` without a file.
    ///
    /// # Errors
    /// Returns why the file is not used.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, String> {
        let Some(bytes) = sealed_file::read(&self.0, FORM, MAX_BYTES)? else {
            return Ok(None);
        };
        let mut content = bytes.as_slice();
        let key = HashKey::load(&mut content).ok_or("it is damaged")?;
        if !table::use_hash_key(key) {
            return Err("its hashes have another key".to_owned());
        }
        Ok(Some(content.to_vec()))
    }

    /// Writes what rules have learned, in one step: a reader sees the file before or the new one.
    ///
    /// # Errors
    /// Returns why it cannot be written.
    pub(super) fn write(&self, learned: &[u8]) -> io::Result<()> {
        sealed_file::replace(&self.0, FORM, |content| {
            table::hash_key().save(content);
            content.extend_from_slice(learned);
        })
    }

    /// Its path, for texts.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

/// Appends a block of a rule: its name and its bytes, each with its length.
pub(super) fn save_block(name: &str, block: &[u8], out: &mut Vec<u8>) {
    for part in [name.as_bytes(), block] {
        u32::try_from(part.len()).unwrap_or(u32::MAX).save(out);
        out.extend_from_slice(part);
    }
}

/// Takes a block: the name of its rule, and its bytes.
pub(super) fn load_block<'a>(input: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    Some((load_part(input)?, load_part(input)?))
}

fn load_part<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(u32::load(input)?).ok()?;
    let (part, rest) = input.split_at_checked(length)?;
    *input = rest;
    Some(part)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_read_as_written_and_a_damaged_one_never() {
        let folder = std::env::temp_dir().join(format!("tg-learned-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = LearnedFile::beside(&folder.join("decisions.jsonl"));
        assert_eq!(file.read(), Ok(None));
        for learned in [b"first".as_slice(), b"second".as_slice()] {
            file.write(learned).unwrap();
            assert_eq!(file.read().unwrap().as_deref(), Some(learned));
        }
        let mode = fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let bytes = fs::read(file.path()).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            *damaged.get_mut(at).unwrap() ^= 1;
            fs::write(file.path(), &damaged).unwrap();
            assert!(file.read().is_err(), "byte {at}");
            fs::write(file.path(), bytes.get(..at).unwrap()).unwrap();
            assert!(file.read().is_err(), "{at} bytes");
        }
        let _ = fs::remove_dir_all(&folder);
    }

    #[test]
    fn blocks_are_read_as_saved_and_cut_off_ones_never() {
        let mut out = Vec::new();
        save_block("volume", b"state", &mut out);
        let mut input = out.as_slice();
        let expected = (b"volume".as_slice(), b"state".as_slice());
        assert_eq!(load_block(&mut input), Some(expected));
        assert!(input.is_empty());
        for length in 0..out.len() {
            assert_eq!(load_block(&mut out.get(..length).unwrap()), None);
        }
    }
}
