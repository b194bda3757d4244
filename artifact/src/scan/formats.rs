//! The table of formats: one row each, in the order in which their marks and then their names are
//! tried.
//!
//! A row has the name in output and these parts, each of which may be missing:
//! - `endings`: endings of names that need such content, or that of another row with the ending.
//! - `begins`: how a file of the format begins. `at_four`: the identifier of a flatbuffer.
//! - `magic`: another mark. `fields`: the first fields of a protocol buffer, which are less
//!   certain.
//! - `names`: when a reader takes a file for this format by its name, although its bytes do not say
//!   so. `unmarked`: endings of such files without a mark. `called`: the whole name of a file with
//!   any bytes but a mark. `text`: the same as `names` for texts.
//! - `also`: where a reader finds the format in a file of another one.
//!
//! It ends with what scans a file: `scan` or `run`, or `runs` for a program. A format that is not
//! followed has `advice`: why, or what to do.

use std::io;

use Evidence::{Fields, Json, Mark, Text};

use super::format::{Evidence, File, Format};
use super::keras::{h5, saved_metadata};
use super::saved_model::fingerprint;
use super::tensor_bundle::{state, table};
use super::{
    Input, Limits, Report, Severity, Verdict, apple_double, boosters, config, gguf, jinja, magic,
    mediapipe, numpy, onnx, openvino, pickle, picture, rules, safetensors, saved_model,
    sentencepiece, tar, tensor_bundle, texts, tflite, triton, zip,
};

/// Endings of programs. A loader, an interpreter or a user runs such a file.
pub(super) const PROGRAMS: [&str; 24] = [
    "bat", "cmd", "dll", "dylib", "exe", "ipynb", "jar", "js", "lua", "mjs", "php", "pl", "ps1",
    "py", "pyc", "pyd", "pyi", "pyx", "r", "rb", "sh", "so", "vbs", "wasm",
];
/// Endings of pickles, which may be of protocol 0 and have no mark then.
const PICKLES: [&str; 8] = [
    "ckpt",
    "cloudpickle",
    "dill",
    "joblib",
    "pickle",
    "pkl",
    "pt",
    "pth",
];
/// Endings of pickles, which joblib and others store compressed.
const PACKED: [&str; 5] = ["cloudpickle", "dill", "joblib", "pickle", "pkl"];
/// How PNG, JPEG and GIF begin.
const PICTURES: [&[u8]; 4] = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a"];
const ZIPS: [&[u8]; 3] = [b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"];
/// A pickle of torch's magic number.
const TORCH_LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
/// Endings of files that are often empty: modules of Python, to mark a package, and the lock of a
/// program that holds it.
const OFTEN_EMPTY: [&str; 3] = ["lock", "py", "pyi"];
// What to do about formats that are not followed.
const UNPACK: &str = "unpack it, and scan what is in it";
const ORIGIN: &str = "serve the model that it was converted from, as ONNX or safetensors";
const ARRAYS: &str = "load it, and save its arrays with `safetensors.flax.save_file`";
const TABLE: &str = "keep tables in another folder than the model, or save them as CSV";
const NATIVE: &str = "its readers trust its offsets; build it yourself, and use `--exceptions`";

/// Makes the table from its rows.
macro_rules! formats {
    ($file:ident, $evidence:ident => $(
        $id:literal
        $(endings $endings:tt)?
        $(begins $marks:expr)?
        $(, at_four $identifier:literal)?
        $(, magic $magic:expr)?
        $(, fields $fields:expr)?
        $(, unmarked $unmarked:expr)?
        $(, called $called:literal)?
        $(, names $names:expr)?
        $(, text $text:expr)?
        $(, also $also:expr)?
        $(, scan $scan:path)?
        $(, run $run:expr)?
        $(, runs $runs:ident)?
        $(, advice $advice:expr)?
    ;)*) => {
        /// All formats.
        #[allow(unused_variables, reason = "a part of a row may need none")]
        pub(super) static FORMATS: &[Format] = &[$(Format {
            id: $id,
            endings: list(&[$(&$endings)?]),
            names: |$file, $evidence| {
                false
                    $(|| ($evidence < Fields && $unmarked.contains(&$file.ending)))?
                    $(|| ($evidence < Mark && $file.name == $called))?
                    $(|| $names)?
                    $(|| ($evidence == Text && $text))?
            },
            magic: |$file| {
                if false
                    $(|| $file.begins(&$marks))?
                    $(|| $file.head.get(4..8) == Some($identifier.as_slice()))?
                    $(|| $magic)?
                {
                    Mark
                } $(else if $fields {
                    Fields
                })? else {
                    Evidence::None
                }
            },
            also: &[$(|$file| $also)?],
            scan: |$file| {
                $($scan($file.input, $file.limits))?
                $($run)?
                $(Ok(program($id, $runs)))?
                $(Ok(unscanned($id, $advice)))?
            },
        }),*];
    };
}

formats! { file, evidence =>
    "empty", magic file.length == 0, run Ok(scan_empty(file));
    "zip" endings ["ckpt", "keras", "mar", "npz", "pickle", "pkl", "pt", "pt2", "pth", "zip"]
        begins ZIPS,
        also find_zip(file),
        run scan_zip(file);
    "torch legacy" endings ["ckpt", "pickle", "pkl", "pt", "pth"]
        begins [TORCH_LEGACY],
        scan pickle::legacy_torch;
    "gguf" endings ["gguf"] begins [b"GGUF"], scan gguf::scan;
    "npy" endings ["npy"] begins [b"\x93NUMPY"], scan numpy::scan;
    "lightgbm" endings ["txt"],
        magic is_lightgbm(file),
        scan boosters::scan_lightgbm;
    "hdf5" endings ["h5", "hdf5"] begins [magic::HDF5],
        also magic::hdf5_behind(file.input, file.length),
        scan h5::scan;
    "picture", magic is_picture(file), run picture::scan(file.input, file.ending, file.limits);
    "apple double" begins [b"\0\x05\x16\x07\0\x02\0\0"], scan apple_double::scan;
    "elf" begins [b"\x7fELF"], runs file;
    "pe" begins [b"MZ"], runs file;
    // Also the classes of Java.
    "mach-o"
        begins [
            b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe",
            b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf",
        ],
        runs file;
    "wasm" begins [b"\0asm"], runs file;
    "llvm bitcode" begins [b"BC\xc0\xde"], runs file;
    // `lua` runs a file of any name that begins so.
    "lua bytecode" begins [b"\x1bLua", b"\x1bLJ"], runs file;
    "ar" begins [b"!<arch>\n"], runs file;
    "python bytecode", magic magic::is_python_code(&file.head), runs file;
    // A picture can be a script, too.
    "script" begins [b"#!"],
        names PROGRAMS.contains(&file.ending) && (evidence < Mark || is_picture(file)),
        runs file;
    "gzip" endings ["cloudpickle", "dill", "gz", "joblib", "pickle", "pkl"] begins [b"\x1f\x8b"],
        advice UNPACK;
    // A text may begin as some of its files do.
    "zlib" endings PACKED,
        magic is_zlib(file),
        names evidence < Text && file.begins(&[b"x^"]),
        advice UNPACK;
    "xz" endings PACKED begins [b"\xfd7zXZ\0"], advice UNPACK;
    "lzma" endings PACKED, magic magic::is_lzma(&file.head), advice UNPACK;
    "zstd" endings PACKED begins [b"\x28\xb5\x2f\xfd"], advice UNPACK;
    "bzip2" endings PACKED begins [b"BZh"], advice UNPACK;
    "lz4" endings PACKED begins [b"\x04\x22\x4d\x18"], advice UNPACK;
    // joblib before 0.10.
    "joblib zlib" endings PACKED begins [b"ZF0x"], advice UNPACK;
    "7z" begins [b"7z\xbc\xaf\x27\x1c"], advice UNPACK;
    "rar" begins [b"Rar!\x1a\x07"], advice UNPACK;
    "ggml" begins [b"lmgg", b"fmgg", b"tjgg", b"algg"],
        advice "convert the original weights to GGUF, or serve them as safetensors";
    "fasttext" begins [b"\xba\x16\x4f\x2f"], advice NATIVE;
    "kenlm" begins [b"mmap lm http://"], advice NATIVE;
    "r" begins [b"RDX2\n", b"RDX3\n", b"X\n\0\0\0"],
        advice "R runs what is in it; export the model as ONNX, or tables as CSV";
    "tensorizer" begins [b"|TZR|"], advice "save the `state_dict` as safetensors";
    "xgboost binary" begins [b"binf"],
        advice "save it as JSON or UBJSON with the release of XGBoost that wrote it";
    "catboost" begins [b"CBM1"],
        advice "save it with `save_model(path, format=\"json\")`, or \"onnx\" without categories";
    "java serialization" begins [b"\xac\xed\0\x05"],
        advice "readers in Java make objects of any class from it; export the model as ONNX";
    "tensorrt" begins [b"ftrt", b"ptrt"],
        names evidence < Text && matches!(file.ending, "engine" | "plan" | "trt"),
        advice "serve the ONNX model that the plan was built from, or build it from a scanned one";
    "sqlite" begins [b"SQLite format 3\0"],
        advice "save tensors as safetensors, or tables as CSV";
    "parquet" begins [b"PAR1"], advice TABLE;
    "arrow" begins [b"ARROW1\0\0"], advice TABLE;
    "pdf" begins [b"%PDF-"], advice "keep documents in another folder than the model";
    "ctranslate2", magic magic::is_ctranslate2(&file.head),
        advice "scan the original weights as safetensors, and convert them yourself";
    // A database of TensorStore, in which Orbax stores the arrays of a checkpoint.
    "ocdbt" begins [b"\x0c\xdb\x3a\x2a"], advice ARRAYS;
    "flax", names evidence < Text && file.ending == "msgpack", advice ARRAYS;
    "litert-lm" begins [b"LITERTLM"], advice ORIGIN;
    "kaldi" begins [b"\0B<"], advice NATIVE;
    "openfst" begins [b"\xd6\xfd\xb2\x7e"], advice NATIVE;
    "ncnn",
        names (evidence < Text && file.name.ends_with(".ncnn.bin"))
            || (evidence == Text && file.ending == "param" && file.begins(&[b"7767517\n"])),
        advice ORIGIN;
    "mnn", names evidence < Text && file.ending == "mnn", advice ORIGIN;
    "rknn", names evidence < Text && file.ending == "rknn", advice ORIGIN;
    "paddle", names evidence < Text && file.ending == "pdiparams",
        advice "convert the model with `paddle2onnx`";
    "mlc", names evidence < Text && file.name.starts_with("params_shard_"), advice ORIGIN;
    "tensorflow.js",
        names evidence < Text && file.name.starts_with("group") && file.name.contains("-shard"),
        advice "serve the SavedModel or the Keras model that it was converted from";
    "safetensors" endings ["safetensors"],
        magic magic::is_safetensors(&file.head, file.length),
        scan safetensors::scan;
    "tflite" endings ["tflite"], at_four b"TFL3", run scan_tflite(file);
    "executorch" endings ["pte"], at_four b"ET12",
        advice ORIGIN;
    "ort", at_four b"ORTM",
        advice "serve the ONNX model that it was converted from: ONNX Runtime reads both";
    "pickle" endings PICKLES,
        magic pickle::begins(&file.head),
        unmarked PICKLES,
        also find_pickle(file),
        scan pickle::scan;
    "tar" endings ["ckpt", "pt", "pth", "tar"],
        magic magic::is_tar(&file.head),
        also Ok(magic::is_tar(&file.head).then_some(0)),
        run tar::scan(file.input, file.limits, file.scan_file);
    "ubjson" endings ["ubj"],
        magic file.begins(&[b"{L\0\0\0\0"]) || (file.begins(&[b"{i"]) && file.head.contains(&0)),
        unmarked ["ubj"],
        scan boosters::scan_xgboost_ubjson;
    // The mark lies behind a description, which may be longer than the head.
    "coreml" endings ["mlmodel"], magic magic::is_core_ml(&file.head),
        names matches!(evidence, Evidence::None | Fields) && file.ending == "mlmodel",
        advice ORIGIN;
    "sentencepiece", fields magic::is_sentencepiece(&file.head), scan sentencepiece::scan;
    // The fields of other models are graphs in it.
    "metagraph",
        names evidence == Fields && file.ending == "meta", advice "export a SavedModel";
    // TensorFlow reads these names as its own formats, whatever the first fields look like.
    "saved model fingerprint" endings ["pb"],
        called "fingerprint.pb",
        scan fingerprint::scan;
    "saved model",
        called "keras_metadata.pb",
        scan saved_metadata::scan;
    "saved model",
        called "saved_model_config.pb",
        advice "options of TensorFlow Serving, which can send a part of the graph to another host";
    "triton config" endings ["pbtxt"],
        names evidence < Mark
            && file.ending == "pbtxt"
            && triton::is_config(file.name, &file.head),
        scan triton::scan;
    "mediapipe graph" endings ["pbtxt"],
        names evidence < Fields && file.ending == "pbtxt" && mediapipe::is_graph(&file.head),
        scan mediapipe::scan;
    "saved model" endings ["pb", "pbtxt"],
        fields file.begins(&[b"\x08\x01\x12"]),
        unmarked ["pb", "pbtxt"],
        called "saved_model.pb",
        scan saved_model::scan;
    "onnx" endings ["onnx", "pb"],
        fields magic::is_onnx(&file.head),
        unmarked ["onnx"],
        scan onnx::scan;
    "tensor bundle",
        magic file.tail.ends_with(&table::MAGIC),
        also Ok(file.tail.ends_with(&table::MAGIC).then_some(0)),
        scan tensor_bundle::scan;
    "json" endings ["json"],
        names evidence == Json
            && matches!(file.name, "model_index.json" | "modular_model_index.json"),
        scan config::scan_pipeline;
    "xgboost json" endings ["json"],
        names evidence == Json && texts::is_booster(&file.head),
        run scan_booster(file, boosters::scan_xgboost_json);
    "catboost json" endings ["json"],
        names evidence == Json && texts::is_catboost(&file.head),
        run scan_booster(file, boosters::scan_catboost_json);
    "json" endings ["json"],
        names evidence == Json,
        run config::scan(file.input, file.name, file.limits);
    "text", text texts::is_package_list(file.name, file.ending),
        advice "a list of packages, which servers install before they load the model";
    "text", text file.name == "entry_points.txt", run {
        let mut report = Report::new("text");
        let detail = "names of code that Python imports for plug-ins";
        report.add(Verdict::Executable, 0, rules::ENTRY_POINTS, detail);
        Ok(report)
    };
    "text", text file.name == "checkpoint", scan state::scan;
    "text", text config::is_module_name(file.name),
        run config::scan_module_name(file.input, file.name);
    "openvino", text file.ending == "xml" && openvino::is_model(&file.head),
        run openvino::scan(file.input, file.given_name, file.limits);
    "yaml" endings ["yaml", "yml"],
        text matches!(file.ending, "cff" | "yaml" | "yml") || config::is_yaml(file.name),
        run config::scan_yaml(file.input, file.name, file.limits);
    "text", text matches!(file.ending, "cfg" | "conf" | "ini"), scan config::scan_sections;
    "text", text matches!(file.ending, "j2" | "jinja"), run {
        let mut report = Report::new("text");
        // One byte more than a template may have, so that a longer one is noticed.
        let max_bytes = u64::try_from(jinja::MAX_BYTES).unwrap_or(u64::MAX);
        let template = magic::read_at(file.input, 0, max_bytes.saturating_add(1))?;
        jinja::check(&template, 0, &mut report);
        Ok(report)
    };
    "text", text file.ending == "toml", advice "its reader is not known";
    "text", text file.ending == "svg", advice "a picture that may have scripts and links";
    "text" endings ["csv", "jsonl", "log", "md", "rst", "tsv", "txt", "yaml", "yml"],
        text texts::is_text_name(file.name, file.ending),
        run texts::scan_text(file);
    "unnamed text", text true, run texts::scan_unnamed(file);
}

/// The format of a file whose bytes and name say nothing.
pub(super) static UNKNOWN: Format = Format {
    id: "unknown",
    endings: &[],
    names: |_, _| false,
    magic: |_| Evidence::None,
    also: &[],
    scan: |_| {
        Ok(unscanned(
            "unknown",
            "the content begins as no format that is known",
        ))
    },
};

/// Formats of which a file with this ending has to be.
pub(super) fn required_by(ending: &str) -> Vec<&'static str> {
    let formats = FORMATS.iter().filter(|it| it.endings.contains(&ending));
    formats.map(|it| it.id).collect()
}

/// The format as which a reader of this name takes a file whose bytes are so certain.
pub(super) fn by_name(file: &File<'_>, evidence: Evidence) -> Option<&'static Format> {
    FORMATS.iter().find(|it| (it.names)(file, evidence))
}

const fn list(endings: &[&'static [&'static str]]) -> &'static [&'static str] {
    match endings {
        [endings, ..] => endings,
        [] => &[],
    }
}

/// The report on a file that no scanner follows. `advice` is why, or what to do.
fn unscanned(format: &'static str, advice: &str) -> Report {
    let mut report = Report::new(format);
    let detail = format!("no scanner follows {format}: {advice}");
    report.add(Verdict::Unknown, 0, rules::UNSCANNED, &detail);
    report
}

/// Scans a file without bytes. A text may be empty, and a format with a beginning may not: such a
/// file is cut off.
fn scan_empty(file: &File<'_>) -> Report {
    if OFTEN_EMPTY.contains(&file.ending) || texts::may_be_empty(file.name, file.ending) {
        return Report::new("text");
    }
    // Triton then goes by the names of the files.
    if triton::is_config(file.name, b"") {
        return Report::new("triton config");
    }
    let mut report = Report::new("empty");
    let (verdict, detail) = if required_by(file.ending).is_empty() {
        let detail = "the file has no bytes, as after a broken download";
        (Verdict::Unknown, detail)
    } else {
        let detail = "the file has no bytes, and its format needs some";
        (Verdict::Malformed, detail)
    };
    report.add(verdict, 0, rules::EMPTY, detail);
    report
}

/// Scans a zip, whose members must be those of the format that its name ends in.
fn scan_zip(file: &mut File<'_>) -> io::Result<Report> {
    let mut report = zip::scan(file.input, file.limits, file.scan_file)?;
    let (rule, detail) = match (file.ending, report.format) {
        ("keras", format) if format != "keras" => {
            let detail = "the archive has no config.json, from which Keras builds the model";
            (rules::KERAS_CONFIG, detail)
        }
        // `torch.load` ignores the ending.
        ("pickle" | "pkl", format) if format != "torch zip" => {
            let detail = "the name is that of a pickle, and the content is an archive";
            (rules::EXTENSION, detail)
        }
        _ => return Ok(report),
    };
    report.add(Verdict::Malformed, 0, rule, detail);
    Ok(report)
}

/// Scans a model with the files behind it.
fn scan_tflite(file: &mut File<'_>) -> io::Result<Report> {
    file.is_zip_followed = zip::first_member(file.input, file.limits)?.is_some();
    tflite::scan_packed(file.input, file.limits, file.scan_file)
}

/// Where readers of zips find one by its end, unless the scan of the file followed it.
fn find_zip(file: &mut File<'_>) -> io::Result<Option<u64>> {
    let is_zip = !file.is_zip_followed && magic::ends_as_zip(file.input, &file.tail, file.length)?;
    Ok(is_zip.then_some(0))
}

/// Where an unpickler would run code, or read a pickle to the end of the file.
fn find_pickle(file: &mut File<'_>) -> io::Result<Option<u64>> {
    // A zip begins as a persistent identifier in text, which no loader of pickles takes: torch's
    // reads a number without any first, and then identifiers that are tuples.
    let is_followed = file.begins(&ZIPS) || file.begins(&[TORCH_LEGACY]);
    let is_pickle = !is_followed && pickle::is_in(file.input, file.limits)?;
    Ok(is_pickle.then_some(0))
}

/// Scans a model in JSON, as a configuration, too.
fn scan_booster(
    file: &mut File<'_>,
    scan: fn(&mut dyn Input, &Limits) -> io::Result<Report>,
) -> io::Result<Report> {
    let mut report = scan(file.input, file.limits)?;
    // A reader of configurations may take it, too, and goes by other keys.
    let document = config::scan_model(file.input, file.name, file.limits)?;
    report.add_part("the document", document);
    Ok(report)
}

/// Whether a file begins as zlib at one of its usual levels. No stream has six zeros behind that,
/// and the length of a header of safetensors does.
fn is_zlib(file: &File<'_>) -> bool {
    let is_number = file.head.get(2..8) == Some([0; 6].as_slice());
    file.begins(&[b"x\x01", b"x\x9c", b"x\xda"]) && !is_number
}

/// Whether a text begins as a model of LightGBM, whose lines may have any order. A vocabulary has
/// no values.
fn is_lightgbm(file: &File<'_>) -> bool {
    let has_values = file.head.contains(&b'=') || file.tail.contains(&b'=');
    file.begins(&[b"tree\n", b"tree\r"]) && (has_values || file.has_middle())
}

/// Whether a file begins as PNG, JPEG, GIF or WebP.
fn is_picture(file: &File<'_>) -> bool {
    let is_webp = || file.begins(&[b"RIFF"]) && file.head.get(8..12) == Some(b"WEBP");
    file.begins(&PICTURES) || is_webp()
}

fn program(kind: &'static str, file: &File<'_>) -> Report {
    let mut report = Report::new(kind);
    let detail = format!("{kind}, which a loader or an interpreter runs");
    // A name that hides a program is that of an attack.
    let severity = if kind == "script" || PROGRAMS.contains(&file.ending) {
        Severity::High
    } else {
        Severity::Critical
    };
    report.add_executable(severity, 0, rules::PROGRAM, &detail);
    report
}
