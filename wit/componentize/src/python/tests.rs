//! Tests of the runtime file and of handlers' components.

use wasmparser::{DataKind, Operator, Parser, Payload, Validator};
use wit_component::targets;
use wit_parser::Resolve;

use super::handler::text;
use super::*;
use crate::parts::{part, sections};
use crate::surface;

const PAGE: usize = 64 << 10;
const PAGES_USIZE: usize = 640;

fn image(memory: &[u8], world: World, fetch: bool, lookup: bool) -> Image<'_> {
    Image {
        runtime: [7; 32],
        zip_bytes: 5_000,
        memory,
        exchange: 4_096,
        entry: 1_234,
        world,
        fetch,
        lookup,
        images: false,
    }
}

const WORLDS: [(World, &str); 2] = [
    (World::Preprocess, "preprocess"),
    (World::Postprocess, "postprocess"),
];
const GRANTS: [(bool, bool); 4] = [(false, false), (true, false), (false, true), (true, true)];

#[test]
fn a_handler_imports_and_exports_exactly_its_interfaces() {
    let memory = vec![0; PAGES_USIZE * PAGE];
    for (world, export) in WORLDS {
        for (fetch, lookup) in GRANTS {
            let component = handler(&image(&memory, world, fetch, lookup)).unwrap();
            Validator::new().validate_all(&component).unwrap();
            let found = surface(&component).unwrap();
            let expected = [
                Some("tensorgate:handler/types@0.2.0"),
                Some("tensorgate:handler/errors@0.2.0"),
                Some("tensorgate:handler/config@0.2.0"),
                Some("tensorgate:handler/log@0.2.0"),
                Some("tensorgate:handler/context@0.2.0"),
                Some("tensorgate:handler/carry@0.2.0"),
                fetch.then_some("tensorgate:handler/fetch@0.2.0"),
                lookup.then_some("tensorgate:handler/lookup@0.2.0"),
                Some("wasi:io/error@0.2.0"),
                Some("wasi:io/streams@0.2.0"),
                Some("wasi:cli/stdout@0.2.0"),
                Some("wasi:cli/stderr@0.2.0"),
                Some("wasi:cli/exit@0.2.0"),
                Some("wasi:clocks/wall-clock@0.2.0"),
                Some("wasi:random/random@0.2.0"),
                Some("tensorgate:runtime/library@0.1.0"),
                Some("integrity=<sha256-BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=>"),
            ];
            let expected: Vec<&str> = expected.into_iter().flatten().collect();
            assert_eq!(found.imports, expected);
            assert_eq!(found.exports, [export]);
            assert!(found.is_handler());
        }
    }
}

#[test]
fn a_handler_that_decodes_images_imports_the_kit() {
    let memory = vec![0; PAGES_USIZE * PAGE];
    for (world, _) in WORLDS {
        let plain = image(&memory, world, true, true);
        let images = true;
        let component = handler(&Image { images, ..plain }).unwrap();
        Validator::new().validate_all(&component).unwrap();
        let expected = surface(&handler(&plain).unwrap()).unwrap();
        let mut found = surface(&component).unwrap();
        let kit = [crate::KIT, crate::BLOCKS].map(str::to_owned);
        assert!(kit.iter().all(|import| found.imports.contains(import)));
        found.imports.retain(|import| !kit.contains(import));
        assert_eq!(found, expected);
    }
}

/// What a host provides: the interfaces of handlers, and the parts of WASI in use.
const HOST: &str = r"
package test:host;

world preprocess {
    include tensorgate:handler/preprocess@0.2.0;
    include host;
}
world postprocess {
    include tensorgate:handler/postprocess@0.2.0;
    include host;
}
world host {
    include tensorgate:handler/granted@0.2.0;
    import wasi:io/error@0.2.0;
    import wasi:io/streams@0.2.0;
    import wasi:cli/stdout@0.2.0;
    import wasi:cli/stderr@0.2.0;
    import wasi:cli/exit@0.2.0;
    import wasi:clocks/wall-clock@0.2.0;
    import wasi:random/random@0.2.0;
    import tensorgate:runtime/library@0.1.0;
}

package wasi:io@0.2.0 {
    interface error {
        resource error;
    }
    interface streams {
        use error.{error};
        variant stream-error {
            last-operation-failed(error),
            closed,
        }
        resource output-stream {
            blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
        }
    }
}
package wasi:cli@0.2.0 {
    interface stdout {
        use wasi:io/streams@0.2.0.{output-stream};
        get-stdout: func() -> output-stream;
    }
    interface stderr {
        use wasi:io/streams@0.2.0.{output-stream};
        get-stderr: func() -> output-stream;
    }
    interface exit {
        exit: func(status: result);
    }
}
package wasi:clocks@0.2.0 {
    interface wall-clock {
        record datetime {
            seconds: u64,
            nanoseconds: u32,
        }
        now: func() -> datetime;
    }
}
package wasi:random@0.2.0 {
    interface random {
        get-random-bytes: func(len: u64) -> list<u8>;
    }
}
package tensorgate:runtime@0.1.0 {
    interface library {
        read: func(at: u64, count: u32) -> list<u8>;
        memory: func(start: list<u8>, end: list<u8>);
    }
}
";

/// The component with a runtime inside that does nothing. Worlds in WIT import no core modules.
fn with_runtime_inside(image: &Image<'_>) -> Vec<u8> {
    let exports = r#"(export "malloc" (func (param i32) (result i32)))
    (export "PyObject_CallNoArgs" (func (param i32) (result i32)))))"#;
    let functions = r#"(func (export "malloc") (param i32) (result i32) unreachable)
    (func (export "PyObject_CallNoArgs") (param i32) (result i32) unreachable))"#;
    let import = format!(r#"(import "{}" (core module"#, import_name(&image.runtime));
    let text = text(image).unwrap();
    assert!(text.contains(&import) && text.contains(exports));
    let text = text
        .replace(&import, "(core module")
        .replace(exports, functions);
    wat::parse_str(text).unwrap()
}

#[test]
fn a_handler_fits_the_worlds_of_the_interface() {
    let mut resolve = Resolve::default();
    let interface = include_str!("../../../handler.wit");
    resolve.push_str("handler.wit", interface).unwrap();
    let package = resolve.push_str("host.wit", HOST).unwrap();
    for (world, name) in WORLDS {
        let id = resolve.select_world(&[package], Some(name)).unwrap();
        let component = with_runtime_inside(&image(&[], world, true, true));
        targets(&resolve, id, &component).unwrap();
    }
    // The other world has no such export.
    let preprocess = resolve.select_world(&[package], Some("preprocess"));
    let component = with_runtime_inside(&image(&[], World::Postprocess, false, false));
    assert!(targets(&resolve, preprocess.unwrap(), &component).is_err());
}

/// The memory that a module defines, and the number of its segments.
fn contents(module: &[u8]) -> (Vec<u8>, usize) {
    let (mut memory, mut count) = (Vec::new(), 0);
    for payload in Parser::new(0).parse_all(module) {
        match payload.unwrap() {
            Payload::MemorySection(section) => {
                let pages = section.into_iter().next().unwrap().unwrap().initial;
                memory = vec![0; usize::try_from(pages).unwrap() * PAGE];
            }
            Payload::DataSection(section) => {
                for segment in section {
                    let segment = segment.unwrap();
                    let DataKind::Active { offset_expr, .. } = segment.kind else {
                        panic!("a passive segment");
                    };
                    let offset = offset_expr.get_operators_reader().read().unwrap();
                    let Operator::I32Const { value } = offset else {
                        panic!("{offset:?}");
                    };
                    let at = usize::try_from(value.cast_unsigned()).unwrap();
                    memory[at..][..segment.data.len()].copy_from_slice(segment.data);
                    count += 1;
                }
            }
            _ => {}
        }
    }
    (memory, count)
}

#[test]
fn the_memory_of_an_image_comes_back() {
    let memory = || vec![0; (PAGES_USIZE + 1) * PAGE];
    let mut few = memory();
    few[0] = 1;
    few[20_000..30_000].fill(2);
    few[10 << 20] = 3;
    // From this span on, wasmtime maps only an image that is data for more than half of it.
    let mut edge = memory();
    edge[0] = 1;
    edge[(16 << 20) - 1] = 3;
    let mut dense = memory();
    dense[..30 << 20].fill(1);
    *dense.last_mut().unwrap() = 3;
    let mut sparse = memory();
    sparse[0] = 1;
    *sparse.last_mut().unwrap() = 3;
    // Every second block is in use: more segments than an image may have.
    let mut many = vec![0; 1_300 * PAGE];
    many.iter_mut().step_by(8_192).for_each(|byte| *byte = 4);
    for (memory, expected) in [
        (few, 3),
        (edge, 1),
        (dense, 2),
        (sparse, 1),
        (many, 1),
        (memory(), 0),
    ] {
        let memory = &memory;
        let component = handler(&image(memory, World::Preprocess, false, false)).unwrap();
        Validator::new().validate_all(&component).unwrap();
        let found = part(&component, "memory").unwrap().unwrap();
        let (found, segments) = contents(found.module(&component));
        assert!(found == *memory, "{expected}");
        assert_eq!(segments, expected);
    }
}

#[test]
fn memory_that_is_not_the_runtimes_is_refused() {
    for bytes in [0, PAGE, PAGES_USIZE * PAGE - 1, PAGES_USIZE * PAGE + 1] {
        let memory = vec![0; bytes];
        let refusal = handler(&image(&memory, World::Preprocess, false, false)).unwrap_err();
        assert!(refusal.contains("640 whole pages"), "{refusal}");
    }
}

/// A module with the functions that a runtime needs, some by their names alone.
fn python(without: &str, memory: &str, more: &str) -> Vec<u8> {
    let named = [
        "malloc",
        "free",
        "PyRun_StringFlags",
        "PyImport_AddModule",
        "PyModule_GetDict",
        "PyErr_Print",
        "PyObject_CallNoArgs",
        "PyMemoryView_FromMemory",
        "PyDict_SetItemString",
        "PyDict_GetItemString",
    ];
    let functions = named.iter().filter(|name| **name != without);
    let functions: String = functions
        .map(|name| format!("(func ${name} (param i32) (result i32) i32.const 0)\n"))
        .collect();
    let text = format!(
        r#"(module
            (import "host" "call" (func (param i32)))
            (memory (export "memory") {memory})
            (global (mut i32) (i32.const 16))
            (func $start (export "_initialize"))
            (func (export "wizer.initialize"))
            (func (export "run"))
            {functions}
            (data (i32.const 32) "ab")
            (data (i32.const 70000) "cde")
            {more})"#
    );
    wat::parse_str(text).unwrap()
}

#[test]
fn a_runtime_file_has_its_parts() {
    let module = python(
        "",
        "640",
        "(table 1 1 funcref) (elem (i32.const 0) func $malloc)",
    );
    let file = runtime(&module, b"a zip").unwrap();
    Validator::new().validate_all(&file).unwrap();
    assert_eq!(note(&file, LIBRARY_SECTION).unwrap(), b"a zip");
    let base: [(u32, &[u8]); 2] = [(32, b"ab"), (70_000, b"cde")];
    assert_eq!(first_memory(&file).unwrap(), base);
    let (_, memory, _) = sections(&file).unwrap().into_iter().rev().nth(1).unwrap();
    let component = &file[..memory.start];
    let surface = surface(component).unwrap();
    assert!(surface.imports.is_empty());
    assert_eq!(surface.exports, [CODE_EXPORT]);
    let code = part(component, "memory").unwrap().unwrap();
    let code = code.module(component);
    let imports = crate::surface(code).unwrap().imports;
    assert_eq!(imports, ["host#call", "image#memory"]);
    assert!(part(component, "run").unwrap().is_none());
    for name in ["malloc", "PyDict_GetItemString", "wizer.initialize"] {
        assert!(part(component, name).unwrap().is_some(), "{name}");
    }
    // What is not a runtime file has no such memory.
    assert_eq!(first_memory(&module), None);
    assert_eq!(first_memory(component), None);
    assert_eq!(first_memory(&file[..file.len() - 1]), None);
}

#[test]
fn a_module_with_other_state_than_its_memory_is_refused() {
    let table = "(table 2 2 funcref)";
    let change = |code: &str| format!("{table} (elem $e func $malloc) (func {code})");
    let segment = |code: &str| format!(r#"(data $d "x") (func {code})"#);
    let item = "(i32.const 0) (ref.func $malloc)";
    let copied = "(i32.const 0) (i32.const 0) (i32.const 1)";
    for (more, expected) in [
        (change(&format!("(table.set {item})")), "passive segment"),
        (
            format!("{table} (elem declare func $malloc) (func (table.set {item}))"),
            "TableSet",
        ),
        (
            format!("{table} (func (drop (table.grow (ref.null func) (i32.const 1))))"),
            "TableGrow",
        ),
        (
            format!("{table} (func (table.fill (i32.const 0) (ref.null func) (i32.const 1)))"),
            "TableFill",
        ),
        (format!("{table} (func (table.copy {copied}))"), "TableCopy"),
        (
            format!("{table} (elem $e (i32.const 0) func $malloc) (func (table.init $e {copied}))"),
            "TableInit",
        ),
        (
            format!("{table} (elem $e (i32.const 0) func $malloc) (func (elem.drop $e))"),
            "ElemDrop",
        ),
        (
            r#"(data $d (i32.const 0) "x") (func (data.drop $d))"#.to_owned(),
            "DataDrop",
        ),
        (
            format!(r#"(data $d (i32.const 0) "x") (func (memory.init $d {copied}))"#),
            "MemoryInit",
        ),
        (segment("(nop)"), "passive segment"),
        (
            r#"(global $g i32 (i32.const 0)) (data (global.get $g) "x")"#.to_owned(),
            "computed address",
        ),
        ("(table 2 funcref)".to_owned(), "a table that can grow"),
        ("(table 2 3 funcref)".to_owned(), "a table that can grow"),
        (
            "(global (mut i64) (i64.const 0))".to_owned(),
            "besides the stack pointer",
        ),
        ("(start $start)".to_owned(), "a start function"),
        ("(memory 1)".to_owned(), "one unshared memory"),
    ] {
        let refusal = runtime(&python("", "640", &more), b"").unwrap_err();
        assert!(refusal.contains(expected), "{more}: {refusal}");
    }
    let imported = wat::parse_str(r#"(module (import "a" "b" (global i32)))"#).unwrap();
    for (module, expected) in [
        (python("free", "640", ""), "no function `free`"),
        (python("", "641", ""), "one unshared memory"),
        (python("", "640 640 shared", ""), "one unshared memory"),
        (imported, "no function `_initialize`"),
        (b"\0asm\x0d\0\x01\0".to_vec(), "no function"),
        (b"text".to_vec(), "not a Python runtime"),
    ] {
        let refusal = runtime(&module, b"").unwrap_err();
        assert!(refusal.contains(expected), "{refusal}");
    }
}
