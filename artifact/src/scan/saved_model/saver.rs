//! The rule of the saver: when operators that read and write checkpoints are safe.
//!
//! A SavedModel with variables has such operators in the main graph (TensorFlow 1) or in two
//! functions (TensorFlow 2). A loader feeds the name of the checkpoint, `variables/variables`, into
//! the tensor that `SaverDef` names, and runs the operator that it names. A user who saves the
//! variables again feeds another name.
//!
//! | what the graph has | verdict |
//! |---|---|
//! | each name of a file is made from the saver's tensor, which a loader feeds, and from texts that stay in its folder; nothing else below | safe |
//! | a signature, a collection or an object reaches an operator of checkpoints | executable |
//! | what a loader runs to restore the variables writes a checkpoint | executable |
//! | a name of a file has another source: a constant, a client's input, another placeholder | unknown |
//! | a function of the saver is called by another one, or can be exchanged for another one | unknown |
//! | no `SaverDef`, two of them, too many nodes, a name that occurs twice | unknown |

use std::collections::{BTreeSet, HashMap, HashSet};

use super::assets::{Assets, TableFunction};
use super::graph::{Graph, Kind, Name, Trace};
use crate::scan::Verdict;

const ANOTHER_SOURCE: &str = "a file name does not come from the saver's placeholder";
const SERVED: &str = "a signature or the start of the model runs it";

/// A function of the library.
#[derive(Default)]
pub(super) struct Function {
    /// Functions that its nodes name.
    pub(super) calls: BTreeSet<Name>,
    pub(super) saver: Option<SaverFunction>,
    pub(super) table: Option<Box<TableFunction>>,
    /// Whether it writes texts into variables.
    pub(super) writes_texts: bool,
}

/// A function with operators of the saver.
pub(super) struct SaverFunction {
    /// The positions of the arguments that are names of files.
    arguments: BTreeSet<usize>,
    writes: bool,
    /// Whether all names of files are made from arguments.
    is_followed: bool,
}

impl SaverFunction {
    /// What the body of a function does with names of files, if it has operators of the saver.
    pub(super) fn of(body: &Graph, is_fixed: bool) -> Option<Self> {
        if !body.has_files {
            return None;
        }
        let mut trace = Trace::new(None);
        let is_followed = is_fixed && body.fault.is_none() && body.files_come_from(&mut trace);
        Some(Self {
            arguments: trace.arguments,
            writes: body.writes(),
            is_followed,
        })
    }
}

/// A graph of a SavedModel, with what uses it.
#[derive(Default)]
pub(super) struct Uses {
    pub(super) main: Graph,
    pub(super) functions: HashMap<Name, Function>,
    /// The tensor into which a loader feeds the name of the checkpoint.
    pub(super) file_name: Option<Name>,
    /// The node that a loader runs to restore the variables.
    pub(super) restore: Option<Name>,
    /// Nodes that signatures and collections name.
    pub(super) roots: Vec<Name>,
    /// Tensors that signatures name.
    pub(super) served: Vec<Name>,
    /// Functions that something other than a node names.
    pub(super) exposed: BTreeSet<Name>,
    /// Those of them that are called with arguments that no object binds.
    pub(super) exchanged: BTreeSet<Name>,
    pub(super) assets: Assets,
    /// Why the graph cannot be followed.
    pub(super) fault: Option<&'static str>,
}

impl Uses {
    /// Why operators of the saver are not safe.
    pub(super) fn saver_fault(&self) -> Option<(Verdict, &'static str)> {
        let executable = |reason| (Verdict::Executable, reason);
        let unknown = |reason| (Verdict::Unknown, reason);
        let served = self.main.needed_by(self.roots.iter().copied());
        // Whatever else is not followed, this runs.
        if self.reach(self.exposed.iter().copied(), |_| true) {
            let reason = "an object or a gradient of the model can call it";
            return Some(executable(reason));
        }
        if self.runs(&served, Kind::is_saver, |_| true) {
            return Some(executable(SERVED));
        }
        if let Some(reason) = self.fault.or(self.main.fault) {
            return Some(unknown(reason));
        }
        let (Some(file_name), Some(restore)) = (self.file_name, self.restore) else {
            return Some(unknown("the model names no saver"));
        };
        if served.contains(&file_name) {
            return Some(executable(SERVED));
        }
        let restored = self.main.needed_by([restore]);
        if self.runs(&restored, Kind::writes, |saver| saver.writes) {
            let reason = "what restores the variables also writes files";
            return Some(executable(reason));
        }
        self.source_fault(file_name).map(unknown)
    }

    /// Whether one of these functions, or what it calls, has such operators of the saver.
    fn reach(
        &self,
        functions: impl Iterator<Item = Name>,
        is_such: fn(&SaverFunction) -> bool,
    ) -> bool {
        let mut open: Vec<Name> = functions.collect();
        let mut found = BTreeSet::new();
        while let Some(name) = open.pop() {
            let function = self.functions.get(&name).filter(|_| found.insert(name));
            if function.is_some_and(|function| function.saver.as_ref().is_some_and(is_such)) {
                return true;
            }
            open.extend(function.iter().flat_map(|function| &function.calls));
        }
        false
    }

    /// Whether nodes of the main graph are of such a kind, or call such functions.
    fn runs(
        &self,
        nodes: &HashSet<Name>,
        is_such: fn(Kind) -> bool,
        is_such_function: fn(&SaverFunction) -> bool,
    ) -> bool {
        let mut kinds = nodes.iter().filter_map(|node| self.main.kind(*node));
        let calls = nodes.iter().flat_map(|node| self.main.calls(*node));
        kinds.any(is_such) || self.reach(calls.copied(), is_such_function)
    }

    /// Where a name of a file comes from, if not from the saver's tensor.
    fn source_fault(&self, file_name: Name) -> Option<&'static str> {
        if !self.main.is_fed(file_name, 0) {
            return Some("the saver's file name is not a placeholder");
        }
        let mut trace = Trace::new(Some(file_name));
        if !self.main.files_come_from(&mut trace) {
            return Some(ANOTHER_SOURCE);
        }
        let is_saver = |name: &Name| self.saver(*name).is_some();
        let mut functions = self.functions.values();
        if functions.any(|function| function.calls.iter().any(is_saver)) {
            return Some("a function calls one of the saver");
        }
        let mut functions = self.functions.values();
        let is_followed = |function: &Function| {
            let saver = function.saver.as_ref();
            saver.is_none_or(|saver| saver.is_followed)
        };
        if !functions.all(is_followed) {
            return Some(ANOTHER_SOURCE);
        }
        for (node, calls) in self.main.callers() {
            let is_call = self.main.kind(node) == Some(Kind::Call) && calls.len() == 1;
            for saver in calls.iter().filter_map(|name| self.saver(*name)) {
                let inputs: Vec<Name> = self.main.tensors(node).collect();
                let is_fed = saver.arguments.iter().all(|index| {
                    let input = inputs.get(*index);
                    input.is_some_and(|input| self.main.is_file_name(*input, &mut trace, 0))
                });
                if !is_call || !is_fed {
                    return Some(ANOTHER_SOURCE);
                }
            }
        }
        None
    }

    fn saver(&self, function: Name) -> Option<&SaverFunction> {
        self.functions.get(&function)?.saver.as_ref()
    }
}
