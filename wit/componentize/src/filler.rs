//! The module that fills the table through which a handler's own calls the kit: four of its functions are replaced by ones that hand over blocks.

use std::collections::HashMap;
use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode};
use wasm_encoder::{
    BlockType, CodeSection, DataSection, ElementSection, EntityType, Function, FunctionSection,
    ImportSection, InstructionSink, MemArg, MemoryType, Module, TypeSection,
};
use wasmparser::{Parser, Payload, TypeRef, ValType};

/// What the module gets of the kit, and by what names.
#[derive(Default)]
pub struct Given {
    /// Of what it imports it.
    pub from: String,
    /// Functions of `blocks` or of `arrays`, by their names there.
    pub functions: HashMap<(bool, String), String>,
}

/// Bytes of a block, as a power of two.
const BLOCK_SHIFT: i32 = 7;
const BLOCK_MASK: i32 = (1 << BLOCK_SHIFT) - 1;
/// What a block's address is a multiple of, less one.
const ALIGNMENT_MASK: i32 = 7;
/// Bytes from which on blocks are worth the way.
const LEAST: i32 = 512;

/// Where an answer's parts lie: result<filled, failure> has its case, the list's address and length, and how many bytes count.
const LENGTH: u64 = 8;
const BYTES: u64 = 12;

/// How one function is led to another.
struct Way {
    arrays: &'static str,
    blocks: &'static str,
    /// Parameters of either, as core functions have them: all of 32 bits.
    parameters: usize,
    /// Where the bytes' address stands among them, and behind it their length; none where bytes are the answer.
    bytes: Option<u32>,
}

const WAYS: [Way; 4] = [
    Way {
        arrays: "[static]array.from-bytes",
        blocks: "from-bytes",
        parameters: 6,
        bytes: Some(3),
    },
    Way {
        arrays: "[method]array.to-bytes",
        blocks: "to-bytes",
        parameters: 3,
        bytes: None,
    },
    Way {
        arrays: "decode-image",
        blocks: "decode-image",
        parameters: 5,
        bytes: Some(0),
    },
    Way {
        arrays: "decode-wav",
        blocks: "decode-wav",
        parameters: 4,
        bytes: Some(0),
    },
];

/// The module with these ways in it, and the memory imported under this name; none if it is not made as expected.
pub fn filled(module: &[u8], given: &Given, memory: &str) -> Option<Vec<u8>> {
    let read = Read::of(module)?;
    let mut shims = Shims::default();
    for way in &WAYS {
        let function = |blocks: bool, name: &str| {
            let own = given.functions.get(&(blocks, name.to_owned()))?;
            read.function(&given.from, own)
        };
        let (from, of) = function(false, way.arrays)?;
        let (to, parameters) = function(true, way.blocks)?;
        let more = if way.bytes.is_some() { 4 } else { 0 };
        if read.parameters(of)? != way.parameters
            || read.parameters(parameters)? != way.parameters.saturating_add(more)
        {
            return None;
        }
        let own = (read.functions.len())
            .saturating_add(read.own)
            .saturating_add(shims.functions.len());
        shims.instead.insert(from, u32::try_from(own).ok()?);
        shims
            .functions
            .push((of, way.function(from, to, read.memories)));
    }
    shims.module(module, &given.from, memory).ok()
}

impl Way {
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

/// Bytes that are enough: as what stands before the first address of a block, as blocks and as a rest. Others as they are.
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
    // The first block, and from here on the length without what stands before it.
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

/// Blocks that are the answer are bytes: as many as count, in the place of how many blocks they are.
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

/// What is in the module.
#[derive(Default)]
struct Read {
    /// Of each type how many parameters it has, if all are of 32 bits and nothing is answered.
    types: Vec<Option<usize>>,
    /// What each imported function is imported from, its name and its type.
    functions: Vec<(String, String, u32)>,
    /// Functions of its own.
    own: usize,
    /// Memories that it imports.
    memories: u32,
}

impl Read {
    /// None if there is anything in it but types, imports, functions, elements and data.
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

    /// A function's index and type.
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

/// The functions that are put into the table in the place of others.
#[derive(Default)]
struct Shims {
    /// Index of an import to index of a function.
    instead: HashMap<u32, u32>,
    /// Type and body.
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
