//! API keys: made, recognised, and looked up by digest.

use tensorgate_policy::Policy;
use tensorgate_policy::request::{Credential, Identity};

/// Every key of a policy, by digest. Lookup cost does not grow with a client's position, and a digest leaks nothing useful
/// by the time its comparison takes.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {}

impl KeyRing {
    /// Indexes a policy's keys.
    pub fn new(policy: &Policy) -> Self {
        let _ = policy;
        Self {}
    }

    /// Who a credential belongs to at a wall-clock time.
    pub fn identify(&self, credential: Credential<'_>, now_unix_s: u64) -> Identity {
        let _ = (credential, now_unix_s);
        unimplemented!()
    }
}

/// Makes a key's text from 20 random bytes: `tg_` + base-62 + checksum.
pub fn format_key(random: &[u8; 20]) -> alloc::string::String {
    let _ = random;
    unimplemented!()
}
