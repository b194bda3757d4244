//! The version of the handler interface that a project is built against. A project has its own copy
//! of `wit/handler.wit`, so projects of an older release keep their version.

use std::path::Path;

use tensorgate_cli_common::Failure;

/// The package of the interface.
const PACKAGE: &str = "tensorgate:handler";

/// A version that this release can build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WitVersion {
    /// Without the request's context, carried bytes and texts for callers.
    V0_1,
    /// The newest one.
    V0_2,
}

impl WitVersion {
    const ALL: [Self; 2] = [Self::V0_1, Self::V0_2];

    /// The version in names of interfaces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V0_1 => "0.1.0",
            Self::V0_2 => "0.2.0",
        }
    }

    /// The package with this version, as in `package tensorgate:handler@0.2.0`.
    pub fn package(self) -> String {
        format!("{PACKAGE}@{}", self.name())
    }

    /// An entry point that imports the interfaces of the newest version, with those of this one.
    pub fn applied(self, entry: &str) -> String {
        let newest = Self::V0_2.name();
        let line = |line: &str| match line.contains(PACKAGE) {
            true => line.replace(newest, self.name()),
            false => line.to_owned(),
        };
        let lines: Vec<_> = entry.lines().map(line).collect();
        format!("{}\n", lines.join("\n"))
    }

    /// The version of a project's `wit/handler.wit`.
    ///
    /// # Errors
    /// The file cannot be read, or has a version that this release cannot build.
    pub fn of_project(folder: &Path) -> Result<Self, Failure> {
        let file = folder.join("wit/handler.wit");
        let text = std::fs::read_to_string(&file)
            .map_err(|cause| Failure::Input(format!("cannot read {}: {cause}", file.display())))?;
        let version = declared(&text).unwrap_or("no version");
        let known = Self::ALL.into_iter().find(|known| known.name() == version);
        known.ok_or_else(|| Failure::Input(advice(&file.display().to_string(), version)))
    }
}

/// What to do about an interface of a component that has a version which no host of this release
/// has.
pub fn unknown(imports: &[String]) -> Option<String> {
    let version = |import: &String| {
        let version = import.strip_prefix(PACKAGE)?.split_once('@')?.1;
        // Imports of core modules have the function's name behind the version.
        let version = version.split('#').next().unwrap_or_default();
        let is_known = WitVersion::ALL.iter().any(|known| known.name() == version);
        (!is_known).then(|| version.to_owned())
    };
    let version = imports.iter().find_map(version)?;
    Some(advice("the component", &version))
}

fn advice(what: &str, version: &str) -> String {
    format!(
        "{what} has version {version:?} of the handler interface, and this release has {} and {}: update tensorgate, or copy wit/ and the files beside the handler from a project that `tensorgate handler new` creates",
        WitVersion::V0_1.name(),
        WitVersion::V0_2.name()
    )
}

/// The version in the line `package tensorgate:handler@…;`.
fn declared(wit: &str) -> Option<&str> {
    let mut lines = wit.lines().map(str::trim);
    let package = lines.find_map(|line| line.strip_prefix("package "))?;
    let (package, version) = package.strip_suffix(';')?.split_once('@')?;
    (package.trim() == PACKAGE).then_some(version.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_package() {
        for (wit, expected) in [
            (include_str!("../../handler.wit"), Some("0.2.0")),
            (include_str!("../../0.1/handler.wit"), Some("0.1.0")),
            (
                "/// package x\npackage tensorgate:handler@1.0.0;",
                Some("1.0.0"),
            ),
            ("package tensorgate:kit@0.1.0;", None),
            ("package tensorgate:handler;", None),
            ("", None),
        ] {
            assert_eq!(declared(wit), expected);
        }
    }

    #[test]
    fn an_entry_imports_the_interfaces_of_its_version() {
        let entry = "import a from \"tensorgate:handler/log@0.2.0\";\nimport b from \"wasi:io/poll@0.2.0\";\n";
        let old = "import a from \"tensorgate:handler/log@0.1.0\";\nimport b from \"wasi:io/poll@0.2.0\";\n";
        assert_eq!(WitVersion::V0_1.applied(entry), old);
        assert_eq!(WitVersion::V0_2.applied(entry), entry);
    }

    #[test]
    fn an_unknown_version_is_named_with_what_to_do() {
        for (import, expected) in [
            ("tensorgate:handler/log@0.1.0", None),
            ("tensorgate:handler/log@0.2.0#write", None),
            ("tensorgate:kit/arrays@0.9.0", None),
            ("tensorgate:handler/log@0.3.0#write", Some("\"0.3.0\"")),
            ("tensorgate:handler/log@1.0.0", Some("\"1.0.0\"")),
        ] {
            let text = unknown(&[import.to_owned()]);
            let named = text.as_ref().is_some_and(|text| {
                expected.is_some_and(|version| text.contains(version)) && text.contains("update")
            });
            assert_eq!(
                (text.is_some(), named),
                (expected.is_some(), expected.is_some())
            );
        }
    }
}
