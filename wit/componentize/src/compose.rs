//! Puts the tensor kit inside a handler that imports it: the import becomes an instance of the kit, and nothing else changes. So the host sees one component
//! that asks for a handler's own interfaces and nothing more.
//!
//! What it never does: it touches no core module, and joins nothing but a handler and a component that imports nothing.

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent};
use wasm_encoder::{
    Alias, Component, ComponentAliasSection, ComponentExportKind, ComponentImportSection,
    ComponentInstanceSection, ComponentSectionId, RawSection,
};
use wasmparser::{
    Chunk, ComponentImportSectionReader, ComponentTypeRef, Parser, Payload, Validator, WasmFeatures,
};

use crate::imports::{KIT, surface};

/// A handler with the kit inside it; as it is if it does not import one.
///
/// # Errors
/// What is wrong with either, for the author to read.
pub fn compose(handler: &[u8], kit: &[u8]) -> Result<Vec<u8>, String> {
    let wanted = surface(handler)?;
    if !wanted.imports.iter().any(|import| import == KIT) {
        return Ok(handler.to_vec());
    }
    let offered = surface(kit)?;
    if !offered.is_kit() {
        return Err(format!(
            "the kit does not offer {KIT}, or wants something itself"
        ));
    }
    let mut splice = Splice::new(kit);
    let mut component = Component::new();
    splice
        .sections(&mut component, handler)
        .map_err(|error| error.to_string())?;
    let component = component.finish();
    Validator::new_with_features(WasmFeatures::default())
        .validate_all(&component)
        .map_err(|error| format!("the kit does not fit into the handler: {error}"))?;
    Ok(component)
}

/// A handler's sections on their way into the new component.
struct Splice<'k> {
    kit: &'k [u8],
    /// How deep inside the handler this is: only at the outermost level do indices move.
    depth: u32,
    /// Components and instances that the handler has had so far.
    components: u32,
    instances: u32,
    /// The index of the first component and of the first instance behind the kit's.
    moved: Option<(u32, u32)>,
}

impl<'k> Splice<'k> {
    const fn new(kit: &'k [u8]) -> Self {
        Self {
            kit,
            depth: 0,
            components: 0,
            instances: 0,
            moved: None,
        }
    }

    /// The kit, an instance of it, and the interface that stands where the import stood.
    fn insert(&mut self, component: &mut Component) {
        component.section(&RawSection {
            id: ComponentSectionId::Component.into(),
            data: self.kit,
        });
        let mut instances = ComponentInstanceSection::new();
        let nothing: [(&str, ComponentExportKind, u32); 0] = [];
        instances.instantiate(self.components, nothing);
        component.section(&instances);
        let mut aliases = ComponentAliasSection::new();
        aliases.alias(Alias::InstanceExport {
            instance: self.instances,
            kind: ComponentExportKind::Instance,
            name: KIT,
        });
        component.section(&aliases);
        self.moved = Some((self.components, self.instances));
    }

    /// Each section of the outermost level, in its order.
    fn sections(
        &mut self,
        component: &mut Component,
        whole: &[u8],
    ) -> Result<(), Error<Infallible>> {
        let (mut parser, mut data) = (Parser::new(0), whole);
        while !data.is_empty() {
            let (consumed, payload) = match parser.parse(data, true)? {
                Chunk::Parsed { consumed, payload } => (consumed, payload),
                // The parser knows that no more comes.
                Chunk::NeedMoreData(_) => return Err(Error::UnexpectedNonComponentSection),
            };
            data = data.get(consumed..).unwrap_or_default();
            self.count(&payload)?;
            match payload {
                // Byte for byte: nothing inside them knows of what is outside.
                Payload::ModuleSection {
                    unchecked_range, ..
                } => {
                    data = data.get(unchecked_range.len()..).unwrap_or_default();
                    component.section(&RawSection {
                        id: ComponentSectionId::CoreModule.into(),
                        data: whole.get(unchecked_range).unwrap_or_default(),
                    });
                }
                Payload::ComponentSection {
                    unchecked_range, ..
                } => {
                    data = data.get(unchecked_range.len()..).unwrap_or_default();
                    component.section(&RawSection {
                        id: ComponentSectionId::Component.into(),
                        data: whole.get(unchecked_range).unwrap_or_default(),
                    });
                }
                Payload::ComponentImportSection(section) => self.imports(component, section)?,
                other => self.parse_component_payload(component, other, whole)?,
            }
        }
        Ok(())
    }

    fn shifted(&self, index: u32, first: impl Fn((u32, u32)) -> u32) -> u32 {
        match self.moved {
            Some(moved) if self.depth == 0 && index >= first(moved) => index.saturating_add(1),
            _ => index,
        }
    }

    /// Counts what a section adds to the index spaces that move.
    fn count(&mut self, payload: &Payload<'_>) -> Result<(), wasmparser::BinaryReaderError> {
        match payload {
            Payload::ComponentSection { .. } => self.components = self.components.saturating_add(1),
            Payload::ComponentInstanceSection(section) => {
                self.instances = self.instances.saturating_add(section.count());
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section.clone() {
                    let kind = match alias? {
                        wasmparser::ComponentAlias::InstanceExport { kind, .. } => kind,
                        _ => continue,
                    };
                    self.added(kind);
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    self.added(export?.kind);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn added(&mut self, kind: wasmparser::ComponentExternalKind) {
        match kind {
            wasmparser::ComponentExternalKind::Component => {
                self.components = self.components.saturating_add(1);
            }
            wasmparser::ComponentExternalKind::Instance => {
                self.instances = self.instances.saturating_add(1);
            }
            _ => {}
        }
    }

    /// Imports as they are, the kit's apart.
    fn imports(
        &mut self,
        component: &mut Component,
        section: ComponentImportSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        let mut imports = ComponentImportSection::new();
        for import in section {
            let import = import?;
            if import.name.name == KIT {
                if !imports.is_empty() {
                    component.section(&imports);
                    imports = ComponentImportSection::new();
                }
                self.insert(component);
                self.instances = self.instances.saturating_add(1);
                continue;
            }
            match import.ty {
                ComponentTypeRef::Instance(_) => {
                    self.added(wasmparser::ComponentExternalKind::Instance)
                }
                ComponentTypeRef::Component(_) => {
                    self.added(wasmparser::ComponentExternalKind::Component);
                }
                _ => {}
            }
            let ty = self.component_type_ref(import.ty)?;
            imports.import(import.name, ty);
        }
        if !imports.is_empty() {
            component.section(&imports);
        }
        Ok(())
    }
}

impl Reencode for Splice<'_> {
    type Error = Infallible;
}

impl ReencodeComponent for Splice<'_> {
    fn component_index(&mut self, index: u32) -> u32 {
        self.shifted(index, |(component, _)| component)
    }

    fn component_instance_index(&mut self, index: u32) -> u32 {
        self.shifted(index, |(_, instance)| instance)
    }

    fn push_depth(&mut self) {
        self.depth = self.depth.saturating_add(1);
    }

    fn pop_depth(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }
}
