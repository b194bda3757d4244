//! Makes the runtime file from CPython's module and the zip of its library.

use std::collections::HashMap;
use std::error::Error;

use wasm_encoder::reencode::{Reencode as _, RoundtripReencoder};
use wasm_encoder::{
    Component, ComponentExportKind, ComponentExportSection, ComponentSectionId, ExportKind,
    ExportSection, ImportSection, Module, RawSection,
};
use wasmparser::{
    DataKind, DataSectionReader, ElementKind, ExternalKind, KnownCustom, Name, Operator, Parser,
    Payload, TypeRef,
};

use super::{CODE_EXPORT, LIBRARY_SECTION, MEMORY_SECTION, PAGES, memory_type};
use crate::parts::noted;

/// The functions that a build or a handler calls.
const FUNCTIONS: [&str; 12] = [
    "_initialize",
    "wizer.initialize",
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

/// The runtime file of a module of CPython and the zip of its library.
///
/// # Errors
/// If the module has state outside its memory, or lacks a function.
pub fn runtime(module: &[u8], library: &[u8]) -> Result<Vec<u8>, String> {
    let (code, memory) = split(module).map_err(|error| format!("not a Python runtime: {error}"))?;
    let mut exports = ComponentExportSection::new();
    exports.export(CODE_EXPORT, ComponentExportKind::Module, 0, None);
    let mut component = Component::new();
    let id = ComponentSectionId::CoreModule.into();
    component.section(&RawSection { id, data: &code });
    component.section(&exports);
    let component = noted(&component.finish(), MEMORY_SECTION, &memory);
    Ok(noted(&component, LIBRARY_SECTION, library))
}

/// The module with an imported memory and without data, and its data as its section has it.
fn split(module: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Box<dyn Error>> {
    let functions = functions(module)?;
    let (mut code, mut data) = (Module::new(), Vec::new());
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        match &payload {
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    let import = import?;
                    if !matches!(import.ty, TypeRef::Func(_)) {
                        return Err(format!("it imports {}, not a function", import.name).into());
                    }
                }
                let mut imports = ImportSection::new();
                RoundtripReencoder.parse_import_section(&mut imports, section.clone())?;
                imports.import("image", "memory", memory_type(PAGES));
                code.section(&imports);
                continue;
            }
            Payload::ExportSection(_) => {
                let mut exports = ExportSection::new();
                exports.export("memory", ExportKind::Memory, 0);
                for (name, index) in FUNCTIONS.iter().zip(&functions) {
                    exports.export(name, ExportKind::Func, *index);
                }
                code.section(&exports);
                continue;
            }
            Payload::DataSection(section) => {
                data = base(section.clone())?;
                continue;
            }
            other => check(other)?,
        }
        match payload.as_section() {
            None | Some((CUSTOM | MEMORY | DATA_COUNT, _)) => {}
            Some((id, range)) => {
                let data = module.get(range).unwrap_or_default();
                code.section(&RawSection { id, data });
            }
        }
    }
    Ok((code.finish(), data))
}

/// Sections of a module that are not copied.
const CUSTOM: u8 = 0;
const MEMORY: u8 = 5;
const DATA_COUNT: u8 = 12;

/// Rejects state that is not in the memory, or that an instruction changes.
fn check(payload: &Payload<'_>) -> Result<(), Box<dyn Error>> {
    match payload {
        Payload::Version { encoding, .. } if *encoding == wasmparser::Encoding::Component => {
            return Err("it is a component".into());
        }
        Payload::StartSection { .. } => return Err("it has a start function".into()),
        Payload::MemorySection(section) => {
            let memories = section.clone().into_iter().collect::<Result<Vec<_>, _>>()?;
            let expected = |memory: &wasmparser::MemoryType| {
                memory.initial == PAGES && !memory.shared && !memory.memory64
            };
            if memories.len() != 1 || !memories.iter().all(expected) {
                return Err(format!("it has not one unshared memory of {PAGES} pages").into());
            }
        }
        Payload::TableSection(section) => {
            for table in section.clone() {
                let ty = table?.ty;
                if ty.maximum != Some(ty.initial) {
                    return Err("it has a table that can grow".into());
                }
            }
        }
        Payload::GlobalSection(section) => {
            let globals = section.clone().into_iter().collect::<Result<Vec<_>, _>>()?;
            if globals.iter().filter(|global| global.ty.mutable).count() > 1 {
                return Err("it has a mutable global besides the stack pointer".into());
            }
        }
        Payload::ElementSection(section) => {
            for element in section.clone() {
                if matches!(element?.kind, ElementKind::Passive) {
                    return Err("it has a passive segment".into());
                }
            }
        }
        Payload::CodeSectionEntry(body) => {
            for operator in body.get_operators_reader()? {
                let operator = operator?;
                if let Operator::TableSet { .. }
                | Operator::TableGrow { .. }
                | Operator::TableFill { .. }
                | Operator::TableInit { .. }
                | Operator::TableCopy { .. }
                | Operator::ElemDrop { .. }
                | Operator::DataDrop { .. }
                | Operator::MemoryInit { .. } = operator
                {
                    return Err(
                        format!("a function changes a table or segment: {operator:?}").into(),
                    );
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// The data segments as their section has them.
fn base(section: DataSectionReader<'_>) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut content = section.count().to_le_bytes().to_vec();
    for segment in section {
        let segment = segment?;
        let DataKind::Active { offset_expr, .. } = segment.kind else {
            return Err("it has a passive segment".into());
        };
        let Operator::I32Const { value } = offset_expr.get_operators_reader().read()? else {
            return Err("a data segment has a computed address".into());
        };
        content.extend(value.to_le_bytes());
        content.extend(u32::try_from(segment.data.len())?.to_le_bytes());
        content.extend_from_slice(segment.data);
    }
    Ok(content)
}

/// The indices of [`FUNCTIONS`] in a module, by its exports and its name section.
fn functions(module: &[u8]) -> Result<Vec<u32>, Box<dyn Error>> {
    let (mut named, mut exported) = (HashMap::new(), HashMap::new());
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    if export.kind == ExternalKind::Func {
                        exported.insert(export.name, export.index);
                    }
                }
            }
            Payload::CustomSection(section) => {
                let KnownCustom::Name(names) = section.as_known() else {
                    continue;
                };
                for names in names {
                    let Name::Function(names) = names? else {
                        continue;
                    };
                    for naming in names {
                        let naming = naming?;
                        let earlier = named.insert(naming.name, naming.index);
                        if earlier.is_some() && FUNCTIONS.contains(&naming.name) {
                            return Err(format!("it has two functions `{}`", naming.name).into());
                        }
                    }
                }
            }
            _ => {}
        }
    }
    named.extend(exported);
    let index = |name: &&str| {
        let missing = || format!("it has no function `{name}`").into();
        named.get(name).copied().ok_or_else(missing)
    };
    FUNCTIONS.iter().map(index).collect()
}
