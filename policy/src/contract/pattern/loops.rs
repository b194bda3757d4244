//! Unbounded repetitions must be unambiguous: at every character it is known which part of the
//! expression matches. Otherwise a backtracking matcher tries exponentially many ways.
//!
//! The check requires that no two possible next characters overlap (as XML content models,
//! "one-unambiguous").

use alloc::vec::Vec;

use super::foreign::Fault;
use super::parse::{Node, Set};

/// Maximum expanded characters of one unbounded repetition.
const MAX_PLACES: usize = 1024;
/// Maximum pairs of characters that may follow each other.
const MAX_PAIRS: usize = 1 << 14;

const LARGE: Fault = "in a pattern, too much is repeated without an end";

/// Whether an expression matches the empty text.
pub(super) fn may_be_empty(node: &Node) -> bool {
    match node {
        Node::One(_) => false,
        Node::All(nodes) => nodes.iter().all(may_be_empty),
        Node::Any(nodes) => nodes.iter().any(may_be_empty),
        Node::Repeat { node, min, .. } => *min == 0 || may_be_empty(node),
    }
}

/// Checks every unbounded repetition. The recursion is as deep as the expression.
pub(super) fn check(node: &Node) -> Result<(), Fault> {
    match node {
        Node::One(_) => Ok(()),
        Node::All(nodes) | Node::Any(nodes) => nodes.iter().try_for_each(check),
        Node::Repeat { node, max, .. } if max.is_some() => check(node),
        // Inner repetitions are checked with it.
        Node::Repeat { .. } => {
            let mut places = Places::default();
            places.put(node)?;
            places.told_apart()
        }
    }
}

/// First and last characters of an expression.
struct Part {
    empty: bool,
    first: Vec<usize>,
    last: Vec<usize>,
}

/// Characters of an expression, and which may follow which.
#[derive(Default)]
struct Places<'n> {
    sets: Vec<(&'n Set, Vec<usize>)>,
    pairs: usize,
    /// Number of expressions visited; empty repetitions count too.
    work: usize,
}

impl<'n> Places<'n> {
    fn put(&mut self, node: &'n Node) -> Result<Part, Fault> {
        self.work = self.work.saturating_add(1);
        if self.work > MAX_PAIRS || self.sets.len() > MAX_PLACES {
            return Err(LARGE);
        }
        match node {
            Node::One(set) => {
                let place = self.sets.len();
                self.sets.push((set, Vec::new()));
                Ok(Part {
                    empty: false,
                    first: [place].into(),
                    last: [place].into(),
                })
            }
            Node::All(nodes) => {
                let mut whole = Part {
                    empty: true,
                    first: Vec::new(),
                    last: Vec::new(),
                };
                for node in nodes {
                    let part = self.put(node)?;
                    whole = self.behind(whole, part)?;
                }
                Ok(whole)
            }
            Node::Any(nodes) => {
                let mut whole = Part {
                    empty: false,
                    first: Vec::new(),
                    last: Vec::new(),
                };
                for node in nodes {
                    let part = self.put(node)?;
                    whole.empty |= part.empty;
                    whole.first.extend(part.first);
                    whole.last.extend(part.last);
                }
                Ok(whole)
            }
            Node::Repeat { node, min, max } => {
                let mut whole = self.put(node)?;
                if max.is_none() && whole.empty {
                    return Err("in a pattern, what may be nothing is repeated without an end");
                }
                let mut latest = whole.last.clone();
                let mut head = whole.first.clone();
                let (min, times) = (*min, max.unwrap_or((*min).max(1)));
                for done in 1..times {
                    let part = self.put(node)?;
                    // Follows the previous one only: after a stop, nothing follows.
                    self.join(&latest, &part.first)?;
                    latest.clone_from(&part.last);
                    if done < min && !part.empty {
                        whole.last.clear();
                    }
                    whole.last.extend(part.last);
                    if whole.last.len() > MAX_PAIRS {
                        return Err(LARGE);
                    }
                    head = part.first;
                }
                if max.is_none() {
                    // Back to the last required repetition.
                    self.join(&latest, &head)?;
                }
                whole.empty |= min == 0;
                Ok(whole)
            }
        }
    }

    fn behind(&mut self, mut one: Part, next: Part) -> Result<Part, Fault> {
        self.join(&one.last, &next.first)?;
        if one.empty {
            one.first.extend(&next.first);
        }
        if next.empty {
            one.last.extend(next.last);
        } else {
            one.last = next.last;
        }
        one.empty &= next.empty;
        Ok(one)
    }

    fn join(&mut self, from: &[usize], to: &[usize]) -> Result<(), Fault> {
        for place in from {
            self.pairs = self.pairs.saturating_add(to.len());
            if self.pairs > MAX_PAIRS {
                return Err(LARGE);
            }
            if let Some((_, next)) = self.sets.get_mut(*place) {
                next.extend(to);
            }
        }
        Ok(())
    }

    /// Whether the possible next characters never overlap.
    fn told_apart(&self) -> Result<(), Fault> {
        for (_, next) in &self.sets {
            let sets = next.iter().filter_map(|place| self.sets.get(*place));
            let mut stretches: Set = sets.flat_map(|(set, _)| set.iter().copied()).collect();
            stretches.sort_unstable();
            let pairs = stretches.iter().zip(stretches.iter().skip(1));
            for ((_, to), (from, _)) in pairs {
                if from <= to {
                    return Err(
                        "in a pattern, a repeat without an end can take a text in two ways",
                    );
                }
            }
        }
        Ok(())
    }
}
