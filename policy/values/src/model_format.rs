//! Formats of model files.

use serde::{Deserialize, Serialize};

use crate::named;

named! {
    /// A format of a file that `tensorgate model scan` follows, by the name that the scan prints.
    /// Programs, and formats that have a name and no scanner, are not among them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[expect(missing_docs, reason = "the variants are the names in output")]
    pub enum ModelFormat {
        CatboostJson = "catboost json",
        Gguf = "gguf",
        Hdf5 = "hdf5",
        Json = "json",
        Keras = "keras",
        Lightgbm = "lightgbm",
        Mar = "mar",
        MediapipeGraph = "mediapipe graph",
        Npy = "npy",
        Npz = "npz",
        Onnx = "onnx",
        OnnxData = "onnx data",
        Openvino = "openvino",
        OpenvinoData = "openvino data",
        Pickle = "pickle",
        Picture = "picture",
        Safetensors = "safetensors",
        SavedModelFingerprint = "saved model fingerprint",
        Sentencepiece = "sentencepiece",
        Tar = "tar",
        TensorBundle = "tensor bundle",
        SavedModel = "tensorflow saved model",
        Text = "text",
        Tflite = "tflite",
        TorchLegacy = "torch legacy",
        TorchPackage = "torch package",
        TorchProgram = "torch program",
        TorchTar = "torch tar",
        TorchZip = "torch zip",
        Torchscript = "torchscript",
        TritonConfig = "triton config",
        XgboostJson = "xgboost json",
        XgboostUbjson = "xgboost ubjson",
        Yaml = "yaml",
        Zip = "zip",
    }
}
