//! The rules of findings: the severity of each where it makes a file executable, and how to get a
//! safe file instead.

use super::severity::Severity;

/// A rule, or a family of them: a name that ends in a hyphen is the beginning of all others.
struct Rule {
    name: &'static str,
    /// Its severity where its finding is executable. Others have that of their verdict.
    severity: Severity,
    remedy: &'static str,
}

const fn high(name: &'static str, remedy: &'static str) -> Rule {
    Rule {
        name,
        severity: Severity::High,
        remedy,
    }
}

const fn critical(name: &'static str, remedy: &'static str) -> Rule {
    Rule {
        name,
        severity: Severity::Critical,
        remedy,
    }
}

/// The rule of a file without a format that is known.
pub const UNSCANNED: &str = "unscanned";
/// The rule of a program, such as a Python source.
pub const PROGRAM: &str = "program";
/// The rule of an archive with a program in TorchScript.
pub const TORCHSCRIPT: &str = "torchscript";
/// The rule of what makes Triton run code in Python.
pub const TRITON_PYTHON: &str = "triton-python";
/// The rule of a file of tensors that holds something else, too.
pub const DATA_FILE: &str = "data-file";
/// The rule of an ONNX model whose tensors lie in other files.
pub const ONNX_EXTERNAL_DATA: &str = "onnx-external-data";

/// What to do about a rule without a row.
const NO_ROW: &str = "do not load the file; get the model as safetensors or ONNX";

const AGAIN: &str = "download the file again, or write it anew with the library that made it";
const ARCHIVE: &str =
    "pack the files anew, without links, duplicates or names that leave the folder";
const CODE: &str = "remove the key, and load the model without code of its folder";
const DATA: &str = "save tensors as safetensors, or an estimator as ONNX, and scan the result";
const IMPORTS: &str = "remove the value, or name only what the libraries themselves bring";
const KERAS: &str = "rebuild the model of built-in layers and functions, or export it as ONNX";
const ONNX: &str = "export the model as ONNX anew, with operators of ONNX alone";
const PATH: &str = "name a file in the model's folder, by a path without `..`, and put it there";
const PICTURE: &str = "save the picture anew, or remove it";
const REMOTE: &str = "remove `auto_map` and such keys, and load without `trust_remote_code`";
const REMOVE: &str = "remove the file, or convert the model to safetensors or ONNX";
const YAML: &str = "write the file as plain YAML, without tags and anchors, or as JSON";

/// All rules, those of a family before the family.
const RULES: &[Rule] = &[
    // Files as such.
    high("empty", "download the file again, or remove it"),
    high("entry-points", "remove the file: a model needs no plug-ins"),
    high(
        "extension",
        "give the file the ending of its format, or get it again",
    ),
    critical(
        "polyglot",
        "get the file anew: it is of two formats at once",
    ),
    high(PROGRAM, "remove the file, or export the model to ONNX"),
    high(UNSCANNED, REMOVE),
    // Pickles, and what holds them.
    high("npy-objects", "save the array with a dtype of plain data"),
    high("npy-", AGAIN),
    high("pickle-", DATA),
    high(
        "torch-native-code",
        "export the model as ONNX instead of native code",
    ),
    high("torch-package", "save the `state_dict` as safetensors"),
    high("torch-program", "export the model as ONNX"),
    high("torch-", DATA),
    high(
        TORCHSCRIPT,
        "export the model as ONNX instead of TorchScript",
    ),
    // Keras and HDF5.
    critical("hdf5-external", "store all data in the file itself"),
    critical(
        "hdf5-",
        "write the file anew with Keras, or use safetensors",
    ),
    high("keras-code", "replace `Lambda` by built-in layers"),
    critical("keras-name", "rename the layer: its name leaves the folder"),
    critical(
        "keras-path",
        "store the vocabulary in the model, not by its path",
    ),
    high("keras-", KERAS),
    // TensorFlow.
    high(
        DATA_FILE,
        "write the tensors anew, with the tool that wrote the model",
    ),
    high(
        "checkpoint-state",
        "name the checkpoint without folders, or leave this file out",
    ),
    critical("saved-model-asset", PATH),
    critical(
        "saved-model-operator",
        "export the model without operators that read files or run code, or convert it to ONNX",
    ),
    critical(
        "saved-model-",
        "export the SavedModel anew, or convert it to ONNX",
    ),
    critical("tensor-bundle-", "export the SavedModel anew"),
    critical(
        "tflite-",
        "convert the model anew, with built-in operators alone",
    ),
    // Other formats of tensors.
    critical(
        "gguf-",
        "download the file again, or convert the model to GGUF anew",
    ),
    critical("lightgbm-", AGAIN),
    critical(
        ONNX_EXTERNAL_DATA,
        "store the tensors in the ONNX file, or in a file of plain name beside it",
    ),
    critical("onnx-external-path", PATH),
    critical("onnx-", ONNX),
    critical("picture", PICTURE),
    critical("picture-", PICTURE),
    critical("safetensors-", AGAIN),
    critical("sentencepiece-", AGAIN),
    critical("xgboost-", "save the model anew with `Booster.save_model`"),
    // Configurations and templates.
    high(
        "chat-template",
        "use the template of the model's publisher, or one that only formats messages",
    ),
    high("json-class", IMPORTS),
    critical("json-path", PATH),
    high("json-reference", IMPORTS),
    high("json-remote-code", REMOTE),
    high("json-target", IMPORTS),
    high(
        "json-",
        "write the file as plain JSON, without duplicate keys",
    ),
    high(
        "logging-config",
        "remove the logging configuration from the folder",
    ),
    high(
        "module-name",
        "remove the file, or name a module of the library",
    ),
    high("python-code", CODE),
    high(
        "triton-library",
        "serve the model by a backend that needs no native library of its own",
    ),
    high(
        "triton-option",
        "remove the option, or use a backend that loads ONNX or another format of data",
    ),
    critical("triton-path", PATH),
    high(
        TRITON_PYTHON,
        "serve the model by a backend that runs no Python",
    ),
    high(
        "triton-",
        "write `config.pbtxt` anew, with fields of Triton alone",
    ),
    high("yaml-class", IMPORTS),
    critical("yaml-path", PATH),
    high("yaml-reference", IMPORTS),
    high("yaml-remote-code", REMOTE),
    high("yaml-tag", YAML),
    high("yaml-target", IMPORTS),
    high("yaml-", YAML),
    // Archives.
    high("mar-", "export the model as ONNX, which needs no handler"),
    critical("tar-", ARCHIVE),
    critical("zip-encrypted", "store the archive without a password"),
    critical("zip-", ARCHIVE),
    // What `model scan` does not open, or could not read.
    high("changed", "scan again when nothing writes to the file"),
    high("file-size", "raise --max-bytes"),
    high("folder-", "spread the files over fewer or smaller folders"),
    high("link", "copy the file in place of the link (`cp -L`)"),
    high(
        "scanner-died",
        "do not load the file; scan it again on a free machine",
    ),
    high("special", "remove it: a model has files and folders alone"),
    high("unreadable", "let the scan read the file"),
];

/// The row of a rule.
fn row(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| {
        let is_family = rule.name.ends_with('-');
        rule.name == name || (is_family && name.starts_with(rule.name))
    })
}

/// The severity of a finding that makes a file executable. A rule without a row has the worst one.
pub(super) fn severity(name: &str) -> Severity {
    row(name).map_or(Severity::Critical, |rule| rule.severity)
}

/// How to get a file without findings of this rule, as a short sentence.
pub fn remedy(name: &str) -> &'static str {
    row(name).map_or(NO_ROW, |rule| rule.remedy)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::fs::{read_dir, read_to_string};
    use std::path::{Path, PathBuf};

    use super::*;

    /// Texts of the form of a rule that are none.
    const OTHERS: [&str; 3] = ["hf-hub", "latin-1", "mach-o"];

    fn sources(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(sources(&path));
            } else if !path.ends_with("tests.rs") {
                found.push(path);
            }
        }
        found
    }

    /// The texts of a source, tests apart, that have the form of a rule.
    fn names(source: &str) -> Vec<&str> {
        let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let lines = code.lines().filter(|line| !line.trim().starts_with("//"));
        let texts = lines.flat_map(|line| line.split('"').skip(1).step_by(2));
        let is_name = |text: &&str| {
            let mut parts = text.split('-');
            let is_part = |part: &str| {
                let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
                !part.is_empty() && part.bytes().all(allowed)
            };
            text.contains('-') && parts.all(is_part)
        };
        texts.filter(is_name).collect()
    }

    #[test]
    fn every_rule_of_the_scanners_has_a_row() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/scan");
        let mut found = 0_usize;
        for path in sources(&folder) {
            let source = read_to_string(&path).unwrap();
            for name in names(&source) {
                let is_listed = row(name).is_some() || OTHERS.contains(&name);
                assert!(is_listed, "{}: {name} has no row in RULES", path.display());
                found = found.saturating_add(usize::from(!OTHERS.contains(&name)));
            }
        }
        assert!(found > 100, "{found} rules");
        for name in [
            "empty",
            "extension",
            "picture",
            "polyglot",
            PROGRAM,
            TORCHSCRIPT,
            UNSCANNED,
        ] {
            assert!(row(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_rule_before_its_family_decides() {
        for (at, rule) in RULES.iter().enumerate() {
            let first = RULES.iter().position(|it| {
                it.name == rule.name || (it.name.ends_with('-') && rule.name.starts_with(it.name))
            });
            assert_eq!(first, Some(at), "{}", rule.name);
            assert!(rule.severity >= Severity::High, "{}", rule.name);
            assert!(
                !rule.remedy.is_empty() && !rule.remedy.ends_with('.'),
                "{}",
                rule.name
            );
        }
        assert_eq!(severity("zip-link"), Severity::Critical);
        assert_eq!(severity("triton-path"), Severity::Critical);
        assert_eq!(severity("triton-library"), Severity::High);
        assert_ne!(remedy("picture"), NO_ROW);
        assert_eq!(severity("torchscript"), Severity::High);
        assert_eq!(severity("no-such-rule"), Severity::Critical);
        assert_eq!(remedy("no-such-rule"), NO_ROW);
    }
}
