//! Limits on the size and structure of a component, checked before compilation. Compile time and
//! memory grow with the size of a component, and faster than linearly with the size of one
//! function.

use sha2::{Digest as _, Sha256};
use wasmparser::{Parser, Payload};

use crate::fixed_limits::{
    MAX_CODE_BYTES, MAX_FUNCTION_BYTES, MAX_FUNCTIONS, MAX_MODULES, MAX_NESTING,
    MIN_REUSED_CODE_BYTES, PAGE_BYTES,
};

/// The export of a module that has to be configured. Configuration removes it.
const CONFIGURE: &str = "tensorgate-configure";
const UNCONFIGURED: &str = "it has to be configured first: `tensorgate handler configure COMPONENT --file FILE -o NEW.wasm`";

/// Rejects components that are too large or not configured. The error text is for the operator. A
/// file that is no component is left to the compiler to reject.
///
/// # Errors
/// Returns the limit that is exceeded.
pub(super) fn within_bounds(file: &[u8]) -> Result<(), String> {
    let (mut modules, mut functions, mut code, mut nesting) = (0_usize, 0_usize, 0_usize, 0_usize);
    let most = |what: &str, found: usize, max: usize| {
        if found > max {
            Err(format!("{found} {what}, at most {max} are compiled"))
        } else {
            Ok(())
        }
    };
    for payload in Parser::new(0).parse_all(file) {
        let Ok(payload) = payload else { return Ok(()) };
        match payload {
            Payload::ModuleSection { .. } => {
                modules = modules.saturating_add(1);
                nesting = nesting.saturating_add(1);
                most("modules", modules, MAX_MODULES)?;
            }
            Payload::ComponentSection { .. } => {
                nesting = nesting.saturating_add(1);
                most("components in each other", nesting, MAX_NESTING)?;
            }
            Payload::ExportSection(exports) => {
                let mut names = exports.into_iter().flatten().map(|export| export.name);
                if names.any(|name| name == CONFIGURE) {
                    return Err(UNCONFIGURED.to_owned());
                }
            }
            Payload::End(_) => nesting = nesting.saturating_sub(1),
            Payload::CodeSectionEntry(body) => {
                let bytes = body.range().len();
                functions = functions.saturating_add(1);
                code = code.saturating_add(bytes);
                most("bytes of one function", bytes, MAX_FUNCTION_BYTES)?;
                most("functions", functions, MAX_FUNCTIONS)?;
                most("bytes of code", code, MAX_CODE_BYTES)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The bytes of all memories in a component at their start.
pub(super) fn initial_memory_bytes(file: &[u8]) -> u64 {
    let payloads = Parser::new(0).parse_all(file).map_while(Result::ok);
    let memories = payloads.filter_map(|payload| match payload {
        Payload::MemorySection(memories) => Some(memories.into_iter().flatten()),
        _ => None,
    });
    (memories.flatten())
        .map(|memory| memory.initial.saturating_mul(PAGE_BYTES))
        .fold(0, u64::saturating_add)
}

/// Whether a file starts as a component does.
pub(super) fn is_wasm(file: &[u8]) -> bool {
    file.starts_with(b"\0asm")
}

/// A digest of a component without what the build of a handler changes: the content and the size of
/// memories, the types of functions, and exports. `None` if a component has little code, more than
/// any component may have, or is none.
///
/// Compiled functions of components with one digest are exchanged. So all code is part of it: a
/// component that takes over its compiler by its code shares functions with none but its like.
pub(super) fn code_digest(file: &[u8]) -> Option<[u8; 32]> {
    let mut digest = Sha256::new();
    // No component starts like this ([`is_wasm`]), so no component's own digest is one of these.
    digest.update(b"compiled functions of");
    let mut code_bytes = 0_usize;
    for payload in Parser::new(0).parse_all(file) {
        let payload = payload.ok()?;
        let (id, range) = match &payload {
            Payload::DataSection(_)
            | Payload::DataCountSection { .. }
            | Payload::MemorySection(_)
            | Payload::FunctionSection(_)
            | Payload::ExportSection(_)
            // A part of its section, which came before.
            | Payload::CodeSectionEntry(_) => continue,
            // What they contain comes next.
            Payload::ModuleSection { .. } => (b'm', 0..0),
            Payload::ComponentSection { .. } => (b'c', 0..0),
            Payload::End(_) => (b'e', 0..0),
            Payload::CodeSectionStart { range, .. } => {
                code_bytes = code_bytes.saturating_add(range.len());
                (b'f', range.clone())
            }
            other => other.as_section().unwrap_or((b'v', 0..0)),
        };
        let section = file.get(range)?;
        digest.update([id]);
        digest.update(u64::try_from(section.len()).ok()?.to_le_bytes());
        digest.update(section);
    }
    (MIN_REUSED_CODE_BYTES..=MAX_CODE_BYTES)
        .contains(&code_bytes)
        .then(|| digest.finalize().into())
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]
mod tests {
    use wasm_encoder::{
        CodeSection, Component, ConstExpr, CustomSection, DataSection, Function, FunctionSection,
        MemorySection, MemoryType, Module, ModuleSection, TypeSection,
    };

    use super::*;

    /// A component of one module with functions of so many `nop` instructions. Megabytes of text
    /// would take seconds to parse.
    fn with_functions(nops: &[usize]) -> Vec<u8> {
        with_memory(nops, 1, "", "")
    }

    /// The same with a memory of so many pages, its content, and another section.
    fn with_memory(nops: &[usize], pages: u64, content: &str, other: &str) -> Vec<u8> {
        let mut types = TypeSection::new();
        types.ty().function([], []);
        let mut functions = FunctionSection::new();
        let mut code = CodeSection::new();
        for &count in nops {
            functions.function(0);
            let mut function = Function::new([]);
            function.raw(std::iter::repeat_n(0x01, count));
            function.instructions().end();
            code.function(&function);
        }
        let mut memories = MemorySection::new();
        memories.memory(MemoryType {
            minimum: pages,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        let mut data = DataSection::new();
        data.active(0, &ConstExpr::i32_const(0), content.bytes());
        let mut module = Module::new();
        module.section(&types).section(&functions);
        module.section(&memories).section(&code).section(&data);
        module.section(&CustomSection {
            name: "other".into(),
            data: other.as_bytes().into(),
        });
        let mut component = Component::new();
        component.section(&ModuleSection(&module));
        component.finish()
    }

    #[test]
    fn what_is_larger_than_anything_that_is_compiled_is_refused_by_what_is_too_large() {
        let text = |fields: String| wat::parse_str(format!("(component {fields})")).unwrap();
        let module = |fields: &str| format!("(core module {fields})");
        let long = MAX_FUNCTION_BYTES - 16;
        for (component, expected) in [
            (with_functions(&[1_000]), None),
            (
                with_functions(&[MAX_FUNCTION_BYTES]),
                Some("bytes of one function"),
            ),
            (
                text(module(&"(func)".repeat(MAX_FUNCTIONS + 1))),
                Some("functions"),
            ),
            (
                with_functions(&[long].repeat(MAX_CODE_BYTES / MAX_FUNCTION_BYTES + 1)),
                Some("bytes of code"),
            ),
            (text(module("").repeat(MAX_MODULES + 1)), Some("modules")),
            (
                text(module(r#"(func (export "tensorgate-configure"))"#)),
                Some("has to be configured first"),
            ),
            (
                text(format!(
                    "{}{}",
                    "(component ".repeat(MAX_NESTING + 1),
                    ")".repeat(MAX_NESTING + 1)
                )),
                Some("components in each other"),
            ),
        ] {
            let found = within_bounds(&component).err();
            let named = found
                .as_ref()
                .map(|fault| fault.split(' ').skip(1).collect::<Vec<_>>().join(" "));
            let right = match (&named, expected) {
                (Some(named), Some(expected)) => named.starts_with(expected),
                (None, None) => true,
                _ => false,
            };
            assert!(right, "{expected:?}: {found:?}");
        }
        assert_eq!(within_bounds(b"no component"), Ok(()));
    }

    #[test]
    fn the_memories_at_the_start_are_counted_together() {
        let memories = r#"(component (core module (memory 2)) (core module (memory 3 9)
            (data (i32.const 0) "x")) (core module (import "a" "b" (memory 7))))"#;
        let component = wat::parse_str(memories).unwrap();
        assert_eq!(initial_memory_bytes(&component), 5 * PAGE_BYTES);
        assert_eq!(initial_memory_bytes(b"no component"), 0);
    }

    #[test]
    fn only_memory_may_differ_between_components_that_share_functions() {
        let code = [MIN_REUSED_CODE_BYTES / 4; 5];
        let digest = code_digest(&with_memory(&code, 1, "one", "same"));
        assert!(digest.is_some());
        assert_eq!(
            code_digest(&with_memory(&code, 2, "another", "same")),
            digest
        );
        let mut longer = code;
        longer[4] += 1;
        for (what, component) in [
            ("another section", with_memory(&code, 1, "one", "other")),
            ("a function", with_memory(&longer, 1, "one", "same")),
            (
                "one function less",
                with_memory(&code[1..], 1, "one", "same"),
            ),
            ("little code", with_memory(&[1_000], 1, "one", "same")),
            ("no component", b"no component".to_vec()),
        ] {
            assert_ne!(code_digest(&component), digest, "{what}");
        }
        let mut flipped = with_memory(&code, 1, "one", "same");
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        assert_ne!(code_digest(&flipped), digest, "a byte of code");
        let little = code_digest(&with_memory(&[1_000], 1, "one", "same"));
        assert_eq!(little, None);
    }
}
