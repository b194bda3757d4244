//! What the OS sandbox restricts: TCP ports, files and folders.

use std::path::PathBuf;

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

/// The port of a server's address.
#[must_use]
pub fn port(text: &str) -> Option<u16> {
    let (scheme, rest) = text.split_once("://")?;
    let usual = match scheme {
        "http" => 80,
        "https" => 443,
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
    use super::*;

    #[test]
    fn a_servers_port_is_the_one_that_it_names_or_its_schemes() {
        for (text, expected) in [
            ("http://127.0.0.1:9", Some(9)),
            ("https://triton.ml.svc:8001/path", Some(8001)),
            ("https://triton.ml.svc", Some(443)),
            ("http://[::1]", Some(80)),
            ("http://[::1]:8080?x=1", Some(8080)),
            ("http://host:notaport", None),
            ("http://host:99999", None),
            ("unix:/run/x.sock", None),
            ("a text with ://", None),
        ] {
            assert_eq!(port(text), expected, "{text}");
        }
    }
}
