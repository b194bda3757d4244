//! An inference request as TorchServe's clients write it: JSON, a form, `PredictionsRequest`.
//! Shares no code with the decoder under test. It is a mistake to ask for what these cannot
//! express: ids, parameters, outputs, a datatype other than the contract's, and over gRPC several
//! strings.

use std::borrow::Cow;

use crate::file::{Input, Tensors};
use crate::lower::Model;
use crate::protobuf::put_bytes;
use crate::tf::{is_only, no_ids, untyped, value, whole};
use crate::value::item;

/// The prefixes of its REST paths.
pub(crate) const PATHS: [&str; 3] = ["/predictions", "/explanations", "/ping"];
/// The gRPC method.
pub(crate) const PREDICTIONS: &str =
    "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions";
/// A form's content type, with its boundary.
pub(crate) const FORM: &str = "multipart/form-data; boundary=----7b1e9f03";
const DELIMITER: &str = "------7b1e9f03";
/// Names that mean a whole body where no input has them.
const WHOLE: [&str; 3] = ["data", "body", "instances"];

/// The path over REST.
pub(crate) fn path(tensors: &Tensors) -> Result<String, String> {
    let version = match tensors.version.as_deref() {
        None => String::new(),
        Some("") => return Err("a path has no empty version: name the protocols".into()),
        Some(version) => format!("/{version}"),
    };
    Ok(format!("/predictions/{}{version}", tensors.model))
}

fn sayable(tensors: &Tensors, model: Option<&Model>) -> Result<(), String> {
    no_ids(tensors)?;
    untyped(tensors, model)?;
    if !tensors.parameters.is_empty() {
        return Err("TorchServe has no parameters: name the protocols".into());
    }
    let names = |name: &str| {
        let taken = || model.into_iter().flat_map(|model| &model.inputs);
        WHOLE.contains(&name) && !taken().any(|taken| taken.name == name)
    };
    if tensors.inputs.iter().any(|input| names(&input.name)) {
        return Err("a name that means another thing: name the protocols".into());
    }
    Ok(())
}

/// The document.
pub(crate) fn json_request(
    tensors: &Tensors,
    model: Option<&Model>,
    by_row: bool,
) -> Result<Vec<u8>, String> {
    sayable(tensors, model)?;
    let value = match tensors.inputs.as_slice() {
        _ if by_row => format!("{{\"instances\":{}}}", value(tensors, model, true)?),
        [input] if is_only(tensors, model) && !WHOLE.contains(&&*input.name) => {
            format!("{{\"data\":{}}}", whole(input)?)
        }
        _ => value(tensors, model, false)?,
    };
    Ok(value.into_bytes())
}

/// The one string of an input that may be sent as it is.
fn file<'t>(input: &'t Input, model: Option<&Model>) -> Option<Cow<'t, [u8]>> {
    let mut taken = model?.inputs.iter();
    let rank = taken.find(|taken| taken.name == input.name)?.rank;
    match input.data.as_deref() {
        Some([one]) if input.datatype == "BYTES" && input.shape == vec![1_i64; rank] => item(one),
        _ => None,
    }
}

/// The form.
pub(crate) fn form(tensors: &Tensors, model: Option<&Model>) -> Result<Vec<u8>, String> {
    sayable(tensors, model)?;
    let mut out = Vec::new();
    for input in &tensors.inputs {
        let name = &input.name;
        if name.is_empty() || name.contains(['"', '\\', '\r', '\n', '\0']) {
            return Err("no part has such a name: name the protocols".into());
        }
        let (more, content) = match file(input, model) {
            Some(bytes) => (
                "; filename=\"a.bin\"\r\nContent-Type: application/octet-stream",
                bytes.into_owned(),
            ),
            None => (
                "\r\ncontent-type: application/json",
                whole(input)?.into_bytes(),
            ),
        };
        let is_delimiter = |bytes: &[u8]| bytes == DELIMITER.as_bytes();
        if content.windows(DELIMITER.len()).any(is_delimiter) {
            return Err("the boundary is in a part".into());
        }
        let head =
            format!("{DELIMITER}\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n");
        out.extend([head.as_bytes(), &content, b"\r\n"].concat());
    }
    out.extend(format!("{DELIMITER}--\r\n").into_bytes());
    Ok(out)
}

/// A `PredictionsRequest`.
pub(crate) fn message(tensors: &Tensors, model: Option<&Model>) -> Result<Vec<u8>, String> {
    sayable(tensors, model)?;
    let mut out = Vec::new();
    put_bytes(&mut out, 1, tensors.model.as_bytes());
    if let Some(version) = &tensors.version {
        put_bytes(&mut out, 2, version.as_bytes());
    }
    for input in &tensors.inputs {
        let value = match file(input, model) {
            Some(bytes) => bytes.into_owned(),
            None if input.datatype == "BYTES" => {
                return Err("an entry is one string: name the protocols".into());
            }
            None => whole(input)?.into_bytes(),
        };
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, input.name.as_bytes());
        put_bytes(&mut entry, 2, &value);
        put_bytes(&mut out, 3, &entry);
    }
    Ok(out)
}
