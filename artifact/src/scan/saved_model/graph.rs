//! The nodes of a graph or of a function's body, as far as names of files are followed through
//! them. Names are kept as hashes, with a key that no file can know.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

/// The hash of a name.
pub(super) type Name = u64;

/// Inputs of nodes that are kept for each node, as a mean.
const MEAN_INPUTS: usize = 3;
/// How deep the operators of a file's name may be in each other.
const MAX_DEPTH: usize = 16;
/// Nodes that are looked at to follow the names of the files of one graph.
const MAX_STEPS: usize = 200_000;

/// What an operator does with the name of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An argument of the function, by its position.
    Argument(usize),
    /// A call of a function with the inputs as its arguments.
    Call,
    /// Passes on its first input, perhaps with numbers behind it.
    First,
    /// Joins texts.
    Join,
    /// Puts tensors together.
    Pack,
    /// A text that stays in its folder when it is put behind the name of a file.
    Part,
    /// What a loader feeds.
    Placeholder,
    /// The same, with its only input as the value if nothing is fed.
    PlaceholderWithDefault,
    /// Prints to a log, or to a file that an attribute names.
    Print,
    /// Reads a variable.
    Read,
    /// Reads a checkpoint.
    Restore,
    /// One of two texts.
    Select,
    /// Writes a checkpoint, whose name is its first input.
    Save,
    /// Writes a checkpoint from those of its first input, under the name of its second.
    Merge,
    /// The name of a file of a checkpoint.
    Shard,
    /// Reads a file, whose name is its second input, into a table.
    Table,
    /// Writes a variable that may be a text, which is its second input.
    Write,
    Other,
}

impl Kind {
    /// The kind of an operator. A constant becomes a part by its value.
    pub(super) fn of(operator: &str) -> Self {
        match operator {
            "PartitionedCall" | "StatefulPartitionedCall" => Self::Call,
            "AssignVariableOp" | "ResourceScatterNdUpdate" | "ResourceScatterUpdate" => Self::Write,
            "Identity" => Self::First,
            "InitializeTableFromTextFile" | "InitializeTableFromTextFileV2" => Self::Table,
            "MergeV2Checkpoints" => Self::Merge,
            "Pack" => Self::Pack,
            "Placeholder" => Self::Placeholder,
            "PlaceholderWithDefault" => Self::PlaceholderWithDefault,
            "Print" | "PrintV2" => Self::Print,
            "ReadVariableOp" => Self::Read,
            "RestoreV2" => Self::Restore,
            "SaveV2" => Self::Save,
            "Select" | "SelectV2" => Self::Select,
            "ShardedFilename" | "ShardedFilespec" => Self::Shard,
            "StringJoin" => Self::Join,
            _ => Self::Other,
        }
    }

    /// How many of the first inputs are names of files.
    const fn file_names(self) -> usize {
        match self {
            Self::Merge => 2,
            Self::Restore | Self::Save | Self::Shard => 1,
            _ => 0,
        }
    }

    /// Whether it is an operator of a saver.
    pub(super) const fn is_saver(self) -> bool {
        self.file_names() > 0
    }

    pub(super) const fn writes(self) -> bool {
        matches!(self, Self::Merge | Self::Save)
    }
}

/// The types that the attributes of a node name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Element {
    #[default]
    Nothing,
    /// Types, and none of them that of texts.
    Other,
    /// That of texts, or one that a caller sets.
    Text,
}

impl Element {
    /// Adds a type, by its number: `DT_STRING`, `DT_STRING_REF` or another one.
    pub(super) const fn add(&mut self, number: u64) {
        *self = match (number, *self) {
            (7 | 107, _) | (_, Self::Text) => Self::Text,
            _ => Self::Other,
        };
    }
}

/// An input of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    /// The node, or the argument of the function.
    pub(super) node: Name,
    /// Whether only the order is meant.
    pub(super) is_control: bool,
}

/// A node.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) kind: Option<Kind>,
    pub(super) inputs: Vec<Edge>,
    /// Functions that its attributes name.
    pub(super) calls: Vec<Name>,
}

/// Where the inputs and the calls of a node are.
struct Stored {
    kind: Kind,
    inputs: Range<usize>,
    calls: Range<usize>,
}

/// Nodes by their names.
#[derive(Default)]
pub(super) struct Graph {
    nodes: HashMap<Name, Stored>,
    inputs: Vec<Edge>,
    calls: Vec<Name>,
    /// Nodes that have the names of files.
    files: Vec<Name>,
    /// Whether it has operators of a saver.
    pub(super) has_files: bool,
    /// Nodes that read files into tables, and those that write texts into variables.
    tables: Vec<Name>,
    writers: Vec<Name>,
    /// Why the nodes cannot be followed.
    pub(super) fault: Option<&'static str>,
}

impl Graph {
    /// Adds a node. More than `most` are not kept, and the graph cannot be followed then.
    pub(super) fn add(&mut self, name: Name, node: &Node, most: usize) {
        let kind = node.kind.unwrap_or(Kind::Other);
        self.has_files |= kind.is_saver();
        let room = most.saturating_mul(MEAN_INPUTS);
        let inputs = self.inputs.len().saturating_add(node.inputs.len());
        let calls = self.calls.len().saturating_add(node.calls.len());
        if self.nodes.len() >= most || inputs > room || calls > room {
            self.fault = Some("the graph has too many nodes to be followed");
            return;
        }
        let stored = Stored {
            kind,
            inputs: self.inputs.len()..inputs,
            calls: self.calls.len()..calls,
        };
        self.inputs.extend_from_slice(&node.inputs);
        self.calls.extend_from_slice(&node.calls);
        if kind.is_saver() {
            self.files.push(name);
        }
        match kind {
            Kind::Table => self.tables.push(name),
            Kind::Write => self.writers.push(name),
            _ => {}
        }
        if self.nodes.insert(name, stored).is_some() {
            self.fault = Some("two nodes have one name");
        }
    }

    /// Whether the graph reads files into tables.
    pub(super) const fn has_tables(&self) -> bool {
        !self.tables.is_empty()
    }

    /// Whether the graph writes texts into variables.
    pub(super) const fn writes_texts(&self) -> bool {
        !self.writers.is_empty()
    }

    pub(super) fn kind(&self, name: Name) -> Option<Kind> {
        self.nodes.get(&name).map(|node| node.kind)
    }

    /// Each node with the functions that it names.
    pub(super) fn callers(&self) -> impl Iterator<Item = (Name, &[Name])> {
        self.nodes.keys().map(|name| (*name, self.calls(*name)))
    }

    /// The functions that a node names.
    pub(super) fn calls(&self, name: Name) -> &[Name] {
        let node = self.nodes.get(&name);
        let calls = node.and_then(|node| self.calls.get(node.calls.clone()));
        calls.unwrap_or_default()
    }

    fn inputs(&self, name: Name) -> &[Edge] {
        let node = self.nodes.get(&name);
        let inputs = node.and_then(|node| self.inputs.get(node.inputs.clone()));
        inputs.unwrap_or_default()
    }

    /// The tensors among the inputs of a node.
    pub(super) fn tensors(&self, name: Name) -> impl Iterator<Item = Name> {
        let inputs = self.inputs(name).iter();
        inputs
            .filter(|input| !input.is_control)
            .map(|input| input.node)
    }

    /// The names of the files that are read into tables. None if a node has other inputs.
    pub(super) fn table_files(&self) -> Option<Vec<Name>> {
        self.second_inputs(&self.tables)
    }

    /// The texts that are written into variables.
    pub(super) fn written_texts(&self) -> Option<Vec<Name>> {
        self.second_inputs(&self.writers)
    }

    fn second_inputs(&self, nodes: &[Name]) -> Option<Vec<Name>> {
        let second = |node: &Name| {
            let mut inputs = self.tensors(*node).skip(1);
            let second = inputs.next();
            second.filter(|_| inputs.next().is_none())
        };
        nodes.iter().map(second).collect()
    }

    /// The tensor that is passed on as this one.
    pub(super) fn origin(&self, tensor: Name) -> Name {
        let mut origin = tensor;
        for _ in 0..MAX_DEPTH {
            if self.kind(origin) != Some(Kind::First) {
                break;
            }
            origin = self.tensors(origin).next().unwrap_or_default();
        }
        origin
    }

    /// The nodes that run if `roots` run.
    pub(super) fn needed_by(&self, roots: impl IntoIterator<Item = Name>) -> HashSet<Name> {
        let mut found = HashSet::new();
        let mut open: Vec<Name> = roots.into_iter().collect();
        while let Some(name) = open.pop() {
            if self.nodes.contains_key(&name) && found.insert(name) {
                let inputs = self.inputs(name).iter().map(|input| input.node);
                open.extend(inputs.filter(|input| !found.contains(input)));
            }
        }
        found
    }

    /// Whether all names of files of checkpoints come from the trace's source.
    pub(super) fn files_come_from(&self, trace: &mut Trace) -> bool {
        self.files.iter().all(|file| {
            let count = self.kind(*file).map_or(0, Kind::file_names);
            let names: Vec<Name> = self.tensors(*file).take(count).collect();
            names.len() == count && names.iter().all(|name| self.is_file_name(*name, trace, 0))
        })
    }

    /// Whether a node writes a checkpoint.
    pub(super) fn writes(&self) -> bool {
        let mut files = self.files.iter();
        files.any(|file| self.kind(*file).is_some_and(Kind::writes))
    }

    /// Whether a tensor is the source of names, or made from it and from parts.
    pub(super) fn is_file_name(&self, tensor: Name, trace: &mut Trace, depth: usize) -> bool {
        if trace.source == Some(tensor) || trace.names.contains(&tensor) {
            return true;
        }
        if !trace.step(depth) {
            return false;
        }
        let next = depth.saturating_add(1);
        let mut inputs = self.tensors(tensor);
        let is_name = match self.kind(tensor) {
            Some(Kind::Argument(index)) if trace.source.is_none() => {
                trace.arguments.insert(index);
                true
            }
            Some(Kind::First | Kind::Shard) => {
                let name = inputs.next();
                name.is_some_and(|name| self.is_file_name(name, trace, next))
            }
            Some(Kind::Pack) => inputs.all(|name| self.is_file_name(name, trace, next)),
            Some(Kind::Join) => {
                let name = inputs.next();
                name.is_some_and(|name| self.is_file_name(name, trace, next))
                    && inputs.all(|part| self.is_part(part, trace, next))
            }
            _ => false,
        };
        if is_name {
            trace.names.insert(tensor);
        }
        is_name
    }

    /// Whether a tensor is a text that stays in the folder of the name before it.
    fn is_part(&self, tensor: Name, trace: &mut Trace, depth: usize) -> bool {
        if trace.parts.contains(&tensor) {
            return true;
        }
        let next = depth.saturating_add(1);
        let mut inputs = self.tensors(tensor);
        let is_part = trace.step(depth)
            && match self.kind(tensor) {
                Some(Kind::Part) => true,
                // The first input is the condition.
                Some(Kind::Select) => {
                    inputs.next().is_some() && inputs.all(|part| self.is_part(part, trace, next))
                }
                _ => false,
            };
        if is_part {
            trace.parts.insert(tensor);
        }
        is_part
    }

    /// Whether a node is what a loader feeds with the name of the checkpoint. Until 1.9 that was a
    /// constant, `model`. What is there if nothing is fed has to be a part, too.
    pub(super) fn is_fed(&self, node: Name, depth: usize) -> bool {
        match self.kind(node) {
            Some(Kind::Placeholder | Kind::Part) => true,
            Some(Kind::PlaceholderWithDefault) if depth < MAX_DEPTH => {
                let mut inputs = self.tensors(node);
                let default = inputs.next();
                inputs.next().is_none()
                    && default.is_some_and(|node| self.is_fed(node, depth.saturating_add(1)))
            }
            _ => false,
        }
    }
}

/// A search for the source of the names of files.
pub(super) struct Trace {
    /// The tensor that all names have to come from. Without it, arguments of the function.
    source: Option<Name>,
    /// The positions of the arguments that are names of files.
    pub(super) arguments: BTreeSet<usize>,
    /// Tensors that are names of files, and those that are parts. Each is followed once.
    names: BTreeSet<Name>,
    parts: BTreeSet<Name>,
    steps_left: usize,
}

impl Trace {
    pub(super) const fn new(source: Option<Name>) -> Self {
        Self {
            source,
            arguments: BTreeSet::new(),
            names: BTreeSet::new(),
            parts: BTreeSet::new(),
            steps_left: MAX_STEPS,
        }
    }

    fn step(&mut self, depth: usize) -> bool {
        let left = self.steps_left.checked_sub(1);
        self.steps_left = left.unwrap_or(0);
        left.is_some() && depth < MAX_DEPTH
    }
}

/// Whether a `TensorProto` is one text that cannot leave a folder, as savers write it:
/// `_temp_1d15c4f0/part`. `bytes` is its length, `head` its beginning.
pub(super) fn is_part(bytes: u64, head: &[u8]) -> bool {
    // The type is a text, and the shape that of a scalar.
    let value = head.strip_prefix(b"\x08\x07\x12\0");
    let Some((text, rest)) = value.and_then(|value| first_field(value, 0x42)) else {
        return false;
    };
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-/".contains(byte);
    usize::try_from(bytes) == Ok(head.len())
        && rest.is_empty()
        && text.first() != Some(&b'/')
        && text.iter().all(is_plain)
        && !text.windows(2).any(|pair| pair == b"..")
}

/// The first field of a message, if it has this key and fewer than 128 bytes, and what follows.
pub(super) fn first_field(message: &[u8], key: u8) -> Option<(&[u8], &[u8])> {
    match message {
        [first, length @ 0..0x80, rest @ ..] if *first == key => {
            rest.split_at_checked(usize::from(*length))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "tests")]
    use super::*;

    /// There are 16 ways at each of ten nodes.
    #[test]
    fn each_tensor_is_followed_once() {
        let node = |kind: Kind, inputs: Vec<Edge>| Node {
            kind: Some(kind),
            inputs,
            calls: Vec::new(),
        };
        let edge = |node: Name| Edge {
            node,
            is_control: false,
        };
        let mut graph = Graph::default();
        graph.add(0, &node(Kind::Argument(0), Vec::new()), 100);
        for name in 1..=10 {
            graph.add(name, &node(Kind::Pack, vec![edge(name - 1); 16]), 100);
        }
        graph.add(11, &node(Kind::Restore, vec![edge(10)]), 100);
        let mut trace = Trace::new(None);
        assert!(graph.files_come_from(&mut trace));
        assert!(trace.steps_left >= MAX_STEPS - 11);
    }
}
