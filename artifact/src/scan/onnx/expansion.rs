//! Constants that ask a runtime for results of any size.
//!
//! Runtimes compute what is constant while they load a model, so a small file could take all their
//! memory. Sizes that are constants are compared with a bound. Sizes that a model computes are not
//! followed, because most depend on its inputs.

use std::collections::BTreeMap;

use crate::scan::names::NAME_OVERHEAD_BYTES;
use crate::scan::rules::{self, Rule};
use crate::scan::source::Stop;
use crate::scan::{Report, Verdict};

const RULE: &Rule = rules::ONNX_EXPANSION;
/// Elements of a result: as many as a file of protocol buffers has bytes.
const MAX_ELEMENTS: f64 = 2_147_483_648.0;
/// Inputs of a node that can be sizes.
const MAX_INPUTS: usize = 4;
/// Values of a constant that are looked at.
const MAX_VALUES: usize = 64;
/// The longest name of a value, bytes.
const MAX_NAME_BYTES: usize = 4_096;

/// Operators whose result grows with the product of the values of an input, by its index. The
/// regions of Resize, which older releases do not have, are at most 1.
const SIZES: [(&str, &[usize]); 15] = [
    ("AffineGrid", &[1]),
    ("BlackmanWindow", &[0]),
    ("CenterCropPad", &[1]),
    ("Col2Im", &[1]),
    ("ConstantOfShape", &[0]),
    ("DFT", &[1]),
    ("Expand", &[1]),
    ("HammingWindow", &[0]),
    ("HannWindow", &[0]),
    ("MaxUnpool", &[2]),
    ("MelWeightMatrix", &[0, 1]),
    ("OneHot", &[1]),
    ("Resize", &[1, 2, 3]),
    ("Tile", &[1]),
    ("Upsample", &[1]),
];
/// An operator with a start, a limit and a step.
const RANGE: (&str, &[usize]) = ("Range", &[0, 1, 2]);
/// An operator with what is added before and behind each axis: first all that is before.
const PAD: (&str, &[usize]) = ("Pad", &[1]);
/// Stands for the numbers of a sparse tensor, which are not followed.
pub(super) const ENDLESS: [f64; 2] = [f64::INFINITY; 2];

/// The values of constants with one name, which different graphs can have.
struct Constant {
    /// The greatest product of all values.
    product: f64,
    /// The greatest number of elements of one element that has them as padding.
    padded: f64,
    /// The least and the greatest first value.
    first: (f64, f64),
    /// The first value that is closest to zero, without its sign.
    step: f64,
}

impl Constant {
    fn join(&mut self, other: &Self) {
        self.product = self.product.max(other.product);
        self.padded = self.padded.max(other.padded);
        self.first.0 = self.first.0.min(other.first.0);
        self.first.1 = self.first.1.max(other.first.1);
        self.step = self.step.min(other.step);
    }
}

/// A node, as far as it can ask for a size or be a constant.
#[derive(Default)]
struct Node {
    inputs: Vec<String>,
    output: Option<String>,
    /// Values in its attributes.
    values: Vec<f64>,
}

/// An operator that asks for a size.
struct Expansion {
    operator: (&'static str, &'static [usize]),
    inputs: Vec<String>,
    at: u64,
}

/// The constants of a model, and the operators that can take them as sizes.
#[derive(Default)]
pub(super) struct Expansions {
    /// The nodes around the current value, the innermost last.
    open: Vec<Node>,
    constants: BTreeMap<String, Constant>,
    expansions: Vec<Expansion>,
    /// How many bytes of names may still be kept.
    bytes_left: usize,
}

impl Expansions {
    /// Nothing is known; names of up to `bytes` are kept.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            bytes_left: bytes,
            ..Self::default()
        }
    }

    pub(super) fn begin_node(&mut self) {
        self.open.push(Node::default());
    }

    /// An input of the innermost node.
    pub(super) fn input(&mut self, name: String, at: u64) -> Result<(), Stop> {
        check_name(&name, at)?;
        if let Some(node) = self.open.last_mut()
            && node.inputs.len() < MAX_INPUTS
        {
            node.inputs.push(name);
        }
        Ok(())
    }

    /// An output of the innermost node, of which the first counts.
    pub(super) fn output(&mut self, name: String, at: u64) -> Result<(), Stop> {
        check_name(&name, at)?;
        if let Some(node) = self.open.last_mut() {
            node.output.get_or_insert(name);
        }
        Ok(())
    }

    /// Values in an attribute of the innermost node.
    pub(super) fn attribute(&mut self, values: &[f64]) {
        if let Some(node) = self.open.last_mut() {
            let room = MAX_VALUES.saturating_sub(node.values.len());
            node.values.extend(values.iter().take(room));
        }
    }

    /// The innermost node ends.
    pub(super) fn end_node(&mut self, operator: &str, at: u64) -> Result<(), Stop> {
        let node = self.open.pop().unwrap_or_default();
        if operator == "Constant" {
            return match node.output {
                Some(output) => self.constant(output, &node.values, at),
                None => Ok(()),
            };
        }
        let mut known = SIZES.into_iter().chain([RANGE, PAD]);
        if let Some(operator) = known.find(|(name, _)| *name == operator) {
            let bytes = node.inputs.iter().map(String::len).sum();
            self.take(bytes, at)?;
            self.expansions.push(Expansion {
                operator,
                inputs: node.inputs,
                at,
            });
        }
        Ok(())
    }

    /// A constant of this name.
    pub(super) fn constant(&mut self, name: String, values: &[f64], at: u64) -> Result<(), Stop> {
        let Some(first) = values.first().copied() else {
            return Ok(());
        };
        check_name(&name, at)?;
        self.take(name.len(), at)?;
        let constant = Constant {
            product: values.iter().product(),
            padded: padded(values),
            first: (first, first),
            step: first.abs(),
        };
        match self.constants.get_mut(&name) {
            Some(known) => known.join(&constant),
            None => {
                self.constants.insert(name, constant);
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: usize, at: u64) -> Result<(), Stop> {
        let bytes = bytes.saturating_add(NAME_OVERHEAD_BYTES);
        let Some(left) = self.bytes_left.checked_sub(bytes) else {
            let detail = "more names of constants than this scan keeps";
            return Err(Stop::unknown(at, RULE, detail));
        };
        self.bytes_left = left;
        Ok(())
    }

    /// Adds the operators that ask for more than the bound.
    pub(super) fn check(&self, report: &mut Report) {
        for expansion in &self.expansions {
            let elements = self.elements(expansion);
            if elements > MAX_ELEMENTS {
                let (operator, _) = expansion.operator;
                let detail =
                    format!("{operator} makes {elements:e} elements or more of a constant");
                report.add(Verdict::Unknown, expansion.at, RULE, &detail);
            }
        }
    }

    /// How many elements an operator makes, as far as its constants tell.
    fn elements(&self, expansion: &Expansion) -> f64 {
        let (operator, indices) = expansion.operator;
        let constant = |index: usize| {
            let name = expansion
                .inputs
                .get(index)
                .filter(|name| !name.is_empty())?;
            self.constants.get(name)
        };
        if operator != RANGE.0 {
            let constants = indices.iter().filter_map(|index| constant(*index));
            if operator == PAD.0 {
                return constants.map(|it| it.padded).fold(0.0, f64::max);
            }
            return constants.map(|it| it.product).fold(0.0, f64::max);
        }
        let (Some(start), Some(limit), Some(step)) = (constant(0), constant(1), constant(2)) else {
            return 0.0;
        };
        let mut bounds = [start, limit, step].into_iter();
        if bounds.any(|it| it.first.1.is_infinite()) {
            return f64::INFINITY;
        }
        let length = (limit.first.1 - start.first.0).max(start.first.1 - limit.first.0);
        length / step.step
    }
}

/// Adds a sparse tensor of so many elements, all of which runtimes write.
pub(super) fn check_sparse(elements: f64, at: u64, report: &mut Report) {
    if elements > MAX_ELEMENTS {
        let detail = format!("a sparse tensor has {elements:e} elements");
        report.add(Verdict::Unknown, at, RULE, &detail);
    }
}

/// Elements of a tensor with one element, after this is added before and behind each axis.
fn padded(values: &[f64]) -> f64 {
    let (before, behind) = values.split_at(values.len() / 2);
    let axes = before.iter().zip(behind);
    axes.map(|(before, behind)| (1.0 + before + behind).max(1.0))
        .product()
}

fn check_name(name: &str, at: u64) -> Result<(), Stop> {
    if name.len() > MAX_NAME_BYTES {
        let detail = format!("the name of a value has {} bytes", name.len());
        return Err(Stop::unknown(at, RULE, detail));
    }
    Ok(())
}
