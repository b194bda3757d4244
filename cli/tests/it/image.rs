//! `image build`: layouts that are valid, equal for equal releases, and made only of what the
//! release's list of digests has.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::program::{Ran, Scratch, run};

const VERSION: &str = "0.7.1";
const TIME: &str = "1700000000";
const X86_64: u8 = 62;
const AARCH64: u8 = 183;
const LOAD: u8 = 1;
const INTERPRETER: u8 = 3;
const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const SBOM: &str = "application/vnd.cyclonedx+json";

/// The header of a program, with one segment.
fn program(machine: u8, segment: u8) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend([3, 0, machine, 0]);
    bytes.resize(32, 0);
    bytes.push(64);
    bytes.resize(54, 0);
    bytes.extend([56, 0, 1, 0]);
    bytes.resize(64, 0);
    bytes.push(segment);
    bytes.resize(120, 0);
    bytes
}

fn sbom(version: &str) -> Vec<u8> {
    json!({"bomFormat": "CycloneDX", "metadata": {"component": {"version": version}}})
        .to_string()
        .into_bytes()
}

fn hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A small release in a folder of its own.
struct Release {
    scratch: Scratch,
    files: BTreeMap<&'static str, Vec<u8>>,
}

impl Release {
    fn new(machine: u8) -> Self {
        let files = BTreeMap::from([
            ("LICENSE", b"licence".to_vec()),
            ("THIRD-PARTY-LICENCES.txt", b"licences".to_vec()),
            ("builtins/tabular.wasm", b"component".to_vec()),
            ("builtins/tabular.wasm.sigstore.json", b"{}".to_vec()),
            ("filters/gate.wasm", MODULE.to_vec()),
            ("filters/libtensorgate_gate.so", program(machine, LOAD)),
            ("sbom.cdx.json", sbom(VERSION)),
            ("tensorgate", program(machine, LOAD)),
            ("tensorgate-embedded", program(machine, LOAD)),
            ("tensorgate-handler", program(machine, LOAD)),
            ("tensorgate-host", program(machine, LOAD)),
            ("tensorgate-model", program(machine, LOAD)),
        ]);
        let release = Self {
            scratch: Scratch::new(),
            files,
        };
        release.write();
        release
    }

    /// The same with one file changed, and the list of digests too.
    fn with(name: &'static str, content: Vec<u8>) -> Self {
        let mut release = Self::new(X86_64);
        release.files.insert(name, content);
        release.write();
        release
    }

    fn write(&self) {
        for folder in ["builtins", "filters"] {
            std::fs::create_dir_all(self.path().join(folder)).unwrap();
        }
        let mut sums = String::new();
        for (name, content) in &self.files {
            std::fs::write(self.path().join(name), content).unwrap();
            sums.push_str(&format!("{}  {name}\n", hex(content)));
        }
        std::fs::write(self.path().join("SHA256SUMS"), sums).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.scratch.path().join("release")
    }

    fn output(&self) -> PathBuf {
        self.scratch.path().join("images")
    }

    fn build(&self, more: &[&str]) -> Ran {
        let (release, output) = (self.path(), self.output());
        let mut arguments = vec!["image", "build", "--release", release.to_str().unwrap()];
        arguments.extend(["-o", output.to_str().unwrap()]);
        arguments.extend(more);
        if !more.contains(&"--time") {
            arguments.extend(["--time", TIME]);
        }
        run(&arguments)
    }

    fn built(&self, more: &[&str]) -> Ran {
        let ran = self.build(more);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran
    }

    fn refused(&self, text: &str) {
        let ran = self.build(&[]);
        assert_eq!(ran.code, 2, "{text}: {}", ran.stderr);
        assert!(ran.stderr.contains(text), "{text}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{text}");
        assert!(!self.output().exists(), "{text}");
    }

    fn digests(&self) -> Value {
        json_file(&self.output().join("images.json"))
    }

    fn layout(&self, name: &str) -> Layout {
        Layout::read(self.output().join(name))
    }
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A layout whose descriptors have all been compared with their blobs.
struct Layout {
    folder: PathBuf,
    /// Entries of the index for the image and the SBOM.
    image: Value,
    sbom: Value,
}

impl Layout {
    fn read(folder: PathBuf) -> Self {
        let marker = json_file(&folder.join("oci-layout"));
        assert_eq!(marker, json!({"imageLayoutVersion": "1.0.0"}));
        let index = json_file(&folder.join("index.json"));
        assert_eq!(index["schemaVersion"], 2);
        let index_type = "application/vnd.oci.image.index.v1+json";
        assert_eq!(index["mediaType"], index_type);
        let [image, sbom] = index["manifests"].as_array().unwrap().as_slice() else {
            panic!("{index}");
        };
        let layout = Self {
            folder,
            image: image.clone(),
            sbom: sbom.clone(),
        };
        let mut blobs = 0;
        for entry in [image, sbom] {
            assert_eq!(entry["mediaType"], MANIFEST);
            let manifest = layout.json(entry);
            assert_eq!(manifest["schemaVersion"], 2);
            assert_eq!(manifest["mediaType"], MANIFEST);
            layout.blob(&manifest["config"]);
            let layers = manifest["layers"].as_array().unwrap();
            assert_eq!(layers.len(), 1);
            layout.blob(&layers[0]);
            blobs += 3;
        }
        let found = std::fs::read_dir(layout.folder.join("blobs/sha256")).unwrap();
        assert_eq!(found.count(), blobs, "a blob without a descriptor");
        layout
    }

    fn blob(&self, descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"].as_str().unwrap();
        let sha256 = digest.strip_prefix("sha256:").unwrap();
        let content = std::fs::read(self.folder.join("blobs/sha256").join(sha256)).unwrap();
        assert_eq!(hex(&content), sha256);
        assert_eq!(descriptor["size"], content.len());
        content
    }

    fn json(&self, descriptor: &Value) -> Value {
        serde_json::from_slice(&self.blob(descriptor)).unwrap()
    }

    fn manifest(&self) -> Value {
        self.json(&self.image)
    }

    fn config(&self) -> Value {
        self.json(&self.manifest()["config"])
    }

    /// Paths, modes and contents of the image's layer. Owner and time of each entry are checked.
    fn files(&self) -> Vec<(String, u32, Vec<u8>)> {
        let layer = self.manifest()["layers"][0].clone();
        assert_eq!(layer["mediaType"], LAYER);
        let mut archive = Vec::new();
        flate2::read::GzDecoder::new(self.blob(&layer).as_slice())
            .read_to_end(&mut archive)
            .unwrap();
        let diff_id = format!("sha256:{}", hex(&archive));
        let rootfs = json!({"type": "layers", "diff_ids": [diff_id]});
        assert_eq!(self.config()["rootfs"], rootfs);
        let mut archive = tar::Archive::new(archive.as_slice());
        let entries = archive.entries().unwrap();
        entries
            .map(|entry| {
                let mut entry = entry.unwrap();
                let path = entry.path().unwrap().to_str().unwrap().to_owned();
                let header = entry.header();
                let owner = (header.uid().unwrap(), header.gid().unwrap());
                assert_eq!(owner, (0, 0), "{path}");
                assert_eq!(header.mtime().unwrap().to_string(), TIME, "{path}");
                assert_eq!(header.entry_type().is_dir(), path.ends_with('/'), "{path}");
                let mode = header.mode().unwrap();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                (path, mode, content)
            })
            .collect()
    }

    /// Paths and modes alone.
    fn modes(&self) -> Vec<(String, u32)> {
        let files = self.files().into_iter();
        files.map(|(path, mode, _)| (path, mode)).collect()
    }

    fn content(&self, path: &str) -> Vec<u8> {
        let found = self.files().into_iter().find(|(name, ..)| name == path);
        found.unwrap().2
    }
}

#[test]
fn each_image_has_a_valid_layout_with_the_sbom_attached() {
    let release = Release::new(X86_64);
    let ran = release.built(&["--json"]);
    let printed: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(printed, release.digests());
    assert_eq!(printed.as_object().unwrap().len(), 4);
    for (name, digest) in printed.as_object().unwrap() {
        let layout = release.layout(name);
        assert_eq!(&layout.image["digest"], digest);
        let tag = json!({"org.opencontainers.image.ref.name": VERSION});
        assert_eq!(layout.image["annotations"], tag);
        // Without a tag, nothing takes it for the image.
        assert_eq!(layout.sbom["annotations"], Value::Null);
        assert_eq!(layout.sbom["artifactType"], SBOM);
        let attached = layout.json(&layout.sbom);
        assert_eq!(attached["artifactType"], SBOM);
        assert_eq!(attached["subject"]["digest"], *digest);
        assert_eq!(attached["subject"]["mediaType"], MANIFEST);
        assert_eq!(attached["subject"]["size"], layout.image["size"]);
        assert_eq!(attached["layers"][0]["mediaType"], SBOM);
        let title = &attached["layers"][0]["annotations"]["org.opencontainers.image.title"];
        assert_eq!(title, "sbom.cdx.json");
        assert_eq!(layout.blob(&attached["layers"][0]), sbom(VERSION));
        let version = &layout.manifest()["annotations"]["org.opencontainers.image.version"];
        assert_eq!(version, VERSION);
    }
}

#[test]
fn the_filter_is_the_module_alone_as_istio_and_envoy_gateway_read_it() {
    let release = Release::new(X86_64);
    release.built(&[]);
    let filter = release.layout("filter");
    let only = ("plugin.wasm".to_owned(), 0o644, MODULE.to_vec());
    assert_eq!(filter.files(), [only]);
    let manifest = filter.manifest();
    assert_eq!(
        manifest["annotations"]["module.wasm.image/variant"],
        "compat"
    );
    let image_config = "application/vnd.oci.image.config.v1+json";
    assert_eq!(manifest["config"]["mediaType"], image_config);
    assert_eq!(filter.config()["architecture"], "wasm");
}

#[test]
fn containers_hold_static_files_and_run_as_a_user_who_is_not_root() {
    let release = Release::new(AARCH64);
    release.built(&[]);
    let licences = "usr/share/doc/tensorgate/";
    for (name, entrypoint, folder, own) in [
        (
            "host",
            "/usr/local/bin/tensorgate-host",
            "/",
            vec![
                ("filters/", 0o755),
                ("filters/gate.wasm", 0o644),
                ("filters/libtensorgate_gate.so", 0o644),
                ("usr/local/bin/builtins/", 0o755),
                ("usr/local/bin/builtins/tabular.wasm", 0o644),
                ("usr/local/bin/builtins/tabular.wasm.sigstore.json", 0o644),
                ("usr/local/bin/tensorgate-host", 0o755),
            ],
        ),
        (
            "command",
            "/usr/local/bin/tensorgate",
            "/work",
            vec![
                ("usr/local/bin/tensorgate", 0o755),
                ("usr/local/bin/tensorgate-handler", 0o755),
                ("usr/local/bin/tensorgate-model", 0o755),
                ("work/", 0o755),
            ],
        ),
        (
            "model",
            "/usr/local/bin/tensorgate-model",
            "/work",
            vec![("usr/local/bin/tensorgate-model", 0o755), ("work/", 0o755)],
        ),
    ] {
        let layout = release.layout(name);
        let shared = [
            ("etc/", 0o755),
            ("etc/group", 0o644),
            ("etc/passwd", 0o644),
            ("tmp/", 0o1777),
            ("usr/", 0o755),
            ("usr/local/", 0o755),
            ("usr/local/bin/", 0o755),
            ("usr/share/", 0o755),
            ("usr/share/doc/", 0o755),
            (licences, 0o755),
            ("usr/share/doc/tensorgate/LICENSE", 0o644),
            ("usr/share/doc/tensorgate/THIRD-PARTY-LICENCES.txt", 0o644),
        ];
        let all = shared.into_iter().chain(own);
        let mut expected: Vec<_> = all.map(|(path, mode)| (path.to_owned(), mode)).collect();
        expected.sort_unstable();
        assert_eq!(layout.modes(), expected, "{name}");
        let path = entrypoint.trim_start_matches('/');
        assert_eq!(layout.content(path), program(AARCH64, LOAD));
        let user = "tensorgate:x:65532:65532:tensorgate:/nonexistent:/sbin/nologin\n";
        assert_eq!(layout.content("etc/passwd"), user.as_bytes());
        assert_eq!(layout.content("etc/group"), b"tensorgate:x:65532:\n");

        let config = layout.config();
        assert_eq!(config["os"], "linux");
        assert_eq!(config["architecture"], "arm64");
        assert_eq!(config["created"], "2023-11-14T22:13:20.000000Z");
        let start = &config["config"];
        assert_eq!(start["User"], "65532:65532", "{name}");
        assert_eq!(start["Entrypoint"], json!([entrypoint]));
        assert_eq!(start["Env"], json!(["PATH=/usr/local/bin"]));
        assert_eq!(start["WorkingDir"], folder);
        assert_eq!(start["Labels"], layout.manifest()["annotations"]);
        assert_eq!(start["Labels"]["org.opencontainers.image.version"], VERSION);
    }
}

#[test]
fn the_image_of_the_host_has_the_runtime_that_was_unpacked_over_the_release() {
    let release = Release::new(X86_64);
    let runtimes = release.path().join("builtins/runtimes");
    std::fs::create_dir_all(runtimes.join("LICENSES")).unwrap();
    let mut sums = String::new();
    // The last is not of a runtime, so its digest is not taken from this list.
    for name in ["runtimes/0a.wasm", "runtimes/LICENSES/a.txt", "other.wasm"] {
        std::fs::write(release.path().join("builtins").join(name), name).unwrap();
        sums.push_str(&format!("{}  builtins/{name}\n", hex(name.as_bytes())));
    }
    std::fs::write(release.path().join("SHA256SUMS.runtimes"), sums).unwrap();
    release.built(&["--only", "host"]);
    let files = release.layout("host").files();
    let prefix = "usr/local/bin/builtins/";
    let found: Vec<_> = (files.iter())
        .filter_map(|(path, mode, _)| Some((path.strip_prefix(prefix)?, *mode)))
        .collect();
    let expected = [
        ("", 0o755),
        ("runtimes/", 0o755),
        ("runtimes/0a.wasm", 0o644),
        ("runtimes/LICENSES/", 0o755),
        ("runtimes/LICENSES/a.txt", 0o644),
        ("tabular.wasm", 0o644),
        ("tabular.wasm.sigstore.json", 0o644),
    ];
    assert_eq!(found, expected);

    std::fs::write(runtimes.join("0a.wasm"), "other").unwrap();
    let ran = release.build(&[]);
    let text = "builtins/runtimes/0a.wasm differs from SHA256SUMS";
    assert!(ran.code == 2 && ran.stderr.contains(text), "{}", ran.stderr);
}

#[test]
fn two_builds_of_a_release_have_the_same_digests() {
    let (first, second) = (Release::new(X86_64), Release::new(X86_64));
    let ran = first.built(&[]);
    second.built(&["--only", "model,command,host,filter"]);
    assert_eq!(first.digests(), second.digests());
    for (line, name) in ran
        .stdout
        .lines()
        .zip(["filter", "host", "command", "model"])
    {
        let digest = first.digests()[name].as_str().unwrap().to_owned();
        let image = first.layout(name);
        let manifest = image.manifest();
        let sizes = [&image.image, &manifest["config"], &manifest["layers"][0]];
        let bytes: u64 = sizes.iter().map(|it| it["size"].as_u64().unwrap()).sum();
        assert_eq!(line, format!("{name} {digest} {bytes} bytes"));
    }
    // What the digests do depend on.
    second.built(&["--time", "0"]);
    assert_ne!(first.digests(), second.digests());
    let other = Release::with("filters/gate.wasm", [MODULE, b"\0"].concat());
    other.built(&[]);
    assert_ne!(first.digests()["filter"], other.digests()["filter"]);
    assert_eq!(first.digests()["command"], other.digests()["command"]);
}

#[test]
fn files_that_differ_from_the_list_or_do_not_run_in_an_image_are_refused() {
    let changed = Release::new(X86_64);
    std::fs::write(changed.path().join("builtins/tabular.wasm"), "other").unwrap();
    changed.refused("builtins/tabular.wasm differs from SHA256SUMS");

    let mut unlisted = Release::new(X86_64);
    unlisted.files.remove("tensorgate-handler");
    unlisted.write();
    unlisted.refused("tensorgate-handler is not in SHA256SUMS");

    let absent = Release::new(X86_64);
    std::fs::remove_file(absent.path().join("SHA256SUMS")).unwrap();
    absent.refused("SHA256SUMS: No such file");

    let above = Release::new(X86_64);
    let line = format!("{}  builtins/../../secret\n", hex(b""));
    std::fs::write(above.path().join("SHA256SUMS"), line).unwrap();
    above.refused("SHA256SUMS:1: expected a SHA-256 digest");

    for (name, content, text) in [
        (
            "tensorgate-host",
            b"#!/bin/sh\n".to_vec(),
            "is not a 64-bit",
        ),
        ("tensorgate", program(40, LOAD), "is for ELF machine 40"),
        ("tensorgate", program(X86_64, INTERPRETER), "needs a loader"),
        (
            "tensorgate-handler",
            program(AARCH64, LOAD),
            "is for arm64, another program of the image for amd64",
        ),
        (
            "filters/gate.wasm",
            b"\0asm\x0d\0\x01\0".to_vec(),
            "is not a WebAssembly module",
        ),
        (
            "filters/libtensorgate_gate.so",
            program(AARCH64, LOAD),
            "is for arm64, another program of the image for amd64",
        ),
        ("sbom.cdx.json", b"{}".to_vec(), "is not an SBOM"),
        ("sbom.cdx.json", sbom("1.0+b"), "cannot be the tag"),
    ] {
        let release = Release::with(name, content);
        release.refused(&format!("{name} "));
        release.refused(text);
    }
}

#[test]
fn no_link_leads_out_of_a_release() {
    // Both links lead to the very bytes that the list has.
    let file = Release::new(X86_64);
    let module = file.path().join("filters/gate.wasm");
    std::fs::rename(&module, file.scratch.path().join("gate.wasm")).unwrap();
    symlink(file.scratch.path().join("gate.wasm"), &module).unwrap();
    file.refused("filters/gate.wasm is a symbolic link");

    let folder = Release::new(X86_64);
    let filters = folder.path().join("filters");
    std::fs::rename(&filters, folder.scratch.path().join("filters")).unwrap();
    symlink(folder.scratch.path().join("filters"), &filters).unwrap();
    folder.refused("cannot read");
}

#[test]
fn only_an_earlier_output_is_replaced() {
    let release = Release::new(X86_64);
    release.built(&[]);
    release.built(&["--only", "filter"]);
    assert_eq!(release.digests().as_object().unwrap().len(), 1);
    assert!(!release.output().join("host").exists());
    let beside = std::fs::read_dir(release.scratch.path()).unwrap().count();
    assert_eq!(beside, 2, "the release and the output");

    let foreign = |ran: Ran| {
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        let text = "is not the output of an earlier `tensorgate image build`";
        assert!(ran.stderr.contains(text), "{}", ran.stderr);
    };
    let more = release.output().join("notes.txt");
    std::fs::write(&more, "mine").unwrap();
    foreign(release.build(&[]));
    assert_eq!(std::fs::read_to_string(&more).unwrap(), "mine");
    std::fs::remove_dir_all(release.output()).unwrap();
    symlink(release.path(), release.output()).unwrap();
    foreign(release.build(&[]));
    assert!(release.path().join("tensorgate").exists());
    std::fs::remove_file(release.output()).unwrap();
    // An empty folder is used.
    std::fs::create_dir(release.output()).unwrap();
    release.built(&[]);
}
