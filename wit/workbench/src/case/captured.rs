//! Writes a captured call as a case: a JSON file, and a folder of the same name with the files of
//! the input, of what was fetched and of the result.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tensorgate_base::egress_log::ResolveFailure;
use tensorgate_policy::tensor::items;
use tensorgate_policy::{Datatype, Tensor};
use tensorgate_sandbox::capture::{self, Blob, Captured, Input};
use tensorgate_sandbox::{
    CapabilityRequest, FeatureColumn, HandlerError, HandlerOutput, ResolvedResource,
};
use tensorgate_settings::capture::Named;

use super::request::captured_context;
use super::{BAD_INPUT, Features, npy, written};
use crate::compare::Summary;

/// Most bytes of a tensor, or of what is carried, that stand in the JSON file.
const MAX_INLINE_BYTES: usize = 64;

/// A case that is not written yet.
struct NewCase<'n> {
    name: &'n str,
    /// Files below the case's folder, with their content.
    files: Vec<(String, Vec<u8>)>,
}

/// Writes a captured call as the case `name` of a folder. `outcome` is that of the same call when
/// it ran again, with the captured result. Returns the path of the case.
///
/// # Errors
/// There is such a case, a case cannot express the call, or a file cannot be written.
pub fn write(
    call: &Captured,
    outcome: &Result<HandlerOutput, HandlerError>,
    folder: &Path,
    name: &str,
) -> Result<PathBuf, String> {
    let mut case = NewCase {
        name,
        files: Vec::new(),
    };
    let carried = capture::call_request(call).carry;
    let (files, features) = case.resources(call)?;
    let mut document = Map::from_iter([
        ("config".to_owned(), json!(call.handler.config)),
        ("features".to_owned(), json!(features)),
        ("files".to_owned(), Value::Object(files)),
        ("context".to_owned(), captured_context(call)?),
        ("input".to_owned(), case.input(&call.input)?),
        ("expect".to_owned(), case.expected(outcome, &carried)?),
    ]);
    if !carried.is_empty() {
        document.insert("carry".to_owned(), case.carry("carry.bin", &carried));
    }
    let text = serde_json::to_string_pretty(&document).map_err(|error| error.to_string())?;
    let file = folder.join(format!("{name}.json"));
    let beside = folder.join(name);
    if let Some(existing) = [&file, &beside].into_iter().find(|path| path.exists()) {
        return Err(format!("{} already exists", existing.display()));
    }
    let failed = |path: &Path, cause: std::io::Error| format!("{}: {cause}", path.display());
    let made = if case.files.is_empty() {
        folder
    } else {
        beside.as_path()
    };
    std::fs::create_dir_all(made).map_err(|cause| failed(made, cause))?;
    for (name, bytes) in &case.files {
        let path = folder.join(name);
        create(&path, bytes).map_err(|cause| failed(&path, cause))?;
    }
    create(&file, format!("{text}\n").as_bytes()).map_err(|cause| failed(&file, cause))?;
    Ok(file)
}

/// Creates a file that only this user can read: it has what a client sent.
fn create(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?
        .write_all(bytes)
}

impl NewCase<'_> {
    /// Adds a file and returns its name, relative to the case.
    fn file(&mut self, name: &str, bytes: Vec<u8>) -> String {
        let file = format!("{}/{name}", self.name);
        self.files.push((file.clone(), bytes));
        file
    }

    fn input(&mut self, input: &Input) -> Result<Value, String> {
        Ok(match input {
            Input::Raw { content_type, data } => {
                let name = format!("body.{}", extension(content_type));
                let file = self.file(&name, data.0.clone());
                json!({"raw": {"content_type": content_type, "file": file}})
            }
            Input::Tensors(tensors) => {
                let mut values = Vec::new();
                for (index, tensor) in tensors.iter().map(Named::tensor).enumerate() {
                    let value = self.tensor(&format!("input-{index}"), &tensor);
                    values.push(value.ok_or_else(|| {
                        let name = &tensor.name;
                        format!("input {name:?} has several items that are no text")
                    })?);
                }
                json!({"tensors": values})
            }
        })
    }

    /// Carried bytes, in the JSON file if they are few.
    fn carry(&mut self, file: &str, bytes: &[u8]) -> Value {
        let bytes = bytes.to_vec();
        if bytes.len() <= MAX_INLINE_BYTES {
            return json!({"base64": Blob(bytes)});
        }
        let file = self.file(file, bytes);
        json!({"file": file})
    }

    /// The result. `carried` is what earlier handlers of the request carried.
    fn expected(
        &mut self,
        outcome: &Result<HandlerOutput, HandlerError>,
        carried: &[u8],
    ) -> Result<Value, String> {
        Ok(match outcome {
            Ok(output) => {
                let mut values = Vec::new();
                for (index, tensor) in output.tensors.iter().enumerate() {
                    let value = self.tensor(&format!("expected-{index}"), tensor);
                    let summary = || parsed(&written::summary(&Summary::of(tensor)));
                    values.push(value.or_else(summary));
                }
                let mut expected = Map::from_iter([("tensors".to_owned(), json!(values))]);
                if *output.carry != *carried {
                    let carry = self.carry("expected-carry.bin", &output.carry);
                    expected.insert("carry".to_owned(), carry);
                }
                Value::Object(expected)
            }
            Err(HandlerError::Rejected { text, .. }) => {
                json!({"refused": BAD_INPUT, "says": text})
            }
            Err(HandlerError::Fault { cause, .. }) => json!({"refused": cause.name()}),
            Err(error) => return Err(error.to_string()),
        })
    }

    /// A small tensor with its elements, another one with a file. `None` for several items that are
    /// no text.
    fn tensor(&mut self, file: &str, tensor: &Tensor<'_>) -> Option<Value> {
        let data = tensor.data.as_deref().unwrap_or_default();
        let inline = || written::inline(tensor).and_then(|text| parsed(&text));
        let small = data.len() <= MAX_INLINE_BYTES;
        if let Some(value) = small.then(inline).flatten() {
            return Some(value);
        }
        if let Some(array) = npy::file(tensor) {
            let file = self.file(&format!("{file}.npy"), array);
            return Some(if tensor.datatype == Datatype::Bf16.name() {
                json!({"name": tensor.name, "file": file, "datatype": tensor.datatype})
            } else {
                json!({"name": tensor.name, "file": file})
            });
        }
        if let Some(value) = inline() {
            return Some(value);
        }
        let item = items(data).next().and_then(Result::ok);
        let item = item.filter(|_| tensor.shape == [1])?;
        let file = self.file(&format!("{file}.bin"), item.to_vec());
        Some(json!({"name": tensor.name, "file": file, "datatype": tensor.datatype}))
    }

    /// What was fetched and looked up. What was not found is left out, as in any case.
    fn resources(&mut self, call: &Captured) -> Result<(Map<String, Value>, Features), String> {
        let (mut files, mut features) = (Map::new(), Features::new());
        for (index, (ask, resolved)) in capture::known(call)?.into_iter().enumerate() {
            match (ask, resolved) {
                (CapabilityRequest::File(url), ResolvedResource::File(Ok(found))) => {
                    let name = format!("fetched-{index}.{}", extension(&found.content_type));
                    let file = self.file(&name, found.data.to_vec());
                    let content_type = found.content_type;
                    files.insert(url, json!({"content_type": content_type, "file": file}));
                }
                (
                    CapabilityRequest::Columns { lookup, keys, .. },
                    ResolvedResource::Columns(Ok(columns)),
                ) => {
                    let known = features.entry(lookup).or_default();
                    for FeatureColumn { feature, values } in columns {
                        let known = known.entry(feature).or_default();
                        let values = keys.iter().cloned().zip(values);
                        known.extend(values.filter_map(|(key, value)| Some((key, value?))));
                    }
                }
                (_, ResolvedResource::File(Err(ResolveFailure::NotFound))) => {}
                (_, resolved) => {
                    let why = match resolved {
                        ResolvedResource::File(Err(why)) | ResolvedResource::Columns(Err(why)) => {
                            why.name()
                        }
                        ResolvedResource::File(Ok(_)) | ResolvedResource::Columns(Ok(_)) => {
                            "of another kind"
                        }
                    };
                    return Err(format!("a case cannot have a resource that is {why}"));
                }
            }
        }
        Ok((files, features))
    }
}

fn parsed(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

/// The end of the name of a file with this media type.
fn extension(content_type: &str) -> &'static str {
    match content_type {
        "image/png" => "png",
        "image/jpeg" => "jpg",
        "application/json" => "json",
        "text/plain" => "txt",
        _ => "bin",
    }
}
