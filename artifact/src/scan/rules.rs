//! The rules of findings: the name of each in output, its severity where it makes a file
//! executable, and how to get a safe file instead.

use serde::{Serialize, Serializer};

use super::severity::Severity;

/// A kind of evidence against a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// The name in output, for scripts: `pickle-global`, `zip-duplicate-name`.
    pub name: &'static str,
    /// The severity of a finding that makes the file executable. Others have that of their verdict.
    pub(super) severity: Severity,
    /// How to get a file without such findings, as a short sentence.
    pub remedy: &'static str,
}

impl PartialEq<str> for Rule {
    fn eq(&self, name: &str) -> bool {
        self.name == name
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

/// What to do about a rule that this release does not know.
const UNKNOWN_RULE: &str = "do not load the file; get the model as safetensors or ONNX";

const AGAIN: &str = "download the file again, or write it anew with the library that made it";
const ARCHIVE: &str =
    "pack the files anew, without links, duplicates or names that leave the folder";
const DATA: &str = "save tensors as safetensors, or an estimator as ONNX, and scan the result";
const IMPORTS: &str = "remove the value, or name only what the libraries themselves bring";
const KERAS: &str = "rebuild the model of built-in layers and functions, or export it as ONNX";
const ONNX: &str = "export the model as ONNX anew, with operators of ONNX alone";
const PATH: &str = "name a file in the model's folder, by a path without `..`, and put it there";
const SAVE_PICTURE: &str = "save the picture anew, or remove it";
const REMOTE: &str = "remove `auto_map` and such keys, and load without `trust_remote_code`";
const REMOVE: &str = "remove the file, or get the model as safetensors or ONNX";
const YAML: &str = "write the file as plain YAML, without tags and anchors, or as JSON";

/// The name in output of the rule with a constant of so many letters.
const fn output_name<const LENGTH: usize>(constant: &str) -> [u8; LENGTH] {
    let mut name = [b'-'; LENGTH];
    let (mut left, mut read) = (name.as_mut_slice(), constant.as_bytes());
    while let ([letter, letters @ ..], [byte, bytes @ ..]) = (left, read) {
        if *byte != b'_' {
            *letter = byte.to_ascii_lowercase();
        }
        (left, read) = (letters, bytes);
    }
    name
}

/// Declares the rules in groups of one severity and one remedy. The name in output is that of the
/// constant: `PICKLE_GLOBAL` is `pickle-global`.
macro_rules! rules {
    ($($severity:ident, $remedy:expr => $($constant:ident),+;)*) => {
        $($(
            #[doc = concat!("The rule `", stringify!($constant), "`.")]
            pub const $constant: &Rule = &Rule {
                name: {
                    const LENGTH: usize = stringify!($constant).len();
                    const NAME: [u8; LENGTH] = output_name(stringify!($constant));
                    match str::from_utf8(&NAME) {
                        Ok(name) => name,
                        Err(_) => stringify!($constant),
                    }
                },
                severity: Severity::$severity,
                remedy: $remedy,
            };
        )+)*
        const ALL: &[&Rule] = &[$($($constant),+),*];
    };
}

rules! {
    // Files as such.
    High, "remove the file: no loader reads it" => APPLE_DOUBLE;
    High, "download the file again, or remove it" => EMPTY;
    High, "remove the file: a model needs no plug-ins" => ENTRY_POINTS;
    High, "give the file the ending of its format, or get it again" => EXTENSION;
    Critical, "get the file anew: it is of two formats at once" => POLYGLOT;
    High, "remove the file, or export the model to ONNX" => PROGRAM;
    High, REMOVE => UNSCANNED;
    // Pickles, and what holds them.
    High, "save the array with a dtype of plain data" => NPY_OBJECTS;
    High, AGAIN =>
        NPY_HEADER,
        NPY_SIZE;
    High, DATA =>
        PICKLE_AMBIGUOUS,
        PICKLE_BUFFER,
        PICKLE_BUILD,
        PICKLE_CALL,
        PICKLE_EXTENSION,
        PICKLE_FRAME,
        PICKLE_GLOBAL,
        PICKLE_ITEMS,
        PICKLE_JOBLIB,
        PICKLE_LIMIT,
        PICKLE_MALFORMED,
        PICKLE_MEMO,
        PICKLE_NESTED,
        PICKLE_PERSISTENT_ID,
        PICKLE_PROTOCOL,
        PICKLE_STACK,
        PICKLE_TRAILING,
        PICKLE_UNCHECKED;
    High, "export the model as ONNX, which needs no code" => TORCH_NATIVE_CODE;
    High, "save the `state_dict` as safetensors" => TORCH_PACKAGE;
    High, "export the model as ONNX" => TORCH_PROGRAM;
    High, DATA =>
        TORCH_LEGACY,
        TORCH_MEMBER,
        TORCH_STORAGE,
        TORCH_TAR,
        TORCH_TEXT,
        TORCH_VERSION;
    High, "export the model as ONNX instead of TorchScript" => TORCHSCRIPT;
    // Keras and HDF5.
    Critical, "store all data in the file itself" => HDF5_EXTERNAL;
    Critical, "write the file anew with Keras, or use safetensors" =>
        HDF5_ATTRIBUTE,
        HDF5_EXPANSION,
        HDF5_FILTER,
        HDF5_LIMIT,
        HDF5_STRUCTURE;
    Critical, "save the weights anew with `save_weights`, which writes no links" =>
        HDF5_EXTERNAL_LINK,
        HDF5_LINK;
    High, "replace `Lambda` by built-in layers" => KERAS_CODE;
    Critical, "rename the layer: its name leaves the folder" => KERAS_NAME;
    Critical, "store the vocabulary in the model, not by its path" => KERAS_PATH;
    High, KERAS =>
        KERAS_CLASS,
        KERAS_CONFIG,
        KERAS_CONFIG_SIZE,
        KERAS_CUSTOM_OBJECT,
        KERAS_FUNCTION,
        KERAS_MEMBER,
        KERAS_MODULE,
        KERAS_SIZE;
    // TensorFlow.
    High, "write the tensors anew, with the tool that wrote the model" => DATA_FILE;
    High, "name the checkpoint without folders, or leave this file out" => CHECKPOINT_STATE;
    Critical, PATH => SAVED_MODEL_ASSET;
    Critical,
    "export the model without operators that use files or run code, or convert it to ONNX" =>
        SAVED_MODEL_OPERATOR;
    Critical, "export the SavedModel anew, or convert it to ONNX" =>
        SAVED_MODEL_FINGERPRINT,
        SAVED_MODEL_KERAS,
        SAVED_MODEL_MESSAGE,
        SAVED_MODEL_TEXT,
        SAVED_MODEL_TRUNCATED;
    Critical, "export the SavedModel anew" =>
        TENSOR_BUNDLE_ENTRY,
        TENSOR_BUNDLE_TABLE,
        TENSOR_BUNDLE_TRUNCATED;
    Critical, "convert the model anew, with built-in operators alone" =>
        TFLITE_BUFFER,
        TFLITE_CUSTOM_OPERATOR,
        TFLITE_EXTERNAL,
        TFLITE_HEADER,
        TFLITE_OFFSET,
        TFLITE_OPERATOR,
        TFLITE_TRUNCATED;
    Critical, "download the file again, or convert the model to GGUF anew" =>
        GGUF_ALIGNMENT,
        GGUF_ARRAY,
        GGUF_CHARSMAP,
        GGUF_HEADER,
        GGUF_METADATA,
        GGUF_NESTED_ARRAY,
        GGUF_OFFSETS,
        GGUF_PADDING,
        GGUF_TENSOR,
        GGUF_TRUNCATED;
    Critical, AGAIN =>
        LIGHTGBM_INDEX,
        LIGHTGBM_LINE,
        LIGHTGBM_TRUNCATED;
    Critical, "save the model anew with `save_model(path, format=\"json\")`" =>
        CATBOOST_DOCUMENT,
        CATBOOST_MEMBER;
    Critical, "store the tensors in the ONNX file, or in a file of plain name beside it" =>
        ONNX_EXTERNAL_DATA;
    Critical, PATH => ONNX_EXTERNAL_PATH;
    Critical, "write the value as a literal, or remove the key" => ONNX_METADATA_CODE;
    Critical, ONNX =>
        ONNX_CUSTOM_DOMAIN,
        ONNX_EXPANSION,
        ONNX_MEMORY_ADDRESS,
        ONNX_MESSAGE,
        ONNX_OPERATOR,
        ONNX_TENSOR_SIZE,
        ONNX_TRUNCATED;
    High, "serve models by calculators of OpenVINO Model Server alone" =>
        MEDIAPIPE_GRAPH;
    Critical, PATH => MEDIAPIPE_PATH;
    High, "serve the model by calculators that run no Python" => MEDIAPIPE_PYTHON;
    High, "write the .xml and its .bin anew with `openvino.save_model`" => OPENVINO_DATA;
    High,
    "convert the model without extensions, or except the file where the library is built in" =>
        OPENVINO_EXTENSION;
    Critical, "remove the key: the constants lie in the .bin file of the same name" =>
        OPENVINO_PATH;
    High, "convert the model anew with `openvino.save_model`" =>
        OPENVINO_IR,
        OPENVINO_TRUNCATED;
    Critical, SAVE_PICTURE =>
        PICTURE,
        PICTURE_TRUNCATED;
    Critical, AGAIN =>
        SAFETENSORS_HEADER,
        SAFETENSORS_OFFSETS,
        SAFETENSORS_TRUNCATED,
        SENTENCEPIECE_CHARSMAP,
        SENTENCEPIECE_MESSAGE,
        SENTENCEPIECE_TRUNCATED;
    Critical, "save the model anew with `Booster.save_model`" =>
        XGBOOST_DOCUMENT,
        XGBOOST_INDEX,
        XGBOOST_MEMBER,
        XGBOOST_TRUNCATED;
    // Configurations and templates.
    High, "use the template of the model's publisher, or one that only formats messages" =>
        CHAT_TEMPLATE;
    High, IMPORTS => JSON_CLASS;
    Critical, PATH => JSON_PATH;
    High, IMPORTS => JSON_REFERENCE;
    High, "write the name of the model on its hub in place of the path, or remove the key" =>
        JSON_SAVED_PATH;
    High, REMOTE => JSON_REMOTE_CODE;
    High, IMPORTS => JSON_TARGET;
    High, "write the file as plain JSON, without duplicate keys" =>
        JSON_DOCUMENT,
        JSON_TRUNCATED;
    High, "remove the logging configuration from the folder" => LOGGING_CONFIG;
    High, "remove the file, or name a module of the library" => MODULE_NAME;
    High, "write the prompt as an f-string" => PROMPT_TEMPLATE;
    High, "serve the model by a backend that needs no native library of its own" => TRITON_LIBRARY;
    High, "remove the option, or use a backend that loads ONNX or another format of data" =>
        TRITON_OPTION;
    Critical, PATH => TRITON_PATH;
    High, "serve the model by a backend that runs no Python" => TRITON_PYTHON;
    High, "write `config.pbtxt` anew, with fields of Triton alone" => TRITON_CONFIG;
    High, IMPORTS => YAML_CLASS;
    Critical, PATH => YAML_PATH;
    High, IMPORTS => YAML_REFERENCE;
    High, REMOTE => YAML_REMOTE_CODE;
    High, YAML => YAML_TAG;
    High, IMPORTS => YAML_TARGET;
    High, YAML =>
        YAML_BREAK,
        YAML_DOCUMENT,
        YAML_SIZE;
    High, "export the model as ONNX, which needs no handler" => MAR_ARCHIVE;
    Critical, ARCHIVE =>
        TAR_CUT,
        TAR_DEVICE,
        TAR_DUPLICATE_NAME,
        TAR_EMPTY,
        TAR_END,
        TAR_ENTRIES,
        TAR_EXTENDED,
        TAR_FOLDER,
        TAR_HEADER,
        TAR_LINK,
        TAR_MAGIC,
        TAR_NAME,
        TAR_NESTING,
        TAR_PADDING,
        TAR_TRAILING_BYTES,
        TAR_TYPE;
    Critical, "store the archive without a password" => ZIP_ENCRYPTED;
    Critical, ARCHIVE =>
        ZIP_AMBIGUOUS,
        ZIP_COMMENT,
        ZIP_CONTENT,
        ZIP_COUNT,
        ZIP_CRC,
        ZIP_DESCRIPTOR,
        ZIP_DIRECTORY,
        ZIP_DIRECTORY_SIZE,
        ZIP_DISKS,
        ZIP_DUPLICATE_NAME,
        ZIP_END,
        ZIP_EXPANDED_BYTES,
        ZIP_EXPANSION,
        ZIP_EXTRA,
        ZIP_FILE_TYPE,
        ZIP_FLAGS,
        ZIP_FOLDER,
        ZIP_GAP,
        ZIP_HEADER_DIFFERS,
        ZIP_LINK,
        ZIP_LOCAL_HEADER,
        ZIP_METHOD,
        ZIP_NAME,
        ZIP_NAME_DIFFERS,
        ZIP_NESTING,
        ZIP_OVERLAP,
        ZIP_PREFIX,
        ZIP_SIZE,
        ZIP_TRAILING_BYTES,
        ZIP_ZIP64;
    // What `model scan` does not open, or could not read.
    High, "scan again when nothing writes to the file" => CHANGED;
    High, "raise --max-bytes" => FILE_SIZE;
    High, "spread the files over fewer or smaller folders" =>
        FOLDER_DEPTH,
        FOLDER_SIZE;
    High, "copy the file in place of the link (`cp -L`)" => LINK;
    High, "do not load the file; scan it again on a free machine" => SCANNER_DIED;
    High, "remove it: a model has files and folders alone" => SPECIAL;
    High, "let the scan read the file" => UNREADABLE;
}

/// How to get a file without findings of the rule of this name, as a scanner process reports it.
pub fn remedy(name: &str) -> &'static str {
    let rule = ALL.iter().find(|rule| rule.name == name);
    rule.map_or(UNKNOWN_RULE, |rule| rule.remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_one_row_and_a_remedy() {
        for (at, rule) in ALL.iter().enumerate() {
            let first = ALL.iter().position(|it| it.name == rule.name);
            assert_eq!(first, Some(at), "{}", rule.name);
            assert!(rule.severity >= Severity::High, "{}", rule.name);
            let is_sentence = !rule.remedy.is_empty() && !rule.remedy.ends_with('.');
            assert!(is_sentence, "{}", rule.name);
            assert_eq!(remedy(rule.name), rule.remedy);
        }
        assert_eq!(PICKLE_GLOBAL.name, "pickle-global");
        assert_eq!(remedy("no-such-rule"), UNKNOWN_RULE);
    }
}
