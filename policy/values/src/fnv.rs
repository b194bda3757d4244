//! FNV-1a for 64 bits: a hash that is the same everywhere, and no security boundary.

/// State before the first byte.
pub const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// State after more bytes.
pub const fn fnv1a(mut state: u64, mut bytes: &[u8]) -> u64 {
    while let [byte, rest @ ..] = bytes {
        state = (state ^ *byte as u64).wrapping_mul(PRIME);
        bytes = rest;
    }
    state
}
