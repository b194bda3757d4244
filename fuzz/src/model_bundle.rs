//! Signatures of models: no change of a signed bundle verifies with other files, and a statement
//! is written as it was read.
//!
//! The first byte selects what the rest is. A bundle rarely survives mutation as JSON in base64, so
//! three kinds of input are changes of a bundle that verifies: four bytes each, a position of three
//! and a new byte.

use std::sync::OnceLock;

use serde_json::Value;
use tensorgate_artifact::model_signing::{
    Certificate, Manifest, ModelKey, Rejection, Roots, Trust, TrustedIdentity, TrustedRoot,
    Verified, read_statement, verify, verify_identity, write_statement,
};

/// When the certificates of the committed chains are valid.
const NOW_S: u64 = 1_795_564_800;

macro_rules! data {
    ($name:literal) => {
        include_str!(concat!("../../artifact/tests/data/oms/", $name))
    };
}

/// What is trusted, with a bundle of each kind that verifies.
struct Signed {
    key: ModelKey,
    roots: Roots,
    identity: TrustedIdentity,
    bundles: [Vec<u8>; 3],
    /// What is signed in each bundle.
    manifests: Vec<Manifest>,
}

impl Signed {
    fn new() -> Self {
        let key = ModelKey::from_pem(data!("keys/p256.pub")).expect("a key");
        let roots = Certificate::from_pem(data!("chains/root.pem")).expect("a certificate");
        let made: Value = serde_json::from_str(data!("identities/mock.json")).expect("JSON");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let case = &made["cases"]["mock"];
        let root = made["trusted_root"].to_string();
        let bundles = [
            data!("reference/p256.sig").to_owned(),
            data!("reference/certificates.sig").to_owned(),
            case["bundle"].to_string(),
        ];
        let mut signed = Self {
            key,
            roots: Roots::new(roots).expect("a root"),
            identity: TrustedIdentity {
                root: TrustedRoot::read(root.as_bytes()).expect("a trusted root"),
                identity: text(&case["identity"]),
                provider: text(&made["provider"]),
            },
            bundles: bundles.map(String::into_bytes),
            manifests: Vec::new(),
        };
        signed.manifests = (0..signed.bundles.len())
            .map(|kind| {
                let verified = signed.verify(kind, &signed.bundles[kind]);
                verified.expect("the bundle verifies").manifest
            })
            .collect();
        signed
    }

    /// Verifies a bundle by what is trusted for its kind.
    fn verify(&self, kind: usize, bundle: &[u8]) -> Result<Verified, Rejection> {
        match kind {
            0 => verify(bundle, Trust::Key(&self.key), NOW_S),
            1 => verify(bundle, Trust::Roots(&self.roots), NOW_S),
            _ => verify_identity(bundle, &self.identity),
        }
    }

    /// A bundle that verifies is one of the same files.
    fn check(&self, kind: usize, bundle: &[u8]) {
        if let Ok(verified) = self.verify(kind, bundle) {
            assert!(
                self.manifests.contains(&verified.manifest),
                "other files verify: {:?}",
                verified.manifest
            );
        }
    }
}

/// Runs one input: what it is, then the input or changes of a bundle.
pub fn run(data: &[u8]) {
    static SIGNED: OnceLock<Signed> = OnceLock::new();
    let signed = SIGNED.get_or_init(Signed::new);
    let Some((&what, rest)) = data.split_first() else {
        return;
    };
    let text = || String::from_utf8_lossy(rest);
    match what % 7 {
        kind @ 0..3 => {
            let kind = usize::from(kind);
            let mut bundle = signed.bundles[kind].clone();
            change(&mut bundle, rest);
            signed.check(kind, &bundle);
        }
        3 => (0..3).for_each(|kind| signed.check(kind, rest)),
        4 => statement(rest),
        5 => {
            let _ = Certificate::from_pem(&text()).map(Roots::new);
            let _ = ModelKey::from_pem(&text());
        }
        _ => {
            let _ = TrustedRoot::read(rest);
        }
    }
}

/// Replaces bytes. Positions wrap around.
fn change(bundle: &mut [u8], changes: &[u8]) {
    for change in changes.chunks_exact(4) {
        let position =
            usize::from(change[0]) << 16 | usize::from(change[1]) << 8 | usize::from(change[2]);
        let position = position % bundle.len();
        bundle[position] = change[3];
    }
}

/// A statement that is read is written so that it is read as the same.
fn statement(payload: &[u8]) {
    let Ok(manifest) = read_statement(payload) else {
        return;
    };
    let written = write_statement(&manifest).expect("a manifest that was read can be written");
    assert_eq!(read_statement(&written).as_ref(), Ok(&manifest));
}
