//! Redirects a handler's kit calls that pass many bytes to functions that pass blocks. An engine
//! copies a list between components element by element: twenty instructions for a byte, but only
//! three a byte in blocks of 128. The languages' tools support only lists of bytes.
//!
//! The redirection happens at a table. The handler's module calls the kit through a table, which a
//! module of `wit-component` fills with the kit's functions. That module is replaced by one that
//! fills the table with block functions.
//!
//! Only that module and its imports change. A component with another structure is not changed.

use std::collections::HashMap;
use std::convert::Infallible;

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{ComponentSection as _, ExportKind, InstanceSection, ModuleArg};
use wasmparser::{
    BinaryReader, BinaryReaderError, CanonicalFunction, CanonicalOption, ComponentAlias,
    ComponentAliasSectionReader, ComponentCanonicalSectionReader, ComponentExportSectionReader,
    ComponentExternalKind, ComponentImportSectionReader, ComponentTypeRef, ExternalKind, Instance,
    InstanceSectionReader,
};

use crate::filler::{Given, filled};
use crate::imports::{BLOCKS, KIT};
use crate::parts::{Section, section, sections};

/// Sections of a component's binary format.
const CORE_MODULE: u8 = 1;
const CORE_INSTANCE: u8 = 2;
const COMPONENT: u8 = 4;
const INSTANCE: u8 = 5;
const ALIAS: u8 = 6;
const CANONICAL: u8 = 8;
const IMPORT: u8 = 10;
const EXPORT: u8 = 11;

/// The name under which the module imports the handler's memory. Names of `wit-component` are
/// numbers, so there is no clash.
const MEMORY: &str = "memory";

/// A component with redirected calls, including those of nested components.
///
/// # Errors
/// If it is not a valid component, or is truncated.
pub fn led(component: &[u8]) -> Result<Vec<u8>, String> {
    let sections = sections(component)?;
    let mut edits = HashMap::new();
    let mut seen = Seen::default();
    for (at, (id, _, content)) in sections.iter().enumerate() {
        let content = component.get(content.clone()).unwrap_or_default();
        if *id == COMPONENT {
            let inner = led(content)?;
            if inner != content {
                edits.insert(at, section(COMPONENT, &inner));
            }
        } else {
            seen.look(at, *id, content)
                .map_err(|error| error.to_string())?;
        }
    }
    if let Some(filler) = seen.filler() {
        let content = |at: usize| -> &[u8] {
            let (.., content) = sections.get(at).cloned().unwrap_or_default();
            component.get(content).unwrap_or_default()
        };
        if let Some(module) = filled(content(filler.module), &filler.given, MEMORY) {
            edits.insert(filler.module, section(CORE_MODULE, &module));
            let instances = with_memory(content(filler.instances), filler.nth, filler.memory)?;
            edits.insert(filler.instances, instances);
        }
    }
    Ok(rewritten(component, &sections, &edits))
}

/// The component with some of its sections replaced.
fn rewritten(component: &[u8], sections: &[Section], edits: &HashMap<usize, Vec<u8>>) -> Vec<u8> {
    let first = sections
        .first()
        .map_or(component.len(), |(_, range, _)| range.start);
    let mut made = component.get(..first).unwrap_or_default().to_vec();
    for (at, (_, range, _)) in sections.iter().enumerate() {
        let own = component.get(range.clone()).unwrap_or_default();
        made.extend_from_slice(edits.get(&at).map_or(own, Vec::as_slice));
    }
    made
}

/// A section of core instances with the memory as a further argument of the nth.
fn with_memory(content: &[u8], nth: usize, memory: u32) -> Result<Vec<u8>, String> {
    let to_text = |error: BinaryReaderError| error.to_string();
    let mut made = InstanceSection::new();
    let instances = InstanceSectionReader::new(BinaryReader::new(content, 0)).map_err(to_text)?;
    for (at, instance) in instances.into_iter().enumerate() {
        match instance.map_err(to_text)? {
            Instance::Instantiate { module_index, args } => {
                let args = args
                    .iter()
                    .map(|arg| (arg.name, ModuleArg::Instance(arg.index)));
                made.instantiate(module_index, args.collect::<Vec<_>>());
            }
            Instance::FromExports(exports) => {
                let mut items = Vec::new();
                for export in &exports {
                    let mut same = RoundtripReencoder;
                    let kind = Reencode::export_kind(&mut same, export.kind).map_err(
                        |error: wasm_encoder::reencode::Error<Infallible>| error.to_string(),
                    )?;
                    items.push((export.name, kind, export.index));
                }
                if at == nth {
                    items.push((MEMORY, ExportKind::Memory, memory));
                }
                made.export_items(items);
            }
        }
    }
    let mut bytes = Vec::new();
    made.append_to_component(&mut bytes);
    Ok(bytes)
}

/// The module that fills the table, and its arguments.
struct Filler {
    /// The index of the section with the module.
    module: usize,
    /// The section of core instances of which the nth is the module's argument.
    instances: usize,
    nth: usize,
    given: Given,
    /// The handler's memory.
    memory: u32,
}

/// A function of the kit: whether it is in `blocks` instead of `arrays`, and its name.
type KitFunction = (bool, String);

/// An export of a core instance, with its section and its index there.
struct Exported {
    section: usize,
    nth: usize,
    functions: Vec<(String, u32)>,
}

/// The parts of a component that concern the kit.
#[derive(Default)]
struct Seen {
    instances: u32,
    /// Instances of the kit's interfaces; true for `blocks`.
    kit: HashMap<u32, bool>,
    functions: u32,
    kit_functions: HashMap<u32, KitFunction>,
    core_functions: u32,
    lowered: HashMap<u32, (KitFunction, Option<u32>)>,
    modules: Vec<Option<usize>>,
    core_instances: Vec<Option<Exported>>,
    /// Modules, with the name of each instance argument.
    made: Vec<(u32, String, u32)>,
}

impl Seen {
    fn look(&mut self, at: usize, id: u8, content: &[u8]) -> Result<(), BinaryReaderError> {
        let reader = BinaryReader::new(content, 0);
        match id {
            CORE_MODULE => self.modules.push(Some(at)),
            CORE_INSTANCE => {
                for (nth, instance) in InstanceSectionReader::new(reader)?.into_iter().enumerate() {
                    self.core_instance(at, nth, &instance?);
                }
            }
            INSTANCE => self.instances = self.instances.saturating_add(count(content)),
            ALIAS => {
                for alias in ComponentAliasSectionReader::new(reader)? {
                    self.alias(&alias?);
                }
            }
            CANONICAL => {
                for function in ComponentCanonicalSectionReader::new(reader)? {
                    self.canonical(function?);
                }
            }
            IMPORT => {
                for import in ComponentImportSectionReader::new(reader)? {
                    let import = import?;
                    match import.ty {
                        ComponentTypeRef::Instance(_) => {
                            if [KIT, BLOCKS].contains(&import.name.name) {
                                self.kit.insert(self.instances, import.name.name == BLOCKS);
                            }
                            self.add(ComponentExternalKind::Instance);
                        }
                        ComponentTypeRef::Func(_) => self.add(ComponentExternalKind::Func),
                        ComponentTypeRef::Module(_) => self.add(ComponentExternalKind::Module),
                        _ => {}
                    }
                }
            }
            EXPORT => {
                for export in ComponentExportSectionReader::new(reader)? {
                    self.add(export?.kind);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn add(&mut self, kind: ComponentExternalKind) {
        match kind {
            ComponentExternalKind::Instance => self.instances = self.instances.saturating_add(1),
            ComponentExternalKind::Func => self.functions = self.functions.saturating_add(1),
            // Imported modules: the runtime that Python handlers share.
            ComponentExternalKind::Module => self.modules.push(None),
            _ => {}
        }
    }

    fn core_instance(&mut self, at: usize, nth: usize, instance: &Instance<'_>) {
        let exported = match instance {
            Instance::Instantiate { module_index, args } => {
                let given = args.iter();
                let given = given.map(|arg| (*module_index, arg.name.to_owned(), arg.index));
                self.made.extend(given);
                None
            }
            Instance::FromExports(exports) => Some(Exported {
                section: at,
                nth,
                functions: exports
                    .iter()
                    .filter(|export| export.kind == ExternalKind::Func)
                    .map(|export| (export.name.to_owned(), export.index))
                    .collect(),
            }),
        };
        self.core_instances.push(exported);
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>) {
        match alias {
            ComponentAlias::InstanceExport {
                kind,
                instance_index,
                name,
            } => {
                if *kind == ComponentExternalKind::Func
                    && let Some(blocks) = self.kit.get(instance_index)
                {
                    self.kit_functions
                        .insert(self.functions, (*blocks, (*name).to_owned()));
                }
                self.add(*kind);
            }
            ComponentAlias::CoreInstanceExport {
                kind: ExternalKind::Func,
                ..
            } => self.core_functions = self.core_functions.saturating_add(1),
            ComponentAlias::Outer {
                kind: wasmparser::ComponentOuterAliasKind::CoreModule,
                ..
            } => self.modules.push(None),
            _ => {}
        }
    }

    fn canonical(&mut self, function: CanonicalFunction) {
        match function {
            CanonicalFunction::Lift { .. } => return self.add(ComponentExternalKind::Func),
            CanonicalFunction::Lower {
                func_index,
                options,
            } => {
                if let Some(kit_function) = self.kit_functions.get(&func_index) {
                    let memory = options.iter().find_map(|option| match option {
                        CanonicalOption::Memory(memory) => Some(*memory),
                        _ => None,
                    });
                    self.lowered
                        .insert(self.core_functions, (kit_function.clone(), memory));
                }
            }
            // All other canonical functions define a core function.
            _ => {}
        }
        self.core_functions = self.core_functions.saturating_add(1);
    }

    /// The module that gets the kit's functions.
    fn filler(&self) -> Option<Filler> {
        self.made.iter().find_map(|(module, name, instance)| {
            let module = (*self.modules.get(usize::try_from(*module).ok()?)?)?;
            let exported = self
                .core_instances
                .get(usize::try_from(*instance).ok()?)?
                .as_ref()?;
            let mut given = Given {
                from: name.clone(),
                ..Given::default()
            };
            let mut memory = None;
            for (name, index) in &exported.functions {
                if let Some((kit_function, of)) = self.lowered.get(index) {
                    given.functions.insert(kit_function.clone(), name.clone());
                    memory = memory.or(*of);
                }
            }
            Some(Filler {
                module,
                instances: exported.section,
                nth: exported.nth,
                given,
                memory: memory?,
            })
        })
    }
}

/// The number of items in a section.
fn count(content: &[u8]) -> u32 {
    BinaryReader::new(content, 0)
        .read_var_u32()
        .unwrap_or_default()
}
