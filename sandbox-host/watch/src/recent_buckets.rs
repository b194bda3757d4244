//! Counts of the last five minutes, in buckets of ten seconds.

use std::collections::VecDeque;
use std::sync::Arc;

/// The length of a bucket in seconds.
const BUCKET_S: u64 = 10;
/// The number of buckets.
const BUCKETS: u64 = 30;
/// The time that they cover, in seconds.
pub const WINDOW_S: u64 = BUCKET_S * BUCKETS;

/// The counts of each bucket. Times are in seconds since any moment.
#[derive(Debug, Default)]
pub struct RecentBuckets<T> {
    /// The number of the current bucket.
    number: u64,
    current: T,
    /// Those before it with their numbers, the oldest first, fewer than [`BUCKETS`].
    past: VecDeque<(u64, Arc<T>)>,
}

impl<T: Clone + Default> RecentBuckets<T> {
    /// The bucket of this time, or the current one if the time is before it.
    pub fn current(&mut self, now_s: u64) -> &mut T {
        let number = number(now_s);
        if number > self.number {
            let last = std::mem::take(&mut self.current);
            self.past.push_back((self.number, Arc::new(last)));
            self.number = number;
            while self
                .past
                .front()
                .is_some_and(|(of, _)| is_over(*of, number))
            {
                self.past.pop_front();
            }
        }
        &mut self.current
    }

    /// The buckets of the last five minutes, the oldest first. Only the current one is copied.
    pub fn recent(&self, now_s: u64) -> Vec<Arc<T>> {
        let number = number(now_s);
        let past = self.past.iter().filter(|(of, _)| !is_over(*of, number));
        let mut buckets: Vec<_> = past.map(|(_, counts)| Arc::clone(counts)).collect();
        if !is_over(self.number, number) {
            buckets.push(Arc::new(self.current.clone()));
        }
        buckets
    }
}

/// The number of the bucket of a time.
const fn number(now_s: u64) -> u64 {
    now_s.div_euclid(BUCKET_S)
}

/// Whether a bucket is older than five minutes when another is the current one.
const fn is_over(of: u64, current: u64) -> bool {
    of.saturating_add(BUCKETS) <= current
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn buckets_count_for_five_minutes_and_are_bounded() {
        let mut buckets = RecentBuckets::default();
        let sum = |buckets: &RecentBuckets<u64>, now_s| -> u64 {
            buckets.recent(now_s).iter().map(|count| **count).sum()
        };
        for (now_s, count) in [(0, 1), (11, 10), (19, 10), (5, 10), (20, 100)] {
            *buckets.current(now_s) += count;
        }
        assert_eq!(sum(&buckets, 29), 131);
        assert_eq!(sum(&buckets, WINDOW_S), 130, "the first bucket is over");
        assert_eq!(sum(&buckets, WINDOW_S + 19), 100);
        assert_eq!(sum(&buckets, WINDOW_S + 20), 0);
        let (first, again) = (buckets.recent(20), buckets.recent(20));
        let pairs = first.iter().zip(&again).map(|(a, b)| Arc::ptr_eq(a, b));
        assert_eq!(pairs.collect::<Vec<_>>(), [true, true, false]);
        for now_s in 0..10_000 {
            *buckets.current(now_s) += 1;
        }
        assert_eq!(sum(&buckets, 9_999), WINDOW_S);
        assert!(u64::try_from(buckets.past.len()).is_ok_and(|past| past < BUCKETS));
    }
}
