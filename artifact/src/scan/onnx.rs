//! ONNX models: graphs of operators, which a runtime may extend, and tensors, which may lie in
//! other files.
//!
//! The walk covers subgraphs in attributes, functions, sparse tensors and training information, so
//! that no tensor with external data is overlooked. Each tensor must have as much data as its
//! dimensions say, and constants must not ask for results beyond a bound.

use std::collections::BTreeSet;
use std::io;

use super::names::keep;
use super::protobuf::{self, Visitor};
use super::source::{Source, Stop, finish};
use super::tensor_ranges::RangesByFile;
use super::{Input, Limits, Report, Verdict};
use crate::scan::rules::{self, Rule};

mod contrib;
mod expansion;
mod external;
mod metadata;
mod schema;
mod tensor;

use contrib::BuiltIn;
use expansion::{ENDLESS, Expansions, check_sparse};
use external::{Entry, Files};
use schema::Message;
use tensor::Tensor;

const RULE: &Rule = rules::ONNX_MESSAGE;
/// Characters of a value that a finding shows.
const SHOWN_CHARS: usize = 100;

/// Domains whose operators only compute, by the specification.
const DOMAINS: [&str; 6] = [
    "",
    "ai.onnx",
    "ai.onnx.ml",
    "ai.onnx.preview",
    "ai.onnx.training",
    "ai.onnx.preview.training",
];

/// Scans an ONNX model. Files with its external data are the caller's to scan: the report lists
/// them if they are all that is not known.
///
/// # Errors
/// The input cannot be read.
pub fn scan(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("onnx");
    let mut model = Model::new(limits, None);
    let walked = model.follow(input, limits, &mut report);
    let mut report = finish(report, walked)?;
    model.files.report(&mut report);
    Ok(report)
}

/// Adds the bytes of the files beside the model in which its tensors lie. There are none if the
/// model cannot be followed to its end, breaks a rule or runs code, or if memory does not suffice.
///
/// # Errors
/// The model cannot be read.
pub(super) fn data_ranges(
    index: &mut dyn Input,
    empty: RangesByFile,
    limits: &Limits,
) -> io::Result<RangesByFile> {
    let mut report = Report::new("onnx");
    let mut model = Model::new(limits, Some(empty));
    let followed = model.follow(index, limits, &mut report);
    let mut ranges = model.ranges.unwrap_or_default();
    match followed {
        Err(Stop::Io(error)) => return Err(error),
        // An operator that is not known gets the tensors all the same.
        Ok(()) if report.verdict <= Verdict::Unknown => {}
        Ok(()) | Err(Stop::Found { .. }) => ranges.clear(),
    }
    Ok(ranges)
}

/// The names of an operator or a function: its domain, and its own.
type Operator = (String, String);

/// The bytes of a name.
const fn length(operator: &Operator) -> usize {
    operator.0.len().saturating_add(operator.1.len())
}

/// What is known of a model so far.
#[derive(Default)]
struct Model {
    /// How many bytes of names of operators and functions may still be kept.
    name_bytes_left: usize,
    /// The nodes and functions around the current value, the innermost last.
    open: Vec<Operator>,
    /// The current entry of external data or of the model's metadata.
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
    files: Files,
    /// Where the tensors in other files are, if that is wanted.
    ranges: Option<RangesByFile>,
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
            Some(Message::External | Message::Entry) => self.entry = Entry::default(),
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
            // Models of TensorFlow have graphs in the second of these fields. The tags of their
            // fields are such characters. The version of CatBoost has several lines.
            (Some(Message::Model), 2..=4)
                if text.contains(|c: char| c.is_control() && (c != '\n' || field != 3)) =>
            {
                let detail = "the producer's name, its version or the domain is no plain text";
                return Err(Stop::unknown(at, RULE, detail));
            }
            (Some(Message::Tensor), 8) => {
                self.tensor.name = text;
                return Ok(());
            }
            (Some(Message::Node), 1) => return self.expansions.input(text, at),
            (Some(Message::Node), 2) => return self.expansions.output(text, at),
            (Some(Message::External | Message::Entry), 1) => &mut self.entry.key,
            (Some(Message::External | Message::Entry), 2) => &mut self.entry.value,
            (Some(Message::Node), 7) | (Some(Message::Function), 10) => {
                return self.name_part(text, at, |operator| &mut operator.0);
            }
            (Some(Message::Node), 4) | (Some(Message::Function), 1) => {
                return self.name_part(text, at, |operator| &mut operator.1);
            }
            _ => return Ok(()),
        };
        // Readers take the last one, as here.
        if value.replace(text).is_some() && path.last() == Some(&Message::External) {
            let detail = "an entry of external data has two keys or two values";
            return Err(Stop::malformed(at, external::RULE, detail));
        }
        Ok(())
    }

    fn end(&mut self, path: &[Message], at: u64, report: &mut Report) -> Result<(), Stop> {
        match path.last() {
            Some(Message::Node) => {
                let operator = self.open.pop().unwrap_or_default();
                self.expansions.end_node(&operator.1, at)?;
                if !DOMAINS.contains(&operator.0.as_str()) {
                    self.other_operator(operator, at, report)?;
                }
            }
            Some(Message::Function) => {
                let function = self.open.pop().unwrap_or_default();
                let (bytes, left) = (length(&function), &mut self.name_bytes_left);
                keep(&mut self.functions, function, bytes, left, at, RULE)?;
            }
            Some(Message::Tensor) => self.tensor(path, at, report)?,
            Some(Message::SparseTensor) => check_sparse(self.sparse_elements, at, report),
            Some(Message::External) => {
                let entry = std::mem::take(&mut self.entry);
                let external = &mut self.tensor.external;
                external.add(entry, at, &mut self.files, report)?;
            }
            Some(Message::Entry) => self.metadata(path, at, report),
            Some(Message::Model) => self.finish(report)?,
            _ => {}
        }
        Ok(())
    }
}

impl Model {
    /// A model of which nothing is known yet. Where its tensors are is added to `ranges`.
    fn new(limits: &Limits, ranges: Option<RangesByFile>) -> Self {
        Self {
            name_bytes_left: limits.header_bytes,
            expansions: Expansions::new(limits.header_bytes.saturating_mul(2)),
            ranges,
            ..Self::default()
        }
    }

    /// Follows the whole model.
    fn follow(
        &mut self,
        input: &mut dyn Input,
        limits: &Limits,
        report: &mut Report,
    ) -> Result<(), Stop> {
        let mut source = Source::new(input, rules::ONNX_TRUNCATED)?;
        protobuf::walk(&mut source, Message::Model, limits, RULE, self, report)
    }

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
        if let Some(ranges) = &mut self.ranges
            && let Some((file, range)) = tensor.external_range()
            && !ranges.add(file, range)
        {
            let detail = "its tensors in other files take more memory than is allowed";
            return Err(Stop::unknown(at, external::RULE, detail));
        }
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

    /// Keeps an operator of another domain, unless it is built into ONNX Runtime.
    fn other_operator(
        &mut self,
        operator: Operator,
        at: u64,
        report: &mut Report,
    ) -> Result<(), Stop> {
        match BuiltIn::of(&operator) {
            BuiltIn::Computes => Ok(()),
            // Whatever function of the model has the same name.
            BuiltIn::Runs(what) => {
                let detail = format!("the operator {} runs {what}", operator.1);
                report.add(Verdict::Executable, at, rules::ONNX_OPERATOR, &detail);
                Ok(())
            }
            BuiltIn::No => {
                let (bytes, left) = (length(&operator), &mut self.name_bytes_left);
                keep(&mut self.used, operator, bytes, left, at, RULE)
            }
        }
    }

    /// Checks an entry of the model's own metadata.
    fn metadata(&mut self, path: &[Message], at: u64, report: &mut Report) {
        let entry = std::mem::take(&mut self.entry);
        let key = entry.key.unwrap_or_default();
        let value = entry.value.unwrap_or_default();
        let fault = metadata::fault(&key, &value);
        if let Some(verdict) = fault.filter(|_| matches!(path, [Message::Model, _])) {
            let value: String = value.chars().take(SHOWN_CHARS).collect();
            let detail =
                format!("common loaders evaluate {key:?}, and it is no literal: {value:?}");
            report.add(verdict, at, rules::ONNX_METADATA_CODE, &detail);
        }
    }

    /// Compares the operators of other domains with the functions of the model.
    fn finish(&self, report: &mut Report) -> Result<(), Stop> {
        self.expansions.check(report);
        for (domain, name) in self.used.difference(&self.functions) {
            let detail = format!("the operator {name} of the domain {domain:?} is native code");
            report.add(Verdict::Unknown, 0, rules::ONNX_CUSTOM_DOMAIN, &detail);
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
