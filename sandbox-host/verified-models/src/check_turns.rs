//! Which model's files are verified next. Owners take turns, each with one check at a time, and
//! large models leave a thread to small ones. So no owner's slow check holds up another's.

use std::collections::{BTreeMap, BTreeSet};

/// The bytes of a model from which on it is large. A model of unknown size is large, too.
const LARGE_BYTES: u64 = 256 << 20;

/// A model that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    /// Who has it.
    pub owner: &'a str,
    /// Its bytes at the last look.
    pub bytes: Option<u64>,
}

impl Candidate<'_> {
    fn is_large(&self) -> bool {
        self.bytes.is_none_or(|bytes| bytes >= LARGE_BYTES)
    }
}

/// A check that has its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    owner: String,
    is_large: bool,
}

/// The checks that run, and the last turn of each owner.
#[derive(Debug)]
pub(crate) struct CheckTurns {
    /// The most large models at once.
    large: usize,
    running: Vec<Turn>,
    /// The number of an owner's last turn.
    last_turns: BTreeMap<String, u64>,
    turn: u64,
}

impl CheckTurns {
    /// The turns of checks by so many threads.
    pub const fn new(threads: usize) -> Self {
        Self {
            large: threads.saturating_sub(1),
            running: Vec::new(),
            last_turns: BTreeMap::new(),
            turn: 0,
        }
    }

    /// The candidate whose owner has waited longest for a turn. `owners` are all there are.
    pub fn next(
        &mut self,
        candidates: &[Candidate<'_>],
        owners: &BTreeSet<String>,
    ) -> Option<(usize, Turn)> {
        self.last_turns.retain(|owner, _| owners.contains(owner));
        let large = self.running.iter().filter(|turn| turn.is_large).count();
        let may_be_large = large < self.large;
        let waiting = candidates.iter().enumerate();
        let waiting = waiting.filter(|(_, candidate)| self.may_run(candidate, may_be_large));
        let last_turn = |owner: &str| self.last_turns.get(owner).copied().unwrap_or(0);
        let (index, chosen) = waiting.min_by_key(|(_, candidate)| last_turn(candidate.owner))?;
        let turn = Turn {
            owner: chosen.owner.to_owned(),
            is_large: chosen.is_large(),
        };
        self.turn = self.turn.saturating_add(1);
        self.last_turns.insert(turn.owner.clone(), self.turn);
        self.running.push(turn.clone());
        Some((index, turn))
    }

    fn may_run(&self, candidate: &Candidate<'_>, may_be_large: bool) -> bool {
        let mut running = self.running.iter();
        let is_free = running.all(|turn| turn.owner != candidate.owner);
        is_free && (may_be_large || !candidate.is_large())
    }

    /// Ends a check.
    pub fn end(&mut self, turn: &Turn) {
        let index = self.running.iter().position(|running| running == turn);
        if let Some(index) = index {
            self.running.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const SMALL: Option<u64> = Some(1);
    const LARGE: Option<u64> = Some(LARGE_BYTES);

    /// The owners in the order of their turns, until none may run.
    fn turns(
        check_turns: &mut CheckTurns,
        waiting: &mut Vec<(&'static str, Option<u64>)>,
    ) -> Vec<String> {
        let owners = waiting.iter().map(|(owner, _)| (*owner).to_owned());
        let owners: BTreeSet<_> = owners.chain(["slow".to_owned()]).collect();
        let mut turns = Vec::new();
        loop {
            let candidates = waiting.iter();
            let candidates = candidates.map(|&(owner, bytes)| Candidate { owner, bytes });
            let Some((index, turn)) = check_turns.next(&candidates.collect::<Vec<_>>(), &owners)
            else {
                return turns;
            };
            waiting.remove(index);
            turns.push(turn.owner);
        }
    }

    #[test]
    fn an_owner_has_one_check_at_a_time() {
        let mut check_turns = CheckTurns::new(4);
        let mut waiting = vec![("slow", SMALL), ("slow", SMALL), ("risk", SMALL)];
        assert_eq!(turns(&mut check_turns, &mut waiting), ["slow", "risk"]);
        assert_eq!(waiting, [("slow", SMALL)]);
        let ended = check_turns.running.first().unwrap().clone();
        check_turns.end(&ended);
        assert_eq!(turns(&mut check_turns, &mut waiting), ["slow"]);
    }

    #[test]
    fn large_models_and_unknown_ones_leave_a_thread_to_small_ones() {
        let mut check_turns = CheckTurns::new(2);
        let mut waiting = vec![("a", LARGE), ("b", None), ("c", LARGE), ("d", SMALL)];
        assert_eq!(turns(&mut check_turns, &mut waiting), ["a", "d"]);
    }

    #[test]
    fn one_slow_large_model_leaves_a_thread_to_another() {
        let mut check_turns = CheckTurns::new(3);
        let mut waiting = vec![("slow", LARGE), ("b", LARGE), ("c", LARGE), ("d", SMALL)];
        assert_eq!(turns(&mut check_turns, &mut waiting), ["slow", "b", "d"]);
    }

    #[test]
    fn owners_take_turns() {
        let mut check_turns = CheckTurns::new(2);
        let owners: BTreeSet<_> = ["a", "b", "c"].map(str::to_owned).into();
        let small = |owner| Candidate {
            owner,
            bytes: SMALL,
        };
        let waiting = ["a", "a", "b", "c"].map(small);
        let mut order = String::new();
        for _ in 0..6 {
            let (_, turn) = check_turns.next(&waiting, &owners).unwrap();
            order.push_str(&turn.owner);
            check_turns.end(&turn);
        }
        // Who never had a turn comes first, then who has waited longest.
        assert_eq!(order, "abcabc");
    }
}
