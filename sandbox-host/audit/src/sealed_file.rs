//! A file beside an audit log that survives restarts of the host. It begins with a text that names
//! its form, and a digest at its end tells a damaged file. Only the host's user may read it.

use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use tensorgate_base::files;

use crate::files::replace_file;

/// The bytes of the digest.
const DIGEST_BYTES: usize = 32;

/// Reads the content of a file. `None` without a file.
///
/// # Errors
/// Returns why the file is not used.
pub fn read(path: &Path, form: &[u8], max_bytes: u64) -> Result<Option<Vec<u8>>, String> {
    let bytes = match files::own_at_most(path, max_bytes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|error| error.to_string())?,
    };
    let mut bytes = bytes.ok_or("it is too large")?;
    let (content, digest) = bytes
        .split_last_chunk::<DIGEST_BYTES>()
        .ok_or("it is damaged")?;
    let expected: [u8; DIGEST_BYTES] = Sha256::digest(content).into();
    if expected != *digest {
        return Err("it is damaged".to_owned());
    }
    if !content.starts_with(form) {
        return Err("another release has written it".to_owned());
    }
    let content_bytes = content.len();
    bytes.truncate(content_bytes);
    bytes.drain(..form.len());
    Ok(Some(bytes))
}

/// Replaces a file in one step: a reader sees the file before or the new one. `write` appends the
/// content.
///
/// # Errors
/// Returns why it cannot be written.
pub fn replace(path: &Path, form: &[u8], write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
    let mut bytes = form.to_vec();
    write(&mut bytes);
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    replace_file(path, &bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use std::fs;

    use super::*;

    const FORM: &[u8] = b"tensorgate-test 1\n";
    const MAX_BYTES: u64 = 1_000;

    #[test]
    fn a_file_is_read_as_written_and_a_damaged_one_never() {
        let folder = std::env::temp_dir().join(format!("tg-sealed-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("file");
        let read_as = |form| read(&file, form, MAX_BYTES);
        assert_eq!(read_as(FORM), Ok(None));
        for content in [&b""[..], b"content"] {
            replace(&file, FORM, |out| out.extend_from_slice(content)).unwrap();
            assert_eq!(read_as(FORM).unwrap().as_deref(), Some(content));
            assert_eq!(
                read_as(b"tensorgate-test 2\n"),
                Err("another release has written it".to_owned())
            );
            let bytes = fs::read(&file).unwrap();
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                for damaged in [&changed[..], &bytes[..at]] {
                    fs::write(&file, damaged).unwrap();
                    assert_eq!(read_as(FORM), Err("it is damaged".to_owned()), "{at}");
                }
            }
        }
        fs::write(&file, [0; 1_001]).unwrap();
        assert_eq!(read_as(FORM), Err("it is too large".to_owned()));
        fs::remove_dir_all(folder).unwrap();
    }
}
