//! Files that a policy names and that are read while the gate runs: certificates, keys, passwords
//! and components. In a cluster they come by volumes.
//!
//! A volume is mounted over a whole folder. So each file needs a folder of its own kind below the
//! policy's: certificates and passwords from one Secret, components from one image or claim.

use std::collections::{BTreeMap, BTreeSet};

use tensorgate_policy::policy::{BUILTIN, BackendTls, Counter, RateLimitService, Trust};
use tensorgate_policy::{Fault, Policy, Severity};
use tensorgate_policy_text::path::below;

use crate::render::envoy::key_sets;

/// A file, and the key of the policy that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PolicyFile {
    /// Path in the policy's document.
    named_at: String,
    /// The file, as the policy names it.
    file: String,
    /// The program that reads it.
    reader: Reader,
}

/// The program that reads a file. Each gets only its own files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reader {
    /// The proxy with the filter.
    Envoy,
    /// The sandbox host.
    Host,
}

impl Reader {
    /// The beginning of its volumes' names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Envoy => "envoy-files",
            Self::Host => "host-files",
        }
    }
}

/// The files of a policy, by folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyFiles {
    /// Files of the Secret: reader and folder → names in it.
    pub secret: BTreeMap<(Reader, String), BTreeSet<String>>,
    /// Folders of components.
    pub components: BTreeSet<String>,
}

impl PolicyFiles {
    /// Sorts the files of a policy by folder.
    ///
    /// # Errors
    /// A fault for each file that no volume can bring.
    pub fn of(policy: &Policy) -> Result<Self, Vec<Fault>> {
        let (mut files, mut faults) = (Self::default(), Vec::new());
        let mut secret_folders = BTreeSet::new();
        for PolicyFile {
            named_at,
            file,
            reader,
        } in secret_files(policy)
        {
            match split(&file) {
                Some((folder, name)) => {
                    secret_folders.insert(top(folder).to_owned());
                    let folder = (reader, folder.to_owned());
                    let names = files.secret.entry(folder).or_default();
                    names.insert(name.to_owned());
                }
                None => faults.push(unreachable(named_at, &file, "pki")),
            }
        }
        for (named_at, file) in components(policy) {
            match split(&file) {
                Some((folder, _)) if secret_folders.contains(top(folder)) => {
                    let message = format!(
                        "{file} is in a folder that also has certificates or passwords, which come by another volume"
                    );
                    faults.push(fault(named_at, message, "move it to a folder of its own"));
                }
                Some((folder, _)) => {
                    files.components.insert(top(folder).to_owned());
                }
                None => faults.push(unreachable(named_at, &file, "handlers")),
            }
        }
        if faults.is_empty() {
            Ok(files)
        } else {
            Err(faults)
        }
    }

    /// The key of a file in the Secret: its path with dots for slashes, as `pki.ca.pem`. A key of a
    /// Secret cannot have a slash.
    pub fn secret_key(folder: &str, name: &str) -> String {
        format!("{}.{name}", folder.replace('/', "."))
    }
}

/// Certificates, keys and passwords that a policy names.
fn secret_files(policy: &Policy) -> Vec<PolicyFile> {
    let mut files = Vec::new();
    let mut add_for = |reader, named_at: String, file: Option<&str>| {
        files.extend(file.map(|file| PolicyFile {
            named_at,
            file: file.to_owned(),
            reader,
        }));
    };
    if let Some(tls) = policy.listen().tls() {
        for (field, file) in [
            ("cert", Some(tls.cert())),
            ("key", Some(tls.key())),
            ("client_ca", tls.client_ca()),
            ("client_crl", tls.client_crl()),
        ] {
            add_for(Reader::Envoy, format!("listen.tls.{field}"), file);
        }
    }
    for (issuer, url) in key_sets::fetched(policy) {
        let named_at = below("issuers", &[issuer, "jwks", "ca"]);
        add_for(Reader::Envoy, named_at, url.ca());
    }
    let mut add = |named_at, file: Option<&str>| add_for(Reader::Host, named_at, file);
    for (name, backend) in policy.backends() {
        add_trust(&mut add, backend.tls(), &["backends", name, "tls"]);
    }
    for (name, handler) in policy.handlers() {
        let ca = handler.fetch().and_then(|fetch| fetch.ca());
        add(below("handlers", &[name, "fetch", "ca"]), ca);
        for (lookup, rule) in handler.lookups() {
            let path = ["handlers", name, "lookups", lookup, "tls"];
            add_trust(&mut add, rule.authorities(), &path);
            let path = [name, "lookups", lookup, "bearer_file"];
            add(below("handlers", &path), rule.bearer_file());
        }
    }
    let counter = policy.rate_limit_service().map(RateLimitService::counter);
    if let Some(Counter::Redis(rule)) = counter {
        let at = |field| below("rate_limit_service", &["redis", field]);
        add(at("ca"), rule.ca());
        add(at("password_file"), rule.password_file());
    }
    if let Some(rule) = policy.audit().export().otlp() {
        let path = ["audit", "export", "otlp", "tls"];
        add_trust(&mut add, rule.authorities(), &path);
        let path = "audit.export.otlp.headers_file".to_owned();
        add(path, rule.headers_file());
    }
    if let Some(rule) = policy.capture() {
        add("capture.key_file".to_owned(), Some(rule.key_file()));
    }
    for (index, rule) in policy.watch().webhooks().iter().enumerate() {
        let path = policy.watch().webhook_path(index);
        add(format!("{path}.secret_file"), Some(rule.secret_file()));
        add(format!("{path}.ca"), rule.ca());
    }
    files
}

fn add_trust(add: &mut impl FnMut(String, Option<&str>), rule: Option<&BackendTls>, path: &[&str]) {
    let (Some(Trust::Files { ca, identity }), Some((first, rest))) =
        (rule.map(BackendTls::trust), path.split_first())
    else {
        return;
    };
    let at = |field| {
        let rest: Vec<_> = rest.iter().copied().chain([field]).collect();
        below(first, &rest)
    };
    add(at("ca"), Some(ca));
    if let Some((cert, key)) = identity {
        add(at("cert"), Some(cert));
        add(at("key"), Some(key));
    }
}

/// Components that a policy names, with the keys that name them. The bundled ones are in the host's
/// image.
fn components(policy: &Policy) -> Vec<(String, String)> {
    let handlers = policy.handlers().iter();
    let own = handlers.filter(|(_, rule)| !rule.component().starts_with(BUILTIN));
    own.map(|(name, rule)| {
        let named_at = below("handlers", &[name, "component"]);
        (named_at, rule.component().to_owned())
    })
    .collect()
}

/// Folder and name of a relative path below the policy's folder. A file in the folder itself is not
/// accepted, because its volume would hide everything else there.
fn split(file: &str) -> Option<(&str, &str)> {
    let usable = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !part.is_empty() && part.bytes().all(allowed) && part != "." && part != ".."
    };
    let file = file.strip_prefix("./").unwrap_or(file);
    let (folder, name) = file.rsplit_once('/')?;
    (folder.split('/').all(usable) && usable(name)).then_some((folder, name))
}

/// The first folder of a path.
fn top(folder: &str) -> &str {
    folder.split_once('/').map_or(folder, |(top, _)| top)
}

fn unreachable(named_at: String, file: &str, folder: &str) -> Fault {
    let name = file.rsplit('/').next().unwrap_or(file);
    let message = format!(
        "{file} cannot come by a volume: in a cluster each file is in a folder below the policy's, and its path has letters, digits, dots, dashes and underscores"
    );
    fault(named_at, message, &format!("{folder}/{name}"))
}

fn fault(path: String, message: String, fix: &str) -> Fault {
    Fault {
        severity: Severity::Error,
        path,
        message,
        fix: Some(fix.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_in_a_folder_below_the_policys() {
        for (file, expected) in [
            ("pki/ca.pem", Some(("pki", "ca.pem"))),
            ("./pki/a/ca.pem", Some(("pki/a", "ca.pem"))),
            ("ca.pem", None),
            ("/etc/ca.pem", None),
            ("../ca.pem", None),
            ("pki/../ca.pem", None),
            ("pki//ca.pem", None),
            ("pki/a b.pem", None),
            ("pki/", None),
        ] {
            assert_eq!(split(file), expected, "{file}");
        }
        assert_eq!(PolicyFiles::secret_key("pki/a", "ca.pem"), "pki.a.ca.pem");
    }
}
