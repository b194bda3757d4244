//! The indexes of a data file: each says which bytes of the file are which tensor.

use std::io;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{ONNX_DATA, OPENVINO_DATA};
use crate::scan::tensor_bundle::{self, BundleTensors};
use crate::scan::tensor_ranges::RangesByFile;
use crate::scan::{Input, Limits, onnx, openvino};

/// The ending of models that can be an index, in any case of letters.
const ONNX_ENDING: &str = ".onnx";

/// What an index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexKind {
    /// An ONNX model with external data.
    Onnx,
    /// A model of OpenVINO.
    Openvino,
    /// The table of a bundle of TensorFlow's tensors.
    TensorBundle,
}

impl IndexKind {
    /// What the file `index` can be to the file `data` beside it, by their names.
    pub fn of(index: &str, data: &str) -> Option<Self> {
        if index == data {
            return None;
        }
        let ending = index.get(index.len().saturating_sub(ONNX_ENDING.len())..);
        if ending.is_some_and(|ending| ending.eq_ignore_ascii_case(ONNX_ENDING)) {
            return Some(Self::Onnx);
        }
        if let Some(stem) = index.strip_suffix(".xml") {
            let is_its = data.strip_suffix(".bin") == Some(stem);
            return is_its.then_some(Self::Openvino);
        }
        let (bundle, _) = data.rsplit_once(".data-")?;
        (index.strip_suffix(".index") == Some(bundle)).then_some(Self::TensorBundle)
    }

    /// The format of a file whose tensors an index of this kind has.
    pub(super) const fn data_format(self) -> &'static str {
        match self {
            Self::Onnx => ONNX_DATA,
            Self::Openvino => OPENVINO_DATA,
            Self::TensorBundle => "tensor bundle",
        }
    }

    /// The tensors of an index, in one data file or in all. They take more than `max_bytes` if
    /// some were left out.
    fn read(
        self,
        index: &mut dyn Input,
        only: Option<&str>,
        max_bytes: usize,
        limits: &Limits,
    ) -> io::Result<Tensors> {
        Ok(match self {
            Self::Onnx => {
                let empty = RangesByFile::new(only, limits.entries, max_bytes);
                Tensors::Onnx(onnx::data_ranges(index, empty, limits)?)
            }
            Self::Openvino => {
                let empty = RangesByFile::new(None, limits.entries, max_bytes);
                Tensors::Openvino(openvino::data_ranges(index, empty, limits)?)
            }
            Self::TensorBundle => Tensors::Bundle(tensor_bundle::tensors(index, limits)?),
        })
    }
}

/// The tensors of an index.
#[derive(Debug)]
enum Tensors {
    Onnx(RangesByFile),
    /// The constants of the one file that belongs to a model.
    Openvino(RangesByFile),
    /// `None` if the index is not safe to follow.
    Bundle(Option<BundleTensors>),
}

impl Tensors {
    /// The bytes that they take in memory.
    fn bytes(&self) -> usize {
        match self {
            Self::Onnx(ranges) | Self::Openvino(ranges) => ranges.bytes(),
            Self::Bundle(tensors) => tensors.as_ref().map_or(0, BundleTensors::bytes),
        }
    }

    /// The bytes of the tensors in a data file, in any order. `None` if the index does not name the
    /// file, or is not safe to follow.
    fn in_file(&self, data_name: &str) -> Option<Vec<Range<u64>>> {
        match self {
            Self::Onnx(ranges) => ranges.in_file(data_name),
            Self::Openvino(ranges) => ranges.in_file(""),
            Self::Bundle(tensors) => tensors.as_ref()?.in_file(data_name),
        }
    }
}

/// An index of data files. It is read once for all of them, as long as its tensors fit into a
/// bound. Else it is read for each of them.
#[derive(Debug)]
pub struct DataIndex<I> {
    kind: IndexKind,
    /// The open index. `None` between two data files.
    input: Option<I>,
    /// The most memory for its tensors, bytes.
    max_bytes: usize,
    kept: Kept,
}

/// What is kept of an index.
#[derive(Debug)]
enum Kept {
    /// Nothing yet.
    Unread,
    /// Nothing, because its tensors take more than the bound.
    TooLarge,
    /// Its tensors.
    Tensors(Tensors),
}

impl<I: Input> DataIndex<I> {
    /// An open index. Nothing is kept of it before [`Self::set_max_bytes`].
    pub fn new(kind: IndexKind, input: I) -> Self {
        Self {
            kind,
            input: Some(input),
            max_bytes: 0,
            kept: Kept::Unread,
        }
    }

    /// Opens it again, with the same content, or closes it. What is kept of it stays.
    pub fn set_input(&mut self, input: Option<I>) {
        self.input = input;
    }

    /// Sets the most memory for its tensors, bytes. It counts when the index is read.
    pub fn set_max_bytes(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes;
    }

    /// What it is.
    pub const fn kind(&self) -> IndexKind {
        self.kind
    }

    /// The memory that its tensors take, bytes. `None` if it was not read to keep them.
    pub fn kept_bytes(&self) -> Option<usize> {
        match &self.kept {
            Kept::Unread => None,
            Kept::TooLarge => Some(0),
            Kept::Tensors(tensors) => Some(tensors.bytes()),
        }
    }

    /// The bytes of the tensors in the data file of this name, in any order. `None` if the index
    /// does not name the file, or is not safe to follow.
    pub(super) fn ranges(
        &mut self,
        data_name: &str,
        limits: &Limits,
    ) -> io::Result<Option<Vec<Range<u64>>>> {
        let Some(input) = &mut self.input else {
            return Err(io::Error::other("an index that is not open"));
        };
        let most = self.max_bytes;
        if matches!(self.kept, Kept::Unread) && most > 0 {
            let tensors = self.kind.read(input, None, most, limits)?;
            self.kept = if tensors.bytes() <= most {
                Kept::Tensors(tensors)
            } else {
                Kept::TooLarge
            };
        }
        if let Kept::Tensors(tensors) = &self.kept {
            return Ok(tensors.in_file(data_name));
        }
        let tensors = self.kind.read(input, Some(data_name), usize::MAX, limits)?;
        Ok(tensors.in_file(data_name))
    }
}
