//! Test cases as data: an input and the expected result, in a JSON file and files beside it.
//! Tensors are parsed by the same code as a client's JSON.

pub mod captured;
mod files;
mod json_parts;
mod npy;
mod npz;
mod request;
mod tensors;
pub mod update;
pub mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use tensorgate_base::payload::Payload;
use tensorgate_cli_common::Failure;
use tensorgate_sandbox::{FaultCause, FetchedFile};

use crate::compare::{ExpectedTensor, Tolerance};
use crate::project::{Project, World};
use files::{content, content_beside};
pub use request::CaseRequest;
use request::{RawCarry, RawContext};
use tensors::Reader;

/// Folder of a project's cases.
pub const FOLDER: &str = "cases";

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
    #[serde(default)]
    context: RawContext,
    carry: Option<RawCarry>,
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

/// Either `tensors` or `refused`, each with optional fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExpected {
    tensors: Option<Vec<Value>>,
    tolerance: Option<Value>,
    carry: Option<RawCarry>,
    refused: Option<String>,
    #[serde(rename = "says")]
    message: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTolerance {
    absolute: f64,
    relative: f64,
}

/// Values by lookup, feature and key.
pub type Features = BTreeMap<String, BTreeMap<String, BTreeMap<String, f64>>>;

/// A test case.
#[derive(Debug)]
pub struct Case {
    /// The case's JSON file.
    pub file: PathBuf,
    /// File name without the extension.
    pub name: String,
    /// Configuration entries that the case overrides.
    pub config: BTreeMap<String, String>,
    /// Files that `fetch` returns, by URL.
    pub files: BTreeMap<String, FetchedFile>,
    /// Features that lookups return.
    pub features: Features,
    /// The request of the call.
    pub request: CaseRequest,
    /// The handler's input.
    pub input: Payload,
    /// Files of its input, of what earlier handlers carried, and of what `fetch` returns. They are
    /// never written.
    pub input_files: BTreeSet<PathBuf>,
    /// The expected result.
    pub expected: Expected,
}

/// The expected result of a case.
#[derive(Debug)]
pub enum Expected {
    /// Tensors, in this order.
    Tensors {
        /// The tensors.
        tensors: Vec<ExpectedTensor>,
        /// Allowed deviation of a number.
        tolerance: Tolerance,
        /// Bytes that later handlers of the request get, if the case says which.
        carry: Option<Vec<u8>>,
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
        context,
        carry,
        input,
        expect,
    } = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let mut input_files = BTreeSet::new();
    let files = files
        .into_iter()
        .map(|(url, body)| {
            let data = raw_data(file, &body, &mut input_files)
                .map_err(|fault| format!("files[{url:?}]{fault}"))?;
            let fetched = FetchedFile {
                data: data.into(),
                content_type: body.content_type,
            };
            Ok((url, fetched))
        })
        .collect::<Result<_, String>>()?;
    let input = match input {
        RawInput::Tensors(values) => {
            let mut reader = Reader {
                case: file,
                files: &mut input_files,
            };
            Payload::Tensors(reader.inputs("input.tensors", &values)?)
        }
        RawInput::Raw(_) if project.world == World::Postprocess => {
            return Err("a postprocess handler takes tensors, not a raw body".to_owned());
        }
        RawInput::Raw(body) => Payload::Raw {
            data: raw_data(file, &body, &mut input_files)
                .map_err(|fault| format!("input.raw{fault}"))?
                .into(),
            content_type: body.content_type,
        },
    };
    let carry = read_carry(file, "carry", carry.as_ref(), &mut input_files)?;
    let request = context.request(project.world, &input, carry.unwrap_or_default())?;
    let name = file.file_stem().unwrap_or_default();
    Ok(Case {
        file: file.to_owned(),
        name: name.to_string_lossy().into_owned(),
        config,
        files,
        features,
        request,
        input,
        input_files,
        expected: expected(file, &expect)?,
    })
}

fn expected(file: &Path, raw: &RawExpected) -> Result<Expected, String> {
    match raw {
        RawExpected {
            tensors: Some(values),
            tolerance,
            carry,
            refused: None,
            message: None,
        } => {
            let mut reader = Reader {
                case: file,
                files: &mut BTreeSet::new(),
            };
            Ok(Expected::Tensors {
                tensors: reader.expected("expect.tensors", values)?,
                tolerance: read_tolerance(tolerance.as_ref())
                    .map_err(|fault| format!("expect.tolerance: {fault}"))?,
                carry: read_carry(file, "expect.carry", carry.as_ref(), &mut BTreeSet::new())?,
            })
        }
        RawExpected {
            tensors: None,
            tolerance: None,
            carry: None,
            refused: Some(refused),
            message,
        } => Ok(Expected::Refused {
            cause: cause(refused).map_err(|fault| format!("expect.refused: {fault}"))?,
            message: message.clone().unwrap_or_default(),
        }),
        _ => Err(
            "expect: needs `tensors`, with or without `tolerance` and `carry`, or `refused`, with or without `says`"
                .to_owned(),
        ),
    }
}

/// The bytes of a field that a case may have.
fn read_carry(
    file: &Path,
    field: &str,
    raw: Option<&RawCarry>,
    files: &mut BTreeSet<PathBuf>,
) -> Result<Option<Vec<u8>>, String> {
    let read = |raw: &RawCarry| raw.read(file, files);
    raw.map(read)
        .transpose()
        .map_err(|fault| format!("{field}{fault}"))
}

/// A number, or an object with `absolute` and `relative`.
fn read_tolerance(value: Option<&Value>) -> Result<Tolerance, String> {
    let valid = |part: f64| part.is_finite() && part >= 0.0;
    let Some(value) = value else {
        return Ok(Tolerance::Mixed(0.0));
    };
    let tolerance = match value.as_f64() {
        Some(part) if valid(part) => Tolerance::Mixed(part),
        Some(part) => return Err(format!("invalid tolerance: {part}")),
        None => {
            let RawTolerance { absolute, relative } =
                RawTolerance::deserialize(value).map_err(|error| error.to_string())?;
            if !valid(absolute) || !valid(relative) {
                return Err(format!("invalid tolerance: {absolute} and {relative}"));
            }
            Tolerance::Separate { absolute, relative }
        }
    };
    Ok(tolerance)
}

fn cause(name: &str) -> Result<Option<FaultCause>, String> {
    if name == BAD_INPUT {
        return Ok(None);
    }
    FaultCause::from_name(name).map(Some).ok_or_else(|| {
        let known: Vec<&str> = FaultCause::ALL.iter().map(|cause| cause.name()).collect();
        format!(
            "unknown refusal {name:?}; known are {BAD_INPUT}, {}",
            known.join(", ")
        )
    })
}

/// The bytes of a raw body: inline text, or a file below the case's folder. The fault begins with
/// what follows the body's field.
fn raw_data(case: &Path, body: &RawBody, files: &mut BTreeSet<PathBuf>) -> Result<Vec<u8>, String> {
    match (&body.file, &body.text) {
        (Some(file), None) => content_beside(case, file, files),
        (None, Some(text)) => Ok(text.clone().into_bytes()),
        _ => Err(": a raw body needs either `file` or `text`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_invalid_case_is_refused() {
        for text in [
            r#"{"input": {"tensors": []}}"#,
            r#"{"input": {}, "expect": {"tensors": []}}"#,
            r#"{"input": {"tensors": []}, "expect": {"tensors": []}, "tolerance": 1}"#,
            r#"{"input": {"tensors": [], "raw": {"content_type": "a"}}, "expect": {"tensors": []}}"#,
            r#"{"input": {"tensors": []}, "expect": {"tensors": [], "summary": {}}}"#,
            r#"{"input": {"tensors": []}, "context": {"user": "a"}, "expect": {"tensors": []}}"#,
            r#"{"input": {"tensors": []}, "carry": {"text": "a"}, "expect": {"tensors": []}}"#,
        ] {
            assert!(serde_json::from_str::<Raw>(text).is_err(), "{text}");
        }
        assert!(cause("bad-input").unwrap().is_none());
        assert_eq!(cause("fuel").unwrap(), Some(FaultCause::Fuel));
        assert!(cause("tired").unwrap_err().contains("deadline"));
    }

    #[test]
    fn a_result_is_expected_in_one_way() {
        for (text, fault) in [
            (r#"{}"#, "expect: needs"),
            (r#"{"tensors": [], "refused": "fuel"}"#, "expect: needs"),
            (r#"{"tensors": [], "says": "a"}"#, "expect: needs"),
            (r#"{"refused": "fuel", "tolerance": 1}"#, "expect: needs"),
            (r#"{"refused": "tired"}"#, "expect.refused: unknown"),
            (
                r#"{"refused": "fuel", "carry": {"base64": ""}}"#,
                "expect: needs",
            ),
            (r#"{"tensors": [], "carry": {}}"#, "expect.carry: needs"),
            (
                r#"{"tensors": [], "tolerance": -1}"#,
                "expect.tolerance: invalid",
            ),
            (r#"{"tensors": [], "tolerance": "1"}"#, "expect.tolerance: "),
            (
                r#"{"tensors": [], "tolerance": {"relative": -1}}"#,
                "invalid",
            ),
            (
                r#"{"tensors": [], "tolerance": {"rel": 1}}"#,
                "expect.tolerance: unknown",
            ),
        ] {
            let raw = serde_json::from_str(text).unwrap();
            let found = expected(Path::new("a.json"), &raw).unwrap_err();
            assert!(found.contains(fault), "{text}: {found}");
        }
        for (text, expected) in [
            ("0.5", Tolerance::Mixed(0.5)),
            (
                r#"{"absolute": 0.5}"#,
                Tolerance::Separate {
                    absolute: 0.5,
                    relative: 0.0,
                },
            ),
        ] {
            let value = serde_json::from_str(text).unwrap();
            assert_eq!(read_tolerance(Some(&value)).unwrap(), expected);
        }
    }
}
