//! Fuzz target: the scan of a file of a model, with a name.
//!
//! Every input has a verdict, which is that of its findings. It is the same again if reads give few
//! bytes at a time, as those of some file systems do.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use tensorgate_artifact::scan::finding::MAX_FINDINGS;
use tensorgate_artifact::scan::{Limits, Verdict, detect};

/// Names with which the first byte begins a scan.
const NAMES: [&str; 16] = [
    "blob",
    "config.json",
    "model.gguf",
    "model.joblib",
    "model.keras",
    "model.mar",
    "model.npy",
    "model.npz",
    "model.onnx",
    "model.pkl",
    "model.pt",
    "model.safetensors",
    "model.tflite",
    "model.ubj",
    "model.yaml",
    "saved_model.pb",
];

/// Runs one input.
pub fn run(data: &[u8]) {
    let Some((first, content)) = data.split_first() else {
        return;
    };
    let name = NAMES[usize::from(*first) % NAMES.len()];
    let limits = Limits {
        header_bytes: 64 << 10,
        entries: 1_000,
        expanded_bytes: 1 << 20,
        operations: 10_000,
        ..Limits::default()
    };
    let report = detect::scan(&mut Cursor::new(content), name, &limits).expect("it is in memory");
    assert!(report.findings.len() <= MAX_FINDINGS);
    let worst = report.findings.iter().map(|finding| finding.verdict).max();
    if report.findings.len() < MAX_FINDINGS {
        assert_eq!(report.verdict, worst.unwrap_or(Verdict::Safe), "{report:?}");
    }
    let again = detect::scan(&mut Slow(Cursor::new(content)), name, &limits);
    assert_eq!(again.expect("it is in memory"), report);
}

/// An input whose reads give at most three bytes.
struct Slow<'d>(Cursor<&'d [u8]>);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(3);
        self.0.read(&mut buffer[..most])
    }
}

impl Seek for Slow<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}
