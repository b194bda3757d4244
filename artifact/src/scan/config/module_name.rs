//! Files of MLflow whose text is the name of a module that it imports.

use std::io;

use super::super::magic::read_at;
use super::super::{Input, Report, Verdict};
use super::forms::modules_of_file;
use super::shown;

/// The longest name of a module that is read, bytes. A longer one is none of those known.
const MAX_MODULE_BYTES: u64 = 1 << 10;

/// Whether readers import the module whose name is the text of this file. `name` is in lower case.
pub(in crate::scan) fn is_module_name(name: &str) -> bool {
    modules_of_file(name).is_some()
}

/// Scans a text that is the name of a module. `name` is in lower case and without folders.
pub(in crate::scan) fn scan_module_name(input: &mut dyn Input, name: &str) -> io::Result<Report> {
    let mut report = Report::new("text");
    let bytes = read_at(input, 0, MAX_MODULE_BYTES)?;
    let text = String::from_utf8_lossy(&bytes);
    let is_complete = u64::try_from(bytes.len()).is_ok_and(|length| length < MAX_MODULE_BYTES);
    let modules = modules_of_file(name).unwrap_or_default();
    if !is_complete || !modules.contains(&text.trim()) {
        let detail = format!("readers import the module {:?}", shown(text.trim()));
        report.add(Verdict::Executable, 0, "module-name", &detail);
    }
    Ok(report)
}
