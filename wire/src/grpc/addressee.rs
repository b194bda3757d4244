//! The addressee of a message without decoding it: model and version are fields 1 and 2 of every
//! OIP inference request, and of the message in field 1 of TF Serving's.
//!
//! Only the top level is scanned, in a limited number of steps. Faults are left to the decoder.

use std::borrow::Cow;

use tensorgate_policy::decision::Addressee;

use super::predict::Spec;
use super::protobuf::{FieldRef, Value, read};
use super::request::named;
use crate::fault::BodyFault;
use crate::limits::{MAX_INPUTS, MAX_NAME_BYTES, MAX_OUTPUTS, MAX_PARAMETERS};

/// Maximum fields of a valid message: model, version, id, parameters, inputs with raw contents,
/// outputs.
const MAX_FIELDS: usize = 3 + MAX_PARAMETERS + 2 * MAX_INPUTS + MAX_OUTPUTS;

/// Model and version of a message; `None` if decoding is needed.
pub(crate) fn addressee(message: &[u8]) -> Option<Addressee<'_>> {
    let (mut model, mut version) = (None, None);
    look(message, |field, value| match field.number {
        1 => field.once(&mut model, field.text_of(value, MAX_NAME_BYTES)?),
        2 => field.once(&mut version, field.text_of(value, MAX_NAME_BYTES)?),
        _ => Ok(()),
    })?;
    named_model(model, named(version))
}

/// The same for a request whose first field is a `ModelSpec`.
pub(crate) fn addressee_in_spec(message: &[u8]) -> Option<Addressee<'_>> {
    let mut spec = None;
    look(message, |field, value| match field.number {
        1 => field.once(&mut spec, Spec::read(field.bytes(value)?)?),
        _ => Ok(()),
    })?;
    let Spec { model, version, .. } = spec?;
    named_model(model, version)
}

/// Scans all fields of the top level; `None` if there are too many or one is invalid.
fn look<'a>(
    message: &'a [u8],
    mut visit: impl FnMut(FieldRef, Value<'a>) -> Result<(), BodyFault>,
) -> Option<()> {
    let mut fields = 0_usize;
    read("the request", message, |field, value| {
        fields = fields.saturating_add(1);
        if fields > MAX_FIELDS {
            return Err(BodyFault::TooMany {
                what: "fields",
                max: MAX_FIELDS,
            });
        }
        visit(field, value)
    })
    .ok()
}

/// A message without a model has no addressee.
fn named_model<'a>(model: Option<&'a str>, version: Option<Cow<'a, str>>) -> Option<Addressee<'a>> {
    Some(Addressee {
        model: model.filter(|model| !model.is_empty())?.into(),
        version,
        streams: false,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]

    use super::*;

    fn named(model: &'static str, version: Option<&'static str>) -> Option<Addressee<'static>> {
        Some(Addressee {
            model: model.into(),
            version: version.map(Into::into),
            streams: false,
        })
    }

    #[test]
    fn the_model_name_is_found_at_any_position_and_ambiguity_is_left_to_the_decoder() {
        let many = b"\x22\0".repeat(MAX_FIELDS);
        for (message, expected) in [
            (&b"\x0a\x01m"[..], named("m", None)),
            (b"\x0a\x01m\x12\x011", named("m", Some("1"))),
            (b"\x12\x011\x2a\x03abc\x0a\x01m", named("m", Some("1"))),
            // An empty string counts as absent.
            (b"\x0a\x01m\x12\0", named("m", None)),
            // Tensors are not scanned; unknown fields are left to the decoder.
            (b"\x0a\x01m\x2a\x02\xff\xff\x78\x01", named("m", None)),
            (b"", None),
            (b"\x0a\0", None),
            (b"\x12\x011", None),
            (b"\x0a\x01m\x0a\x01n", None),
            (b"\x0a\x01m\x12\x011\x12\x012", None),
            (b"\x0a\x01m\x12\0\x12\x012", None),
            (b"\x0a\x01\xff", None),
            (b"\x08\x01", None),
            (b"\x0a\x01m\x12\x05", None),
            (b"\x0a\x01m\x0b\x0c", None),
            (&many, None),
            (&[&b"\x0a\x01m"[..], &many].concat(), None),
            (&[&b"\x0a\x01m"[..], &many[2..]].concat(), named("m", None)),
        ] {
            assert_eq!(addressee(message), expected, "{message:x?}");
        }
    }

    #[test]
    fn a_model_spec_is_read_in_its_own_message() {
        for (message, expected) in [
            (&b"\x0a\x03\x0a\x01m"[..], named("m", None)),
            (b"\x0a\x07\x0a\x01m\x12\x02\x08\x07", named("m", Some("7"))),
            (b"\x0a\x05\x0a\x01m\x12\0", named("m", Some("0"))),
            (b"\x0a\x09\x0a\x01m\x22\x04beta", named("m", Some("beta"))),
            (b"\x12\x02\xff\xff\x0a\x03\x0a\x01m", named("m", None)),
            // Two versions, both kinds of version, two specs, none: left to the decoder.
            (b"\x0a\x06\x0a\x01m\x22\x017", None),
            (b"\x0a\x0a\x0a\x01m\x12\x02\x08\x01\x22\x01b", None),
            (b"\x0a\x03\x0a\x01m\x0a\x03\x0a\x01m", None),
            (b"\x0a\0", None),
            (b"", None),
            (b"\x0a\x05\x0a\x01m\x28\x01", None),
        ] {
            assert_eq!(addressee_in_spec(message), expected, "{message:x?}");
        }
    }
}
