//! `model manifest`, `sign` and `verify` on small models that are written here.

use std::fs::{
    Permissions, create_dir, create_dir_all, hard_link, remove_file, set_permissions, write,
};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::program::{Ran, Scratch, binary, run_in, tree};

/// 2037-01-01, when the certificates for tests are expired.
const AFTER_CERTIFICATES: &str = "2114380800";

/// A key, certificate or bundle for tests.
fn data(name: &str) -> PathBuf {
    tree().join("artifact/tests/data/oms").join(name)
}

/// A folder with a model in `model` and with keys.
fn scratch() -> Scratch {
    let scratch = Scratch::new();
    let model = scratch.path().join("model");
    create_dir_all(model.join("a")).unwrap();
    write(model.join("a-b"), "hello").unwrap();
    write(model.join("a/b"), "y").unwrap();
    write(model.join("empty"), "").unwrap();
    for name in [
        "keys/p256.pem",
        "keys/p256.pub",
        "keys/p384.pem",
        "keys/p384.pub",
        "chains/valid.pem",
        "chains/expired.pem",
        "chains/root.pem",
        "chains/rsa-root.pem",
        "reference/p256.sig",
        "reference/shards.sig",
        "reference/certificates.sig",
        "reference/single-file.sig",
    ] {
        let content = std::fs::read(data(name)).unwrap();
        let file = scratch.file(name.rsplit('/').next().unwrap(), content);
        set_permissions(file, Permissions::from_mode(0o600)).unwrap();
    }
    scratch
}

/// Runs a line of arguments of `model`.
fn model(scratch: &Scratch, line: &str) -> Ran {
    let arguments: Vec<_> = line.split(' ').collect();
    run_in(scratch.path(), &arguments)
}

/// The same, which must succeed.
fn succeed(scratch: &Scratch, line: &str) -> Ran {
    let ran = model(scratch, line);
    assert_eq!(ran.code, 0, "{line}: {}", ran.stderr);
    ran
}

/// A run that must reject the model for this reason.
fn reject(scratch: &Scratch, line: &str, reason: &str) {
    let ran = model(scratch, line);
    assert_eq!(ran.code, 1, "{line}: {}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains(reason), "{line}: {}", ran.stderr);
    assert_eq!(ran.stdout, "", "{line}");
}

/// What `model/model.sig` is about, without the time.
fn statement(scratch: &Scratch) -> Value {
    use base64::Engine as _;

    let bundle = std::fs::read(scratch.path().join("model/model.sig")).unwrap();
    let bundle: Value = serde_json::from_slice(&bundle).unwrap();
    let payload = bundle["dsseEnvelope"]["payload"].as_str().unwrap();
    let engine = base64::engine::general_purpose::STANDARD;
    let mut statement: Value = serde_json::from_slice(&engine.decode(payload).unwrap()).unwrap();
    let subject = statement["subject"][0].as_object_mut().unwrap();
    assert!(subject.remove("annotations").is_some());
    statement
}

const SIGN: &str = "sign model --private-key p256.pem";
const VERIFY: &str = "verify model --key p256.pub";

#[test]
fn a_signed_model_is_verified() {
    let scratch = scratch();
    let signed = succeed(&scratch, SIGN);
    assert_eq!(signed.stdout, "model/model.sig\n");
    assert!(
        signed.stderr.contains("signed 3 files"),
        "{}",
        signed.stderr
    );
    let verified = succeed(&scratch, VERIFY);
    assert!(
        verified
            .stdout
            .starts_with("model: verified, signed by the key ")
    );
    assert!(
        verified
            .stdout
            .ends_with("\n  3 files, 6 bytes\n  not covered by the signature: model.sig\n"),
        "{}",
        verified.stdout
    );
    let line = succeed(&scratch, &format!("{VERIFY} --json")).stdout;
    let mut line: Value = serde_json::from_str(&line).unwrap();
    let signed_at = line["signed_at"].take();
    assert_eq!(signed_at["source"], "statement");
    assert!(signed_at["time_s"].as_u64() > Some(1_795_564_800));
    let digest = |content: &str| -> String {
        let digest = Sha256::digest(content);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let pem = std::fs::read_to_string(data("keys/p256.pub")).unwrap();
    assert_eq!(
        line,
        json!({
            "verdict": "verified", "reason": null,
            "signer": {"kind": "key", "fingerprint": digest(&pem)},
            "subject": "model", "signed_at": null,
            "files": [
                {"path": "a-b", "bytes": 5, "sha256": digest("hello")},
                {"path": "a/b", "bytes": 1, "sha256": digest("y")},
                {"path": "empty", "bytes": 0, "sha256": digest("")},
            ],
            "excluded": ["model.sig"], "uncovered": [], "differences": [], "difference_count": 0,
        })
    );
}

/// A change of a model, and what the command reports.
type Change<'a> = (&'a dyn Fn(&Path), &'a str);

#[test]
fn another_model_is_rejected() {
    let changes: [Change<'_>; 6] = [
        (
            &|model: &Path| write(model.join("a-b"), "hellO").unwrap(),
            "\"a-b\" has other content than was signed",
        ),
        (
            &|model: &Path| write(model.join("a/new.py"), "").unwrap(),
            "\"a/new.py\" is not signed",
        ),
        (
            &|model: &Path| remove_file(model.join("a/b")).unwrap(),
            "\"a/b\" is signed and missing",
        ),
        (
            &|model: &Path| symlink("a-b", model.join("link")).unwrap(),
            "\"link\" is a symbolic link",
        ),
        (
            &|model: &Path| {
                let fifo = Command::new("mkfifo").arg(model.join("fifo")).status();
                assert!(fifo.unwrap().success());
            },
            "\"fifo\" is neither a file nor a folder",
        ),
        (
            &|model: &Path| {
                remove_file(model.join("a-b")).unwrap();
                create_dir(model.join("a-b")).unwrap();
            },
            "\"a-b\" is signed and missing",
        ),
    ];
    for (change, reason) in changes {
        let scratch = scratch();
        succeed(&scratch, SIGN);
        change(&scratch.path().join("model"));
        reject(&scratch, VERIFY, reason);
    }
}

#[test]
fn rejections_have_json_for_scripts() {
    let scratch = scratch();
    succeed(&scratch, SIGN);
    write(scratch.path().join("model/new\u{202e}.py"), "").unwrap();
    let ran = model(&scratch, &format!("{VERIFY} --json"));
    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""));
    assert!(ran.stdout.is_ascii(), "{}", ran.stdout);
    let line: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(line["verdict"], "rejected");
    let difference = json!([{"name": "new\u{202e}.py", "change": "unsigned"}]);
    assert_eq!(line["differences"], difference);
    // Nothing is listed to be loaded.
    assert_eq!(line["files"], json!([]));
}

#[test]
fn another_key_another_bundle_and_another_method_are_rejected() {
    let scratch = scratch();
    succeed(&scratch, SIGN);
    let other = "verify model --key p384.pub";
    reject(&scratch, other, "is signed by the key");
    let roots = "verify model --certificate-chain root.pem";
    reject(&scratch, roots, "a root certificate is trusted");
    // A bundle of another model, by the trusted key.
    create_dir(scratch.path().join("other")).unwrap();
    write(scratch.path().join("other/weights"), "x").unwrap();
    let sign = "sign other --private-key p256.pem --signature other.sig";
    succeed(&scratch, sign);
    let line = format!("{VERIFY} --signature other.sig");
    reject(&scratch, &line, "\"weights\" is signed and missing");
    let bundle = std::fs::read_to_string(scratch.path().join("model/model.sig")).unwrap();
    scratch.file(
        "model/model.sig",
        bundle.replacen("\"payload\":\"", "\"payload\":\"AAAA", 1),
    );
    reject(&scratch, VERIFY, "the signature does not match");
    scratch.file("model/model.sig", "{}");
    reject(&scratch, VERIFY, "the bundle is not as the format requires");
}

#[test]
fn a_certificate_chain_signs_within_its_validity() {
    let scratch = scratch();
    let chain = format!("{SIGN} --certificate-chain valid.pem");
    succeed(&scratch, &chain);
    let verify = "verify model --certificate-chain root.pem";
    let verified = succeed(&scratch, verify);
    assert!(
        verified.stdout.contains("signed by \"signer\""),
        "{}",
        verified.stdout
    );
    let line = succeed(&scratch, &format!("{verify} --json")).stdout;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["signer"]["kind"], &line["signer"]["name"]),
        (&json!("certificate"), &json!("signer"))
    );
    let later = format!("{verify} --now {AFTER_CERTIFICATES}");
    reject(&scratch, &later, "is valid from");
    let other = "verify model --certificate-chain rsa-root.pem";
    reject(&scratch, other, "to a trusted root");
    let expired = model(&scratch, &format!("{SIGN} --certificate-chain expired.pem"));
    assert_eq!(expired.code, 2, "{}", expired.stderr);
    assert!(
        expired.stderr.contains("is valid from"),
        "{}",
        expired.stderr
    );
}

/// The bundle is about the same model.
#[test]
fn a_sigstore_identity_is_verified_offline() {
    let scratch = scratch();
    let cases = std::fs::read(data("identities/mock.json")).unwrap();
    let cases: Value = serde_json::from_slice(&cases).unwrap();
    let case = &cases["cases"]["mock"];
    scratch.file("root.json", cases["trusted_root"].to_string());
    write(
        scratch.path().join("model/model.sig"),
        case["bundle"].to_string(),
    )
    .unwrap();
    let identity = case["identity"].as_str().unwrap();
    let provider = cases["provider"].as_str().unwrap();
    let by = |identity: &str, provider: &str| {
        format!(
            "verify model --trusted-root root.json --identity {identity} --identity-provider \
             {provider}"
        )
    };
    let verified = succeed(&scratch, &by(identity, provider));
    let signer = format!("signed by \"{identity}\" of \"{provider}\" before 20");
    assert!(verified.stdout.contains(&signer), "{}", verified.stdout);
    let json = succeed(&scratch, &format!("{} --json", by(identity, provider)));
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["signer"]["provider"], provider, "{json}");
    reject(&scratch, &by("other", provider), "is signed by");
    reject(&scratch, &by(identity, "other"), "vouches for the signer");
    reject(&scratch, VERIFY, "signed by a Sigstore identity");
    write(scratch.path().join("model/a-b"), "other").unwrap();
    reject(&scratch, &by(identity, provider), "\"a-b\"");
}

#[test]
fn what_is_not_covered_is_named() {
    let scratch = scratch();
    let folder = scratch.path().join("model");
    create_dir(folder.join("cache")).unwrap();
    write(folder.join("cache/x"), "1").unwrap();
    write(folder.join(".gitignore"), "cache\n").unwrap();
    let options = "--ignore-path cache/";
    succeed(&scratch, &format!("{SIGN} {options}"));
    // Neither the signature nor the ignored folder counts, and the folder may change.
    write(folder.join("cache/y"), "2").unwrap();
    let verified = succeed(&scratch, VERIFY);
    let line = "  not covered by the signature: .gitignore, cache/, model.sig\n";
    assert!(verified.stdout.ends_with(line), "{}", verified.stdout);
    // A second signature is about the same, because it does not cover itself.
    let first = statement(&scratch);
    succeed(&scratch, &format!("{SIGN} {options}"));
    assert_eq!(statement(&scratch), first);
    // A verifier accepts further paths, but no other content of a signed file.
    write(folder.join("notes"), "n").unwrap();
    reject(&scratch, VERIFY, "\"notes\" is not signed");
    succeed(&scratch, &format!("{VERIFY} --ignore-path notes"));
    write(folder.join("a-b"), "other").unwrap();
    let line = format!("{VERIFY} --ignore-path notes --ignore-path a-b");
    reject(&scratch, &line, "\"a-b\" has other content");
}

#[test]
fn links_are_followed_only_if_the_signature_says_so() {
    let scratch = scratch();
    symlink("../a-b", scratch.path().join("model/a/link")).unwrap();
    let ran = model(&scratch, SIGN);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("\"a/link\" is a symbolic link"),
        "{}",
        ran.stderr
    );
    succeed(&scratch, &format!("{SIGN} --follow-links"));
    succeed(&scratch, VERIFY);
    remove_file(scratch.path().join("model/a/link")).unwrap();
    symlink("../../p256.pem", scratch.path().join("model/a/link")).unwrap();
    reject(
        &scratch,
        VERIFY,
        "the link \"a/link\" leads out of the model's folder",
    );
}

#[test]
fn bundles_of_the_reference_are_verified() {
    let scratch = scratch();
    for line in [
        "verify model --key p256.pub --signature p256.sig",
        "verify model --key p384.pub --signature shards.sig",
        "verify model --certificate-chain root.pem --signature certificates.sig",
        "verify model/a-b --key p256.pub --signature single-file.sig",
    ] {
        succeed(&scratch, line);
    }
}

#[test]
fn shards_and_single_files_are_signed() {
    let scratch = scratch();
    succeed(&scratch, &format!("{SIGN} --shard-bytes 2 --jobs 2"));
    let verified = succeed(&scratch, VERIFY);
    let line = "  not covered by the signature: empty, model.sig\n";
    assert!(verified.stdout.ends_with(line), "{}", verified.stdout);
    write(scratch.path().join("model/a-b"), "heLlo").unwrap();
    reject(&scratch, VERIFY, "\"a-b:2:4\" has other content");
    // The signature of a single file is beside it, where the host looks for it.
    let signed = succeed(&scratch, "sign model/a/b --private-key p256.pem");
    assert_eq!(signed.stdout, "model/a/b.sig\n");
    succeed(&scratch, "verify model/a/b --key p256.pub");
    // The reference knows a single file by this name alone.
    let listed = succeed(&scratch, "manifest model/a/b").stdout;
    assert!(listed.contains(r#""resources":[{"name":".""#), "{listed}");
    write(scratch.path().join("model/a/b"), "z").unwrap();
    reject(
        &scratch,
        "verify model/a/b --key p256.pub",
        "has other content",
    );
}

#[test]
fn another_model_or_an_older_one_of_the_signer_is_rejected() {
    let scratch = scratch();
    succeed(&scratch, &format!("{SIGN} --subject digits"));
    succeed(
        &scratch,
        &format!("{VERIFY} --subject digits --not-before 2026-01-01"),
    );
    let other = format!("{VERIFY} --subject model");
    reject(
        &scratch,
        &other,
        "is about the model \"digits\", and \"model\" is required",
    );
    let early = format!("{VERIFY} --not-before 9999-12-31");
    reject(
        &scratch,
        &early,
        "and a signature from 9999-12-31T00:00:00Z on is required",
    );
    // The reference records no time.
    let timeless = format!("{VERIFY} --signature p256.sig --not-before 1970-01-01");
    reject(&scratch, &timeless, "does not say when it was made");
    let ran = model(&scratch, &format!("{timeless} --json"));
    let line: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &line["verdict"]), (1, &json!("rejected")));
    assert_eq!(line["signed_at"], Value::Null);
    for (line, text) in [
        ("--not-before 2026-02-30", "YYYY-MM-DD"),
        ("--not-before 2026-02-03T00:00:00Z", "YYYY-MM-DD"),
        ("--not-before yesterday", "YYYY-MM-DD"),
        ("--subject ", "value"),
    ] {
        let ran = model(&scratch, &format!("{VERIFY} {line}"));
        assert_eq!(ran.code, 2, "{line}: {}", ran.stderr);
        assert!(ran.stderr.contains(text), "{line}: {}", ran.stderr);
    }
}

#[test]
fn files_that_are_left_out_are_reported_or_rejected() {
    let scratch = scratch();
    let folder = scratch.path().join("model");
    create_dir(folder.join("cache")).unwrap();
    write(folder.join("cache/x"), "1").unwrap();
    succeed(&scratch, &format!("{SIGN} --ignore-path cache"));
    succeed(&scratch, VERIFY);
    let strict = format!("{VERIFY} --strict");
    reject(&scratch, &strict, "the signature leaves out cache/");
    succeed(&scratch, &format!("{strict} --ignore-path cache"));
    let ran = model(&scratch, &format!("{strict} --json"));
    let line: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &line["uncovered"]), (1, &json!(["cache/"])));
    // Weights are never left out, by whomever.
    write(folder.join("cache/model.safetensors"), "1").unwrap();
    let left_out = "\"cache/model.safetensors\" is left out of the signature";
    reject(&scratch, VERIFY, left_out);
    reject(&scratch, &format!("{VERIFY} --ignore-path cache"), left_out);
    let ran = model(&scratch, &format!("{SIGN} --ignore-path cache"));
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains(left_out), "{}", ran.stderr);
}

#[test]
fn names_that_some_systems_take_for_one_are_not_signed() {
    let scratch = scratch();
    let folder = scratch.path().join("model");
    for name in ["A-B", "caf\u{e9}"] {
        write(folder.join(name), "x").unwrap();
    }
    let ran = model(&scratch, SIGN);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("\"a-b\" has a name"), "{}", ran.stderr);
    remove_file(folder.join("A-B")).unwrap();
    succeed(&scratch, SIGN);
    write(folder.join("cafe\u{301}"), "x").unwrap();
    let ran = model(&scratch, SIGN);
    assert!(ran.stderr.contains("the form of Unicode"), "{}", ran.stderr);
}

#[test]
fn a_key_as_the_reference_makes_it_signs() {
    let scratch = scratch();
    for name in ["p256-sec1.pem", "p256-encrypted.pem"] {
        let key = std::fs::read(data("keys").join(name)).unwrap();
        set_permissions(scratch.file(name, key), Permissions::from_mode(0o600)).unwrap();
    }
    succeed(&scratch, "sign model --private-key p256-sec1.pem");
    succeed(&scratch, VERIFY);
    let ran = model(&scratch, "sign model --private-key p256-encrypted.pem");
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("is encrypted"), "{}", ran.stderr);
}

#[test]
fn sign_names_the_scan_that_it_leaves_out_or_makes_it() {
    let scratch = scratch();
    let folder = scratch.path().join("model");
    let signed = succeed(&scratch, SIGN);
    assert!(
        signed.stderr.contains("sign does not scan"),
        "{}",
        signed.stderr
    );
    remove_file(folder.join("model.sig")).unwrap();
    // No format is known by these names.
    let ran = model(&scratch, &format!("{SIGN} --scan"));
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("refused"), "{}", ran.stderr);
    assert!(!folder.join("model.sig").exists());
    for name in ["a-b", "a/b", "empty"] {
        remove_file(folder.join(name)).unwrap();
    }
    write(folder.join("README.md"), "# A model\n").unwrap();
    write(folder.join("a/notes.txt"), "x\n").unwrap();
    create_dir(folder.join("cache")).unwrap();
    write(folder.join("cache/x.py"), "import os\n").unwrap();
    // What is not signed is not scanned.
    let signed = succeed(&scratch, &format!("{SIGN} --scan --ignore-path cache"));
    assert!(
        !signed.stderr.contains("does not scan"),
        "{}",
        signed.stderr
    );
    succeed(
        &scratch,
        "sign model/README.md --private-key p256.pem --scan",
    );
    let ran = model(&scratch, &format!("{SIGN} --scan"));
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("cache/x.py"), "{}", ran.stderr);
}

#[test]
fn the_manifest_is_what_is_signed() {
    let scratch = scratch();
    let printed = succeed(&scratch, "manifest model --ignore-path empty").stdout;
    succeed(
        &scratch,
        "manifest model --ignore-path empty -o manifest.json",
    );
    let written = std::fs::read_to_string(scratch.path().join("manifest.json")).unwrap();
    assert_eq!(printed, written);
    succeed(&scratch, &format!("{SIGN} --ignore-path empty"));
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed, statement(&scratch));
    let named = succeed(&scratch, "manifest model --subject digits").stdout;
    let named: Value = serde_json::from_str(&named).unwrap();
    assert_eq!(named["subject"][0]["name"], "digits");
}

#[test]
fn a_pipeline_gives_the_key_in_a_variable() {
    let scratch = scratch();
    let key = std::fs::read_to_string(data("keys/p256.pem")).unwrap();
    let mut command = Command::new(binary());
    let arguments = ["sign", "model", "--private-key-env", "RELEASE_KEY"];
    command
        .args(arguments)
        .env("RELEASE_KEY", key)
        .current_dir(scratch.path());
    let signed = Ran::from_command(&mut command);
    assert_eq!(signed.code, 0, "{}", signed.stderr);
    succeed(&scratch, VERIFY);
}

#[test]
fn a_pipe_instead_of_a_file_is_refused_at_once() {
    let scratch = scratch();
    succeed(&scratch, SIGN);
    let pipe = scratch.path().join("pipe");
    let made = Command::new("mkfifo").arg(pipe).status();
    assert!(made.unwrap().success());
    for (line, code) in [
        ("sign model --private-key pipe", 2),
        (
            "sign model --private-key p256.pem --certificate-chain pipe",
            2,
        ),
        ("verify model --key pipe", 2),
        ("verify model --certificate-chain pipe", 2),
        ("verify model --key p256.pub --signature pipe", 2),
        ("verify model --key p256.pub --signature /dev/zero", 2),
        ("serve-verified model served --key pipe", 2),
        (
            "serve-verified model served --key p256.pub --signature pipe",
            1,
        ),
        ("scan model --exceptions pipe", 2),
    ] {
        let ran = model(&scratch, line);
        assert_eq!(ran.code, code, "{line}: {}{}", ran.stdout, ran.stderr);
        let text = "not a regular file";
        assert!(ran.stderr.contains(text), "{line}: {}", ran.stderr);
    }
}

#[test]
fn a_signature_replaces_no_file_but_a_signature() {
    let scratch = scratch();
    let folder = scratch.path().join("model");
    write(folder.join(".gitignore"), "cache").unwrap();
    symlink("model/a-b", scratch.path().join("link")).unwrap();
    symlink("model", scratch.path().join("also")).unwrap();
    hard_link(folder.join("a-b"), scratch.path().join("hard")).unwrap();
    for file in [
        "model/a-b",
        "model/empty",
        "model/.gitignore",
        "model/a/../a-b",
        "also/a/b",
        "hard",
        "link",
        "model/a",
        "p256.pub",
    ] {
        let path = scratch.path().join(file);
        let before = std::fs::read(&path).ok();
        let ran = model(&scratch, &format!("{SIGN} --signature {file}"));
        assert_eq!(ran.code, 2, "{file}: {}{}", ran.stdout, ran.stderr);
        let text = "is no signature of a model";
        assert!(ran.stderr.contains(text), "{file}: {}", ran.stderr);
        assert_eq!(std::fs::read(&path).ok(), before, "{file}");
    }
    // An earlier signature that the new one would cover.
    succeed(&scratch, SIGN);
    std::fs::rename(folder.join("model.sig"), folder.join("old.sig")).unwrap();
    hard_link(folder.join("old.sig"), scratch.path().join("hard.sig")).unwrap();
    let ran = model(&scratch, &format!("{SIGN} --signature hard.sig"));
    assert_eq!(ran.code, 2, "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stderr.contains("is a file of the model"),
        "{}",
        ran.stderr
    );
    // An earlier signature that it would not cover, and an empty file elsewhere.
    scratch.file("new.sig", "");
    for file in ["model/old.sig", "new.sig"] {
        succeed(&scratch, &format!("{SIGN} --signature {file}"));
        succeed(&scratch, &format!("{VERIFY} --signature {file}"));
    }
}

#[test]
fn invalid_usage_has_its_own_exit_code() {
    let scratch = scratch();
    succeed(&scratch, SIGN);
    create_dir(scratch.path().join("nothing")).unwrap();
    let open = scratch.file("open.pem", std::fs::read(data("keys/p256.pem")).unwrap());
    set_permissions(open, Permissions::from_mode(0o644)).unwrap();
    for (line, text) in [
        ("sign model", "required"),
        ("sign model --private-key open.pem", "mode 0644"),
        (
            "sign model --private-key missing.pem",
            "cannot read missing.pem",
        ),
        ("sign model --private-key p256.pub", "PRIVATE KEY"),
        ("sign model --private-key-env TENSORGATE_NONE", "is not set"),
        (
            "sign model --private-key-env -----BEGIN",
            "the name of a variable",
        ),
        ("sign missing --private-key p256.pem", "cannot read missing"),
        (
            "sign nothing --private-key p256.pem",
            "the model has no files",
        ),
        (
            "sign model --private-key p256.pem --ignore-path ../x",
            "leads out",
        ),
        (
            "sign model --private-key p256.pem --shard-bytes 0",
            "--shard-bytes",
        ),
        (
            "sign model --private-key p384.pem --certificate-chain valid.pem",
            "not one of this key",
        ),
        (
            "sign model/a-b --private-key p256.pem --signature model/a-b",
            "would replace",
        ),
        ("verify model", "required"),
        (
            "verify model --key p256.pub --certificate-chain root.pem",
            "cannot be used",
        ),
        (
            "verify model --key p256.pub --identity a --identity-provider b",
            "cannot be used",
        ),
        (
            "verify model --identity a --identity-provider b",
            "required",
        ),
        (
            "verify model --trusted-root root.pem",
            "--identity-provider",
        ),
        (
            "verify model --trusted-root root.pem --identity a --identity-provider b",
            "root.pem is not a trusted root",
        ),
        ("verify model --key p256.pem", "PUBLIC KEY"),
        ("verify model --certificate-chain valid.pem", "root"),
        (
            "verify model --key p256.pub --signature none.sig",
            "cannot read none.sig",
        ),
        ("verify missing --key p256.pub", "cannot read missing"),
        ("verify model/a --key p256.pub", "with --signature"),
        ("manifest nothing", "the model has no files"),
    ] {
        let ran = model(&scratch, line);
        assert_eq!(ran.code, 2, "{line}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains(text), "{line}: {}", ran.stderr);
    }
}
