//! Scans a file of any format: finds out which it is, and which other formats its bytes also are.
//!
//! The content decides. A name can only make the verdict worse: a file is what its loader takes it
//! for, and some loaders go by the name. A file that two loaders understand differently is
//! malformed, because a scan of one form says nothing about the other.

use std::io::{self, SeekFrom};

use super::format::{Evidence, File, Format};
use super::formats::{FORMATS, PROGRAMS, UNKNOWN, by_name, required_by};
use super::{Input, Limits, Report, Verdict, Window, rules, text, texts};

/// Endings of weights that are known by their content, or that no scanner follows.
const WEIGHTS: [&str; 23] = [
    "bin",
    "bst",
    "caffemodel",
    "cbm",
    "data",
    "engine",
    "ggml",
    "graphdef",
    "lite",
    "llamafile",
    "model",
    "msgpack",
    "nemo",
    "onnx_data",
    "params",
    "pdiparams",
    "pdmodel",
    "pdparams",
    "plan",
    "rknn",
    "torchscript",
    "trt",
    "weights",
];
/// Beginning of the ending of weights in parts, such as `variables.data-00000-of-00001`.
const WEIGHTS_PART: &str = "data-";
/// The format of a text that no reader knows by its name.
const UNNAMED: &str = "unnamed text";
/// Endings of archives, which often hold something else than a model.
const ARCHIVES: [&str; 2] = ["gz", "zip"];

/// Whether a file of this name, without folders, has the ending of a model or of its weights.
pub fn is_model_name(name: &str) -> bool {
    let name = name.to_lowercase();
    let Some((_, ending)) = name.rsplit_once('.') else {
        return false;
    };
    let formats = required_by(ending);
    let is_text = formats.contains(&"json") || formats.contains(&"text");
    WEIGHTS.contains(&ending)
        || ending.starts_with(WEIGHTS_PART)
        || !(formats.is_empty() || is_text || ARCHIVES.contains(&ending))
}

/// Whether a reader goes by this name, in lower case, whatever is in the file.
pub(super) fn has_reader(name: &str) -> bool {
    let limits = Limits::default();
    let mut nothing = io::empty();
    let Ok(file) = File::read(&mut nothing, (name, name), &limits, scan) else {
        return true;
    };
    let text = by_name(&file, Evidence::Text);
    !required_by(file.ending).is_empty()
        || by_name(&file, Evidence::None).is_some()
        || text.is_some_and(|format| format.id != UNNAMED)
}

/// Scans a file. `given_name` is its name without folders.
///
/// # Errors
/// The input cannot be read.
pub fn scan(input: &mut dyn Input, given_name: &str, limits: &Limits) -> io::Result<Report> {
    let name = given_name.to_lowercase();
    let mut file = File::read(input, (given_name, &name), limits, scan)?;
    let (evidence, found) = by_content(&mut file)?;
    let format = by_name(&file, evidence).unwrap_or(found);
    file.input.seek(SeekFrom::Start(0))?;
    let mut report = (format.scan)(&mut file)?;
    let required = required_by(file.ending);
    // What macOS stores about a file is in a file of its name.
    let is_about = format.id == "apple double" && file.name.starts_with("._");
    let is_free = required.is_empty() || required.contains(&format.id);
    if file.length > 0 && !is_free && !is_about {
        let detail = format!(
            "the name ends in .{}, which is for {}, and the content is {}",
            file.ending,
            required.join(" or "),
            format.id
        );
        report.add(Verdict::Malformed, 0, rules::EXTENSION, &detail);
    }
    if PROGRAMS.contains(&file.ending)
        && file.length > 0
        && report.verdict == Verdict::Safe
        && !is_about
    {
        let detail = "the name is that of a program, and an interpreter runs it whatever it is";
        report.add(Verdict::Executable, 0, rules::PROGRAM, detail);
    }
    for other in FORMATS.iter().filter(|it| it.id != format.id) {
        for find in other.also {
            if let Some(start) = find(&mut file)? {
                let detail = format!("the file is {} and also {}", format.id, other.id);
                report.add(Verdict::Malformed, start, rules::POLYGLOT, &detail);
                report.add_part(other.id, scan_from(&mut file, start, other)?);
            }
        }
    }
    Ok(report)
}

/// How certain the bytes of a file are, and the format that they are of.
fn by_content(file: &mut File<'_>) -> io::Result<(Evidence, &'static Format)> {
    for format in FORMATS {
        let evidence = (format.magic)(file);
        if evidence > Evidence::None {
            return Ok((evidence, format));
        }
    }
    let is_utf8 = text::is_text(file.input)?;
    let evidence = if is_utf8 && texts::is_json(&file.head, file.ending) {
        Evidence::Json
    } else if is_utf8
        || (texts::is_prose(file.name, file.ending) && text::is_other_text(file.input)?)
    {
        Evidence::Text
    } else {
        Evidence::None
    };
    Ok((evidence, &UNKNOWN))
}

/// Scans a file from a byte on as another format.
fn scan_from(file: &mut File<'_>, start: u64, format: &Format) -> io::Result<Report> {
    let length = file.length.saturating_sub(start);
    let mut rest = Window::new(&mut *file.input, start, length);
    let mut rest = File::read(
        &mut rest,
        (file.given_name, file.name),
        file.limits,
        file.scan_file,
    )?;
    (format.scan)(&mut rest)
}

#[cfg(test)]
mod tests;
