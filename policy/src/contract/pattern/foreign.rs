//! Weight of a caller's expression in an unknown server, which may use a backtracking matcher, a
//! full automaton or a grammar. Only syntax that all of them read alike is accepted, within limits
//! that all can afford. vLLM and llama.cpp have crashed on empty alternatives, repeated empty
//! expressions and nested groups (vllm-project/vllm#17313, #37642, ggml-org/llama.cpp#25308).
//!
//! Three limits apply together: characters after expansion of repetitions; states of the
//! deterministic automaton (`[ab]*a[ab]{20}` is short but has a million); and no ambiguous
//! unbounded repetition (`(a+)+` has two states but makes backtracking exponential).

use alloc::vec::Vec;

use super::loops;
use super::parse::{Dialect, LAST, Node, Set, parse_as};
use super::table::{Graph, Limits, make};

/// Maximum number of characters of an expanded expression, grammar or schema.
pub(in crate::contract) const MAX_WEIGHT: u64 = 16_384;
/// Maximum repetition count.
pub(in crate::contract) const MAX_REPEATS: u32 = 1024;
/// Limits for all expressions of a request: a few milliseconds in a filter.
const REQUEST: Limits = Limits {
    places: 2048,
    stretches: 1 << 14,
    states: 1024,
    moves: 1 << 14,
    visits: 1 << 18,
};

/// Limits of a grammar, for which no table is built.
const GRAMMAR: Limits = Limits {
    places: 1 << 15,
    stretches: 1 << 16,
    ..REQUEST
};

/// Weight of a non-ASCII character: servers' automata run over UTF-8.
const POINT_WEIGHT: u64 = 4;
/// States of a range of such characters.
const STRETCH_WEIGHT: u64 = 16;
/// States of all Unicode letters, digits or blanks.
const KIND_WEIGHT: u64 = 256;

/// Beyond ASCII, one digit, one letter and one blank represent their classes.
const KINDS: [&[(u32, u32)]; 3] = [
    &[(0x660, 0x660)],
    &[(0xe9, 0xe9), (0x660, 0x660)],
    &[(0xa0, 0xa0)],
];
/// Characters that `.` excludes in different engines: none; a line feed; a line feed and a return.
const NOT_DOT: [&[(u32, u32)]; 3] = [&[], &[(0x0a, 0x0a)], &[(0x0a, 0x0a), (0x0d, 0x0d)]];

/// Why an expression is rejected, for the log.
pub(in crate::contract) type Fault = &'static str;

/// Work spent on a request's expressions.
#[derive(Debug, Default)]
pub(in crate::contract) struct Meter {
    visits: usize,
}

/// An expression that is part of a grammar.
#[derive(Clone, Debug)]
pub(in crate::contract) struct Expression(Node);

impl Expression {
    /// One character of a set, or of its complement.
    pub(in crate::contract) fn one(set: Vec<(u32, u32)>, others: bool) -> Self {
        Self(Node::One(super::parse::set(set, others)))
    }

    /// A sequence.
    pub(in crate::contract) fn all(parts: Vec<Self>) -> Self {
        Self(Node::All(parts.into_iter().map(|part| part.0).collect()))
    }

    /// An alternative.
    pub(in crate::contract) fn any(ways: Vec<Self>) -> Self {
        Self(Node::Any(ways.into_iter().map(|way| way.0).collect()))
    }

    /// A repetition; unbounded if `max` is `None`.
    pub(in crate::contract) fn repeated(self, min: u32, max: Option<u32>) -> Self {
        Self(Node::Repeat {
            node: self.0.into(),
            min,
            max,
        })
    }

    /// Number of subexpressions, itself included.
    pub(in crate::contract) fn size(&self) -> usize {
        fn of(node: &Node) -> usize {
            let inner = match node {
                Node::One(_) => 0,
                Node::All(nodes) | Node::Any(nodes) => {
                    nodes.iter().map(of).fold(0, usize::saturating_add)
                }
                Node::Repeat { node, .. } => of(node),
            };
            inner.saturating_add(1)
        }
        of(&self.0)
    }

    /// Depth of subexpressions.
    pub(in crate::contract) fn height(&self) -> usize {
        fn of(node: &Node) -> usize {
            let inner = match node {
                Node::One(_) => 0,
                Node::All(nodes) | Node::Any(nodes) => nodes.iter().map(of).max().unwrap_or(0),
                Node::Repeat { node, .. } => of(node),
            };
            inner.saturating_add(1)
        }
        of(&self.0)
    }

    /// Whether it matches the empty text.
    pub(in crate::contract) fn may_be_empty(&self) -> bool {
        loops::may_be_empty(&self.0)
    }
}

impl Meter {
    /// Weight of an expression. `searched`: it need not match the whole text, as in a schema.
    ///
    /// # Errors
    ///
    /// Why it is rejected.
    pub(in crate::contract) fn pattern(
        &mut self,
        text: &str,
        searched: bool,
    ) -> Result<u64, Fault> {
        let seen = look(text)?;
        let mut weight = 0;
        let dialects = if seen.dot {
            NOT_DOT.as_slice()
        } else {
            NOT_DOT.get(..1).unwrap_or_default()
        };
        for not_dot in dialects {
            let dialect = Dialect {
                not_dot,
                beyond: KINDS,
            };
            let node = parse_as(text, dialect).map_err(super::PatternFault::cause)?;
            whole(&node)?;
            let (begins, ends) = (text.starts_with('^'), text.ends_with('$'));
            if matches!(node, Node::Any(_)) && (begins || ends) {
                return Err("in a pattern, ^ or $ stands beside alternatives");
            }
            loops::check(&node)?;
            let node = if searched {
                wherever(node, begins, ends)
            } else {
                node
            };
            weight = self.graph(&node, seen.kinds, true)?.max(weight);
        }
        Ok(weight)
    }

    /// Parses a pattern as part of another expression.
    ///
    /// # Errors
    ///
    /// Why it is rejected.
    pub(in crate::contract) fn read(&mut self, text: &str) -> Result<Expression, Fault> {
        self.pattern(text, false)?;
        let dialect = Dialect {
            not_dot: &[],
            beyond: KINDS,
        };
        let node = parse_as(text, dialect).map_err(super::PatternFault::cause)?;
        Ok(Expression(node))
    }

    /// Weight of an expression for a server that tracks several positions. `kinds`: it may contain
    /// Unicode letters, digits or blanks.
    ///
    /// # Errors
    ///
    /// Why it is rejected.
    pub(in crate::contract) fn expression(
        &mut self,
        expression: &Expression,
        kinds: bool,
    ) -> Result<u64, Fault> {
        self.graph(&expression.0, kinds, false)
    }

    fn graph(&mut self, node: &Node, kinds: bool, table: bool) -> Result<u64, Fault> {
        const LARGE: Fault = "comes to too much once it is written out";
        let limits = if table { REQUEST } else { GRAMMAR };
        let (graph, begin) = Graph::of(node, limits).ok_or(LARGE)?;
        let weights = graph.sets().map(|set| weight(set, kinds));
        let weight = weights.fold(0, u64::saturating_add);
        self.visits = self.visits.saturating_add(graph.work());
        if weight > MAX_WEIGHT || self.visits > limits.visits {
            return Err(LARGE);
        }
        if table {
            let made = make("", &graph, begin, &mut self.visits);
            made.ok_or("a pattern comes to too many states")?;
        }
        Ok(weight)
    }
}

/// States of a set of characters.
fn weight(set: &Set, kinds: bool) -> u64 {
    let beyond = set.iter().filter(|(_, to)| *to >= 0x80);
    let all = beyond.map(|(from, to)| {
        if from == to {
            POINT_WEIGHT
        } else {
            STRETCH_WEIGHT
        }
    });
    match all.fold(0, u64::saturating_add) {
        0 => 1,
        _ if kinds => KIND_WEIGHT,
        all => all,
    }
}

/// Result of a first scan of an expression.
struct Seen {
    /// Contains `.`.
    dot: bool,
    /// Contains `\d`, `\w`, `\s` or a complement.
    kinds: bool,
}

/// Rejects syntax that engines read differently.
fn look(text: &str) -> Result<Seen, Fault> {
    let mut seen = Seen {
        dot: false,
        kinds: false,
    };
    let (mut class, mut escaped, mut before) = (false, false, None);
    for character in text.chars() {
        if character.is_control() {
            return Err("a pattern has a control character");
        }
        let twice = before.replace(character) == Some(character);
        if core::mem::take(&mut escaped) {
            seen.kinds |= character.is_ascii_alphabetic() && !matches!(character, 'n' | 'r' | 't');
            if matches!(character, '<' | '>' | ' ') {
                return Err("a pattern has an escape that engines read differently");
            }
            before = None;
            continue;
        }
        match character {
            '\\' => escaped = true,
            '[' => class = true,
            ']' => class = false,
            '.' if !class => seen.dot = true,
            // Set operations in some engines, characters in others.
            '&' | '-' | '~' | '|' if class && twice => {
                return Err("a class of a pattern has an operator of some engines");
            }
            _ => {}
        }
    }
    if seen.kinds && !text.is_ascii() {
        return Err("a pattern has \\d, \\w or \\s beside characters beyond ASCII");
    }
    Ok(seen)
}

/// Rejects an empty subexpression.
fn whole(node: &Node) -> Result<(), Fault> {
    match node {
        Node::One(set) if set.is_empty() => Err("a class of a pattern has no characters"),
        Node::One(_) => Ok(()),
        Node::All(nodes) if nodes.is_empty() => Err("in a pattern, an alternative is empty"),
        Node::All(nodes) | Node::Any(nodes) => nodes.iter().try_for_each(whole),
        Node::Repeat { node, max, .. } => match max {
            Some(0) => Err("in a pattern, something stands no times"),
            _ => whole(node),
        },
    }
}

/// An expression that may match anywhere, as servers treat one without anchors.
fn wherever(node: Node, begins: bool, ends: bool) -> Node {
    let anything = || Node::Repeat {
        node: Node::One([(0, LAST)].into()).into(),
        min: 0,
        max: None,
    };
    let before = (!begins).then(anything);
    let behind = (!ends).then(anything);
    Node::All(before.into_iter().chain([node]).chain(behind).collect())
}
