//! `fingerprint.pb` beside a SavedModel: hashes of its parts, which readers compare or log.

use std::io;

use Field::{Message as Inner, Text, Varint};
use Message::{Fingerprint, Version};

use crate::scan::protobuf::{self, Field, Schema, Visitor};
use crate::scan::rules::{self, Rule};
use crate::scan::source::{Source, Stop, finish};
use crate::scan::{Input, Limits, Report};

const RULE: &Rule = rules::SAVED_MODEL_FINGERPRINT;
/// The longest file, bytes. Those of TensorFlow have about a hundred.
const MAX_BYTES: u64 = 4_096;
/// The longest identifier, bytes.
const MAX_ID_BYTES: usize = 64;

/// A type of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    /// `FingerprintDef`
    Fingerprint,
    /// `VersionDef`
    Version,
}

impl Schema for Message {
    fn field(self, number: u32) -> Option<Field<Self>> {
        Some(match (self, number) {
            (Fingerprint, 1..=5) | (Version, 1..=3) => Varint,
            (Fingerprint, 6) => Inner(Version),
            (Fingerprint, 7) => Text,
            _ => return None,
        })
    }
}

/// Nothing is kept.
struct Fields;

impl Visitor<Message> for Fields {
    fn text(
        &mut self,
        _: &[Message],
        _: u32,
        text: String,
        at: u64,
        _: &mut Report,
    ) -> Result<(), Stop> {
        let is_id = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
        if text.len() > MAX_ID_BYTES || !text.bytes().all(is_id) {
            return Err(Stop::unknown(at, RULE, "an identifier that is none"));
        }
        Ok(())
    }
}

/// Scans a file of this name.
///
/// # Errors
/// The input cannot be read.
pub(in crate::scan) fn scan(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("saved model fingerprint");
    let mut source = Source::new(input, RULE)?;
    let walked = if source.length() > MAX_BYTES {
        let detail = format!("{} bytes are more than hashes need", source.length());
        Err(Stop::unknown(0, RULE, detail))
    } else {
        protobuf::walk(
            &mut source,
            Fingerprint,
            limits,
            RULE,
            &mut Fields,
            &mut report,
        )
    };
    finish(report, walked)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::io::Cursor;

    use super::*;
    use crate::scan::protobuf::write::{bytes, number};
    use crate::scan::{Verdict, detect};

    #[test]
    fn hashes_are_safe_in_any_order() {
        let version = bytes(6, number(1, 4));
        let hashes = [number(1, u64::MAX), number(5, 3)].concat();
        let id = bytes(7, "303075951080517117");
        let scan = |name: &str, content: &[u8]| {
            let mut file = Cursor::new(content.to_vec());
            detect::scan(&mut file, name, &Limits::default()).unwrap()
        };
        for content in [
            [&hashes[..], &version, &id].concat(),
            [&version[..], &hashes].concat(),
            version.clone(),
            // Like a SavedModel.
            [number(1, 1), number(2, 2)].concat(),
        ] {
            let report = scan("fingerprint.pb", &content);
            let found = (report.format, report.verdict);
            assert_eq!(
                found,
                ("saved model fingerprint", Verdict::Safe),
                "{report:?}"
            );
        }
        let large = bytes(8, vec![7; 1 << 20]);
        for content in [
            [&hashes[..], &large].concat(),
            [&hashes[..], &bytes(7, vec![b'a'; 1 << 20])].concat(),
            [&hashes[..], &bytes(8, "")].concat(),
            [&hashes[..], &bytes(7, "cos\nsystem\n")].concat(),
            [&hashes[..], &bytes(6, bytes(4, "x"))].concat(),
            [&hashes[..], b"\x08"].concat(),
            // A graph, whose node would be a list of numbers.
            bytes(1, [bytes(1, "w"), bytes(2, "WriteFile")].concat()),
        ] {
            let report = scan("fingerprint.pb", &content);
            assert_ne!(report.verdict, Verdict::Safe, "{report:?}");
        }
        // Only by this name.
        assert_ne!(scan("saved_model.pb", &hashes).verdict, Verdict::Safe);
    }
}
