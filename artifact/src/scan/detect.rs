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
    boosters, config, gguf, jinja, keras, numpy, onnx, pickle, picture, safetensors, saved_model,
    sentencepiece, tar, tensor_bundle, text, tflite, triton, zip,
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
    let content = match (name.as_str(), content) {
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
        ("keras_metadata.pb" | "saved_model_config.pb", Content::Onnx | Content::SentencePiece) => {
            Content::SavedModel
        }
        _ => match by_name(content, ending) {
            Content::SavedModel if ending == "pbtxt" && triton::is_config(&name, &head) => {
                Content::TritonConfig
            }
            content => content,
        },
    };
    let mut report = scan_as(content, input, (name.as_str(), ending), &head, limits)?;
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

/// The content that a loader of this ending reads, where the bytes have no mark of their own: a
/// pickle of protocol 0 is a text, and a protocol buffer may begin with any of its fields.
fn by_name(content: Content, ending: &str) -> Content {
    let is_text = matches!(content, Content::Json | Content::Text);
    let is_data = matches!(
        content,
        Content::Picture | Content::SentencePiece | Content::Unknown
    );
    if PROGRAMS.contains(&ending) && (is_text || is_data) {
        return Content::Program("script");
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
            report.add_executable(severity, 0, "program", &detail);
            return Ok(report);
        }
        Content::Other(_) => "no scanner follows this format",
        Content::Unknown => "the content begins as no format that is known",
    };
    report.add(Verdict::Unknown, 0, "unscanned", detail);
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
    // An item of what it imported, such as the functions of `builtins`. Other values raise an error.
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
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "tests"
    )]
    use super::*;
    use crate::scan::hdf5::build::Writer;
    use std::io::Cursor;

    fn scanned(name: &str, content: &[u8]) -> Report {
        scan(&mut Cursor::new(content), name, &Limits::default()).unwrap()
    }

    /// A safetensors file with one tensor.
    fn safetensors() -> Vec<u8> {
        let header = br#"{"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}   "#;
        let mut file = u64::try_from(header.len()).unwrap().to_le_bytes().to_vec();
        file.extend(header);
        file.extend([1, 2, 3, 4]);
        file
    }

    /// A model of Core ML: its version, a description, and a neural network as field 500.
    const COREML: &[u8] = b"\x08\x04\x12\x03\x0a\x01a\xa2\x1f\x00";

    /// `os.system("id")` as a pickle of protocol 0, which is a text.
    const TEXT_PICKLE: &[u8] = b"cos\nsystem\n(S'id'\ntR.";

    #[test]
    fn the_finding_of_a_program_names_its_kind_and_what_runs_it() {
        let report = scanned("model", b"\x7fELF\x02\x01\x01\0");
        let [finding] = report.findings.as_slice() else {
            unreachable!("one finding: {report:?}");
        };
        assert_eq!(finding.rule, "program");
        assert_eq!(finding.detail, "elf, which a loader or an interpreter runs");
    }

    #[test]
    fn names_of_models_and_weights_are_known() {
        for name in [
            "model.safetensors",
            "pytorch_model.BIN",
            "model.onnx",
            "model.onnx.data",
            "model.onnx_data",
            "a.gguf",
            "a.pt",
            "checkpoint.pth.tar",
            "saved_model.pb",
            "variables.data-00000-of-00001",
            "spiece.model",
            "model.graphdef",
            "model.LITE",
            "booster.bst",
            "trees.cbm",
        ] {
            assert!(is_model_name(name), "{name}");
        }
        for name in [
            "bin",
            "README.md",
            "config.json",
            "vocab.txt",
            "model.sig",
            "logs.tar.gz",
            "notes.zip",
            "model.safetensors.metadata",
            "modeling.py",
        ] {
            assert!(!is_model_name(name), "{name}");
        }
    }

    #[test]
    fn a_name_only_makes_the_verdict_worse() {
        let own = safetensors();
        let booster = br#"{"version":[2,1,0],"learner":{"attributes":{}}}"#;
        let hydra = br#"{"learner":{"attributes":{"_target_":"os.system"}}}"#;
        let pipeline = br#"{"_class_name":"P","unet":["my_unet","U"]}"#;
        let cases: [(&str, &[u8], Verdict, &str); 59] = [
            ("a.safetensors", &own, Verdict::Safe, "safetensors"),
            ("a", &own, Verdict::Safe, "safetensors"),
            ("a.gguf", &own, Verdict::Malformed, "safetensors"),
            ("A.GGUF", &own, Verdict::Malformed, "safetensors"),
            ("README.md", b"# A model\n", Verdict::Safe, "text"),
            ("LICENSE", b"Apache License\n", Verdict::Safe, "text"),
            ("notes.md", b"[a link](b)\n", Verdict::Safe, "text"),
            ("model.py", b"import os\n", Verdict::Executable, "script"),
            ("run", b"#!/bin/sh\nid\n", Verdict::Executable, "script"),
            ("a.txt", b"\x7fELF\x02", Verdict::Executable, "elf"),
            ("thing", b"some words\n", Verdict::Unknown, "text"),
            ("a.safetensors", b"", Verdict::Malformed, "empty"),
            ("a.h5", b"\x89HDF\r\n\x1a\n", Verdict::Malformed, "hdf5"),
            ("a.bin", &Writer::new().file(), Verdict::Safe, "hdf5"),
            ("a.gz", b"\x1f\x8b\x08\0", Verdict::Unknown, "gzip"),
            (
                "a.safetensors",
                b"\x1f\x8b\x08\0",
                Verdict::Malformed,
                "gzip",
            ),
            ("model.pkl", TEXT_PICKLE, Verdict::Executable, "pickle"),
            ("model.pt", TEXT_PICKLE, Verdict::Executable, "pickle"),
            ("thing", TEXT_PICKLE, Verdict::Executable, "text"),
            ("a.txt", TEXT_PICKLE, Verdict::Executable, "text"),
            ("words.txt", b"cat\ndog\n", Verdict::Safe, "text"),
            ("LICENSE", b"\xa9 A. Author\n", Verdict::Safe, "text"),
            ("LICENSE-APACHE-2.0", b"terms\n", Verdict::Safe, "text"),
            ("MODEL_LICENSE", b"terms\n", Verdict::Safe, "text"),
            ("LICENSE-2.0", TEXT_PICKLE, Verdict::Executable, "text"),
            ("LICENSE.model", b"terms\n", Verdict::Unknown, "text"),
            ("tokenizer.model", b"IQ== 0\n", Verdict::Safe, "text"),
            ("tokenizer.model", TEXT_PICKLE, Verdict::Executable, "text"),
            ("LICENSE.py", b"terms\n", Verdict::Executable, "script"),
            ("checklist.chk", b"0a1b  a.pth\n", Verdict::Safe, "text"),
            ("README.md", b"\xff\xfe#\0 \0a\0", Verdict::Safe, "text"),
            (
                "README.md",
                b"\xff\xfe#\0\0\0",
                Verdict::Malformed,
                "unknown",
            ),
            ("thing", b"\xa9 A. Author\n", Verdict::Unknown, "unknown"),
            (
                "requirements.txt",
                b"e\xe9\n",
                Verdict::Malformed,
                "unknown",
            ),
            (
                "keras_module.txt",
                b"os\xe9\n",
                Verdict::Malformed,
                "unknown",
            ),
            (
                "CITATION.cff",
                b"cff-version: 1.2.0\n",
                Verdict::Safe,
                "yaml",
            ),
            ("a.svg", b"<svg/>\n", Verdict::Unknown, "text"),
            ("requirements.txt", b"evil\n", Verdict::Unknown, "text"),
            ("conda.yaml", b"a: 1\n", Verdict::Unknown, "text"),
            ("setup.cfg", b"[options]\n", Verdict::Unknown, "text"),
            ("pyproject.toml", b"[project]\n", Verdict::Unknown, "text"),
            ("net.cfg", b"[net]\n", Verdict::Unknown, "text"),
            ("net.conf", b"[net]\n", Verdict::Unknown, "text"),
            ("a.cfg", b"[loggers]\n", Verdict::Executable, "text"),
            ("a.conf", b"x\r[handlers]\r", Verdict::Executable, "text"),
            ("a.ini", b"[formatters]\n", Verdict::Executable, "text"),
            ("entry_points.txt", b"[x]\n", Verdict::Executable, "text"),
            ("MLmodel", b"code: code\n", Verdict::Executable, "yaml"),
            ("MLmodel", b"mlflow_version: 2.9.2\n", Verdict::Safe, "yaml"),
            ("CONFIG.JSON", b"{\"x\":\"a.b\"}", Verdict::Unknown, "json"),
            ("a.json", booster, Verdict::Safe, "xgboost json"),
            ("config.json", hydra, Verdict::Executable, "xgboost json"),
            ("Model_Index.json", pipeline, Verdict::Executable, "json"),
            (
                "old.joblib",
                b"ZF0x12         x\x9c",
                Verdict::Unknown,
                "joblib zlib",
            ),
            ("a.mlmodel", COREML, Verdict::Unknown, "coreml"),
            ("a.onnx", COREML, Verdict::Malformed, "coreml"),
            ("other.yaml", b"a: 1\n", Verdict::Safe, "yaml"),
            ("blob", b"\x01\x02\x03", Verdict::Unknown, "unknown"),
            (
                "keras_metadata.pb",
                b"\x0a\x02\x22\x00",
                Verdict::Unknown,
                "tensorflow saved model",
            ),
        ];
        for (name, content, expected, format) in cases {
            let report = scanned(name, content);
            let found = (report.verdict, report.format);
            assert_eq!(found, (expected, format), "{name}: {report:?}");
        }
        let report = scanned("a.gguf", &own);
        assert_eq!(report.findings[0].rule, "extension");
    }

    #[test]
    fn a_file_that_two_readers_understand_is_malformed() {
        let has_polyglot = |content: &[u8]| {
            let report = scanned("a.safetensors", content);
            assert!(report.verdict >= Verdict::Malformed, "{report:?}");
            report.findings.iter().any(|it| it.rule == "polyglot")
        };
        // A zip behind the tensors: a central directory of one entry, and the end record.
        let mut entry = b"PK\x01\x02".to_vec();
        entry.resize(46, 0);
        entry[28] = 1;
        entry.push(b'a');
        let mut end = b"PK\x05\x06\0\0\0\0\x01\0\x01\0".to_vec();
        end.extend(u32::try_from(entry.len()).unwrap().to_le_bytes());
        end.extend([0; 6]);
        let zip = [safetensors(), entry, end].concat();
        assert!(has_polyglot(&zip));
        // The checksum of a tar header stands in the header of the tensors.
        let mut tar = safetensors();
        tar.resize(1_024, 0);
        tar[257..262].copy_from_slice(b"ustar");
        assert!(has_polyglot(&tar));
        let mut hdf5 = safetensors();
        hdf5.resize(512, 0);
        hdf5.extend(b"\x89HDF\r\n\x1a\n");
        assert!(has_polyglot(&hdf5));
        // The length of the header is opcodes: PROTO and BINFLOAT, which takes the brace along, or
        // SHORT_BINSTRING without a protocol.
        for (header_bytes, begin) in [(0x47_0480_u64, 11), (0x2055, 2 + 0x20)] {
            let mut pickle = header_bytes.to_le_bytes().to_vec();
            pickle.push(b'{');
            pickle.resize(begin, b' ');
            // A break after the call, and more bytes.
            pickle.extend(TEXT_PICKLE.strip_suffix(b".").unwrap());
            pickle.resize(8 + usize::try_from(header_bytes).unwrap(), b' ');
            assert!(has_polyglot(&pickle), "{header_bytes}");
        }
    }

    #[test]
    fn an_empty_file_is_what_its_name_lets_it_be() {
        for (name, expected) in [
            (".gitkeep", Verdict::Safe),
            ("README", Verdict::Safe),
            ("merges.txt", Verdict::Safe),
            ("conda.yaml", Verdict::Safe),
            ("__init__.py", Verdict::Safe),
            ("a", Verdict::Unknown),
            ("a.bin", Verdict::Unknown),
            ("a.lock", Verdict::Safe),
            ("a.so", Verdict::Unknown),
            ("a.gguf", Verdict::Malformed),
            ("config.json", Verdict::Malformed),
            ("a.pkl", Verdict::Malformed),
            ("a.pbtxt", Verdict::Malformed),
            ("config.pbtxt", Verdict::Safe),
        ] {
            let report = scanned(name, b"");
            assert_eq!(report.verdict, expected, "{name}");
            let format = match (expected, name) {
                (Verdict::Safe, "config.pbtxt") => "triton config",
                (Verdict::Safe, _) => "text",
                _ => "empty",
            };
            assert_eq!(report.format, format, "{name}");
            let rules: Vec<_> = report.findings.iter().map(|it| it.rule).collect();
            assert_eq!(rules.is_empty(), expected == Verdict::Safe, "{rules:?}");
        }
    }

    #[test]
    fn a_text_whose_pickle_is_not_followed_to_its_end_is_malformed() {
        let call = TEXT_PICKLE;
        let long = format!("S'{}'\n", "a".repeat(1 << 20));
        let persistent = format!("{}{long}", "P\n0".repeat(MAX_FINDINGS));
        for begin in [
            "I+1\n",
            "I010\n",
            "L0x10\n",
            "I1_0\n",
            "F1_0\n",
            "S'x'\np01\n",
            "S'x'\np4294967296\n",
            "S'x'\np0\n.g0\n",
            long.as_str(),
            persistent.as_str(),
        ] {
            let report = scanned("a.txt", &[begin.as_bytes(), b"0".as_slice(), call].concat());
            let shown = begin.get(..9).unwrap_or(begin);
            assert!(report.verdict >= Verdict::Malformed, "{shown}");
        }
        for text in ["I added 1 bed\n", "F1 score\n", "Large\n", "I3 apples\n"] {
            let verdict = scanned("a.txt", text.as_bytes()).verdict;
            assert_eq!(verdict, Verdict::Safe, "{text}");
        }
    }

    #[test]
    fn a_pickle_that_torch_reads_as_a_tar_is_malformed() {
        // One value of bytes, with a checksum that only Python reads in its place.
        let mut pickle = b"\x80\x03B\0\x02\0\0".to_vec();
        pickle.resize(7 + 512, 0);
        pickle.push(b'.');
        assert_eq!(scanned("a.pt", &pickle).verdict, Verdict::Safe);
        let sum = pickle[..512]
            .iter()
            .map(|byte| u64::from(*byte))
            .sum::<u64>()
            + 8 * 32;
        let mut binary = sum.to_be_bytes();
        binary[0] = 0x80;
        let texts = [
            format!("\t{sum:06o}\0"),
            format!("+{sum:06o}\0"),
            format!("0_{sum:05o}\0"),
        ];
        let fields = texts.iter().map(String::as_bytes);
        for field in fields.chain([binary.as_slice()]) {
            pickle[148..156].copy_from_slice(field);
            let report = scanned("a.pt", &pickle);
            assert!(report.verdict >= Verdict::Malformed, "{report:?}");
        }
    }
}
