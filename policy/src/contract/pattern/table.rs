//! Compiles an expression to a table: first a graph with empty transitions, then its subset
//! construction. Nodes, states and work are limited, so no policy exhausts a worker's memory or
//! time: a table has at most 128 KiB, and is built in some tens of milliseconds in a filter.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::parse::{Node, Set};
use super::{DEAD, Pattern, START};

/// Maximum nodes of the graph.
const MAX_NODES: usize = 4096;
/// Maximum character ranges of the nodes.
const MAX_STRETCHES: usize = 1 << 16;
/// Maximum states of the table.
const MAX_STATES: usize = 1024;
/// Maximum transitions of the table, two bytes each.
const MAX_MOVES: usize = 1 << 16;
/// Maximum nodes visited during construction.
const MAX_VISITS: usize = 1 << 21;
/// Nodes that can be marked as unseen for the work of one visit.
const NODES_A_VISIT: usize = 64;
/// The final node, which is the first one.
const END: u16 = 0;
/// Number of ASCII characters.
const ASCII: u32 = 128;

/// A node of the graph.
#[derive(Debug)]
enum GraphNode {
    /// A transition on a character of the set.
    One(Set, u16),
    /// Empty transitions to these nodes.
    Fork(Vec<u16>),
    /// The final node.
    End,
}

#[derive(Debug)]
struct Graph {
    nodes: Vec<GraphNode>,
    /// Expressions visited so far; empty repetitions count too.
    work: usize,
    stretches: usize,
}

impl Graph {
    /// Builds the graph and its start node; `None` if too large.
    fn of(node: &Node) -> Option<(Self, u16)> {
        let mut graph = Self {
            nodes: Vec::new(),
            work: 0,
            stretches: 0,
        };
        let end = graph.put(GraphNode::End)?;
        let begin = graph.before(node, end)?;
        Some((graph, begin))
    }

    /// Character sets of the nodes.
    fn sets(&self) -> impl Iterator<Item = &Set> {
        self.nodes.iter().filter_map(|node| match node {
            GraphNode::One(set, _) => Some(set),
            GraphNode::Fork(_) | GraphNode::End => None,
        })
    }

    fn put(&mut self, node: GraphNode) -> Option<u16> {
        if self.nodes.len() >= MAX_NODES {
            return None;
        }
        let id = u16::try_from(self.nodes.len()).ok()?;
        self.nodes.push(node);
        Some(id)
    }

    /// Inserts an expression before a node; returns its start.
    fn before(&mut self, node: &Node, next: u16) -> Option<u16> {
        self.work = self.work.checked_add(1).filter(|all| *all <= MAX_VISITS)?;
        match node {
            Node::One(set) => {
                let all = self.stretches.checked_add(set.len());
                self.stretches = all.filter(|all| *all <= MAX_STRETCHES)?;
                self.put(GraphNode::One(set.clone(), next))
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
                self.put(GraphNode::Fork(ways))
            }
            Node::Repeat { node, min, max } => {
                let mut begin = next;
                match max {
                    Some(max) => {
                        for _ in *min..*max {
                            let more = self.before(node, begin)?;
                            begin = self.put(GraphNode::Fork(vec![more, next]))?;
                        }
                    }
                    None => {
                        begin = self.put(GraphNode::Fork(vec![next]))?;
                        let more = self.before(node, begin)?;
                        if let Some(GraphNode::Fork(ways)) = self.nodes.get_mut(usize::from(begin))
                        {
                            ways.push(more);
                        }
                    }
                }
                (0..*min).try_fold(begin, |next, _| self.before(node, next))
            }
        }
    }

    /// Character and final nodes that are reachable by empty transitions, in ascending order.
    fn reach(&self, from: &[u16], visits: &mut usize) -> Option<Vec<u16>> {
        let cleared = self.nodes.len() / NODES_A_VISIT;
        *visits = visits
            .checked_add(cleared)
            .filter(|all| *all <= MAX_VISITS)?;
        let mut seen = vec![false; self.nodes.len()];
        let mut open: Vec<u16> = from.to_vec();
        let mut reached = Vec::new();
        while let Some(id) = open.pop() {
            let seen = seen.get_mut(usize::from(id))?;
            if core::mem::replace(seen, true) {
                continue;
            }
            *visits = visits.checked_add(1).filter(|all| *all <= MAX_VISITS)?;
            match self.nodes.get(usize::from(id))? {
                GraphNode::Fork(ways) => open.extend(ways),
                GraphNode::One(..) | GraphNode::End => reached.push(id),
            }
        }
        reached.sort_unstable();
        Some(reached)
    }
}

/// First character of each class that the sets distinguish.
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

/// Compiles the table; `None` if too large.
pub(super) fn compile(text: &str, node: &Node) -> Option<Pattern> {
    let (graph, begin) = Graph::of(node)?;
    let mut visits = 0;
    let classes = classes(&graph);

    let mut states: BTreeMap<Vec<u16>, u16> = BTreeMap::new();
    let start = graph.reach(&[begin], &mut visits)?;
    states.insert(Vec::new(), DEAD);
    states.insert(start.clone(), START);
    let mut open = vec![start];
    let mut done = 0_usize;
    let mut moves = vec![DEAD; classes.len()];
    let mut ends = vec![false];
    // States are numbered in discovery order, and rows are written in that order.
    while let Some(node_ids) = open.get(done).cloned() {
        done = done.checked_add(1)?;
        ends.push(node_ids.contains(&END));
        for class in &classes {
            let mut next = Vec::new();
            for id in &node_ids {
                visits = visits.checked_add(1).filter(|all| *all <= MAX_VISITS)?;
                if let Some(GraphNode::One(set, to)) = graph.nodes.get(usize::from(*id))
                    && holds(set, *class)
                {
                    next.push(*to);
                }
            }
            let next = graph.reach(&next, &mut visits)?;
            let known = states.get(&next).copied();
            let state = match known {
                Some(state) => state,
                None => {
                    let state = u16::try_from(states.len()).ok()?;
                    if states.len() >= MAX_STATES {
                        return None;
                    }
                    states.insert(next.clone(), state);
                    open.push(next);
                    state
                }
            };
            moves.push(state);
        }
        if moves.len() > MAX_MOVES {
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
