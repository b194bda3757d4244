//! Which modules of a component are fused, and where each thing that they import comes from.

use std::collections::{HashMap, HashSet};

use wasmparser::{ElementKind, FuncType};

use super::Kept;
use super::items::{Item, items};
use super::module::{Each, Module, Sort, at, count, sort};

/// What a fused module imports is one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// A fused module's own, by its own index.
    Own(usize, u32),
    /// A function from outside: which of [`Plan::given`].
    Given(u32),
}

/// Where something in one of the component's index spaces comes from.
#[derive(Clone, Copy)]
pub(super) enum Source {
    Fused(Origin),
    /// It is known by its index alone.
    Outside(Sort, u32),
}

/// A module that is fused.
pub(super) struct Member<'a> {
    pub(super) module: Module<'a>,
    /// Of each sort, where what it imports comes from.
    pub(super) imports: Each<Vec<Origin>>,
}

/// The name by which a module is given a fused one's instance, and what it imports from that.
pub(super) type Whole<'a> = (&'a str, Vec<(&'a str, Sort, Origin)>);

/// What is known of a core instance.
enum Made<'a> {
    /// Which member it is.
    Member(usize),
    Together(HashMap<&'a str, Source>),
    Outside,
}

pub(super) struct Plan<'a> {
    pub(super) items: Vec<Item<'a>>,
    pub(super) members: Vec<Member<'a>>,
    /// Functions from outside, by their index in the component, with their types.
    pub(super) given: Vec<(u32, FuncType)>,
    /// Items that are, or make, a fused module.
    pub(super) gone: HashSet<usize>,
    /// The last item that is a member.
    pub(super) last: usize,
    /// Items that need a member.
    pub(super) dependent: HashSet<usize>,
    /// Of items that are instances which get a whole instance of a fused module: what they take of it.
    pub(super) whole: HashMap<usize, Vec<Whole<'a>>>,
    /// Where each item of an index space comes from.
    pub(super) sources: Each<Vec<Source>>,
}

/// A module that is not fused, and needs fused ones: which item it is, and the tables of theirs that it writes to.
struct Beside {
    item: usize,
    tables: Vec<Origin>,
    places_data: bool,
}

/// The component as far as it has been read.
#[derive(Default)]
struct Seen<'a> {
    /// Items that are modules, and how often each is instantiated.
    modules: Vec<(usize, u32)>,
    instances: Vec<(Made<'a>, bool)>,
    sources: Each<Vec<Source>>,
    /// Of each of these, whether it needs a member.
    needs: Each<Vec<bool>>,
    members: Vec<(usize, Member<'a>)>,
    given: Vec<(u32, FuncType)>,
    places: HashMap<u32, u32>,
    beside: Vec<Beside>,
    /// Items that need no fused module, and write to tables or memories when they are instantiated.
    writers: Vec<usize>,
    whole: HashMap<usize, Vec<Whole<'a>>>,
    gone: HashSet<usize>,
}

impl<'a> Plan<'a> {
    /// The plan for a component that is valid.
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
        // What makes something of the component's must stay where it is among its like.
        let lifts = |at: &usize| !matches!(items.get(*at), Some(item) if makes_core(item));
        if dependent.iter().any(|at| *at < last && lifts(at)) {
            return Err(Kept::Between);
        }
        Ok(Self {
            items,
            members: seen.members.into_iter().map(|(_, member)| member).collect(),
            given: seen.given,
            gone: seen.gone,
            last,
            dependent,
            whole: seen.whole,
            sources: seen.sources,
        })
    }
}

/// Whether an item makes something of core wasm, or nothing at all.
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
    /// Looks at the next item; whether it needs a member.
    fn look(&mut self, item: usize, what: &Item<'a>, items: &[Item<'a>]) -> Result<bool, Kept> {
        match what {
            Item::Instantiate(module, given) => {
                let Some((place, times)) = at(&self.modules, *module).copied() else {
                    return Err(Kept::Unknown("modules that are passed on"));
                };
                let Some(Item::Module(bytes)) = items.get(place) else {
                    return Err(Kept::Unknown("modules that are passed on"));
                };
                let args: HashMap<&str, u32> = given.iter().copied().collect();
                let read = Module::read(bytes)?;
                if read.starts {
                    return Err(Kept::Start);
                }
                let needs = args.values().any(|instance| {
                    at(&self.instances, *instance).is_some_and(|(_, needs)| *needs)
                });
                // An engine's pool has room for one table in each instance: the one beside the memory.
                let own_table = !read.tables.is_empty() && read.memories.is_empty();
                if times == 1
                    && !own_table
                    && let Some(imports) = self.imports(&read, &args)
                {
                    let module = read;
                    self.instances
                        .push((Made::Member(self.members.len()), true));
                    self.members.push((item, Member { module, imports }));
                    self.gone.extend([item, place]);
                    return Ok(true);
                }
                if !needs && (read.places_elements() || read.places_data()) {
                    self.writers.push(item);
                }
                if needs {
                    let beside = self.beside(item, &read, &args);
                    self.beside.push(beside);
                    let whole = self.whole(&read, given)?;
                    self.whole.insert(item, whole);
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

    /// Where what an instance exports comes from; `None` if it has no index of its own yet.
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

    /// Where all that a module imports comes from, if it can be fused with those before it.
    fn imports(
        &mut self,
        module: &Module<'_>,
        args: &HashMap<&str, u32>,
    ) -> Option<Each<Vec<Origin>>> {
        let mut origins = Each::<Vec<Origin>>::default();
        let mut given = Vec::new();
        let mut places = self.places.clone();
        for import in &module.imports {
            let sort = sort(import).ok()?;
            let origin = match self.export(*args.get(import.module)?, import.name)? {
                Source::Fused(origin) => origin,
                Source::Outside(Sort::Function, index) if !*at(&self.needs.functions, index)? => {
                    let next = count(self.given.len().saturating_add(given.len()));
                    let place = *places.entry(index).or_insert(next);
                    if place == next {
                        given.push((index, module.function_type(import)?.clone()));
                    }
                    Origin::Given(place)
                }
                Source::Outside(..) => return None,
            };
            origins.get_mut(sort).push(origin);
        }
        self.given.extend(given);
        self.places = places;
        Some(origins)
    }

    /// What a module takes of the instances of fused ones that it is given as they are.
    fn whole(&self, module: &Module<'a>, args: &[(&'a str, u32)]) -> Result<Vec<Whole<'a>>, Kept> {
        let mut whole = Vec::new();
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
            whole.push((*name, taken));
        }
        Ok(whole)
    }

    /// What a module that is not fused does to those that are when it is instantiated.
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

    /// Those that are not fused come after those that are: no difference, if they write nothing that one of these writes after them. None of them runs code.
    fn order_is_free(&self, last: usize) -> Result<(), Kept> {
        for beside in self.beside.iter().filter(|beside| beside.item < last) {
            // It would come after what now comes after it, and might write to the same place.
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
