//! Merges modules into one and renumbers all indices.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    CodeSection, ConstExpr, DataCountSection, DataSection, ElementSection, EntityType,
    ExportSection, FunctionSection, GlobalSection, ImportSection, Instruction, MemorySection,
    NameMap, NameSection, TableSection, TypeSection,
};
use wasmparser::{DataKind, ElementItems, ElementKind, FuncType, Operator, TableInit};

use super::Kept;
use super::live::{Live, of};
use super::module::{Each, Module, Sort, at, count};
use super::plan::{Export, Member, Origin};
use super::value::Value;

/// The name of the instance with the new module's outside imports, which are numbered.
pub(super) const GIVEN: &str = "given";

/// For each sort, the new index of each of a module's indices. Constants have none, nor have
/// functions that are never called.
type Indices = Each<Vec<Option<u32>>>;

/// A module that is being merged.
struct Moved<'m, 'a> {
    module: &'m Module<'a>,
    indices: Indices,
    types: Vec<u32>,
    /// The values of its globals that are constant.
    values: Vec<Option<Value>>,
    /// The number of element segments before its first.
    elements: u32,
    data: u32,
}

/// The module that contains all members, in their order.
pub(super) fn merged(
    members: &[Member<'_>],
    given: &[(u32, FuncType)],
    exports: &[Export],
) -> Result<Vec<u8>, Kept> {
    let own = |of: fn(&Module<'_>) -> usize| members.iter().map(|member| of(&member.module)).sum();
    let (memories, tables): (usize, usize) = (
        own(|module| module.memories.len()),
        own(|module| module.tables.len()),
    );
    if memories > 1 || tables > 1 {
        return Err(Kept::Several);
    }
    let mut types = Types::default();
    let given_types: Vec<u32> = given.iter().map(|(_, ty)| types.of(ty)).collect();
    let moved = moved(members, count(given.len()), exports, &mut types)?;
    in_bounds(&moved, members)?;

    let mut imports = ImportSection::new();
    for (nth, ty) in given_types.iter().enumerate() {
        imports.import(GIVEN, &nth.to_string(), EntityType::Function(*ty));
    }
    let mut made = Sections::default();
    let mut referred = BTreeSet::new();
    for moved in &moved {
        made.take(moved, &mut referred)?;
    }
    for (name, sort, origin) in exports {
        let index = final_index(&moved, *sort, *origin).ok_or(Kept::Unknown("no such export"))?;
        made.exports.export(name, sort.kind(), index);
    }
    if !referred.is_empty() {
        let functions: Vec<u32> = referred.into_iter().collect();
        made.elements
            .declared(wasm_encoder::Elements::Functions(functions.into()));
    }

    let mut module = wasm_encoder::Module::new();
    module
        .section(&types.section)
        .section(&imports)
        .section(&made.functions)
        .section(&made.tables)
        .section(&made.memories)
        .section(&made.globals)
        .section(&made.exports)
        .section(&made.elements);
    if moved.iter().any(|moved| moved.module.counts_data) {
        let count = made.data.len();
        module.section(&DataCountSection { count });
    }
    module
        .section(&made.code)
        .section(&made.data)
        .section(&names(&moved));
    Ok(module.finish())
}

/// Function types without duplicates.
#[derive(Default)]
struct Types {
    section: TypeSection,
    indices: HashMap<FuncType, u32>,
}

impl Types {
    fn of(&mut self, ty: &FuncType) -> u32 {
        if let Some(index) = self.indices.get(ty) {
            return *index;
        }
        let index = count(self.indices.len());
        self.indices.insert(ty.clone(), index);
        index
    }

    /// Writes the types, in the order of their first use.
    fn write(&mut self) -> Result<(), Kept> {
        let mut types: Vec<_> = self.indices.iter().collect();
        types.sort_by_key(|(_, index)| **index);
        for (ty, _) in types {
            let ty = wasm_encoder::reencode::RoundtripReencoder
                .func_type(ty.clone())
                .map_err(|error| Kept::Malformed(error.to_string()))?;
            self.section.ty().func_type(&ty);
        }
        Ok(())
    }
}

/// The new indices of each member.
fn moved<'m, 'a>(
    members: &'m [Member<'a>],
    given: u32,
    exports: &[Export],
    types: &mut Types,
) -> Result<Vec<Moved<'m, 'a>>, Kept> {
    let live = Live::of(members, exports)?;
    let exported: HashSet<Origin> = exports
        .iter()
        .filter(|(_, sort, _)| *sort == Sort::Global)
        .map(|(.., origin)| *origin)
        .collect();
    let mut moved: Vec<Moved<'m, 'a>> = Vec::new();
    let mut next = Each::<u32> {
        functions: given,
        ..Each::default()
    };
    let (mut elements, mut data) = (0_u32, 0_u32);
    for (nth, member) in members.iter().enumerate() {
        let module = &member.module;
        let mut indices = Indices::default();
        let mut values = Vec::new();
        for sort in [Sort::Function, Sort::Table, Sort::Memory, Sort::Global] {
            for origin in member.imports.get(sort) {
                indices
                    .get_mut(sort)
                    .push(final_index(&moved, sort, *origin));
                if sort == Sort::Global {
                    values.push(match origin {
                        Origin::Own(nth, index) => moved
                            .get(*nth)
                            .and_then(|moved| *at(&moved.values, *index)?),
                        Origin::Given(_) => None,
                    });
                }
            }
        }
        for _ in &module.functions {
            let origin = Origin::Own(nth, count(indices.functions.len()));
            let runs = live.functions.contains(&origin);
            indices
                .functions
                .push(runs.then(|| taken(&mut next.functions)));
        }
        for (sort, own) in [
            (Sort::Table, module.tables.len()),
            (Sort::Memory, module.memories.len()),
        ] {
            let next = next.get_mut(sort);
            for _ in 0..own {
                indices.get_mut(sort).push(Some(taken(next)));
            }
        }
        for global in &module.globals {
            let origin = Origin::Own(nth, count(indices.globals.len()));
            let seen = exported.contains(&origin);
            let constant = !global.ty.mutable || !(seen || live.written.contains(&origin));
            let value = constant
                .then(|| Value::of(&global.init_expr, &values))
                .flatten();
            values.push(value);
            let stays = value.is_none() || seen;
            indices
                .globals
                .push(stays.then(|| taken(&mut next.globals)));
        }
        moved.push(Moved {
            module,
            indices,
            types: module.types.iter().map(|ty| types.of(ty)).collect(),
            values,
            elements,
            data,
        });
        elements = elements.saturating_add(count(module.elements.len()));
        data = data.saturating_add(count(module.data.len()));
    }
    types.write()?;
    Ok(moved)
}

/// The next index of a kind.
fn taken(next: &mut u32) -> u32 {
    let index = *next;
    *next = index.saturating_add(1);
    index
}

/// The new index of an item that a member refers to.
fn final_index(moved: &[Moved<'_, '_>], sort: Sort, origin: Origin) -> Option<u32> {
    match origin {
        Origin::Given(index) => Some(index),
        Origin::Own(nth, index) => *at(moved.get(nth)?.indices.get(sort), index)?,
    }
}

/// Checks that no segment can be out of bounds. Then the time of initialisation does not matter.
fn in_bounds(moved: &[Moved<'_, '_>], members: &[Member<'_>]) -> Result<(), Kept> {
    // The member that defines the table or memory, and its index there.
    let owner = |nth: usize, member: &Member<'_>, sort: Sort, index: u32| {
        let Origin::Own(nth, index) = of(nth, member, sort, index) else {
            return None;
        };
        let module = &members.get(nth)?.module;
        Some((module, index.checked_sub(*module.imported.get(sort))?))
    };
    for (nth, (moved, member)) in moved.iter().zip(members).enumerate() {
        let module = moved.module;
        for element in &module.elements {
            if let ElementKind::Active {
                table_index,
                offset_expr,
            } = &element.kind
            {
                let index = table_index.unwrap_or_default();
                let items = match &element.items {
                    ElementItems::Functions(functions) => functions.count(),
                    ElementItems::Expressions(_, expressions) => expressions.count(),
                };
                let room = owner(nth, member, Sort::Table, index)
                    .and_then(|(module, own)| Some(at(&module.tables, own)?.ty.initial))
                    .ok_or(Kept::SegmentOffset)?;
                fits(
                    Value::of(offset_expr, &moved.values),
                    u64::from(items),
                    room,
                )?;
            }
        }
        for data in &module.data {
            if let DataKind::Active {
                memory_index,
                offset_expr,
            } = &data.kind
            {
                let room = owner(nth, member, Sort::Memory, *memory_index)
                    .and_then(|(module, own)| {
                        let memory = at(&module.memories, own)?;
                        memory
                            .initial
                            .checked_shl(memory.page_size_log2.unwrap_or(16))
                    })
                    .ok_or(Kept::SegmentOffset)?;
                let bytes = u64::try_from(data.data.len()).unwrap_or(u64::MAX);
                fits(Value::of(offset_expr, &moved.values), bytes, room)?;
            }
        }
    }
    Ok(())
}

fn fits(offset: Option<Value>, items: u64, room: u64) -> Result<(), Kept> {
    let end = offset
        .and_then(Value::offset)
        .and_then(|offset| offset.checked_add(items));
    match end {
        Some(end) if end <= room => Ok(()),
        _ => Err(Kept::SegmentOffset),
    }
}

/// The new module's sections, without empty ones.
#[derive(Default)]
struct Sections {
    functions: FunctionSection,
    tables: TableSection,
    memories: MemorySection,
    globals: GlobalSection,
    exports: ExportSection,
    elements: ElementSection,
    code: CodeSection,
    data: DataSection,
}

impl Sections {
    /// Appends a member's parts. Collects the functions that its code refers to, because a module
    /// must declare them.
    fn take(&mut self, moved: &Moved<'_, '_>, referred: &mut BTreeSet<u32>) -> Result<(), Kept> {
        let mut renumber = Renumber { moved, referred };
        let module = moved.module;
        let first = usize::try_from(module.imported.functions).unwrap_or(usize::MAX);
        let own = moved.indices.functions.iter().skip(first);
        for ((ty, body), index) in module.functions.iter().zip(&module.code).zip(own) {
            if index.is_some() {
                self.functions.function(renumber.type_index(*ty)?);
                renumber.parse_function_body(&mut self.code, body.clone())?;
            }
        }
        for table in &module.tables {
            let ty = renumber.table_type(table.ty)?;
            match &table.init {
                TableInit::RefNull => self.tables.table(ty),
                TableInit::Expr(init) => {
                    let init = renumber.const_expr(init.clone())?;
                    self.tables.table_with_init(ty, &init)
                }
            };
        }
        for memory in &module.memories {
            self.memories.memory(renumber.memory_type(*memory)?);
        }
        let first = usize::try_from(module.imported.globals).unwrap_or(usize::MAX);
        let own = moved.indices.globals.iter().zip(&moved.values).skip(first);
        for (global, (index, value)) in module.globals.iter().zip(own) {
            if index.is_some() {
                let init = match value {
                    Some(value) => value.expression(),
                    None => renumber.const_expr(global.init_expr.clone())?,
                };
                self.globals.global(renumber.global_type(global.ty)?, &init);
            }
        }
        for element in &module.elements {
            renumber.parse_element(&mut self.elements, element.clone())?;
        }
        for data in &module.data {
            renumber.parse_data(&mut self.data, data.clone())?;
        }
        Ok(())
    }
}

/// Rewrites a member's parts with the new indices.
struct Renumber<'r, 'm, 'a> {
    moved: &'r Moved<'m, 'a>,
    referred: &'r mut BTreeSet<u32>,
}

impl Renumber<'_, '_, '_> {
    fn index(&self, sort: Sort, index: u32) -> Result<u32, Error<Kept>> {
        let moved = at(self.moved.indices.get(sort), index).copied().flatten();
        moved.ok_or(Error::UserError(Kept::Unknown("an invalid index")))
    }
}

impl Reencode for Renumber<'_, '_, '_> {
    type Error = Kept;

    fn function_index(&mut self, index: u32) -> Result<u32, Error<Kept>> {
        self.index(Sort::Function, index)
    }

    fn table_index(&mut self, index: u32) -> Result<u32, Error<Kept>> {
        self.index(Sort::Table, index)
    }

    fn memory_index(&mut self, index: u32) -> Result<u32, Error<Kept>> {
        self.index(Sort::Memory, index)
    }

    fn global_index(&mut self, index: u32) -> Result<u32, Error<Kept>> {
        self.index(Sort::Global, index)
    }

    fn type_index(&mut self, index: u32) -> Result<u32, Error<Kept>> {
        let moved = at(&self.moved.types, index).copied();
        moved.ok_or(Error::UserError(Kept::Unknown("an invalid index")))
    }

    fn element_index(&mut self, index: u32) -> Result<u32, Error<Kept>> {
        Ok(self.moved.elements.saturating_add(index))
    }

    fn data_index(&mut self, index: u32) -> Result<u32, Error<Kept>> {
        Ok(self.moved.data.saturating_add(index))
    }

    fn instruction<'i>(&mut self, operator: Operator<'i>) -> Result<Instruction<'i>, Error<Kept>> {
        if let Operator::GlobalGet { global_index } = operator
            && let Some(Some(value)) = at(&self.moved.values, global_index)
        {
            return Ok(value.instruction());
        }
        if let Operator::RefFunc { function_index } = operator {
            let function = self.index(Sort::Function, function_index)?;
            self.referred.insert(function);
        }
        utils::instruction(self, operator)
    }

    /// A constant expression, evaluated if possible, because a literal can be compiled better.
    fn const_expr(
        &mut self,
        expression: wasmparser::ConstExpr<'_>,
    ) -> Result<ConstExpr, Error<Kept>> {
        match Value::of(&expression, &self.moved.values) {
            Some(value) => Ok(value.expression()),
            None => utils::const_expr(self, expression),
        }
    }
}

/// The names of functions, for traces of traps.
fn names(moved: &[Moved<'_, '_>]) -> NameSection {
    let mut names = BTreeMap::new();
    for moved in moved {
        for (index, name) in &moved.module.names {
            if *index >= moved.module.imported.functions
                && let Some(Some(index)) = at(&moved.indices.functions, *index)
            {
                names.insert(*index, *name);
            }
        }
    }
    let mut functions = NameMap::new();
    for (index, name) in names {
        functions.append(index, name);
    }
    let mut section = NameSection::new();
    section.functions(&functions);
    section
}
