//! Scans a file of any format: finds out which it is, and which other formats its bytes also are.
//!
//! The content decides. A name can only make the verdict worse: a file is what its loader takes it
//! for, and some loaders go by the name. A file that two loaders understand differently is
//! malformed, because a scan of one form says nothing about the other.

use std::io::{self, SeekFrom};

use super::finding::MAX_FINDINGS;
use super::input::{self, Window};
use super::magic::{self, Content};
use super::{Finding, Input, Limits, Report, Severity, Verdict};
use super::{
    boosters, config, gguf, jinja, keras, numpy, onnx, pickle, picture, rules, safetensors,
    saved_model, sentencepiece, tar, tensor_bundle, text, tflite, triton, zip,
};

/// Endings of programs. A loader, an interpreter or a user runs such a file.
const PROGRAMS: [&str; 24] = [
    "bat", "cmd", "dll", "dylib", "exe", "ipynb", "jar", "js", "lua", "mjs", "php", "pl", "ps1",
    "py", "pyc", "pyd", "pyi", "pyx", "r", "rb", "sh", "so", "vbs", "wasm",
];
/// Endings of texts that are read as text: notes, tables, vocabularies.
const TEXTS: [&str; 15] = [
    "bib", "bpe", "chk", "codes", "csv", "jsonl", "log", "md", "merges", "ndjson", "rst",
    "tiktoken", "tsv", "txt", "vocab",
];
/// Endings of texts that may begin as JSON and are none.
const BRACED_TEXTS: [&str; 8] = ["cfg", "conf", "ini", "j2", "jinja", "toml", "yaml", "yml"];
/// Endings of modules of Python, which are often empty to mark a package. They have no code then.
const MODULES: [&str; 2] = ["py", "pyi"];
/// Beginnings of the names of texts without an ending, in lower case.
const TEXT_NAMES: [&str; 9] = [
    ".gitattributes",
    ".gitignore",
    ".gitkeep",
    "authors",
    "citation",
    "copying",
    "licen",
    "notice",
    "readme",
];

/// Formats in which a pickle is stored, as they are or compressed.
const PICKLES: &[&str] = &[
    "pickle",
    "bzip2",
    "gzip",
    "joblib zlib",
    "lz4",
    "lzma",
    "xz",
    "zlib",
    "zstd",
];
/// Formats of torch.
const TORCH: &[&str] = &["zip", "pickle", "tar", "torch legacy"];
/// What the content of a file with this ending has to be.
const ENDINGS: [(&str, &[&str]); 37] = [
    ("ckpt", TORCH),
    ("cloudpickle", PICKLES),
    ("csv", &["text"]),
    ("dill", PICKLES),
    ("gguf", &["gguf"]),
    ("gz", &["gzip"]),
    ("h5", &["hdf5"]),
    ("hdf5", &["hdf5"]),
    ("joblib", PICKLES),
    ("json", &["json"]),
    ("jsonl", &["text"]),
    ("keras", &["zip"]),
    ("log", &["text"]),
    ("mar", &["zip"]),
    ("md", &["text"]),
    ("mlmodel", &["coreml"]),
    ("npy", &["npy"]),
    ("npz", &["zip"]),
    ("onnx", &["onnx"]),
    ("pb", &["saved model", "saved model fingerprint", "onnx"]),
    ("pbtxt", &["saved model", "triton config"]),
    ("pickle", PICKLES),
    ("pkl", PICKLES),
    ("pt", TORCH),
    ("pt2", &["zip"]),
    ("pth", TORCH),
    ("pte", &["executorch"]),
    ("rst", &["text"]),
    ("safetensors", &["safetensors"]),
    ("tar", &["tar"]),
    ("tflite", &["tflite"]),
    ("tsv", &["text"]),
    ("txt", &["text", "lightgbm"]),
    ("ubj", &["ubjson"]),
    ("yaml", &["text"]),
    ("yml", &["text"]),
    ("zip", &["zip"]),
];

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
/// Endings of archives, which often hold something else than a model.
const ARCHIVES: [&str; 2] = ["gz", "zip"];

/// Whether a file of this name, without folders, has the ending of a model or of its weights.
pub fn is_model_name(name: &str) -> bool {
    let name = name.to_lowercase();
    let Some((_, ending)) = name.rsplit_once('.') else {
        return false;
    };
    let is_model = |formats: &[&str]| !formats.iter().any(|it| matches!(*it, "json" | "text"));
    let mut endings = ENDINGS.iter();
    WEIGHTS.contains(&ending)
        || ending.starts_with(WEIGHTS_PART)
        || (!ARCHIVES.contains(&ending)
            && endings.any(|&(known, formats)| known == ending && is_model(formats)))
}

/// Scans a file. `name` is its name without folders.
///
/// # Errors
/// The input cannot be read.
pub fn scan(input: &mut dyn Input, name: &str, limits: &Limits) -> io::Result<Report> {
    let length = input::length(input)?;
    let head = magic::head(input)?;
    let name = name.to_lowercase();
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let content = match magic::binary(&head, length) {
        Some(content) => content,
        None if text::is_text(input)? => text_or_json(&head),
        None if is_prose(&name, ending) && text::is_other_text(input)? => Content::Text,
        None if magic::ends_as_table(input, length)? => Content::TensorBundle,
        // A text may begin so, too.
        None if head.starts_with(b"x^") => Content::Other("zlib"),
        None => Content::Unknown,
    };
    let names = (name.as_str(), ending);
    let content = by_name(content, names, &head);
    let mut report = scan_as(content, input, names, &head, limits)?;
    // What `torch.save` writes often has the ending of a pickle, which `torch.load` ignores.
    let is_saved =
        matches!(ending, "pickle" | "pkl") && matches!(report.format, "torch legacy" | "torch zip");
    let required = ENDINGS.iter().find(|(known, _)| *known == ending);
    if let Some((_, names)) = required
        && !names.contains(&content.name())
        && content != Content::Empty
        && !is_saved
    {
        let detail = format!(
            "the name ends in .{ending}, and the content is not {} but {}",
            names.first().copied().unwrap_or_default(),
            content.name()
        );
        report.add(Verdict::Malformed, 0, "extension", &detail);
    }
    if ending == "keras" && content == Content::Zip && report.format != "keras" {
        let detail = "the archive has no config.json, from which Keras builds the model";
        report.add(Verdict::Malformed, 0, "keras-config", detail);
    }
    add_other_readings(content, input, &head, length, limits, &mut report)?;
    Ok(report)
}

/// Text, or JSON if it begins as an object or a list.
fn text_or_json(head: &[u8]) -> Content {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    match head.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{' | b'[') => Content::Json,
        _ => Content::Text,
    }
}

/// The content that a loader of this name reads. `names` are the name and its ending, in lower
/// case.
fn by_name(content: Content, names: (&str, &str), head: &[u8]) -> Content {
    let (name, ending) = names;
    match (name, content) {
        // Its fields may stand in any order, so that it begins as several formats.
        (
            "fingerprint.pb",
            Content::Json
            | Content::Onnx
            | Content::SavedModel
            | Content::SentencePiece
            | Content::Text
            | Content::Unknown,
        ) => Content::SavedModelFingerprint,
        // TensorFlow reads these names as its own formats, whatever the first fields look like.
        (
            "keras_metadata.pb" | "saved_model.pb" | "saved_model_config.pb",
            Content::Onnx | Content::SentencePiece,
        ) => Content::SavedModel,
        _ => match by_ending(content, ending) {
            Content::SavedModel if ending == "pbtxt" && triton::is_config(name, head) => {
                Content::TritonConfig
            }
            content => content,
        },
    }
}

/// The content that a loader of this ending reads, where the bytes have no mark of their own: a
/// pickle of protocol 0 is a text, and a protocol buffer may begin with any of its fields.
fn by_ending(content: Content, ending: &str) -> Content {
    let is_text = matches!(content, Content::Json | Content::Text);
    let is_data = matches!(
        content,
        Content::Picture | Content::SentencePiece | Content::Unknown
    );
    if PROGRAMS.contains(&ending) && (is_text || is_data) {
        return Content::Program("script");
    }
    // TensorFlow reads a metagraph, in which the fields of other models are graphs.
    if ending == "meta"
        && matches!(
            content,
            Content::Onnx | Content::SavedModel | Content::SentencePiece
        )
    {
        return Content::Unknown;
    }
    if is_text && (TEXTS.contains(&ending) || BRACED_TEXTS.contains(&ending)) {
        return Content::Text;
    }
    if !is_text && content != Content::Unknown {
        return content;
    }
    match ending {
        "ckpt" | "cloudpickle" | "dill" | "joblib" | "pickle" | "pkl" | "pt" | "pth" => {
            Content::Pickle
        }
        "onnx" => Content::Onnx,
        "pb" | "pbtxt" => Content::SavedModel,
        "ubj" => Content::Ubjson,
        _ => content,
    }
}

/// Scans a file as this content. `names` are its name and its ending, in lower case.
fn scan_as(
    content: Content,
    input: &mut dyn Input,
    names: (&str, &str),
    head: &[u8],
    limits: &Limits,
) -> io::Result<Report> {
    let (name, ending) = names;
    input.seek(SeekFrom::Start(0))?;
    let mut report = Report::new(content.name());
    let detail = match content {
        Content::Gguf => return gguf::scan(input, limits),
        Content::Hdf5 => return keras::h5::scan(input, limits),
        Content::Json if matches!(name, "model_index.json" | "modular_model_index.json") => {
            return config::scan_pipeline(input, limits);
        }
        Content::Json if is_booster(head) => {
            let mut report = boosters::scan_xgboost_json(input, limits)?;
            // A reader of configurations may take it, too, and goes by other keys.
            report.add_part("the document", config::scan_model(input, name, limits)?);
            return Ok(report);
        }
        Content::Json => return config::scan(input, name, limits),
        Content::Lightgbm => return boosters::scan_lightgbm(input, limits),
        Content::Ubjson => return boosters::scan_xgboost_ubjson(input, limits),
        Content::Numpy => return numpy::scan(input, limits),
        Content::Onnx => return onnx::scan(input, limits),
        Content::Pickle => return pickle::scan(input, limits),
        Content::Picture => return picture::scan(input, ending, limits),
        Content::Safetensors => return safetensors::scan(input, limits),
        Content::SavedModel if name == "keras_metadata.pb" => {
            return keras::saved_metadata::scan(input, limits);
        }
        Content::SavedModel if name == "saved_model_config.pb" => {
            "options of TensorFlow Serving, which can send a part of the graph to another host"
        }
        Content::SavedModel => return saved_model::scan(input, limits),
        Content::SavedModelFingerprint => return saved_model::fingerprint::scan(input, limits),
        Content::SentencePiece => return sentencepiece::scan(input, limits),
        Content::Tar => return tar::scan(input, limits, scan),
        Content::TensorBundle => return tensor_bundle::scan(input, limits),
        Content::Tflite => return tflite::scan_packed(input, limits, scan),
        Content::TorchLegacy => return pickle::legacy_torch(input, limits),
        Content::TritonConfig => return triton::scan(input, limits),
        Content::Zip => return zip::scan(input, limits, scan),
        Content::Text if is_package_list(name, ending) => {
            "a list of packages, which servers install before they load the model"
        }
        Content::Text if name == "entry_points.txt" => {
            let detail = "names of code that Python imports for plug-ins";
            report.add(Verdict::Executable, 0, "entry-points", detail);
            return Ok(report);
        }
        Content::Text if name == "checkpoint" => return tensor_bundle::state::scan(input, limits),
        Content::Text if config::is_module_name(name) => {
            return config::scan_module_name(input, name);
        }
        Content::Text if matches!(ending, "cff" | "yaml" | "yml") || config::is_yaml(name) => {
            return config::scan_yaml(input, name, limits);
        }
        Content::Text if matches!(ending, "cfg" | "conf" | "ini") => {
            return config::scan_sections(input, limits);
        }
        Content::Text if matches!(ending, "j2" | "jinja") => {
            // One byte more than a template may have, so that a longer one is noticed.
            let most = u64::try_from(jinja::MAX_BYTES).unwrap_or(u64::MAX);
            let template = magic::read_at(input, 0, most.saturating_add(1))?;
            jinja::check(&template, 0, &mut report);
            return Ok(report);
        }
        Content::Text
            if is_text_name(name, ending)
                || (ending == "model" && text::is_ranked_tokens(input)?)
                || text::is_tool_note(name, head, input::length(input)?) =>
        {
            return Ok(report);
        }
        Content::Text if ending == "svg" => "a picture that may have scripts and links",
        Content::Text => "a text that no name calls one: its reader is not known",
        Content::Empty => return Ok(scan_empty(name, ending)),
        Content::Program(kind) => {
            let detail = format!("{kind}, which a loader or an interpreter runs");
            // A name that hides a program is that of an attack.
            let severity = if PROGRAMS.contains(&ending) || kind == "script" {
                Severity::High
            } else {
                Severity::Critical
            };
            report.add_executable(severity, 0, rules::PROGRAM, &detail);
            return Ok(report);
        }
        Content::Other(_) => "no scanner follows this format",
        Content::Unknown => "the content begins as no format that is known",
    };
    report.add(Verdict::Unknown, 0, rules::UNSCANNED, detail);
    Ok(report)
}

/// Scans a file without bytes. A text may be empty, and a format with a beginning may not: such a
/// file is cut off. `name` and `ending` are in lower case.
fn scan_empty(name: &str, ending: &str) -> Report {
    let is_text = is_text_name(name, ending) || BRACED_TEXTS.contains(&ending);
    // A program that holds the lock of a file leaves it without bytes.
    if is_text || ending == "lock" || MODULES.contains(&ending) {
        return Report::new(Content::Text.name());
    }
    // Triton then goes by the names of the files.
    if triton::is_config(name, b"") {
        return Report::new(Content::TritonConfig.name());
    }
    let mut report = Report::new(Content::Empty.name());
    let has_format = ENDINGS.iter().any(|(known, _)| *known == ending);
    let (verdict, detail) = if has_format {
        let detail = "the file has no bytes, and its format needs some";
        (Verdict::Malformed, detail)
    } else {
        (
            Verdict::Unknown,
            "the file has no bytes, as after a broken download",
        )
    };
    report.add(verdict, 0, "empty", detail);
    report
}

/// Whether bytes of another format are also a pickle that runs code. Many bytes are opcodes, and a
/// few of them import a name by chance; a call needs several that fit. An unpickler makes it before
/// it finds a fault.
fn runs_code(pickle: &Report) -> bool {
    let calls = |finding: &Finding| {
        matches!(finding.rule, "pickle-call" | "pickle-build")
            && finding.verdict == Verdict::Executable
    };
    // An item of what it imported, such as the functions of `builtins`. Other values raise an
    // error.
    let imports = |finding: &Finding| finding.rule == "pickle-global";
    let stores = |finding: &Finding| finding.rule == "pickle-items";
    let is_fault = |finding: &Finding| finding.verdict == Verdict::Malformed;
    // What an unpickler may reach and this scanner does not.
    let is_open = |finding: &Finding| matches!(finding.rule, pickle::AMBIGUOUS | pickle::LIMIT);
    let findings = &pickle.findings;
    // Further findings are not kept, and one of them may be the call.
    findings.len() >= MAX_FINDINGS
        || findings.iter().any(is_open)
        || findings.iter().any(calls)
        || (findings.iter().any(imports) && findings.iter().any(stores))
        || (pickle.verdict == Verdict::Executable && !findings.iter().any(is_fault))
}

/// Whether JSON begins as a model of XGBoost: with one of its members, and soon with its learner.
fn is_booster(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head);
    let first_key = head.trim_start().strip_prefix('{').map(str::trim_start);
    let begins = first_key.is_some_and(|first_key| {
        let mut members = boosters::MEMBERS.iter();
        members.any(|member| {
            let rest = first_key
                .strip_prefix('"')
                .and_then(|key| key.strip_prefix(member));
            rest.is_some_and(|rest| rest.starts_with('"'))
        })
    });
    let mut learners = head.split("\"learner\"").skip(1);
    begins && learners.any(|rest| rest.trim_start().starts_with(':'))
}

/// Whether a text lists Python packages. Model servers install them, and packages run code.
fn is_package_list(name: &str, ending: &str) -> bool {
    let stem = name.strip_suffix(ending).unwrap_or(name);
    match ending {
        // The package itself, whose build runs code and installs others.
        "cfg" => stem == "setup.",
        "toml" => stem == "pyproject.",
        "txt" => name.starts_with("requirements"),
        "yaml" | "yml" => matches!(stem, "conda." | "environment." | "python_env."),
        _ => false,
    }
}

/// Whether a reader goes by this name, in lower case and with this ending, whatever is in the file.
pub(super) fn has_reader(name: &str, ending: &str) -> bool {
    ENDINGS.iter().any(|(known, _)| *known == ending)
        || PROGRAMS.contains(&ending)
        || BRACED_TEXTS.contains(&ending)
        || is_text_name(name, ending)
        || config::is_yaml(name)
        || config::is_module_name(name)
}

/// Whether a text is one by its name.
fn is_text_name(name: &str, ending: &str) -> bool {
    let is_named = || {
        TEXT_NAMES
            .iter()
            .any(|beginning| name.starts_with(beginning))
            || name.contains("licen")
    };
    // The last part of `LICENSE-APACHE-2.0` is no ending.
    let has_no_ending = !name.contains('.') || matches!(ending, "0" | "1" | "2");
    TEXTS.contains(&ending) || ((has_no_ending || name.starts_with(".git")) && is_named())
}

/// Whether a file is a text for people by its name, whose encoding no reader depends on.
fn is_prose(name: &str, ending: &str) -> bool {
    is_text_name(name, ending) && !is_package_list(name, ending) && !config::is_module_name(name)
}

/// Looks at the bytes where readers of other formats look, and scans what they would find.
fn add_other_readings(
    content: Content,
    input: &mut dyn Input,
    head: &[u8],
    length: u64,
    limits: &Limits,
    report: &mut Report,
) -> io::Result<()> {
    let is_pickle = matches!(content, Content::Pickle | Content::TorchLegacy);
    // A zip begins as a persistent identifier in text, which no loader of pickles takes: torch's
    // reads a number without any first, and then identifiers that are tuples.
    let is_zip = content == Content::Zip && head.starts_with(b"P");
    if !is_pickle && !is_zip && head.first().is_some_and(|byte| magic::is_opcode(*byte)) {
        let pickle = pickle::scan(input, limits)?;
        if runs_code(&pickle) || pickle.verdict == Verdict::Safe {
            add_reading(report, content, 0, "a pickle", pickle);
        }
    }
    // Readers of such a model look for a zip behind it, and the scan of the model followed it.
    let is_followed = match content {
        Content::Zip => true,
        Content::Tflite => zip::first_member(input, limits)?.is_some(),
        _ => false,
    };
    if !is_followed && magic::ends_as_zip(input, length)? {
        let zip = zip::scan(input, limits, scan)?;
        add_reading(report, content, length, "a zip by its end", zip);
    }
    if content != Content::Tar && magic::is_tar(head) {
        let tar = tar::scan(input, limits, scan)?;
        add_reading(report, content, 0, "a tar", tar);
    }
    if content != Content::TensorBundle && magic::ends_as_table(input, length)? {
        let table = tensor_bundle::scan(input, limits)?;
        add_reading(report, content, length, "a tensor bundle by its end", table);
    }
    if content != Content::Hdf5
        && let Some(offset) = magic::hdf5_behind(input, length)?
    {
        let mut behind = Window::new(input, offset, length.saturating_sub(offset));
        let hdf5 = keras::h5::scan(&mut behind, limits)?;
        add_reading(report, content, offset, "HDF5 behind a user block", hdf5);
    }
    Ok(())
}

fn add_reading(report: &mut Report, content: Content, offset: u64, form: &str, reading: Report) {
    let detail = format!("the file is {} and also {form}", content.name());
    report.add(Verdict::Malformed, offset, "polyglot", &detail);
    report.add_part(form, reading);
}

#[cfg(test)]
mod tests;
