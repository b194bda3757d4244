//! Files of models: who vouches for them, and their formats.

use super::*;

const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n";
const ROOTS: &str = "-----BEGIN CERTIFICATE-----\nMCow\n-----END CERTIFICATE-----\n";

/// The fixture with keys of each kind, and a model with this artifact.
fn with_artifact(artifact: Value) -> Value {
    let mut document = with("/models/digits/artifact", artifact);
    document["keys"] = json!({
        "old": {"ed25519": digest(8)},
        "release": {"public_key": PEM},
        "roots": {"certificates": ROOTS},
    });
    document
}

fn signed() -> Value {
    json!({"path": "models/digits", "signed_by": ["release", "roots", "old"]})
}

/// Some error of the document has this path and a part of its text.
fn reports(document: Value, path: &str, text: &str) {
    let errors = errors(document);
    let start = format!("{path}: ");
    assert!(
        errors
            .iter()
            .any(|error| error.starts_with(&start) && error.contains(text)),
        "{path}: {text}: {errors:#?}"
    );
}

#[test]
fn wrong_fields_of_artifacts_are_faults() {
    let manifest = |more: Value| {
        let mut artifact = json!({"path": "m", "manifest": "m.json", "sha256": digest(1)});
        artifact
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        artifact
    };
    let by = |names: Value| json!({"path": "m", "signed_by": names});
    for (artifact, field, text) in [
        (json!({"signed_by": ["old"]}), ".path", "is missing"),
        (
            json!({"path": "", "signed_by": ["old"]}),
            ".path",
            "is empty",
        ),
        (
            json!({"path": "a\nb", "signed_by": ["old"]}),
            ".path",
            "is not a file name",
        ),
        (json!({"path": "m"}), "", "nothing vouches for the files"),
        (
            json!({"path": "m", "sha256": digest(1)}),
            "",
            "nothing vouches for the files",
        ),
        (
            manifest(json!({"signed_by": ["old"]})),
            "",
            "has both manifest and signed_by",
        ),
        (
            json!({"path": "m", "manifest": "m.json"}),
            ".sha256",
            "is missing",
        ),
        (
            manifest(json!({"sha256": "AB"})),
            ".sha256",
            "is not a sha256 digest",
        ),
        (
            manifest(json!({"signature": "s"})),
            ".signature",
            "has no effect without signed_by",
        ),
        (by(json!([])), ".signed_by", "is empty"),
        (
            by(json!(["old", "old"])),
            ".signed_by[1]",
            "is listed twice",
        ),
        (
            by(json!(["relaese"])),
            ".signed_by[0]",
            "there is no key \"relaese\" (release)",
        ),
        (
            json!({"path": "m", "signed_by": ["old"], "sha256": digest(1)}),
            ".sha256",
            "has no effect without manifest",
        ),
        (
            manifest(json!({"formats": []})),
            ".formats",
            "is empty ([safetensors])",
        ),
        (
            manifest(json!({"formats": ["safetensor"]})),
            ".formats[0]",
            "there is no model format \"safetensor\" (safetensors; known are gguf, hdf5, json, ",
        ),
        (
            manifest(json!({"formats": ["onnx", "npz", "onnx"]})),
            ".formats[2]",
            "\"onnx\" is listed twice",
        ),
    ] {
        let path = format!("models.digits.artifact{field}");
        reports(with_artifact(artifact), &path, text);
    }
}

#[test]
fn wrong_keys_of_models_are_faults() {
    let private = "-----BEGIN PRIVATE KEY-----\nMCow\n-----END PRIVATE KEY-----\n";
    let long = format!("{PEM}{}", " ".repeat(16 << 10));
    for (key, field, text) in [
        (
            json!({"public_key": ROOTS}),
            "public_key",
            "has no PEM block `PUBLIC KEY`",
        ),
        (
            json!({"certificates": PEM}),
            "certificates",
            "has no PEM block `CERTIFICATE`",
        ),
        (
            json!({"public_key": format!("{PEM}{private}")}),
            "public_key",
            "is a private key",
        ),
        (
            json!({"public_key": long}),
            "public_key",
            "bytes are too long",
        ),
        (
            json!({"public_key_file": "release.pub"}),
            "public_key_file",
            "the file was not read",
        ),
        (
            json!({"public_key": PEM, "certificates_file": "root.pem"}),
            "certificates_file",
            "is beside another key",
        ),
    ] {
        let mut document = with_artifact(signed());
        document["keys"]["roots"] = key;
        reports(document, &format!("keys.roots.{field}"), text);
    }
    let mut document = with_artifact(signed());
    document["keys"]["twin"] = json!({"public_key": PEM});
    reports(
        document,
        "keys.twin.public_key",
        "is the same key as \"release\"",
    );
    let mut document = with_artifact(signed());
    document["handlers"]["png"]["signed_by"] = json!(["release"]);
    let text = "key \"release\" is not one for components";
    reports(document, "handlers.png.signed_by[0]", text);
}

#[test]
fn an_ensemble_has_no_files_of_its_own() {
    let mut document = with_artifact(signed());
    document["models"]["both"] = json!({
        "ensemble": {"steps": []}, "versions": ["1"], "protocols": ["oip-rest"],
        "artifact": {"path": "m", "signed_by": ["old"]},
    });
    let text = "is not for an ensemble";
    reports(document, "models.both.artifact", text);
}

#[test]
fn files_are_rejected_because_nothing_verifies_them() {
    let text = "model files are not verified in this version";
    reports(with_artifact(signed()), "models.digits.artifact", text);
}
