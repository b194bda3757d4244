//! `image`: what `skopeo` copies from a layout into a real registry over real TLS.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};
use tensorgate_client::pki::Authority;
use tensorgate_client::program;
use tensorgate_client::registry::{LOGIN, Registry};
use tensorgate_client::run::Ran;

use super::sign::Signing;
use super::{handler, lines, story};

/// Writes the layout of the signed component into a folder of the scratch folder.
fn image(signing: &Signing, into: &str, more: &[&str]) -> Ran {
    let (into, component) = (signing.path(into), signing.path("scale.wasm"));
    let mut arguments = vec!["--json", "image", "--into", &into];
    arguments.extend(more);
    arguments.push(&component);
    handler(&arguments)
}

fn signed() -> Signing {
    let signing = Signing::new();
    let ran = signing.sign("scale@1.4.0");
    assert_eq!(ran.code, 0, "{}", story(&ran));
    signing
}

fn refused(ran: &Ran, text: &str) {
    assert_eq!(ran.code, 2, "{text}: {}", story(ran));
    assert!(ran.stderr.contains(text), "{text}: {}", story(ran));
    assert_eq!(ran.stdout, "", "{text}");
}

/// A registry, and a folder with the certificate of its authority as `ca.crt`.
struct Remote<'s> {
    signing: &'s Signing,
    registry: Registry,
}

impl<'s> Remote<'s> {
    fn start(signing: &'s Signing) -> Self {
        let authority = Authority::new("registries").unwrap();
        std::fs::create_dir(signing.path("certificates")).unwrap();
        (signing.scratch).file("certificates/ca.crt", &authority.pem);
        let folder = signing.scratch.path().join("registry");
        std::fs::create_dir(&folder).unwrap();
        let leaf = authority.issue(7, &["ip:127.0.0.1"]).unwrap();
        let registry = Registry::start(&folder, &leaf).unwrap();
        Self { signing, registry }
    }

    fn at(&self) -> SocketAddr {
        self.registry.address()
    }

    /// Copies an image as the how-to page shows.
    fn copy(&self, layout: &str, tag: &str) {
        let skopeo = program::find("skopeo", "registry", "SKOPEO").unwrap();
        let output = Command::new(skopeo)
            .args(["--insecure-policy", "copy", "--preserve-digests"])
            .args(["--dest-creds", LOGIN, "--dest-cert-dir"])
            .arg(self.signing.path("certificates"))
            .arg(format!("oci:{}:{tag}", self.signing.path(layout)))
            .arg(format!("docker://{}/handlers/scale:{tag}", self.at()))
            .env("NO_PROXY", "*")
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{tag}: {error}");
    }

    /// What another client finds in the registry.
    fn get(&self, path: &str) -> Vec<u8> {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--max-time", "20"])
            .args(["--noproxy", "*", "--user", LOGIN, "--header"])
            .arg("accept: application/vnd.oci.image.manifest.v1+json")
            .arg("--cacert")
            .arg(self.signing.path("certificates/ca.crt"))
            .arg(format!("https://{}/v2/handlers/scale{path}", self.at()))
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{path}: {error}");
        output.stdout
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.get(path)).unwrap()
    }

    fn blob(&self, descriptor: &Value) -> Vec<u8> {
        self.get(&format!(
            "/blobs/{}",
            descriptor["digest"].as_str().unwrap()
        ))
    }
}

#[test]
fn a_component_and_its_signature_arrive_in_a_registry_as_they_are() {
    let signing = signed();
    let ran = image(&signing, "layout", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let written = lines(&ran).remove(0);
    assert_eq!(written["tag"], "1.4.0");
    assert_eq!(written["signature_tag"], "1.4.0.sig");

    let remote = Remote::start(&signing);
    // In this order, no component is in the registry without its signature.
    remote.copy("layout", "1.4.0.sig");
    remote.copy("layout", "1.4.0");

    let manifest = remote.json("/manifests/1.4.0");
    let digest = written["digest"].as_str().unwrap();
    assert_eq!(manifest, remote.json(&format!("/manifests/{digest}")));
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.wasm.config.v0+json"
    );
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    let component = std::fs::read(signing.path("scale.wasm")).unwrap();
    assert_eq!(remote.blob(&manifest["layers"][0]), component);
    let config: Value = serde_json::from_slice(&remote.blob(&manifest["config"])).unwrap();
    assert_eq!(config["layerDigests"][0], manifest["layers"][0]["digest"]);
    assert_eq!(
        (&config["architecture"], &config["os"]),
        (&json!("wasm"), &json!("wasip2"))
    );

    let signature = remote.json("/manifests/1.4.0.sig");
    let by_digest = format!("/manifests/{}", written["signature"].as_str().unwrap());
    assert_eq!(signature, remote.json(&by_digest));
    assert_eq!(signature["subject"]["digest"], digest);
    assert_eq!(
        signature["artifactType"],
        "application/vnd.dev.sigstore.bundle.v0.3+json"
    );
    let bundle = std::fs::read(signing.path("scale.wasm.sigstore.json")).unwrap();
    assert_eq!(remote.blob(&signature["layers"][0]), bundle);
}

#[test]
fn an_image_depends_on_its_component_alone_and_replaces_nothing() {
    let signing = signed();
    let first = image(&signing, "first", &[]);
    let second = image(&signing, "second", &[]);
    let index = |folder: &str| std::fs::read(signing.path(folder) + "/index.json").unwrap();
    assert_eq!((first.code, second.code), (0, 0), "{}", story(&second));
    assert_eq!(index("first"), index("second"));
    refused(&image(&signing, "first", &[]), "is not empty");
    let next = image(&signing, "next", &["--tag", "next"]);
    assert_eq!(lines(&next).remove(0)["tag"], "next", "{}", story(&next));

    for tag in ["a/b", "1.4.0.sig", &"a".repeat(125)] {
        refused(
            &image(&signing, "absent", &["--tag", tag]),
            "at most 124 letters, digits and . _ -",
        );
    }
    // Other bytes than were signed, and no signature.
    signing.component("(component (component))");
    refused(&image(&signing, "absent", &[]), "signs another component");
    std::fs::remove_file(signing.path("scale.wasm.sigstore.json")).unwrap();
    refused(&image(&signing, "absent", &[]), "sign the component first");
    assert!(!std::path::Path::new(&signing.path("absent")).exists());
}
