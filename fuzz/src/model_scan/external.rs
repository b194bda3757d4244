//! Files with the tensors of a model: what is safe has exactly the bytes that the model says.

use std::io::Cursor;

use tensorgate_artifact::scan::external_data::{DataIndex, IndexKind, KeptIndex, scan_data_file};
use tensorgate_artifact::scan::{Input, Verdict};

use super::input::Slow;
use super::limits;

/// A byte that begins no format and is no padding.
const WEIGHT: u8 = 0xa5;
/// Files that are looked at for a model.
const MAX_FILES: usize = 4;
/// Memory for the tensors of a model that is read once, bytes.
const MAX_KEPT_BYTES: usize = 1 << 20;

/// Checks files of so many floats beside a model.
pub(super) fn check(names: &[String], model: &[u8], floats: usize) {
    let mut kept = KeptIndex::new(IndexKind::Onnx);
    kept.open(Cursor::new(model));
    kept.set_max_bytes(MAX_KEPT_BYTES);
    for name in names.iter().take(MAX_FILES) {
        let length = 4 * floats;
        let verdict = verdict(name, length, &mut Cursor::new(model));
        assert_eq!(
            verdict,
            self::verdict(name, length, &mut Slow(Cursor::new(model)))
        );
        let indexes = std::slice::from_mut(&mut kept);
        assert_eq!(verdict, verdict_by(name, length, indexes));
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
    verdict_by(name, length, &mut [(IndexKind::Onnx, model)])
}

/// The verdict on a file of so many bytes beside these indexes.
fn verdict_by<I: DataIndex>(name: &str, length: usize, indexes: &mut [I]) -> Verdict {
    let mut data = Cursor::new(vec![WEIGHT; length]);
    let report = scan_data_file(&mut data, name, indexes, &limits());
    let report = report.expect("it is in memory");
    if report.verdict == Verdict::Safe {
        assert_eq!(report.format, "onnx data");
    }
    report.verdict
}
