//! Whose limit a charge is for: a client, one of its end users, one of its source addresses, or a
//! model. End users and sources are counted in a fixed number of slots, so that memory is bounded
//! for any number of them.
//!
//! Users of one slot share its state. A state therefore holds at least what each of them has used,
//! and a shared slot can only be stricter. No state is evicted: an evicted one would give its user
//! a full quota again. A driver removes a state only when it has nothing to give back.
//!
//! Slots are chosen by a keyed digest, so that a client cannot choose whose slot it shares. Each
//! client of a grant has slots of its own, so that it cannot spend those of another client's users.

use alloc::format;
use alloc::string::{String, ToString as _};
use serde::{Deserialize, Serialize};

use crate::request::{CallerDigest, CallerDigests};

/// Default number of slots of each limit of one client.
pub const DEFAULT_SLOTS: u32 = 16_384;
/// Fewest slots: with fewer, ten users are likely to share one.
pub const MIN_SLOTS: u32 = 256;
/// Most slots of one limit of one client.
pub const MAX_SLOTS: u32 = 65_536;
/// Most slots of all limits of a policy. Beside them a host has one state for each limit of a
/// client for callers without a user, and until midnight those of an earlier policy with other
/// slots.
pub const MAX_POLICY_SLOTS: u64 = 1 << 18;

/// Whose limit it is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Holder {
    /// Each client of a grant.
    #[default]
    Client,
    /// Each end user of such a client.
    User {
        /// The number of slots.
        slots: u32,
    },
    /// Each source address of such a client.
    Source {
        /// The number of slots.
        slots: u32,
    },
    /// A model, for all its clients.
    Model,
}

impl Holder {
    /// The number of its states under one client.
    pub fn slots(self) -> u64 {
        match self {
            Self::Client | Self::Model => 1,
            Self::User { slots } | Self::Source { slots } => slots.into(),
        }
    }

    /// Whether only a sandbox host counts it.
    pub const fn is_of_host(self) -> bool {
        !matches!(self, Self::Client)
    }

    /// Whether this caller is counted: the filter before a host may have had a policy that does not
    /// limit users or sources.
    pub fn is_counted(self, caller: &CallerDigests) -> bool {
        match self {
            Self::Client | Self::Model => true,
            Self::User { .. } => caller.user != CallerDigest::NotLimited,
            Self::Source { .. } => caller.source != CallerDigest::NotLimited,
        }
    }

    /// Whose limit it is, for the log. The digest is the same in all lines of one user.
    pub fn described(self, caller: &CallerDigests) -> String {
        let (digest, what) = match self {
            Self::Client | Self::Model => return String::new(),
            Self::User { .. } => (caller.user, "user"),
            Self::Source { .. } => (caller.source, "source"),
        };
        match digest.known() {
            Some(digest) => format!(" for {what} {:016x}", digest.to_bits()),
            None => format!(" for all without a known {what}"),
        }
    }

    /// The part of a state's key that names the holder under a client; `None` for the client
    /// itself. The number of slots is a part, so that states of another number are not mixed up.
    pub fn key_part(self, caller: &CallerDigests) -> Option<String> {
        let (digest, slots, what) = match self {
            Self::Client | Self::Model => return None,
            Self::User { slots } => (caller.user, slots, "user/"),
            Self::Source { slots } => (caller.source, slots, "source/"),
        };
        let slot = digest
            .known()
            .map_or_else(|| "none".into(), |digest| digest.slot(slots).to_string());
        Some([what, &slots.to_string(), "/", &slot].concat())
    }

    /// Whether answers show what is left. What is left of a model's budget says what other clients
    /// do.
    pub const fn is_public(self) -> bool {
        !matches!(self, Self::Model)
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "tests"
    )]

    use alloc::collections::BTreeMap;
    use alloc::vec;

    use super::*;
    use crate::request::HolderDigest;

    /// SplitMix64, in place of a keyed digest.
    fn digest(user: u64) -> HolderDigest {
        let mut mixed = user.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        HolderDigest::new(mixed ^ (mixed >> 31))
    }

    #[test]
    fn every_digest_has_a_slot_below_their_number() {
        for slots in [1, MIN_SLOTS, 1_000, DEFAULT_SLOTS, MAX_SLOTS, u32::MAX] {
            for bits in [0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
                assert!(
                    HolderDigest::new(bits).slot(slots) < slots,
                    "{bits} {slots}"
                );
            }
        }
        assert_eq!(HolderDigest::new(u64::MAX).slot(0), 0);
    }

    #[test]
    fn no_slot_is_favoured() {
        let mut users = vec![0_u32; 256];
        for user in 0..256_000 {
            users[usize::try_from(digest(user).slot(256)).unwrap_or_default()] += 1;
        }
        // Six standard deviations of a Poisson distribution with a mean of 1,000.
        assert!(users.iter().all(|count| (810..=1_190).contains(count)));
    }

    #[test]
    fn users_share_slots_as_often_as_documented() {
        // Users, slots, and the users with a neighbour among a million.
        for (users, slots, expected) in [
            (100, 16_384, 6_024),
            (1_000, 16_384, 59_150),
            (1_000, 65_536, 15_130),
            (10_000, 65_536, 141_500),
        ] {
            let rounds = 400_000 / users;
            let mut sharing = 0_u64;
            for round in 0..rounds {
                let mut by_slot = BTreeMap::<u32, u64>::new();
                for user in 0..users {
                    let slot = digest(round * users + user).slot(slots);
                    *by_slot.entry(slot).or_default() += 1;
                }
                sharing += by_slot.values().filter(|count| **count > 1).sum::<u64>();
            }
            let found = sharing * 1_000_000 / (rounds * users);
            // Five standard deviations of the rarest row.
            let tolerance = expected * 15 / 100;
            assert!(
                found.abs_diff(expected) < tolerance,
                "{users} {slots}: {found}"
            );
        }
    }

    #[test]
    fn callers_without_a_user_share_one_state_that_no_user_has() {
        let user = Holder::User { slots: MIN_SLOTS };
        let source = Holder::Source { slots: MIN_SLOTS };
        let none = CallerDigests::default();
        assert_eq!(user.key_part(&none).as_deref(), Some("user/256/none"));
        assert_eq!(source.key_part(&none).as_deref(), Some("source/256/none"));
        let first = CallerDigests {
            user: CallerDigest::Known(HolderDigest::new(0)),
            source: CallerDigest::Unknown,
        };
        assert_eq!(user.key_part(&first).as_deref(), Some("user/256/0"));
        let more = Holder::User { slots: 512 };
        assert_eq!(more.key_part(&first).as_deref(), Some("user/512/0"));
        assert_eq!(Holder::Client.key_part(&first), None);
        assert_eq!(Holder::Model.key_part(&first), None);
    }
}
