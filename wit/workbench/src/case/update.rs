//! Rewrites what a case expects: values and summaries in its JSON file, and files beside it. The
//! rest of the JSON file keeps its text, and files of inputs are never written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use serde_json::Value;
use tensorgate_policy::Tensor;
use tensorgate_policy::tensor::items;

use super::files::{beside, content, is_link};
use super::json_parts::{list, member};
use super::tensors::{FILE_KEY, FileKind, RawFileTensor};
use super::{Case, Expected, npy, written};
use crate::compare::{ExpectedTensor, Summary, Tolerance, differences};

/// Most bytes of a new expected tensor that is written with its elements; a larger one gets a
/// summary.
const MAX_INLINE_BYTES: usize = 1024;

/// Rewrites the expected tensors of a case that differ from those found. Each keeps its form.
/// `inputs` are the files of the inputs of all cases. Returns the files that were written.
///
/// # Errors
/// A tensor has no such form, or a file cannot be written.
pub fn update(
    case: &Case,
    found: &[Tensor<'_>],
    inputs: &BTreeSet<PathBuf>,
) -> Result<Vec<PathBuf>, String> {
    let Expected::Tensors {
        tensors, tolerance, ..
    } = &case.expected
    else {
        return Err("a case that expects a rejection is not updated".to_owned());
    };
    if is_link(&case.file) {
        return Err("the case is a symbolic link".to_owned());
    }
    let text = String::from_utf8(content(&case.file)?).map_err(|error| error.to_string())?;
    let old_list = expected_list(&text).ok_or("the case has no `expect.tensors`")?;
    let old = list(old_list).ok_or("`expect.tensors` is no list")?;
    let mut updated = Updated {
        case: &case.file,
        tolerance: *tolerance,
        files: Vec::new(),
    };
    let mut entries = Vec::new();
    for (index, tensor) in found.iter().enumerate() {
        let position = tensors
            .iter()
            .position(|known| *known.name() == *tensor.name);
        let known = position.and_then(|at| tensors.get(at).zip(old.get(at)));
        let entry = match known {
            Some((expected, raw)) => updated.entry(expected, raw, tensor),
            None => Ok(new_entry(tensor)),
        };
        entries.push(entry.map_err(|fault| format!("expect.tensors[{index}]: {fault}"))?);
    }
    let Updated { mut files, .. } = updated;
    if let Some((input, _)) = files.iter().find(|(file, _)| inputs.contains(file)) {
        return Err(format!("{} is also the file of an input", input.display()));
    }
    if entries != old {
        let replaced = replaced(&text, old_list, &entries).ok_or("the case cannot be rewritten")?;
        files.push((case.file.clone(), replaced.into_bytes()));
    }
    for (file, bytes) in &files {
        std::fs::write(file, bytes).map_err(|cause| format!("{}: {cause}", file.display()))?;
    }
    Ok(files.into_iter().map(|(file, _)| file).collect())
}

/// The text of `expect.tensors`, a part of the case's text.
fn expected_list(text: &str) -> Option<&str> {
    member(member(text, "expect")?, "tensors")
}

/// The text of a case with another list, one tensor per line.
fn replaced(text: &str, list: &str, entries: &[String]) -> Option<String> {
    let begin = list.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    let (before, rest) = text.split_at_checked(begin)?;
    let after = rest.get(list.len()..)?;
    Some(format!(
        "{before}[\n    {}\n  ]{after}",
        entries.join(",\n    ")
    ))
}

/// A tensor that the case does not expect yet.
fn new_entry(tensor: &Tensor<'_>) -> String {
    let bytes = tensor.data.as_deref().unwrap_or_default().len();
    let inline = (bytes <= MAX_INLINE_BYTES).then(|| written::inline(tensor));
    let inline = inline.flatten();
    inline.unwrap_or_else(|| written::summary(&Summary::of(tensor)))
}

/// What will be written for one case.
struct Updated<'c> {
    case: &'c Path,
    tolerance: Tolerance,
    /// Files beside the case, with their new content.
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Updated<'_> {
    /// The text of one expected tensor, which has the text `raw` so far.
    fn entry(
        &mut self,
        expected: &ExpectedTensor,
        raw: &str,
        tensor: &Tensor<'_>,
    ) -> Result<String, String> {
        let (one, other) = (std::slice::from_ref(expected), std::slice::from_ref(tensor));
        if differences(one, other, self.tolerance).is_empty() {
            return Ok(raw.to_owned());
        }
        if let ExpectedTensor::Summary(known) = expected {
            let now = Summary::of(tensor);
            return Ok(written::summary(&Summary {
                datatype: known.datatype.and(now.datatype),
                mean: known.mean.and(now.mean),
                hash: known.hash.as_ref().and(now.hash),
                ..now
            }));
        }
        let value: Value = serde_json::from_str(raw).map_err(|error| error.to_string())?;
        if value.get(FILE_KEY).is_none() {
            let inline = written::inline(tensor);
            return inline.ok_or_else(|| {
                "JSON cannot express an element: expect it by `file` or `summary`".to_owned()
            });
        }
        let named = RawFileTensor::deserialize(&value).map_err(|error| error.to_string())?;
        let wanted = named.datatype.as_deref();
        if wanted.is_some_and(|wanted| wanted != tensor.datatype) {
            return Err(format!(
                "the datatype is {} now: change it",
                tensor.datatype
            ));
        }
        let path = beside(self.case, &named.file)?;
        self.files.push((path, file_content(&named.file, tensor)?));
        Ok(raw.to_owned())
    }
}

/// The content of a file that has a tensor.
fn file_content(name: &str, tensor: &Tensor<'_>) -> Result<Vec<u8>, String> {
    let data = tensor.data.as_deref().unwrap_or_default();
    let content = match (FileKind::of(name), &*tensor.datatype) {
        (FileKind::Npy, _) => npy::file(tensor),
        (FileKind::Npz, _) => {
            return Err(format!(
                "{name}: a .npz file is not rewritten: use .npy files"
            ));
        }
        (FileKind::Bytes, "UINT8") if tensor.shape.len() == 1 => Some(data.to_vec()),
        (FileKind::Bytes, "BYTES") if tensor.shape == [1] => {
            let item = items(data).next().and_then(Result::ok);
            item.map(<[u8]>::to_vec)
        }
        (FileKind::Bytes, _) => None,
    };
    content.ok_or_else(|| {
        let Tensor {
            datatype, shape, ..
        } = tensor;
        format!("{name} cannot have a tensor of {datatype} {shape:?}")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_the_list_of_expected_tensors_is_replaced() {
        let text = "{\"input\": {\"tensors\": [1.50]},\n \"expect\": {\"tensors\": [ 1 ], \"tolerance\": 1}}\n";
        let list = expected_list(text).unwrap();
        assert_eq!(list, "[ 1 ]");
        let now = replaced(text, list, &["2".to_owned(), "3".to_owned()]).unwrap();
        let expected = "{\"input\": {\"tensors\": [1.50]},\n \"expect\": {\"tensors\": [\n    2,\n    3\n  ], \"tolerance\": 1}}\n";
        assert_eq!(now, expected);
        assert_eq!(expected_list("{\"expect\": {}}"), None);
    }
}
