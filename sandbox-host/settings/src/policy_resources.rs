//! What a policy names that the OS sandbox restricts: TCP ports, files and folders, each with the
//! field that names it. The rules at the start and the check of a later policy are both made from
//! this list, so that a later policy cannot need what no rule was made for.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use tensorgate_os_sandbox::{BaseFolders, Resource, beside, folder, home, port};
use tensorgate_policy::Policy;
use tensorgate_policy::policy::{
    ArtifactTrust, Audit, Backend, BackendTls, Counter, Handler, Model, ModelArtifact, Trust,
};

/// The resources that a policy names, as it spells them.
#[derive(Clone, Debug, Default)]
pub struct PolicyResources(Vec<(String, NamedResource)>);

/// The spelling of a resource.
#[derive(Clone, Debug)]
enum NamedResource {
    /// A port.
    Port(u16),
    /// A text that may be the path of a file.
    File(String),
    /// The file or folder of a model.
    ModelFiles(String),
    /// The folder of captured calls.
    Captures(String),
    /// The file of the audit log.
    AuditLog(String),
    /// The file of the key that signs the audit log.
    AuditKey(String),
}

impl PolicyResources {
    /// Collects the names of a policy.
    pub fn of(policy: &Policy) -> Self {
        let mut names = Self::default();
        for (name, backend) in policy.backends() {
            names.add_backend(&format!("backends.{name}"), backend);
        }
        for (name, handler) in policy.handlers() {
            names.add_handler(&format!("handlers.{name}"), handler);
        }
        for (model, version, artifact) in policy.artifacts() {
            names.add_artifact(model, version, artifact);
        }
        if let Some(service) = policy.rate_limit_service() {
            names.add_counter(service.counter());
        }
        names.add_audit(policy.audit());
        if let Some(capture) = policy.capture() {
            let folder = capture.folder().to_owned();
            names.add("capture.folder", NamedResource::Captures(folder));
            names.add_file("capture.key_file", Some(capture.key_file()));
        }
        for (index, webhook) in policy.watch().webhooks().iter().enumerate() {
            let field = policy.watch().webhook_path(index);
            let url = format!("{field}.url");
            names.add(&url, NamedResource::Port(webhook.port()));
            names.add_file(&format!("{field}.secret_file"), Some(webhook.secret_file()));
            names.add_file(&format!("{field}.ca"), webhook.ca());
        }
        names
    }

    fn add(&mut self, field: &str, name: NamedResource) {
        self.0.push((field.to_owned(), name));
    }

    fn add_file(&mut self, field: &str, file: Option<&str>) {
        if let Some(file) = file {
            self.add(field, NamedResource::File(file.to_owned()));
        }
    }

    fn add_backend(&mut self, field: &str, backend: &Backend) {
        for (index, endpoint) in backend.endpoints().iter().enumerate() {
            if let Some(port) = port(endpoint) {
                let field = format!("{field}.endpoints[{index}]");
                self.add(&field, NamedResource::Port(port));
            }
        }
        self.add_file(&format!("{field}.models"), backend.models());
        self.add_tls(&format!("{field}.tls"), backend.tls());
    }

    /// The socket of a Workload API is not restricted.
    fn add_tls(&mut self, field: &str, tls: Option<&BackendTls>) {
        let Some(Trust::Files { ca, identity }) = tls.map(BackendTls::trust) else {
            return;
        };
        self.add_file(&format!("{field}.ca"), Some(ca));
        if let Some((cert, key)) = identity {
            self.add_file(&format!("{field}.cert"), Some(cert));
            self.add_file(&format!("{field}.key"), Some(key));
        }
    }

    /// The texts of `config` are the handler's own, which opens and calls nothing.
    fn add_handler(&mut self, field: &str, handler: &Handler) {
        self.add_file(&format!("{field}.component"), Some(handler.component()));
        if let Some(fetch) = handler.fetch() {
            let field = format!("{field}.fetch");
            for port in fetch.ports() {
                self.add(&field, NamedResource::Port(*port));
            }
            self.add_file(&format!("{field}.ca"), fetch.ca());
        }
        for (name, lookup) in handler.lookups() {
            let field = format!("lookups.{name}");
            let (_, port) = lookup.place();
            self.add(&format!("{field}.endpoint"), NamedResource::Port(port));
            self.add_tls(&format!("{field}.tls"), lookup.authorities());
            self.add_file(&format!("{field}.bearer_file"), lookup.bearer_file());
        }
    }

    /// The files of a model's version. Its contract has texts of clients, and the host opens and
    /// calls none of them.
    fn add_artifact(&mut self, model: &Model, version: &str, artifact: &ModelArtifact) {
        let field = if model.has_own_artifact(version) {
            format!("models.{}.versions.{version}.artifact", model.name())
        } else {
            format!("models.{}.artifact", model.name())
        };
        let path = format!("{field}.path");
        let files = NamedResource::ModelFiles(artifact.path().to_owned());
        self.add_file(&path, Some(artifact.path()));
        self.add(&path, files);
        match artifact.trust() {
            ArtifactTrust::Manifest { path, .. } => {
                self.add_file(&format!("{field}.manifest"), Some(path));
            }
            ArtifactTrust::Signed { signature, .. } => {
                self.add_file(&format!("{field}.signature"), signature.as_deref());
            }
        }
    }

    fn add_counter(&mut self, counter: &Counter) {
        match counter {
            Counter::Redis(redis) => {
                let field = "rate_limit_service.redis";
                self.add(&format!("{field}.url"), NamedResource::Port(redis.port()));
                self.add_file(&format!("{field}.ca"), redis.ca());
                self.add_file(&format!("{field}.password_file"), redis.password_file());
            }
            Counter::Endpoint { port, .. } => {
                self.add("rate_limit_service.endpoint", NamedResource::Port(*port));
            }
        }
    }

    fn add_audit(&mut self, audit: &Audit) {
        let log = NamedResource::AuditLog(audit.path().to_owned());
        self.add("audit.path", log);
        if let Some(key) = audit.key_file() {
            self.add("audit.key_file", NamedResource::AuditKey(key.to_owned()));
        }
        if let Some(otlp) = audit.export().otlp() {
            let field = "audit.export.otlp";
            self.add(
                &format!("{field}.endpoint"),
                NamedResource::Port(otlp.port()),
            );
            self.add_tls(&format!("{field}.tls"), otlp.authorities());
            self.add_file(&format!("{field}.headers_file"), otlp.headers_file());
        }
        if let Some(tracing) = audit.tracing() {
            let port = NamedResource::Port(tracing.port());
            self.add("audit.tracing.endpoint", port);
        }
    }

    /// The resources, with their fields. Links are followed as they are now, and files below the
    /// root are left out. For a file outside of it the whole folder counts, because renewed files
    /// are renamed over old ones. If the folder is a shared one, only the file does. A file that
    /// does not exist needs nothing: its reader reports it.
    pub fn resolve(&self, folders: &BaseFolders) -> Vec<(&str, Resource)> {
        let home = home();
        let root = folders.root.canonicalize().ok();
        let mut resources = Vec::new();
        for (field, name) in &self.0 {
            let field = field.as_str();
            match (name, &root) {
                (NamedResource::File(text), Some(root)) => {
                    let files = files(root, text, home.as_deref()).into_iter();
                    resources.extend(files.map(|file| (field, Resource::Read(file))));
                }
                (NamedResource::ModelFiles(text), Some(root)) if !climbs(text) => {
                    // A single file is among the texts.
                    let target = root.join(text).canonicalize().ok();
                    let outside =
                        target.filter(|target| target.is_dir() && !target.starts_with(root));
                    resources.extend(outside.map(|folder| (field, Resource::Read(folder))));
                }
                (NamedResource::AuditKey(text), _) => {
                    let key = folders.audit.as_ref().map(|below| below.join(text));
                    let existing = key
                        .filter(|key| !climbs(text) && key.exists())
                        .map(Resource::Read);
                    let resource = existing.or_else(|| name.port_or_written_folder(folders));
                    resources.extend(resource.map(|resource| (field, resource)));
                }
                _ => {
                    let resource = name.port_or_written_folder(folders);
                    resources.extend(resource.map(|resource| (field, resource)));
                }
            }
        }
        resources
    }

    /// The ports, and the folders to write to. These are all that the OS sandbox depends on where
    /// every other file of the policy is below the root, as in a pod. Reads no file system.
    pub fn ports_and_written_folders(&self, folders: &BaseFolders) -> BTreeSet<Resource> {
        let names = self.0.iter();
        names
            .filter_map(|(_, name)| name.port_or_written_folder(folders))
            .collect()
    }
}

impl NamedResource {
    /// The resource, if it is a port or a folder that the host writes to.
    fn port_or_written_folder(&self, folders: &BaseFolders) -> Option<Resource> {
        match self {
            Self::Port(port) => Some(Resource::Port(*port)),
            Self::Captures(text) | Self::AuditLog(text) | Self::AuditKey(text) if climbs(text) => {
                None
            }
            Self::Captures(text) => Some(Resource::Write(folders.root.join(text))),
            // Not the whole base folder, which may contain files of other programs. The host
            // creates a key that does not exist.
            Self::AuditLog(text) | Self::AuditKey(text) => {
                let below = folders.audit.as_ref()?;
                Some(Resource::Write(beside(&below.join(text))))
            }
            Self::File(_) | Self::ModelFiles(_) => None,
        }
    }
}

/// Whether a path leads upwards, as no valid policy has it.
fn climbs(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    parts.any(|part| matches!(part, Component::ParentDir))
}

/// The paths that a text names outside the root, as written and with links resolved: folders, or
/// files if their folder must not be accessible.
fn files(root: &Path, text: &str, home: Option<&Path>) -> Vec<PathBuf> {
    let path = Path::new(text);
    if text.is_empty() || climbs(text) {
        return Vec::new();
    }
    let written_path = root.join(path);
    let Some(target) = written_path
        .canonicalize()
        .ok()
        .filter(|target| target.is_file())
    else {
        return Vec::new();
    };
    let written_path = path.is_absolute().then_some(written_path);
    (written_path.into_iter().chain([target]))
        .filter(|file| !file.starts_with(root))
        .map(|file| folder(&file, home))
        .collect()
}

/// The resources of a written policy, for tests.
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
pub(crate) fn resources_of_written(policy: &serde_json::Value) -> PolicyResources {
    let mut policy = policy.clone();
    policy["version"] = 1.into();
    let raw = serde_json::from_value(policy).unwrap();
    PolicyResources::of(
        &tensorgate_policy_compiler::validate::validate(&raw)
            .unwrap()
            .0,
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tensorgate_os_sandbox::Access;

    use super::*;

    /// What a host with this root and policy needs.
    fn access(root: &Path, policy: serde_json::Value, servers: &[String]) -> Access {
        let folders = BaseFolders {
            root: root.to_owned(),
            audit: None,
        };
        let named = resources_of_written(&policy);
        let resources = named.resolve(&folders);
        let resources = resources.iter().map(|(_, resource)| resource);
        Access::of_host([root.to_owned()], [], resources, servers, [9902, 8443])
    }

    #[test]
    fn a_policys_files_are_reached_by_their_folder_and_its_servers_by_their_port() {
        let folder = std::env::temp_dir().join(format!("tg-reach-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let folder = folder.canonicalize().unwrap();
        let file = folder.join("ca.pem");
        std::fs::write(&file, "").unwrap();
        let policy = serde_json::json!({
            "backends": {"b": {"kind": "open-inference", "endpoints": ["https://one:8001", "https://two:8002"], "tls": {"ca": file}}},
            "audit": {"export": {"otlp": {"endpoint": "https://otlp:4318", "headers_file": "/no/such/file"}}},
            "handlers": {
                "h": {"component": "h.wasm", "sha256": "00".repeat(32), "fetch": {"hosts": ["a.example"], "content_types": ["image/png"]}},
                "i": {"component": "i.wasm", "sha256": "00".repeat(32), "fetch": {"hosts": ["b.example"], "ports": [8443], "content_types": ["image/png"]}}
            },
        });
        let reach = access(Path::new("/usr"), policy, &["cpu=http://cpu:7".to_owned()]);
        assert_eq!(reach.connect, [7, 53, 443, 4318, 8001, 8002, 8443]);
        assert_eq!(reach.bind, [9902, 8443]);
        assert!(reach.read.contains(&folder) && reach.read.contains(&"/usr".into()));
        assert!(!reach.read.iter().any(|path| path.starts_with("/no")));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_link_out_of_the_root_leads_to_a_folder_that_is_reached() {
        let there = std::env::temp_dir().join(format!("tg-reach-links-{}", std::process::id()));
        for folder in ["root/own", "made"] {
            std::fs::create_dir_all(there.join(folder)).unwrap();
        }
        let there = there.canonicalize().unwrap();
        for file in ["made/one.wasm", "root/own/two.wasm"] {
            std::fs::write(there.join(file), "").unwrap();
        }
        std::os::unix::fs::symlink(there.join("made"), there.join("root/components")).unwrap();
        let policy = serde_json::json!({"handlers": {
            "a": {"component": "components/one.wasm", "sha256": "00".repeat(32)},
            "b": {"component": "own/two.wasm", "sha256": "00".repeat(32)},
        }});
        let root = there.join("root");
        let reach = access(&root, policy, &[]);
        let found: Vec<_> = (reach.read.iter())
            .filter(|path| path.starts_with(&there))
            .collect();
        assert_eq!(found, [&there.join("made"), &root]);
        std::fs::remove_dir_all(there).unwrap();
    }
}
