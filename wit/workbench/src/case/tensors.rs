//! Tensors of a case: with their elements in the JSON form of OIP, from a file beside the case, or,
//! if they are expected, with a summary of their elements.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use tensorgate_policy::decision::BodyFormat;
use tensorgate_policy::{Datatype, Tensor};

use super::files::{beside, content};
use super::{npy, npz};
use crate::compare::{ExpectedTensor, Summary};
use crate::owned_tensor::owned;

/// Key of a tensor whose elements are in a file.
pub const FILE_KEY: &str = "file";
/// Key of a tensor that has a summary.
const SUMMARY_KEY: &str = "summary";

/// A tensor whose elements are in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawFileTensor {
    name: String,
    /// Name of the file, relative to the case.
    pub file: String,
    /// Name of the array in a `.npz` file; the tensor's by default.
    array: Option<String>,
    /// `UINT8` or `BYTES` for a file that is no array; `BF16` for an array of `uint16`.
    pub datatype: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSummaryTensor {
    name: String,
    datatype: Option<String>,
    summary: RawSummary,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSummary {
    shape: Vec<i64>,
    mean: Option<f64>,
    hash: Option<String>,
}

/// Kinds of files, by the end of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// One array of numpy's.
    Npy,
    /// Several arrays of numpy's.
    Npz,
    /// Bytes as they are: a picture, a text, JSON.
    Bytes,
}

impl FileKind {
    /// The kind of a file with this name.
    pub fn of(name: &str) -> Self {
        match Path::new(name)
            .extension()
            .and_then(|extension| extension.to_str())
        {
            Some("npy") => Self::Npy,
            Some("npz") => Self::Npz,
            _ => Self::Bytes,
        }
    }
}

/// Reads the tensors of a case, and notes the files that they come from.
pub struct Reader<'c> {
    /// The case's file.
    pub case: &'c Path,
    /// Files that were read.
    pub files: &'c mut BTreeSet<PathBuf>,
}

impl Reader<'_> {
    /// Input tensors. `field` is the name of the list in the case.
    ///
    /// # Errors
    /// The first invalid tensor, with its field.
    pub fn inputs(
        &mut self,
        field: &str,
        values: &[Value],
    ) -> Result<Vec<Tensor<'static>>, String> {
        let read = |(index, value): (usize, &Value)| {
            self.elements(value)
                .map_err(|fault| format!("{field}[{index}]{fault}"))
        };
        values.iter().enumerate().map(read).collect()
    }

    /// Expected tensors. `field` is the name of the list in the case.
    ///
    /// # Errors
    /// The first invalid tensor, with its field.
    pub fn expected(
        &mut self,
        field: &str,
        values: &[Value],
    ) -> Result<Vec<ExpectedTensor>, String> {
        let mut read = |value: &Value| {
            if value.get(SUMMARY_KEY).is_some() {
                summary(value).map(ExpectedTensor::Summary)
            } else {
                self.elements(value).map(ExpectedTensor::Elements)
            }
        };
        let read = |(index, value): (usize, &Value)| {
            read(value).map_err(|fault| format!("{field}[{index}]{fault}"))
        };
        values.iter().enumerate().map(read).collect()
    }

    /// A tensor with its elements. The fault begins with what follows the tensor's field.
    fn elements(&mut self, value: &Value) -> Result<Tensor<'static>, String> {
        if value.get(FILE_KEY).is_none() {
            return inline(value).map_err(|fault| format!(": {fault}"));
        }
        let raw = RawFileTensor::deserialize(value).map_err(|fault| format!(": {fault}"))?;
        self.read_file(&raw)
            .map_err(|fault| format!(".file: {}: {fault}", raw.file))
    }

    fn read_file(&mut self, raw: &RawFileTensor) -> Result<Tensor<'static>, String> {
        let path = beside(self.case, &raw.file)?;
        let bytes = content(&path)?;
        self.files.insert(path);
        let kind = FileKind::of(&raw.file);
        let wanted = raw.datatype.as_deref();
        if raw.array.is_some() && kind != FileKind::Npz {
            return Err("`array` names an array of a .npz file".to_owned());
        }
        let tensor = match kind {
            FileKind::Npy => npy::tensor(&raw.name, &bytes)?,
            FileKind::Npz => {
                let array = raw.array.as_ref().unwrap_or(&raw.name);
                npy::tensor(&raw.name, &npz::array(&bytes, array)?)?
            }
            FileKind::Bytes => return bytes_tensor(&raw.name, wanted, bytes),
        };
        let found = tensor.datatype.clone();
        match (wanted, &*found) {
            (None, _) => Ok(tensor),
            (Some(wanted), found) if wanted == found => Ok(tensor),
            (Some("BF16"), "UINT16") => Ok(Tensor {
                datatype: Cow::Borrowed(Datatype::Bf16.name()),
                ..tensor
            }),
            (Some(wanted), found) => Err(format!("the array is {found}, not {wanted}")),
        }
    }
}

/// A file as one tensor: each byte an element, or the content as one item.
fn bytes_tensor(
    name: &str,
    datatype: Option<&str>,
    bytes: Vec<u8>,
) -> Result<Tensor<'static>, String> {
    let (datatype, dim, data) = match datatype.and_then(Datatype::from_name) {
        Some(Datatype::Uint8) => {
            let dim = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
            (Datatype::Uint8, dim, bytes)
        }
        Some(Datatype::Bytes) => {
            let mut blob = Vec::new();
            npy::push_item(&mut blob, &bytes);
            (Datatype::Bytes, 1, blob)
        }
        _ => return Err("a file that is no array needs `datatype`: UINT8 or BYTES".to_owned()),
    };
    Ok(Tensor {
        name: Cow::Owned(name.to_owned()),
        datatype: Cow::Borrowed(datatype.name()),
        shape: vec![dim],
        parameters: Vec::new(),
        data: Ok(data.into()),
    })
}

fn summary(value: &Value) -> Result<Summary, String> {
    let raw = RawSummaryTensor::deserialize(value).map_err(|fault| format!(": {fault}"))?;
    let datatype = match &raw.datatype {
        Some(name) => {
            Some(Datatype::from_name(name).ok_or_else(|| format!(": unknown datatype {name:?}"))?)
        }
        None => None,
    };
    let RawSummary { shape, mean, hash } = raw.summary;
    Ok(Summary {
        name: raw.name,
        datatype,
        shape,
        mean,
        hash,
    })
}

/// A tensor in the JSON form of OIP, decoded by the code that decodes clients' requests. It must
/// have as many elements as its shape requires.
fn inline(value: &Value) -> Result<Tensor<'static>, String> {
    let body = json!({"inputs": [value]}).to_string();
    let decoded = tensorgate_wire::decode(BodyFormat::OipJson, body.as_bytes(), &[]);
    let request = decoded
        .map_err(|denial| format!("tensors must have the JSON form of OIP: {}", denial.cause))?;
    let tensor = request.inputs.into_iter().next();
    owned(tensor.ok_or("no tensor")?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use tensorgate_client::run::Scratch;

    use super::*;

    #[test]
    fn a_tensor_has_the_elements_of_its_shape() {
        for (tensor, expected) in [
            (
                json!({"name": "a", "datatype": "FP32", "shape": [2], "data": [1, 2.5]}),
                Ok(8),
            ),
            (
                json!({"name": "a", "datatype": "BYTES", "shape": [1], "data": ["ab"]}),
                Ok(6),
            ),
            (
                json!({"name": "a", "datatype": "FP32", "shape": [3], "data": [1, 2]}),
                Err("shape"),
            ),
            (
                json!({"name": "a", "datatype": "BYTES", "shape": [2], "data": ["ab"]}),
                Err("shape"),
            ),
            (
                json!({"name": "a", "datatype": "UINT8", "shape": [1], "data": [256]}),
                Err("range"),
            ),
            (
                json!({"name": "a", "datatype": "FP99", "shape": [1], "data": [1]}),
                Err("FP99"),
            ),
            (
                json!({"name": "a", "datatype": "FP32", "shape": [-1], "data": [1]}),
                Err("shape"),
            ),
            (json!({"name": "a"}), Err("OIP")),
        ] {
            match (inline(&tensor), expected) {
                (Ok(found), Ok(bytes)) => {
                    assert_eq!(found.data.unwrap().len(), bytes, "{tensor}");
                }
                (Err(fault), Err(text)) => assert!(fault.contains(text), "{tensor}: {fault}"),
                (found, _) => assert!(expected.is_err() == found.is_err(), "{tensor}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_file_becomes_a_tensor_and_a_fault_names_field_and_file() {
        let scratch = Scratch::new();
        let case = scratch.file("one.json", "{}");
        scratch.file("text.txt", "abc");
        scratch.file("all.npz", include_bytes!("../../tests/arrays.npz"));
        let mut files = BTreeSet::new();
        let mut reader = Reader {
            case: &case,
            files: &mut files,
        };
        for (tensor, datatype, shape) in [
            (
                json!({"name": "t", "file": "text.txt", "datatype": "UINT8"}),
                "UINT8",
                vec![3_i64],
            ),
            (
                json!({"name": "t", "file": "text.txt", "datatype": "BYTES"}),
                "BYTES",
                vec![1],
            ),
            (json!({"name": "x", "file": "all.npz"}), "UINT8", vec![4]),
            (
                json!({"name": "t", "file": "all.npz", "array": "y"}),
                "UINT8",
                vec![2, 2],
            ),
        ] {
            let found = reader.inputs("input.tensors", &[tensor]).unwrap();
            let found = found.into_iter().next().unwrap();
            assert_eq!((&*found.datatype, found.shape), (datatype, shape));
        }
        for (tensor, text) in [
            (
                json!({"name": "t", "file": "none.npy"}),
                "none.npy: No such file",
            ),
            (json!({"name": "t", "file": "../a.npy"}), "not below"),
            (json!({"name": "t", "file": "text.txt"}), "UINT8 or BYTES"),
            (json!({"name": "t", "file": "all.npz"}), "it has x, y"),
            (
                json!({"name": "x", "file": "all.npz", "datatype": "FP32"}),
                "UINT8, not FP32",
            ),
            (
                json!({"name": "t", "file": "text.txt", "datatype": "UINT8", "array": "x"}),
                "a .npz file",
            ),
        ] {
            let fault = reader.inputs("input.tensors", &[tensor]).unwrap_err();
            assert!(fault.starts_with("input.tensors[0].file: "), "{fault}");
            assert!(fault.contains(text), "{fault}");
        }
        let summary = json!({"name": "t", "summary": {"shape": [1], "mode": 1}});
        let fault = reader.expected("expect.tensors", &[summary]).unwrap_err();
        assert!(fault.starts_with("expect.tensors[0]: "), "{fault}");
        assert_eq!(files.len(), 2);
    }
}
