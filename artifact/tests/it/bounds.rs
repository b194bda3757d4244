//! The memory that a scan takes and the bytes that it reads, for files that would take much more of
//! both without the bounds of their formats.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use tensorgate_artifact::scan::external_data::{DataIndex, IndexKind, scan_data_file};
use tensorgate_artifact::scan::{Limits, Verdict, detect};

use super::large_files;
use super::peak_memory::with_peak;

/// A quarter of what a scanner process may write.
const MAX_MEMORY_BYTES: isize = 64 << 20;
/// How often a file may be read: each format whose reader may take it looks at it once or twice.
const MAX_READINGS: u64 = 16;
/// What is read of a short file again and again, such as its end.
const FREE_BYTES: u64 = 1 << 20;

/// A file in memory that counts the bytes that are read.
struct Counted {
    file: Cursor<Vec<u8>>,
    bytes: u64,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(into)?;
        self.bytes += u64::try_from(count).unwrap();
        Ok(count)
    }
}

impl Seek for Counted {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Counted {
    fn new(content: Vec<u8>) -> Self {
        Self {
            file: Cursor::new(content),
            bytes: 0,
        }
    }
}

/// Scans a file. The result is the verdict, the most bytes in use and the bytes that were read.
fn measure(name: &str, content: Vec<u8>) -> (Verdict, isize, u64) {
    let mut file = Counted::new(content);
    let limits = Limits::default();
    let (report, memory) = with_peak(|| detect::scan(&mut file, name, &limits).unwrap());
    (report.verdict, memory, file.bytes)
}

#[test]
fn a_scan_takes_little_memory_and_reads_a_file_a_few_times() {
    for (name, make) in large_files::ALL {
        let content = make();
        let length = u64::try_from(content.len()).unwrap();
        let (verdict, memory, read) = measure(name, content);
        // It is not followed to its end.
        assert_ne!(verdict, Verdict::Safe, "{name}");
        assert!(
            memory <= MAX_MEMORY_BYTES,
            "{name}: {memory} bytes of memory"
        );
        let most = length * MAX_READINGS + FREE_BYTES;
        assert!(read <= most, "{name}: {read} bytes of {length} were read");
    }
}

#[test]
fn a_model_is_read_once_for_all_of_its_data_files() {
    let names: Vec<_> = (0..100).map(|n| format!("w{n}.data")).collect();
    let model = large_files::model_with_data(&names);
    let length = u64::try_from(model.len()).unwrap();
    let limits = Limits::default();
    let mut counted = Counted::new(model);
    let mut index = DataIndex::new(IndexKind::Onnx, &mut counted);
    index.set_max_bytes(1 << 20);
    for name in &names {
        let mut data = Cursor::new([0xa5_u8; 8]);
        let report = scan_data_file(&mut data, name, [&mut index], &limits).unwrap();
        assert_eq!(report.verdict, Verdict::Safe, "{name}: {report:?}");
    }
    assert!(index.kept_bytes().unwrap() > 0);
    let read = counted.bytes;
    assert!(read <= 2 * length, "{read} bytes of {length} were read");
}
