//! Formats of a model's files.

use super::*;
use crate::values::ModelFormat;

const PATH: &str = "models.digits.artifact.formats";
const NOT_ENFORCED: &str = "model formats are not enforced in this version";

/// The errors of a model with this artifact.
fn errors_with(artifact: Value) -> Vec<String> {
    errors(with("/models/digits/artifact", artifact))
}

#[test]
fn formats_with_right_names_are_rejected_because_nothing_enforces_them() {
    let names = ModelFormat::ALL.map(ModelFormat::name).to_vec();
    for formats in [json!(["safetensors"]), json!(names)] {
        let errors = errors_with(json!({"formats": formats}));
        let [error] = errors.as_slice() else {
            panic!("{errors:#?}")
        };
        assert!(error.starts_with(&format!("{PATH}: {NOT_ENFORCED}")));
    }
}

#[test]
fn models_of_each_kind_are_rejected() {
    let mut document = document();
    document["models"]["llm"] = json!({
        "backend": "cpu", "versions": ["1"], "protocols": ["openai"], "openai": {"chat": {}},
        "artifact": {"formats": ["gguf"]},
    });
    document["models"]["both"] = json!({
        "ensemble": {"steps": []}, "versions": ["1"], "protocols": ["oip-rest"],
        "artifact": {"formats": ["onnx"]},
    });
    let errors = errors(document);
    for name in ["llm", "both"] {
        let expected = format!("models.{name}.artifact.formats: {NOT_ENFORCED}");
        assert!(
            errors.iter().any(|error| error.starts_with(&expected)),
            "{errors:#?}"
        );
    }
}

#[test]
fn wrong_names_of_formats_are_reported_as_well() {
    for (formats, path, text) in [
        (json!([]), PATH, "is empty ([safetensors])"),
        (
            json!(["safetensor"]),
            "models.digits.artifact.formats[0]",
            "there is no model format \"safetensor\" (safetensors; known are gguf, hdf5, json, ",
        ),
        (
            json!(["onnx", "parquet"]),
            "models.digits.artifact.formats[1]",
            "there is no model format \"parquet\" (one of gguf, hdf5, json, ",
        ),
        (
            json!(["onnx", "npz", "onnx"]),
            "models.digits.artifact.formats[2]",
            "\"onnx\" is listed twice",
        ),
    ] {
        let shown = formats.to_string();
        let errors = errors_with(json!({"formats": formats}));
        let [first, last] = errors.as_slice() else {
            panic!("{shown}: {errors:#?}")
        };
        assert!(first.starts_with(&format!("{path}: {text}")), "{first}");
        assert!(last.starts_with(&format!("{PATH}: {NOT_ENFORCED}")));
    }
}

#[test]
fn an_artifact_without_formats_is_a_fault() {
    let expected = format!("{PATH}: is missing (formats: [safetensors])");
    assert_eq!(errors_with(json!({})), [expected]);
}
