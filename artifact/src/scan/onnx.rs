//! ONNX models: graphs of operators, which a runtime may extend, and tensors, which may lie in
//! other files.
//!
//! The walk covers subgraphs in attributes, functions, sparse tensors and training information, so
//! that no tensor with external data is overlooked. Each tensor must have as much data as its
//! dimensions say, and constants must not ask for results beyond a bound.

use std::collections::BTreeSet;
use std::io;

use super::names::{is_plain_path, keep};
use super::protobuf::{self, Visitor};
use super::source::{Source, Stop, finish};
use super::{Input, Limits, Report, Verdict};

mod expansion;
mod schema;
mod tensor;

use expansion::{ENDLESS, Expansions, check_sparse};
use schema::Message;
use tensor::Tensor;

const RULE: &str = "onnx-message";
const EXTERNAL_DATA: &str = "onnx-external-data";

/// Domains whose operators only compute, by the specification.
const DOMAINS: [&str; 6] = [
    "",
    "ai.onnx",
    "ai.onnx.ml",
    "ai.onnx.preview",
    "ai.onnx.training",
    "ai.onnx.preview.training",
];

/// Scans an ONNX model. Files with its external data are the caller's to scan.
///
/// # Errors
/// The input cannot be read.
pub fn scan(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("onnx");
    let mut source = Source::new(input, "onnx-truncated")?;
    let mut model = Model {
        entries: limits.entries,
        expansions: Expansions::new(limits.header_bytes.saturating_mul(4)),
        ..Model::default()
    };
    let root = Message::Model;
    let walked = protobuf::walk(&mut source, root, limits, RULE, &mut model, &mut report);
    finish(report, walked)
}

/// The names of an operator or a function: its domain, and its own.
type Operator = (String, String);

/// A key and a value of external data.
#[derive(Default)]
struct Entry {
    key: Option<String>,
    value: Option<String>,
}

/// What is known of a model so far.
#[derive(Default)]
struct Model {
    /// The most names that are kept of each kind.
    entries: usize,
    /// The nodes and functions around the current value, the innermost last.
    open: Vec<Operator>,
    entry: Entry,
    /// The current tensor.
    tensor: Tensor,
    /// Elements of the current sparse tensor.
    sparse_elements: f64,
    expansions: Expansions,
    has_graph: bool,
    /// Operators of other domains.
    used: BTreeSet<Operator>,
    functions: BTreeSet<Operator>,
    files: BTreeSet<String>,
}

impl Visitor<Message> for Model {
    fn begin(&mut self, path: &[Message], _: &mut Report) -> Result<(), Stop> {
        match path.last() {
            Some(Message::Node) => {
                self.open.push(Operator::default());
                self.expansions.begin_node();
            }
            Some(Message::Function) => self.open.push(Operator::default()),
            Some(Message::Tensor) => self.tensor = Tensor::default(),
            Some(Message::SparseTensor) => self.sparse_elements = 1.0,
            Some(Message::External) => self.entry = Entry::default(),
            Some(Message::Graph) => self.has_graph = true,
            _ => {}
        }
        Ok(())
    }

    fn number(&mut self, path: &[Message], field: u32, value: u64, at: u64) -> Result<(), Stop> {
        if let (Some(Message::Tensor), 14, 2..) = (path.last(), field, value) {
            let detail = format!("a tensor lies in the unknown location {value}");
            return Err(Stop::malformed(at, RULE, detail));
        }
        match path.last() {
            Some(Message::Tensor) => self.tensor.number(field, value, at),
            Some(Message::SparseTensor) => {
                self.sparse_elements *= value as f64;
                Ok(())
            }
            Some(Message::Attribute) if matches!(field, 3 | 8) => {
                self.expansions.attribute(&[value.cast_signed() as f64]);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn data(&mut self, path: &[Message], field: u32, bytes: u64, head: &[u8]) {
        match path.last() {
            Some(Message::Tensor) => self.tensor.data(field, bytes, head),
            // A float, or several of them.
            Some(Message::Attribute) if matches!(field, 2 | 7) => {
                let floats = head.as_chunks::<4>().0.iter();
                let values = floats.map(|it| f64::from(f32::from_le_bytes(*it)));
                self.expansions.attribute(&values.collect::<Vec<_>>());
            }
            _ => {}
        }
    }

    fn text(
        &mut self,
        path: &[Message],
        field: u32,
        text: String,
        at: u64,
        _: &mut Report,
    ) -> Result<(), Stop> {
        let value = match (path.last(), field) {
            (Some(Message::Tensor), 8) => {
                self.tensor.name = text;
                return Ok(());
            }
            (Some(Message::Node), 1) => return self.expansions.input(text, at),
            (Some(Message::Node), 2) => return self.expansions.output(text, at),
            (Some(Message::External), 1) => &mut self.entry.key,
            (Some(Message::External), 2) => &mut self.entry.value,
            (Some(Message::Node), 7) | (Some(Message::Function), 10) => {
                return self.name_part(text, at, |operator| &mut operator.0);
            }
            (Some(Message::Node), 4) | (Some(Message::Function), 1) => {
                return self.name_part(text, at, |operator| &mut operator.1);
            }
            _ => return Ok(()),
        };
        // Readers take the last one.
        if value.replace(text).is_some() {
            let detail = "an entry of external data has two keys or two values";
            return Err(Stop::malformed(at, EXTERNAL_DATA, detail));
        }
        Ok(())
    }

    fn end(&mut self, path: &[Message], at: u64, report: &mut Report) -> Result<(), Stop> {
        match path.last() {
            Some(Message::Node) => {
                let operator = self.open.pop().unwrap_or_default();
                self.expansions.end_node(&operator.1, at)?;
                if !DOMAINS.contains(&operator.0.as_str()) {
                    keep(&mut self.used, operator, self.entries, at, RULE)?;
                }
            }
            Some(Message::Function) => {
                let function = self.open.pop().unwrap_or_default();
                keep(&mut self.functions, function, self.entries, at, RULE)?;
            }
            Some(Message::Tensor) => self.tensor(path, at, report)?,
            Some(Message::SparseTensor) => check_sparse(self.sparse_elements, at, report),
            Some(Message::External) => self.external(at, report)?,
            Some(Message::Model) => self.finish(report)?,
            _ => {}
        }
        Ok(())
    }
}

impl Model {
    /// Sets a part of the name of the innermost node or function.
    fn name_part(
        &mut self,
        text: String,
        at: u64,
        part: fn(&mut Operator) -> &mut String,
    ) -> Result<(), Stop> {
        let Some(part) = self.open.last_mut().map(part) else {
            return Ok(());
        };
        // Readers take the last one.
        if !part.is_empty() {
            return Err(Stop::malformed(
                at,
                RULE,
                "an operator has two names or two domains",
            ));
        }
        *part = text;
        Ok(())
    }

    /// Checks a tensor, and keeps it if it is a small constant.
    fn tensor(&mut self, path: &[Message], at: u64, report: &mut Report) -> Result<(), Stop> {
        let tensor = std::mem::take(&mut self.tensor);
        tensor.check(at, report)?;
        let Some(values) = tensor.values() else {
            return Ok(());
        };
        match path {
            [.., Message::Graph, _] => self.expansions.constant(tensor.name, &values, at),
            [.., Message::Graph, Message::SparseTensor, _] => {
                self.expansions.constant(tensor.name, &ENDLESS, at)
            }
            [.., Message::Attribute, Message::SparseTensor, _] => {
                self.expansions.attribute(&ENDLESS);
                Ok(())
            }
            [.., Message::Node, Message::Attribute, _] => {
                self.expansions.attribute(&values);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Checks an entry that says where the bytes of a tensor are.
    fn external(&mut self, at: u64, report: &mut Report) -> Result<(), Stop> {
        let entry = std::mem::take(&mut self.entry);
        let key = entry.key.unwrap_or_default();
        let value = entry.value.unwrap_or_default();
        match key.as_str() {
            "location" => {
                if !is_plain_path(&value) {
                    let detail = format!("a tensor lies in {value:?}, which may leave the folder");
                    report.add(Verdict::Executable, at, "onnx-external-path", &detail);
                } else if !self.files.contains(&value) {
                    let detail = format!("tensors lie in {value:?}");
                    report.add(Verdict::Unknown, at, EXTERNAL_DATA, &detail);
                    keep(&mut self.files, value, self.entries, at, RULE)?;
                }
            }
            "offset" | "length" => {
                if value.parse::<i64>().is_err() || value.starts_with(['-', '+']) {
                    let detail = format!("the {key} {value:?} of external data");
                    return Err(Stop::malformed(at, EXTERNAL_DATA, detail));
                }
            }
            "checksum" => {}
            _ => {
                let detail = format!("external data has the unknown key {key:?}");
                report.add(Verdict::Unknown, at, EXTERNAL_DATA, &detail);
            }
        }
        Ok(())
    }

    /// Compares the operators of other domains with the functions of the model.
    fn finish(&self, report: &mut Report) -> Result<(), Stop> {
        self.expansions.check(report);
        for (domain, name) in self.used.difference(&self.functions) {
            let detail = format!("the operator {name} of the domain {domain:?} is native code");
            report.add(Verdict::Unknown, 0, "onnx-custom-domain", &detail);
        }
        if self.has_graph {
            Ok(())
        } else {
            Err(Stop::malformed(0, RULE, "a model without a graph"))
        }
    }
}

#[cfg(test)]
mod tests;
