//! The number that picks a version for a request that names none. It comes from outside, since nothing here has a random source, and it is the
//! same wherever the request is judged: the proxy's filters and the host take it from the one request id that they share.
//!
//! It keeps nobody from anything. Whoever could choose its own request id could choose its version, which it may name anyway: versions that a
//! client is not granted are never picked from.

/// 64 bits that are spread evenly over requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Draw(u64);

impl Draw {
    /// A request's, by its id.
    pub fn of(request_id: &str) -> Self {
        Self(OFFSET).with(request_id)
    }

    /// The same for another purpose: two models' picks have nothing to do with each other.
    #[must_use]
    pub fn with(self, text: &str) -> Self {
        // FNV-1a, whose end is stirred: its high bits alone know little of the last bytes.
        let hash = text.bytes().fold(self.0, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(PRIME)
        });
        Self(stirred(hash ^ SEPARATOR))
    }

    /// Which of several shares it falls into, each as wide as its weight; `None` where they have none. As weight moves from one to the next,
    /// only what fell into that weight falls elsewhere.
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

/// FNV's own two numbers for 64 bits.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;
/// Stands between two texts, so that `ab`, `c` and `a`, `bc` differ.
const SEPARATOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's finalizer: each bit of what goes in turns about half of those that come out.
const fn stirred(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    /// As request ids are: all alike but for a few digits.
    fn draws() -> impl Iterator<Item = Draw> {
        (0..100_000_u32).map(|number| {
            Draw::of(&format!("8f1a2b3c-0000-4000-8000-{number:012x}")).with("digits")
        })
    }

    #[test]
    fn each_share_is_as_wide_as_its_weight() {
        for (first, second) in [(95, 5), (1, 1), (999, 1), (1, 10_000)] {
            let picked = draws().filter(|draw| draw.pick([first, second].into_iter()) == Some(1));
            let picked = f64::from(u32::try_from(picked.count()).unwrap_or_default());
            let share = f64::from(second) / f64::from(first + second);
            let (mean, variance) = (100_000.0 * share, 100_000.0 * share * (1.0 - share));
            // Five standard deviations of a binomial.
            let off = (picked - mean) * (picked - mean);
            assert!(off < 25.0 * variance, "{first}:{second}: {picked}");
        }
    }

    #[test]
    fn more_weight_for_one_takes_nobody_from_it() {
        for draw in draws() {
            let picks =
                [[95, 5], [90, 10], [50, 50], [0, 7]].map(|weights| draw.pick(weights.into_iter()));
            assert!(picks.is_sorted(), "{draw:?}: {picks:?}");
        }
    }

    #[test]
    fn no_weight_is_no_pick_and_an_end_is_in_no_share() {
        let greatest = Draw(u64::MAX);
        assert_eq!(greatest.pick([0, 0].into_iter()), None);
        assert_eq!(greatest.pick([].into_iter()), None);
        assert_eq!(greatest.pick([3, u32::MAX, 0].into_iter()), Some(1));
        assert_eq!(Draw(0).pick([0, 1].into_iter()), Some(1));
    }

    #[test]
    fn it_follows_from_the_id_and_the_purpose_alone() {
        assert_eq!(Draw::of("a").with("b"), Draw::of("a").with("b"));
        assert_ne!(Draw::of("a").with("b"), Draw::of("b").with("a"));
        assert_ne!(Draw::of("ab").with("c"), Draw::of("a").with("bc"));
    }
}
