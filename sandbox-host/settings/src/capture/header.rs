//! The layout of a captured call's file before decryption: magic, key ID, salt, nonce and
//! ciphertext.

/// The magic bytes. They are authenticated with the rest of the header.
pub const MAGIC: &[u8; 21] = b"tensorgate capture 1\n";
/// The length of a key's ID.
pub const ID_BYTES: usize = 8;
/// The length of the salt from which the file's own key is derived.
pub const SALT_BYTES: usize = 32;
/// The length of the nonce.
pub const NONCE_BYTES: usize = 12;
/// The length of the authentication tag at the end.
pub const TAG_BYTES: usize = 16;
/// The length of the header, which the tag authenticates too.
pub const HEAD_BYTES: usize = MAGIC.len() + ID_BYTES + SALT_BYTES + NONCE_BYTES;

/// The parts of a file, not authenticated yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'f> {
    /// The whole header.
    pub head: &'f [u8; HEAD_BYTES],
    /// The key's ID.
    pub id: &'f [u8; ID_BYTES],
    /// See [`SALT_BYTES`].
    pub salt: &'f [u8; SALT_BYTES],
    /// See [`NONCE_BYTES`].
    pub nonce: &'f [u8; NONCE_BYTES],
    /// The ciphertext with its tag.
    pub sealed: &'f [u8],
}

impl<'f> Envelope<'f> {
    /// Splits a file. `None` if it has another format.
    pub fn parse(file: &'f [u8]) -> Option<Self> {
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

/// The header of a file.
pub fn head(id: &[u8; ID_BYTES], salt: &[u8; SALT_BYTES], nonce: &[u8; NONCE_BYTES]) -> Vec<u8> {
    [&MAGIC[..], id, salt, nonce].concat()
}
