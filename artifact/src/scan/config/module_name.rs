//! Files of MLflow and `GluonTS` whose text is the name of a module or class that they import.

use std::io;

use super::super::magic::read_at;
use super::super::{Input, Report, Verdict};
use super::reference::is_import_path;
use super::shown;
use crate::scan::rules;

/// The longest name of a module that is read, bytes. A longer one is none of those known.
const MAX_MODULE_BYTES: u64 = 1 << 10;
/// The file of MLflow with the package of Keras, and what it may be.
const KERAS_FILE: &str = "keras_module.txt";
pub(super) const KERAS: &[&str] = &["keras", "tensorflow.keras", "tf_keras"];
/// The file of MLflow with the module that unpickles, and what it may be.
const PICKLE_FILE: &str = "pickle_module_info.txt";
const PICKLE_MODULES: &[&str] = &["cloudpickle", "mlflow.pytorch.pickle_module", "pickle"];
/// The file of `GluonTS` with the path of a class that it builds. Others have a word here.
const CLASS_FILE: &str = "type.txt";

/// Whether readers import the module whose name is the text of this file. `name` is in lower case.
pub(in crate::scan) fn is_module_name(name: &str) -> bool {
    matches!(name, KERAS_FILE | PICKLE_FILE | CLASS_FILE)
}

/// Scans a text that is the name of a module. `name` is in lower case and without folders.
pub(in crate::scan) fn scan_module_name(input: &mut dyn Input, name: &str) -> io::Result<Report> {
    let mut report = Report::new("text");
    let bytes = read_at(input, 0, MAX_MODULE_BYTES)?;
    let text = String::from_utf8_lossy(&bytes);
    let module = text.trim();
    let is_known = match name {
        KERAS_FILE => KERAS.contains(&module),
        PICKLE_FILE => PICKLE_MODULES.contains(&module),
        // `GluonTS` takes the first line for a path with dots.
        CLASS_FILE => !is_import_path(text.lines().next().unwrap_or_default().trim()),
        _ => false,
    };
    let is_complete = u64::try_from(bytes.len()).is_ok_and(|length| length < MAX_MODULE_BYTES);
    if !is_complete || !is_known {
        let detail = format!("readers import the module {:?}", shown(module));
        report.add(Verdict::Executable, 0, rules::MODULE_NAME, &detail);
    }
    Ok(report)
}
