//! Writes the component without what is removed, with new indices.

use std::collections::BTreeSet;
use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent};
use wasm_encoder::{
    Alias, CanonicalFunctionSection, Component, ComponentAliasSection, ComponentExportSection,
    ComponentImportSection, ComponentInstanceSection, ComponentSectionId, ComponentTypeSection,
    ExportKind, InstanceSection, ModuleArg, RawSection,
};
use wasmparser::{
    BinaryReader, ComponentAliasSectionReader, ComponentCanonicalSectionReader,
    ComponentExportSectionReader, ComponentImportSectionReader, ComponentInstanceSectionReader,
    ComponentTypeSectionReader, InstanceSectionReader,
};

use super::removed::Removed;
use super::section_ids::{ALIAS, CANONICAL, CORE_INSTANCE, CUSTOM, EXPORT, IMPORT, INSTANCE, TYPE};

/// The custom section with names of the component's items. It uses indices, which change.
const NAMES: &[u8] = b"\x0ecomponent-name";

/// The module of functions that trap, and its instance, are the first of their kind.
const STUB: u32 = 0;

/// The index of an item when these are removed.
fn moved(removed: &BTreeSet<u32>, index: u32) -> u32 {
    let before = removed.range(..index).count();
    index.saturating_sub(u32::try_from(before).unwrap_or_default())
}

/// The new component while it is written.
pub(super) struct Writer<'r> {
    removed: &'r Removed,
    component: Component,
    /// Whether the module of functions that trap is written.
    has_stub: bool,
    /// The nesting depth inside a type. Indices of the outermost level change.
    depth: u32,
}

impl<'r> Writer<'r> {
    pub(super) fn new(removed: &'r Removed) -> Self {
        Self {
            removed,
            component: Component::new(),
            has_stub: false,
            depth: 0,
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.component.finish()
    }

    /// Writes the module of functions that trap, and its instance.
    fn stub(&mut self, module: &[u8]) {
        self.has_stub = true;
        self.component.section(&RawSection {
            id: ComponentSectionId::CoreModule.into(),
            data: module,
        });
        let mut instances = InstanceSection::new();
        let nothing: [(&str, ModuleArg); 0] = [];
        instances.instantiate(STUB, nothing);
        self.component.section(&instances);
    }

    /// Writes a section without the entries that are removed, and before the first one that may use
    /// core items, the module of functions that trap.
    pub(super) fn section(
        &mut self,
        at: usize,
        id: u8,
        content: &[u8],
        stub: &[u8],
    ) -> Result<(), Error<Infallible>> {
        // Types, imports and aliases of their parts come first, and use no core item.
        if !self.has_stub && ![CUSTOM, TYPE, IMPORT, ALIAS].contains(&id) {
            self.stub(stub);
        }
        let reader = BinaryReader::new(content, 0);
        match id {
            CUSTOM if content.starts_with(NAMES) => {}
            TYPE => return self.types(at, ComponentTypeSectionReader::new(reader)?),
            IMPORT => {
                let mut imports = ComponentImportSection::new();
                for (nth, import) in ComponentImportSectionReader::new(reader)?
                    .into_iter()
                    .enumerate()
                {
                    let import = import?;
                    if !self.removed.entries.contains(&(at, nth)) {
                        let ty = self.component_type_ref(import.ty)?;
                        imports.import(import.name, ty);
                    }
                }
                if !imports.is_empty() {
                    self.component.section(&imports);
                }
            }
            ALIAS => {
                let mut aliases = ComponentAliasSection::new();
                for (nth, alias) in ComponentAliasSectionReader::new(reader)?
                    .into_iter()
                    .enumerate()
                {
                    let alias = alias?;
                    if !self.removed.entries.contains(&(at, nth)) {
                        aliases.alias(self.component_alias(alias)?);
                    }
                }
                if !aliases.is_empty() {
                    self.component.section(&aliases);
                }
            }
            CANONICAL => {
                return self.canonical(at, ComponentCanonicalSectionReader::new(reader)?);
            }
            CORE_INSTANCE => {
                let mut instances = InstanceSection::new();
                self.parse_instance_section(&mut instances, InstanceSectionReader::new(reader)?)?;
                self.component.section(&instances);
            }
            INSTANCE => {
                let mut instances = ComponentInstanceSection::new();
                let section = ComponentInstanceSectionReader::new(reader)?;
                self.parse_component_instance_section(&mut instances, section)?;
                self.component.section(&instances);
            }
            EXPORT => {
                let mut exports = ComponentExportSection::new();
                let section = ComponentExportSectionReader::new(reader)?;
                self.parse_component_export_section(&mut exports, section)?;
                self.component.section(&exports);
            }
            _ => {
                self.component.section(&RawSection { id, data: content });
            }
        }
        Ok(())
    }

    /// The new index of an item, if it is at the outermost level.
    fn outermost(&self, removed: &BTreeSet<u32>, index: u32) -> u32 {
        if self.depth == 0 {
            moved(removed, index)
        } else {
            index
        }
    }

    fn types(
        &mut self,
        at: usize,
        section: ComponentTypeSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        let first = self.removed.first_types.get(&at).copied();
        let mut types = ComponentTypeSection::new();
        for (index, ty) in (first.unwrap_or_default()..).zip(section) {
            let ty = ty?;
            if !self.removed.types.contains(&index) {
                self.parse_component_type(types.ty(), ty)?;
            }
        }
        if !types.is_empty() {
            self.component.section(&types);
        }
        Ok(())
    }

    /// Writes canonical functions, and aliases of functions that trap in place of removed ones.
    fn canonical(
        &mut self,
        at: usize,
        section: ComponentCanonicalSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        let mut functions = CanonicalFunctionSection::new();
        for (nth, function) in section.into_iter().enumerate() {
            let function = function?;
            let Some(number) = self.removed.stubs.get(&(at, nth)) else {
                self.parse_component_canonical(&mut functions, function)?;
                continue;
            };
            if !functions.is_empty() {
                self.component.section(&core::mem::take(&mut functions));
            }
            let mut aliases = ComponentAliasSection::new();
            aliases.alias(Alias::CoreInstanceExport {
                instance: STUB,
                kind: ExportKind::Func,
                name: &number.to_string(),
            });
            self.component.section(&aliases);
        }
        if !functions.is_empty() {
            self.component.section(&functions);
        }
        Ok(())
    }
}

impl Reencode for Writer<'_> {
    type Error = Infallible;
}

impl ReencodeComponent for Writer<'_> {
    fn component_type_index(&mut self, index: u32) -> u32 {
        self.outermost(&self.removed.types, index)
    }

    fn outer_component_type_index(&mut self, count: u32, index: u32) -> u32 {
        if count == self.depth {
            moved(&self.removed.types, index)
        } else {
            index
        }
    }

    fn component_instance_index(&mut self, index: u32) -> u32 {
        self.outermost(&self.removed.instances, index)
    }

    fn component_func_index(&mut self, index: u32) -> u32 {
        self.outermost(&self.removed.functions, index)
    }

    fn module_index(&mut self, index: u32) -> u32 {
        index.saturating_add(1)
    }

    fn instance_index(&mut self, index: u32) -> u32 {
        index.saturating_add(1)
    }

    fn push_depth(&mut self) {
        self.depth = self.depth.saturating_add(1);
    }

    fn pop_depth(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }
}
