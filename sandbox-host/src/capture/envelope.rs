//! How a kept call's file is laid out, before anything is decrypted: what it is, which key opens it, what makes this file's own key, and the sealed text.

/// How a file begins. It is authenticated with what follows.
pub const MAGIC: &[u8; 21] = b"tensorgate capture 1\n";
/// Bytes of a key's id.
pub const ID_BYTES: usize = 8;
/// Random bytes of which this file's own key is made.
pub const SALT_BYTES: usize = 32;
/// Random bytes under that key.
pub const NONCE_BYTES: usize = 12;
/// What authenticates a text, behind it.
pub const TAG_BYTES: usize = 16;
/// All that stands before the sealed text. It is what the tag authenticates beside it.
pub const HEAD_BYTES: usize = MAGIC.len() + ID_BYTES + SALT_BYTES + NONCE_BYTES;

/// A file, taken apart. Nothing of it is known to be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'f> {
    /// All of the head.
    pub head: &'f [u8; HEAD_BYTES],
    /// Which key.
    pub id: &'f [u8; ID_BYTES],
    /// See [`SALT_BYTES`].
    pub salt: &'f [u8; SALT_BYTES],
    /// See [`NONCE_BYTES`].
    pub nonce: &'f [u8; NONCE_BYTES],
    /// The text and its tag.
    pub sealed: &'f [u8],
}

impl<'f> Envelope<'f> {
    /// Takes a file apart; nothing of one that is none.
    pub fn of(file: &'f [u8]) -> Option<Self> {
        let (head, sealed) = file.split_first_chunk::<HEAD_BYTES>()?;
        let rest = head.strip_prefix(MAGIC)?;
        let (id, rest) = rest.split_first_chunk::<ID_BYTES>()?;
        let (salt, rest) = rest.split_first_chunk::<SALT_BYTES>()?;
        let nonce = rest.try_into().ok()?;
        (sealed.len() >= TAG_BYTES).then_some(Self {
            head,
            id,
            salt,
            nonce,
            sealed,
        })
    }
}

/// A file's head.
pub fn head(id: &[u8; ID_BYTES], salt: &[u8; SALT_BYTES], nonce: &[u8; NONCE_BYTES]) -> Vec<u8> {
    [&MAGIC[..], id, salt, nonce].concat()
}
