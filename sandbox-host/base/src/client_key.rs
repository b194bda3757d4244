//! [`ClientKey`]: the key for a client's share of a resource.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// A key for a client's share of a resource: a hash of its name in the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientKey(u64);

impl ClientKey {
    /// The key of a client. Requests without a client share one key.
    pub fn from_name(client: Option<&str>) -> Self {
        let mut hasher = DefaultHasher::new();
        client.hash(&mut hasher);
        Self(hasher.finish())
    }
}
