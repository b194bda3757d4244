//! What a policy names that the OS sandbox restricts: TCP ports, files and folders, each with the
//! field that names it. The rules at the start and the check of a later policy are both made from
//! this list, so that a later policy cannot need what no rule was made for.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};
use tensorgate_policy::raw;

use super::folders::{beside, folder, home};

/// The port of hosts that are listed without one.
const HTTPS: u16 = 443;

/// The folders that relative paths of a policy start from.
#[derive(Clone, Debug, Default)]
pub struct BaseFolders {
    /// The folder of components and certificates.
    pub root: PathBuf,
    /// The folder of the audit log. Without one, the host does not start.
    pub audit: Option<PathBuf>,
}

/// Something that the OS sandbox restricts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// A TCP port to connect to, at any address, because the kernel does not distinguish them.
    Port(u16),
    /// A file or folder to read, with all that is below.
    Read(PathBuf),
    /// A folder to read and write, with all that is below.
    Write(PathBuf),
}

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
    /// Collects the names of a policy. Every text counts that may name a file or a server of the
    /// host. An invalid policy is rejected elsewhere.
    pub fn of(policy: &raw::Policy) -> Self {
        let raw::Policy {
            version: _,
            // Envoy reads the files of the listener.
            listen: _,
            // Envoy fetches key sets.
            issuers: _,
            // Files with keys and revocations are part of a bundle.
            clients: _,
            groups: _,
            revoked: _,
            backends,
            // Their files are part of a bundle. URLs of identities are compared, and not called.
            keys: _,
            handlers,
            lookups,
            models,
            grants: _,
            rate_limit_service,
            lockout: _,
            audit,
            capture,
            watch,
            reload: _,
        } = policy;
        let mut names = Self::default();
        names.add_section("backends", backends);
        for (handler, rule) in handlers {
            // The texts of `config` are the handler's own, which opens and calls nothing.
            let field = format!("handlers.{handler}");
            names.add_section(&format!("{field}.component"), &rule.component);
            names.add_section(&format!("{field}.fetch"), &rule.fetch);
        }
        names.add_section("lookups", lookups);
        for (model, rule) in models {
            // The texts of a contract are those of clients: the host opens and calls none of them.
            let field = format!("models.{model}");
            names.add_model_files(&field, rule.artifact.as_ref());
            if let raw::Versions::Ruled(versions) = &rule.versions {
                for (version, rule) in versions {
                    let field = format!("{field}.versions.{version}");
                    names.add_model_files(&field, rule.artifact.as_ref());
                }
            }
        }
        names.add_section("rate_limit_service", rate_limit_service);
        let audit = audit.clone().unwrap_or_default();
        names.add_section("audit.export", &audit.export);
        // The other texts of the section are names of clients.
        let traces = audit.tracing.and_then(|tracing| tracing.endpoint);
        names.add_section("audit.tracing.endpoint", &traces);
        names.add("audit.path", NamedResource::AuditLog(audit.path));
        if let Some(key) = audit.key_file {
            names.add("audit.key_file", NamedResource::AuditKey(key));
        }
        names.add_section("capture", capture);
        if let Some(folder) = capture.as_ref().and_then(|capture| capture.folder.clone()) {
            names.add("capture.folder", NamedResource::Captures(folder));
        }
        // The other texts of the section are names of clients and models.
        if let Some(watch) = watch {
            names.add_section("watch.webhook", &watch.webhook);
            names.add_section("watch.webhooks", &watch.webhooks);
        }
        names
    }

    fn add(&mut self, field: &str, name: NamedResource) {
        self.0.push((field.to_owned(), name));
    }

    fn add_model_files(&mut self, field: &str, artifact: Option<&raw::Artifact>) {
        let Some(artifact) = artifact else {
            return;
        };
        let field = format!("{field}.artifact");
        // The other texts, such as the reasons of exceptions, name nothing that the host opens.
        let path = artifact.path.clone().unwrap_or_default();
        for (name, text) in [
            ("path", &artifact.path),
            ("manifest", &artifact.manifest),
            ("signature", &artifact.signature),
        ] {
            self.add_section(&format!("{field}.{name}"), text);
        }
        self.add(&format!("{field}.path"), NamedResource::ModelFiles(path));
    }

    /// Adds the names in a part of the policy. A value that JSON cannot represent is a fault of the
    /// policy.
    fn add_section(&mut self, field: &str, section: &impl Serialize) {
        let section = serde_json::to_value(section).unwrap_or_default();
        self.add_value(field, &section);
    }

    fn add_value(&mut self, field: &str, value: &Value) {
        match value {
            Value::String(text) => match port(text) {
                Some(port) => self.add(field, NamedResource::Port(port)),
                None => self.add(field, NamedResource::File(text.clone())),
            },
            Value::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    self.add_value(&format!("{field}[{index}]"), value);
                }
            }
            Value::Object(members) => {
                for port in ports_of_hosts(members) {
                    self.add(field, NamedResource::Port(port));
                }
                for (member, value) in members {
                    self.add_value(&format!("{field}.{member}"), value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
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
                (NamedResource::ModelFiles(text), Some(root)) => {
                    // A single file is among the texts.
                    let target = root.join(text).canonicalize().ok();
                    let outside =
                        target.filter(|target| target.is_dir() && !target.starts_with(root));
                    resources.extend(outside.map(|folder| (field, Resource::Read(folder))));
                }
                (NamedResource::AuditKey(text), _) => {
                    let key = folders.audit.as_ref().map(|below| below.join(text));
                    let existing = key.filter(|key| key.exists()).map(Resource::Read);
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

/// The ports of a list of hosts: those beside it, or the one of `https`.
fn ports_of_hosts(members: &Map<String, Value>) -> Vec<u16> {
    if !members.contains_key("hosts") {
        return Vec::new();
    }
    let listed = members.get("ports").and_then(Value::as_array);
    let listed = listed.into_iter().flatten().filter_map(Value::as_u64);
    let mut ports: Vec<_> = listed.filter_map(|port| u16::try_from(port).ok()).collect();
    if ports.is_empty() {
        ports.push(HTTPS);
    }
    ports
}

/// The paths that a text names outside the root, as written and with links resolved: folders, or
/// files if their folder must not be accessible.
fn files(root: &Path, text: &str, home: Option<&Path>) -> Vec<PathBuf> {
    let path = Path::new(text);
    let climbs = path
        .components()
        .any(|part| matches!(part, Component::ParentDir));
    if text.is_empty() || climbs {
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

/// The port of a server's address.
pub(super) fn port(text: &str) -> Option<u16> {
    let (scheme, rest) = text.split_once("://")?;
    let usual = match scheme {
        "http" => 80,
        "https" => HTTPS,
        "redis" | "rediss" => 6379,
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    match host.rsplit_once(':') {
        // An IPv6 address without a port ends with a bracket.
        Some((_, port)) if !port.ends_with(']') => port.parse().ok(),
        _ => Some(usual),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_servers_port_is_the_one_that_it_names_or_its_schemes() {
        for (text, expected) in [
            ("http://127.0.0.1:9", Some(9)),
            ("https://triton.ml.svc:8001/path", Some(8001)),
            ("https://triton.ml.svc", Some(443)),
            ("http://[::1]", Some(80)),
            ("http://[::1]:8080?x=1", Some(8080)),
            ("rediss://user:pass@cache", Some(6379)),
            ("redis://:pass@cache:7000/1", Some(7000)),
            ("http://host:notaport", None),
            ("http://host:99999", None),
            ("unix:/run/x.sock", None),
            ("a text with ://", None),
        ] {
            assert_eq!(port(text), expected, "{text}");
        }
    }

    #[test]
    fn the_server_of_shared_limits_is_named_in_both_forms() {
        for (member, address) in [
            ("endpoint", json!("http://limits:8081")),
            ("redis", json!({"url": "redis://cache:8081"})),
        ] {
            let policy = json!({"rate_limit_service": {member: address}});
            let policy = serde_json::from_value(policy).unwrap_or_default();
            let resources = PolicyResources::of(&policy);
            let named = resources.ports_and_written_folders(&BaseFolders::default());
            assert_eq!(named, BTreeSet::from([Resource::Port(8081)]), "{member}");
        }
    }
}
