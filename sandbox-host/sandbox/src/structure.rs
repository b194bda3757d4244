//! Limits on the size and structure of a component, checked before compilation. Compile time and
//! memory grow with the size of a component, and faster than linearly with the size of one
//! function.

use wasmparser::{Parser, Payload};

use super::fixed_limits::{
    MAX_CODE_BYTES, MAX_FUNCTION_BYTES, MAX_FUNCTIONS, MAX_MODULES, MAX_NESTING,
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use wasm_encoder::{
        CodeSection, Component, Function, FunctionSection, Module, ModuleSection, TypeSection,
    };

    use super::*;

    /// A component of one module with functions of so many `nop` instructions. Megabytes of text
    /// would take seconds to parse.
    fn with_functions(nops: &[usize]) -> Vec<u8> {
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
        let mut module = Module::new();
        module.section(&types).section(&functions).section(&code);
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
}
