//! OpenVINO's intermediate representation: a graph of layers in XML, and constants in the `.bin` of
//! the same name.
//!
//! A model is safe if each layer is one of OpenVINO itself and each constant has as many bytes as
//! its shape says. Layers of other opsets come from libraries that a server loads. The loader
//! checks edges, ports and the places of constants, and takes shapes as they are.

use std::collections::BTreeSet;
use std::io;

use super::names::is_file_name;
use super::rules::{self, Rule};
use super::source::{Source, Stop, finish};
use super::tensor_ranges::RangesByFile;
use super::xml::{Document, Element, Event};
use super::{Input, Limits, Report, Verdict};

mod constant;
#[cfg(test)]
mod tests;

const RULE: &Rule = rules::OPENVINO_IR;
/// The last opset of OpenVINO 2026.4.
const LAST_OPSET: u64 = 17;
/// The key of a model under which plugins find the file of its constants. The reader fills it in,
/// but one of the model itself stays.
const WEIGHTS_PATH: &str = "__weights_path";
/// Elements with what programs note about a model, a layer or a port.
const NOTES: [&str; 3] = ["meta_data", "quantization_parameters", "rt_info"];

/// Elements with the rest. The loader takes no other one, and passes over those in other places.
const ELEMENTS: [&str; 17] = [
    "back_edges",
    "body",
    "data",
    "dim",
    "edge",
    "edges",
    "else_body",
    "else_port_map",
    "input",
    "layer",
    "layers",
    "net",
    "output",
    "port",
    "port_map",
    "then_body",
    "then_port_map",
];

/// Whether a document begins as a model of OpenVINO. `head` is its first bytes.
pub(super) fn is_model(head: &[u8]) -> bool {
    head.windows(5).any(|tag| tag == b"<net ")
}

/// Scans a model. Its `.bin` file is the caller's to scan: the report lists it if it is all that is
/// not known. `name` is the name of the model without folders.
///
/// # Errors
/// The input cannot be read.
pub(super) fn scan(input: &mut dyn Input, name: &str, limits: &Limits) -> io::Result<Report> {
    let (mut report, model) = follow(input, None, limits)?;
    if let Some(at) = model.first_constant {
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let data_file = format!("{stem}.bin");
        let is_alone = report.verdict == Verdict::Safe && is_file_name(&data_file);
        let detail = format!("constants lie in {data_file:?}");
        report.add(Verdict::Unknown, at, rules::OPENVINO_DATA, &detail);
        if is_alone {
            report.data_files.push(data_file);
        }
    }
    Ok(report)
}

/// Adds the bytes of constants as those of a file without a name. There are none if the model is
/// not safe, or if memory does not suffice.
///
/// # Errors
/// The model cannot be read.
pub(super) fn data_ranges(
    index: &mut dyn Input,
    mut empty: RangesByFile,
    limits: &Limits,
) -> io::Result<RangesByFile> {
    // A model without constants has a file without bytes.
    empty.add("", 0..0);
    let (report, model) = follow(index, Some(empty), limits)?;
    let mut ranges = model.ranges.unwrap_or_default();
    if report.verdict != Verdict::Safe {
        ranges.clear();
    }
    Ok(ranges)
}

/// Follows a whole model. Where its constants are is added to `ranges`.
fn follow(
    input: &mut dyn Input,
    ranges: Option<RangesByFile>,
    limits: &Limits,
) -> io::Result<(Report, Model)> {
    let mut report = Report::new("openvino");
    let mut model = Model {
        max_layers: limits.entries,
        ranges,
        ..Model::default()
    };
    let walked = model.walk(input, &mut report);
    Ok((finish(report, walked)?, model))
}

/// What is known of a model so far.
#[derive(Default)]
struct Model {
    max_layers: usize,
    /// The numbers of layers, of each graph around the current element.
    graphs: Vec<BTreeSet<u64>>,
    /// The type of the last layer that has not ended.
    layer_type: String,
    layer_count: usize,
    /// Whether a layer of an extension was found.
    has_extension: bool,
    /// Where the first constant with bytes is.
    first_constant: Option<u64>,
    /// Where the constants are, if that is needed.
    ranges: Option<RangesByFile>,
}

impl Model {
    fn walk(&mut self, input: &mut dyn Input, report: &mut Report) -> Result<(), Stop> {
        let source = Source::new(input, rules::OPENVINO_TRUNCATED)?;
        let mut document = Document::new(source, RULE);
        while let Some(event) = document.event()? {
            let is_note = document
                .open
                .iter()
                .any(|name| NOTES.contains(&name.as_str()));
            match event {
                Event::Begin(element) if is_note && !self.graphs.is_empty() => {
                    note(&element, report)
                }
                Event::Begin(element) => {
                    let around = document.open.iter().rev().nth(1).map(String::as_str);
                    if element.name == "layer" && around != Some("layers") {
                        return Err(unknown(&element, "a layer that is not among layers"));
                    }
                    self.begin(&element, report)?;
                }
                Event::End(name) if is_graph(&name) && !is_note => drop(self.graphs.pop()),
                Event::End(name) if name == "layer" && !is_note => self.layer_type.clear(),
                Event::End(_) => {}
            }
        }
        Ok(())
    }

    fn begin(&mut self, element: &Element, report: &mut Report) -> Result<(), Stop> {
        let name = element.name.as_str();
        let is_first = self.graphs.is_empty();
        if !ELEMENTS.contains(&name) || is_first != (name == "net") {
            let detail = format!("the element {name}, which OpenVINO does not write here");
            return Err(unknown(element, detail));
        }
        match name {
            "net" if !matches!(element.get("version"), Some("10" | "11")) => {
                return Err(unknown(element, "a model of another version"));
            }
            "layers" if self.graphs.last().is_some_and(|layers| !layers.is_empty()) => {
                return Err(malformed(
                    element,
                    "layers twice, of which readers take one",
                ));
            }
            "layer" => self.layer(element, report)?,
            "data" => self.data(element)?,
            "edge" if element.get("from-port").is_some() => {
                for end in ["from-layer", "to-layer"] {
                    self.edge(element, end)?;
                }
            }
            _ if is_graph(name) => self.graphs.push(BTreeSet::new()),
            _ => {}
        }
        Ok(())
    }

    fn layer(&mut self, element: &Element, report: &mut Report) -> Result<(), Stop> {
        let id = number(element, "id")?;
        if !self
            .graphs
            .last_mut()
            .is_some_and(|layers| layers.insert(id))
        {
            let detail = format!("two layers have the number {id}");
            return Err(malformed(element, detail));
        }
        self.layer_count = self.layer_count.saturating_add(1);
        if self.layer_count > self.max_layers {
            let detail = format!("more than {} layers", self.max_layers);
            return Err(unknown(element, detail));
        }
        let kind = element.get("type").unwrap_or_default();
        if kind.eq_ignore_ascii_case("constant") {
            let detail = "a constant by another name than Const, which readers give no bytes";
            return Err(malformed(element, detail));
        }
        let version = element.get("version").unwrap_or_default();
        let opset = version.strip_prefix("opset").and_then(decimal);
        if !opset.is_some_and(|opset| (1..=LAST_OPSET).contains(&opset)) && !self.has_extension {
            self.has_extension = true;
            let detail = format!("the layer {kind:?} of {version:?} needs a library that has it");
            report.add(
                Verdict::Unknown,
                element.at,
                rules::OPENVINO_EXTENSION,
                &detail,
            );
        }
        kind.clone_into(&mut self.layer_type);
        Ok(())
    }

    /// Takes the attributes of a layer, which follow its first tag.
    fn data(&mut self, element: &Element) -> Result<(), Stop> {
        if self.layer_type != "Const" {
            // An attribute of either name alone is a number of many operators.
            if element.get("offset").and(element.get("size")).is_some() {
                let detail = "a layer that is no constant has bytes in the .bin file";
                return Err(unknown(element, detail));
            }
            return Ok(());
        }
        let range = constant::range(element)?;
        if !range.is_empty() {
            self.first_constant.get_or_insert(element.at);
        }
        if let Some(ranges) = &mut self.ranges
            && !ranges.add("", range)
        {
            let detail = "its constants take more memory than is allowed";
            return Err(unknown(element, detail));
        }
        Ok(())
    }

    /// An end of an edge is a layer. OpenVINO writes edges behind the layers.
    fn edge(&self, element: &Element, end: &str) -> Result<(), Stop> {
        let id = number(element, end)?;
        if self
            .graphs
            .last()
            .is_some_and(|layers| layers.contains(&id))
        {
            return Ok(());
        }
        let detail = format!("an edge of the layer {id}, which is not there");
        Err(malformed(element, detail))
    }
}

/// Whether an element is a model, or a body of a loop or a condition.
fn is_graph(name: &str) -> bool {
    matches!(name, "body" | "else_body" | "net" | "then_body")
}

/// Looks at an element of what programs note about a model.
fn note(element: &Element, report: &mut Report) {
    if element.name == WEIGHTS_PATH || element.get("name") == Some(WEIGHTS_PATH) {
        let path = element.get("value").unwrap_or_default();
        let detail = format!("the runtime reads constants from {path:?}");
        report.add(
            Verdict::Executable,
            element.at,
            rules::OPENVINO_PATH,
            &detail,
        );
    }
}

/// An attribute that is a number.
fn number(element: &Element, name: &str) -> Result<u64, Stop> {
    let value = element.get(name).unwrap_or_default();
    decimal(value).ok_or_else(|| malformed(element, format!("the {name} is {value:?}")))
}

fn malformed(element: &Element, detail: impl Into<String>) -> Stop {
    Stop::malformed(element.at, RULE, detail)
}

fn unknown(element: &Element, detail: impl Into<String>) -> Stop {
    Stop::unknown(element.at, RULE, detail)
}

/// A number of 63 bits as all programs write it.
fn decimal(text: &str) -> Option<u64> {
    let number = u64::try_from(text.parse::<i64>().ok()?).ok()?;
    (number.to_string() == text).then_some(number)
}
