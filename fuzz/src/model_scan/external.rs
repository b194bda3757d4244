//! Files with the tensors of a model: what is safe has exactly the bytes that the model says.

use std::io::Cursor;

use tensorgate_artifact::scan::external_data::{DataIndex, IndexKind, scan_data_file};
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
    let mut kept = DataIndex::new(IndexKind::Onnx, Cursor::new(model));
    kept.set_max_bytes(MAX_KEPT_BYTES);
    for name in names.iter().take(MAX_FILES) {
        let length = 4 * floats;
        let verdict = verdict(name, length, Cursor::new(model));
        let by_slow_reads = self::verdict(name, length, Slow(Cursor::new(model)));
        assert_eq!(verdict, by_slow_reads);
        assert_eq!(verdict, verdict_by(name, length, &mut kept));
        if verdict != Verdict::Safe {
            continue;
        }
        for other in [length - 1, length + 1] {
            let other = self::verdict(name, other, Cursor::new(model));
            assert_ne!(other, Verdict::Safe, "{name} of {length} bytes");
        }
    }
}

/// The verdict on a file of so many bytes beside a model.
fn verdict(name: &str, length: usize, model: impl Input) -> Verdict {
    verdict_by(name, length, &mut DataIndex::new(IndexKind::Onnx, model))
}

/// The verdict on a file of so many bytes beside this index.
fn verdict_by<I: Input>(name: &str, length: usize, index: &mut DataIndex<I>) -> Verdict {
    let mut data = Cursor::new(vec![WEIGHT; length]);
    let report = scan_data_file(&mut data, name, [index], &limits());
    let report = report.expect("it is in memory");
    if report.verdict == Verdict::Safe {
        assert_eq!(report.format, "onnx data");
    }
    report.verdict
}
