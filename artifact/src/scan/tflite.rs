//! TensorFlow Lite models: graphs of operators, some of which a runtime adds, and buffers.

use std::io;

use super::container::ScanFile;
use super::flatbuffer::{Reader, Table, Vector};
use super::saved_model::acts_outside;
use super::source::{Source, Stop, finish};
use super::{Input, Limits, Report, Verdict, Window, zip};
use crate::scan::rules::{self, Rule};

const RULE: &Rule = rules::TFLITE_OFFSET;
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
/// Operators of TensorFlow that run in TensorFlow Lite have this before their names.
const FLEX: &str = "Flex";

/// Scans a TensorFlow Lite model.
///
/// # Errors
/// The input cannot be read.
pub fn scan(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("tflite");
    let mut reader = Reader {
        source: Source::new(input, rules::TFLITE_TRUNCATED)?,
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
        return scan(input, limits);
    };
    let mut report = scan(&mut Window::new(input, 0, end), limits)?;
    let files = zip::scan_behind(input, end, limits, scan_file)?;
    report.add_part("the files behind the model", files);
    Ok(report)
}

fn walk(reader: &mut Reader<'_>, report: &mut Report) -> Result<(), Stop> {
    reader.source.seek(4);
    if reader.source.array::<4>()? != *IDENTIFIER {
        let detail = "the file does not have the identifier TFL3";
        return Err(Stop::malformed(4, rules::TFLITE_HEADER, detail));
    }
    let model = reader.table(0)?;
    let version = reader.u32(&model, 0)?;
    if version != 3 {
        let detail = format!("version {version} of the format");
        return Err(Stop::unknown(0, rules::TFLITE_HEADER, detail));
    }
    // Groups of weights, which are files that the runtime opens, and weights in them.
    for field in [8, 9] {
        if reader.vector(&model, field, 4)?.count > 0 {
            let detail = "the model has weights in other files, which it names";
            return Err(Stop::unknown(0, rules::TFLITE_EXTERNAL, detail));
        }
    }
    let operators = each(reader, &model, 1, |reader, operator| {
        check_operator(reader, operator, report)
    })?;
    let buffers = each(reader, &model, 4, |reader, buffer| {
        reader.vector(buffer, 0, 1)?;
        check_outside(reader, buffer, 1)
    })?;
    let subgraphs = each(reader, &model, 2, |reader, subgraph| {
        check_subgraph(reader, subgraph, operators, buffers)
    })?;
    each(reader, &model, 7, |reader, signature| {
        check_signature(reader, signature, subgraphs)
    })?;
    let metadata = reader.vector(&model, 5, 4)?;
    reader.each_i32(metadata, |index| is_index(index, buffers.count))?;
    each(reader, &model, 6, |reader, entry| {
        check_index(reader, entry, 1, buffers.count, "metadata has a buffer").map(|_| ())
    })?;
    Ok(())
}

/// Checks each table of a vector of references.
fn each<'i>(
    reader: &mut Reader<'i>,
    table: &Table,
    field: usize,
    mut check: impl FnMut(&mut Reader<'i>, &Table) -> Result<(), Stop>,
) -> Result<Vector, Stop> {
    let vector = reader.vector(table, field, 4)?;
    for index in 0..vector.count {
        let element = reader.element(vector, index)?;
        check(reader, &element)?;
    }
    Ok(vector)
}

/// Reports an operator that the runtime does not bring along.
fn check_operator(
    reader: &mut Reader<'_>,
    operator: &Table,
    report: &mut Report,
) -> Result<(), Stop> {
    let at = reader.source.position();
    // Numbers above 127 are in the second field, and older files have the first alone.
    let old_number = reader.u8(operator, 0)?;
    if old_number > 127 {
        // It is signed, so that the runtime takes the second field.
        return Err(Stop::malformed(
            at,
            RULE,
            "an operator has a negative number",
        ));
    }
    let number = u32::from(old_number).max(reader.u32(operator, 3)?);
    let name = reader.text(operator, 1, MAX_NAME_BYTES)?;
    if number == CUSTOM {
        let verdict = match name.strip_prefix(FLEX) {
            Some(tensorflow) if acts_outside(tensorflow) => Verdict::Executable,
            _ => Verdict::Unknown,
        };
        let detail = format!("the operator {name} is native code that a runtime adds");
        report.add(verdict, at, rules::TFLITE_CUSTOM_OPERATOR, &detail);
    } else if number == DELEGATE || number > LAST_OPERATOR {
        let detail = format!("the operator {number} is not one of TensorFlow Lite");
        report.add(Verdict::Unknown, at, rules::TFLITE_OPERATOR, &detail);
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
    let tensors = each(reader, subgraph, 0, |reader, tensor| {
        check_index(reader, tensor, 2, buffers.count, "a tensor has a buffer")?;
        let shape = reader.vector(tensor, 0, 4)?;
        reader.each_i32(shape, |dimension| dimension >= -1)
    })?;
    for field in [1, 2] {
        let used = reader.vector(subgraph, field, 4)?;
        reader.each_i32(used, |index| is_index(index, tensors.count))?;
    }
    each(reader, subgraph, 3, |reader, node| {
        check_index(reader, node, 0, operators.count, "a node has an operator")?;
        for field in [1, 2, 8] {
            let used = reader.vector(node, field, 4)?;
            // Inputs that are left out have the index -1.
            reader.each_i32(used, |index| index == -1 || is_index(index, tensors.count))?;
        }
        reader.vector(node, 5, 1)?;
        check_outside(reader, node, 9)
    })?;
    Ok(())
}

/// Checks that a name of inputs and outputs stands for a tensor of its subgraph.
fn check_signature(
    reader: &mut Reader<'_>,
    signature: &Table,
    subgraphs: Vector,
) -> Result<(), Stop> {
    let what = "a signature has a graph";
    let subgraph = check_index(reader, signature, 4, subgraphs.count, what)?;
    let subgraph = reader.element(subgraphs, subgraph)?;
    let tensors = reader.vector(&subgraph, 0, 4)?;
    for field in [0, 1] {
        each(reader, signature, field, |reader, name| {
            check_index(reader, name, 1, tensors.count, "a name has a tensor").map(|_| ())
        })?;
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
        return Err(Stop::malformed(at, rules::TFLITE_BUFFER, detail));
    }
    Ok(())
}

/// An index in a field of a table.
fn check_index(
    reader: &mut Reader<'_>,
    table: &Table,
    field: usize,
    count: u64,
    what: &str,
) -> Result<u64, Stop> {
    let index = u64::from(reader.u32(table, field)?);
    if index < count {
        return Ok(index);
    }
    let detail = format!("{what} {index}, and there are {count}");
    Err(Stop::malformed(reader.source.position(), RULE, detail))
}

fn is_index(index: i32, count: u64) -> bool {
    u64::try_from(index).is_ok_and(|index| index < count)
}

#[cfg(test)]
mod tests;
