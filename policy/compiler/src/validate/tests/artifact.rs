//! Files of models: who vouches for them, and their formats.

use tensorgate_policy::policy::{ArtifactTrust, ModelSigner};
use tensorgate_policy::values::{CodeKind, ModelFormat};

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
fn a_model_names_who_vouches_for_its_files() {
    let policy = policy(with_artifact(signed()));
    let located: Vec<_> = policy.artifacts().collect();
    let [(model, "1", artifact)] = located.as_slice() else {
        panic!("{located:#?}")
    };
    assert_eq!((model.name(), artifact.path()), ("digits", "models/digits"));
    let keys = [
        (String::from("old"), ModelSigner::Ed25519([8; 32])),
        (String::from("release"), ModelSigner::PublicKey(PEM.into())),
        (
            String::from("roots"),
            ModelSigner::Certificates(ROOTS.into()),
        ),
    ];
    let expected = ArtifactTrust::Signed {
        keys: keys.into(),
        signature: None,
        subject: None,
        not_before_unix_s: None,
    };
    assert_eq!(*artifact.trust(), expected);
    assert_eq!(artifact.formats(), None);
    assert!(artifact.allow().is_empty() && artifact.exceptions().is_empty());
}

#[test]
fn a_model_may_need_code_and_files_that_a_person_accepts() {
    let exception = json!({
        "sha256": digest(3), "path": "tokenizer.bin", "reason": "tokenizer, read by hand",
        "until": "2027-01-31",
    });
    let mut artifact = signed();
    artifact.as_object_mut().unwrap().extend(
        json!({
            "subject": "digits", "not_before": "1970-01-02",
            "allow": ["torchscript", "triton-python"], "exceptions": [exception],
        })
        .as_object()
        .unwrap()
        .clone(),
    );
    let document = with_artifact(artifact);
    let policy = policy(document.clone());
    let (_, _, artifact) = policy.artifacts().next().unwrap();
    let ArtifactTrust::Signed {
        subject,
        not_before_unix_s,
        ..
    } = artifact.trust()
    else {
        panic!("{artifact:#?}")
    };
    assert_eq!(subject.as_deref(), Some("digits"));
    assert_eq!(*not_before_unix_s, Some(86_400));
    let kinds = [CodeKind::Torchscript, CodeKind::TritonPython];
    assert_eq!(artifact.allow(), kinds);
    let exception = artifact.exceptions().of(&[3; 32], "tokenizer.bin").unwrap();
    assert_eq!(exception.reason(), "tokenizer, read by hand");
    assert_eq!(exception.until(), "2027-01-31");
    let warnings = warnings(document);
    let is_about = |it: &String| {
        it.starts_with("models.digits.artifact.allow: ") && it.contains("runs code that no scan")
    };
    assert!(warnings.iter().any(is_about), "{warnings:#?}");
}

#[test]
fn allowed_code_needs_its_format() {
    let warned = |formats: Value| {
        let mut artifact = signed();
        artifact["allow"] = json!(["triton-python", "torchscript"]);
        artifact["formats"] = formats;
        let warnings = warnings(with_artifact(artifact));
        let start = "models.digits.artifact.formats: does not have ";
        warnings.iter().filter(|it| it.starts_with(start)).count()
    };
    assert_eq!(warned(json!(["triton config", "torchscript"])), 0);
    assert_eq!(warned(json!(["torchscript", "json"])), 1);
    assert_eq!(warned(json!(["onnx"])), 2);
}

#[test]
fn an_identity_signs_models() {
    let mut document = with_artifact(signed());
    document["keys"]["roots"] = json!({
        "identity": "https://github.com/team/models/.github/workflows/sign.yml@refs/heads/main",
        "identity_provider": "https://token.actions.githubusercontent.com",
        "trusted_root": "{}",
    });
    let policy = policy(document);
    let (_, _, artifact) = policy.artifacts().next().unwrap();
    let ArtifactTrust::Signed { keys, .. } = artifact.trust() else {
        panic!("{artifact:#?}")
    };
    let expected = ModelSigner::Identity {
        identity: "https://github.com/team/models/.github/workflows/sign.yml@refs/heads/main"
            .into(),
        provider: "https://token.actions.githubusercontent.com".into(),
        trusted_root: "{}".into(),
    };
    assert_eq!(keys["roots"], expected);
}

#[test]
fn a_version_may_have_its_own_files() {
    let own = json!({
        "path": "models/2", "manifest": "2.json", "sha256": digest(1),
        "formats": ["onnx", "safetensors"],
    });
    let mut document = with_artifact(signed());
    document["models"]["digits"]["versions"] = json!({
        "1": {"weight": 1},
        "2": {"weight": 0, "artifact": own},
        "3": {"shadow": true},
    });
    let policy = policy(document.clone());
    let located = policy.artifacts().map(|(model, version, artifact)| {
        let is_own = model.has_own_artifact(version);
        (version, artifact.path(), is_own)
    });
    let located: Vec<_> = located.collect();
    let common = "models/digits";
    let expected = [
        ("1", common, false),
        ("2", "models/2", true),
        ("3", common, false),
    ];
    assert_eq!(located, expected);
    let id = policy.model_id("digits").unwrap();
    let artifact = policy.model(id).unwrap().artifact("2").unwrap();
    let expected = ArtifactTrust::Manifest {
        path: "2.json".into(),
        sha256: [1; 32],
    };
    assert_eq!(*artifact.trust(), expected);
    let formats = [ModelFormat::Onnx, ModelFormat::Safetensors];
    assert_eq!(artifact.formats(), Some(&formats[..]));
    // Without the model's artifact, the files of the others would be unknown.
    document["models"]["digits"]
        .as_object_mut()
        .unwrap()
        .remove("artifact");
    let warnings = warnings(document);
    for version in ["1", "3"] {
        let start = format!("models.digits.versions.{version}: the files of this version");
        assert!(
            warnings.iter().any(|warning| warning.starts_with(&start)),
            "{warnings:#?}"
        );
    }
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
    let with = |field: &str, value: Value| {
        let mut artifact = by(json!(["old"]));
        artifact[field] = value;
        artifact
    };
    let valid = json!({
        "sha256": digest(3), "path": "a", "reason": "r", "until": "2027-01-31",
    });
    let excepted = |field: &str, value: Value| {
        let mut exception = valid.clone();
        exception[field] = value;
        with("exceptions", json!([exception]))
    };
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
        (
            json!({"path": "models/.github/m", "signed_by": ["old"]}),
            ".path",
            "whose files no signature covers",
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
            "there is no model format \"safetensor\" (safetensors; known are catboost json, gguf, hdf5, json, ",
        ),
        (
            manifest(json!({"formats": ["onnx", "npz", "onnx"]})),
            ".formats[2]",
            "\"onnx\" is listed twice",
        ),
        (
            manifest(json!({"subject": "m"})),
            ".subject",
            "has no effect without signed_by (remove it)",
        ),
        (
            manifest(json!({"not_before": "2027-01-31"})),
            ".not_before",
            "has no effect without signed_by (remove it)",
        ),
        (
            with("subject", json!("a\nb")),
            ".subject",
            "is not the name of a model in its signature (the name of the folder",
        ),
        (
            with("not_before", json!("31.01.2027")),
            ".not_before",
            "is not a date (YYYY-MM-DD",
        ),
        (
            with("allow", json!([])),
            ".allow",
            "is empty ([triton-python], or remove it)",
        ),
        (
            with("allow", json!(["triton-pyton"])),
            ".allow[0]",
            "there is no kind of code \"triton-pyton\" (triton-python; known are ",
        ),
        (
            with("allow", json!(["torchscript", "torchscript"])),
            ".allow[1]",
            "\"torchscript\" is listed twice",
        ),
        (
            excepted("sha256", json!("AB".repeat(32))),
            ".exceptions[0].sha256",
            "is not a sha256 digest (abab",
        ),
        (
            excepted("sha256", Value::Null),
            ".exceptions[0].sha256",
            "is missing (the file's digest, as `sha256sum FILE` prints it)",
        ),
        (
            excepted("path", Value::Null),
            ".exceptions[0].path",
            "is missing (the file's path below the model's folder, for example 1/model.pkl",
        ),
        (
            excepted("path", json!("../convert.py")),
            ".exceptions[0].path",
            "is not a path in the model (the file's path below",
        ),
        (
            excepted("reason", json!(" ")),
            ".exceptions[0].reason",
            "is empty or too long (why the file is accepted",
        ),
        (
            excepted("until", json!("2027-02-29")),
            ".exceptions[0].until",
            "is not a date (the last day as YYYY-MM-DD",
        ),
        (
            excepted("until", Value::Null),
            ".exceptions[0].until",
            "is missing",
        ),
        (
            with("exceptions", json!(vec![valid.clone(); 2])),
            ".exceptions[1].sha256",
            "an earlier exception has this digest and path (remove one)",
        ),
        (
            with("exceptions", json!(vec![valid.clone(); 257])),
            ".exceptions",
            "257 exceptions are too many (at most 256)",
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
        (
            json!({"public_key": PEM, "identity": "me@example.com"}),
            "identity",
            "is beside another key",
        ),
        (
            json!({"public_key": PEM, "trusted_root_file": "root.json"}),
            "trusted_root_file",
            "has no effect without identity",
        ),
        (
            json!({"identity": "me@example.com", "trusted_root": "{}"}),
            "identity_provider",
            "is missing (the URL of the provider",
        ),
        (
            json!({"identity": "a\nb", "identity_provider": "https://p", "trusted_root": "{}"}),
            "identity",
            "is empty, too long, or more than a line (the mail address",
        ),
        (
            json!({"identity": "me@example.com", "identity_provider": "https://p"}),
            "trusted_root",
            "is missing (trusted_root_file: ",
        ),
        (
            json!({
                "identity": "me@example.com", "identity_provider": "https://p",
                "trusted_root": "{}", "trusted_root_file": "root.json",
            }),
            "trusted_root_file",
            "is beside trusted_root (remove one)",
        ),
        (
            json!({
                "identity": "me@example.com", "identity_provider": "https://p",
                "trusted_root_file": "root.json",
            }),
            "trusted_root_file",
            "the file was not read",
        ),
        (
            json!({
                "identity": "me@example.com", "identity_provider": "https://p",
                "trusted_root": " ".repeat((128 << 10) + 1),
            }),
            "trusted_root",
            "131073 bytes are too long (at most 131072 bytes)",
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
