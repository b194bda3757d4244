//! Components that are rejected before any call.

use tensorgate_sandbox::{CompilerConfig, SOURCES_SECTION};

use super::*;

#[test]
fn forbidden_imports_are_rejected_at_load_by_name() {
    let sandbox = sandbox();
    let empty = "(module (memory (export \"memory\") 1) (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) (unreachable)) IMPORT (func (export \"preprocess\") (param i32 i32 i32 i32 i32) (result i32) (unreachable)))";
    let own = include_str!("../../../../wit/0.1/handler.wit");
    let with = |wit: &str, import: &str| {
        // Core imports come first in a module.
        let module = empty
            .replace("(memory (export", &format!("{import} (memory (export"))
            .replace("IMPORT", "");
        component(&module, "preprocess", Some(wit))
    };
    let world = |import: &str| {
        own.replace(
            "world preprocess {",
            &format!("world preprocess {{\n    {import}"),
        )
    };
    let no_network = "a handler has no network: build it without sockets and HTTP, or use \
                      `fetch` or `lookups`";
    let of_wasi = "of WASI it may import cli, clocks, filesystem, io and random of version 0.2";
    for (name, component, expected, advice) in [
        (
            "a bare function",
            with(
                &world("import now: func() -> u64;"),
                "(import \"$root\" \"now\" (func (result i64)))",
            ),
            "now",
            "",
        ),
        (
            "an inline interface",
            with(
                &world("import clock: interface { now: func() -> u64; }"),
                "(import \"clock\" \"now\" (func (result i64)))",
            ),
            "clock",
            "",
        ),
        (
            "sockets",
            importing("wasi:sockets/tcp@0.2.9"),
            "wasi:sockets/tcp@0.2.9",
            no_network,
        ),
        (
            "HTTP",
            importing("wasi:http/outgoing-handler@0.2.0"),
            "wasi:http/outgoing-handler@0.2.0",
            no_network,
        ),
        (
            "types of HTTP",
            importing("wasi:http/types@0.2.0"),
            "wasi:http/types@0.2.0",
            no_network,
        ),
        (
            "a later WASI",
            importing("wasi:clocks/monotonic-clock@0.3.0"),
            "wasi:clocks/monotonic-clock@0.3.0",
            of_wasi,
        ),
        (
            "another interface of WASI",
            importing("wasi:keyvalue/store@0.2.0"),
            "wasi:keyvalue/store@0.2.0",
            of_wasi,
        ),
    ] {
        let loaded = load(&sandbox, "h", &component, Role::Preprocess, BUDGET, &[]);
        let fault = loaded.map(|_| ()).unwrap_err();
        let text = fault.to_string();
        match fault {
            LoadFault::Import { import, .. } => {
                assert!(import.contains(expected), "{name}: {import}");
                assert!(text.contains(&format!("imports {import}")), "{text}");
                assert!(text.contains(advice), "{name}: {text}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_component_of_an_unknown_version_is_refused_with_what_to_do() {
    for version in ["0.1.1", "0.3.0", "1.0.0"] {
        let import = format!(r#"(import "tensorgate:handler/log@{version}" (instance))"#);
        let component = wat::parse_str(format!("(component {import})")).unwrap();
        let fault = load(&sandbox(), "h", &component, Role::Preprocess, BUDGET, &[])
            .map(|_| ())
            .unwrap_err()
            .to_string();
        let expected = format!("handler h: needs version {version} of the handler interface");
        assert!(fault.starts_with(&expected), "{fault}");
        assert!(fault.contains("update tensorgate, or build"), "{fault}");
        assert!(!fault.contains('\n'), "{fault}");
    }
}

/// A component in text that imports an interface.
fn importing(interface: &str) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(component (import "{interface}" (instance (export "now" (func (result u64))))))"#,
    ))
    .unwrap()
}

#[test]
fn a_component_that_cannot_be_called_is_refused_at_load() {
    let sandbox = sandbox();
    let honest = preprocess("(unreachable)");
    let hungry = wat::parse_str(
        "(component (core module $m (memory 2000)) (core instance (instantiate $m)))",
    )
    .unwrap();
    let five = wat::parse_str("(component (core module $m (memory 1)) (core instance (instantiate $m)) (core instance (instantiate $m)) (core instance (instantiate $m)) (core instance (instantiate $m)) (core instance (instantiate $m)))").unwrap();
    let other_type = wat::parse_str(
        r#"(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))
            (func (export "preprocess") (canon lift (core func $i "f"))))"#,
    )
    .unwrap();
    for (name, component, role, expected) in [
        (
            "no component",
            b"\0asm\x01\0\0\0".to_vec(),
            Role::Preprocess,
            "not a valid component",
        ),
        (
            "garbage",
            b"garbage".to_vec(),
            Role::Preprocess,
            "not a valid component",
        ),
        (
            "nothing",
            Vec::new(),
            Role::Preprocess,
            "not a valid component",
        ),
        (
            "the other world",
            honest,
            Role::Postprocess,
            "does not implement world postprocess",
        ),
        (
            "another type",
            other_type,
            Role::Preprocess,
            "does not implement world preprocess",
        ),
        (
            "a large memory",
            hungry,
            Role::Preprocess,
            "131072000 bytes of memory",
        ),
        (
            "many memories",
            five,
            Role::Preprocess,
            "5 Wasm linear memories",
        ),
    ] {
        let fault = load(&sandbox, "h", &component, role, BUDGET, &[])
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(fault.contains(expected), "{name}: {fault}");
    }
}

/// Two nested components that pass each other a string: the adapter that joins them has both
/// memories.
#[test]
fn parts_of_a_component_may_pass_texts_to_each_other() {
    let component = wat::parse_str(
        r#"(component
            (component $callee
                (core module $m (memory (export "memory") 1) (func (export "take") (param i32 i32))
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 0))
                (core instance $i (instantiate $m))
                (func (export "take") (param "text" string)
                    (canon lift (core func $i "take") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
            (component $caller
                (import "take" (func $take (param "text" string)))
                (core module $memory (memory (export "memory") 1))
                (core instance $m (instantiate $memory))
                (core func $take (canon lower (func $take) (memory (core memory $m "memory"))))
                (core module $unused (import "" "take" (func (param i32 i32))))
                (core instance (instantiate $unused (with "" (instance (export "take" (func $take)))))))
            (instance $callee (instantiate $callee))
            (instance (instantiate $caller (with "take" (func $callee "take")))))"#,
    )
    .unwrap();
    let fault = load(&sandbox(), "h", &component, Role::Preprocess, BUDGET, &[])
        .map(|_| ())
        .unwrap_err()
        .to_string();
    // Everything except the handler's export was valid.
    assert!(
        fault.contains("does not implement world preprocess"),
        "{fault}"
    );
}

#[test]
fn a_file_that_the_policy_does_not_name_is_not_even_parsed() {
    let policy = policy(&[7; 32], BUDGET, &[]);
    for file in [preprocess("(unreachable)"), b"garbage".to_vec()] {
        let fault = sandbox()
            .load("h", &policy.handlers()["h"], Role::Preprocess, &file)
            .map(|_| ())
            .unwrap_err();
        assert!(matches!(fault, LoadFault::Digest { .. }), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_is_not_called_in_the_other_role() {
    let guest = load(
        &sandbox(),
        "h",
        &preprocess("(unreachable)"),
        Role::Preprocess,
        BUDGET,
        &[],
    )
    .unwrap();
    assert_eq!(
        cause(&guest.postprocess("request", vec![]).await),
        Some(FaultCause::Input)
    );
}

#[test]
fn a_development_build_is_loaded_by_programs_of_authors_only() {
    let runtime = wat::parse_str(
        r#"(component (import "tensorgate:development/sources@0.1.0"
            (instance (export "read" (func (result (list u8)))))))"#,
    )
    .unwrap();
    // A custom section: its length, that of its name, the name, and one byte.
    let name = SOURCES_SECTION.as_bytes();
    let length = u8::try_from(name.len()).unwrap();
    let build = [runtime.as_slice(), &[0, length + 2, length][..], name, b"x"].concat();
    let outcome = |sandbox: &Sandbox, file: &[u8]| {
        let loaded = load(sandbox, "h", file, Role::Preprocess, BUDGET, &[]);
        loaded.map(drop).unwrap_err()
    };
    let production = sandbox();
    let import = "tensorgate:development/sources@0.1.0";
    let compiled = production.compilations();
    let fault = outcome(&production, &build);
    assert!(matches!(&fault, LoadFault::Development { .. }), "{fault:?}");
    assert!(fault.to_string().contains(import), "{fault}");
    assert_eq!(production.compilations(), compiled, "refused before");
    let fault = outcome(&production, &runtime);
    assert!(
        matches!(&fault, LoadFault::Import { import: found, .. } if found == import),
        "{fault:?}"
    );
    let development = Sandbox::new(SandboxConfig {
        compiler: CompilerConfig {
            development: true,
            ..CompilerConfig::default()
        },
        ..SandboxConfig::default()
    });
    let development = development.unwrap();
    // Files with other sources have one runtime, which lacks only its export.
    for file in [build.clone(), [&build[..build.len() - 1], b"y"].concat()] {
        let fault = outcome(&development, &file);
        assert!(matches!(&fault, LoadFault::World { .. }), "{fault:?}");
    }
}
