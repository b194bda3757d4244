//! The end user and the source of a request, as keyed digests.

/// A keyed digest of an end user or a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HolderDigest(u64);

impl HolderDigest {
    /// From the first bytes of a keyed digest.
    pub const fn new(digest: u64) -> Self {
        Self(digest)
    }

    /// The bytes, for the signed context and for audit lines.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The slot, below `slots`: a multiplication and a shift, which favour none.
    pub fn slot(self, slots: u32) -> u32 {
        let product = u128::from(self.0).saturating_mul(u128::from(slots));
        // Below 2^32, since `slots` is.
        u32::try_from(product >> 64).unwrap_or(0)
    }
}

/// The end user or the source of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallerDigest {
    /// Not known. All such callers of a client are one holder.
    #[default]
    Unknown,
    /// Known by its digest.
    Known(HolderDigest),
    /// The filter's policy does not limit it, so the filter has not determined it. A host with
    /// another policy does not limit it either.
    NotLimited,
}

/// Who calls, beyond the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallerDigests {
    /// The end user.
    pub user: CallerDigest,
    /// The source address, or its /64 of IPv6.
    pub source: CallerDigest,
}

impl CallerDigest {
    /// The digest, if it is known.
    pub const fn known(self) -> Option<HolderDigest> {
        match self {
            Self::Known(digest) => Some(digest),
            Self::Unknown | Self::NotLimited => None,
        }
    }
}

impl From<Option<HolderDigest>> for CallerDigest {
    fn from(digest: Option<HolderDigest>) -> Self {
        digest.map_or(Self::Unknown, Self::Known)
    }
}

impl CallerDigests {
    /// What they are under the policy of the filter: it has determined what it limits.
    pub fn of_own_policy(self) -> Self {
        Self {
            user: self.user.known().into(),
            source: self.source.known().into(),
        }
    }
}
