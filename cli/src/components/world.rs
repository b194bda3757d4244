//! What a handler's file is, and whether it has the function that a model calls. Nothing is
//! compiled, so the host may still reject what passes here.

use std::path::Path;

use tensorgate_base::payload::Role;
use tensorgate_policy::values::safe_text::printable_prefix;
use wasmparser::{BinaryReaderError, ComponentExternalKind, Encoding, Parser, Payload};

/// How WebAssembly begins, a component or a core module.
const WASM: &[u8] = b"\0asm";
/// The most exports that a message names.
const NAMED_EXPORTS: usize = 4;
/// Longest name of an export in a message, bytes. A file may have one of 100,000.
const MAX_SHOWN_BYTES: usize = 64;
/// The cure for a file that is no component.
pub(super) const OF_BUILD: &str = "a file that `tensorgate handler build` wrote";

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// No WebAssembly. Nothing of its content is ever printed: it may be a link to a secret.
    Other {
        /// Its size.
        bytes: usize,
    },
    /// A core module, which has no world.
    CoreModule,
    /// A component with these exported functions.
    Component(Vec<String>),
    /// WebAssembly that cannot be parsed, and why.
    Broken(String),
}

/// Why a file cannot be called, and the cure.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    pub(super) message: String,
    pub(super) fix: String,
}

impl FileKind {
    /// Reads the outermost exports of a file.
    pub(super) fn of(file: &[u8]) -> Self {
        if !file.starts_with(WASM) {
            return Self::Other { bytes: file.len() };
        }
        read(file).unwrap_or_else(|error| Self::Broken(error.to_string()))
    }

    pub(super) const fn is_wasm(&self) -> bool {
        !matches!(self, Self::Other { .. })
    }

    /// Why the file at `component` cannot be what `model` uses `handler` as.
    pub(super) fn unfit(
        &self,
        (component, handler): (&str, &str),
        (role, model): (Role, &str),
    ) -> Option<Unfit> {
        let (what, fix) = match self {
            Self::Other { bytes } => (
                format!(
                    "is no WebAssembly component: {}",
                    language(component, *bytes)
                ),
                OF_BUILD.to_owned(),
            ),
            Self::CoreModule => (
                "is a core module of WebAssembly, and no component".to_owned(),
                OF_BUILD.to_owned(),
            ),
            Self::Broken(cause) => (
                format!("is no valid component: {cause}"),
                OF_BUILD.to_owned(),
            ),
            Self::Component(exports) => return lacks(exports, (component, handler), (role, model)),
        };
        let message = format!("component {component} {what}");
        Some(Unfit { message, fix })
    }
}

/// What a component that does not export its role's function exports instead.
fn lacks(
    exports: &[String],
    (component, handler): (&str, &str),
    (role, model): (Role, &str),
) -> Option<Unfit> {
    let has = |role: Role| exports.iter().any(|name| name == role.export());
    if has(role) {
        return None;
    }
    let needed = role.export();
    let other = match role {
        Role::Preprocess => Role::Postprocess,
        Role::Postprocess => Role::Preprocess,
    };
    let (found, fix) = if has(other) {
        let other = other.export();
        (
            format!("exports {other}"),
            format!("{other}: {handler} at the model, or a component of world {needed}"),
        )
    } else if exports.is_empty() {
        ("exports no function".to_owned(), OF_BUILD.to_owned())
    } else {
        let names = exports.iter().take(NAMED_EXPORTS);
        let names: Vec<_> = names
            .map(|name| printable_prefix(name, MAX_SHOWN_BYTES))
            .collect();
        let found = format!("exports no {needed}, but {}", names.join(", "));
        (found, OF_BUILD.to_owned())
    };
    Some(Unfit {
        message: format!("component {component} {found}, and model {model} uses it as {needed}"),
        fix,
    })
}

/// What a file is by its name, or its size.
fn language(component: &str, bytes: usize) -> String {
    let extension = Path::new(component).extension();
    match extension.and_then(|extension| extension.to_str()) {
        Some("py") => "it is source in Python".to_owned(),
        Some("js" | "mjs" | "ts") => "it is source in JavaScript".to_owned(),
        Some("rs") => "it is source in Rust".to_owned(),
        _ => format!("it has {bytes} bytes and does not begin as one"),
    }
}

fn read(file: &[u8]) -> Result<FileKind, BinaryReaderError> {
    let (mut exports, mut depth) = (Vec::new(), 0_usize);
    for payload in Parser::new(0).parse_all(file) {
        match payload? {
            Payload::Version {
                encoding: Encoding::Module,
                ..
            } if depth == 0 => return Ok(FileKind::CoreModule),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                depth = depth.saturating_add(1);
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Func {
                        exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(FileKind::Component(exports))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// A component that exports these functions.
    fn exporting(names: &[&str]) -> Vec<u8> {
        let exports = names.iter().map(|name| {
            format!(r#"(func (export "{name}") (canon lift (core func $instance "f")))"#)
        });
        let exports: String = exports.collect();
        let text = format!(
            r#"(component (core module $module (func (export "f")))
                (core instance $instance (instantiate $module)) {exports})"#
        );
        wat::parse_str(text).unwrap()
    }

    /// `expected` is the message without what all begin with; empty for a file that fits.
    fn check(component: &str, file: &[u8], role: Role, expected: &str) {
        let unfit = FileKind::of(file).unfit((component, "h"), (role, "m"));
        let message = unfit.map(|unfit| unfit.message).unwrap_or_default();
        let prefix = format!("component {component} ");
        let shown = message.strip_prefix(&prefix).unwrap_or(&message);
        assert!(shown.starts_with(expected), "{shown}");
        assert_eq!(shown.is_empty(), expected.is_empty(), "{shown}");
    }

    #[test]
    fn a_file_that_no_model_can_call_is_described() {
        use Role::{Postprocess, Preprocess};
        let (before, after) = (exporting(&["preprocess"]), exporting(&["postprocess"]));
        check("a.wasm", &before, Preprocess, "");
        check("a.wasm", &after, Postprocess, "");
        let swapped = "exports postprocess, and model m uses it as preprocess";
        check("a.wasm", &after, Preprocess, swapped);
        let swapped = "exports preprocess, and model m uses it as postprocess";
        check("a.wasm", &before, Postprocess, swapped);
        check(
            "a.wasm",
            &exporting(&[]),
            Preprocess,
            "exports no function, and",
        );
        let other = "exports no preprocess, but run, and model m uses it as preprocess";
        check("a.wasm", &exporting(&["run"]), Preprocess, other);
        let longest = "r".repeat(MAX_SHOWN_BYTES);
        let other = format!("exports no preprocess, but {longest}, and model m");
        let long = exporting(&["r".repeat(10_000).as_str()]);
        check("a.wasm", &long, Preprocess, &other);
        let module = wat::parse_str(r#"(module (func (export "preprocess")))"#).unwrap();
        let core = "is a core module of WebAssembly, and no component";
        check("a.wasm", &module, Preprocess, core);
        let cut = before.get(..before.len().saturating_sub(3)).unwrap();
        check("a.wasm", cut, Preprocess, "is no valid component: ");
        check("a.wasm", b"\0asm", Preprocess, "is no valid component: ");
        let two = "is no WebAssembly component: it has 2 bytes";
        check("a.wasm", b"ab", Preprocess, two);
        let python = "is no WebAssembly component: it is source in Python";
        check("a.py", b"def preprocess(input):", Preprocess, python);
    }

    #[test]
    fn functions_of_what_a_component_contains_are_not_its_own() {
        let inner = r#"(component (component (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func (export "preprocess") (canon lift (core func $i "f")))))"#;
        let file = wat::parse_str(inner).unwrap();
        assert_eq!(FileKind::of(&file), FileKind::Component(Vec::new()));
    }
}
