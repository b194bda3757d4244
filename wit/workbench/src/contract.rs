//! The WIT contract for componentize-qjs.
//!
//! It consists of the project's own contract, the tensor kit if the project uses it, a seed for
//! random numbers, and the interfaces that its manifest requests. The component imports all of it,
//! and a host rejects imports that the policy does not grant.

use std::path::{Path, PathBuf};

use tensorgate_cli_common::Failure;

use crate::kit;
use crate::project::Project;
use crate::tools;
use crate::wit_version::WitVersion;

/// The JavaScript module for interfaces that a policy must grant.
pub const REACH_JS: &str = "reach.js";

/// The interface with which the entry point of JavaScript seeds `Math.random`, and its WIT.
const SEED: &str = "wasi:random/insecure-seed@0.2.12";
const SEED_WIT: &str = include_str!("../../js/random.wit");

/// The contract that a project is built against: a folder and the name of a world.
pub struct Contract {
    /// The folder.
    pub folder: PathBuf,
    /// The world.
    pub world: String,
}

/// A project's contract, with everything that its component will import.
///
/// # Errors
/// The contract is missing or older than the project's manifest requires, or a file cannot be
/// written.
pub fn contract(project: &Project, folder: &Path) -> Result<Contract, Failure> {
    let (own, world) = (folder.join("wit"), project.world.name());
    let package = WitVersion::of_project(folder)?.package();
    let with_kit = kit::is_used(folder);
    let mut imports = granted(project);
    expect_reach(&imports, folder)?;
    let file = own.join("handler.wit");
    let handler = std::fs::read_to_string(&file)
        .map_err(|cause| Failure::Input(format!("cannot read {}: {cause}", file.display())))?;
    let joined = format!("{world}-as-built");
    if with_kit {
        imports.extend([
            tensorgate_componentize::KIT,
            tensorgate_componentize::BLOCKS,
        ]);
    }
    imports.push(SEED);
    let imports: String = imports
        .iter()
        .map(|import| format!("    import {import};\n"))
        .collect();
    let worlds = format!(
        "package {package};\n\n/// A handler, and what else its component imports as its tools make it.\nworld {joined} {{\n    include {world};\n{imports}}}\n"
    );
    let mut files = vec![
        ("handler.wit".to_owned(), handler),
        ("as-built.wit".to_owned(), worlds),
        ("deps/random.wit".to_owned(), SEED_WIT.to_owned()),
    ];
    if with_kit {
        files.push(("deps/kit.wit".to_owned(), kit::WIT.to_owned()));
    }
    let both = folder.join("build/wit");
    // A folder of an earlier build, which may contain other files.
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

/// The interfaces that a manifest requests and a policy must grant.
pub fn granted(project: &Project) -> Vec<&'static str> {
    [
        (project.has_fetch(), "fetch"),
        (project.has_lookups(), "lookup"),
    ]
    .into_iter()
    .filter_map(|(requested, interface)| requested.then_some(interface))
    .collect()
}

/// Checks that the project's support files know the requested interfaces. They are copies from the
/// time the project was created.
fn expect_reach(granted: &[&str], folder: &Path) -> Result<(), Failure> {
    if granted.is_empty() || folder.join(REACH_JS).is_file() {
        return Ok(());
    }
    Err(Failure::Input(format!(
        "handler.yaml asks for {}, but this project is older than {REACH_JS}: copy that file, the files beside it and wit/handler.wit from a project that `tensorgate handler new` creates",
        granted.join(" and ")
    )))
}
