//! A hash that selects a version for requests without one. The input is the request id that filter
//! and host share, because no random source is available here. Both therefore select the same
//! version.
//!
//! The hash is not a security boundary. A caller that controls its request id could also name the
//! version; only granted versions are selected.

use tensorgate_values::{FNV_OFFSET, fnv1a};

/// 64 bits that are uniform over requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestHash(u64);

impl RequestHash {
    /// Hash of a request id.
    pub fn from_request_id(request_id: &str) -> Self {
        Self(FNV_OFFSET).with(request_id)
    }

    /// The hash for another purpose, so that two models' selections are independent.
    #[must_use]
    pub fn with(self, text: &str) -> Self {
        // With a finalizer: the high bits of FNV-1a alone depend little on the last bytes.
        Self(stirred(fnv1a(self.0, text.as_bytes()) ^ SEPARATOR))
    }

    /// Selects one of several shares by weight; `None` if all weights are zero. If weight moves
    /// from one share to the next, only requests in that weight change.
    pub fn pick(self, weights: impl Iterator<Item = u32> + Clone) -> Option<usize> {
        let total: u64 = weights.clone().map(u64::from).sum();
        let point = u128::from(self.0).wrapping_mul(u128::from(total)) >> 64;
        let mut end = 0_u128;
        weights.into_iter().position(|weight| {
            end = end.saturating_add(u128::from(weight));
            point < end
        })
    }
}

/// Separates two texts, so that `ab`, `c` and `a`, `bc` differ.
const SEPARATOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's finalizer: each input bit changes about half of the output bits.
const fn stirred(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    /// Like request ids: equal except for a few digits.
    fn request_hashes() -> impl Iterator<Item = RequestHash> {
        (0..100_000_u32).map(|number| {
            RequestHash::from_request_id(&format!("8f1a2b3c-0000-4000-8000-{number:012x}"))
                .with("digits")
        })
    }

    #[test]
    fn each_share_is_as_wide_as_its_weight() {
        for (first, second) in [(95, 5), (1, 1), (999, 1), (1, 10_000)] {
            let picked = request_hashes()
                .filter(|request_hash| request_hash.pick([first, second].into_iter()) == Some(1));
            let picked = f64::from(u32::try_from(picked.count()).unwrap_or_default());
            let share = f64::from(second) / f64::from(first + second);
            let (mean, variance) = (100_000.0 * share, 100_000.0 * share * (1.0 - share));
            // Five standard deviations of a binomial.
            let off = (picked - mean) * (picked - mean);
            assert!(off < 25.0 * variance, "{first}:{second}: {picked}");
        }
    }

    #[test]
    fn raising_a_weight_moves_no_request_away_from_it() {
        for request_hash in request_hashes() {
            let picks = [[95, 5], [90, 10], [50, 50], [0, 7]]
                .map(|weights| request_hash.pick(weights.into_iter()));
            assert!(picks.is_sorted(), "{request_hash:?}: {picks:?}");
        }
    }

    #[test]
    fn no_weight_is_no_pick_and_an_end_is_in_no_share() {
        let greatest = RequestHash(u64::MAX);
        assert_eq!(greatest.pick([0, 0].into_iter()), None);
        assert_eq!(greatest.pick([].into_iter()), None);
        assert_eq!(greatest.pick([3, u32::MAX, 0].into_iter()), Some(1));
        assert_eq!(RequestHash(0).pick([0, 1].into_iter()), Some(1));
    }

    #[test]
    fn it_follows_from_the_id_and_the_purpose_alone() {
        assert_eq!(
            RequestHash::from_request_id("a").with("b"),
            RequestHash::from_request_id("a").with("b")
        );
        assert_ne!(
            RequestHash::from_request_id("a").with("b"),
            RequestHash::from_request_id("b").with("a")
        );
        assert_ne!(
            RequestHash::from_request_id("ab").with("c"),
            RequestHash::from_request_id("a").with("bc")
        );
    }
}
