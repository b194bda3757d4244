//! What clients have spent of local limits, as bytes to save. Times are those of the wall clock.
//!
//! | part | form |
//! |---|---|
//! | time | milliseconds since 1970, 8 bytes |
//! | each state | form (1 byte), length of the key (2), key, length of the state (2), state |
//!
//! Numbers are little-endian.

use tensorgate_policy::policy::MAX_POLICY_SLOTS;

/// The most states of users and sources that are saved: those of a policy, and some of an earlier
/// one with another number of slots.
pub const MAX_SAVED_SLOTS: usize = 300_000;
const _: () = assert!(MAX_SAVED_SLOTS as u64 >= MAX_POLICY_SLOTS);
/// The most other states that are saved: two of each of a hundred thousand clients, and more.
pub const MAX_SAVED_OTHERS: usize = 1 << 18;
/// The most states that are saved.
const MAX_SAVED: usize = MAX_SAVED_SLOTS + MAX_SAVED_OTHERS;

/// The most bytes of one state: two names of 128 bytes in its key, and some fixed parts.
const MAX_STATE_BYTES: usize = 440;
/// The largest file, in bytes.
pub const MAX_FILE_BYTES: u64 = 256 << 20;
const _: () = assert!((MAX_SAVED * MAX_STATE_BYTES) as u64 <= MAX_FILE_BYTES);

/// The form of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateForm {
    /// A bucket that refills steadily ([`tensorgate_policy::gcra::State`]).
    Window,
    /// Units of a day ([`tensorgate_policy::budget::DailyUsage`]).
    Day,
}

/// A state without times of the monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedLimit {
    /// The limit's key.
    pub key: String,
    /// The form of the state.
    pub form: StateForm,
    /// The state; of a bucket, as if the clock were at zero.
    pub state: Vec<u8>,
}

/// Appends when the states that follow are saved.
pub fn append_time(at_unix_ms: u64, bytes: &mut Vec<u8>) {
    bytes.extend(at_unix_ms.to_le_bytes());
}

/// Appends a state.
pub fn append(key: &str, form: StateForm, state: &[u8], bytes: &mut Vec<u8>) {
    let lengths = [key.len(), state.len()].map(u16::try_from);
    // A longer name is in no policy.
    let [Ok(key_bytes), Ok(state_bytes)] = lengths else {
        return;
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

/// Decodes what was saved: when, in milliseconds since 1970, and the states. `None` if the bytes
/// are not in this form.
pub fn decode(mut bytes: &[u8]) -> Option<(u64, Vec<SavedLimit>)> {
    let at_unix_ms = u64::from_le_bytes(take(&mut bytes)?);
    let mut saved = Vec::new();
    while !bytes.is_empty() {
        if saved.len() >= MAX_SAVED {
            return None;
        }
        saved.push(read(&mut bytes)?);
    }
    Some((at_unix_ms, saved))
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
    #![allow(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "tests"
    )]

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

    fn encode(saved: &[SavedLimit], at_unix_ms: u64, bytes: &mut Vec<u8>) {
        append_time(at_unix_ms, bytes);
        for SavedLimit { key, form, state } in saved {
            append(key, *form, state, bytes);
        }
    }

    #[test]
    fn states_are_read_back() {
        for saved in [Vec::new(), saved()] {
            let mut bytes = Vec::new();
            encode(&saved, 1_780_000_000_123, &mut bytes);
            assert_eq!(decode(&bytes), Some((1_780_000_000_123, saved)));
        }
    }

    #[test]
    fn parts_that_do_not_fit_are_not_read() {
        let mut bytes = Vec::new();
        encode(&saved(), 1_780_000_000_123, &mut bytes);
        // Inside of a number, of a name, and of a state.
        for at in [0, 7, 9, 20, bytes.len() - 1] {
            assert_eq!(decode(&bytes[..at]), None, "cut at {at}");
        }
        assert_eq!(decode(&[&[0; 8][..], &[0, 9, 0]].concat()), None);
        assert_eq!(
            decode(&[&[0; 8][..], &[2, 0, 0, 0, 0]].concat()),
            None,
            "another form"
        );
    }
}
