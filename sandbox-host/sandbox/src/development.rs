//! Development components: a language's runtime whose calls read the author's code from the host.
//!
//! A change of the code leaves the runtime as it is, so nothing is compiled again. The file is the
//! runtime with the code in a last custom section. Only the programs of authors load such a file.

use wasmparser::BinaryReader;
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use crate::call_state::CallState;

/// The interface that returns the code, which no handler of a policy in production may import.
pub(super) const SOURCES: &str = "tensorgate:development/sources@0.1.0";

/// The name of the custom section with the code.
pub const SOURCES_SECTION: &str = "tensorgate-sources";

/// The bytes of a component's magic and version.
const HEADER_BYTES: usize = 8;
/// The ID of a custom section.
const CUSTOM: u8 = 0;

/// Splits a file into a component and the content of a custom section of this name. `None` if its
/// last section is another one.
pub(super) fn split<'f>(file: &'f [u8], name: &str) -> Option<(&'f [u8], &'f [u8])> {
    let mut reader = BinaryReader::new(file, 0);
    reader.read_bytes(HEADER_BYTES).ok()?;
    loop {
        let start = reader.current_position();
        let id = reader.read_u8().ok()?;
        let length = usize::try_from(reader.read_var_u32().ok()?).ok()?;
        let content = reader.read_bytes(length).ok()?;
        if !reader.eof() {
            continue;
        }
        let mut content = BinaryReader::new(content, 0);
        if id != CUSTOM || content.read_string().ok()? != name {
            return None;
        }
        let bytes = content.bytes_remaining();
        return Some((file.get(..start)?, content.read_bytes(bytes).ok()?));
    }
}

/// Adds the interface to a linker.
pub(super) fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    linker.instance(SOURCES)?.func_wrap(
        "read",
        |mut store: StoreContextMut<'_, CallState>, (): ()| {
            store.data_mut().enter_host()?;
            Ok((store.data().sources.to_vec(),))
        },
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use wasm_encoder::{Component, CustomSection};

    use super::*;

    /// A component with custom sections of these names, each with its name as content.
    fn component(sections: &[&str]) -> Vec<u8> {
        let mut component = Component::new();
        for name in sections {
            component.section(&CustomSection {
                name: (*name).into(),
                data: name.as_bytes().into(),
            });
        }
        component.finish()
    }

    #[test]
    fn only_a_last_section_has_the_code() {
        let runtime = component(&["one"]);
        let file = component(&["one", SOURCES_SECTION]);
        let code = SOURCES_SECTION.as_bytes();
        assert_eq!(
            split(&file, SOURCES_SECTION),
            Some((runtime.as_slice(), code))
        );
        for other in [
            component(&[]),
            component(&["one"]),
            component(&[SOURCES_SECTION, "one"]),
            file.get(..file.len().saturating_sub(1)).unwrap().to_vec(),
            b"text".to_vec(),
        ] {
            assert_eq!(split(&other, SOURCES_SECTION), None);
        }
    }
}
