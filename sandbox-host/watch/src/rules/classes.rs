//! How often a model predicts each class, and how often for one client, for the rules on dominance
//! and drift.

use tensorgate_policy::release::TopClass;

use crate::table::hash;

/// The classes that are counted. Those of larger models share counters.
const CLASSES: usize = 64;
/// The groups of classes that are counted for one client.
const GROUPS: usize = 16;

/// Predictions by class, or by group of classes.
#[derive(Debug)]
pub(super) struct Predictions<const COUNTERS: usize> {
    counts: [u32; COUNTERS],
    all: u32,
}

/// Predictions of one window by class.
pub(super) type Classes = Predictions<CLASSES>;

/// The predictions for one client by group of classes.
pub(super) type Groups = Predictions<GROUPS>;

/// The usual share of each class.
pub(super) type Shares = [f64; CLASSES];

/// The share of each group.
pub(super) type GroupShares = [f64; GROUPS];

/// Before any window, no class has a share.
pub(super) const NO_SHARES: Shares = [0.0; CLASSES];

impl<const COUNTERS: usize> Default for Predictions<COUNTERS> {
    fn default() -> Self {
        Self {
            counts: [0; COUNTERS],
            all: 0,
        }
    }
}

impl<const COUNTERS: usize> Predictions<COUNTERS> {
    /// Counts a prediction.
    pub(super) fn add(&mut self, top: TopClass) {
        let counter = counter(counter(top.class, CLASSES), COUNTERS);
        if let Some(count) = self.counts.get_mut(counter) {
            *count = count.saturating_add(1);
        }
        self.all = self.all.saturating_add(1);
    }

    /// The number of predictions.
    pub(super) const fn all(&self) -> u32 {
        self.all
    }

    /// The share of each class or group.
    pub(super) fn shares(&self) -> [f64; COUNTERS] {
        let all = f64::from(self.all.max(1));
        self.counts.map(|count| f64::from(count) / all)
    }
}

impl Classes {
    /// The class with the most predictions, as its counter.
    pub(super) fn most_frequent(&self) -> usize {
        let counts = self.counts.iter().enumerate();
        counts
            .max_by_key(|(_, count)| **count)
            .map_or(0, |(at, _)| at)
    }
}

impl Groups {
    /// The predictions in the group of a counter.
    pub(super) fn in_group_of(&self, counter: usize) -> u32 {
        self.counts.get(group(counter)).copied().unwrap_or_default()
    }
}

/// The shares of the groups of all classes.
pub(super) fn group_shares(shares: &Shares) -> GroupShares {
    let mut groups = [0.0; GROUPS];
    for (counter, share) in shares.iter().enumerate() {
        if let Some(sum) = groups.get_mut(group(counter)) {
            *sum += share;
        }
    }
    groups
}

/// The part of predictions that has moved to other classes: the total variation distance.
pub(super) fn moved(shares: &[f64], usual: &[f64]) -> f64 {
    let distances = shares.iter().zip(usual);
    let sum: f64 = distances.map(|(now, usual)| (now - usual).abs()).sum();
    sum / 2.0
}

/// Moves a usual distribution towards another one by a part of the distance.
pub(super) fn learn(usual: &mut [f64], shares: &[f64], weight: f64) {
    for (usual, share) in usual.iter_mut().zip(shares) {
        *usual += weight * (share - *usual);
    }
}

fn group(counter_of_class: usize) -> usize {
    counter(counter_of_class, GROUPS)
}

/// The counter of a class. The first classes have their own. Of the others a secret key decides,
/// so that a client cannot choose classes that share a counter.
fn counter(class: usize, counters: usize) -> usize {
    if class < counters {
        return class;
    }
    let hashed = usize::try_from(hash(&class) & u64::from(u16::MAX)).unwrap_or_default();
    hashed.checked_rem(counters).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_a_client_add_up_to_those_of_its_model() {
        let (mut classes, mut groups) = (Classes::default(), Groups::default());
        for class in 0..1_000 {
            let top = TopClass {
                class,
                confidence: 900_000,
            };
            classes.add(top);
            groups.add(top);
        }
        let difference = moved(&group_shares(&classes.shares()), &groups.shares());
        assert!(difference < 1e-9, "{difference}");
    }
}
