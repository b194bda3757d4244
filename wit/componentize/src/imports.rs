//! The imports and exports of a module or a component. The host links only a handler's own
//! interfaces, so other imports are reported here, at build time, and not when the policy is
//! loaded.

use wasmparser::{BinaryReaderError, ComponentTypeRef, Parser, Payload, TypeBounds};

/// The package of all imports of a handler.
const PACKAGE: &str = "tensorgate:handler/";

/// The tensor kit's interface.
pub const KIT: &str = "tensorgate:kit/arrays@0.1.0";

/// The kit's functions that pass many bytes, in blocks.
pub const BLOCKS: &str = "tensorgate:kit/blocks@0.1.0";

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
            .filter(|import| !import.starts_with(PACKAGE) && !own(import))
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
            ("wasi:io/streams@0.2.0", &["wasi:io/streams@0.2.0#f"]),
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
