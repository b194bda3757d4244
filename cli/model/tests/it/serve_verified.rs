//! `model serve-verified` on small models that are signed here.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tensorgate_artifact::model_signing::{
    Exclusions, Manifest, ModelSigningKey, Pieces, Resource, Rules, sign_with_key,
};

use crate::program::{Ran, Scratch, run_in, tree};

const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgfaxkR+sP7EDRBTO+
sjLwv2GYTTNEFpFAVtc5D6+olQOhRANCAAQfOgtexTGK7PqnhHiOvaD2lPEe5+4G
CN+EsFvEbH5xe8Igj8QJ//tCUAzlZ8ZhgzHw1m+LgL1FZ1NiOI1JpcE0
-----END PRIVATE KEY-----
";
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEHzoLXsUxiuz6p4R4jr2g9pTxHufu
BgjfhLBbxGx+cXvCII/ECf/7QlAM5WfGYYMx8NZvi4C9RWdTYjiNSaXBNA==
-----END PUBLIC KEY-----
";
const OTHER_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAENCgxLXVVagDpjzNbCqwAmQcTKkey
lWxMfGSFH+Iahm1ASeHC0UlzP4yQwIjqUlGE2VN988pn86Q0oay/czVmRQ==
-----END PUBLIC KEY-----
";
/// `os.system("id")`.
const PICKLE: &[u8] = b"cos\nsystem\n(S'id'\ntR.";

/// A safetensors file with one tensor of four bytes.
fn safetensors(last: u8) -> Vec<u8> {
    let header = br#"{"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}   "#;
    let length = u64::try_from(header.len()).unwrap().to_le_bytes();
    [length.as_slice(), header, &[1, 2, 3, last]].concat()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A folder with a signed model in `model`, and `served` for its copy.
struct Case {
    scratch: Scratch,
}

impl Case {
    fn new() -> Self {
        let case = Self {
            scratch: Scratch::new(),
        };
        std::fs::create_dir_all(case.path("model/1")).unwrap();
        case.scratch.file("signer.pem", PUBLIC_KEY);
        case.scratch.file("model/README.md", "# A model\n");
        case.sign(&safetensors(4));
        case
    }

    fn path(&self, path: &str) -> PathBuf {
        self.scratch.path().join(path)
    }

    /// Signs the model with these weights.
    fn sign(&self, weights: &[u8]) {
        self.scratch.file("model/1/weights", weights);
        self.sign_files(&["README.md", "1/weights"]);
    }

    /// Signs these files as they are.
    fn sign_files(&self, paths: &[&str]) {
        let resources = paths.iter().map(|path| {
            let bytes = std::fs::read(self.path("model").join(path)).unwrap();
            Resource::file((*path).to_owned(), sha256(&bytes))
        });
        let rules = Rules {
            pieces: Pieces::Files,
            follow_links: false,
            exclusions: Exclusions::default(),
        };
        let manifest = Manifest::new("model".to_owned(), rules, resources.collect()).unwrap();
        let key = ModelSigningKey::from_pem(PRIVATE_KEY).unwrap();
        let bundle = sign_with_key(&manifest, &key).unwrap();
        self.scratch.file("model/model.sig", bundle);
    }

    fn serve(&self, more: &[&str]) -> Ran {
        self.serve_signed_by(&["--key", "signer.pem"], more)
    }

    fn serve_signed_by(&self, signer: &[&str], more: &[&str]) -> Ran {
        let arguments = ["serve-verified", "model", "served"];
        run_in(
            self.scratch.path(),
            &[&arguments[..], more, signer].concat(),
        )
    }

    /// Serves, and expects this exit code and this text.
    fn expect(&self, more: &[&str], code: i32, text: &str) {
        expect(&self.serve(more), code, text);
    }

    /// The names in `served`, and the content of the files in `served/model`.
    fn served(&self) -> (Vec<String>, BTreeMap<PathBuf, Vec<u8>>) {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.path("served")).unwrap() {
            names.push(entry.unwrap().file_name().into_string().unwrap());
        }
        names.sort_unstable();
        let mut files = BTreeMap::new();
        let model = self.path("served/model");
        let mut folders = vec![model.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&model).unwrap().to_owned();
                    files.insert(name, std::fs::read(path).unwrap());
                }
            }
        }
        (names, files)
    }

    /// The visible weights.
    fn weights(&self) -> Option<Vec<u8>> {
        self.served().1.remove(Path::new("1/weights"))
    }

    /// Writes to the visible model, as another program with its owner's rights could.
    fn tamper(&self) {
        let weights = self.path("served/model/1/weights");
        mode(&weights, 0o644);
        std::fs::write(&weights, "tampered").unwrap();
        mode(&weights, 0o444);
    }
}

impl Drop for Case {
    /// Lets the folder be removed.
    fn drop(&mut self) {
        for folder in [
            "served/model",
            "served/model/1",
            "served/model/a",
            "served/.model.new",
        ] {
            let path = self.path(folder);
            let _ = std::fs::set_permissions(path, Permissions::from_mode(0o755));
        }
    }
}

fn expect(ran: &Ran, code: i32, text: &str) {
    let output = format!("{}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.code, code, "{text}: {output}");
    assert!(output.contains(text), "{text}: {output}");
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_signed_and_safe_model_becomes_visible_and_is_read_only() {
    let case = Case::new();
    case.expect(
        &[],
        0,
        "served/model: copied, 2 files, 78 bytes, signed by key ",
    );
    let (names, files) = case.served();
    assert_eq!(names, [".model.lock", ".model.receipt", "model"]);
    let paths: Vec<_> = files.keys().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(paths, ["1/weights", "README.md"]);
    assert_eq!(case.weights(), Some(safetensors(4)));
    for (path, expected) in [
        ("served/model", 0o555),
        ("served/model/1", 0o555),
        ("served/model/1/weights", 0o444),
    ] {
        let metadata = std::fs::metadata(case.path(path)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, expected, "{path}");
    }
}

/// The bundle is about the files `a-b`, `a/b` and `empty`.
#[test]
fn a_model_that_a_sigstore_identity_signed_becomes_visible() {
    let case = Case::new();
    let signed = tree().join("artifact/tests/data/oms/identities/mock.json");
    let signed: Value = serde_json::from_slice(&std::fs::read(signed).unwrap()).unwrap();
    let mock = &signed["cases"]["mock"];
    std::fs::remove_dir_all(case.path("model")).unwrap();
    std::fs::create_dir_all(case.path("model/a")).unwrap();
    let mut exceptions = String::new();
    // No format is known by these names.
    for (path, content) in [
        ("model/a-b", "hello"),
        ("model/a/b", "y"),
        ("model/empty", ""),
    ] {
        case.scratch.file(path, content);
        let digest = sha256(content.as_bytes()).map(|byte| format!("{byte:02x}"));
        let digest = digest.concat();
        let name = path.strip_prefix("model/").unwrap();
        exceptions.push_str(&format!(
            "- {{sha256: \"{digest}\", path: {name}, reason: made by us, until: 2999-12-31}}\n"
        ));
    }
    case.scratch.file("exceptions.yaml", exceptions);
    case.scratch
        .file("model/model.sig", mock["bundle"].to_string());
    case.scratch
        .file("root.json", signed["trusted_root"].to_string());
    let serve = |identity: &str, provider: &str| {
        let signer = ["--trusted-root", "root.json", "--identity", identity];
        let signer = [&signer[..], &["--identity-provider", provider][..]].concat();
        case.serve_signed_by(&signer, &["--exceptions", "exceptions.yaml"])
    };
    let identity = mock["identity"].as_str().unwrap();
    let provider = signed["provider"].as_str().unwrap();
    let line = |state: &str| {
        format!("served/model: {state}, 3 files, 6 bytes, signed by identity {identity} ")
    };
    expect(&serve("other", provider), 1, "\"other\" is trusted");
    assert_eq!(case.served().0, [".model.lock"]);
    expect(&serve(identity, provider), 0, &line("copied"));
    expect(&serve(identity, provider), 0, &line("unchanged"));
    // A copy that is there helps no other identity and no other provider.
    expect(&serve("other", provider), 1, "\"other\" is trusted");
    expect(&serve(identity, "other"), 1, "vouches for the signer");
    case.expect(&[], 1, "signed by a Sigstore identity");
    case.scratch.file("model/a-b", "hellO");
    case.scratch.file("exceptions.yaml", "[]\n");
    let changed = "\"a-b\" has other content than was signed";
    expect(&serve(identity, provider), 1, changed);
    assert_eq!(case.served().1.len(), 3);
}

#[test]
fn a_second_start_reads_no_file_of_the_model() {
    let case = Case::new();
    case.expect(&[], 0, "copied");
    std::fs::remove_file(case.path("model/1/weights")).unwrap();
    case.expect(&[], 0, "unchanged");
    let ran = case.serve(&["--json"]);
    let line: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(line["model"], "served/model");
    assert_eq!(line["state"], "unchanged");
    assert_eq!(line["files"], 2);
    assert_eq!(line["signer"]["kind"], "key");
    // Another option needs another look.
    case.expect(&["--max-bytes", "1000"], 1, "is signed and missing");
    assert_eq!(case.weights(), Some(safetensors(4)));
}

#[test]
fn a_new_version_replaces_the_model_as_a_whole() {
    let case = Case::new();
    case.expect(&[], 0, "copied");
    case.sign(&safetensors(5));
    // What a killed run leaves.
    std::fs::create_dir(case.path("served/.model.new")).unwrap();
    std::fs::write(case.path("served/.model.new/half"), "x").unwrap();
    mode(&case.path("served/.model.new"), 0o555);
    case.expect(&[], 0, "copied");
    let (names, files) = case.served();
    assert_eq!(names, [".model.lock", ".model.receipt", "model"]);
    assert_eq!(files.len(), 2);
    assert_eq!(case.weights(), Some(safetensors(5)));
}

#[test]
fn a_failure_leaves_the_verified_model_that_is_there() {
    let case = Case::new();
    case.expect(&[], 0, "copied");
    let before = case.served();
    case.scratch.file("model/late", "x");
    case.sign(&safetensors(5));
    case.expect(&[], 1, "\"late\" is not signed");
    assert_eq!(case.served(), before);
    std::fs::remove_file(case.path("model/late")).unwrap();
    case.scratch.file("model/1/weights", safetensors(6));
    case.expect(&[], 1, "\"1/weights\" has other content than was signed");
    assert_eq!(case.served(), before);
    // Signed, and not safe.
    case.sign(PICKLE);
    case.expect(&[], 1, "1/weights: EXECUTABLE (");
    assert_eq!(case.served(), before);
    case.scratch.file("signer.pem", OTHER_KEY);
    case.expect(&[], 1, "signed by the key");
    std::fs::remove_file(case.path("model/model.sig")).unwrap();
    case.expect(&[], 1, "cannot read the signature model/model.sig");
    case.expect(&[], 1, "sign the model with `tensorgate model sign`");
    std::fs::remove_dir_all(case.path("model")).unwrap();
    case.expect(&[], 1, "there is no model: correct SRC");
    assert_eq!(case.served(), before);
}

#[test]
fn a_model_that_is_refused_does_not_become_visible() {
    let case = Case::new();
    case.sign(PICKLE);
    case.expect(&[], 1, "a file is refused");
    assert_eq!(case.served().0, [".model.lock"]);
    let digest = sha256(PICKLE).map(|byte| format!("{byte:02x}")).concat();
    case.expect(&[], 1, &format!("sha256: {digest}"));
    let exception = |path: &str| {
        let file = format!("sha256: \"{digest}\", path: {path}");
        format!("- {{{file}, reason: made by us, until: 2999-12-31}}\n")
    };
    let elsewhere = exception("weights");
    case.scratch.file("exceptions.yaml", elsewhere);
    case.expect(&["--exceptions", "exceptions.yaml"], 1, "a file is refused");
    case.scratch.file("exceptions.yaml", exception("1/weights"));
    case.expect(&["--exceptions", "exceptions.yaml"], 0, "copied");
    case.expect(&["--exceptions", "exceptions.yaml"], 0, "unchanged");
    assert_eq!(case.weights().as_deref(), Some(PICKLE));
}

#[test]
fn an_ignored_path_may_be_unsigned_and_is_not_copied() {
    let case = Case::new();
    std::fs::create_dir(case.path("model/cache")).unwrap();
    case.scratch.file("model/cache/late.py", "import os");
    case.expect(&[], 1, "\"cache/late.py\" is not signed");
    case.expect(&["--ignore-path", "../cache"], 2, "leads out");
    case.expect(&["--ignore-path", "cache/"], 0, "copied, 2 files");
    case.expect(&["--ignore-path", "cache/"], 0, "unchanged");
    let files = case.served().1;
    let paths: Vec<_> = files.keys().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(paths, ["1/weights", "README.md"]);
    // A run without the option does not take the other's result.
    case.expect(&[], 1, "\"cache/late.py\" is not signed");
    // A signed file is compared all the same.
    case.scratch.file("model/1/weights", safetensors(5));
    let ignored = ["--ignore-path", "cache", "--ignore-path", "1"];
    case.expect(
        &ignored,
        1,
        "\"1/weights\" has other content than was signed",
    );
}

#[test]
fn a_signature_must_be_about_the_required_model_and_cover_all_files() {
    let case = Case::new();
    case.expect(&["--subject", "model"], 0, "copied");
    case.expect(&["--subject", "model"], 0, "unchanged");
    let other = "is about the model \"model\", and \"other\" is required";
    case.expect(&["--subject", "other"], 1, other);
    let timeless = "does not say when it was made";
    case.expect(&["--not-before", "1970-01-01"], 1, timeless);
    // What was served stays.
    assert!(case.weights().is_some());
    let key = case.scratch.file("key.pem", PRIVATE_KEY);
    mode(&key, 0o600);
    std::fs::create_dir(case.path("model/logs")).unwrap();
    case.scratch.file("model/logs/today.txt", "x");
    let sign = [
        "sign",
        "model",
        "--private-key",
        "key.pem",
        "--ignore-path",
        "logs",
    ];
    expect(&run_in(case.scratch.path(), &sign), 0, "not covered: logs/");
    case.expect(&[], 1, "the signature leaves out logs/");
    let ignored = ["--ignore-path", "logs", "--not-before", "2026-01-01"];
    case.expect(&ignored, 0, "copied");
    case.expect(&["--ignore-path", "logs"], 0, "copied");
}

#[test]
fn a_model_that_was_changed_is_replaced_or_removed() {
    let case = Case::new();
    case.expect(&[], 0, "copied");
    case.tamper();
    case.expect(&[], 0, "copied");
    assert_eq!(case.weights(), Some(safetensors(4)));
    case.tamper();
    case.scratch.file("model/1/weights", safetensors(5));
    case.expect(&[], 1, "served/model is removed");
    assert!(!case.path("served/model").exists());
}

#[test]
fn formats_are_a_list_of_what_is_allowed() {
    let case = Case::new();
    let refused = "README.md: the format \"text\" is not among --formats";
    case.expect(&["--formats", "safetensors"], 1, refused);
    case.expect(&["--formats", "safetensors,text"], 0, "copied");
    case.expect(&["--formats", "safetensors,txt"], 2, "expected one of");
}

#[test]
fn code_of_an_allowed_kind_is_accepted_and_no_other() {
    let case = Case::new();
    let sign = |program: &[u8]| {
        case.scratch.file("model/1/model.py", program);
        case.sign_files(&["README.md", "1/model.py", "1/weights"]);
    };
    sign(b"import os\n");
    let allow = ["--allow", "triton-python"];
    let with_formats = [&allow[..], &["--formats", "safetensors,text"]].concat();
    case.expect(&[], 1, "1/model.py: EXECUTABLE (");
    case.expect(
        &["--allow", "triton-pyton"],
        2,
        "expected one of: triton-python",
    );
    case.expect(&["--allow", "torchscript"], 1, "; --allow=triton-python");
    case.expect(&allow, 0, "copied, 3 files");
    case.expect(&allow, 0, "unchanged");
    case.expect(&with_formats, 0, "copied");
    // What was accepted with the option helps no run without it.
    case.expect(&[], 1, "a file is refused");
    // A program of the machine, and a source that is also a pickle.
    for program in [b"\x7fELF\x02\x01\x01\0".as_slice(), PICKLE] {
        sign(program);
        let ran = case.serve(&allow);
        expect(&ran, 1, "a file is refused");
        assert!(!ran.stderr.contains("--allow="), "{}", ran.stderr);
    }
}

#[test]
fn a_folder_of_another_origin_is_left_alone() {
    let case = Case::new();
    std::fs::create_dir_all(case.path("served/model")).unwrap();
    case.scratch.file("served/model/mine", "x");
    case.expect(&[], 1, "was not written by this command");
    assert_eq!(case.served().0, ["model"]);
    case.expect(&["--name", "other"], 0, "served/other: copied");
    for folder in ["served/other", "served/other/1"] {
        mode(&case.path(folder), 0o755);
    }
}

#[test]
fn a_destination_in_the_model_is_refused_and_nothing_is_written() {
    let case = Case::new();
    for destination in ["model", "model/served", "model/1/../served"] {
        let arguments = ["serve-verified", "model", destination];
        let arguments = [&arguments[..], &["--key", "signer.pem"][..]].concat();
        let ran = run_in(case.scratch.path(), &arguments);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains("is in SRC"), "{}", ran.stderr);
    }
    assert!(!case.path("model/served").exists());
    assert!(!case.path("model/.model.lock").exists());
}

#[test]
fn a_storage_initializer_gets_a_uri_and_a_folder_last() {
    let case = Case::new();
    let source = format!("file://{}", case.path("model").display());
    let arguments = ["serve-verified", "--key", "signer.pem"];
    let arguments = [&arguments[..], &[source.as_str(), "served"][..]].concat();
    let ran = run_in(case.scratch.path(), &arguments);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(case.weights(), Some(safetensors(4)));
}
