//! Files of a model: the names of their formats.

use alloc::string::String;

use super::report::Path;
use crate::raw;
use crate::values::ModelFormat;

/// Checks the names of formats. No host of this version compares files with them, so a policy that
/// has them is an error.
pub(super) fn artifact(path: &Path, raw: Option<&raw::Artifact>) -> Option<()> {
    let Some(raw) = raw else {
        return Some(());
    };
    let path = path.field("formats");
    let names = path.required(raw.formats.as_ref(), "formats: [safetensors]")?;
    known_once(&path, names);
    path.fail_with_fix(
        "model formats are not enforced in this version",
        "remove artifact, and check the files with `tensorgate model scan`",
    )
}

/// Reports an empty list, unknown names and duplicates.
fn known_once(path: &Path, names: &[String]) {
    path.not_empty(names, "[safetensors]");
    path.distinct(names);
    for (index, name) in names.iter().enumerate() {
        if ModelFormat::from_name(name).is_none() {
            let known = ModelFormat::ALL.map(ModelFormat::name);
            path.index(index)
                .unknown_of::<()>("model format", name, &known);
        }
    }
}
