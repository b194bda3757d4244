//! The files and ports that a host needs, from its settings and its policy.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::resource::{Resource, port};

/// Files for name resolution, random seeds and system trust anchors.
const SYSTEM: [&str; 15] = [
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
    // Which pages handlers write.
    "/proc/self/pagemap",
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
