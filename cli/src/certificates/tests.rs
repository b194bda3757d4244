//! Which files may be given to Envoy, and which may replace which.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

use tensorgate_cli_common::private_dir::PrivateDir;
use tensorgate_client::pki::{Authority, Leaf};

use super::*;

const POLICY: &str = r#"version: 1
listen: {address: "127.0.0.1:0", tls: {cert: gate.pem, key: gate.key, client_ca: ca.pem, client_crl: crl.pem}}
clients: {engine: {mtls: {spiffe: spiffe://prod/engine}}}
backends:
  gpu: {kind: open-inference, endpoints: ["http://127.0.0.1:8001"], max_in_flight: 64, queue: 128, timeout_ms: 2000}
models:
  m:
    backend: gpu
    versions: ["1"]
    protocols: [oip-rest]
    inputs:
      - {name: x, datatype: FP32, shape: [2], range: [0, 1]}
    outputs:
      - {name: y, datatype: FP32, shape: [1]}
grants:
  - {name: g, clients: [engine], models: [m], operations: [infer], rate: {quota: 6, window_s: 60}}
"#;

/// Valid TLS files of a listener, which a test then corrupts.
pub(crate) struct Files {
    pub(crate) folder: PrivateDir,
    pub(crate) authority: Authority,
    pub(crate) leaf: Leaf,
    pub(crate) tls: Tls,
}

impl Files {
    pub(crate) fn new() -> Self {
        let authority = Authority::new("clients").unwrap();
        let leaf = authority.issue(1, &["ip:127.0.0.1"]).unwrap();
        let folder = PrivateDir::new().unwrap();
        let policy = folder.path().join("gate.yaml");
        std::fs::write(&policy, POLICY).unwrap();
        let loaded = tensorgate_policy_load::load::load(&policy).unwrap();
        let files = Self {
            tls: loaded.version.policy.listen().tls().unwrap().clone(),
            folder,
            authority,
            leaf,
        };
        files.put("gate.pem", &files.leaf.pem);
        files.put("gate.key", &files.leaf.key);
        files.put("ca.pem", &files.authority.pem);
        files.put("crl.pem", &files.authority.revoke(7, &[]).unwrap());
        files
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// The path and cause of every fault.
    fn faults(&self) -> Vec<(&'static str, String)> {
        let faults = faults(&self.tls, self.folder.path()).into_iter();
        faults.map(|unfit| (unfit.path, unfit.cause)).collect()
    }

    fn authorities(&self) -> Authorities {
        authorities(&self.tls, self.folder.path()).unwrap().unwrap()
    }
}

#[test]
fn valid_files_are_written_as_they_were_read() {
    let files = Files::new();
    assert_eq!(files.faults(), []);
    // Leading text from `openssl x509 -text`, and a key in the certificate's file.
    files.put(
        "gate.pem",
        &format!("Subject: x\n{}{}", files.leaf.pem, files.leaf.key),
    );
    let written = identity(&files.tls, files.folder.path()).unwrap();
    let plain = |text: &str| text.replace("\r\n", "\n");
    assert_eq!(
        (written.chain, written.key),
        (plain(&files.leaf.pem), plain(&files.leaf.key))
    );
    assert!(!format!("{:?}", identity(&files.tls, files.folder.path())).contains("PRIVATE"));
    let lists = files.authority.revoke(7, &[&files.leaf]).unwrap();
    files.put("crl.pem", &lists);
    let written = files.authorities();
    assert_eq!(written.ca, plain(&files.authority.pem));
    assert_eq!(
        (written.crl.as_deref(), written.revoked()),
        (Some(&*plain(&lists)), 1)
    );
}

#[test]
fn files_that_envoy_would_misread_or_cannot_use_are_reported() {
    let other = Authority::new("others").unwrap();
    let stranger = other.issue(1, &["ip:127.0.0.1"]).unwrap();
    let files = Files::new();
    let list = files.authority.revoke(8, &[]).unwrap();
    let junk = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    let (half, _) = list.split_at(list.len() / 2);
    for (name, text, path, cause) in [
        ("crl.pem", "", CRL, "contains no revocation list"),
        ("crl.pem", "\n", CRL, "contains no revocation list"),
        ("crl.pem", "junk", CRL, "contains no revocation list"),
        ("crl.pem", half, CRL, "section end"),
        ("crl.pem", junk, CRL, "cannot be read"),
        ("crl.pem", &format!("{list}{junk}"), CRL, "cannot be read"),
        (
            "crl.pem",
            &list.replace("X509 CRL", "X509 CRLS"),
            CRL,
            "cannot be read",
        ),
        (
            "crl.pem",
            &files.authority.pem,
            CRL,
            "not a revocation list",
        ),
        ("ca.pem", "", CA, "contains no certificate"),
        ("ca.pem", "junk", CA, "contains no certificate"),
        (
            "ca.pem",
            &format!("{}{list}", other.pem),
            CA,
            "contains a revocation list",
        ),
        (
            "ca.pem",
            &other.pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
            CA,
            "cannot be read",
        ),
        ("gate.pem", "", CERT, "contains no certificate"),
        ("gate.key", "", KEY, "no items found"),
        ("gate.key", &stranger.key, KEY, "is not the key of"),
        ("gate.pem", &stranger.pem, KEY, "is not the key of"),
    ] {
        let files = Files::new();
        let own = name == "ca.pem" || name == "crl.pem";
        let text = if own {
            text.to_owned()
        } else {
            text.replace("\r\n", "\n")
        };
        files.put(name, &text);
        let faults = files.faults();
        assert!(
            matches!(&faults[..], [(at, said)] if *at == path && said.contains(cause)),
            "{name}: {text}: {faults:?}"
        );
    }
    for name in ["gate.pem", "gate.key", "ca.pem", "crl.pem"] {
        let files = Files::new();
        std::fs::remove_file(files.folder.path().join(name)).unwrap();
        assert_eq!(files.faults().len(), 1, "{name} is not there");
    }
    let files = Files::new();
    for name in ["gate.pem", "ca.pem", "crl.pem"] {
        files.put(name, "");
    }
    assert_eq!(files.faults().len(), 3, "every one at once");
}

#[test]
fn no_list_follows_a_later_one_and_none_is_lost() {
    let next = Authority::new("next clients").unwrap();
    let files = Files::new();
    let list = |number| files.authority.revoke(number, &[]).unwrap();
    let before = files.authorities();
    let follows = |before: &Authorities| {
        let now = files.authorities();
        let follows = now.may_follow(before, &files.tls, files.folder.path());
        follows.map_err(|unfit| unfit.cause)
    };
    for (text, expected) in [
        (list(7), true),
        (list(8), true),
        (list(300), true),
        (list(6), false),
        (next.revoke(9, &[]).unwrap(), false),
        (format!("{}{}", next.revoke(1, &[]).unwrap(), list(7)), true),
        (format!("{}{}", list(6), list(8)), true),
    ] {
        files.put("crl.pem", &text);
        assert_eq!(follows(&before).is_ok(), expected, "{text}");
    }
    // Removing an authority removes its list as well.
    files.put("ca.pem", &next.pem);
    files.put("crl.pem", &next.revoke(1, &[]).unwrap());
    assert_eq!(follows(&before), Ok(()));
}
