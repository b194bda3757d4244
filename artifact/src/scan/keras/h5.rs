//! Models and weights of Keras in HDF5.
//!
//! A model has its configuration as attributes of the root group. Other attributes are lists of
//! names. Readers of other libraries take attributes for code: PyTables unpickles them. So only
//! those are known that Keras writes, and none of their texts can be a pickle.

use std::io;

use crate::scan::hdf5::{self, Attribute, Watch};
use crate::scan::magic::read_at;
use crate::scan::rules;
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
            let rule = rules::HDF5_ATTRIBUTE;
            report.add(Verdict::Unknown, attribute.offset, rule, &detail);
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
                part.add(Verdict::Unknown, 0, rules::KERAS_CONFIG, detail);
            }
            report.add_part(attribute.name, part);
        } else if !is_plain(text)? {
            let detail = format!("a text of {} is not a name", attribute.name);
            let rule = rules::HDF5_ATTRIBUTE;
            report.add(Verdict::Unknown, attribute.offset, rule, &detail);
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
    let name = read_at(text, 0, MAX_NAME_BYTES)?;
    let is_complete = u64::try_from(name.len()).is_ok_and(|bytes| bytes < MAX_NAME_BYTES);
    let is_printable = |name: &str| !name.chars().any(char::is_control);
    Ok(is_complete && str::from_utf8(&name).is_ok_and(is_printable))
}
