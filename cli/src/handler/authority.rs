//! Describes what an import would allow a component to do. The sandbox grants a handler only its
//! own interfaces.

/// The interface that requires `fetch:` in the policy.
pub const FETCH: &str = "tensorgate:handler/fetch@";

/// The interface that requires `lookups:` in the policy.
pub const LOOKUP: &str = "tensorgate:handler/lookup@";

/// Interfaces by name prefix, longest prefix first, with a description of what they allow.
const KNOWN: [(&str, &str); 20] = [
    (
        "tensorgate:handler/types@",
        "type definitions without functions",
    ),
    (
        "tensorgate:handler/config@",
        "the policy's `config:` entries",
    ),
    (
        "tensorgate:handler/log@",
        "bounded lines in the operator's log",
    ),
    (
        FETCH,
        "files that the host fetches, from hosts that the policy allows",
    ),
    (
        LOOKUP,
        "features that the host looks up, from services that the policy allows",
    ),
    ("wasi:filesystem/", "to open, read and write files"),
    ("wasi:sockets/", "to open network connections"),
    ("wasi:http/", "to send and answer HTTP requests"),
    ("wasi:tls/", "to open network connections"),
    ("wasi:clocks/", "to read clocks, and to wait"),
    ("wasi:random/", "the machine's random numbers"),
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
    ("wasi:nn/", "the host's models and devices"),
    (
        "wasi_snapshot_preview1#",
        "files, sockets, clocks, random numbers and the environment",
    ),
];

/// Describes what an import allows.
pub fn describe(import: &str) -> &'static str {
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
            assert!(
                describe(import).contains(expected),
                "{import}: {}",
                describe(import)
            );
        }
    }
}
