//! `sign`: which signatures `check` and the host accept, and which they reject.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tensorgate_client::run::{Ran, Scratch};
use tensorgate_signature::PublicKey;

use super::{handler, lines, story, tensorgate};

/// RFC 8410, 10.3 and 10.1.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

/// A folder with a key and a component.
pub struct Signing {
    pub scratch: Scratch,
}

impl Signing {
    pub fn new() -> Self {
        let signing = Self {
            scratch: Scratch::new(),
        };
        signing.key(KEY, 0o600);
        signing.component("(component)");
        signing
    }

    fn key(&self, text: &str, mode: u32) {
        let file = self.scratch.file("release.pem", text);
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn component(&self, text: &str) -> PathBuf {
        self.scratch
            .file("scale.wasm", wat::parse_str(text).unwrap())
    }

    pub fn path(&self, name: &str) -> String {
        self.scratch.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn sign(&self, signed_as: &str) -> Ran {
        let (key, component) = (self.path("release.pem"), self.path("scale.wasm"));
        handler(&[
            "--json", "sign", "--key", &key, "--as", signed_as, &component,
        ])
    }

    fn digest(&self) -> String {
        let bytes = std::fs::read(self.scratch.path().join("scale.wasm")).unwrap();
        tensorgate_policy::hex(&Sha256::digest(bytes))
    }
}

/// What `check` prints for a policy whose handler must be signed.
fn check(policy: &Path) -> (i32, String) {
    let ran = tensorgate(&["check".as_ref(), policy.as_os_str()]);
    (ran.code, format!("{}{}", ran.stdout, ran.stderr))
}

#[test]
fn only_the_signed_component_is_accepted() {
    let signing = Signing::new();
    let ran = signing.sign("scale@1.4.0");
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let result = lines(&ran).remove(0);
    let ed25519 = PublicKey::from_pem(PUBLIC).unwrap().to_hex();
    assert_eq!(result["ed25519"], ed25519.as_str());
    assert_eq!(result["sha256"], signing.digest().as_str());
    let signature = signing.scratch.path().join("scale.wasm.sigstore.json");
    assert_eq!(result["signature"], signature.to_str().unwrap());
    let policy = |key: &str, signed_as: &str| {
        let text = format!(
            "version: 1\nkeys:\n  release: {{ed25519: \"{key}\"}}\nhandlers:\n  scale:\n    component: scale.wasm\n    sha256: \"{}\"\n    signed_by: [release]\n    signed_as: {signed_as}\n",
            result["sha256"].as_str().unwrap()
        );
        signing.scratch.file("gate.yaml", text)
    };
    let matching = policy(&ed25519, "scale@1.4.0");
    assert_eq!(check(&matching).0, 0, "{}", check(&matching).1);
    let refused = |policy: &Path, text: &str| {
        let (code, output) = check(policy);
        assert_eq!(code, 2, "{text}: {output}");
        assert!(
            output.contains(text) && output.contains("gate.yaml:8:"),
            "{output}"
        );
        assert!(output.contains("tensorgate handler sign"), "{output}");
    };
    refused(&policy(&"17".repeat(32), "scale@1.4.0"), "signed by none");
    refused(&policy(&ed25519, "scale@1.3.9"), "signs scale@1.4.0");
    let matching = policy(&ed25519, "scale@1.4.0");
    // Built and signed again, while the policy still names the reviewed component.
    signing.component("(component (component))");
    let (code, faults) = check(&matching);
    let differs = "component scale.wasm differs from its sha256";
    assert!(code == 2 && faults.contains(differs), "{faults}");
    let signed = !faults.contains("signed_by)");
    assert!(
        signed,
        "the signature is of what the policy names: {faults}"
    );
    let ran = signing.sign("scale@1.4.0");
    assert_eq!(ran.code, 0, "{}", story(&ran));
    refused(&matching, "signs another component");
    std::fs::remove_file(&signature).unwrap();
    refused(&matching, "no signature");
    let json = tensorgate(&["--json".as_ref(), "check".as_ref(), matching.as_os_str()]);
    assert!(
        json.stdout.contains("handlers.scale.signed_by"),
        "{}",
        json.stdout
    );
}

#[test]
fn the_printed_lines_are_a_valid_policy() {
    let signing = Signing::new();
    let (key, component) = (signing.path("release.pem"), signing.path("scale.wasm"));
    let ran = handler(&["sign", "--key", &key, "--as", "scale@1.4.0", &component]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let lines = ran.stderr.split_once("add to the policy:\n").unwrap().1;
    let policy = signing
        .scratch
        .file("gate.yaml", format!("version: 1\n{lines}"));
    assert_eq!(check(&policy).0, 0, "{lines}{}", check(&policy).1);
}

#[test]
fn a_key_that_others_can_read_or_of_another_type_is_rejected() {
    let signing = Signing::new();
    for (text, mode, why) in [
        (KEY, 0o640, "only the owner may have access"),
        (PUBLIC, 0o600, "PRIVATE KEY"),
        ("", 0o600, "PRIVATE KEY"),
        (
            "-----BEGIN PRIVATE KEY-----\nMAAwADAA\n-----END PRIVATE KEY-----\n",
            0o600,
            "openssl genpkey",
        ),
    ] {
        signing.key(text, mode);
        let ran = signing.sign("scale@1.4.0");
        assert_eq!(ran.code, 2, "{}", story(&ran));
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
        assert!(!ran.stderr.contains("MC4C"), "{}", ran.stderr);
    }
    signing.key(KEY, 0o600);
    for name in ["scale", "../scale@1", "scale@", "scale@1@2", "sc ale@1"] {
        assert_eq!(signing.sign(name).code, 2, "{name}");
    }
    signing.component("(module)");
    let ran = signing.sign("scale@1.4.0");
    assert!(ran.code == 2 && ran.stderr.contains("is not a WebAssembly component"));
    assert!(
        !signing
            .scratch
            .path()
            .join("scale.wasm.sigstore.json")
            .exists()
    );
}
