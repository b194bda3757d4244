//! Which imports a handler may have, and which exports it must. The host links nothing else, so another import is found out here,
//! at the author's desk, and not when the policy is loaded.

use wasmparser::{ComponentTypeRef, Parser, Payload, TypeBounds};

use crate::Fault;

/// The package that all of a handler's imports come from.
const PACKAGE: &str = "tensorgate:handler/";

/// What a handler is called by: one for each world.
const EXPORTS: [&str; 2] = ["preprocess", "postprocess"];

/// Looks at the imports of a module or a component: the inner result names those that are foreign.
pub fn only_handler(wasm: &[u8], path: &str) -> Result<Result<(), String>, Fault> {
    let malformed = |error: wasmparser::BinaryReaderError| Fault::Encode {
        path: path.to_owned(),
        detail: error.to_string(),
    };
    let mut foreign = Vec::new();
    // Modules nested in a component import from its own instances: only the outermost imports reach the host.
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(malformed)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                depth = depth.saturating_add(1)
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ImportSection(section) if depth == 0 => {
                for import in section.into_imports() {
                    let import = import.map_err(malformed)?;
                    if !import.module.starts_with(PACKAGE) {
                        foreign.push(format!("{}#{}", import.module, import.name));
                    }
                }
            }
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let import = import.map_err(malformed)?;
                    // A world names the types that it uses: a name for something is not something to call.
                    let names_a_type =
                        matches!(import.ty, ComponentTypeRef::Type(TypeBounds::Eq(_)));
                    if !names_a_type && !import.name.name.starts_with(PACKAGE) {
                        foreign.push(import.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(if foreign.is_empty() {
        Ok(())
    } else {
        Err(foreign.join(", "))
    })
}

/// Whether a component exports what a handler is called by. A crate that forgot its export macro makes one that does not.
pub fn is_handler(component: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut found = false;
    for payload in Parser::new(0).parse_all(component).map_while(Result::ok) {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                depth = depth.saturating_add(1)
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentExportSection(section) if depth == 0 => {
                found |= section
                    .into_iter()
                    .flatten()
                    .any(|export| EXPORTS.contains(&export.name.name));
            }
            _ => {}
        }
    }
    found
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
            ("tensorgate:handler/log@0.1.0", Ok(())),
            ("wasi_snapshot_preview1", Err("wasi_snapshot_preview1#f")),
            ("wasi:io/streams@0.2.0", Err("wasi:io/streams@0.2.0#f")),
            (
                "tensorgate:handlers/log@0.1.0",
                Err("tensorgate:handlers/log@0.1.0#f"),
            ),
            ("env", Err("env#f")),
            ("", Err("#f")),
        ] {
            let found = only_handler(&importing(module, "f"), "f.wasm").unwrap();
            assert_eq!(found, expected.map_err(str::to_owned), "{module}");
        }
    }

    #[test]
    fn a_component_without_a_handlers_export_is_none() {
        // An empty component; one that exports an empty instance under a name.
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
            assert_eq!(is_handler(&component), expected, "{component:?}");
        }
    }

    #[test]
    fn what_is_no_wasm_is_refused() {
        for file in [b"".as_slice(), b"text", b"\0asm\x01\0\0\0\x02\xff"] {
            assert!(only_handler(file, "f.wasm").is_err(), "{file:?}");
        }
    }
}
