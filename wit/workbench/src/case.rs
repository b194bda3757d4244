//! Test cases as data: an input and the expected result. Tensors are parsed by the same code as a
//! client's JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use tensorgate_base::payload::Payload;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::bounded_file::read_at_most;
use tensorgate_policy::decision::BodyFormat;
use tensorgate_policy::tensor::items;
use tensorgate_policy::{Datatype, Tensor};
use tensorgate_sandbox::{FaultCause, FetchedFile};

use crate::project::{Project, World};

/// Folder of a project's cases.
pub const FOLDER: &str = "cases";

/// Largest file of a case, bytes. A host's `body_bytes` is smaller.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Maximum number of cases per project.
const MAX_CASES: usize = 10_000;

/// Name of a rejection by the handler itself.
const BAD_INPUT: &str = "bad-input";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    config: BTreeMap<String, String>,
    #[serde(default)]
    files: BTreeMap<String, RawBody>,
    #[serde(default)]
    features: Features,
    input: RawInput,
    expect: RawExpected,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum RawInput {
    Tensors(Vec<Value>),
    Raw(RawBody),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBody {
    content_type: String,
    file: Option<String>,
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum RawExpected {
    Answer {
        tensors: Vec<Value>,
        #[serde(default)]
        tolerance: f64,
    },
    Refusal {
        refused: String,
        #[serde(default)]
        says: String,
    },
}

/// Values by lookup, feature and key.
pub type Features = BTreeMap<String, BTreeMap<String, BTreeMap<String, f64>>>;

/// A test case.
#[derive(Debug)]
pub struct Case {
    /// File name without the extension.
    pub name: String,
    /// Configuration entries that the case overrides.
    pub config: BTreeMap<String, String>,
    /// Files that `fetch` returns, by URL.
    pub files: BTreeMap<String, FetchedFile>,
    /// Features that lookups return.
    pub features: Features,
    /// The handler's input.
    pub input: Payload,
    /// The expected result.
    pub expected: Expected,
}

/// The expected result of a case.
#[derive(Debug)]
pub enum Expected {
    /// Tensors, in this order.
    Tensors {
        /// The tensors.
        tensors: Vec<Tensor<'static>>,
        /// Allowed deviation of a number, relative to `max(1, |expected|)`.
        tolerance: f64,
    },
    /// A rejection.
    Refused {
        /// The cause; `None` if the handler itself rejects the input.
        cause: Option<FaultCause>,
        /// Text that the message must contain.
        message: String,
    },
}

/// Reads every case of a project, sorted by name.
///
/// # Errors
/// There is no case, or one is invalid.
pub fn all(project: &Project) -> Result<Vec<Case>, Failure> {
    let folder = project.folder.join(FOLDER);
    let entries = std::fs::read_dir(&folder)
        .map_err(|cause| Failure::Input(format!("cannot read {}: {cause}", folder.display())))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|file| {
            file.extension()
                .is_some_and(|extension| extension == "json")
        })
        .take(MAX_CASES)
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(Failure::Input(format!(
            "no case in {}: add one as NAME.json",
            folder.display()
        )));
    }
    files
        .iter()
        .map(|file| {
            read(project, file)
                .map_err(|fault| Failure::Input(format!("{}: {fault}", file.display())))
        })
        .collect()
}

fn read(project: &Project, file: &Path) -> Result<Case, String> {
    let text = content(file)?;
    let Raw {
        config,
        files,
        features,
        input,
        expect,
    } = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let files = files
        .into_iter()
        .map(|(url, body)| {
            let fetched = FetchedFile {
                data: raw_data(file, &body)?.into(),
                content_type: body.content_type,
            };
            Ok((url, fetched))
        })
        .collect::<Result<_, String>>()?;
    let input = match input {
        RawInput::Tensors(values) => Payload::Tensors(tensors(&values)?),
        RawInput::Raw(_) if project.world == World::Postprocess => {
            return Err("a postprocess handler takes tensors, not a raw body".to_owned());
        }
        RawInput::Raw(body) => Payload::Raw {
            data: raw_data(file, &body)?.into(),
            content_type: body.content_type,
        },
    };
    let expected = match expect {
        RawExpected::Answer { tolerance, .. } if !(tolerance.is_finite() && tolerance >= 0.0) => {
            return Err(format!("invalid tolerance: {tolerance}"));
        }
        RawExpected::Answer {
            tensors: values,
            tolerance,
        } => Expected::Tensors {
            tensors: tensors(&values)?,
            tolerance,
        },
        RawExpected::Refusal { refused, says } => Expected::Refused {
            cause: cause(&refused)?,
            message: says,
        },
    };
    let name = file.file_stem().unwrap_or_default();
    Ok(Case {
        name: name.to_string_lossy().into_owned(),
        config,
        files,
        features,
        input,
        expected,
    })
}

fn cause(name: &str) -> Result<Option<FaultCause>, String> {
    if name == BAD_INPUT {
        return Ok(None);
    }
    let found = FaultCause::ALL
        .into_iter()
        .find(|cause| cause.name() == name);
    found.map(Some).ok_or_else(|| {
        let known: Vec<&str> = FaultCause::ALL.iter().map(|cause| cause.name()).collect();
        format!(
            "unknown refusal {name:?}; known are {BAD_INPUT}, {}",
            known.join(", ")
        )
    })
}

/// The bytes of a raw body: inline text, or a file below the case's folder.
fn raw_data(case: &Path, body: &RawBody) -> Result<Vec<u8>, String> {
    match (&body.file, &body.text) {
        (Some(file), None) => {
            let below = Path::new(file)
                .components()
                .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
            if !below {
                return Err(format!("{file:?} is not below the cases' folder"));
            }
            content(&case.with_file_name(file)).map_err(|fault| format!("{file}: {fault}"))
        }
        (None, Some(text)) => Ok(text.clone().into_bytes()),
        _ => Err("a raw body needs either `file` or `text`".to_owned()),
    }
}

fn content(file: &Path) -> Result<Vec<u8>, String> {
    match read_at_most(file, MAX_FILE_BYTES) {
        Ok(Some(content)) => Ok(content),
        Ok(None) => Err(format!("larger than {MAX_FILE_BYTES} bytes")),
        Err(cause) => Err(cause.to_string()),
    }
}

/// Tensors in the JSON form of OIP, decoded. Each must have as many elements as its shape requires.
fn tensors(values: &[Value]) -> Result<Vec<Tensor<'static>>, String> {
    if values.is_empty() {
        return Ok(Vec::new());
    }
    let body = json!({"inputs": values}).to_string();
    let decoded = tensorgate_wire::decode(BodyFormat::OipJson, body.as_bytes(), &[]);
    let request = decoded
        .map_err(|denial| format!("tensors must have the JSON form of OIP: {}", denial.cause))?;
    request.inputs.into_iter().map(owned).collect()
}

fn owned(tensor: Tensor<'_>) -> Result<Tensor<'static>, String> {
    let name = tensor.name.into_owned();
    let at = |fault: String| format!("tensor {name:?}: {fault}");
    let datatype = Datatype::from_name(&tensor.datatype)
        .ok_or_else(|| at(format!("unknown datatype {:?}", tensor.datatype)))?;
    let data = tensor.data.map_err(|fault| at(fault.to_string()))?;
    let elements = tensor.shape.iter().try_fold(1_usize, |count, dim| {
        count.checked_mul(usize::try_from(*dim).ok()?)
    });
    let found = match datatype.size_bytes() {
        Some(size) => data.len().checked_div(size),
        None => Some(items(&data).count()),
    };
    if elements.is_none() || elements != found {
        return Err(at(format!(
            "{} elements for a shape of {:?}",
            found.unwrap_or(0),
            tensor.shape
        )));
    }
    Ok(Tensor {
        name: Cow::Owned(name),
        datatype: Cow::Borrowed(datatype.name()),
        shape: tensor.shape,
        parameters: Vec::new(),
        data: Ok(Cow::Owned(data.into_owned())),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
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
            match (tensors(std::slice::from_ref(&tensor)), expected) {
                (Ok(found), Ok(bytes)) => {
                    let data = found.into_iter().next().unwrap().data.unwrap();
                    assert_eq!(data.len(), bytes, "{tensor}");
                }
                (Err(fault), Err(text)) => assert!(fault.contains(text), "{tensor}: {fault}"),
                (found, _) => assert!(expected.is_err() == found.is_err(), "{tensor}: {found:?}"),
            }
        }
    }

    #[test]
    fn an_invalid_case_is_refused() {
        for text in [
            r#"{"input": {"tensors": []}}"#,
            r#"{"input": {"tensors": []}, "expect": {}}"#,
            r#"{"input": {}, "expect": {"tensors": []}}"#,
            r#"{"input": {"tensors": []}, "expect": {"tensors": []}, "tolerance": 1}"#,
            r#"{"input": {"tensors": [], "raw": {"content_type": "a"}}, "expect": {"tensors": []}}"#,
        ] {
            assert!(serde_json::from_str::<Raw>(text).is_err(), "{text}");
        }
        assert!(cause("bad-input").unwrap().is_none());
        assert_eq!(cause("fuel").unwrap(), Some(FaultCause::Fuel));
        assert!(cause("tired").unwrap_err().contains("deadline"));
    }
}
