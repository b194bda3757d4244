//! Valid signatures, for all workers of a process. A token that one worker has verified costs
//! another one, or the next configuration, a hash instead of a verification.
//!
//! Whether a signature is valid depends on nothing but the key, the text and the signature. An
//! entry's SHA-256 covers all three, so an entry is never wrong, whatever else changes. What is not
//! valid is not stored, so a flood of it evicts nothing.
extern crate std;

use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use tensorgate_policy::policy::KeyMaterial;

use crate::cache::Recent;
use crate::verifier::{Verifier, VerifyFault};

/// Number of locks.
const SHARDS: usize = 16;
/// Maximum entries of a shard: 16,384 of all shards, about 2 MiB.
const MAX_ENTRIES: usize = 1024;

type Id = [u8; 32];

/// Signatures that were valid.
#[derive(Debug)]
pub struct KnownSignatures([Mutex<Shard>; SHARDS]);

type Shard = Recent<Id, ()>;

impl KnownSignatures {
    /// None yet.
    pub const fn new() -> Self {
        Self([const { Mutex::new(Recent::new(MAX_ENTRIES)) }; SHARDS])
    }

    /// Verifies a signature, unless it was valid before.
    ///
    /// # Errors
    /// Those of the verifier.
    pub fn verify(
        &self,
        verifier: &mut impl Verifier,
        key: &KeyMaterial,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, VerifyFault> {
        let id = id(key, signed, signature);
        if self.shard(&id, |shard| shard.get(id).is_some()) {
            return Ok(true);
        }
        let is_valid = verifier.verify(key, signed, signature)?;
        if is_valid {
            self.shard(&id, |shard| shard.put(id, ()));
        }
        Ok(is_valid)
    }

    fn shard<T: Default>(&self, id: &Id, run: impl FnOnce(&mut Shard) -> T) -> T {
        let [first, ..] = id;
        let number = usize::from(*first).checked_rem(SHARDS).unwrap_or_default();
        let shard = self.0.get(number).map(|shard| shard.lock());
        shard.map_or_else(T::default, |shard| {
            run(&mut shard.unwrap_or_else(PoisonError::into_inner))
        })
    }
}

impl Default for KnownSignatures {
    fn default() -> Self {
        Self::new()
    }
}

fn id(key: &KeyMaterial, signed: &[u8], signature: &[u8]) -> Id {
    let mut hash = Sha256::new();
    // Each part after its length, so that no two signatures have the same bytes.
    let mut add = |part: &[u8]| {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    };
    add(key.algorithm().name().as_bytes());
    match key {
        KeyMaterial::Rsa { n, e, .. } => {
            add(n);
            add(e);
        }
        KeyMaterial::P256 { x, y } => {
            add(x);
            add(y);
        }
        KeyMaterial::P384 { x, y } => {
            add(x);
            add(y);
        }
        KeyMaterial::P521 { x, y } => {
            add(x);
            add(y);
        }
        KeyMaterial::Ed25519(key) => add(key),
    }
    add(signed);
    add(signature);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use alloc::vec;

    /// Counts, and finds a signature valid that begins with 1.
    #[derive(Default)]
    struct Counting(usize);

    impl Verifier for Counting {
        fn verify(
            &mut self,
            _: &KeyMaterial,
            _: &[u8],
            signature: &[u8],
        ) -> Result<bool, VerifyFault> {
            self.0 = self.0.checked_add(1).unwrap();
            match signature {
                [1, ..] => Ok(true),
                [2, ..] => Err(VerifyFault("test")),
                _ => Ok(false),
            }
        }
    }

    const KEY: KeyMaterial = KeyMaterial::Ed25519([7; 32]);

    #[test]
    fn a_valid_signature_is_verified_once() {
        let (known, mut verifier) = (KnownSignatures::new(), Counting::default());
        let others = [
            (KeyMaterial::Ed25519([8; 32]), &b"text"[..], &[1, 2][..]),
            (KEY, b"texts", &[1, 2]),
            (KEY, b"text", &[1, 2, 3]),
            // The same bytes in a row, split elsewhere.
            (KEY, b"text\x01", &[1, 2]),
            (KEY, b"tex", &[1, 2]),
        ];
        for _ in 0..3 {
            assert_eq!(
                known.verify(&mut verifier, &KEY, b"text", &[1, 2]),
                Ok(true)
            );
            assert_eq!(verifier.0, 1);
        }
        for (number, (key, text, signature)) in (2..).zip(&others) {
            assert_eq!(known.verify(&mut verifier, key, text, signature), Ok(true));
            assert_eq!(verifier.0, number);
        }
    }

    #[test]
    fn only_what_is_valid_is_stored() {
        let (known, mut verifier) = (KnownSignatures::new(), Counting::default());
        for _ in 0..3 {
            assert_eq!(known.verify(&mut verifier, &KEY, b"text", &[0]), Ok(false));
            assert!(known.verify(&mut verifier, &KEY, b"text", &[2]).is_err());
        }
        assert_eq!(verifier.0, 6);
    }

    #[test]
    fn keys_of_two_algorithms_are_two_keys() {
        use tensorgate_policy::policy::{Hash, RsaScheme};
        let (known, mut verifier) = (KnownSignatures::new(), Counting::default());
        let (n, e) = (vec![9; 256], vec![1, 0, 1]);
        for (number, scheme) in [RsaScheme::Pkcs1(Hash::Sha256), RsaScheme::Pss(Hash::Sha256)]
            .into_iter()
            .enumerate()
        {
            let key = KeyMaterial::Rsa {
                scheme,
                n: n.clone(),
                e: e.clone(),
            };
            known.verify(&mut verifier, &key, b"text", &[1]).unwrap();
            assert_eq!(Some(verifier.0), number.checked_add(1));
        }
    }

    #[test]
    fn the_number_of_entries_is_limited_and_used_ones_stay() {
        let (known, mut verifier) = (KnownSignatures::new(), Counting::default());
        let mut verify = |signature: &[u8]| {
            let before = verifier.0;
            known
                .verify(&mut verifier, &KEY, b"text", signature)
                .unwrap();
            verifier.0 != before
        };
        assert!(verify(&[1]));
        for number in 0..100_000_u32 {
            let [a, b, c, d] = number.to_be_bytes();
            assert!(verify(&[1, a, b, c, d]));
            assert!(!verify(&[1]), "{number}");
        }
        let entries = known.0.iter().map(|shard| {
            let shard = shard.lock().unwrap();
            shard.len()
        });
        assert!(entries.sum::<usize>() <= SHARDS * MAX_ENTRIES);
    }
}
