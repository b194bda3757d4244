//! The imports and exports of a module or a component. The host links a handler's own interfaces
//! and a part of WASI. Other imports are reported here, at build time, and not when the policy is
//! loaded.

use wasmparser::{BinaryReaderError, ComponentTypeRef, Parser, Payload, TypeBounds};

/// The package of all imports of a handler.
const PACKAGE: &str = "tensorgate:handler/";

/// The tensor kit's interface.
pub const KIT: &str = "tensorgate:kit/arrays@0.1.0";

/// The kit's functions that pass many bytes, in blocks.
pub const BLOCKS: &str = "tensorgate:kit/blocks@0.1.0";

/// What a component imports of the runtime that handlers share: the library, and the code by the
/// digest of its file.
const RUNTIME: [&str; 3] = ["tensorgate:runtime/", "integrity=<sha256-", "python-x"];

/// The interfaces of WASI that a host links, with nothing behind files and the environment.
const WASI: [&str; 20] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// The start of the version of each. Versions of WASI 0.2 are compatible.
const WASI_VERSION: &str = "0.2.";

/// What to do about imports that no host provides, by the start of their name.
const ADVICE: [(&str, &str); 4] = [
    (
        "wasi:sockets/",
        "a handler has no sockets: use `fetch` or `lookup`, if the policy grants them",
    ),
    (
        "wasi:http/",
        "a handler has no HTTP client or server: use `fetch`, if the policy grants it",
    ),
    (
        "wasi_snapshot_preview1",
        "this is WASI 0.1: build with --target wasm32-wasip2",
    ),
    (
        "wasi:",
        "of WASI, a host provides only cli, clocks, filesystem, io and random in version 0.2",
    ),
];

/// The module prefix of a core module's imports for its own exported resources, which
/// `wit-component` satisfies itself.
const OWN_EXPORT: &str = "[export]";

/// The exported functions of a handler, one for each world.
const EXPORTS: [&str; 2] = ["preprocess", "postprocess"];

/// The outermost imports and exports, which the host sees. Nested modules import from the
/// component's own instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surface {
    /// Whether it is a component rather than a core module.
    pub component: bool,
    /// The imports in their order: interfaces of a component, or `module#name` of a core module.
    /// Type names are excluded, because they cannot be called.
    pub imports: Vec<String>,
    /// The exports of a component in their order.
    pub exports: Vec<String>,
}

impl Surface {
    /// The imports that no host provides.
    pub fn foreign(&self) -> Vec<&str> {
        let imports = self.imports.iter().map(String::as_str);
        let own = |import: &str| !self.component && import.starts_with(OWN_EXPORT);
        imports
            .filter(|import| !import.starts_with(PACKAGE) && !is_wasi(import) && !own(import))
            .filter(|import| !self.component || !RUNTIME.iter().any(|it| import.starts_with(it)))
            .collect()
    }

    /// Whether a component exports the tensor kit and imports nothing.
    pub fn is_kit(&self) -> bool {
        self.component && self.imports.is_empty() && self.exports.iter().any(|export| export == KIT)
    }

    /// Whether a component exports a handler's function.
    pub fn is_handler(&self) -> bool {
        self.exports
            .iter()
            .any(|export| EXPORTS.contains(&export.as_str()))
    }
}

/// Whether a host links this interface of WASI, or this function of it.
fn is_wasi(import: &str) -> bool {
    let interface = import.split('#').next().unwrap_or(import);
    interface
        .split_once('@')
        .is_some_and(|(name, version)| WASI.contains(&name) && version.starts_with(WASI_VERSION))
}

/// Names imports that no host provides, each interface once, and says what to do about the first.
pub fn refusal(foreign: &[&str]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for import in foreign {
        let name = import.split('#').next().unwrap_or(import);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let first = names.first().copied().unwrap_or_default();
    let advice = ADVICE.iter().find(|(start, _)| first.starts_with(start));
    let advice = advice.map_or(
        "a handler may import tensorgate:handler and a part of WASI 0.2",
        |(_, advice)| *advice,
    );
    format!(
        "imports {}, which no host provides: {advice}",
        names.join(", ")
    )
}

/// Reads the imports and exports of a module or a component, without compiling it.
///
/// # Errors
/// The parser's error if it is neither.
pub fn surface(wasm: &[u8]) -> Result<Surface, String> {
    read(wasm).map_err(|error| error.to_string())
}

fn read(wasm: &[u8]) -> Result<Surface, BinaryReaderError> {
    let mut surface = Surface::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::Version { encoding, .. } if depth == 0 => {
                surface.component = encoding == wasmparser::Encoding::Component;
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                depth = depth.saturating_add(1)
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ImportSection(section) if depth == 0 => {
                for import in section.into_imports() {
                    let import = import?;
                    surface
                        .imports
                        .push(format!("{}#{}", import.module, import.name));
                }
            }
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let import = import?;
                    // A world imports the types that it uses.
                    let names_a_type =
                        matches!(import.ty, ComponentTypeRef::Type(TypeBounds::Eq(_)));
                    if !names_a_type {
                        surface.imports.push(import.name.name.to_owned());
                    }
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    surface.exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(surface)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// A module that imports one function without parameters.
    fn importing(module: &str, name: &str) -> Vec<u8> {
        let sized = |bytes: &[u8]| [&[u8::try_from(bytes.len()).unwrap()], bytes].concat();
        let import = [
            &[1],
            sized(module.as_bytes()).as_slice(),
            &sized(name.as_bytes()),
            &[0, 0],
        ]
        .concat();
        [
            b"\0asm\x01\0\0\0".as_slice(),
            &[1, 4, 1, 0x60, 0, 0],
            &[2],
            &sized(&import),
        ]
        .concat()
    }

    #[test]
    fn a_foreign_import_is_named() {
        for (module, expected) in [
            ("tensorgate:handler/log@0.1.0", &[][..]),
            ("wasi_snapshot_preview1", &["wasi_snapshot_preview1#f"]),
            ("wasi:io/streams@0.2.0", &[]),
            ("wasi:random/insecure-seed@0.2.12", &[]),
            ("wasi:io/streams@0.3.0", &["wasi:io/streams@0.3.0#f"]),
            ("wasi:io/streams", &["wasi:io/streams#f"]),
            ("wasi:sockets/tcp@0.2.9", &["wasi:sockets/tcp@0.2.9#f"]),
            (
                "tensorgate:handlers/log@0.1.0",
                &["tensorgate:handlers/log@0.1.0#f"],
            ),
            ("env", &["env#f"]),
            ("", &["#f"]),
        ] {
            let found = surface(&importing(module, "f")).unwrap();
            assert!(!found.component);
            assert_eq!(found.foreign(), expected, "{module}");
        }
    }

    #[test]
    fn a_refusal_names_each_interface_once_with_what_to_do() {
        for (foreign, expected) in [
            (
                &["wasi:sockets/tcp@0.2.6#a", "wasi:sockets/tcp@0.2.6#b"][..],
                "imports wasi:sockets/tcp@0.2.6, which no host provides: a handler has no sockets",
            ),
            (
                &["wasi:http/types@0.2.0", "acme:gpu/device"],
                "imports wasi:http/types@0.2.0, acme:gpu/device, which no host provides: a handler has no HTTP",
            ),
            (
                &["wasi_snapshot_preview1#fd_write"],
                "imports wasi_snapshot_preview1, which no host provides: this is WASI 0.1",
            ),
            (
                &["wasi:nn/graph@0.2.0"],
                "wasi:nn/graph@0.2.0, which no host provides: of WASI,",
            ),
            (
                &["env#f"],
                "imports env, which no host provides: a handler may import",
            ),
        ] {
            let found = refusal(foreign);
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn a_component_without_a_handlers_export_is_none() {
        // An empty component, and one that exports an empty instance under a name.
        let empty = b"\0asm\x0d\0\x01\0".to_vec();
        let exporting = |name: &str| {
            let export = [
                &[1, 0, u8::try_from(name.len()).unwrap()],
                name.as_bytes(),
                &[5, 0, 0],
            ]
            .concat();
            let instance = [5, 3, 1, 1, 0];
            [
                empty.as_slice(),
                &instance,
                &[11, u8::try_from(export.len()).unwrap()],
                &export,
            ]
            .concat()
        };
        for (component, expected) in [
            (empty.clone(), false),
            (exporting("process"), false),
            (exporting("preprocess"), true),
            (exporting("postprocess"), true),
        ] {
            let found = surface(&component).unwrap();
            assert!(found.component);
            assert_eq!(found.is_handler(), expected, "{component:?}");
        }
    }

    #[test]
    fn what_is_no_wasm_is_refused() {
        for file in [b"".as_slice(), b"text", b"\0asm\x01\0\0\0\x02\xff"] {
            assert!(surface(file).is_err(), "{file:?}");
        }
    }
}
