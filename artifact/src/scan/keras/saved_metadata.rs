//! `keras_metadata.pb` of Keras 2 beside a SavedModel: the configuration of each layer as JSON,
//! from which Keras builds the objects again. Those that run code of the file make it executable.

use std::io::{self, Cursor};

use Field::{Message as Inner, Text, Varint};
use Message::{Metadata, Object, Version};

use super::config;
use crate::scan::protobuf::{self, Field, Schema, Visitor};
use crate::scan::rules::{self, Rule};
use crate::scan::source::{Source, Stop, finish};
use crate::scan::{Input, Limits, Report, Verdict};

const RULE: &Rule = rules::SAVED_MODEL_KERAS;
/// How the identifiers of Keras's own objects begin.
const IDENTIFIERS: &str = "_tf_keras_";

/// A type of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    /// `SavedMetadata`
    Metadata,
    /// `SavedObject`
    Object,
    /// `VersionDef`
    Version,
}

impl Schema for Message {
    fn field(self, number: u32) -> Option<Field<Self>> {
        Some(match (self, number) {
            (Metadata, 1) => Inner(Object),
            (Object, 2) | (Version, 1..=3) => Varint,
            (Object, 3..=5) => Text,
            (Object, 6) => Inner(Version),
            _ => return None,
        })
    }
}

struct Configurations;

impl Visitor<Message> for Configurations {
    fn text(
        &mut self,
        _: &[Message],
        field: u32,
        text: String,
        at: u64,
        report: &mut Report,
    ) -> Result<(), Stop> {
        match field {
            4 if !text.starts_with(IDENTIFIERS) => {
                let detail = format!("the object {text:?} is none of Keras");
                report.add(Verdict::Unknown, at, RULE, &detail);
            }
            5 => {
                let (mut found, _) = config::scan(&mut Cursor::new(text))?;
                for finding in &mut found.findings {
                    finding.offset = at;
                }
                report.add_part("the configuration of an object", found);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Scans a file of this name.
///
/// # Errors
/// The input cannot be read.
pub(in crate::scan) fn scan(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("tensorflow saved model");
    let mut source = Source::new(input, RULE)?;
    let walked = protobuf::walk(
        &mut source,
        Metadata,
        limits,
        RULE,
        &mut Configurations,
        &mut report,
    );
    finish(report, walked)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::scan::finding::MAX_FINDINGS;
    use crate::scan::protobuf::write::{bytes, number};
    use crate::scan::{Severity, detect};

    #[test]
    fn code_behind_more_findings_than_are_kept_counts() {
        let unknown = vec![r#"{"class_name": "Mine"}"#; MAX_FINDINGS].join(",");
        for (last, severity) in [
            (r#"{"class_name": "Lambda"}"#, Severity::High),
            (r#"{"module": "os"}"#, Severity::Critical),
        ] {
            for metadata in [format!("[{unknown},{last}]"), format!("[{last}]")] {
                let object = [
                    number(2, 1),
                    bytes(3, "root"),
                    bytes(4, "_tf_keras_layer"),
                    bytes(5, metadata),
                ];
                let mut file = Cursor::new(bytes(1, object.concat()));
                let limits = Limits::default();
                let report = detect::scan(&mut file, "keras_metadata.pb", &limits).unwrap();
                let found = (report.verdict, report.severity());
                assert_eq!(found, (Verdict::Executable, Some(severity)), "{last}");
            }
        }
    }

    #[test]
    fn layers_of_keras_are_safe_and_code_is_not() {
        for (identifier, metadata, expected) in [
            (
                "_tf_keras_layer",
                r#"{"class_name": "Dense", "config": {"units": 2}, "build_input_shape":
                    {"class_name": "TensorShape", "items": [null, 4]}}"#,
                Verdict::Safe,
            ),
            (
                "_tf_keras_model",
                r#"{"training_config": {"optimizer_config": {"class_name": "Custom>Adam"}}}"#,
                Verdict::Safe,
            ),
            (
                "_tf_keras_layer",
                r#"{"class_name": "Custom>Dense"}"#,
                Verdict::Unknown,
            ),
            (
                "_tf_keras_layer",
                r#"{"class_name": "Mine"}"#,
                Verdict::Unknown,
            ),
            ("mine", r#"{"class_name": "Dense"}"#, Verdict::Unknown),
            (
                "_tf_keras_layer",
                r#"{"class_name": "Lambda"}"#,
                Verdict::Executable,
            ),
            ("_tf_keras_layer", "{", Verdict::Malformed),
        ] {
            let object = [
                number(2, 1),
                bytes(3, "root"),
                bytes(4, identifier),
                bytes(5, metadata),
                bytes(6, number(1, 2)),
            ];
            let mut file = Cursor::new(bytes(1, object.concat()));
            let report = detect::scan(&mut file, "keras_metadata.pb", &Limits::default()).unwrap();
            assert_eq!(report.verdict, expected, "{metadata}");
        }
    }
}
