//! The contract that the tools of a language are shown: the project's own, with the tensor kit if it speaks to it, and with what its manifest says that a
//! policy will grant. In Rust the compiler leaves out what a handler does not call; what else is made imports all of its world, and a host refuses what it does not grant.

use std::path::{Path, PathBuf};

use super::kit;
use super::project::{Language, Project};
use super::tools;
use crate::Failure;

/// What speaks of the interfaces beyond a world's own, in JavaScript.
pub const REACH_JS: &str = "reach.js";

/// What a project is built against: a folder with its contract, and a world's name.
pub struct Contract {
    /// The folder.
    pub folder: PathBuf,
    /// The world.
    pub world: String,
}

/// A project's contract, with all beside it that its component will import.
///
/// # Errors
/// If the project's is not there or is older than what it asks for, or nothing can be written beside it.
pub fn contract(project: &Project, folder: &Path) -> Result<Contract, Failure> {
    let (own, world) = (folder.join("wit"), project.world.name());
    let with_kit = kit::is_asked(project.language, folder);
    let granted = granted(project);
    if !with_kit && granted.is_empty() {
        return Ok(Contract {
            folder: own,
            world: world.to_owned(),
        });
    }
    let file = own.join("handler.wit");
    let handler = std::fs::read_to_string(&file)
        .map_err(|cause| Failure::Input(format!("cannot read {}: {cause}", file.display())))?;
    speaks_of(project, folder, &granted)?;
    let joined = format!("{world}-as-built");
    let mut imports: Vec<&str> = granted;
    if with_kit {
        imports.extend([
            tensorgate_componentize::KIT,
            tensorgate_componentize::BLOCKS,
        ]);
    }
    let imports: String = imports
        .iter()
        .map(|import| format!("    import {import};\n"))
        .collect();
    let worlds = format!(
        "package tensorgate:handler@0.1.0;\n\n/// A handler, and what else its component imports as its tools make it.\nworld {joined} {{\n    include {world};\n{imports}}}\n"
    );
    let mut files = vec![
        ("handler.wit".to_owned(), handler),
        ("as-built.wit".to_owned(), worlds),
    ];
    if with_kit {
        files.push(("deps/kit.wit".to_owned(), kit::WIT.to_owned()));
    }
    let both = folder.join("build/wit");
    // Of another build, with other files in it.
    if both.exists() {
        std::fs::remove_dir_all(&both).map_err(|cause| {
            Failure::Failed(format!("cannot remove {}: {cause}", both.display()))
        })?;
    }
    tools::write(&both, &files)?;
    Ok(Contract {
        folder: both,
        world: joined,
    })
}

/// The interfaces beyond a world's own that a manifest asks for.
pub fn granted(project: &Project) -> Vec<&'static str> {
    [
        (project.has_fetch(), "fetch"),
        (project.has_lookups(), "lookup"),
    ]
    .into_iter()
    .filter_map(|(asked, interface)| asked.then_some(interface))
    .collect()
}

/// What a project stands on must know of the interfaces: it is a copy, from when the project was made.
fn speaks_of(project: &Project, folder: &Path, granted: &[&str]) -> Result<(), Failure> {
    let module = match project.language {
        Language::Rust => return Ok(()),
        Language::Python => "tensorgate/reach.py",
        Language::Js => REACH_JS,
    };
    if granted.is_empty() || folder.join(module).is_file() {
        return Ok(());
    }
    Err(Failure::Input(format!(
        "handler.yaml asks for {}, and this project is older than {module}: take that file, what is beside it and wit/handler.wit from a project that `tensorgate handler new` makes",
        granted.join(" and ")
    )))
}
