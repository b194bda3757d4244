//! Files with the tensors of a model: what is safe has exactly the bytes that the model says.

use std::io::Cursor;

use tensorgate_artifact::scan::external_data::{IndexKind, scan_data_file};
use tensorgate_artifact::scan::{Input, Verdict};

use super::input::Slow;
use super::limits;

/// A byte that begins no format and is no padding.
const WEIGHT: u8 = 0xa5;
/// Files that are looked at for a model.
const MAX_FILES: usize = 4;

/// Checks files of so many floats beside a model.
pub(super) fn check(names: &[String], model: &[u8], floats: usize) {
    for name in names.iter().take(MAX_FILES) {
        let length = 4 * floats;
        let verdict = verdict(name, length, &mut Cursor::new(model));
        assert_eq!(
            verdict,
            self::verdict(name, length, &mut Slow(Cursor::new(model)))
        );
        if verdict != Verdict::Safe {
            continue;
        }
        for other in [length - 1, length + 1] {
            let other = self::verdict(name, other, &mut Cursor::new(model));
            assert_ne!(other, Verdict::Safe, "{name} of {length} bytes");
        }
    }
}

/// The verdict on a file of so many bytes beside a model.
fn verdict(name: &str, length: usize, model: &mut dyn Input) -> Verdict {
    let mut data = Cursor::new(vec![WEIGHT; length]);
    let mut indexes = [(IndexKind::Onnx, model)];
    let report = scan_data_file(&mut data, name, &mut indexes, &limits());
    let report = report.expect("it is in memory");
    if report.verdict == Verdict::Safe {
        assert_eq!(report.format, "onnx data");
    }
    report.verdict
}
