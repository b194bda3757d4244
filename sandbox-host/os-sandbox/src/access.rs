//! The files and ports that a host needs, from its settings and its policy.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::policy_resources::{Resource, port};

/// Files for name resolution, random seeds and system trust anchors.
const SYSTEM: [&str; 14] = [
    "/dev/urandom",
    "/dev/null",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    // What a runtime reads of its own process. Not all of `/proc/self`, because one file lists all
    // sockets.
    "/proc/self/cgroup",
    "/proc/self/maps",
    "/proc/self/status",
    "/sys/fs/cgroup",
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/usr/share/ca-certificates",
];
/// Libraries that a resolver loads on first use.
const LIBRARIES: [&str; 4] = ["/lib", "/lib64", "/usr/lib", "/etc/ld.so.cache"];
/// The DNS port over TCP, for long responses.
const DOMAIN: u16 = 53;

/// Accessible folders, files and TCP ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Readable, with all that is below.
    pub read: Vec<PathBuf>,
    /// Readable and writable, with all that is below.
    pub write: Vec<PathBuf>,
    /// Ports to connect to, at any address, because the kernel does not distinguish them.
    pub connect: Vec<u16>,
    /// Ports to listen at.
    pub bind: Vec<u16>,
}

impl Access {
    /// Collects what a host needs: the paths of its settings, what its policy names (`resources`),
    /// `servers` as further addresses, and `bind` as the ports to listen at.
    pub fn of_host<'r>(
        read: impl IntoIterator<Item = PathBuf>,
        write: impl IntoIterator<Item = PathBuf>,
        resources: impl IntoIterator<Item = &'r Resource>,
        servers: &[String],
        bind: impl IntoIterator<Item = u16>,
    ) -> Self {
        let system = SYSTEM.iter().chain(&LIBRARIES).map(PathBuf::from);
        let mut read: BTreeSet<_> = read.into_iter().chain(system).collect();
        let mut write: BTreeSet<_> = write.into_iter().collect();
        // The form is `NAME=ADDRESS`.
        let addresses = servers.iter().map(|server| {
            server
                .split_once('=')
                .map_or(server.as_str(), |(_, address)| address)
        });
        let mut connect: BTreeSet<_> = addresses.filter_map(port).collect();
        connect.insert(DOMAIN);
        for resource in resources {
            match resource {
                Resource::Port(port) => {
                    connect.insert(*port);
                }
                Resource::Read(path) => {
                    read.insert(path.clone());
                }
                Resource::Write(path) => {
                    write.insert(path.clone());
                }
            }
        }
        Self {
            read: read.into_iter().collect(),
            write: write.into_iter().collect(),
            connect: connect.into_iter().collect(),
            bind: bind.into_iter().collect(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;

    use super::super::policy_resources::{BaseFolders, resources_of_written};
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
