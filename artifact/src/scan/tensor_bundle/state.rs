//! `checkpoint`: a text that names the checkpoints of a folder, from the latest on.
//!
//! It is a text protobuf, `CheckpointState`, which TensorFlow writes one field a line.

use std::io;

use crate::scan::names::is_plain_path;
use crate::scan::rules::{self, Rule};
use crate::scan::source::{Source, Stop, finish};
use crate::scan::{Input, Limits, Report, Verdict};

const RULE: &Rule = rules::CHECKPOINT_STATE;
/// The longest file, bytes.
const MAX_BYTES: usize = 1 << 20;
/// Fields of paths.
const PATHS: [&str; 2] = ["all_model_checkpoint_paths", "model_checkpoint_path"];
/// Fields of times.
const TIMES: [&str; 2] = [
    "all_model_checkpoint_timestamps",
    "last_preserved_timestamp",
];

/// Scans a text of this name.
///
/// # Errors
/// The input cannot be read.
pub(in crate::scan) fn scan(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("text");
    let mut source = Source::new(input, RULE)?;
    let walked = walk(&mut source, limits, &mut report);
    finish(report, walked)
}

fn walk(source: &mut Source<'_>, limits: &Limits, report: &mut Report) -> Result<(), Stop> {
    let most = MAX_BYTES.min(limits.header_bytes);
    let length = usize::try_from(source.length()).ok();
    let Some(length) = length.filter(|length| *length <= most) else {
        return Err(Stop::unknown(
            0,
            RULE,
            "a text that is longer than it needs to be",
        ));
    };
    let bytes = source.read_bytes(length)?;
    let mut at = 0_u64;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let text = str::from_utf8(line).map(str::trim);
        let field = text.ok().and_then(|text| text.split_once(": "));
        match (text, field) {
            (Ok(""), _) => {}
            (_, Some((name, value))) if PATHS.contains(&name) => check(value, at, report)?,
            (_, Some((name, value))) if TIMES.contains(&name) && is_number(value) => {}
            _ => return Err(Stop::unknown(at, RULE, "a line that names no checkpoint")),
        }
        at = at.saturating_add(u64::try_from(line.len()).unwrap_or(u64::MAX));
    }
    Ok(())
}

/// Checks a path, in quotes.
fn check(value: &str, at: u64, report: &mut Report) -> Result<(), Stop> {
    let path = value
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let Some(path) = path.filter(|path| !path.contains(['"', '\\'])) else {
        return Err(Stop::unknown(
            at,
            RULE,
            "a path that is no plain text in quotes",
        ));
    };
    if is_plain_path(path) {
        return Ok(());
    }
    // A saver writes the path of the machine that trained. Only a program that asks for the latest
    // checkpoint goes there.
    if path.strip_prefix('/').is_some_and(is_plain_path) {
        let detail = format!("the checkpoint {path:?} is on the machine that saved it");
        report.add(Verdict::Unknown, at, RULE, &detail);
    } else {
        let detail = format!("the checkpoint {path:?} may be outside of the folder");
        report.add(Verdict::Executable, at, RULE, &detail);
    }
    Ok(())
}

fn is_number(text: &str) -> bool {
    text.bytes()
        .all(|c| c.is_ascii_digit() || matches!(c, b'.' | b'e' | b'+' | b'-'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::io::Cursor;

    use super::*;
    use crate::scan::detect;

    #[test]
    fn checkpoints_stay_in_their_folder() {
        for (text, expected) in [
            (
                "model_checkpoint_path: \"ckpt-1\"\nlast_preserved_timestamp: 1.5\n",
                Verdict::Safe,
            ),
            ("all_model_checkpoint_paths: \"a/ckpt-1\"\n", Verdict::Safe),
            (
                "model_checkpoint_path: \"../ckpt-1\"\n",
                Verdict::Executable,
            ),
            ("model_checkpoint_path: \"/tmp/ckpt-1\"\n", Verdict::Unknown),
            (
                "model_checkpoint_path: \"/tmp/../etc/ckpt-1\"\n",
                Verdict::Executable,
            ),
            (
                "model_checkpoint_path: \"//host/ckpt-1\"\n",
                Verdict::Executable,
            ),
            (
                "model_checkpoint_path: \"gs://a/ckpt-1\"\n",
                Verdict::Executable,
            ),
            ("model_checkpoint_path: \"\\x2fetc\"\n", Verdict::Unknown),
            (
                "model_checkpoint_path: \"a\" model_checkpoint_path: \"/b\"\n",
                Verdict::Unknown,
            ),
            ("handler: \"a\"\n", Verdict::Unknown),
        ] {
            let mut file = Cursor::new(text.as_bytes().to_vec());
            let report = detect::scan(&mut file, "checkpoint", &Limits::default()).unwrap();
            assert_eq!(report.verdict, expected, "{text}");
        }
    }
}
