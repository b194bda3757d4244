//! The module that fills the table of a handler's kit calls. Four of its functions are replaced by
//! ones that pass blocks.

use std::collections::HashMap;
use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode};
use wasm_encoder::{
    BlockType, CodeSection, DataSection, ElementSection, EntityType, Function, FunctionSection,
    ImportSection, InstructionSink, MemArg, MemoryType, Module, TypeSection,
};
use wasmparser::{Parser, Payload, TypeRef, ValType};

/// The module's imports from the kit, and their names.
#[derive(Default)]
pub struct Given {
    /// The name of the instance.
    pub from: String,
    /// Names of the imports, by their functions in `blocks` (true) or `arrays`.
    pub functions: HashMap<(bool, String), String>,
}

/// The size of a block in bytes, as a power of two.
const BLOCK_SHIFT: i32 = 7;
const BLOCK_MASK: i32 = (1 << BLOCK_SHIFT) - 1;
/// The alignment of a block's address in bytes, less one.
const ALIGNMENT_MASK: i32 = 7;
/// The least number of bytes for which blocks are faster.
const LEAST: i32 = 512;

/// Offsets in an answer, `result<filled, failure>`: the case, the list's address and length, the
/// number of bytes.
const LENGTH: u64 = 8;
const BYTES: u64 = 12;

/// The replacement of one function by another.
struct Replacement {
    arrays: &'static str,
    blocks: &'static str,
    /// The number of parameters of both functions. In core WebAssembly all have 32 bits.
    parameters: usize,
    /// The index of the parameter with the bytes' address, which their length follows; `None` if
    /// bytes are the answer.
    bytes: Option<u32>,
}

const REPLACEMENTS: [Replacement; 4] = [
    Replacement {
        arrays: "[static]array.from-bytes",
        blocks: "from-bytes",
        parameters: 6,
        bytes: Some(3),
    },
    Replacement {
        arrays: "[method]array.to-bytes",
        blocks: "to-bytes",
        parameters: 3,
        bytes: None,
    },
    Replacement {
        arrays: "decode-image",
        blocks: "decode-image",
        parameters: 5,
        bytes: Some(0),
    },
    Replacement {
        arrays: "decode-wav",
        blocks: "decode-wav",
        parameters: 4,
        bytes: Some(0),
    },
];

/// The module with these replacements, and with the memory imported under this name. `None` if it
/// has another structure than expected.
pub fn filled(module: &[u8], given: &Given, memory: &str) -> Option<Vec<u8>> {
    let read = Read::of(module)?;
    let mut shims = Shims::default();
    for replacement in &REPLACEMENTS {
        let function = |blocks: bool, name: &str| {
            let own = given.functions.get(&(blocks, name.to_owned()))?;
            read.function(&given.from, own)
        };
        let (from, of) = function(false, replacement.arrays)?;
        let (to, parameters) = function(true, replacement.blocks)?;
        let more = if replacement.bytes.is_some() { 4 } else { 0 };
        if read.parameters(of)? != replacement.parameters
            || read.parameters(parameters)? != replacement.parameters.saturating_add(more)
        {
            return None;
        }
        let own = (read.functions.len())
            .saturating_add(read.own)
            .saturating_add(shims.functions.len());
        shims.instead.insert(from, u32::try_from(own).ok()?);
        shims
            .functions
            .push((of, replacement.function(from, to, read.memories)));
    }
    shims.module(module, &given.from, memory).ok()
}

impl Replacement {
    fn function(&self, from: u32, to: u32, memory: u32) -> Function {
        let mut function = Function::new([(1, wasm_encoder::ValType::I32)]);
        let last = u32::try_from(self.parameters)
            .unwrap_or_default()
            .saturating_sub(1);
        match self.bytes {
            Some(address) => hand_over(&mut function.instructions(), last, address, from, to),
            None => take_back(&mut function.instructions(), last, to, memory),
        }
        function
    }
}

/// Splits a large number of bytes into the bytes before the first block's alignment, blocks, and a
/// rest. Fewer bytes are passed unchanged.
fn hand_over(sink: &mut InstructionSink<'_>, last: u32, address: u32, from: u32, to: u32) {
    let (length, head) = (address.saturating_add(1), last.saturating_add(1));
    sink.local_get(length)
        .i32_const(LEAST)
        .i32_lt_u()
        .if_(BlockType::Empty);
    for parameter in 0..=last {
        sink.local_get(parameter);
    }
    sink.call(from).else_();
    for parameter in 0..=address {
        sink.local_get(parameter);
    }
    sink.i32_const(0)
        .local_get(address)
        .i32_sub()
        .i32_const(ALIGNMENT_MASK)
        .i32_and()
        .local_tee(head);
    // The address of the first block; from here the length excludes the bytes before it.
    sink.local_get(address).local_get(head).i32_add();
    sink.local_get(length)
        .local_get(head)
        .i32_sub()
        .local_tee(length)
        .i32_const(BLOCK_SHIFT)
        .i32_shr_u();
    sink.local_get(address)
        .local_get(head)
        .i32_add()
        .local_get(length)
        .i32_const(!BLOCK_MASK)
        .i32_and()
        .i32_add();
    sink.local_get(length).i32_const(BLOCK_MASK).i32_and();
    for parameter in length.saturating_add(1)..=last {
        sink.local_get(parameter);
    }
    sink.call(to).end().end();
}

/// Converts an answer of blocks to one of bytes: replaces the number of blocks by the number of
/// bytes.
fn take_back(sink: &mut InstructionSink<'_>, answer: u32, to: u32, memory_index: u32) {
    let at = |offset, align| MemArg {
        offset,
        align,
        memory_index,
    };
    for parameter in 0..=answer {
        sink.local_get(parameter);
    }
    sink.call(to)
        .local_get(answer)
        .i32_load8_u(at(0, 0))
        .i32_eqz()
        .if_(BlockType::Empty)
        .local_get(answer)
        .local_get(answer)
        .i32_load(at(BYTES, 2))
        .i32_store(at(LENGTH, 2))
        .end()
        .end();
}

/// The parsed module.
#[derive(Default)]
struct Read {
    /// The number of parameters of each type, if all have 32 bits and there is no result.
    types: Vec<Option<usize>>,
    /// The module, name and type of each imported function.
    functions: Vec<(String, String, u32)>,
    /// The number of its own functions.
    own: usize,
    /// The number of imported memories.
    memories: u32,
}

impl Read {
    /// `None` if it has anything else than types, imports, functions, elements and data.
    fn of(module: &[u8]) -> Option<Self> {
        let mut read = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload.ok()? {
                Payload::TypeSection(types) => {
                    for ty in types.into_iter_err_on_gc_types() {
                        let ty = ty.ok()?;
                        let plain = ty.results().is_empty()
                            && ty.params().iter().all(|param| *param == ValType::I32);
                        read.types.push(plain.then(|| ty.params().len()));
                    }
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import.ok()?;
                        match import.ty {
                            TypeRef::Func(ty) => read.functions.push((
                                import.module.to_owned(),
                                import.name.to_owned(),
                                ty,
                            )),
                            TypeRef::Memory(_) => read.memories = read.memories.saturating_add(1),
                            _ => {}
                        }
                    }
                }
                Payload::FunctionSection(section) => {
                    read.own = usize::try_from(section.count()).ok()?;
                }
                Payload::Version { .. }
                | Payload::ElementSection(_)
                | Payload::CodeSectionStart { .. }
                | Payload::CodeSectionEntry(_)
                | Payload::DataSection(_)
                | Payload::CustomSection(_)
                | Payload::End(_) => {}
                _ => return None,
            }
        }
        Some(read)
    }

    /// The index and type of a function.
    fn function(&self, from: &str, name: &str) -> Option<(u32, u32)> {
        let mut functions = self.functions.iter();
        let at = functions.position(|(module, own, _)| module == from && own == name)?;
        let (.., ty) = self.functions.get(at)?;
        Some((u32::try_from(at).ok()?, *ty))
    }

    fn parameters(&self, ty: u32) -> Option<usize> {
        *self.types.get(usize::try_from(ty).ok()?)?
    }
}

/// The functions that replace others in the table.
#[derive(Default)]
struct Shims {
    /// Indices of the replacements, by the indices of imports.
    instead: HashMap<u32, u32>,
    /// Types and bodies.
    functions: Vec<(u32, Function)>,
}

impl Reencode for Shims {
    type Error = Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32, Error<Self::Error>> {
        Ok(self.instead.get(&index).copied().unwrap_or(index))
    }
}

impl Shims {
    fn module(
        &mut self,
        module: &[u8],
        from: &str,
        memory: &str,
    ) -> Result<Vec<u8>, Error<Infallible>> {
        let (mut types, mut imports) = (TypeSection::new(), ImportSection::new());
        let (mut functions, mut code) = (FunctionSection::new(), CodeSection::new());
        let (mut elements, mut data) = (ElementSection::new(), DataSection::new());
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::TypeSection(section) => self.parse_type_section(&mut types, section)?,
                Payload::ImportSection(section) => {
                    self.parse_import_section(&mut imports, section)?;
                }
                Payload::FunctionSection(section) => {
                    self.parse_function_section(&mut functions, section)?;
                }
                Payload::ElementSection(section) => {
                    self.parse_element_section(&mut elements, section)?;
                }
                Payload::CodeSectionEntry(body) => self.parse_function_body(&mut code, body)?,
                Payload::DataSection(section) => self.parse_data_section(&mut data, section)?,
                _ => {}
            }
        }
        let any = MemoryType {
            minimum: 0,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        };
        imports.import(from, memory, EntityType::Memory(any));
        for (ty, function) in &self.functions {
            functions.function(*ty);
            code.function(function);
        }
        let mut made = Module::new();
        made.section(&types)
            .section(&imports)
            .section(&functions)
            .section(&elements)
            .section(&code)
            .section(&data);
        Ok(made.finish())
    }
}
