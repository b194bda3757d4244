//! The versions of the handler interface that this host has, and their interfaces.

use crate::request_imports::{CARRY, CONTEXT};

/// The package of the handler interface.
const PACKAGE: &str = "tensorgate:handler/";
/// The versions, newest first.
const VERSIONS: [&str; 2] = ["0.2.0", "0.1.0"];

/// One version of the interfaces that have the same functions in every version.
pub(super) struct Common {
    /// Types. It has no functions.
    pub(super) types: &'static str,
    /// The configuration.
    pub(super) config: &'static str,
    /// The log.
    pub(super) log: &'static str,
    /// Files. Only for handlers with `fetch` in their policy.
    pub(super) fetch: &'static str,
    /// Features. Only for handlers with `lookups` in their policy.
    pub(super) lookup: &'static str,
}

/// The common interfaces of every version.
pub(super) const COMMON: [Common; 2] = [
    Common {
        types: "tensorgate:handler/types@0.2.0",
        config: "tensorgate:handler/config@0.2.0",
        log: "tensorgate:handler/log@0.2.0",
        fetch: "tensorgate:handler/fetch@0.2.0",
        lookup: "tensorgate:handler/lookup@0.2.0",
    },
    Common {
        types: "tensorgate:handler/types@0.1.0",
        config: "tensorgate:handler/config@0.1.0",
        log: "tensorgate:handler/log@0.1.0",
        fetch: "tensorgate:handler/fetch@0.1.0",
        lookup: "tensorgate:handler/lookup@0.1.0",
    },
];

/// The interface for errors of version 0.2, which has no functions.
pub(super) const ERRORS: &str = "tensorgate:handler/errors@0.2.0";

/// Whether the host has an interface.
pub(super) fn has(import: &str) -> bool {
    let common = |version: &Common| {
        [
            version.types,
            version.config,
            version.log,
            version.fetch,
            version.lookup,
        ]
        .contains(&import)
    };
    [ERRORS, CONTEXT, CARRY].contains(&import) || COMMON.iter().any(common)
}

/// The version in the name of one of our interfaces, if the host does not have that version.
pub(super) fn unknown(import: &str) -> Option<&str> {
    let (_, version) = import.strip_prefix(PACKAGE)?.split_once('@')?;
    (!VERSIONS.contains(&version)).then_some(version)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};
    use tensorgate_policy::hex;

    use super::*;

    /// Components that were built against them must keep working.
    #[test]
    fn the_texts_of_the_versions_stay() {
        let first = include_bytes!("../../../wit/0.1/handler.wit").as_slice();
        let second = include_bytes!("../../../wit/handler.wit").as_slice();
        for (text, digest) in [
            (
                first,
                "1e9e894a7b1adaeb5603e440f42e4e95621b7a259c2a9c05e45b4e8bce06b2da",
            ),
            (
                second,
                "78fa3797c67c2e6abc09a9bc143e4c774bc5c5b10a42a1a238290b8ba74c2bcf",
            ),
        ] {
            assert_eq!(hex(&Sha256::digest(text)), digest);
        }
    }

    #[test]
    fn an_interface_belongs_to_a_version() {
        for (import, is_known, version) in [
            ("tensorgate:handler/log@0.1.0", true, None),
            ("tensorgate:handler/log@0.2.0", true, None),
            ("tensorgate:handler/carry@0.2.0", true, None),
            ("tensorgate:handler/carry@0.1.0", false, None),
            ("tensorgate:handler/socket@0.2.0", false, None),
            ("tensorgate:handler/log@0.3.0", false, Some("0.3.0")),
            ("tensorgate:handler/log@0.2.1", false, Some("0.2.1")),
            ("tensorgate:handler/log@1.0.0", false, Some("1.0.0")),
            ("wasi:io/streams@0.2.0", false, None),
            ("tensorgate:handler/log", false, None),
        ] {
            assert_eq!(
                (has(import), unknown(import)),
                (is_known, version),
                "{import}"
            );
        }
    }
}
