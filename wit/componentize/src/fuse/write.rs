//! Writes the component with one module in place of many.

use std::collections::{HashMap, HashSet};

use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent};
use wasm_encoder::{
    Alias, CanonicalFunctionSection, Component, ComponentAliasSection, ExportKind, InstanceSection,
    ModuleArg, RawSection,
};

use wasmparser::CanonicalFunction;

use super::Kept;
use super::items::Item;
use super::merge::{GIVEN, merged};
use super::module::{Each, Sort, at};
use super::plan::{Export, Origin, Plan, Source};

/// The section of core modules.
const CORE_MODULE: u8 = 1;

/// The component of a plan.
pub(super) fn component(plan: &Plan<'_>) -> Result<Vec<u8>, Kept> {
    let stays = Stays::of(plan)?;
    let module = merged(&plan.members, &plan.given, &stays.exports)?;
    let mut new = New::default();
    let items = || (0..plan.items.len()).filter(|item| stays.items.contains_key(item));
    let before = |item: &usize| *item <= plan.last;
    let needs = |item: &usize| plan.dependent.contains(item);
    for item in items().filter(|item| before(item) && !needs(item)) {
        new.item(plan, &stays, item)?;
    }
    new.fused(plan, &module)?;
    for item in items().filter(|item| before(item) && needs(item)) {
        new.item(plan, &stays, item)?;
    }
    for item in items().filter(|item| !before(item)) {
        new.item(plan, &stays, item)?;
    }
    new.flush();
    Ok(new.component.finish())
}

/// The remaining items of a component, and the exports that they need from the new module.
#[derive(Default)]
struct Stays {
    /// Items, with their former index.
    items: HashMap<usize, u32>,
    exports: Vec<Export>,
    names: HashMap<(Sort, Origin), String>,
}

impl Stays {
    /// All items that are used. Items that only linked the fused modules are not.
    fn of(plan: &Plan<'_>) -> Result<Self, Kept> {
        let mut stays = Self::default();
        let had = indices(plan);
        let mut used: HashSet<(Sort, u32)> = plan
            .given
            .iter()
            .map(|(index, _)| (Sort::Function, *index))
            .collect();
        let mut instances = HashSet::new();
        let mut wanted = Vec::new();
        for (item, what) in plan.items.iter().enumerate().rev() {
            let index = had.get(item).copied().unwrap_or_default();
            let stay = match what {
                _ if plan.fused_items.contains(&item) => false,
                Item::Module(_) | Item::Other(_) | Item::Section(..) => true,
                Item::Instantiate(_, args) => {
                    instances.extend(args.iter().map(|(_, instance)| *instance));
                    // Later items come first here, so that their uses are known.
                    let taken = plan.instance_arguments.get(&item).into_iter().flatten();
                    wanted.extend(taken.flat_map(|(_, taken)| taken).rev().copied());
                    true
                }
                Item::Exports(exports) => {
                    let stay = instances.contains(&index);
                    if stay {
                        used.extend(exports.iter().map(|(_, sort, index)| (*sort, *index)));
                    }
                    stay
                }
                Item::Alias(sort, instance, name) => {
                    let stay = used.contains(&(*sort, index));
                    if stay {
                        match at(plan.sources.get(*sort), index) {
                            Some(Source::Fused(origin)) => wanted.push((*name, *sort, *origin)),
                            _ => {
                                instances.insert(*instance);
                            }
                        }
                    }
                    stay
                }
                Item::Canonical(function) => {
                    used.extend(Item::used(function)?);
                    true
                }
            };
            if stay {
                stays.items.insert(item, index);
            }
        }
        // In the order in which the component names them.
        for (name, sort, origin) in wanted.into_iter().rev() {
            stays.export(name, sort, origin);
        }
        Ok(stays)
    }

    /// Exports an item under the module's own name for it, unless that name is in use.
    fn export(&mut self, name: &str, sort: Sort, origin: Origin) {
        if self.names.contains_key(&(sort, origin)) {
            return;
        }
        let taken = self.exports.iter().any(|(taken, ..)| taken == name);
        let name = if taken {
            // Numbers are unique, and no tool generates names with this ending.
            format!("{name}#fused{}", self.exports.len())
        } else {
            name.to_owned()
        };
        self.names.insert((sort, origin), name.clone());
        self.exports.push((name, sort, origin));
    }
}

/// The former index of each item.
fn indices(plan: &Plan<'_>) -> Vec<u32> {
    let (mut modules, mut instances, mut counts) = (0_u32, 0_u32, Each::<u32>::default());
    let mut indices = Vec::new();
    for item in &plan.items {
        let next = match item {
            Item::Module(_) => &mut modules,
            Item::Instantiate(..) | Item::Exports(_) => &mut instances,
            Item::Alias(sort, ..) => counts.get_mut(*sort),
            Item::Canonical(CanonicalFunction::Lift { .. })
            | Item::Other(_)
            | Item::Section(..) => {
                indices.push(0);
                continue;
            }
            Item::Canonical(_) => &mut counts.functions,
        };
        indices.push(*next);
        *next = next.saturating_add(1);
    }
    indices
}

/// The section that is being written.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Open {
    #[default]
    None,
    Instances,
    Aliases,
    Canonical,
}

/// The new component while it is written, with the new index of each old one.
#[derive(Default)]
struct New {
    component: Component,
    open: Open,
    instances: InstanceSection,
    aliases: ComponentAliasSection,
    canonical: CanonicalFunctionSection,
    indices: Moved,
    module_count: u32,
    instance_count: u32,
    counts: Each<u32>,
    /// The instance of the fused module.
    instance: u32,
}

impl New {
    /// Continues with a section of this kind.
    fn open(&mut self, kind: Open) {
        if self.open == kind {
            return;
        }
        match core::mem::replace(&mut self.open, kind) {
            Open::None => {}
            Open::Instances => {
                self.component
                    .section(&core::mem::take(&mut self.instances));
            }
            Open::Aliases => {
                self.component.section(&core::mem::take(&mut self.aliases));
            }
            Open::Canonical => {
                self.component
                    .section(&core::mem::take(&mut self.canonical));
            }
        }
    }

    fn flush(&mut self) {
        self.open(Open::None);
    }

    fn raw(&mut self, id: u8, data: &[u8]) {
        self.flush();
        self.component.section(&RawSection { id, data });
    }

    /// Writes the fused module, and its instance.
    fn fused(&mut self, plan: &Plan<'_>, module: &[u8]) -> Result<(), Kept> {
        self.raw(CORE_MODULE, module);
        let module = next(&mut self.module_count);
        self.open(Open::Instances);
        let mut args = Vec::new();
        if !plan.given.is_empty() {
            let mut exports = Vec::new();
            for (nth, (index, _)) in plan.given.iter().enumerate() {
                let index = self.indices.function_index(*index)?;
                exports.push((nth.to_string(), ExportKind::Func, index));
            }
            self.instances.export_items(
                exports
                    .iter()
                    .map(|(name, kind, index)| (name.as_str(), *kind, *index)),
            );
            let given = next(&mut self.instance_count);
            args.push((GIVEN, ModuleArg::Instance(given)));
        }
        self.instances.instantiate(module, args);
        self.instance = next(&mut self.instance_count);
        Ok(())
    }

    fn item(&mut self, plan: &Plan<'_>, stays: &Stays, item: usize) -> Result<(), Kept> {
        let had = stays.items.get(&item).copied().unwrap_or_default();
        match plan.items.get(item) {
            None => {}
            Some(Item::Section(id, data)) => self.raw(*id, data),
            Some(Item::Module(module)) => {
                self.raw(CORE_MODULE, module);
                self.indices
                    .modules
                    .insert(had, next(&mut self.module_count));
            }
            Some(Item::Instantiate(module, args)) => {
                let module = moved(&self.indices.modules, *module)?;
                let arguments = plan
                    .instance_arguments
                    .get(&item)
                    .map_or(&[][..], Vec::as_slice);
                let mut given = Vec::new();
                for (name, instance) in args {
                    let instance = match arguments.iter().find(|(argument, _)| argument == name) {
                        Some((_, taken)) => self.part(stays, taken)?,
                        None => moved(&self.indices.instances, *instance)?,
                    };
                    given.push((*name, ModuleArg::Instance(instance)));
                }
                self.open(Open::Instances);
                self.instances.instantiate(module, given);
                self.indices
                    .instances
                    .insert(had, next(&mut self.instance_count));
            }
            Some(Item::Exports(exports)) => {
                self.open(Open::Instances);
                let mut items = Vec::new();
                for (name, sort, index) in exports {
                    let index = moved(self.indices.items.get(*sort), *index)?;
                    items.push((*name, sort.kind(), index));
                }
                self.instances.export_items(items);
                self.indices
                    .instances
                    .insert(had, next(&mut self.instance_count));
            }
            Some(Item::Alias(sort, instance, name)) => {
                self.open(Open::Aliases);
                let (instance, name) = match at(plan.sources.get(*sort), had) {
                    Some(Source::Fused(origin)) => {
                        let name = stays.names.get(&(*sort, *origin)).ok_or(LOST)?;
                        (self.instance, name.as_str())
                    }
                    _ => (moved(&self.indices.instances, *instance)?, *name),
                };
                self.aliases.alias(Alias::CoreInstanceExport {
                    instance,
                    kind: sort.kind(),
                    name,
                });
                self.made(*sort, had);
            }
            Some(Item::Other(alias)) => {
                self.open(Open::Aliases);
                let alias = self.indices.component_alias(alias.clone())?;
                self.aliases.alias(alias);
            }
            Some(Item::Canonical(function)) => {
                self.open(Open::Canonical);
                self.indices
                    .parse_component_canonical(&mut self.canonical, function.clone())?;
                if !matches!(function, CanonicalFunction::Lift { .. }) {
                    self.made(Sort::Function, had);
                }
            }
        }
        Ok(())
    }

    /// Writes an instance with the names of a former one, whose items are in the fused module now.
    fn part(&mut self, stays: &Stays, taken: &[(&str, Sort, Origin)]) -> Result<u32, Kept> {
        self.open(Open::Aliases);
        let mut items = Vec::new();
        for (name, sort, origin) in taken {
            let exported = stays.names.get(&(*sort, *origin)).ok_or(LOST)?;
            self.aliases.alias(Alias::CoreInstanceExport {
                instance: self.instance,
                kind: sort.kind(),
                name: exported,
            });
            let index = next(self.counts.get_mut(*sort));
            items.push((*name, sort.kind(), index));
        }
        self.open(Open::Instances);
        self.instances.export_items(items);
        Ok(next(&mut self.instance_count))
    }

    fn made(&mut self, sort: Sort, had: u32) {
        let index = next(self.counts.get_mut(sort));
        self.indices.items.get_mut(sort).insert(had, index);
    }
}

/// The next index of a kind.
fn next(count: &mut u32) -> u32 {
    let index = *count;
    *count = index.saturating_add(1);
    index
}

/// An item is used that is not in the new component.
const LOST: Kept = Kept::Unknown("an invalid index");

fn moved(indices: &HashMap<u32, u32>, index: u32) -> Result<u32, Kept> {
    indices.get(&index).copied().ok_or(LOST)
}

/// The new index of each core item of the old component. All other indices stay.
#[derive(Default)]
struct Moved {
    modules: HashMap<u32, u32>,
    instances: HashMap<u32, u32>,
    items: Each<HashMap<u32, u32>>,
}

impl Reencode for Moved {
    type Error = Kept;

    fn function_index(&mut self, index: u32) -> Result<u32, Error<Kept>> {
        moved(&self.items.functions, index).map_err(Error::UserError)
    }

    fn memory_index(&mut self, index: u32) -> Result<u32, Error<Kept>> {
        moved(&self.items.memories, index).map_err(Error::UserError)
    }
}

impl ReencodeComponent for Moved {}
