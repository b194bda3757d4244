//! What a component offers instead of a module that it lacks.

/// Why a component lacks a module of compiled code. `{}` is the module.
pub const COMPILED: &str = "a component cannot contain {}";

/// Why a component lacks a module for files, processes or threads. `{}` is the module.
pub const NO_SYSTEM: &str = "a component has no operating system, so no {}";

/// Why a component lacks a module for connections. `{}` is the module.
pub const NO_NETWORK: &str = "a component has no network, so no {}";

/// Modules that a component lacks for one reason, and one alternative.
pub struct Hint {
    /// The modules' names, as an import or a manifest has them.
    pub modules: &'static [&'static str],
    /// Why the component lacks them. `{}` is the module.
    pub why: &'static str,
    /// What to use, as the rest of the sentence.
    pub instead: &'static str,
}

impl Hint {
    /// The sentence for one of the modules.
    fn text(&self, module: &str) -> String {
        format!("{}: {}", self.why.replace("{}", module), self.instead)
    }
}

/// The sentence for a module that a table names.
pub fn hint(table: &[Hint], module: &str) -> Option<String> {
    let known = table.iter().find(|hint| hint.modules.contains(&module))?;
    Some(known.text(module))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::build_error::js_hints::JS;
    use crate::build_error::python_hints::PYTHON;
    use crate::build_error::rust_hints::RUST;

    /// What documents the alternatives.
    const DOCUMENTS: [&str; 11] = [
        include_str!("../../../../docs/how-to/handler-fetch.md"),
        include_str!("../../../../docs/how-to/handler-javascript.md"),
        include_str!("../../../../docs/how-to/handler-library.md"),
        include_str!("../../../../docs/how-to/handler-lookups.md"),
        include_str!("../../../../docs/how-to/handler-python.md"),
        include_str!("../../../../docs/how-to/handler-rust.md"),
        include_str!("../../../../docs/reference/policy.md"),
        include_str!("../../../guest/src/lib.rs"),
        include_str!("../../../js/kit.js"),
        include_str!("../../../js/tensorgate.js"),
        include_str!("../../../python/tensorgate/__init__.py"),
    ];

    #[test]
    fn every_hint_is_a_short_text_that_names_documented_alternatives() {
        for (language, table) in [("Python", PYTHON), ("JavaScript", JS), ("Rust", RUST)] {
            let mut modules = BTreeSet::new();
            for hint in table {
                for module in hint.modules {
                    assert!(modules.insert(*module), "{language} has {module} twice");
                }
                let text = hint.text(hint.modules.first().copied().unwrap_or_default());
                assert!(text.matches(". ").count() <= 1, "{text}");
                assert!(!text.contains("{}") && !text.ends_with('.'), "{text}");
                // Every other part of a text between backticks is a name.
                let names: Vec<&str> = hint.instead.split('`').skip(1).step_by(2).collect();
                assert!(!names.is_empty(), "{text}");
                for name in names {
                    let is_documented = DOCUMENTS.iter().any(|text| text.contains(name));
                    assert!(is_documented, "{language}: no document has {name}");
                }
            }
        }
    }

    #[test]
    fn a_hint_names_the_module() {
        assert_eq!(
            hint(PYTHON, "ssl").as_deref(),
            Some(
                "a component has no network, so no ssl: request files with `fetch` and features with `lookup`, which the policy grants"
            )
        );
        assert_eq!(hint(PYTHON, "json"), None);
    }
}
