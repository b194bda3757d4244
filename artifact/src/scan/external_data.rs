//! A file of tensors that has no format of its own: another file beside it, its index, says which
//! bytes are which tensor.
//!
//! Such a file is safe if no reader takes it for anything else, and if the tensors of its indexes
//! are all that is in it. So nothing is hidden between them, and no tensor lies beyond its end.

mod index;

use std::io;
use std::ops::Range;

pub use self::index::{DataIndex, IndexKind};
use super::source::{Source, Stop, finish};
use super::{Input, Limits, Report, Verdict, detect, input};
use crate::scan::rules::{self, Rule};

/// The rule of data files that hold something else than tensors.
const RULE: &Rule = rules::DATA_FILE;
/// The format of a file with the tensors of an ONNX model.
pub const ONNX_DATA: &str = "onnx data";
/// The format of a file with the constants of a model of OpenVINO.
pub const OPENVINO_DATA: &str = "openvino data";
/// The name of such a file that is also one of CTranslate2.
const OPENVINO_NAME: &str = "model.bin";
/// Zeros between two tensors are padding if there are fewer, bytes. The writers of ONNX align
/// tensors to this many at most, because Windows maps files by them.
const MAX_PADDING_BYTES: u64 = 64 << 10;
/// The largest element of a tensor, bytes. A file of one element may be a text by chance.
const MAX_ELEMENT_BYTES: u64 = 16;
/// The most index files of one data file.
pub const MAX_INDEXES: usize = 64;

/// Endings of formats that have a reader and no mark at the beginning, or none that is known here.
const OTHER_ENDINGS: [&str; 71] = [
    "bash",
    "bc",
    "beam",
    "blob",
    "bmodel",
    "bson",
    "bst",
    "caffemodel",
    "cbm",
    "class",
    "com",
    "command",
    "cpp",
    "cu",
    "cubin",
    "dali",
    "desktop",
    "dex",
    "dlc",
    "elc",
    "faiss",
    "fatbin",
    "fish",
    "ftz",
    "graphdef",
    "hef",
    "hsaco",
    "hta",
    "htm",
    "html",
    "jl",
    "jls",
    "ko",
    "lnk",
    "luac",
    "meta",
    "metallib",
    "mlirbc",
    "mlpackage",
    "model",
    "nemo",
    "node",
    "om",
    "ort",
    "params",
    "pdmodel",
    "pdparams",
    "pif",
    "pmml",
    "psm1",
    "ptx",
    "pyo",
    "pyw",
    "pyz",
    "rdata",
    "rds",
    "savedmodel",
    "scr",
    "ser",
    "service",
    "spv",
    "t7",
    "tcl",
    "tensors",
    "tl",
    "ts",
    "uff",
    "vmfb",
    "xclbin",
    "xml",
    "zsh",
];
/// Beginnings of the names of `.bin` files that libraries of torch look for.
const TORCH_NAMES: [&str; 8] = [
    "adapter_model",
    "diffusion_pytorch_model",
    "optimizer",
    "pytorch_model",
    "random_states",
    "rng_state",
    "scheduler",
    "training_args",
];
/// Names that libraries and builders look for.
const OTHER_NAMES: [&str; 6] = [
    "checkpoint",
    "containerfile",
    "dockerfile",
    "gnumakefile",
    "makefile",
    "procfile",
];

/// Scans a file beside which there are these indexes. `name` is its name without folders.
///
/// # Errors
/// The file or an index cannot be read.
pub fn scan_data_file<'i, I: Input + 'i>(
    data: &mut dyn Input,
    name: &str,
    indexes: impl IntoIterator<Item = &'i mut DataIndex<I>>,
    limits: &Limits,
) -> io::Result<Report> {
    let mut alone = detect::scan(data, name, limits)?;
    let length = input::length(data)?;
    if !has_no_format(&alone, length) {
        return Ok(alone);
    }
    let mut format = None;
    let mut ranges = Vec::new();
    for index in indexes {
        let Some(more) = index.ranges(name, limits)? else {
            continue;
        };
        format = format.or(Some(index.kind().data_format()));
        ranges.extend(more);
        if ranges.len() > limits.entries {
            let detail = format!("more than {} tensors lie in the file", limits.entries);
            alone.add(Verdict::Unknown, 0, RULE, &detail);
            return Ok(alone);
        }
    }
    let Some(format) = format else {
        return Ok(alone);
    };
    if has_reader(name, format) {
        let mut report = Report::new(alone.format);
        let detail = "tensors lie in the file, and readers of other formats go by its name";
        report.add(Verdict::Unknown, 0, RULE, detail);
        return Ok(report);
    }
    // A tensor that two models share, or two names of one model.
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    ranges.dedup();
    let mut source = Source::new(data, RULE)?;
    let checked = check_ranges(&mut source, &ranges);
    finish(Report::new(format), checked)
}

/// Whether a format is that of files whose tensors an index of any kind has.
pub fn is_data_format(format: &str) -> bool {
    [ONNX_DATA, OPENVINO_DATA].contains(&format)
}

/// Whether a file that was scanned alone has no format that is known, and nothing else is wrong
/// with it.
fn has_no_format(alone: &Report, length: u64) -> bool {
    let is_unmarked = match alone.format {
        "unknown" => true,
        "text" => length <= MAX_ELEMENT_BYTES,
        "empty" => length == 0,
        _ => false,
    };
    let [finding] = alone.findings.as_slice() else {
        return false;
    };
    let is_unread = [rules::EMPTY, rules::UNSCANNED].contains(&finding.rule);
    is_unmarked && alone.verdict == Verdict::Unknown && is_unread
}

/// Whether a reader of another format goes by this name of a file of tensors.
fn has_reader(name: &str, format: &str) -> bool {
    let name = name.to_lowercase();
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let is_torch = || {
        let mut names = TORCH_NAMES.iter();
        names.any(|beginning| name.starts_with(beginning))
    };
    // A shell and many tools read hidden files of their own, and Paddle runs `__model__`.
    (name == OPENVINO_NAME && format != OPENVINO_DATA)
        || name.starts_with('.')
        || name.starts_with("__")
        || detect::has_reader(&name)
        || OTHER_ENDINGS.contains(&ending)
        || OTHER_NAMES.contains(&name.as_str())
        || (ending == "bin" && is_torch())
}

/// Whether the tensors, in the order of their bytes, are all that is in the file.
fn check_ranges(source: &mut Source<'_>, ranges: &[Range<u64>]) -> Result<(), Stop> {
    let length = source.length();
    let mut covered_to = 0;
    for range in ranges {
        let Range { start, end } = *range;
        if end > length {
            let detail =
                format!("a tensor lies at the bytes {start} to {end} of a file of {length}");
            return Err(Stop::malformed(start.min(length), RULE, detail));
        }
        // It has no bytes.
        if start == end {
            continue;
        }
        if start < covered_to {
            let detail = format!("a tensor begins before another one ends, at byte {covered_to}");
            return Err(Stop::unknown(start, RULE, detail));
        }
        check_gap(source, covered_to..start)?;
        covered_to = end;
    }
    check_gap(source, covered_to..length)
}

/// Whether bytes beside tensors are padding.
fn check_gap(source: &mut Source<'_>, gap: Range<u64>) -> Result<(), Stop> {
    let bytes = gap.end.saturating_sub(gap.start);
    if bytes >= MAX_PADDING_BYTES {
        let detail = format!("no tensor lies in these {bytes} bytes, which are more than padding");
        return Err(Stop::unknown(gap.start, RULE, detail));
    }
    source.seek(gap.start);
    if source.zeros(bytes)? {
        return Ok(());
    }
    let detail = format!("no tensor lies in these {bytes} bytes, and they are not all zero");
    Err(Stop::unknown(gap.start, RULE, detail))
}

#[cfg(test)]
mod tests;
