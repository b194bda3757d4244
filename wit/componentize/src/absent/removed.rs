//! What is removed from a component, found in the order of its sections.

use std::collections::{BTreeSet, HashMap, HashSet};

use wasmparser::{
    BinaryReader, BinaryReaderError, CanonicalFunction, ComponentAlias,
    ComponentAliasSectionReader, ComponentCanonicalSectionReader, ComponentExportSectionReader,
    ComponentExternalKind, ComponentImportSectionReader, ComponentInstanceSectionReader,
    ComponentOuterAliasKind, ComponentTypeRef, ComponentTypeSectionReader, ExternalKind,
};

use super::section_ids::{ALIAS, CANONICAL, EXPORT, IMPORT, INSTANCE, TYPE};

/// The number of items of each kind that the sections so far define.
#[derive(Default)]
struct Counts {
    types: u32,
    functions: u32,
    instances: u32,
    core_functions: u32,
}

/// What is removed: the indices of items, and where they are defined.
#[derive(Default)]
pub(super) struct Removed {
    counts: Counts,
    pub(super) types: BTreeSet<u32>,
    pub(super) functions: BTreeSet<u32>,
    pub(super) instances: BTreeSet<u32>,
    /// The index of the first type of each section of types.
    pub(super) first_types: HashMap<usize, u32>,
    /// Imports and aliases: the section, and the number of the entry in it.
    pub(super) entries: HashSet<(usize, usize)>,
    /// Core functions that trap: the section and entry of each, and its number in the module.
    pub(super) stubs: HashMap<(usize, usize), usize>,
    /// Their indices among the component's core functions.
    pub(super) core_functions: Vec<u32>,
}

impl Removed {
    /// Reads a section, in the order of the component.
    pub(super) fn look(
        &mut self,
        at: usize,
        id: u8,
        content: &[u8],
        package: &str,
    ) -> Result<(), BinaryReaderError> {
        let reader = BinaryReader::new(content, 0);
        match id {
            TYPE => {
                self.first_types.insert(at, self.counts.types);
                let count = ComponentTypeSectionReader::new(reader)?.count();
                self.counts.types = self.counts.types.saturating_add(count);
            }
            INSTANCE => {
                let count = ComponentInstanceSectionReader::new(reader)?.count();
                self.counts.instances = self.counts.instances.saturating_add(count);
            }
            IMPORT => {
                let imports = ComponentImportSectionReader::new(reader)?;
                for (nth, import) in imports.into_iter().enumerate() {
                    let import = import?;
                    let is_removed = import.name.name.starts_with(package);
                    if is_removed {
                        self.entries.insert((at, nth));
                    }
                    match import.ty {
                        ComponentTypeRef::Instance(ty) => {
                            if is_removed {
                                self.types.insert(ty);
                            }
                            self.add(ComponentExternalKind::Instance, is_removed);
                        }
                        ComponentTypeRef::Func(_) => {
                            self.add(ComponentExternalKind::Func, is_removed)
                        }
                        ComponentTypeRef::Type(_) => {
                            self.add(ComponentExternalKind::Type, is_removed)
                        }
                        _ => {}
                    }
                }
            }
            ALIAS => {
                let aliases = ComponentAliasSectionReader::new(reader)?;
                for (nth, alias) in aliases.into_iter().enumerate() {
                    if self.alias(&alias?) {
                        self.entries.insert((at, nth));
                    }
                }
            }
            CANONICAL => {
                let functions = ComponentCanonicalSectionReader::new(reader)?;
                for (nth, function) in functions.into_iter().enumerate() {
                    self.canonical((at, nth), &function?);
                }
            }
            EXPORT => {
                for export in ComponentExportSectionReader::new(reader)? {
                    self.add(export?.kind, false);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Counts an item, which may be removed.
    fn add(&mut self, kind: ComponentExternalKind, is_removed: bool) {
        let (count, indices) = match kind {
            ComponentExternalKind::Type => (&mut self.counts.types, &mut self.types),
            ComponentExternalKind::Func => (&mut self.counts.functions, &mut self.functions),
            ComponentExternalKind::Instance => (&mut self.counts.instances, &mut self.instances),
            _ => return,
        };
        if is_removed {
            indices.insert(*count);
        }
        *count = count.saturating_add(1);
    }

    /// Counts an alias; whether it is removed.
    fn alias(&mut self, alias: &ComponentAlias<'_>) -> bool {
        match alias {
            ComponentAlias::InstanceExport {
                kind,
                instance_index,
                ..
            } => {
                let is_removed = self.instances.contains(instance_index);
                self.add(*kind, is_removed);
                return is_removed;
            }
            ComponentAlias::CoreInstanceExport {
                kind: ExternalKind::Func,
                ..
            } => {
                self.counts.core_functions = self.counts.core_functions.saturating_add(1);
            }
            ComponentAlias::Outer {
                kind: ComponentOuterAliasKind::Type,
                ..
            } => self.add(ComponentExternalKind::Type, false),
            _ => {}
        }
        false
    }

    /// Counts a canonical function, which traps if it is made of something that is removed.
    fn canonical(&mut self, entry: (usize, usize), function: &CanonicalFunction) {
        let is_removed = match function {
            CanonicalFunction::Lift { .. } => {
                return self.add(ComponentExternalKind::Func, false);
            }
            CanonicalFunction::Lower { func_index, .. } => self.functions.contains(func_index),
            CanonicalFunction::ResourceDrop { resource } => self.types.contains(resource),
            _ => false,
        };
        if is_removed {
            self.stubs.insert(entry, self.core_functions.len());
            self.core_functions.push(self.counts.core_functions);
        }
        self.counts.core_functions = self.counts.core_functions.saturating_add(1);
    }
}
