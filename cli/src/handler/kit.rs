//! The tensor kit on its way into a handler: the component that takes the place of what the handler's tools let it import.

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

use super::project::Language;
use crate::Failure;

/// The component, as `tools/kit.sh` makes it of `wit/kit`, compressed.
const KIT: &[u8] = include_bytes!("../../../wit/kit/kit.wasm.gz");

/// Its contract.
pub const WIT: &str = include_str!("../../../wit/kit.wit");

/// Whether a project speaks to the kit: what `handler new` makes does, what it made before there was one does not.
pub fn is_asked(language: Language, folder: &Path) -> bool {
    match language {
        Language::Rust => false,
        Language::Python => folder.join("tensorgate/kit.py").is_file(),
        Language::Js => folder.join("kit.js").is_file(),
    }
}

/// A component with the kit inside it, if it imports one.
///
/// # Errors
/// If the two do not go together.
pub fn inside(component: &[u8]) -> Result<Vec<u8>, Failure> {
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
    fn the_kit_offers_its_interface_and_asks_for_nothing() {
        let surface = tensorgate_componentize::surface(&kit().unwrap()).unwrap();
        assert!(surface.is_kit(), "{surface:?}");
        assert!(!surface.is_handler());
    }

    #[test]
    fn the_kit_takes_the_place_of_its_import_and_nothing_else_moves() {
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
        let joined = inside(&handler).unwrap();
        let surface = tensorgate_componentize::surface(&joined).unwrap();
        assert_eq!(
            surface.imports,
            [
                "tensorgate:handler/log@0.1.0",
                "tensorgate:handler/config@0.1.0"
            ]
        );
        assert_eq!(surface.exports, ["mine", "given"]);
        assert_eq!(inside(&handler).unwrap(), joined);
        assert_eq!(inside(&joined).unwrap(), joined);
    }

    #[test]
    fn what_the_kit_does_not_offer_is_no_handler() {
        let asking = |export: &str| {
            let text = format!(
                r#"(component (import "tensorgate:kit/arrays@0.1.0" (instance $kit (export "{export}" (type (sub resource))))) (alias export $kit "{export}" (type)))"#
            );
            inside(&wat::parse_str(text).unwrap())
        };
        assert!(asking("array").is_ok());
        let told = asking("socket").unwrap_err().to_string();
        assert!(told.contains("does not fit"), "{told}");
    }
}
