//! The time and the seed that a call gets from WASI. The seed is an HMAC of the handler and the
//! request's ID under a key of this process: it cannot be computed from the ID alone, no other
//! handler of the request has it, and a capture that stores it can replay the call.

use std::time::SystemTime;

use ring::hmac;
use ring::rand::SystemRandom;
use tensorgate_base::payload::Role;

use crate::error::SandboxError;

/// What a call gets from WASI besides its input. Equal values make equal calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WasiInputs {
    /// The time at which both clocks stand, in Unix milliseconds.
    pub unix_ms: u64,
    /// The seed of the random numbers.
    pub seed: [u8; 32],
}

/// The key of a process, from which all its seeds are made.
pub(super) struct HostKey(hmac::Key);

impl HostKey {
    /// Generates a key.
    ///
    /// # Errors
    /// Returns an error if the system has no random bytes.
    pub(super) fn generate() -> Result<Self, SandboxError> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map(Self)
            .map_err(|_| SandboxError::Engine("the system has no random bytes".to_owned()))
    }

    /// The seed of a handler's calls in a role for a request.
    pub(super) fn seed(&self, handler: &str, role: Role, request_id: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [handler, role.export(), request_id] {
            context.update(part.as_bytes());
            // Ends the part: no name has a zero.
            context.update(&[0]);
        }
        let tag = context.sign();
        let mut seed = [0; 32];
        let tag: &[u8] = tag.as_ref();
        for (byte, tagged) in seed.iter_mut().zip(tag) {
            *byte = *tagged;
        }
        seed
    }
}

/// A time in Unix milliseconds. Zero for one before 1970.
pub(super) fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_seed_depends_on_the_handler_on_the_request_and_on_the_key() {
        let (key, other) = (HostKey::generate().unwrap(), HostKey::generate().unwrap());
        let seed = key.seed("h", Role::Preprocess, "a");
        assert_eq!(key.seed("h", Role::Preprocess, "a"), seed);
        assert_ne!(key.seed("h", Role::Preprocess, "b"), seed);
        assert_ne!(key.seed("h", Role::Postprocess, "a"), seed);
        assert_ne!(key.seed("i", Role::Preprocess, "a"), seed);
        assert_ne!(other.seed("h", Role::Preprocess, "a"), seed);
        assert_ne!(seed, [0; 32]);
    }
}
