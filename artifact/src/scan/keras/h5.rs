//! Models and weights of Keras in HDF5.
//!
//! A model has its configuration as attributes of the root group. Other attributes are lists of
//! names. Readers of other libraries take attributes for code: PyTables unpickles them. So only
//! those are known that Keras writes, and none of their texts can be a pickle.

use std::io::{self, Read as _};

use crate::scan::hdf5::{self, Attribute, Watch};
use crate::scan::{Input, Limits, Report, Verdict};

/// The attribute of the root group that a model is built from.
const MODEL: &str = "model_config";
/// What it was trained with.
const TRAINING: &str = "training_config";
/// Attributes with a name or a version.
const NAMES: [&str; 4] = ["backend", "dtype", "keras_version", "name"];
/// Attributes with lists of names. Keras puts a number behind the name to split a long one.
const LISTS: [&str; 2] = ["layer_names", "weight_names"];
/// The longest name, bytes.
const MAX_NAME_BYTES: u64 = 64 << 10;

/// Scans a file of HDF5.
///
/// # Errors
/// The input cannot be read.
pub(in crate::scan) fn scan(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    hdf5::scan(input, limits, &mut Attributes { limits })
}

/// What the attributes mean.
struct Attributes<'l> {
    limits: &'l Limits,
}

impl Watch for Attributes<'_> {
    fn attribute(&mut self, attribute: &Attribute<'_>, report: &mut Report) {
        let name = attribute.name;
        let unnumbered = name.trim_end_matches(|c: char| c.is_ascii_digit());
        if !is_config(attribute) && !NAMES.contains(&name) && !LISTS.contains(&unnumbered) {
            let detail = format!("the attribute {name:?} is not one of Keras");
            report.add(
                Verdict::Unknown,
                attribute.offset,
                "hdf5-attribute",
                &detail,
            );
        }
    }

    fn text(
        &mut self,
        attribute: &Attribute<'_>,
        text: &mut dyn Input,
        report: &mut Report,
    ) -> io::Result<()> {
        if is_config(attribute) {
            let (mut part, is_model) = super::bounded_config(text, self.limits)?;
            if attribute.name == MODEL && !is_model {
                let detail = "the configuration names no class of a model";
                part.add(Verdict::Unknown, 0, "keras-config", detail);
            }
            report.add_part(attribute.name, part);
        } else if !is_plain(text)? {
            let detail = format!("a text of {} is not a name", attribute.name);
            report.add(
                Verdict::Unknown,
                attribute.offset,
                "hdf5-attribute",
                &detail,
            );
        }
        Ok(())
    }
}

fn is_config(attribute: &Attribute<'_>) -> bool {
    attribute.is_root && matches!(attribute.name, MODEL | TRAINING)
}

/// Whether a text is short and printable. A pickle that imports a name has line breaks or bytes
/// that are not text.
fn is_plain(text: &mut dyn Input) -> io::Result<bool> {
    let mut name = String::new();
    match text
        .take(MAX_NAME_BYTES.saturating_add(1))
        .read_to_string(&mut name)
    {
        Ok(length) => Ok(
            u64::try_from(length).is_ok_and(|length| length <= MAX_NAME_BYTES)
                && !name.chars().any(char::is_control),
        ),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(false),
        Err(error) => Err(error),
    }
}
