//! The files and ports that a host needs, from its settings and its policy.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

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

/// The parents of folders that belong to many users, or hold all files of one user.
const SHARED_IN: [&str; 2] = ["/", "/home"];

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

/// The folder of a path.
#[must_use]
pub fn beside(path: &Path) -> PathBuf {
    path.parent()
        .filter(|folder| *folder != Path::new(""))
        .unwrap_or(Path::new("."))
        .to_owned()
}

/// The folders of a file that is replaced while the host runs, as written and with links resolved.
/// Only the file where its folder must not be accessible. In a folder that Kubernetes mounts, the
/// file is a link into a subfolder; a later version is in another subfolder of it.
#[must_use]
pub fn renewed(file: &Path) -> Vec<PathBuf> {
    let home = home();
    let written = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let leads = written.canonicalize().ok();
    (std::iter::once(written).chain(leads))
        .map(|file| folder(&file, home.as_deref()))
        .collect()
}

/// The home folder of the user.
pub(super) fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from)
}

/// The folder of a file. Only the file if the folder is a system's, holds all files of a user, or
/// is hidden.
pub(super) fn folder(file: &Path, home: Option<&Path>) -> PathBuf {
    let folder = beside(file);
    let shared = folder
        .parent()
        .is_none_or(|above| (SHARED_IN.iter()).any(|shared| above == Path::new(shared)));
    let home = home.filter(|home| home.parent().is_some());
    let of_home = home.is_some_and(|home| {
        let hidden = |part: Component<'_>| {
            let name = part.as_os_str().as_encoded_bytes();
            name.starts_with(b".")
        };
        home.starts_with(&folder)
            || (folder.strip_prefix(home)).is_ok_and(|below| below.components().any(hidden))
    });
    if shared || of_home {
        file.to_owned()
    } else {
        folder
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::policy_resources::{BaseFolders, PolicyResources};
    use super::*;

    /// What a host with this root and policy needs.
    fn access(root: &Path, policy: serde_json::Value, servers: &[String]) -> Access {
        let folders = BaseFolders {
            root: root.to_owned(),
            audit: None,
        };
        let named = PolicyResources::of(&serde_json::from_value(policy).unwrap());
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
            "backends": {"b": {"endpoints": ["https://one:8001", "https://two:8002"], "tls": {"ca": file}}},
            "audit": {"export": {"otlp": {"headers_file": "/no/such/file"}}},
            "handlers": {"h": {"fetch": {"hosts": ["a.example"]}}, "i": {"fetch": {"hosts": ["b.example"], "ports": [8443]}}},
        });
        let reach = access(Path::new("/usr"), policy, &["cpu=http://cpu:7".to_owned()]);
        assert_eq!(reach.connect, [7, 53, 443, 8001, 8002, 8443]);
        assert_eq!(reach.bind, [9902, 8443]);
        assert!(reach.read.contains(&folder) && reach.read.contains(&"/usr".into()));
        assert!(!reach.read.iter().any(|path| path.starts_with("/no")));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_link_out_of_the_root_leads_to_a_folder_that_is_reached() {
        let there = std::env::temp_dir().join(format!("tg-reach-links-{}", std::process::id()));
        for folder in ["root/own", "made", "other"] {
            std::fs::create_dir_all(there.join(folder)).unwrap();
        }
        let there = there.canonicalize().unwrap();
        for file in ["made/one.wasm", "root/own/two.wasm", "other/three.wasm"] {
            std::fs::write(there.join(file), "").unwrap();
        }
        std::os::unix::fs::symlink(there.join("made"), there.join("root/components")).unwrap();
        let policy = serde_json::json!({"handlers": {
            "a": {"component": "components/one.wasm"},
            "b": {"component": "own/two.wasm"},
            "c": {"component": "../other/three.wasm"},
        }});
        let root = there.join("root");
        let reach = access(&root, policy, &[]);
        let found: Vec<_> = (reach.read.iter())
            .filter(|path| path.starts_with(&there))
            .collect();
        assert_eq!(found, [&there.join("made"), &root]);
        std::fs::remove_dir_all(there).unwrap();
    }

    #[test]
    fn a_renewed_file_is_reached_by_the_folder_that_a_secret_is_mounted_at() {
        let there = std::env::temp_dir().join(format!("tg-reach-renewed-{}", std::process::id()));
        std::fs::create_dir_all(there.join("..1")).unwrap();
        let there = there.canonicalize().unwrap();
        std::fs::write(there.join("..1/context.key"), "").unwrap();
        std::os::unix::fs::symlink("..1", there.join("..data")).unwrap();
        let file = there.join("context.key");
        std::os::unix::fs::symlink("..data/context.key", &file).unwrap();
        assert_eq!(renewed(&file), [there.clone(), there.join("..1")]);
        // Before it exists, the kernel's rules already cover its folder.
        assert_eq!(renewed(&there.join("tls.crt")), [there.as_path()]);
        assert_eq!(
            renewed(Path::new("/etc/context.key")),
            [Path::new("/etc/context.key")]
        );
        std::fs::remove_dir_all(there).unwrap();
    }

    #[test]
    fn a_folder_of_everything_is_not_reached_for_one_file() {
        let at = |text: &str| PathBuf::from(text.replace('~', SHARED_IN[1]));
        let home = Some("~/ann");
        for (file, home, expected) in [
            ("~/ann/ca.pem", home, "~/ann/ca.pem"),
            ("~/ann/gate/ca.pem", home, "~/ann/gate"),
            ("~/ann/.ssh/ca.pem", home, "~/ann/.ssh/ca.pem"),
            ("~/bob/ca.pem", home, "~/bob/ca.pem"),
            ("/etc/ca.pem", home, "/etc/ca.pem"),
            ("/etc/pki/ca.pem", None, "/etc/pki"),
            ("/ca.pem", None, "/ca.pem"),
            (
                "/srv/users/ann/ca.pem",
                Some("/srv/users/ann"),
                "/srv/users/ann/ca.pem",
            ),
            (
                "/srv/users/ca.pem",
                Some("/srv/users/ann"),
                "/srv/users/ca.pem",
            ),
            ("/srv/gate/ca.pem", Some("/"), "/srv/gate"),
        ] {
            let found = folder(&at(file), home.map(at).as_deref());
            assert_eq!(found, at(expected), "{file}");
        }
    }
}
