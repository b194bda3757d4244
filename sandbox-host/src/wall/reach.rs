//! What a host has to reach, from what it was started with and what its policy names: folders, and ports.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Files that a resolver reads, that a seed comes from, and authorities that everybody may know.
const SYSTEM: [&str; 12] = [
    "/dev/urandom",
    "/dev/null",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/proc/self",
    "/sys/fs/cgroup",
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/usr/share/ca-certificates",
];
/// Libraries that a resolver loads when it is first asked.
const LIBRARIES: [&str; 4] = ["/lib", "/lib64", "/usr/lib", "/etc/ld.so.cache"];
/// Where hosts are reached for which no port is named.
const HTTPS: u16 = 443;
/// Where a resolver asks when an answer is too long for a datagram.
const DOMAIN: u16 = 53;

/// Folders, files and TCP ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// To read, with all that is below.
    pub read: Vec<PathBuf>,
    /// To read and to write, with all that is below.
    pub write: Vec<PathBuf>,
    /// Ports to connect to, at any address: the kernel knows no more.
    pub connect: Vec<u16>,
    /// Ports to listen at.
    pub bind: Vec<u16>,
}

impl Reach {
    /// A host's. `policy` is whatever its bundle holds, of which every text that names a file or a server counts: a policy that cannot be
    /// used is for others to refuse. Of files the folder counts, because renewed ones are renamed over old ones. `servers` are addresses
    /// beside those.
    pub fn of_host(
        read: impl IntoIterator<Item = PathBuf>,
        write: impl IntoIterator<Item = PathBuf>,
        policy: &Value,
        servers: &[String],
        admin: u16,
    ) -> Self {
        let mut texts = Vec::new();
        gather(policy, &mut texts);
        // `NAME=ADDRESS`, as they are given.
        let addresses = servers.iter().map(|server| {
            server
                .split_once('=')
                .map_or(server.as_str(), |(_, address)| address)
        });
        texts.extend(addresses);
        let files = (texts.iter())
            .filter(|text| text.starts_with('/'))
            .filter_map(|text| folder(Path::new(text)));
        let system = SYSTEM.iter().chain(&LIBRARIES).map(PathBuf::from);
        let read: BTreeSet<_> = read.into_iter().chain(files).chain(system).collect();
        let write: BTreeSet<_> = write.into_iter().collect();
        let mut connect: BTreeSet<_> = texts.iter().filter_map(|text| port(text)).collect();
        connect.insert(DOMAIN);
        hosts(policy, &mut connect);
        Self {
            read: read.into_iter().collect(),
            write: write.into_iter().collect(),
            connect: connect.into_iter().collect(),
            bind: vec![admin],
        }
    }
}

/// Every text of a document.
fn gather<'v>(value: &'v Value, texts: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(values) => values.iter().for_each(|value| gather(value, texts)),
        Value::Object(members) => members.values().for_each(|value| gather(value, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The ports of every list of hosts: those beside it, or that of `https`.
fn hosts(value: &Value, ports: &mut BTreeSet<u16>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| hosts(value, ports)),
        Value::Object(members) => {
            if members.contains_key("hosts") {
                let named = members.get("ports").and_then(Value::as_array);
                let named = named.into_iter().flatten().filter_map(Value::as_u64);
                let mut named = named.filter_map(|port| u16::try_from(port).ok()).peekable();
                if named.peek().is_none() {
                    ports.insert(HTTPS);
                }
                ports.extend(named);
            }
            members.values().for_each(|value| hosts(value, ports));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The folder of a file that is there; the file alone where the folder is the whole system.
fn folder(file: &Path) -> Option<PathBuf> {
    if !file.is_file() {
        return None;
    }
    let folder = file.parent().filter(|folder| folder.parent().is_some());
    Some(folder.unwrap_or(file).to_owned())
}

/// The port of a server's address.
fn port(text: &str) -> Option<u16> {
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
        // An IPv6 address ends in a bracket where it has no port.
        Some((_, port)) if !port.ends_with(']') => port.parse().ok(),
        _ => Some(usual),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
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
    fn a_policys_files_are_reached_by_their_folder_and_its_servers_by_their_port() {
        let folder = std::env::temp_dir().join(format!("tg-reach-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("ca.pem");
        std::fs::write(&file, "").unwrap();
        let policy = serde_json::json!({
            "backends": {"b": {"endpoints": ["https://one:8001", "https://two:8002"], "tls": {"ca": file}}},
            "path": "/no/such/file",
            "handlers": {"h": {"fetch": {"hosts": ["a.example"]}}, "i": {"fetch": {"hosts": ["b.example"], "ports": [8443]}}},
        });
        let reach = Reach::of_host(
            [PathBuf::from("/srv")],
            [],
            &policy,
            &["cpu=http://cpu:7".to_owned()],
            9902,
        );
        assert_eq!(reach.connect, [7, 53, 443, 8001, 8002, 8443]);
        assert_eq!(reach.bind, [9902]);
        assert!(reach.read.contains(&folder) && reach.read.contains(&"/srv".into()));
        assert!(!reach.read.iter().any(|path| path.starts_with("/no")));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
