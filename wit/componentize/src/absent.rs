//! Replaces a component's imports of a package by functions that trap.
//!
//! CPython's C library imports sockets whether a handler uses them or not, and a host refuses a
//! component that imports them. Here the imports are removed, together with the types and functions
//! that the component takes from them. The core functions that were made of them end in
//! `unreachable`, in a module of their own.
//!
//! Core modules and nested components are copied unchanged. All other sections get new indices.

mod removed;
mod section_ids;
mod writer;

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, RoundtripReencoder};
use wasm_encoder::{
    CodeSection, ExportKind, ExportSection, Function, FunctionSection, Module, TypeSection,
};
use wasmparser::{Validator, WasmFeatures};

use crate::imports::surface;
use crate::parts::{Section, sections};
use removed::Removed;
use writer::Writer;

/// The component without its imports of interfaces whose names start with `package`.
///
/// # Errors
/// It is not a valid component, or something other than a core function needs what is removed.
pub fn without(component: &[u8], package: &str) -> Result<Vec<u8>, String> {
    let imports = surface(component)?.imports;
    if !imports.iter().any(|import| import.starts_with(package)) {
        return Ok(component.to_vec());
    }
    let sections = sections(component)?;
    let content = |section: &Section| component.get(section.2.clone()).unwrap_or_default();
    let mut removed = Removed::default();
    for (at, section) in sections.iter().enumerate() {
        removed
            .look(at, section.0, content(section), package)
            .map_err(|error| error.to_string())?;
    }
    let stub = stub(component, &removed.core_functions)?;
    let mut writer = Writer::new(&removed);
    for (at, section) in sections.iter().enumerate() {
        writer
            .section(at, section.0, content(section), &stub)
            .map_err(|error| error.to_string())?;
    }
    let made = writer.finish();
    Validator::new_with_features(WasmFeatures::default())
        .validate_all(&made)
        .map_err(|error| format!("the component needs {package}: {error}"))?;
    Ok(made)
}

/// A module with a function for each of these core functions of a component, which traps. It
/// exports them under their numbers.
fn stub(component: &[u8], core_functions: &[u32]) -> Result<Vec<u8>, String> {
    let validated = Validator::new_with_features(WasmFeatures::default())
        .validate_all(component)
        .map_err(|error| error.to_string())?;
    let known = validated.as_ref();
    let mut types = TypeSection::new();
    let (mut functions, mut exports, mut code) = (
        FunctionSection::new(),
        ExportSection::new(),
        CodeSection::new(),
    );
    for (nth, index) in (0_u32..).zip(core_functions) {
        let ty = known
            .get(known.core_function_at(*index))
            .ok_or("a core function without a type")?;
        let ty = Reencode::func_type(&mut RoundtripReencoder, ty.unwrap_func().clone())
            .map_err(|error: Error<Infallible>| error.to_string())?;
        types.ty().func_type(&ty);
        functions.function(nth);
        exports.export(&nth.to_string(), ExportKind::Func, nth);
        let mut body = Function::new([]);
        body.instructions().unreachable().end();
        code.function(&body);
    }
    let mut module = Module::new();
    module
        .section(&types)
        .section(&functions)
        .section(&exports)
        .section(&code);
    Ok(module.finish())
}
