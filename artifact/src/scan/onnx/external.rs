//! External data: in which files beside the model its tensors lie, and where in them.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::scan::finding::{MAX_DATA_FILES, MAX_DATA_FILES_BYTES};
use crate::scan::names::{is_file_name, is_plain_path};
use crate::scan::rules::{self, Rule};
use crate::scan::source::Stop;
use crate::scan::{Report, Verdict};

/// The rule of tensors that lie in other files.
pub(super) const RULE: &Rule = rules::ONNX_EXTERNAL_DATA;
/// How a location begins that ONNX Runtime takes for an address in its own memory.
const MEMORY: &str = "*/_ORT_MEM_ADDR_/";
/// Bytes of a name in a list of JSON beside its letters: two quotes and a comma.
const NAME_FRAME_BYTES: usize = 3;

/// A key and a value of a model.
#[derive(Default)]
pub(super) struct Entry {
    pub(super) key: Option<String>,
    pub(super) value: Option<String>,
}

/// Where the bytes of a tensor are, as its entries say.
#[derive(Default)]
pub(super) struct ExternalData {
    location: Option<String>,
    offset: Option<u64>,
    length: Option<u64>,
}

impl ExternalData {
    /// Takes an entry that ends at `at`.
    pub(super) fn add(
        &mut self,
        entry: Entry,
        at: u64,
        files: &mut Files,
        report: &mut Report,
    ) -> Result<(), Stop> {
        let key = entry.key.unwrap_or_default();
        let value = entry.value.unwrap_or_default();
        let is_first = match key.as_str() {
            "location" => {
                files.add(&value, at, report);
                self.location.replace(value).is_none()
            }
            "offset" => self.offset.replace(number(&key, &value, at)?).is_none(),
            "length" => self.length.replace(number(&key, &value, at)?).is_none(),
            // No runtime compares it.
            "checksum" => true,
            _ => {
                let detail = format!("external data has the unknown key {key:?}");
                report.add(Verdict::Unknown, at, RULE, &detail);
                true
            }
        };
        if is_first {
            return Ok(());
        }
        // Readers take the last one.
        let detail = format!("a tensor has the key {key:?} of external data twice");
        Err(Stop::malformed(at, RULE, detail))
    }

    /// Whether a location, an offset or a length was given.
    pub(super) const fn is_given(&self) -> bool {
        self.location.is_some() || self.offset.is_some() || self.length.is_some()
    }

    /// What is wrong with the place of a tensor of so many bytes.
    pub(super) fn fault(&self, bytes: u64) -> Option<String> {
        if self.location.is_none() {
            return Some("its data lies in another file, which has no location".to_owned());
        }
        let length = self.length.filter(|length| *length != bytes)?;
        Some(format!("external data of {length} bytes for {bytes}"))
    }

    /// The file of a tensor of so many bytes, and its bytes there.
    pub(super) fn range(&self, bytes: u64) -> Option<(&str, Range<u64>)> {
        let start = self.offset.unwrap_or(0);
        let file = self.location.as_deref()?;
        Some((file, start..start.saturating_add(bytes)))
    }
}

/// An offset or a length. All readers understand a number of 63 bits in digits.
fn number(key: &str, value: &str, at: u64) -> Result<u64, Stop> {
    let number = value
        .parse::<i64>()
        .ok()
        .filter(|_| !value.starts_with('+'));
    let number = number.and_then(|number| u64::try_from(number).ok());
    number.filter(|_| !value.starts_with('-')).ok_or_else(|| {
        let detail = format!("the {key} {value:?} of external data");
        Stop::malformed(at, RULE, detail)
    })
}

/// The files in which the tensors of a model lie.
#[derive(Default)]
pub(super) struct Files {
    /// Each with the end of its first entry in the model.
    found: BTreeMap<String, u64>,
    /// Bytes of their names in a list of JSON.
    names_bytes: usize,
    /// The end of the first entry whose file is not kept.
    left_out: Option<u64>,
}

impl Files {
    /// Checks a location, and keeps it.
    fn add(&mut self, location: &str, at: u64, report: &mut Report) {
        if location.starts_with(MEMORY) {
            let detail =
                "a tensor lies at an address in the memory of ONNX Runtime, which it reads";
            report.add(Verdict::Executable, at, rules::ONNX_MEMORY_ADDRESS, detail);
            return;
        }
        if !is_plain_path(location) {
            let detail = format!("a tensor lies in {location:?}, which may leave the folder");
            report.add(Verdict::Executable, at, rules::ONNX_EXTERNAL_PATH, &detail);
            return;
        }
        if self.found.contains_key(location) {
            return;
        }
        // A quote is escaped in JSON.
        let quotes = location.matches('"').count();
        let bytes = location.len().saturating_add(quotes);
        let bytes = bytes.saturating_add(NAME_FRAME_BYTES);
        let names_bytes = self.names_bytes.saturating_add(bytes);
        if self.found.len() >= MAX_DATA_FILES || names_bytes > MAX_DATA_FILES_BYTES {
            self.left_out = self.left_out.or(Some(at));
            return;
        }
        self.names_bytes = names_bytes;
        self.found.insert(location.to_owned(), at);
    }

    /// Reports each file. If nothing else is wrong with the model, the report lists them.
    pub(super) fn report(self, report: &mut Report) {
        let are_beside = self.found.keys().all(|name| is_file_name(name));
        let is_alone = report.verdict == Verdict::Safe && are_beside && self.left_out.is_none();
        for (name, at) in &self.found {
            let mut detail = format!("tensors lie in {name:?}");
            if !is_file_name(name) {
                detail.push_str(", which is in another folder");
            }
            report.add(Verdict::Unknown, *at, RULE, &detail);
        }
        if let Some(at) = self.left_out {
            let detail = format!(
                "tensors lie in more than {MAX_DATA_FILES} files, or in files with longer names than are followed"
            );
            report.add(Verdict::Unknown, at, RULE, &detail);
        }
        if is_alone {
            report.data_files = self.found.into_keys().collect();
        }
    }
}
