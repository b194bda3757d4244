//! Composes the tensor kit into a handler, in place of the kit's imports.

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use tensorgate_cli_common::Failure;

/// The kit's component, built from `wit/kit` by `tools/kit.sh`, compressed.
pub const KIT: &[u8] = include_bytes!("../../kit/kit.wasm.gz");

/// WIT contract of the kit.
pub const WIT: &str = include_str!("../../kit.wit");

/// Whether a project in JavaScript uses the kit. Projects that `handler new` created before the kit
/// existed do not.
pub fn is_used(folder: &Path) -> bool {
    folder.join("kit.js").is_file()
}

/// A component with the kit composed into it, if the component imports the kit.
///
/// # Errors
/// The component's imports do not match the kit.
pub fn compose(component: &[u8]) -> Result<Vec<u8>, Failure> {
    tensorgate_componentize::compose(component, &kit()?).map_err(Failure::Failed)
}

fn kit() -> Result<Vec<u8>, Failure> {
    let mut kit = Vec::new();
    GzDecoder::new(KIT)
        .read_to_end(&mut kit)
        .map_err(|cause| Failure::Failed(format!("the tensor kit in this binary: {cause}")))?;
    Ok(kit)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_kit_exports_its_interface_and_imports_nothing() {
        let surface = tensorgate_componentize::surface(&kit().unwrap()).unwrap();
        assert!(surface.is_kit(), "{surface:?}");
        assert!(!surface.is_handler());
    }

    #[test]
    fn the_kit_replaces_its_import_and_nothing_else_changes() {
        let handler = wat::parse_str(
            r#"(component
                (import "tensorgate:handler/log@0.1.0" (instance $log))
                (import "tensorgate:kit/arrays@0.1.0" (instance $kit (export "array" (type (sub resource)))))
                (import "tensorgate:kit/blocks@0.1.0" (instance $blocks))
                (import "tensorgate:handler/config@0.1.0" (instance $config))
                (alias export $kit "array" (type $array))
                (core func $drop (canon resource.drop $array))
                (component $own)
                (instance $mine (instantiate $own))
                (export "mine" (instance $mine))
                (export "given" (instance $config)))"#,
        )
        .unwrap();
        let joined = compose(&handler).unwrap();
        let surface = tensorgate_componentize::surface(&joined).unwrap();
        assert_eq!(
            surface.imports,
            [
                "tensorgate:handler/log@0.1.0",
                "tensorgate:handler/config@0.1.0"
            ]
        );
        assert_eq!(surface.exports, ["mine", "given"]);
        assert_eq!(compose(&handler).unwrap(), joined);
        assert_eq!(compose(&joined).unwrap(), joined);
    }

    #[test]
    fn the_kit_fits_a_python_handler_that_decodes_images() {
        use tensorgate_componentize::python::{Image, World, handler};

        let memory = vec![0; 640 << 16];
        let image = |world, images| Image {
            runtime: [7; 32],
            zip_bytes: 5_000,
            memory: &memory,
            exchange: 4_096,
            entry: 1_234,
            world,
            fetch: true,
            lookup: true,
            images,
        };
        for world in [World::Preprocess, World::Postprocess] {
            let joined = compose(&handler(&image(world, true)).unwrap()).unwrap();
            let plain = handler(&image(world, false)).unwrap();
            assert_eq!(
                tensorgate_componentize::surface(&joined),
                tensorgate_componentize::surface(&plain)
            );
        }
    }

    #[test]
    fn an_import_that_the_kit_lacks_is_refused() {
        let asking = |export: &str| {
            let text = format!(
                r#"(component (import "tensorgate:kit/arrays@0.1.0" (instance $kit (export "{export}" (type (sub resource))))) (alias export $kit "{export}" (type)))"#
            );
            compose(&wat::parse_str(text).unwrap())
        };
        assert!(asking("array").is_ok());
        let error = asking("socket").unwrap_err().to_string();
        assert!(error.contains("does not fit"), "{error}");
    }
}
