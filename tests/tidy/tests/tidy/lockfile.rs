//! What the lock file may contain: one version of each crate, one registry, compatible licences.

use std::collections::{BTreeMap, BTreeSet};

use crate::{metadata, none, output, root};

/// Crates of which there are several versions, and why.
const DUPLICATES: [(&str, &str); 27] = [
    (
        "allocator-api2",
        "0.2 is bumpalo's, of cranelift; 0.4 is talc's, the allocator of handlers",
    ),
    (
        "base64",
        "0.23 is that of rcgen's PEM, for certificates of tests",
    ),
    (
        "block-buffer",
        "RustCrypto is half way: rsa, hmac, cranelift and wasmtime are on the digest 0.10 family, p256 of jwt-simple on 0.11",
    ),
    (
        "const-oid",
        "RustCrypto is half way: rsa, hmac, cranelift and wasmtime are on the digest 0.10 family, p256 of jwt-simple on 0.11",
    ),
    (
        "cpufeatures",
        "RustCrypto is half way: rsa, hmac, cranelift and wasmtime are on the digest 0.10 family, p256 of jwt-simple on 0.11",
    ),
    (
        "crypto-common",
        "RustCrypto is half way: rsa, hmac, cranelift and wasmtime are on the digest 0.10 family, p256 of jwt-simple on 0.11",
    ),
    (
        "der",
        "RustCrypto is half way: rsa, hmac, cranelift and wasmtime are on the digest 0.10 family, p256 of jwt-simple on 0.11",
    ),
    (
        "digest",
        "RustCrypto is half way: rsa, hmac, cranelift and wasmtime are on the digest 0.10 family, p256 of jwt-simple on 0.11",
    ),
    (
        "embedded-io",
        "postcard, of wasmtime, names two versions for its optional input and output; neither is compiled",
    ),
    ("foldhash", "as hashbrown"),
    (
        "getrandom",
        "rsa of jwt-simple takes random numbers from the older rand; only signing, which tests do, draws any",
    ),
    (
        "hashbrown",
        "0.15 is petgraph's, of the build-time proto compiler; 0.16 is cranelift's and the proxy SDK's; 0.17 is indexmap's",
    ),
    (
        "hmac",
        "RustCrypto is half way: rsa, hmac, cranelift and wasmtime are on the digest 0.10 family, p256 of jwt-simple on 0.11",
    ),
    (
        "io-lifetimes",
        "2.0 is that of fs-set-times, 3.0 that of cap-std; both are wasmtime-wasi's",
    ),
    (
        "pem-rfc7468",
        "RustCrypto is half way: rsa, hmac, cranelift and wasmtime are on the digest 0.10 family, p256 of jwt-simple on 0.11",
    ),
    (
        "pkcs8",
        "RustCrypto is half way: rsa, hmac, cranelift and wasmtime are on the digest 0.10 family, p256 of jwt-simple on 0.11",
    ),
    (
        "rand",
        "rsa of jwt-simple takes random numbers from the older rand; only signing, which tests do, draws any",
    ),
    (
        "rand_core",
        "rsa of jwt-simple takes random numbers from the older rand; only signing, which tests do, draws any",
    ),
    (
        "sha2",
        "RustCrypto is half way: rsa, hmac, cranelift and wasmtime are on the digest 0.10 family, p256 of jwt-simple on 0.11",
    ),
    (
        "signature",
        "RustCrypto is half way: rsa, hmac, cranelift and wasmtime are on the digest 0.10 family, p256 of jwt-simple on 0.11",
    ),
    (
        "spki",
        "RustCrypto is half way: rsa, hmac, cranelift and wasmtime are on the digest 0.10 family, p256 of jwt-simple on 0.11",
    ),
    (
        "syn",
        "half of the derive macros have moved to 3; build time only",
    ),
    (
        "synstructure",
        "0.14 is that of the icu crates' derives, 0.13 that of asn1-rs; both only while building",
    ),
    (
        "thiserror",
        "1.0 is serde-reflection's, which only a test uses",
    ),
    (
        "thiserror-impl",
        "1.0 is serde-reflection's, which only a test uses",
    ),
    (
        "unicode-width",
        "0.1 is miette's, 0.2 that of the text format in which the host's tests write modules",
    ),
    (
        "windows-sys",
        "named for another system; neither is compiled here",
    ),
];

/// Crates that would be a second implementation of what the project already uses one for. HTTP is
/// hyper's, hashes and MACs are RustCrypto's, the runtime is tokio's. `ring` is not in the list:
/// the host's TLS to backends and the native module use it, and
/// [`the_wasm_filter_has_no_second_cryptography`] keeps it out of `gate.wasm`.
const SECOND_STACKS: [&str; 13] = [
    "actix-web",
    "async-std",
    "aws-lc-rs",
    "curl",
    "isahc",
    "native-tls",
    "openssl",
    "reqwest",
    "smol",
    "surf",
    "ureq",
    "warp",
    "wasi-common",
];

/// Licences that may be linked with Apache-2.0 code, as the parts of an SPDX expression.
const LICENCES: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// A locked package's name, version and source; our own have none.
fn locked() -> Vec<(String, String, Option<String>)> {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    lock.split("[[package]]")
        .skip(1)
        .map(|package| {
            let field = |name: &str| {
                let start = format!("{name} = \"");
                package.lines().find_map(|line| {
                    line.strip_prefix(&start)?
                        .strip_suffix('"')
                        .map(str::to_owned)
                })
            };
            (
                field("name").unwrap(),
                field("version").unwrap(),
                field("source"),
            )
        })
        .collect()
}

#[test]
fn there_is_one_version_of_each_crate_or_a_reason() {
    let mut versions = BTreeMap::<_, BTreeSet<_>>::new();
    for (name, version, _) in locked() {
        versions.entry(name).or_default().insert(version);
    }
    let several: BTreeSet<_> = versions
        .iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(name, _)| name.as_str())
        .collect();
    let allowed: BTreeSet<_> = DUPLICATES.iter().map(|(name, _)| *name).collect();
    none(
        "crates of several versions without a reason",
        several
            .difference(&allowed)
            .map(|name| format!("{name} {:?}", versions.get(*name)))
            .collect(),
    );
    none(
        "reasons that have lost their crate",
        allowed
            .difference(&several)
            .map(|name| (*name).to_owned())
            .collect(),
    );
}

#[test]
fn there_is_one_stack_for_http_crypto_and_tasks() {
    none(
        "second stacks",
        locked()
            .into_iter()
            .filter(|(name, ..)| SECOND_STACKS.contains(&name.as_str()))
            .map(|(name, ..)| name)
            .collect(),
    );
}

#[test]
fn the_wasm_filter_has_no_second_cryptography() {
    let arguments = ["tree", "--offline", "--edges", "normal", "--prefix", "none"];
    let package = ["--package", "tensorgate-gate", "--target", "wasm32-wasip1"];
    let crates = output(env!("CARGO"), &[&arguments[..], &package].concat());
    assert!(crates.contains("\ntensorgate-filter-core "), "{crates}");
    let found = crates
        .lines()
        .filter(|line| line.starts_with("ring ") || line.starts_with("rustls "))
        .map(str::to_owned)
        .collect();
    none("crates of TLS in the filter", found);
}

#[test]
fn every_crate_comes_from_the_one_registry() {
    let sources: BTreeSet<_> = locked()
        .into_iter()
        .filter_map(|(.., source)| source)
        .collect();
    assert!(
        sources.len() == 1 && sources.iter().all(|source| source.starts_with("registry+")),
        "crates come from {sources:?}"
    );
}

#[test]
fn every_licence_is_compatible_with_ours() {
    // Only packages that this machine or a filter's target builds. A package that only another
    // system needs is not even downloaded.
    let mut faults = BTreeSet::new();
    for target in [
        "x86_64-unknown-linux-gnu",
        "aarch64-unknown-linux-gnu",
        "wasm32-wasip1",
    ] {
        let metadata = metadata(&["--filter-platform", target]);
        for package in metadata
            .get("packages")
            .and_then(|packages| packages.as_array())
            .unwrap()
        {
            let text = |name: &str| {
                package
                    .get(name)
                    .and_then(|value| value.as_str())
                    .unwrap_or_default()
                    .to_owned()
            };
            if !goes_with_ours(&text("license")) {
                faults.insert(format!(
                    "{} {}: {:?}",
                    text("name"),
                    text("version"),
                    text("license")
                ));
            }
        }
    }
    none(
        "licences that are not in the list",
        faults.into_iter().collect(),
    );
}

/// Whether a licence expression is allowed. It is an SPDX expression in conjunctive form, as crates
/// write them. Every part must have an alternative in the list.
fn goes_with_ours(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    expression.split(" AND ").all(|part| {
        part.trim_matches(['(', ')', ' '])
            .split(" OR ")
            .any(|licence| LICENCES.contains(&licence.trim_matches(['(', ')', ' '])))
    })
}

#[test]
fn a_licence_expression_needs_a_listed_alternative_of_every_part() {
    for (expression, expected) in [
        ("MIT", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0", false),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("MIT AND GPL-2.0", false),
        ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", true),
        ("", false),
    ] {
        assert_eq!(goes_with_ours(expression), expected, "{expression}");
    }
}
