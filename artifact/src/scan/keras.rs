//! Keras's `.keras`: a zip file with a configuration that names classes, and weights.

mod builtin;
mod config;

use std::io::{self, BufReader, Read as _, SeekFrom};

use serde::de::IgnoredAny;

use super::container::{self, Profile};
use super::{Input, Limits, Report, Verdict, input};

const CONFIG: &str = "config.json";
const METADATA: &str = "metadata.json";
const WEIGHTS: &str = "model.weights.h5";
/// How a file of HDF5 begins.
const HDF5: [u8; 8] = *b"\x89HDF\r\n\x1a\n";
/// Bytes of the file that names the version of Keras.
const MAX_METADATA_BYTES: u64 = 64 << 10;

/// A file of Keras, version 3.
#[derive(Default)]
pub(super) struct Keras {
    has_config: bool,
}

impl Profile for Keras {
    fn format(&self) -> &'static str {
        "keras"
    }

    fn observe(&mut self, name: &str) {
        // The only member that Keras needs to build a model. A folder that is extracted has it in
        // each case.
        self.has_config |= name.eq_ignore_ascii_case(CONFIG);
    }

    fn matches(&self) -> bool {
        self.has_config
    }

    fn member(&mut self, name: &str, input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
        match name.to_ascii_lowercase().as_str() {
            CONFIG => scan_config(name, input, limits),
            METADATA => scan_metadata(input),
            WEIGHTS => scan_weights(input),
            lower => {
                let mut report = container::member(name, input, limits)?;
                if !lower.starts_with("assets/") {
                    let detail = "not a member of files of Keras";
                    report.add(Verdict::Unknown, 0, "keras-member", detail);
                }
                Ok(report)
            }
        }
    }

    fn finish(&mut self, _report: &mut Report) {}
}

fn scan_config(name: &str, input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let length = input::length(input)?;
    if u64::try_from(limits.header_bytes).is_ok_and(|most| length > most) {
        let mut report = Report::new("keras config");
        let detail = format!("a configuration of {length} bytes is more than is read");
        report.add(Verdict::Unknown, 0, "keras-config-size", &detail);
        return Ok(report);
    }
    input.seek(SeekFrom::Start(0))?;
    let (mut report, is_model) = config::scan(input)?;
    if !is_model {
        // A configuration of another library, in an archive of its folder.
        let detail = "the configuration names no class of a model";
        report.add(Verdict::Unknown, 0, "keras-config", detail);
        input.seek(SeekFrom::Start(0))?;
        let other = container::member(name, input, limits)?;
        report.add_part("the configuration", other);
    }
    Ok(report)
}

fn scan_metadata(input: &mut dyn Input) -> io::Result<Report> {
    let mut report = Report::new("keras metadata");
    let text = BufReader::new(input.take(MAX_METADATA_BYTES));
    if let Err(error) = serde_json::from_reader::<_, IgnoredAny>(text) {
        if error.is_io() {
            return Err(error.into());
        }
        let detail = format!("not JSON: {error}");
        report.add(Verdict::Malformed, 0, "keras-metadata", &detail);
    }
    Ok(report)
}

fn scan_weights(input: &mut dyn Input) -> io::Result<Report> {
    let mut report = Report::new("hdf5");
    let mut signature = Vec::new();
    input
        .take(u64::try_from(HDF5.len()).unwrap_or(0))
        .read_to_end(&mut signature)?;
    if signature == HDF5 {
        let detail = "weights in HDF5, which can refer to other files, are not followed";
        report.add(Verdict::Unknown, 0, "keras-weights", detail);
    } else {
        let detail = "the weights are not HDF5";
        report.add(Verdict::Malformed, 0, "keras-weights", detail);
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::scan::zip::build::{File, zip};
    use std::io::Cursor;

    #[test]
    fn members_are_known_and_weights_are_not_followed() {
        let model = br#"{"module": "keras", "class_name": "Sequential", "config": {}}"#;
        let scan = |config: &[u8], weights: &[u8]| {
            let files = [
                File::stored("metadata.json", br#"{"keras_version": "3.15.1"}"#),
                File::stored("config.json", config),
                File::stored("model.weights.h5", weights),
            ];
            let mut file = Cursor::new(zip(&files));
            crate::scan::zip::scan(&mut file, &Limits::default()).unwrap()
        };
        let report = scan(model, b"\x89HDF\r\n\x1a\n");
        assert_eq!((report.format, report.verdict), ("keras", Verdict::Unknown));
        let rules: Vec<_> = report.findings.iter().map(|finding| finding.rule).collect();
        assert_eq!(rules, ["keras-weights"]);
        assert_eq!(scan(model, b"\x80\x04.").verdict, Verdict::Malformed);
        let lambda = br#"{"module": "keras.layers", "class_name": "Lambda", "config": {}}"#;
        let report = scan(lambda, b"\x89HDF\r\n\x1a\n");
        assert_eq!(report.verdict, Verdict::Executable);
    }
}
