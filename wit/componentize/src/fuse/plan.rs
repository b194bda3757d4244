//! Selects the modules to fuse, and determines the origin of each of their imports.

use std::collections::{HashMap, HashSet};

use wasmparser::{ElementKind, FuncType};

use super::Kept;
use super::items::{Item, items};
use super::module::{Each, Module, Sort, at, count, sort};

/// The origin of a fused module's import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// An item that a fused module defines, with its own index.
    Own(usize, u32),
    /// An outside function: an index of [`Plan::given`].
    Given(u32),
}

/// An export of the new module: a name, and the exported item.
pub(super) type Export = (String, Sort, Origin);

/// The origin of an item in one of the component's index spaces.
#[derive(Clone, Copy)]
pub(super) enum Source {
    Fused(Origin),
    /// An item outside the fused modules, by its index.
    Outside(Sort, u32),
}

/// A module to fuse.
pub(super) struct Member<'a> {
    pub(super) module: Module<'a>,
    /// For each sort, the origins of its imports.
    pub(super) imports: Each<Vec<Origin>>,
}

/// The name of an argument that is a fused module's instance, and the items that are imported from
/// it.
pub(super) type InstanceArgument<'a> = (&'a str, Vec<(&'a str, Sort, Origin)>);

/// A core instance.
enum Made<'a> {
    /// The instance of a member.
    Member(usize),
    Together(HashMap<&'a str, Source>),
    Outside,
}

pub(super) struct Plan<'a> {
    pub(super) items: Vec<Item<'a>>,
    pub(super) members: Vec<Member<'a>>,
    /// Outside functions, by their index in the component, with their types.
    pub(super) given: Vec<(u32, FuncType)>,
    /// Items that define or instantiate a fused module.
    pub(super) fused_items: HashSet<usize>,
    /// The last item that is a member.
    pub(super) last: usize,
    /// Items that depend on a member.
    pub(super) dependent: HashSet<usize>,
    /// For instances with a whole fused instance as argument: the items that they import from it.
    pub(super) instance_arguments: HashMap<usize, Vec<InstanceArgument<'a>>>,
    /// The origin of each item in the index spaces.
    pub(super) sources: Each<Vec<Source>>,
}

/// A module that is not fused and depends on fused ones: its item, and the fused tables that it
/// writes.
struct Beside {
    item: usize,
    tables: Vec<Origin>,
    places_data: bool,
}

/// The plan's state while the component is read.
#[derive(Default)]
struct Seen<'a> {
    /// Items that are modules, and the number of their instances.
    modules: Vec<(usize, u32)>,
    instances: Vec<(Made<'a>, bool)>,
    sources: Each<Vec<Source>>,
    /// For each sort, whether an item depends on a member.
    needs: Each<Vec<bool>>,
    members: Vec<(usize, Member<'a>)>,
    given: Vec<(u32, FuncType)>,
    positions: HashMap<u32, u32>,
    beside: Vec<Beside>,
    /// Items that do not depend on fused modules, and have active segments.
    writers: Vec<usize>,
    instance_arguments: HashMap<usize, Vec<InstanceArgument<'a>>>,
    fused_items: HashSet<usize>,
}

impl<'a> Plan<'a> {
    /// The plan for a valid component.
    pub(super) fn of(component: &'a [u8]) -> Result<Self, Kept> {
        let items = items(component)?;
        let mut seen = Seen::default();
        let mut dependent = HashSet::new();
        for (at, item) in items.iter().enumerate() {
            if let Item::Module(_) = item {
                seen.modules.push((at, 0));
            }
        }
        for item in &items {
            if let Item::Instantiate(module, _) = item
                && let Some((_, times)) = usize::try_from(*module)
                    .ok()
                    .and_then(|module| seen.modules.get_mut(module))
            {
                *times = times.saturating_add(1);
            }
        }
        for (at, item) in items.iter().enumerate() {
            if seen.look(at, item, &items)? {
                dependent.insert(at);
            }
        }
        let Some(last) = seen.members.last().map(|(item, _)| *item) else {
            return Err(Kept::Few);
        };
        if seen.members.len() < 2 {
            return Err(Kept::Few);
        }
        seen.order_is_free(last)?;
        // Items that define component items must keep their order.
        let lifts = |at: &usize| !matches!(items.get(*at), Some(item) if makes_core(item));
        if dependent.iter().any(|at| *at < last && lifts(at)) {
            return Err(Kept::Between);
        }
        Ok(Self {
            items,
            members: seen.members.into_iter().map(|(_, member)| member).collect(),
            given: seen.given,
            fused_items: seen.fused_items,
            last,
            dependent,
            instance_arguments: seen.instance_arguments,
            sources: seen.sources,
        })
    }
}

/// Whether an item defines a core item, or no item at all.
fn makes_core(item: &Item<'_>) -> bool {
    match item {
        Item::Module(_) | Item::Instantiate(..) | Item::Exports(_) | Item::Alias(..) => true,
        Item::Canonical(function) => {
            !matches!(function, wasmparser::CanonicalFunction::Lift { .. })
        }
        Item::Other(_) | Item::Section(..) => false,
    }
}

impl<'a> Seen<'a> {
    /// Processes the next item; whether it depends on a member.
    fn look(&mut self, item: usize, what: &Item<'a>, items: &[Item<'a>]) -> Result<bool, Kept> {
        match what {
            Item::Instantiate(module, given) => {
                let Some((definition, times)) = at(&self.modules, *module).copied() else {
                    return Err(Kept::Unknown("modules as imports or exports"));
                };
                let Some(Item::Module(bytes)) = items.get(definition) else {
                    return Err(Kept::Unknown("modules as imports or exports"));
                };
                let args: HashMap<&str, u32> = given.iter().copied().collect();
                let read = Module::read(bytes)?;
                if read.starts {
                    return Err(Kept::Start);
                }
                let needs = args.values().any(|instance| {
                    at(&self.instances, *instance).is_some_and(|(_, needs)| *needs)
                });
                // An engine's pool has one table for each instance, which is the one beside the
                // memory.
                let own_table = !read.tables.is_empty() && read.memories.is_empty();
                if times == 1
                    && !own_table
                    && let Some(imports) = self.imports(&read, &args)
                {
                    let module = read;
                    self.instances
                        .push((Made::Member(self.members.len()), true));
                    self.members.push((item, Member { module, imports }));
                    self.fused_items.extend([item, definition]);
                    return Ok(true);
                }
                if !needs && (read.places_elements() || read.places_data()) {
                    self.writers.push(item);
                }
                if needs {
                    let beside = self.beside(item, &read, &args);
                    self.beside.push(beside);
                    let arguments = self.instance_arguments(&read, given)?;
                    self.instance_arguments.insert(item, arguments);
                }
                self.instances.push((Made::Outside, needs));
                Ok(needs)
            }
            Item::Exports(exports) => {
                let mut needs = false;
                let mut together = HashMap::new();
                for (name, sort, index) in exports {
                    needs |= at(self.needs.get(*sort), *index).is_some_and(|needs| *needs);
                    let source = at(self.sources.get(*sort), *index);
                    together.insert(
                        *name,
                        source.copied().unwrap_or(Source::Outside(*sort, *index)),
                    );
                }
                self.instances.push((Made::Together(together), needs));
                Ok(needs)
            }
            Item::Alias(sort, instance, name) => {
                let needs = at(&self.instances, *instance).is_some_and(|(_, needs)| *needs);
                let own = count(self.sources.get(*sort).len());
                let source = self.export(*instance, name);
                self.add(*sort, source.unwrap_or(Source::Outside(*sort, own)), needs);
                Ok(needs)
            }
            Item::Canonical(function) => {
                let used = Item::used(function)?;
                let needs = used.iter().any(|(sort, index)| {
                    at(self.needs.get(*sort), *index).is_some_and(|needs| *needs)
                });
                if makes_core(what) {
                    let own = count(self.sources.functions.len());
                    self.add(Sort::Function, Source::Outside(Sort::Function, own), needs);
                }
                Ok(needs)
            }
            Item::Module(_) | Item::Other(_) | Item::Section(..) => Ok(false),
        }
    }

    fn add(&mut self, sort: Sort, source: Source, needs: bool) {
        self.sources.get_mut(sort).push(source);
        self.needs.get_mut(sort).push(needs);
    }

    /// The origin of an instance's export; `None` if it has no index yet.
    fn export(&self, instance: u32, name: &str) -> Option<Source> {
        match &at(&self.instances, instance)?.0 {
            Made::Member(nth) => {
                let (_, member) = self.members.get(*nth)?;
                let (sort, index) = member.module.exports.get(name)?;
                let origin = at(member.imports.get(*sort), *index);
                Some(Source::Fused(
                    origin.copied().unwrap_or(Origin::Own(*nth, *index)),
                ))
            }
            Made::Together(exports) => exports.get(name).copied(),
            Made::Outside => None,
        }
    }

    /// The origins of all imports of a module, if it can be fused with the previous ones.
    fn imports(
        &mut self,
        module: &Module<'_>,
        args: &HashMap<&str, u32>,
    ) -> Option<Each<Vec<Origin>>> {
        let mut origins = Each::<Vec<Origin>>::default();
        let mut given = Vec::new();
        let mut positions = self.positions.clone();
        for import in &module.imports {
            let sort = sort(import).ok()?;
            let origin = match self.export(*args.get(import.module)?, import.name)? {
                Source::Fused(origin) => origin,
                Source::Outside(Sort::Function, index) if !*at(&self.needs.functions, index)? => {
                    let next = count(self.given.len().saturating_add(given.len()));
                    let number = *positions.entry(index).or_insert(next);
                    if number == next {
                        given.push((index, module.function_type(import)?.clone()));
                    }
                    Origin::Given(number)
                }
                Source::Outside(..) => return None,
            };
            origins.get_mut(sort).push(origin);
        }
        self.given.extend(given);
        self.positions = positions;
        Some(origins)
    }

    /// The items that a module imports from whole instances of fused modules.
    fn instance_arguments(
        &self,
        module: &Module<'a>,
        args: &[(&'a str, u32)],
    ) -> Result<Vec<InstanceArgument<'a>>, Kept> {
        let mut arguments = Vec::new();
        for (name, instance) in args {
            let Some((Made::Member(_), _)) = at(&self.instances, *instance) else {
                continue;
            };
            let mut taken = Vec::new();
            for import in module
                .imports
                .iter()
                .filter(|import| import.module == *name)
            {
                if let Some(Source::Fused(origin)) = self.export(*instance, import.name) {
                    taken.push((import.name, sort(import)?, origin));
                }
            }
            arguments.push((*name, taken));
        }
        Ok(arguments)
    }

    /// The effects of instantiating a module that is not fused on fused ones.
    fn beside(&self, item: usize, module: &Module<'_>, args: &HashMap<&str, u32>) -> Beside {
        let imported: Vec<_> = module
            .imports
            .iter()
            .filter(|import| sort(import) == Ok(Sort::Table))
            .map(|import| self.export(*args.get(import.module)?, import.name))
            .collect();
        let mut tables = Vec::new();
        for element in &module.elements {
            if let ElementKind::Active { table_index, .. } = element.kind
                && let Some(Some(Source::Fused(origin))) =
                    at(&imported, table_index.unwrap_or_default())
            {
                tables.push(*origin);
            }
        }
        Beside {
            item,
            tables,
            places_data: module.places_data(),
        }
    }

    /// Checks that modules that are not fused may be instantiated after those that are. That holds
    /// if they do not overwrite what a later fused module writes, because none of them runs code.
    fn order_is_free(&self, last: usize) -> Result<(), Kept> {
        for beside in self.beside.iter().filter(|beside| beside.item < last) {
            // It would be instantiated after modules that follow it now, which might write to the
            // same place.
            let mut between = self.writers.iter().filter(|writer| **writer < last);
            if between.any(|writer| *writer > beside.item) {
                return Err(Kept::Between);
            }
            let later = self.members.iter().enumerate();
            for (nth, (_, member)) in later.filter(|(_, (item, _))| *item > beside.item) {
                let writes = member.module.elements.iter().any(|element| {
                    let ElementKind::Active { table_index, .. } = element.kind else {
                        return false;
                    };
                    let index = table_index.unwrap_or_default();
                    let origin = at(&member.imports.tables, index);
                    let origin = origin.copied().unwrap_or(Origin::Own(nth, index));
                    beside.tables.contains(&origin)
                });
                if writes || (beside.places_data && member.module.places_data()) {
                    return Err(Kept::Between);
                }
            }
        }
        Ok(())
    }
}
