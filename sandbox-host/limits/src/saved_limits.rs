//! The file with what clients have spent of local limits: its form, as bytes. A digest at its end
//! tells a damaged file. Times are those of the wall clock.
//!
//! | part | form |
//! |---|---|
//! | the beginning | the text [`FORM`] |
//! | time | milliseconds since 1970, 8 bytes |
//! | each state | form (1 byte), length of the key (2), key, length of the state (2), state |
//! | the end | SHA-256 over everything before |
//!
//! Numbers are little-endian.

use sha2::{Digest as _, Sha256};

use crate::local_limits::{MAX_SAVED, SavedLimit, StateForm};

/// The beginning of a file. The number is that of its form.
const FORM: &[u8] = b"tensorgate-limits 1\n";
/// The bytes of the digest.
const DIGEST_BYTES: usize = 32;
/// The most bytes of one state: two names of 128 bytes in its key, and some fixed parts.
const MAX_STATE_BYTES: usize = 400;
/// The largest file, in bytes.
pub const MAX_FILE_BYTES: u64 = 128 << 20;
const _: () = assert!((MAX_SAVED * MAX_STATE_BYTES) as u64 <= MAX_FILE_BYTES);

/// Why a file is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SavedFault {
    #[error("it is damaged")]
    Damaged,
    #[error("another release has written it")]
    Release,
}

/// Encodes states that are saved at a time.
pub fn encode(saved: &[SavedLimit], at_unix_ms: u64) -> Vec<u8> {
    let mut bytes = FORM.to_vec();
    bytes.extend(at_unix_ms.to_le_bytes());
    for SavedLimit { key, form, state } in saved {
        let lengths = [key.len(), state.len()].map(u16::try_from);
        // A longer name is in no policy.
        let [Ok(key_bytes), Ok(state_bytes)] = lengths else {
            continue;
        };
        bytes.push(match form {
            StateForm::Window => 0,
            StateForm::Day => 1,
        });
        bytes.extend(key_bytes.to_le_bytes());
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend(state_bytes.to_le_bytes());
        bytes.extend_from_slice(state);
    }
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    bytes
}

/// Decodes a file: when it was saved, in milliseconds since 1970, and the states.
///
/// # Errors
/// Returns why the file is not used.
pub fn decode(file: &[u8]) -> Result<(u64, Vec<SavedLimit>), SavedFault> {
    let (content, digest) = file
        .split_last_chunk::<DIGEST_BYTES>()
        .ok_or(SavedFault::Damaged)?;
    let expected: [u8; DIGEST_BYTES] = Sha256::digest(content).into();
    if expected != *digest {
        return Err(SavedFault::Damaged);
    }
    let mut rest = content.strip_prefix(FORM).ok_or(SavedFault::Release)?;
    let at_unix_ms = take(&mut rest).ok_or(SavedFault::Damaged)?;
    let at_unix_ms = u64::from_le_bytes(at_unix_ms);
    let mut saved = Vec::new();
    while !rest.is_empty() {
        if saved.len() >= MAX_SAVED {
            return Err(SavedFault::Damaged);
        }
        saved.push(read(&mut rest).ok_or(SavedFault::Damaged)?);
    }
    Ok((at_unix_ms, saved))
}

fn read(rest: &mut &[u8]) -> Option<SavedLimit> {
    let form = match take(rest)? {
        [0] => StateForm::Window,
        [1] => StateForm::Day,
        _ => return None,
    };
    let key = String::from_utf8(take_part(rest)?.to_vec()).ok()?;
    let state = take_part(rest)?.to_vec();
    Some(SavedLimit { key, form, state })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (chunk, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*chunk)
}

fn take_part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::from(u16::from_le_bytes(take(rest)?));
    let (part, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(part)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    fn saved() -> Vec<SavedLimit> {
        let one = |form, key: &str, bytes| SavedLimit {
            key: key.to_owned(),
            form,
            state: vec![7; bytes],
        };
        vec![
            one(StateForm::Window, "cost:elements:1:g:ocr", 48),
            one(StateForm::Day, "budget:bytes:1:g:ärzte", 16),
            one(StateForm::Day, "", 0),
        ]
    }

    #[test]
    fn states_are_read_back_and_a_damaged_file_is_not() {
        for saved in [Vec::new(), saved()] {
            let file = encode(&saved, 1_780_000_000_123);
            assert_eq!(decode(&file), Ok((1_780_000_000_123, saved)));
            for at in 0..file.len() {
                let mut changed = file.clone();
                changed[at] ^= 1;
                assert_eq!(decode(&changed), Err(SavedFault::Damaged), "{at}");
                assert_eq!(decode(&file[..at]), Err(SavedFault::Damaged), "cut at {at}");
            }
        }
    }

    #[test]
    fn a_file_of_another_form_is_not_read() {
        let mut content = b"tensorgate-limits 2\n".to_vec();
        content.extend_from_slice(&[0; 8]);
        let digest = Sha256::digest(&content);
        content.extend_from_slice(&digest);
        assert_eq!(decode(&content), Err(SavedFault::Release));
        // A valid digest around parts that do not fit.
        let mut content = FORM.to_vec();
        content.extend_from_slice(&[0; 8]);
        content.extend_from_slice(&[0, 9, 0]);
        let digest = Sha256::digest(&content);
        content.extend_from_slice(&digest);
        assert_eq!(decode(&content), Err(SavedFault::Damaged));
    }
}
