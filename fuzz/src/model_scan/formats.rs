//! The formats, each of which has a target: names of its files, and members of its archives.

use super::Format;
use super::archive::Archive;

/// A format whose files are not archives.
const fn plain(names: &'static [&'static str]) -> Format {
    Format {
        names,
        archive: None,
    }
}

/// Pickles, also under names of other formats.
pub const PICKLE: Format = plain(&["model.pkl", "blob", "pytorch_model.bin", "notes.txt"]);

/// Pickles of joblib, with arrays between their operations.
pub const JOBLIB: Format = plain(&["model.joblib"]);

/// Tensor files of torch before 1.6.
pub const TORCH_LEGACY: Format = plain(&["model.pt", "pytorch_model.bin"]);

/// Zip files of torch.
pub const TORCH: Format = Format {
    names: &["model.pt", "pytorch_model.bin"],
    archive: Some(Archive::Zip(&[
        "a/data.pkl",
        "a/version",
        "a/data/0",
        "a/data/1",
        "a/byteorder",
        "a/.data/serialization_id",
        "a/constants.pkl",
        "a/code/a.py",
    ])),
};

/// Arrays of numpy, alone and in archives.
pub const NUMPY: Format = Format {
    names: &["a.npy", "a.npz"],
    archive: Some(Archive::Zip(&["a.npy", "b.npy", "c.pkl"])),
};

/// Zip files with models: of Keras, of TorchServe and of folders.
pub const ZIP: Format = Format {
    names: &["model.zip", "model.keras", "model.mar", "model.pt2", "blob"],
    archive: Some(Archive::Zip(&[
        "config.json",
        "metadata.json",
        "model.weights.h5",
        "assets/a.txt",
        "MAR-INF/MANIFEST.json",
        "handler.py",
        "m/model.pkl",
        "m/model.safetensors",
        "m/model.onnx",
        "m/model.tflite",
        "m/inner.zip",
        "m/chat_template.jinja",
    ])),
};

/// Tar files, with those of the first releases of torch.
pub const TAR: Format = Format {
    names: &["model.tar", "model.pt", "blob"],
    archive: Some(Archive::Tar(&[
        "pickle",
        "sys_info",
        "storages",
        "tensors",
        "m/model.pkl",
        "m/config.json",
        "m/inner.tar",
        "m/notes.txt",
    ])),
};

/// Tensors in safetensors.
pub const SAFETENSORS: Format = plain(&["model.safetensors"]);

/// Tensors and metadata of ggml.
pub const GGUF: Format = plain(&["model.gguf"]);

/// Models and weights of Keras in HDF5.
pub const HDF5: Format = plain(&["model.h5", "model.weights.h5"]);

/// Graphs of ONNX.
pub const ONNX: Format = plain(&["model.onnx"]);

/// `SavedModel` and frozen graphs of TensorFlow, in binary and in text.
pub const SAVED_MODEL: Format = plain(&[
    "saved_model.pb",
    "saved_model.pbtxt",
    "variables.index",
    "fingerprint.pb",
    "keras_metadata.pb",
    "checkpoint",
]);

/// Tokenizers of SentencePiece.
pub const SENTENCEPIECE: Format = plain(&["tokenizer.model"]);

/// Configurations of Triton.
pub const TRITON: Format = plain(&["config.pbtxt"]);

/// Pictures of model cards.
pub const PICTURE: Format = plain(&["card.png", "card.jpg", "card.gif", "card.webp"]);

/// Graphs of TensorFlow Lite.
pub const TFLITE: Format = plain(&["model.tflite"]);

/// Configurations in JSON, as libraries and servers read them.
pub const JSON: Format = plain(&[
    "config.json",
    "adapter_config.json",
    "tokenizer_config.json",
    "modules.json",
    "model-settings.json",
    "genai_config.json",
    "model.json",
    "other.json",
]);

/// Configurations in YAML and in sections.
pub const YAML: Format = plain(&[
    "config.yaml",
    "MLmodel",
    "serve_config.yaml",
    "bentofile.yaml",
    "model-config.yaml",
    "other.yml",
    "logging.conf",
]);

/// Chat templates.
pub const JINJA: Format = plain(&["chat_template.jinja"]);

/// Models of XGBoost in JSON and UBJSON.
pub const XGBOOST: Format = plain(&["model.json", "model.ubj"]);

/// Models of LightGBM.
pub const LIGHTGBM: Format = plain(&["model.txt"]);

/// The graph of an OpenVINO model.
pub const OPENVINO: Format = plain(&["model.xml"]);

/// Graphs of MediaPipe in text.
pub const MEDIAPIPE: Format = plain(&["graph.pbtxt"]);

/// Texts that are no configuration, and files of no known format.
pub const TEXT: Format = plain(&[
    "entry_points.txt",
    "README.md",
    "requirements.txt",
    "CITATION",
    "handler.py",
    "blob",
]);
