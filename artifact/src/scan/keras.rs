//! Keras's `.keras`: a zip file with a configuration that names classes, and weights in HDF5.

mod builtin;
mod config;
pub(super) mod h5;
pub(super) mod saved_metadata;

use std::io::{self, SeekFrom};

use super::container::{self, Profile, ScanFile};
use super::{Input, Limits, Report, Verdict, input};
use crate::scan::rules;

const CONFIG: &str = "config.json";
const METADATA: &str = "metadata.json";
const WEIGHTS: &str = "model.weights.h5";

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

    fn member(
        &mut self,
        name: &str,
        input: &mut dyn Input,
        limits: &Limits,
        scan_file: ScanFile,
    ) -> io::Result<Report> {
        match name.to_ascii_lowercase().as_str() {
            CONFIG => scan_config(name, input, limits, scan_file),
            lower => {
                let mut report = container::member(name, input, limits, scan_file)?;
                if !matches!(lower, METADATA | WEIGHTS) && !lower.starts_with("assets/") {
                    let detail = "not a member of files of Keras";
                    report.add(Verdict::Unknown, 0, rules::KERAS_MEMBER, detail);
                }
                Ok(report)
            }
        }
    }

    fn finish(&mut self, _report: &mut Report) {}
}

fn scan_config(
    name: &str,
    input: &mut dyn Input,
    limits: &Limits,
    scan_file: ScanFile,
) -> io::Result<Report> {
    let (mut report, is_model) = bounded_config(input, limits)?;
    if !is_model {
        // A configuration of another library, in an archive of its folder.
        let detail = "the configuration names no class of a model";
        report.add(Verdict::Unknown, 0, rules::KERAS_CONFIG, detail);
        input.seek(SeekFrom::Start(0))?;
        let other = container::member(name, input, limits, scan_file)?;
        report.add_part("the configuration", other);
    }
    Ok(report)
}

/// Scans a configuration of a bounded length. The second part is whether its outermost object names
/// a class, or may do so because it is too long to be read.
pub(super) fn bounded_config(input: &mut dyn Input, limits: &Limits) -> io::Result<(Report, bool)> {
    let length = input::length(input)?;
    if u64::try_from(limits.header_bytes).is_ok_and(|most| length > most) {
        let mut report = Report::new("keras config");
        let detail = format!("a configuration of {length} bytes is more than is read");
        report.add(Verdict::Unknown, 0, rules::KERAS_CONFIG_SIZE, &detail);
        return Ok((report, true));
    }
    config::scan(input)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::scan::hdf5::build::Writer;
    use crate::scan::zip::build::{File, zip};
    use crate::scan::{detect, zip};
    use std::io::Cursor;

    #[test]
    fn each_member_is_scanned_and_weights_are_hdf5() {
        let model = br#"{"module": "keras", "class_name": "Sequential", "config": {}}"#;
        let scan = |config: &[u8], weights: &[u8]| {
            let files = [
                File::stored("metadata.json", br#"{"keras_version": "3.15.1"}"#),
                File::stored("config.json", config),
                File::deflated("model.weights.h5", weights),
            ];
            let mut file = Cursor::new(zip(&files));
            zip::scan(&mut file, &Limits::default(), detect::scan).unwrap()
        };
        let weights = Writer::new().file();
        let report = scan(model, &weights);
        assert_eq!((report.format, report.verdict), ("keras", Verdict::Safe));
        let cut = weights.split_last().unwrap().1;
        assert_eq!(scan(model, cut).verdict, Verdict::Malformed);
        assert_eq!(scan(model, b"\x80\x04.").verdict, Verdict::Malformed);
        let lambda = br#"{"module": "keras.layers", "class_name": "Lambda", "config": {}}"#;
        assert_eq!(scan(lambda, &weights).verdict, Verdict::Executable);
    }

    #[test]
    fn an_archive_without_a_configuration_is_no_model() {
        let weights = Writer::new().file();
        let file = zip(&[File::stored(WEIGHTS, &weights)]);
        for (name, expected) in [("a.keras", Verdict::Malformed), ("a.zip", Verdict::Safe)] {
            let mut file = Cursor::new(file.clone());
            let report = detect::scan(&mut file, name, &Limits::default()).unwrap();
            assert_eq!(report.verdict, expected, "{name}: {report:?}");
        }
    }
}
