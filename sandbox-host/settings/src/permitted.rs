//! What the OS sandbox permits this process, and the check that a later policy needs no more. The
//! kernel's rules cannot be widened. Without this check, such a policy would be loaded, and each of
//! its requests would fail.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tensorgate_os_sandbox::{Access, BaseFolders, OsSandbox, Resource};

use crate::policy_resources::PolicyResources;

/// What every fault ends with.
const RESTART: &str = "its rules are made at the start: restart tensorgate-host, or `tensorgate up`, with this policy";

/// A resource of a policy that the OS sandbox does not permit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPermitted {
    /// A port.
    #[error("{field}: the OS sandbox (--harden) does not permit TCP port {port}; {RESTART}")]
    Port {
        /// The field that names it.
        field: String,
        /// The port.
        port: u16,
    },
    /// A file or folder to read.
    #[error("{field}: the OS sandbox (--harden) does not permit reading {}; {RESTART}", path.display())]
    Read {
        /// The field that names it.
        field: String,
        /// The file, or its folder.
        path: PathBuf,
    },
    /// A folder to write to.
    #[error("{field}: the OS sandbox (--harden) does not permit writing to {}; {RESTART}", path.display())]
    Write {
        /// The field that names it.
        field: String,
        /// The folder.
        path: PathBuf,
    },
}

/// What the OS sandbox permits, fixed at the start.
#[derive(Clone, Debug)]
pub struct Permitted {
    folders: BaseFolders,
    /// `None` if the kernel does not restrict files.
    files: Option<Files>,
    /// `None` if the kernel does not restrict ports.
    ports: Option<BTreeSet<u16>>,
}

/// Paths without links.
#[derive(Clone, Debug)]
struct Files {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
}

impl Permitted {
    /// What a sandbox with these rules permits, as far as the kernel enforces them.
    pub fn new(access: &Access, folders: BaseFolders, sandbox: &OsSandbox) -> Self {
        let resolved = |paths: &[PathBuf]| paths.iter().map(|path| without_links(path)).collect();
        Self {
            folders,
            files: sandbox.restricts_files.then(|| Files {
                read: resolved(&access.read),
                write: resolved(&access.write),
            }),
            ports: (sandbox.restricts_ports).then(|| access.connect.iter().copied().collect()),
        }
    }

    /// The resources of a policy that are not permitted, each once. Reads the file system.
    pub fn missing(&self, policy: &PolicyResources) -> Vec<NotPermitted> {
        let mut seen = BTreeSet::new();
        let mut missing = Vec::new();
        for (field, resource) in policy.resolve(&self.folders) {
            if self.permits(&resource) || !seen.insert(resource.clone()) {
                continue;
            }
            let field = field.to_owned();
            missing.push(match resource {
                Resource::Port(port) => NotPermitted::Port { field, port },
                Resource::Read(path) => NotPermitted::Read { field, path },
                Resource::Write(path) => NotPermitted::Write { field, path },
            });
        }
        missing
    }

    fn permits(&self, resource: &Resource) -> bool {
        let is_within = |path: &Path, permitted: &[PathBuf]| {
            let path = without_links(path);
            permitted.iter().any(|folder| path.starts_with(folder))
        };
        match (resource, &self.files) {
            (Resource::Port(port), _) => {
                (self.ports.as_ref()).is_none_or(|ports| ports.contains(port))
            }
            (Resource::Read(path), Some(files)) => {
                is_within(path, &files.read) || is_within(path, &files.write)
            }
            (Resource::Write(path), Some(files)) => is_within(path, &files.write),
            (Resource::Read(_) | Resource::Write(_), None) => true,
        }
    }
}

/// A path with its links resolved. A folder that does not exist yet is one of its parent.
fn without_links(path: &Path) -> PathBuf {
    if let Ok(resolved) = path.canonicalize() {
        return resolved;
    }
    match (path.parent().map(Path::canonicalize), path.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::policy_resources::resources_of_written as resources;

    /// A policy with one resource of each kind.
    fn policy() -> Value {
        json!({
            "issuers": {"corp": {"issuer": "https://login.example:1", "audiences": ["gate"], "max_lifetime_s": 60, "algorithms": ["ES256"], "jwks": {"url": "https://login.example:4000/keys"}}},
            "clients": {"c": {"jwt": {"issuer": "corp", "subject": "c"}}},
            "backends": {"gpu": {"kind": "open-inference", "endpoints": ["https://gpu:4001"], "tls": {"ca": "certificates/ca.pem"}}},
            "keys": {"team": {"ed25519": "00".repeat(32)}},
            "handlers": {"h": {
                "component": "components/h.wasm", "sha256": "00".repeat(32), "lookups": ["l"], "config": {"url": ""},
                "fetch": {"hosts": ["a.example"], "ports": [4002], "content_types": ["image/png"]}
            }},
            "lookups": {"l": {"kind": "feast", "endpoint": "https://features:4003", "entity": "user", "features": ["a:b"]}},
            "models": {"m": {
                "backend": "gpu", "versions": ["1"], "protocols": ["oip-rest"], "preprocess": "h", "accepts": {"raw": {"content_types": ["image/png"], "max_bytes": 64}},
                "artifact": {"path": "models/m", "signed_by": ["team"]},
                "inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "max_item_bytes": 64, "allowed": ["a"]}, {"name": "y", "datatype": "BYTES", "shape": [1], "max_item_bytes": 64, "url": {"hosts": ["b.example"], "ports": [4007]}}],
                "outputs": [{"name": "z", "datatype": "FP32", "shape": [1]}]
            }},
            "grants": [{"name": "g", "clients": ["c"], "models": ["m"], "operations": ["infer"], "rate": {"quota": 1, "window_s": 1, "scope": "global"}}],
            "rate_limit_service": {"redis": {"url": "redis://cache:4004"}},
            "audit": {"path": "audit/decisions.jsonl", "export": {"otlp": {"endpoint": "https://otlp:4005"}}, "tracing": {"endpoint": "https://otlp:4008"}},
            "capture": {"folder": "captures", "key_file": "capture.key"},
            "watch": {"webhook": {"url": "https://alerts:4006/hook", "secret_file": "hook.secret"}}
        })
    }

    /// A root with links to two folders outside of it, `one` and `two`.
    fn folders(name: &str) -> (PathBuf, BaseFolders) {
        let top = std::env::temp_dir().join(format!("tg-permitted-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&top));
        for folder in ["root", "state", "one/models/m", "two/models/m"] {
            std::fs::create_dir_all(top.join(folder)).unwrap();
        }
        let top = top.canonicalize().unwrap();
        for (file, link) in [
            ("one/ca.pem", "certificates"),
            ("one/h.wasm", "components"),
            ("one/models", "models"),
            ("two/ca.pem", "certificates2"),
            ("two/h.wasm", "components2"),
            ("two/models", "models2"),
        ] {
            let target = top.join(file);
            let target = if target.is_dir() {
                target
            } else {
                std::fs::write(&target, "").unwrap();
                target.parent().unwrap().to_owned()
            };
            std::os::unix::fs::symlink(target, top.join("root").join(link)).unwrap();
        }
        let base = BaseFolders {
            root: top.join("root"),
            audit: Some(top.join("state")),
        };
        (top, base)
    }

    fn permitted(folders: &BaseFolders, restricts_files: bool, restricts_ports: bool) -> Permitted {
        let first = resources(&policy());
        let resolved = first.resolve(folders);
        let named = resolved.iter().map(|(_, resource)| resource);
        let access = Access::of_host([folders.root.clone()], [], named, &[], []);
        let sandbox = OsSandbox {
            parts: Vec::new(),
            restricts_files,
            restricts_ports,
        };
        Permitted::new(&access, folders.clone(), &sandbox)
    }

    #[test]
    fn each_kind_of_new_port_and_folder_is_named_with_its_field() {
        let (top, folders) = folders("kinds");
        let permitted = permitted(&folders, true, true);
        let check = |pointer: &str, value: &str, expected: Option<String>| {
            let mut changed = policy();
            *changed.pointer_mut(pointer).unwrap() = value.into();
            let missing = permitted.missing(&resources(&changed));
            let texts: Vec<_> = missing.iter().map(ToString::to_string).collect();
            // In a pod, all that is held but files is in the digest that replaces the pods.
            let digested = |policy: &Value| resources(policy).ports_and_written_folders(&folders);
            let differs = digested(&changed) != digested(&policy());
            let is_refused = texts.iter().any(|text| !text.contains("reading"));
            assert!(differs || !is_refused, "{pointer}: {value}");
            let begins = expected.map(|text| format!("{text}; its rules"));
            assert_eq!(texts.len(), usize::from(begins.is_some()), "{texts:?}");
            for (text, begins) in texts.iter().zip(begins) {
                assert!(text.starts_with(&begins), "{text}: not {begins}");
                assert!(text.contains("restart tensorgate-host"), "{text}");
            }
        };
        let port = |field: &str, port: u16| {
            let text = "the OS sandbox (--harden) does not permit TCP port";
            Some(format!("{field}: {text} {port}"))
        };
        let path = |field: &str, how: &str, path: &str| {
            let (text, path) = ("the OS sandbox (--harden) does not permit", top.join(path));
            Some(format!("{field}: {text} {how} {}", path.display()))
        };
        for (pointer, value, expected) in [
            (
                "/backends/gpu/endpoints/0",
                "https://gpu:5001",
                port("backends.gpu.endpoints[0]", 5001),
            ),
            (
                "/watch/webhook/url",
                "https://alerts:5006",
                port("watch.webhook.url", 5006),
            ),
            (
                "/audit/export/otlp/endpoint",
                "https://otlp:5005",
                port("audit.export.otlp.endpoint", 5005),
            ),
            (
                "/audit/tracing/endpoint",
                "https://otlp:5009",
                port("audit.tracing.endpoint", 5009),
            ),
            (
                "/rate_limit_service/redis/url",
                "redis://cache",
                port("rate_limit_service.redis.url", 6379),
            ),
            (
                "/lookups/l/endpoint",
                "https://features:443",
                port("lookups.l.endpoint", 443),
            ),
            (
                "/audit/path",
                "log/decisions.jsonl",
                path("audit.path", "writing to", "state/log"),
            ),
            (
                "/capture/folder",
                "others",
                path("capture.folder", "writing to", "root/others"),
            ),
            (
                "/handlers/h/component",
                "components2/h.wasm",
                path("handlers.h.component", "reading", "two"),
            ),
            (
                "/models/m/artifact/path",
                "models2/m",
                path("models.m.artifact.path", "reading", "two/models/m"),
            ),
            // Another host at the same port, and other files of the same folders.
            ("/backends/gpu/endpoints/0", "https://other:4001", None),
            ("/handlers/h/component", "certificates/ca.pem", None),
            ("/capture/folder", "captures/more", None),
            // Texts that the host neither opens nor calls: names, rules for clients' texts, and key
            // sets, which Envoy fetches.
            (
                "/models/m/inputs/0/allowed/0",
                "https://cdn.example:5007/a",
                None,
            ),
            ("/models/m/inputs/0/allowed/0", "/etc/passwd", None),
            ("/models/m/inputs/1/url/hosts/0", "cdn.example", None),
            ("/handlers/h/config/url", "https://cdn.example:5008", None),
            ("/issuers/corp/issuer", "https://login.example:2", None),
            (
                "/issuers/corp/jwks/url",
                "https://login.example:5000/keys",
                None,
            ),
        ] {
            check(pointer, value, expected);
        }
        // A shadow version is among no versions of its model, and its files are verified as well.
        let mut shadow = policy();
        shadow["models"]["m"]["versions"] = json!({
            "1": {}, "2": {"shadow": true, "artifact": {"path": "models2/m", "signed_by": ["team"]}},
        });
        let missing = permitted.missing(&resources(&shadow));
        let texts: Vec<_> = missing.iter().map(ToString::to_string).collect();
        let begins = "models.m.versions.2.artifact.path: ";
        assert!(
            texts.len() == 1 && texts[0].starts_with(begins),
            "{texts:?}"
        );
        let mut other_service = policy();
        other_service["rate_limit_service"] = json!({"endpoint": "http://limits:5010"});
        let missing = permitted.missing(&resources(&other_service));
        let expected = NotPermitted::Port {
            field: "rate_limit_service.endpoint".to_owned(),
            port: 5010,
        };
        assert_eq!(missing, [expected]);
        let mut fetches = policy();
        fetches["handlers"]["h"]["fetch"]["ports"] = json!([5002]);
        fetches["lookups"]["l"]["endpoint"] = "https://features:5002".into();
        let missing = permitted.missing(&resources(&fetches));
        let expected = NotPermitted::Port {
            field: "handlers.h.fetch".to_owned(),
            port: 5002,
        };
        assert_eq!(missing, [expected]);
        assert!(permitted.missing(&resources(&policy())).is_empty());
        std::fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn nothing_is_missing_that_the_kernel_does_not_restrict() {
        let (top, folders) = folders("kernel");
        let mut changed = policy();
        changed["backends"]["gpu"]["endpoints"][0] = "https://gpu:5001".into();
        changed["capture"]["folder"] = "others".into();
        let changed = resources(&changed);
        for (restricts_files, restricts_ports, expected) in [
            (false, false, 0),
            (true, false, 1),
            (false, true, 1),
            (true, true, 2),
        ] {
            let permitted = permitted(&folders, restricts_files, restricts_ports);
            let missing = permitted.missing(&changed);
            assert_eq!(missing.len(), expected, "{missing:?}");
        }
        std::fs::remove_dir_all(top).unwrap();
    }
}
