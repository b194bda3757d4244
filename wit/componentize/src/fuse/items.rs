//! Parses a component's outermost level item by item: definitions and uses of core WebAssembly, and
//! all other sections as bytes.

use wasmparser::{
    BinaryReader, CanonicalFunction, CanonicalOption, ComponentAlias, ComponentAliasSectionReader,
    ComponentCanonicalSectionReader, ComponentExternalKind, ComponentInstance,
    ComponentOuterAliasKind, ComponentType, ComponentTypeRef, Instance, InstanceSectionReader,
    Parser, Payload,
};

use super::Kept;
use super::module::Sort;
use crate::parts::sections;

/// Sections of a component's binary format.
const CUSTOM: u8 = 0;
const CORE_MODULE: u8 = 1;
const CORE_INSTANCE: u8 = 2;
const ALIAS: u8 = 6;
const CANONICAL: u8 = 8;

/// The custom section with names of the component's items. It uses indices, which fusing changes.
const NAMES: &[u8] = b"\x0ecomponent-name";

pub(super) enum Item<'a> {
    Module(&'a [u8]),
    /// An instance of a module, with the instance for each argument.
    Instantiate(u32, Vec<(&'a str, u32)>),
    /// An instance made of exports.
    Exports(Vec<(&'a str, Sort, u32)>),
    /// An alias of a core instance's export.
    Alias(Sort, u32, &'a str),
    /// An alias of a component instance's export, or of an outer item.
    Other(ComponentAlias<'a>),
    /// A core function made of a component's function, or the reverse.
    Canonical(CanonicalFunction),
    /// A section without core WebAssembly.
    Section(u8, &'a [u8]),
}

impl Item<'_> {
    /// The core items that a canonical function uses.
    pub(super) fn used(function: &CanonicalFunction) -> Result<Vec<(Sort, u32)>, Kept> {
        let (mut used, options) = match function {
            CanonicalFunction::Lift {
                core_func_index,
                options,
                ..
            } => (vec![(Sort::Function, *core_func_index)], &**options),
            CanonicalFunction::Lower { options, .. } => (Vec::new(), &**options),
            CanonicalFunction::ResourceNew { .. }
            | CanonicalFunction::ResourceDrop { .. }
            | CanonicalFunction::ResourceRep { .. } => (Vec::new(), &[][..]),
            _ => return Err(Kept::Unknown("functions of the asynchronous ABI")),
        };
        for option in options {
            match option {
                CanonicalOption::UTF8 | CanonicalOption::UTF16 | CanonicalOption::CompactUTF16 => {}
                CanonicalOption::Memory(index) => used.push((Sort::Memory, *index)),
                CanonicalOption::Realloc(index) | CanonicalOption::PostReturn(index) => {
                    used.push((Sort::Function, *index));
                }
                _ => return Err(Kept::Unknown("functions of the asynchronous ABI")),
            }
        }
        Ok(used)
    }
}

/// The items of a valid component.
pub(super) fn items(component: &[u8]) -> Result<Vec<Item<'_>>, Kept> {
    core_stays_inside(component)?;
    let mut items = Vec::new();
    for (id, _, content) in sections(component).map_err(Kept::Malformed)? {
        let content = component.get(content).unwrap_or_default();
        let reader = BinaryReader::new(content, 0);
        match id {
            CUSTOM if content.starts_with(NAMES) => {}
            CORE_MODULE => items.push(Item::Module(content)),
            CORE_INSTANCE => {
                for instance in InstanceSectionReader::new(reader)? {
                    items.push(core_instance(instance?)?);
                }
            }
            ALIAS => {
                for alias in ComponentAliasSectionReader::new(reader)? {
                    items.push(match alias? {
                        ComponentAlias::CoreInstanceExport {
                            kind,
                            instance_index,
                            name,
                        } => Item::Alias(Sort::of(kind)?, instance_index, name),
                        other => Item::Other(other),
                    });
                }
            }
            CANONICAL => {
                for function in ComponentCanonicalSectionReader::new(reader)? {
                    items.push(Item::Canonical(function?));
                }
            }
            _ => items.push(Item::Section(id, content)),
        }
    }
    Ok(items)
}

fn core_instance(instance: Instance<'_>) -> Result<Item<'_>, Kept> {
    Ok(match instance {
        Instance::Instantiate { module_index, args } => {
            let args = args.iter().map(|arg| (arg.name, arg.index));
            Item::Instantiate(module_index, args.collect())
        }
        Instance::FromExports(exports) => {
            let exports = exports.iter();
            let exports =
                exports.map(|export| Ok((export.name, Sort::of(export.kind)?, export.index)));
            Item::Exports(exports.collect::<Result<_, Kept>>()?)
        }
    })
}

/// Checks that copied sections do not refer to core items by index: there are no core module types
/// in imports or exports, and no resource has a destructor.
fn core_stays_inside(component: &[u8]) -> Result<(), Kept> {
    const PASSED: Kept =
        Kept::Unknown("modules as imports or exports, or resources with a destructor");
    for payload in Parser::new(0).parse_all(component) {
        let passed = match payload? {
            Payload::CoreTypeSection(_) | Payload::ComponentStartSection { .. } => true,
            Payload::ComponentTypeSection(section) => {
                let mut found = false;
                for ty in section {
                    found |= matches!(ty?, ComponentType::Resource { dtor: Some(_), .. });
                }
                found
            }
            Payload::ComponentAliasSection(section) => {
                let mut found = false;
                for alias in section {
                    found |= match alias? {
                        ComponentAlias::Outer { kind, .. } => matches!(
                            kind,
                            ComponentOuterAliasKind::CoreModule | ComponentOuterAliasKind::CoreType
                        ),
                        ComponentAlias::InstanceExport { kind, .. } => {
                            kind == ComponentExternalKind::Module
                        }
                        ComponentAlias::CoreInstanceExport { .. } => false,
                    };
                }
                found
            }
            Payload::ComponentImportSection(section) => {
                let mut found = false;
                for import in section {
                    found |= matches!(import?.ty, ComponentTypeRef::Module(_));
                }
                found
            }
            Payload::ComponentExportSection(section) => {
                let mut found = false;
                for export in section {
                    found |= export?.kind == ComponentExternalKind::Module;
                }
                found
            }
            Payload::ComponentInstanceSection(section) => {
                let mut found = false;
                for instance in section {
                    found |= match instance? {
                        ComponentInstance::Instantiate { args, .. } => args
                            .iter()
                            .any(|arg| arg.kind == ComponentExternalKind::Module),
                        ComponentInstance::FromExports(exports) => exports
                            .iter()
                            .any(|export| export.kind == ComponentExternalKind::Module),
                    };
                }
                found
            }
            _ => false,
        };
        if passed {
            return Err(PASSED);
        }
    }
    Ok(())
}
