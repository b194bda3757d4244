//! From an expression to a table: first a graph whose edges without a character are followed, then each set of places in it that some text leads to is a
//! state. Bounded in places, states and work, so that no policy takes a worker's memory or time.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::parse::{Node, Set};
use super::{DEAD, Pattern, START};

/// What an expression may come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Places of the graph.
    pub(super) places: usize,
    /// Stretches of characters that its places name.
    pub(super) stretches: usize,
    /// States of the table.
    pub(super) states: usize,
    /// Moves of the table, of two bytes each.
    pub(super) moves: usize,
    /// Places that are visited while both are made.
    pub(super) visits: usize,
}

/// A policy's: a table of 128 KiB, made in some tens of milliseconds in a filter.
const POLICY: Limits = Limits {
    places: 4096,
    stretches: 1 << 16,
    states: 1024,
    moves: 1 << 16,
    visits: 1 << 21,
};

/// Places that are put down at once, as unseen, for the work of visiting one.
const PLACES_A_VISIT: usize = 64;
/// The place that is the end: the first one.
const END: u16 = 0;
/// ASCII's characters.
const ASCII: u32 = 128;

/// A place of the graph.
#[derive(Debug)]
enum Place {
    /// A character of the set leads on.
    One(Set, u16),
    /// All of these are the same place.
    Fork(Vec<u16>),
    /// The end.
    End,
}

#[derive(Debug)]
pub(super) struct Graph {
    places: Vec<Place>,
    /// Expressions put so far. What repeats nothing takes no place and is work all the same.
    work: usize,
    stretches: usize,
    limits: Limits,
}

impl Graph {
    /// An expression's, and where it begins; `None` if it would be too large.
    pub(super) fn of(node: &Node, limits: Limits) -> Option<(Self, u16)> {
        let mut graph = Self {
            places: Vec::new(),
            work: 0,
            stretches: 0,
            limits,
        };
        let end = graph.put(Place::End)?;
        let begin = graph.before(node, end)?;
        Some((graph, begin))
    }

    /// What it took to make it, in visits.
    pub(super) const fn work(&self) -> usize {
        self.work
    }

    /// The sets of characters that its places take.
    pub(super) fn sets(&self) -> impl Iterator<Item = &Set> {
        self.places.iter().filter_map(|place| match place {
            Place::One(set, _) => Some(set),
            Place::Fork(_) | Place::End => None,
        })
    }

    fn put(&mut self, place: Place) -> Option<u16> {
        if self.places.len() >= self.limits.places {
            return None;
        }
        let id = u16::try_from(self.places.len()).ok()?;
        self.places.push(place);
        Some(id)
    }

    /// Puts an expression before a place; gives where it begins.
    fn before(&mut self, node: &Node, next: u16) -> Option<u16> {
        let most = self.limits.visits;
        self.work = self.work.checked_add(1).filter(|all| *all <= most)?;
        match node {
            Node::One(set) => {
                let most = self.limits.stretches;
                let all = self.stretches.checked_add(set.len());
                self.stretches = all.filter(|all| *all <= most)?;
                self.put(Place::One(set.clone(), next))
            }
            Node::All(nodes) => {
                let mut nodes = nodes.iter().rev();
                nodes.try_fold(next, |next, node| self.before(node, next))
            }
            Node::Any(nodes) => {
                let mut ways = Vec::with_capacity(nodes.len());
                for node in nodes {
                    ways.push(self.before(node, next)?);
                }
                self.put(Place::Fork(ways))
            }
            Node::Repeat { node, min, max } => {
                let mut begin = next;
                match max {
                    Some(max) => {
                        for _ in *min..*max {
                            let more = self.before(node, begin)?;
                            begin = self.put(Place::Fork(vec![more, next]))?;
                        }
                    }
                    None => {
                        begin = self.put(Place::Fork(vec![next]))?;
                        let more = self.before(node, begin)?;
                        if let Some(Place::Fork(ways)) = self.places.get_mut(usize::from(begin)) {
                            ways.push(more);
                        }
                    }
                }
                (0..*min).try_fold(begin, |next, _| self.before(node, next))
            }
        }
    }

    /// The places of characters, and the end, that can be reached from these without one; ascending.
    fn reach(&self, from: &[u16], visits: &mut usize) -> Option<Vec<u16>> {
        let most = self.limits.visits;
        let cleared = self.places.len() / PLACES_A_VISIT;
        *visits = visits.checked_add(cleared).filter(|all| *all <= most)?;
        let mut seen = vec![false; self.places.len()];
        let mut open: Vec<u16> = from.to_vec();
        let mut reached = Vec::new();
        while let Some(place) = open.pop() {
            let seen = seen.get_mut(usize::from(place))?;
            if core::mem::replace(seen, true) {
                continue;
            }
            *visits = visits.checked_add(1).filter(|all| *all <= most)?;
            match self.places.get(usize::from(place))? {
                Place::Fork(ways) => open.extend(ways),
                Place::One(..) | Place::End => reached.push(place),
            }
        }
        reached.sort_unstable();
        Some(reached)
    }
}

/// Where each class of characters begins that the sets tell apart.
fn classes(graph: &Graph) -> Vec<u32> {
    let edges = graph
        .sets()
        .flatten()
        .flat_map(|(from, to)| [*from, to.saturating_add(1)]);
    let mut classes: Vec<u32> = core::iter::once(0).chain(edges).collect();
    classes.sort_unstable();
    classes.dedup();
    classes
}

/// The table; `None` if it would be too large.
pub(super) fn compile(text: &str, node: &Node) -> Option<Pattern> {
    let (graph, begin) = Graph::of(node, POLICY)?;
    let mut visits = 0;
    make(text, &graph, begin, &mut visits)
}

/// The table of a graph, within the graph's limits. Adds to `visits`.
pub(super) fn make(text: &str, graph: &Graph, begin: u16, visits: &mut usize) -> Option<Pattern> {
    let limits = graph.limits;
    let classes = classes(graph);

    let mut states: BTreeMap<Vec<u16>, u16> = BTreeMap::new();
    let start = graph.reach(&[begin], visits)?;
    states.insert(Vec::new(), DEAD);
    states.insert(start.clone(), START);
    let mut open = vec![start];
    let mut done = 0_usize;
    let mut moves = vec![DEAD; classes.len()];
    let mut ends = vec![false];
    // States are numbered in the order in which they are found, and their rows written in it.
    while let Some(places) = open.get(done).cloned() {
        done = done.checked_add(1)?;
        ends.push(places.contains(&END));
        for class in &classes {
            let mut next = Vec::new();
            for place in &places {
                *visits = visits.checked_add(1).filter(|all| *all <= limits.visits)?;
                if let Some(Place::One(set, to)) = graph.places.get(usize::from(*place))
                    && holds(set, *class)
                {
                    next.push(*to);
                }
            }
            let next = graph.reach(&next, visits)?;
            let known = states.get(&next).copied();
            let state = match known {
                Some(state) => state,
                None => {
                    let state = u16::try_from(states.len()).ok()?;
                    if states.len() >= limits.states {
                        return None;
                    }
                    states.insert(next.clone(), state);
                    open.push(next);
                    state
                }
            };
            moves.push(state);
        }
        if moves.len() > limits.moves {
            return None;
        }
    }
    let ascii = (0..ASCII)
        .map(|point| {
            let class = classes.partition_point(|from| *from <= point);
            u16::try_from(class.saturating_sub(1)).ok()
        })
        .collect::<Option<_>>()?;
    Some(Pattern {
        text: String::from(text),
        classes,
        ascii,
        moves,
        ends,
    })
}

fn holds(set: &Set, point: u32) -> bool {
    let behind = set.partition_point(|(from, _)| *from <= point);
    let stretch = behind.checked_sub(1).and_then(|at| set.get(at));
    stretch.is_some_and(|(_, to)| point <= *to)
}
