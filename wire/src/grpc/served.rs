//! Responses of TF Serving: `PredictResponse`, `GetModelStatusResponse`,
//! `GetModelMetadataResponse`. Unknown fields of later versions are ignored; tensors are parsed as
//! strictly as a client's.

use tensorgate_policy::contract::MAX_RANK;
use tensorgate_policy::{Datatype, Tensor};

use super::predict::Spec;
use super::protobuf::{FieldRef, Value, read};
use super::request::push;
use super::tensor_proto::{number_of, tensor};
use crate::fault::BodyFault;
use crate::limits::{MAX_INPUTS, MAX_NAME_BYTES, MAX_OUTPUTS};
use crate::raw_contents::Budget;
use crate::route::tf_serving::is_number;

/// `ModelVersionStatus.State`.
const AVAILABLE: u64 = 30;
/// Type name of packed signatures.
const SIGNATURE_MAP: &str = "/tensorflow.serving.SignatureDefMap";
/// Maximum signatures and kinds of metadata.
const MAX_SIGNATURES: usize = 256;

/// A response whose tensors borrow from it.
pub(crate) struct Predicted<'a> {
    pub(crate) model: Option<&'a str>,
    pub(crate) version: Option<String>,
    pub(crate) outputs: Vec<Tensor<'a>>,
}

/// A tensor of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Name in requests and responses.
    pub name: String,
    /// OIP name of its datatype, or an unknown name.
    pub datatype: String,
    /// Dimensions, -1 for any size; `None` for any rank.
    pub shape: Option<Vec<i64>>,
}

/// Inputs and outputs of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Its model.
    pub model: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Inputs.
    pub inputs: Vec<Described>,
    /// Outputs.
    pub outputs: Vec<Described>,
}

/// An entry of a map: name and message.
type Entry<'a> = (&'a str, &'a [u8]);

fn entry<'a>(field: FieldRef, value: Value<'a>) -> Result<Entry<'a>, BodyFault> {
    let (mut name, mut message) = (None, None);
    read(
        "a map's entry",
        field.bytes(value)?,
        |field, value| match field.number {
            1 => field.once(&mut name, field.text_of(value, MAX_NAME_BYTES)?),
            2 => field.once(&mut message, field.bytes(value)?),
            _ => Err(field.unknown()),
        },
    )?;
    Ok((name.unwrap_or_default(), message.unwrap_or_default()))
}

/// The version number of a spec.
fn version_of(spec: &Spec<'_>) -> Option<String> {
    let version = spec.version.as_deref();
    version
        .filter(|version| is_number(version))
        .map(str::to_owned)
}

/// Reads a `PredictResponse`.
pub(crate) fn predicted(message: &[u8]) -> Result<Predicted<'_>, BodyFault> {
    let mut spec = None;
    let mut entries = Vec::new();
    read("PredictResponse", message, |field, value| {
        match field.number {
            1 => push(&mut entries, entry(field, value)?, "outputs", MAX_OUTPUTS),
            2 => field.once(&mut spec, Spec::read(field.bytes(value)?)?),
            _ => Ok(()),
        }
    })?;
    let mut budget = Budget::new();
    let outputs = entries
        .into_iter()
        .map(|(name, message)| tensor(name, Some(message), &mut budget));
    let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
    let spec = spec.unwrap_or_default();
    Ok(Predicted {
        model: spec.model,
        version: version_of(&spec),
        outputs,
    })
}

/// Whether a `GetModelStatusResponse` says that a version is available.
pub(crate) fn is_available(message: &[u8], requested_version: &str) -> Result<bool, BodyFault> {
    let mut available = false;
    read("GetModelStatusResponse", message, |field, value| {
        if field.number != 1 {
            return Ok(());
        }
        let (mut version, mut state) = (None, None);
        read(
            "ModelVersionStatus",
            field.bytes(value)?,
            |field, value| match field.number {
                1 => field.once(&mut version, field.varint(value)?.cast_signed()),
                2 => field.once(&mut state, field.varint(value)?),
                _ => Ok(()),
            },
        )?;
        available |= version.unwrap_or_default().to_string() == requested_version
            && state == Some(AVAILABLE);
        Ok(())
    })?;
    Ok(available)
}

/// The signature with this name in a `GetModelMetadataResponse`; `kind` is the metadata's key.
pub(crate) fn signature(
    message: &[u8],
    kind: &str,
    name: &str,
) -> Result<Option<Signature>, BodyFault> {
    let mut spec = None;
    let mut metadata = Vec::new();
    read(
        "GetModelMetadataResponse",
        message,
        |field, value| match field.number {
            1 => field.once(&mut spec, Spec::read(field.bytes(value)?)?),
            2 => push(
                &mut metadata,
                entry(field, value)?,
                "metadata",
                MAX_SIGNATURES,
            ),
            _ => Ok(()),
        },
    )?;
    let Some(any) = find(&metadata, kind) else {
        return Ok(None);
    };
    let signatures = signatures(any)?;
    let Some(definition) = find(&signatures, name) else {
        return Ok(None);
    };
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    read("SignatureDef", definition, |field, value| {
        match field.number {
            1 => push(
                &mut inputs,
                described(entry(field, value)?)?,
                "inputs",
                MAX_INPUTS,
            ),
            2 => push(
                &mut outputs,
                described(entry(field, value)?)?,
                "outputs",
                MAX_OUTPUTS,
            ),
            _ => Ok(()),
        }
    })?;
    let spec = spec.unwrap_or_default();
    Ok(Some(Signature {
        model: spec.model.map(str::to_owned),
        version: version_of(&spec),
        inputs,
        outputs,
    }))
}

fn find<'a>(entries: &[Entry<'a>], name: &str) -> Option<&'a [u8]> {
    let mut named = entries.iter().filter(|(found, _)| *found == name);
    named.next().map(|(_, message)| *message)
}

/// Reads an `Any` that is a `SignatureDefMap`.
fn signatures(any: &[u8]) -> Result<Vec<Entry<'_>>, BodyFault> {
    let (mut kind, mut packed) = (None, None);
    read("Any", any, |field, value| match field.number {
        1 => field.once(&mut kind, field.text_of(value, MAX_NAME_BYTES)?),
        2 => field.once(&mut packed, field.bytes(value)?),
        _ => Err(field.unknown()),
    })?;
    if !kind.is_some_and(|kind| kind.ends_with(SIGNATURE_MAP)) {
        return Err(BodyFault::field("signature_def", "is no SignatureDefMap"));
    }
    let mut found = Vec::new();
    read(
        "SignatureDefMap",
        packed.unwrap_or_default(),
        |field, value| match field.number {
            1 => push(
                &mut found,
                entry(field, value)?,
                "signatures",
                MAX_SIGNATURES,
            ),
            _ => Ok(()),
        },
    )?;
    Ok(found)
}

/// Reads a `TensorInfo`.
fn described((name, info): Entry<'_>) -> Result<Described, BodyFault> {
    let (mut datatype, mut shape, mut dense) = (None, None, true);
    read("TensorInfo", info, |field, value| match field.number {
        2 => field.once(&mut datatype, field.varint(value)?),
        3 => field.once(&mut shape, dims(field.bytes(value)?)?),
        4 | 5 => {
            dense = false;
            Ok(())
        }
        _ => Ok(()),
    })?;
    let number = datatype.unwrap_or_default();
    let known = Datatype::ALL
        .into_iter()
        .find(|known| dense && number_of(*known) == number);
    Ok(Described {
        name: name.to_owned(),
        datatype: match known {
            Some(known) => known.name().to_owned(),
            None if dense => format!("DataType {number}"),
            None => "no dense tensor".to_owned(),
        },
        shape: shape.unwrap_or_else(|| Some(Vec::new())),
    })
}

/// Reads a `TensorShapeProto`; `None` for an unknown rank.
fn dims(message: &[u8]) -> Result<Option<Vec<i64>>, BodyFault> {
    let (mut dims, mut unknown) = (Vec::new(), false);
    read("TensorShapeProto", message, |field, value| {
        match field.number {
            2 => {
                let mut size = None;
                read(
                    "TensorShapeProto.Dim",
                    field.bytes(value)?,
                    |field, value| match field.number {
                        1 => field.once(&mut size, field.varint(value)?.cast_signed()),
                        _ => Ok(()),
                    },
                )?;
                push(&mut dims, size.unwrap_or_default(), "dims", MAX_RANK)
            }
            3 => {
                unknown = field.varint(value)? != 0;
                Ok(())
            }
            _ => Ok(()),
        }
    })?;
    Ok((!unknown).then_some(dims))
}
