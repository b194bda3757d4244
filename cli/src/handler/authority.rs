//! What an import would let a component do, if it were given. The sandbox gives a handler its own interfaces and nothing else.

/// The interface that only a policy's `fetch:` gives.
pub const FETCH: &str = "tensorgate:handler/fetch@";

/// The interface that only a policy's `lookups:` gives.
pub const LOOKUP: &str = "tensorgate:handler/lookup@";

/// Interfaces by the beginning of their names, the more exact first, and what they are good for.
const KNOWN: [(&str, &str); 20] = [
    (
        "tensorgate:handler/types@",
        "names of types, nothing to call",
    ),
    (
        "tensorgate:handler/config@",
        "what the policy's `config:` says",
    ),
    (
        "tensorgate:handler/log@",
        "bounded lines in the operator's log",
    ),
    (
        FETCH,
        "files that the host fetches, where the policy says from which hosts",
    ),
    (
        LOOKUP,
        "features that the host asks a service for, where the policy says which",
    ),
    ("wasi:filesystem/", "to open, read and write files"),
    ("wasi:sockets/", "to open network connections"),
    ("wasi:http/", "to send and answer HTTP requests"),
    ("wasi:tls/", "to open network connections"),
    ("wasi:clocks/", "to read clocks, and to wait"),
    ("wasi:random/", "random numbers of the machine's"),
    (
        "wasi:cli/environment@",
        "the process's arguments and environment",
    ),
    ("wasi:cli/exit@", "to end the process"),
    ("wasi:cli/", "the process's standard streams and terminal"),
    ("wasi:io/", "to read and write streams, and to wait"),
    ("wasi:keyvalue/", "to keep data from one call to the next"),
    ("wasi:blobstore/", "to keep data from one call to the next"),
    ("wasi:config/", "the host's own configuration"),
    ("wasi:nn/", "models and devices of the host's"),
    (
        "wasi_snapshot_preview1#",
        "files, sockets, clocks, random numbers and the environment",
    ),
];

/// What an import is good for.
pub fn of(import: &str) -> &'static str {
    KNOWN
        .iter()
        .find(|(start, _)| import.starts_with(start))
        .map_or("something that this version does not know", |(_, what)| {
            what
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_name_comes_before_its_package() {
        for (import, expected) in [
            ("wasi:cli/environment@0.2.9", "environment"),
            ("wasi:cli/stdout@0.2.9", "standard streams"),
            ("wasi:sockets/tcp@0.2.9", "network"),
            ("wasi:filesystem/preopens@0.2.9", "files"),
            ("acme:gpu/device", "does not know"),
        ] {
            assert!(of(import).contains(expected), "{import}: {}", of(import));
        }
    }
}
