//! TensorFlow's SavedModel and frozen graphs: programs of operators, a few of which read files,
//! write files or run Python.
//!
//! All graphs and the whole library of functions are walked, whatever calls them. Operators that
//! only compute are on a list; the others are refused.

use std::collections::BTreeSet;
use std::io;

use super::names::{is_plain_path, keep};
use super::protobuf::{self, Visitor};
use super::source::{Source, Stop, finish};
use super::{Input, Limits, Report, Verdict};

mod operators;
mod pure_operators;
mod schema;

use operators::{Effect, effect};
use schema::Message;

const RULE: &str = "saved-model-message";
/// The rule of operators with an effect outside the graph.
const OPERATOR: &str = "saved-model-operator";

/// Scans `saved_model.pb`, its text form `saved_model.pbtxt`, or a frozen graph.
///
/// # Errors
/// The input cannot be read.
pub fn scan(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("tensorflow saved model");
    let mut source = Source::new(input, "saved-model-truncated")?;
    let walked = walk(&mut source, limits, &mut report);
    finish(report, walked)
}

/// Whether an operator is known to act outside its graph. TensorFlow Lite can run it, too.
pub(super) fn acts_outside(operator: &str) -> bool {
    effect(operator) == Effect::Outside
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
        ..Model::default()
    };
    protobuf::walk(source, root, limits, RULE, &mut model, report)
}

/// Names the operators that are easy to see in the text form, which is not followed.
fn scan_text(source: &mut Source<'_>, limits: &Limits, report: &mut Report) -> Result<(), Stop> {
    let detail = "a SavedModel or a graph as text is not followed";
    report.add(Verdict::Unknown, 0, "saved-model-text", detail);
    source.seek(0);
    let bound = u64::try_from(limits.header_bytes).unwrap_or(u64::MAX);
    let bytes = usize::try_from(source.length().min(bound)).unwrap_or(0);
    let bytes = source.read_bytes(bytes)?;
    let mut names = BTreeSet::new();
    for text in bytes.split(|byte| matches!(byte, b'"' | b'\'')) {
        let name = str::from_utf8(text).ok();
        let name = name.filter(|name| acts_outside(name));
        if let Some(name) = name.filter(|name| !names.contains(name)) {
            names.insert(name);
            let detail = format!("the text names the operator {name}");
            report.add(Verdict::Executable, 0, OPERATOR, &detail);
        }
    }
    Ok(())
}

/// What is known of a model so far.
#[derive(Default)]
struct Model {
    /// The most names that are kept of each kind.
    entries: usize,
    /// Operators that are on no list of operators without effects.
    used: BTreeSet<String>,
    functions: BTreeSet<String>,
}

impl Visitor<Message> for Model {
    fn begin(&mut self, _: &[Message], _: &mut Report) -> Result<(), Stop> {
        Ok(())
    }

    fn number(&mut self, path: &[Message], field: u32, value: u64, at: u64) -> Result<(), Stop> {
        if matches!((path.last(), field), (Some(Message::SavedModel), 1)) && value != 1 {
            let detail = format!("version {value} of the format");
            return Err(Stop::unknown(at, RULE, detail));
        }
        Ok(())
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
            (Some(Message::Node), 2) => self.operator(text, at, report),
            (Some(Message::Signature), 1) => {
                keep(&mut self.functions, text, self.entries, at, RULE)
            }
            (Some(Message::Asset), 2) if !is_plain_path(&text) => {
                let detail = format!("the asset {text:?} may leave the folder");
                report.add(Verdict::Executable, at, "saved-model-asset", &detail);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn end(&mut self, path: &[Message], _: u64, report: &mut Report) -> Result<(), Stop> {
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
        let (verdict, what) = match effect(&name) {
            Effect::None => return Ok(()),
            // A function of the library may be called by its name. Only the end of the file tells.
            Effect::Unknown => return keep(&mut self.used, name, self.entries, at, RULE),
            Effect::Checkpoint => (Verdict::Unknown, "reads or writes checkpoints"),
            Effect::Outside => (Verdict::Executable, "acts outside the graph"),
        };
        report.add(
            verdict,
            at,
            OPERATOR,
            &format!("the operator {name} {what}"),
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::scan::protobuf::write::{bytes, number};
    use std::io::Cursor;

    fn verdict(file: &[u8]) -> Verdict {
        let mut file = Cursor::new(file.to_vec());
        scan(&mut file, &Limits::default()).unwrap().verdict
    }

    fn node(operator: &str) -> Vec<u8> {
        [bytes(1, "name"), bytes(2, operator)].concat()
    }

    fn model(graph: &[u8]) -> Vec<u8> {
        let meta_graph = [bytes(1, "info"), bytes(2, graph)].concat();
        [number(1, 1), bytes(2, meta_graph)].concat()
    }

    /// A library with one function of one operator.
    fn library(name: &str, operator: &str) -> Vec<u8> {
        let function = [bytes(1, bytes(1, name)), bytes(3, node(operator))].concat();
        bytes(2, bytes(1, function))
    }

    #[test]
    fn operators_decide() {
        for (operator, expected) in [
            ("MatMul", Verdict::Safe),
            ("ReadFile", Verdict::Executable),
            ("EagerPyFunc", Verdict::Executable),
            ("RestoreV2", Verdict::Unknown),
            ("SomethingNew", Verdict::Unknown),
        ] {
            let graph = bytes(1, node(operator));
            assert_eq!(verdict(&model(&graph)), expected, "{operator}");
            assert_eq!(verdict(&graph), expected, "{operator} in a frozen graph");
            assert_eq!(
                verdict(&model(&library("f", operator))),
                expected,
                "{operator} in f"
            );
        }
    }

    #[test]
    fn functions_of_the_library_may_be_called_by_name() {
        let call = bytes(1, node("__inference_f"));
        let graph = [&call[..], &library("__inference_f", "Add")].concat();
        assert_eq!(verdict(&model(&graph)), Verdict::Safe);
        assert_eq!(verdict(&model(&call)), Verdict::Unknown);
        // A function does not hide an operator with an effect.
        let graph = [bytes(1, node("ReadFile")), library("ReadFile", "Add")].concat();
        assert_eq!(verdict(&model(&graph)), Verdict::Executable);
    }

    #[test]
    fn assets_stay_in_their_folder() {
        for (name, expected) in [("vocab.txt", Verdict::Safe), ("../x", Verdict::Executable)] {
            let meta_graph = bytes(6, bytes(2, name));
            let file = [number(1, 1), bytes(2, meta_graph)].concat();
            assert_eq!(verdict(&file), expected, "{name}");
        }
    }

    #[test]
    fn other_forms_and_broken_files_are_not_safe() {
        let text = b"saved_model_schema_version: 1 meta_graphs { graph_def { node { op: ";
        assert_eq!(
            verdict(&[&text[..], b"\"Add\" } } }"].concat()),
            Verdict::Unknown
        );
        assert_eq!(
            verdict(&[&text[..], b"'PyFunc' } } }"].concat()),
            Verdict::Executable
        );
        assert_eq!(verdict(b""), Verdict::Malformed);
        assert_eq!(verdict(b"\xff"), Verdict::Malformed);
        assert_eq!(verdict(&number(1, 2)), Verdict::Unknown);
        assert_eq!(verdict(&bytes(2, "")), Verdict::Unknown);
        assert_eq!(
            verdict(&[model(b""), bytes(9, "")].concat()),
            Verdict::Malformed
        );
    }
}
