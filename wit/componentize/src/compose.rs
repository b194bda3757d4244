//! Composes a handler and the tensor kit into one component. Its imports are the handler's without
//! the kit, and its exports are the handler's, so the host sees one component with only a handler's
//! interfaces. The two are siblings, because a component cannot call one that it contains.
//!
//! Apart from the redirection of kit calls (`blocks`), neither component is changed. Only a handler
//! and a component without imports are accepted.

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent};
use wasm_encoder::{
    Alias, Component, ComponentAliasSection, ComponentExportKind, ComponentExportSection,
    ComponentImportSection, ComponentInstanceSection, ComponentSectionId, RawSection,
};
use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentImportSectionReader, ComponentTypeRef, Parser,
    Payload, Validator, WasmFeatures,
};

use crate::blocks::led;
use crate::imports::{BLOCKS, KIT, surface};

/// The handler with the kit inside, or the handler itself if it does not import the kit.
///
/// # Errors
/// What is wrong with either, for the author.
pub fn compose(handler: &[u8], kit: &[u8]) -> Result<Vec<u8>, String> {
    let wanted = surface(handler)?;
    if !wanted.imports.iter().any(|import| import == KIT) {
        return Ok(handler.to_vec());
    }
    let offered = surface(kit)?;
    if !offered.is_kit() {
        return Err(format!("the kit does not export {KIT}, or has imports"));
    }
    let handler = led(handler)?;
    let mut joint = Joint::new(kit);
    let component = joint.join(&handler).map_err(|error| error.to_string())?;
    Validator::new_with_features(WasmFeatures::default())
        .validate_all(&component)
        .map_err(|error| format!("the kit does not fit the handler: {error}"))?;
    Ok(component)
}

/// The number of items in the new component, by kind.
#[derive(Default)]
struct Counts {
    modules: u32,
    types: u32,
    functions: u32,
    instances: u32,
}

impl Counts {
    /// Counts an item, and returns its index. Kinds that are never referred to by index here have
    /// none.
    fn add(&mut self, kind: ComponentExternalKind) -> Option<u32> {
        let count = match kind {
            ComponentExternalKind::Module => &mut self.modules,
            ComponentExternalKind::Type => &mut self.types,
            ComponentExternalKind::Func => &mut self.functions,
            ComponentExternalKind::Instance => &mut self.instances,
            _ => return None,
        };
        let index = *count;
        *count = index.saturating_add(1);
        Some(index)
    }
}

/// Converts a handler's own imports to the new component's.
struct Joint<'k> {
    kit: &'k [u8],
    /// The nesting depth inside a type. Only indices of the outermost level are shifted.
    depth: u32,
    counts: Counts,
    /// The index of the kit's interface in the handler. Later indices are greater by one here,
    /// because of the kit's own instance.
    kit_instance: Option<u32>,
    /// The arguments of the handler.
    given: Vec<(String, ComponentExportKind, u32)>,
}

impl<'k> Joint<'k> {
    fn new(kit: &'k [u8]) -> Self {
        Self {
            kit,
            depth: 0,
            counts: Counts::default(),
            kit_instance: None,
            given: Vec::new(),
        }
    }

    /// Writes the handler's imports with the kit in place of its interface, then the handler's
    /// instance, then its exports.
    fn join(&mut self, handler: &[u8]) -> Result<Vec<u8>, Error<Infallible>> {
        let mut component = Component::new();
        self.imports_of(&mut component, handler)?;
        component.section(&RawSection {
            id: ComponentSectionId::Component.into(),
            data: handler,
        });
        let inner = self.counts.instances;
        let mut instances = ComponentInstanceSection::new();
        // The kit is the first component.
        instances.instantiate(
            1,
            self.given
                .iter()
                .map(|(name, kind, index)| (name, *kind, *index)),
        );
        component.section(&instances);
        self.counts.add(ComponentExternalKind::Instance);
        let (mut aliases, mut exports) =
            (ComponentAliasSection::new(), ComponentExportSection::new());
        for payload in Parser::new(0)
            .parse_all(handler)
            .scan(0_u32, outermost)
            .flatten()
        {
            let Payload::ComponentExportSection(section) = payload? else {
                continue;
            };
            for export in section {
                let export = export?;
                let kind = ComponentExportKind::from(export.kind);
                aliases.alias(Alias::InstanceExport {
                    instance: inner,
                    kind,
                    name: export.name.name,
                });
                let index = self
                    .counts
                    .add(export.kind)
                    .ok_or(Error::UnexpectedNonComponentSection)?;
                exports.export(export.name, kind, index, None);
            }
        }
        component.section(&aliases);
        component.section(&exports);
        Ok(component.finish())
    }

    /// The sections before the first definition: types, imports, and aliases of their parts.
    fn imports_of(
        &mut self,
        component: &mut Component,
        handler: &[u8],
    ) -> Result<(), Error<Infallible>> {
        for payload in Parser::new(0).parse_all(handler) {
            match payload? {
                Payload::Version { .. } | Payload::CustomSection(_) => {}
                Payload::ComponentImportSection(section) => self.imports(component, section)?,
                payload @ Payload::CoreTypeSection(_) => {
                    self.parse_component_payload(component, payload, handler)?;
                }
                Payload::ComponentTypeSection(section) => {
                    self.counts.types = self.counts.types.saturating_add(section.count());
                    let payload = Payload::ComponentTypeSection(section);
                    self.parse_component_payload(component, payload, handler)?;
                }
                Payload::ComponentAliasSection(section) => {
                    for alias in section.clone() {
                        match alias? {
                            ComponentAlias::InstanceExport { kind, .. } => {
                                self.counts.add(kind);
                            }
                            // A core instance's alias, and there is no core instance yet.
                            _ => return Err(Error::UnexpectedNonComponentSection),
                        }
                    }
                    let payload = Payload::ComponentAliasSection(section);
                    self.parse_component_payload(component, payload, handler)?;
                }
                _ => break,
            }
        }
        Ok(())
    }

    /// Writes the kit, and an instance of it.
    fn insert(&mut self, component: &mut Component) {
        component.section(&RawSection {
            id: ComponentSectionId::Component.into(),
            data: self.kit,
        });
        let mut instances = ComponentInstanceSection::new();
        let nothing: [(&str, ComponentExportKind, u32); 0] = [];
        instances.instantiate(0, nothing);
        component.section(&instances);
        self.kit_instance = Some(self.counts.instances);
        self.counts.instances = self.counts.instances.saturating_add(1);
    }

    /// Writes an instance of one of the kit's interfaces.
    fn offer(&mut self, component: &mut Component, interface: &str) {
        if self.kit_instance.is_none() {
            self.insert(component);
        }
        let mut aliases = ComponentAliasSection::new();
        aliases.alias(Alias::InstanceExport {
            instance: self.kit_instance.unwrap_or_default(),
            kind: ComponentExportKind::Instance,
            name: interface,
        });
        component.section(&aliases);
        let index = self.counts.instances;
        self.counts.instances = index.saturating_add(1);
        self.given
            .push((interface.to_owned(), ComponentExportKind::Instance, index));
    }

    /// Writes the handler's imports without the kit's.
    fn imports(
        &mut self,
        component: &mut Component,
        section: ComponentImportSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        let mut imports = ComponentImportSection::new();
        for import in section {
            let import = import?;
            if [KIT, BLOCKS].contains(&import.name.name) {
                if !imports.is_empty() {
                    component.section(&imports);
                    imports = ComponentImportSection::new();
                }
                self.offer(component, import.name.name);
                continue;
            }
            let kind = match import.ty {
                ComponentTypeRef::Instance(_) => ComponentExternalKind::Instance,
                ComponentTypeRef::Func(_) => ComponentExternalKind::Func,
                ComponentTypeRef::Type(_) => ComponentExternalKind::Type,
                // The runtime that Python handlers share.
                ComponentTypeRef::Module(_) => ComponentExternalKind::Module,
                _ => return Err(Error::UnexpectedNonComponentSection),
            };
            let ty = self.component_type_ref(import.ty)?;
            imports.import(import.name, ty);
            if let Some(index) = self.counts.add(kind) {
                let name = import.name.name.to_owned();
                self.given.push((name, kind.into(), index));
            }
        }
        if !imports.is_empty() {
            component.section(&imports);
        }
        Ok(())
    }
}

/// The payloads at a component's outermost level, without those in nested modules and components.
fn outermost<'a>(
    depth: &mut u32,
    payload: wasmparser::Result<Payload<'a>>,
) -> Option<Option<wasmparser::Result<Payload<'a>>>> {
    let here = *depth == 0;
    match &payload {
        Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => {
            *depth = depth.saturating_add(1);
        }
        Ok(Payload::End(_)) => *depth = depth.saturating_sub(1),
        _ => {}
    }
    Some(here.then_some(payload))
}

impl Reencode for Joint<'_> {
    type Error = Infallible;
}

impl ReencodeComponent for Joint<'_> {
    fn component_instance_index(&mut self, index: u32) -> u32 {
        match self.kit_instance {
            Some(kit) if self.depth == 0 && index >= kit => index.saturating_add(1),
            _ => index,
        }
    }

    fn push_depth(&mut self) {
        self.depth = self.depth.saturating_add(1);
    }

    fn pop_depth(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }
}
