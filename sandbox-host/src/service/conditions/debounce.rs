//! Steadies conditions that come and go, so that each change is worth a line.
//!
//! A condition holds once two looks in a row have found it, and ends once two have not. Each time
//! that it has ended and returns within ten minutes, its end needs twice as many looks. So a server
//! that restarts again and again is away, and not away and back once a second.

use std::collections::BTreeMap;

use tensorgate_watch::conditions::{Condition, ConditionKind, MAX_OF_KIND};

/// The looks in a row after which a change counts.
const LOOKS: u32 = 2;
/// The most doublings of the looks for an end: 64 looks.
const MAX_DOUBLINGS: u32 = 5;
/// The looks after which a condition that has ended is forgotten.
const REMEMBERED_LOOKS: u32 = 600;
/// The most conditions that are remembered.
const MAX_REMEMBERED: usize = 8_192;

/// What the last looks have found.
#[derive(Debug, Default)]
pub(super) struct Debounce {
    seen: BTreeMap<(ConditionKind, String), Seen>,
}

#[derive(Debug)]
struct Seen {
    /// As it was found last.
    condition: Condition,
    holds: bool,
    is_found: bool,
    /// The looks in a row that contradict `holds`.
    contradicting: u32,
    /// The looks in a row that have not found it.
    without: u32,
    /// How often it has ended.
    ended: u32,
}

impl Debounce {
    /// Takes all conditions that a look has found. Returns those that hold.
    pub(super) fn settle(&mut self, mut found: Vec<Condition>) -> Vec<Condition> {
        // The same ones are left out in each look.
        found.sort_by(|a, b| (a.kind, &a.subject).cmp(&(b.kind, &b.subject)));
        found.dedup_by(|a, b| a.kind == b.kind && a.subject == b.subject);
        let mut counts = BTreeMap::<ConditionKind, usize>::new();
        for condition in found {
            let count = counts.entry(condition.kind).or_default();
            *count = count.saturating_add(1);
            if *count <= MAX_OF_KIND {
                self.found(condition);
            }
        }
        self.seen.retain(|_, seen| seen.end_look());
        if self.seen.len() > MAX_REMEMBERED {
            self.seen.retain(|_, seen| seen.holds);
        }
        let holding = self.seen.values().filter(|seen| seen.holds);
        holding.map(|seen| seen.condition.clone()).collect()
    }

    fn found(&mut self, condition: Condition) {
        let key = (condition.kind, condition.subject.clone());
        match self.seen.get_mut(&key) {
            Some(seen) => {
                seen.condition = condition;
                seen.is_found = true;
            }
            None => {
                let seen = Seen {
                    condition,
                    holds: false,
                    is_found: true,
                    contradicting: 0,
                    without: 0,
                    ended: 0,
                };
                self.seen.insert(key, seen);
            }
        }
    }
}

impl Seen {
    /// Ends a look. Returns whether the condition is remembered.
    fn end_look(&mut self) -> bool {
        let is_found = std::mem::replace(&mut self.is_found, false);
        let more = |count: u32, counts: bool| if counts { count.saturating_add(1) } else { 0 };
        self.without = more(self.without, !is_found);
        self.contradicting = more(self.contradicting, is_found != self.holds);
        if self.contradicting >= self.needed() {
            self.ended = self.ended.saturating_add(u32::from(self.holds));
            self.holds = !self.holds;
            self.contradicting = 0;
        }
        self.holds || is_found || (self.ended > 0 && self.without < REMEMBERED_LOOKS)
    }

    /// The looks in a row after which it begins or ends.
    fn needed(&self) -> u32 {
        if !self.holds {
            return LOOKS;
        }
        let doublings = self.ended.min(MAX_DOUBLINGS);
        LOOKS.checked_shl(doublings).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away(address: &str) -> Condition {
        Condition {
            kind: ConditionKind::BackendAway,
            subject: address.to_owned(),
            client: None,
            detail: "refused".to_owned(),
        }
    }

    /// Whether the condition holds after each look. `x` is a look that finds it.
    fn after_looks(debounce: &mut Debounce, looks: &str) -> String {
        let look = |found| {
            let found = if found == 'x' {
                vec![away("a")]
            } else {
                Vec::new()
            };
            if debounce.settle(found).is_empty() {
                '.'
            } else {
                'x'
            }
        };
        looks.chars().map(look).collect()
    }

    #[test]
    fn a_condition_holds_from_the_second_look_to_the_second_without_it() {
        let mut debounce = Debounce::default();
        for (looks, expected) in [
            ("x.x.x.", "......"),
            ("xxxx", ".xxx"),
            ("x.x.xx", "xxxxxx"),
            ("..", "x."),
        ] {
            assert_eq!(after_looks(&mut debounce, looks), expected, "{looks}");
        }
    }

    #[test]
    fn what_returns_needs_longer_to_end_until_it_is_forgotten() {
        let mut debounce = Debounce::default();
        assert_eq!(after_looks(&mut debounce, "xx.."), ".xx.");
        assert_eq!(after_looks(&mut debounce, "xx...."), ".xxxx.");
        assert_eq!(after_looks(&mut debounce, "xx........"), ".xxxxxxxx.");
        let quiet = ".".repeat(usize::try_from(REMEMBERED_LOOKS).unwrap_or_default());
        after_looks(&mut debounce, &quiet);
        assert!(debounce.seen.is_empty());
        assert_eq!(after_looks(&mut debounce, "xx.."), ".xx.");
    }

    #[test]
    fn a_crowd_of_conditions_is_bounded() {
        let mut debounce = Debounce::default();
        for round in 0..100_u32 {
            let crowd = || (0..400).map(|it| away(&format!("{round}-{it}"))).collect();
            for found in [crowd(), crowd(), Vec::new()] {
                debounce.settle(found);
            }
        }
        let most = MAX_REMEMBERED.saturating_add(MAX_OF_KIND.saturating_mul(2));
        assert!(debounce.seen.len() <= most, "{}", debounce.seen.len());
    }
}
