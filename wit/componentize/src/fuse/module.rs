//! A parsed core module, with the parts that fusing needs.

use std::collections::HashMap;

use wasmparser::{
    CompositeInnerType, Data, DataKind, Element, ElementKind, ExternalKind, FuncType, FunctionBody,
    Global, Import, KnownCustom, MemoryType, Name, Parser, Payload, Table, TypeRef, ValType,
};

use super::Kept;

/// Kinds of imports and exports, each with its own index space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Sort {
    Function,
    Table,
    Memory,
    Global,
}

impl Sort {
    pub(super) fn of(kind: ExternalKind) -> Result<Self, Kept> {
        match kind {
            ExternalKind::Func => Ok(Self::Function),
            ExternalKind::Table => Ok(Self::Table),
            ExternalKind::Memory => Ok(Self::Memory),
            ExternalKind::Global => Ok(Self::Global),
            ExternalKind::Tag | ExternalKind::FuncExact => Err(Kept::Unknown("exceptions")),
        }
    }

    pub(super) fn kind(self) -> wasm_encoder::ExportKind {
        match self {
            Self::Function => wasm_encoder::ExportKind::Func,
            Self::Table => wasm_encoder::ExportKind::Table,
            Self::Memory => wasm_encoder::ExportKind::Memory,
            Self::Global => wasm_encoder::ExportKind::Global,
        }
    }
}

/// A value for each [`Sort`].
#[derive(Clone, Debug, Default)]
pub(super) struct Each<T> {
    pub(super) functions: T,
    pub(super) tables: T,
    pub(super) memories: T,
    pub(super) globals: T,
}

impl<T> Each<T> {
    pub(super) fn get(&self, sort: Sort) -> &T {
        match sort {
            Sort::Function => &self.functions,
            Sort::Table => &self.tables,
            Sort::Memory => &self.memories,
            Sort::Global => &self.globals,
        }
    }

    pub(super) fn get_mut(&mut self, sort: Sort) -> &mut T {
        match sort {
            Sort::Function => &mut self.functions,
            Sort::Table => &mut self.tables,
            Sort::Memory => &mut self.memories,
            Sort::Global => &mut self.globals,
        }
    }
}

/// The item of a list at a WebAssembly index.
pub(super) fn at<T>(list: &[T], index: u32) -> Option<&T> {
    list.get(usize::try_from(index).ok()?)
}

/// A number of items, which fits because WebAssembly counts them in 32 bits.
pub(super) fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}

/// A module's parts, with the module's own indices. In each sort the imports come first.
#[derive(Default)]
pub(super) struct Module<'a> {
    pub(super) types: Vec<FuncType>,
    pub(super) imports: Vec<Import<'a>>,
    /// The number of imports of each sort.
    pub(super) imported: Each<u32>,
    /// The type of each function that it defines.
    pub(super) functions: Vec<u32>,
    pub(super) tables: Vec<Table<'a>>,
    pub(super) memories: Vec<MemoryType>,
    pub(super) globals: Vec<Global<'a>>,
    pub(super) exports: HashMap<&'a str, (Sort, u32)>,
    pub(super) elements: Vec<Element<'a>>,
    pub(super) data: Vec<Data<'a>>,
    pub(super) code: Vec<FunctionBody<'a>>,
    /// The names of functions.
    pub(super) names: Vec<(u32, &'a str)>,
    /// Whether it has a start function.
    pub(super) starts: bool,
    /// Whether it has a data count section, which is required if its code refers to data segments.
    pub(super) counts_data: bool,
}

/// Whether a function's type has references to types of the module's own index space.
fn names_a_type(function: &FuncType) -> bool {
    let mut types = function.params().iter().chain(function.results());
    types.any(|ty| matches!(ty, ValType::Ref(reference) if reference.type_index().is_some()))
}

impl<'a> Module<'a> {
    /// Parses a valid module.
    pub(super) fn read(module: &'a [u8]) -> Result<Self, Kept> {
        let mut read = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::TypeSection(section) => {
                    for group in section {
                        let group = group?;
                        // Types in a recursion group differ from equal ones outside of it.
                        if group.is_explicit_rec_group() {
                            return Err(Kept::Unknown("types of garbage collection"));
                        }
                        for ty in group.into_types() {
                            match ty.composite_type.inner {
                                CompositeInnerType::Func(function)
                                    if ty.supertype_idx.is_none()
                                        && ty.is_final
                                        && !ty.composite_type.shared
                                        && !names_a_type(&function) =>
                                {
                                    read.types.push(function);
                                }
                                _ => return Err(Kept::Unknown("types of garbage collection")),
                            }
                        }
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        read.import(import?)?;
                    }
                }
                Payload::FunctionSection(section) => {
                    read.functions = section.into_iter().collect::<Result<_, _>>()?;
                }
                Payload::TableSection(section) => {
                    read.tables = section.into_iter().collect::<Result<_, _>>()?;
                }
                Payload::MemorySection(section) => {
                    read.memories = section.into_iter().collect::<Result<_, _>>()?;
                }
                Payload::GlobalSection(section) => {
                    read.globals = section.into_iter().collect::<Result<_, _>>()?;
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        let what = (Sort::of(export.kind)?, export.index);
                        read.exports.insert(export.name, what);
                    }
                }
                Payload::ElementSection(section) => {
                    read.elements = section.into_iter().collect::<Result<_, _>>()?;
                }
                Payload::DataCountSection { .. } => read.counts_data = true,
                Payload::DataSection(section) => {
                    read.data = section.into_iter().collect::<Result<_, _>>()?;
                }
                Payload::CodeSectionEntry(body) => read.code.push(body),
                Payload::StartSection { .. } => read.starts = true,
                Payload::CustomSection(section) => {
                    if let KnownCustom::Name(names) = section.as_known() {
                        // Validation does not check names, so invalid ones are ignored.
                        for name in names.into_iter().flatten() {
                            if let Name::Function(names) = name {
                                let names = names.into_iter().flatten();
                                read.names = names.map(|name| (name.index, name.name)).collect();
                            }
                        }
                    }
                }
                Payload::Version { .. } | Payload::CodeSectionStart { .. } | Payload::End(_) => {}
                _ => return Err(Kept::Unknown("a module with a section of a new kind")),
            }
        }
        Ok(read)
    }

    fn import(&mut self, import: Import<'a>) -> Result<(), Kept> {
        let sort = sort(&import)?;
        let imported = self.imported.get_mut(sort);
        *imported = imported.saturating_add(1);
        self.imports.push(import);
        Ok(())
    }

    /// The type of an imported function.
    pub(super) fn function_type(&self, import: &Import<'_>) -> Option<&FuncType> {
        match import.ty {
            TypeRef::Func(ty) => at(&self.types, ty),
            _ => None,
        }
    }

    /// Whether it has active element segments.
    pub(super) fn places_elements(&self) -> bool {
        self.elements
            .iter()
            .any(|element| matches!(element.kind, ElementKind::Active { .. }))
    }

    /// Whether it has active data segments.
    pub(super) fn places_data(&self) -> bool {
        self.data
            .iter()
            .any(|data| matches!(data.kind, DataKind::Active { .. }))
    }
}

pub(super) fn sort(import: &Import<'_>) -> Result<Sort, Kept> {
    match import.ty {
        TypeRef::Func(_) => Ok(Sort::Function),
        TypeRef::Table(_) => Ok(Sort::Table),
        TypeRef::Memory(_) => Ok(Sort::Memory),
        TypeRef::Global(_) => Ok(Sort::Global),
        TypeRef::Tag(_) | TypeRef::FuncExact(_) => Err(Kept::Unknown("exceptions")),
    }
}
