//! TensorFlow's SavedModel and frozen graphs: programs of operators, a few of which read files,
//! write files or run Python.
//!
//! All graphs and the whole library of functions are walked, whatever calls them. Operators that
//! only compute are on a list; the others are refused, but for those of the saver and of tables
//! under their rules.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io;

use super::finding::MAX_FINDINGS;
use super::names::{is_plain_path, keep};
use super::protobuf::{self, Visitor};
use super::source::{Source, Stop, finish};
use super::{Input, Limits, Report, Verdict};
use crate::scan::rules::{self, Rule};

mod assets;
pub(super) mod fingerprint;
mod graph;
mod operators;
mod pure_operators;
mod saver;
mod schema;
mod tables;
#[cfg(test)]
mod tests;

use assets::{TableFunction, asset_tensor};
use graph::{Edge, Element, Graph, Kind, Name, Node, is_part};
use operators::{Effect, effect};
use saver::{Function, SaverFunction, Uses};
use schema::Message;

const RULE: &Rule = rules::SAVED_MODEL_MESSAGE;
/// The rule of operators with an effect outside the graph.
const OPERATOR: &Rule = rules::SAVED_MODEL_OPERATOR;
/// What `PrintV2` prints to, if it is no file.
const LOGS: [&[u8]; 5] = [
    b"log(error)",
    b"log(info)",
    b"log(warning)",
    b"stderr",
    b"stdout",
];

/// Scans `saved_model.pb`, its text form `saved_model.pbtxt`, or a frozen graph.
///
/// # Errors
/// The input cannot be read.
pub fn scan(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("tensorflow saved model");
    let mut source = Source::new(input, rules::SAVED_MODEL_TRUNCATED)?;
    let walked = walk(&mut source, limits, &mut report);
    finish(report, walked)
}

/// Whether an operator is known to act outside its graph. TensorFlow Lite can run it, too, and has
/// no saver.
pub(super) fn acts_outside(operator: &str) -> bool {
    !matches!(effect(operator), Effect::None | Effect::Unknown)
}

fn walk(source: &mut Source<'_>, limits: &Limits, report: &mut Report) -> Result<(), Stop> {
    let first = source.byte()?;
    // The first field of a SavedModel is a number or a graph, and that of a graph a node or a
    // library. The text form begins with a name or a comment.
    let root = match first {
        0x08 => Message::SavedModel,
        0x0a => Message::Graph,
        0x12 => {
            let detail = "the message may be a graph or a SavedModel";
            return Err(Stop::unknown(0, RULE, detail));
        }
        b'#' | b' ' | b'a'..=b'z' => return scan_text(source, limits, report),
        _ => return Err(Stop::malformed(0, RULE, "the file begins with no field")),
    };
    source.seek(0);
    let mut model = Model {
        entries: limits.entries,
        name_bytes_left: limits.header_bytes,
        ..Model::default()
    };
    let walked = protobuf::walk(source, root, limits, RULE, &mut model, report);
    let reason = "the graph has no saver or assets, or no end";
    end_operators(
        &mut model.checkpoints,
        Some((Verdict::Unknown, reason)),
        report,
    );
    end_operators(
        &mut model.tables,
        Some((Verdict::Executable, reason)),
        report,
    );
    walked
}

/// Names the operators that are easy to see in the text form, which is not followed.
fn scan_text(source: &mut Source<'_>, limits: &Limits, report: &mut Report) -> Result<(), Stop> {
    let detail = "a SavedModel or a graph as text is not followed";
    report.add(Verdict::Unknown, 0, rules::SAVED_MODEL_TEXT, detail);
    source.seek(0);
    let bound = u64::try_from(limits.header_bytes).unwrap_or(u64::MAX);
    let bytes = usize::try_from(source.length().min(bound)).unwrap_or(0);
    let bytes = source.read_bytes(bytes)?;
    let mut names = BTreeSet::new();
    for text in bytes.split(|byte| matches!(byte, b'"' | b'\'')) {
        let name = str::from_utf8(text).ok();
        let name = name.filter(|it| acts_outside(it) && effect(it) != Effect::Checkpoint);
        if let Some(name) = name.filter(|name| names.insert(*name)) {
            let detail = format!("the text names the operator {name}");
            report.add(Verdict::Executable, 0, OPERATOR, &detail);
        }
    }
    Ok(())
}

/// Adds operators of a graph that use files, unless their rule allows them.
fn end_operators(
    operators: &mut Vec<(u64, String)>,
    fault: Option<(Verdict, &str)>,
    report: &mut Report,
) {
    for (at, name) in operators.drain(..) {
        if let Some((verdict, reason)) = fault {
            let detail = format!("the operator {name} uses files: {reason}");
            report.add(verdict, at, OPERATOR, &detail);
        }
    }
}

/// A function's body may have one node for this many of the main graph: those of the saver have few
/// nodes for each variable.
const BODY_SHARE: usize = 8;

/// What is known of a model so far.
#[derive(Default)]
struct Model {
    /// The most nodes, functions or references that are kept of each kind.
    entries: usize,
    /// How many bytes of names of operators and functions may still be kept.
    name_bytes_left: usize,
    /// Operators that are on no list of operators without effects.
    used: BTreeSet<String>,
    functions: BTreeSet<String>,
    state: RandomState,
    /// Operators of the saver of the current graph, and where they are.
    checkpoints: Vec<(u64, String)>,
    /// Operators of the current graph that read files into tables, and where they are.
    tables: Vec<(u64, String)>,
    uses: Uses,
    /// Functions that functions of this graph name.
    function_calls: usize,
    body: Body,
    node: Draft,
}

/// The function that is read.
#[derive(Default)]
struct Body {
    name: Option<Name>,
    graph: Graph,
    calls: BTreeSet<Name>,
    arguments: usize,
    /// Whether its arguments are single tensors, and no other function can take its place.
    is_fixed: bool,
}

/// The node that is read.
#[derive(Default)]
struct Draft {
    name: Option<Name>,
    node: Node,
    is_constant: bool,
    /// The name of the attribute that is read.
    attribute: Option<String>,
    /// Whether an attribute may put a text between texts that are joined, or name a file to print
    /// to.
    has_text: bool,
    tensors: usize,
    element: Element,
    is_part: bool,
    is_ambiguous: bool,
}

impl Visitor<Message> for Model {
    fn begin(&mut self, path: &[Message], _: &mut Report) -> Result<(), Stop> {
        if let [.., Message::Object, _] = path {
            self.uses.assets.object_field(0);
        }
        match path.last() {
            Some(Message::MetaGraph) => {
                self.uses = Uses::default();
                self.function_calls = 0;
            }
            Some(Message::Function) => {
                self.body = Body {
                    is_fixed: true,
                    ..Body::default()
                }
            }
            Some(Message::Node) => self.node = Draft::default(),
            // Not one of a function that an attribute names.
            Some(Message::Attribute) if !path.contains(&Message::Call) => {
                self.node.attribute = None;
            }
            _ => {}
        }
        Ok(())
    }

    fn number(&mut self, path: &[Message], field: u32, value: u64, at: u64) -> Result<(), Stop> {
        match (path.last(), field) {
            (Some(Message::SavedModel), 1) if value != 1 => {
                let detail = format!("version {value} of the format");
                return Err(Stop::unknown(at, RULE, detail));
            }
            (Some(Message::AttributeValue | Message::AttributeList), 6) => {
                self.node.element.add(value);
            }
            (Some(Message::Captures), 2) => self.uses.assets.bind(value, self.entries),
            _ => {}
        }
        Ok(())
    }

    fn data(&mut self, path: &[Message], field: u32, bytes: u64, head: &[u8]) {
        let is_empty = bytes == 0;
        match (path.last(), field) {
            // An argument that is a list, so that later ones move.
            (Some(Message::Argument), 5 | 6) if !is_empty => self.body.is_fixed = false,
            (Some(Message::AttributeValue), 2) => {
                let is_other = |name: &String| name != "output_stream" && name != "separator";
                let is_text = !self.node.attribute.as_ref().is_some_and(is_other);
                self.node.has_text |= is_text && !is_empty && !LOGS.contains(&head);
            }
            (Some(Message::AttributeValue | Message::AttributeList), 8) => {
                self.node.tensors = self.node.tensors.saturating_add(1);
                self.node.is_part = is_part(bytes, head);
            }
            // A name in place of a type or a text.
            (Some(Message::AttributeValue), 9) => {
                self.node.element = Element::Text;
                self.node.has_text = true;
            }
            (Some(Message::Any), 2) => match asset_tensor(bytes, head) {
                Some(tensor) => {
                    let tensor = self.node_of(tensor);
                    self.uses.assets.add_tensor(tensor, self.entries);
                }
                None => {
                    self.uses.assets.fault = Some("a collection has an asset in another form");
                }
            },
            (Some(Message::Object), field) => self.uses.assets.object_field(field),
            _ => {}
        }
    }

    fn text(
        &mut self,
        path: &[Message],
        field: u32,
        text: String,
        at: u64,
        report: &mut Report,
    ) -> Result<(), Stop> {
        match (path.last(), field) {
            (Some(Message::Node), 2) => return self.operator(text, at, report),
            (Some(Message::Signature), 1) => {
                self.body.name = Some(self.name(&text));
                let (bytes, left) = (text.len(), &mut self.name_bytes_left);
                return keep(&mut self.functions, text, bytes, left, at, RULE);
            }
            (Some(Message::Asset), 2) if !is_plain_path(&text) => {
                let detail = format!("the asset {text:?} may leave the folder");
                report.add(Verdict::Executable, at, rules::SAVED_MODEL_ASSET, &detail);
            }
            (Some(Message::Attribute), 1) => self.attribute(path, text),
            // A SavedModel has its graphs where a graph has these names.
            (Some(Message::Gradient), _) if text.contains(char::is_control) => {
                let detail = "the name of a gradient's function is no plain text";
                return Err(Stop::unknown(at, RULE, detail));
            }
            _ => self.reference(path, field, &text),
        }
        Ok(())
    }

    fn end(&mut self, path: &[Message], at: u64, report: &mut Report) -> Result<(), Stop> {
        match path.last() {
            Some(Message::Node) => {
                if self.node.has_text && self.node.node.kind == Some(Kind::Print) {
                    let detail = "the operator PrintV2 may print to a file that it names";
                    report.add(Verdict::Executable, at, OPERATOR, detail);
                }
                self.end_node(path.contains(&Message::Function));
            }
            // One without a name has a position, too.
            Some(Message::Argument) => {
                self.body.arguments = self.body.arguments.saturating_add(1);
            }
            Some(Message::Function) => self.end_function(),
            Some(Message::Object) => self.uses.assets.end_object(self.entries),
            Some(Message::ConcreteFunction) => self.uses.assets.end_function(self.entries),
            Some(Message::MetaGraph) => {
                end_operators(&mut self.checkpoints, self.uses.saver_fault(), report);
                if !self.tables.is_empty() {
                    let fault = self.uses.table_fault();
                    let fault = fault.map(|reason| (Verdict::Executable, reason));
                    end_operators(&mut self.tables, fault, report);
                }
            }
            _ => {}
        }
        if path.len() == 1 {
            for name in self.used.difference(&self.functions) {
                let detail = format!("the operator {name} is on no list");
                report.add(Verdict::Unknown, 0, OPERATOR, &detail);
            }
        }
        Ok(())
    }
}

impl Model {
    fn operator(&mut self, name: String, at: u64, report: &mut Report) -> Result<(), Stop> {
        self.node.is_ambiguous |= self.node.node.kind.is_some();
        self.node.node.kind = Some(Kind::of(&name));
        self.node.is_constant = name == "Const";
        match effect(&name) {
            Effect::None => {}
            // A function of the library may be called by its name. Only the end of the file tells.
            Effect::Unknown => {
                let function = self.name(&name);
                self.call(function);
                let (bytes, left) = (name.len(), &mut self.name_bytes_left);
                return keep(&mut self.used, name, bytes, left, at, RULE);
            }
            // The end of the graph tells what uses it.
            Effect::Checkpoint if self.checkpoints.len() < MAX_FINDINGS => {
                self.checkpoints.push((at, name));
            }
            Effect::Table if self.tables.len() < MAX_FINDINGS => self.tables.push((at, name)),
            // The end of the node tells what it prints to.
            Effect::Checkpoint | Effect::Table | Effect::Print => {}
            Effect::Outside => {
                let detail = format!("the operator {name} acts outside the graph");
                report.add(Verdict::Executable, at, OPERATOR, &detail);
            }
        }
        Ok(())
    }

    /// The name of an attribute. One of a function may offer it in place of another one.
    fn attribute(&mut self, path: &[Message], name: String) {
        let parent = path.len().checked_sub(2).and_then(|index| path.get(index));
        if parent == Some(&Message::Function) && !name.starts_with('_') {
            self.body.is_fixed = false;
        }
        if !path.contains(&Message::Call) {
            // The last of two names counts, and the value may stand before it.
            self.node.has_text |= self.node.attribute.replace(name).is_some();
        }
    }

    /// A name of a node, a tensor or a function.
    fn reference(&mut self, path: &[Message], field: u32, text: &str) {
        let tensor = self.node_of(text);
        let name = self.name(text);
        match (path.last(), field) {
            (Some(Message::Node), 1) => {
                self.node.is_ambiguous |= self.node.name.replace(name).is_some();
            }
            (Some(Message::Node), 3) if self.node.node.inputs.len() < self.entries => {
                self.node.node.inputs.push(Edge {
                    node: tensor,
                    is_control: text.starts_with('^'),
                });
            }
            (Some(Message::Node), 3) => self.node.is_ambiguous = true,
            (Some(Message::Argument), 1) => {
                let argument = Node {
                    kind: Some(Kind::Argument(self.body.arguments)),
                    ..Node::default()
                };
                let most = self.most_in_body();
                self.body.graph.add(name, &argument, most);
            }
            (Some(Message::Call), 1) if path.contains(&Message::Node) => self.call(name),
            (Some(Message::Saver), 1 | 3) => {
                let known = match field {
                    1 => &mut self.uses.file_name,
                    _ => &mut self.uses.restore,
                };
                if known.replace(tensor).is_some() {
                    self.uses.fault = Some("the model names two savers");
                }
            }
            (Some(Message::TensorInfo), 1) if path.contains(&Message::Asset) => {
                self.uses.assets.add_tensor(tensor, self.entries);
            }
            (Some(Message::NodeList | Message::TensorInfo), 1)
            | (Some(Message::SparseTensor), 1..=3) => {
                if self.uses.roots.len() < self.entries {
                    self.uses.roots.push(tensor);
                    if path.contains(&Message::ServedSignature) {
                        self.uses.served.push(tensor);
                    }
                } else {
                    self.uses.fault = Some("the model has too many signatures");
                }
            }
            (
                Some(
                    Message::BareFunction
                    | Message::Call
                    | Message::ConcreteFunction
                    | Message::ExposedFunction
                    | Message::RegisteredGradient,
                ),
                1,
            )
            | (Some(Message::CapturedTensor), 2)
            | (Some(Message::Gradient), 1 | 2) => {
                let is_concrete = path.last() == Some(&Message::ConcreteFunction);
                if is_concrete {
                    self.uses.assets.name_function(name);
                }
                if self.uses.exposed.len() < self.entries {
                    self.uses.exposed.insert(name);
                    let is_object = path.contains(&Message::Object) && field == 1;
                    if !is_concrete && !is_object {
                        self.uses.exchanged.insert(name);
                    }
                } else {
                    self.uses.fault = Some("the model has too many functions");
                }
            }
            _ => {}
        }
    }

    fn call(&mut self, function: Name) {
        if self.node.node.calls.len() < self.entries {
            self.node.node.calls.push(function);
        } else {
            self.node.is_ambiguous = true;
        }
    }

    fn end_node(&mut self, is_in_function: bool) {
        let most_in_body = self.most_in_body();
        let Draft {
            name,
            mut node,
            is_constant,
            has_text,
            tensors,
            is_part,
            is_ambiguous,
            element,
            attribute: _,
        } = std::mem::take(&mut self.node);
        if is_constant && is_part && tensors == 1 {
            node.kind = Some(Kind::Part);
        }
        if has_text && node.kind == Some(Kind::Join) {
            node.kind = Some(Kind::Other);
        }
        if element == Element::Other && node.kind == Some(Kind::Write) {
            node.kind = Some(Kind::Other);
        }
        let (graph, most) = if is_in_function {
            for call in &node.calls {
                if self.body.calls.len() < self.entries {
                    self.body.calls.insert(*call);
                } else {
                    self.uses.fault = Some("a function calls too many others");
                }
            }
            (&mut self.body.graph, most_in_body)
        } else {
            (&mut self.uses.main, self.entries)
        };
        match name {
            Some(name) if !is_ambiguous => graph.add(name, &node, most),
            _ => {
                graph.add(Name::default(), &node, most);
                graph.fault = Some("a node has no name, two of them, or too many inputs");
            }
        }
    }

    fn end_function(&mut self) {
        let body = std::mem::take(&mut self.body);
        let function = Function {
            saver: SaverFunction::of(&body.graph, body.is_fixed),
            table: TableFunction::of(&body.graph, body.arguments, body.is_fixed),
            writes_texts: body.graph.writes_texts(),
            calls: body.calls,
        };
        let functions = &mut self.uses.functions;
        let calls = functions
            .len()
            .saturating_add(self.function_calls)
            .saturating_add(function.calls.len());
        if calls >= self.entries {
            self.uses.fault = Some("the model has too many functions");
            return;
        }
        self.function_calls = self.function_calls.saturating_add(function.calls.len());
        let other = body.name.map(|name| functions.insert(name, function));
        if !matches!(other, Some(None)) {
            self.uses.fault = Some("a function has no name, or two have one");
        }
    }

    fn most_in_body(&self) -> usize {
        self.entries.checked_div(BODY_SHARE).unwrap_or(0)
    }

    /// The node of a tensor, by its name.
    fn node_of(&self, tensor: &str) -> Name {
        let tensor = tensor.strip_prefix('^').unwrap_or(tensor);
        self.name(tensor.split(':').next().unwrap_or_default())
    }

    fn name(&self, name: &str) -> Name {
        self.state.hash_one(name)
    }
}
