//! TensorFlow Lite models: graphs of operators, some of which a runtime adds, and buffers.

use std::io;

use super::container::ScanFile;
use super::flatbuffer::{Reader, Table, Vector};
use super::saved_model::acts_outside;
use super::source::{Source, Stop, finish};
use super::{Input, Limits, Report, Verdict, Window, input, magic, zip};

const RULE: &str = "tflite-offset";
/// What a file has from its fifth byte on.
const IDENTIFIER: &[u8; 4] = b"TFL3";
/// The number of operators that are not of TensorFlow Lite.
const CUSTOM: u32 = 32;
/// The number of operators that native code takes over.
const DELEGATE: u32 = 51;
/// The operator with the greatest number in release 2.18.
const LAST_OPERATOR: u32 = 208;
/// The longest name of an operator, bytes.
const MAX_NAME_BYTES: u64 = 1 << 10;
/// The record at the end of a zip archive without a comment, bytes.
const RECORD_BYTES: u64 = 22;
/// The beginning of that record in an archive without files, up to the place of the table.
const EMPTY_RECORD: [u8; 16] = *b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0";
/// What leads to a table of contents of 64 bits. It lies just before that record.
const LOCATOR: &[u8] = b"PK\x06\x07";
/// The length of what begins so, bytes.
const LOCATOR_BYTES: u64 = 20;
/// Operators of TensorFlow that run in TensorFlow Lite have this before their names.
const FLEX: &str = "Flex";

/// Scans a TensorFlow Lite model.
///
/// # Errors
/// The input cannot be read.
pub fn scan(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("tflite");
    let mut reader = Reader {
        source: Source::new(input, "tflite-truncated")?,
        values_left: limits.operations,
        rule: RULE,
    };
    let walked = walk(&mut reader, &mut report);
    finish(report, walked)
}

/// Scans a model with files such as labels behind it: a zip archive whose offsets count from the
/// first byte of the model, as Python's `zipfile` appends it. The model ends where the first of
/// them begins. `scan_file` scans them.
///
/// # Errors
/// The input cannot be read.
pub(super) fn scan_packed(
    input: &mut dyn Input,
    limits: &Limits,
    scan_file: ScanFile,
) -> io::Result<Report> {
    let Some(end) = zip::first_member(input, limits)? else {
        return match empty_archive(input)? {
            Some(end) => scan(&mut Window::new(input, 0, end), limits),
            None => scan(input, limits),
        };
    };
    let mut report = scan(&mut Window::new(input, 0, end), limits)?;
    let files = zip::scan_behind(input, end, limits, scan_file)?;
    report.add_part("the files behind the model", files);
    Ok(report)
}

/// Where an archive without files begins, which tools append to a model that has metadata alone.
/// No reader finds files by it: its table of contents is empty, and none of 64 bits is before it.
fn empty_archive(input: &mut dyn Input) -> io::Result<Option<u64>> {
    let Some(end) = input::length(input)?.checked_sub(RECORD_BYTES) else {
        return Ok(None);
    };
    let Ok(offset) = u32::try_from(end) else {
        return Ok(None);
    };
    let record = [EMPTY_RECORD.as_slice(), &offset.to_le_bytes(), b"\0\0"].concat();
    let has_record = magic::read_at(input, end, RECORD_BYTES)? == record;
    let before = magic::read_at(input, end.saturating_sub(LOCATOR_BYTES), LOCATOR_BYTES)?;
    Ok((has_record && !before.starts_with(LOCATOR)).then_some(end))
}

fn walk(reader: &mut Reader<'_>, report: &mut Report) -> Result<(), Stop> {
    reader.source.seek(4);
    if reader.source.array::<4>()? != *IDENTIFIER {
        let detail = "the file does not have the identifier TFL3";
        return Err(Stop::malformed(4, "tflite-header", detail));
    }
    let model = reader.table(0)?;
    let version = reader.u32(&model, 0)?;
    if version != 3 {
        let detail = format!("version {version} of the format");
        return Err(Stop::unknown(0, "tflite-header", detail));
    }
    // Groups of weights, which are files that the runtime opens, and weights in them.
    for field in [8, 9] {
        if reader.vector(&model, field, 4)?.count > 0 {
            let detail = "the model has weights in other files, which it names";
            return Err(Stop::unknown(0, "tflite-external", detail));
        }
    }
    let operators = reader.vector(&model, 1, 4)?;
    for index in 0..operators.count {
        check_operator(reader, operators, index, report)?;
    }
    let buffers = reader.vector(&model, 4, 4)?;
    for index in 0..buffers.count {
        let buffer = reader.element(buffers, index)?;
        reader.vector(&buffer, 0, 1)?;
        check_outside(reader, &buffer, 1)?;
    }
    let subgraphs = reader.vector(&model, 2, 4)?;
    for index in 0..subgraphs.count {
        let subgraph = reader.element(subgraphs, index)?;
        check_subgraph(reader, &subgraph, operators, buffers)?;
    }
    let metadata = reader.vector(&model, 5, 4)?;
    reader.each_i32(metadata, |index| is_index(index, buffers.count))?;
    let metadata = reader.vector(&model, 6, 4)?;
    for index in 0..metadata.count {
        let entry = reader.element(metadata, index)?;
        let buffer = u64::from(reader.u32(&entry, 1)?);
        check_index(reader, buffer, buffers.count, "metadata has a buffer")?;
    }
    if reader.source.ends_as_zip()? {
        let detail = "what is packed behind the model has no table of contents that is followed";
        return Err(Stop::unknown(0, "tflite-zip", detail));
    }
    Ok(())
}

/// Reports an operator that the runtime does not bring along.
fn check_operator(
    reader: &mut Reader<'_>,
    operators: Vector,
    index: u64,
    report: &mut Report,
) -> Result<(), Stop> {
    let operator = reader.element(operators, index)?;
    let at = reader.source.position();
    // Numbers above 127 are in the second field, and older files have the first alone.
    let old_number = reader.u8(&operator, 0)?;
    if old_number > 127 {
        // It is signed, so that the runtime takes the second field.
        return Err(Stop::malformed(
            at,
            RULE,
            "an operator has a negative number",
        ));
    }
    let number = u32::from(old_number).max(reader.u32(&operator, 3)?);
    let name = reader.text(&operator, 1, MAX_NAME_BYTES)?;
    if number == CUSTOM {
        let verdict = match name.strip_prefix(FLEX) {
            Some(tensorflow) if acts_outside(tensorflow) => Verdict::Executable,
            _ => Verdict::Unknown,
        };
        let detail = format!("the operator {name} is native code that a runtime adds");
        report.add(verdict, at, "tflite-custom-operator", &detail);
    } else if number == DELEGATE || number > LAST_OPERATOR {
        let detail = format!("the operator {number} is not one of TensorFlow Lite");
        report.add(Verdict::Unknown, at, "tflite-operator", &detail);
    }
    Ok(())
}

/// Checks that indices name tensors, operators and buffers that exist.
fn check_subgraph(
    reader: &mut Reader<'_>,
    subgraph: &Table,
    operators: Vector,
    buffers: Vector,
) -> Result<(), Stop> {
    let tensors = reader.vector(subgraph, 0, 4)?;
    for index in 0..tensors.count {
        let tensor = reader.element(tensors, index)?;
        let buffer = u64::from(reader.u32(&tensor, 2)?);
        check_index(reader, buffer, buffers.count, "a tensor has a buffer")?;
        let shape = reader.vector(&tensor, 0, 4)?;
        reader.each_i32(shape, |dimension| dimension >= -1)?;
    }
    for field in [1, 2] {
        let used = reader.vector(subgraph, field, 4)?;
        reader.each_i32(used, |index| is_index(index, tensors.count))?;
    }
    let nodes = reader.vector(subgraph, 3, 4)?;
    for index in 0..nodes.count {
        let node = reader.element(nodes, index)?;
        let operator = u64::from(reader.u32(&node, 0)?);
        check_index(reader, operator, operators.count, "a node has an operator")?;
        for field in [1, 2, 8] {
            let used = reader.vector(&node, field, 4)?;
            // Inputs that are left out have the index -1.
            reader.each_i32(used, |index| index == -1 || is_index(index, tensors.count))?;
        }
        reader.vector(&node, 5, 1)?;
        check_outside(reader, &node, 9)?;
    }
    Ok(())
}

/// Checks bytes that lie after the tables: their offset in a field, and their number in the next.
fn check_outside(reader: &mut Reader<'_>, table: &Table, field: usize) -> Result<(), Stop> {
    let offset = reader.u64(table, field)?;
    let size = reader.u64(table, field.saturating_add(1))?;
    let end = offset.checked_add(size);
    if end.is_none_or(|end| end > reader.source.length()) {
        let detail = format!("{size} bytes at {offset} are not in the file");
        let at = reader.source.position();
        return Err(Stop::malformed(at, "tflite-buffer", detail));
    }
    Ok(())
}

fn check_index(reader: &Reader<'_>, index: u64, count: u64, what: &str) -> Result<(), Stop> {
    if index < count {
        return Ok(());
    }
    let detail = format!("{what} {index}, and there are {count}");
    Err(Stop::malformed(reader.source.position(), RULE, detail))
}

fn is_index(index: i32, count: u64) -> bool {
    u64::try_from(index).is_ok_and(|index| index < count)
}

#[cfg(test)]
mod tests;
