//! Runtimes of development components: `QuickJS` with a general entry, built once for each list of
//! tools, contract and world, and kept in the user's cache.

use std::path::Path;

use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;

use crate::build::{js_entry, js_tool, tool_failure, with_kit};
use crate::build_cache::{BuildCache, Key};
use crate::contract::{Contract, contract};
use crate::copy::Copy;
use crate::dev::modules::SUPPORT;
use crate::kit;
use crate::project::Project;
use crate::steps::step;
use crate::tools::{self, Tool};

/// The interface that returns the author's code.
const WIT: &str = include_str!("../../../development.wit");

/// The world of a development component.
const WORLD: &str = "development";

/// The runtime for a copied project.
///
/// # Errors
/// A tool is missing or fails, or the project is older than what its manifest asks for.
pub fn runtime(project: &Project, copy: &Copy, ui: &Ui) -> Result<Vec<u8>, Failure> {
    let folder = copy.project();
    let contract = development(contract(project, &folder)?)?;
    // The tool reads this folder and the contract only.
    let parts = copy.root().join("runtime");
    let tool = js(project, copy, &parts, &contract)?;
    let mut key = Key::new(&tools::versions(project.language));
    key.add_arguments(tool.command.get_args(), copy.root());
    key.add_environment(std::env::var_os);
    // The kit is in the runtime.
    key.add(kit::KIT);
    key.add(env!("CARGO_PKG_VERSION").as_bytes());
    for folder in [&parts, &contract.folder] {
        key.add_folder(folder)
            .map_err(|cause| failed(folder, &cause))?;
    }
    let cache = BuildCache::open();
    if let Some(made) = cache.as_ref().and_then(|cache| cache.get(&key)) {
        return Ok(made);
    }
    let what = format!("building a runtime for development with {}", tool.name);
    let fix = tools::setup_fix(project.language);
    step(ui, &what, "up to a minute", || tool.run(&fix))
        .map_err(|failure| tool_failure(failure, copy, &project.folder))?;
    let made = std::fs::read(copy.made()).map_err(|cause| failed(&copy.made(), &cause))?;
    let made = with_kit(made, ui)?;
    if let Some(cache) = cache {
        cache.put(&key, &made);
    }
    Ok(made)
}

fn failed(path: &Path, cause: &std::io::Error) -> Failure {
    Failure::Failed(format!("cannot read {}: {cause}", path.display()))
}

/// The contract with the interface for the author's code. The folder is one of a private copy.
fn development(base: Contract) -> Result<Contract, Failure> {
    // Without a line `package`, which another file of the folder has.
    let world = format!(
        "/// A handler whose host hands over the author's code.\nworld {WORLD} {{\n    include {};\n    import tensorgate:development/sources@0.1.0;\n}}\n",
        base.world
    );
    tools::write(
        &base.folder,
        &[
            ("development.wit".to_owned(), world),
            ("deps/development.wit".to_owned(), WIT.to_owned()),
        ],
    )?;
    Ok(Contract {
        folder: base.folder,
        world: WORLD.to_owned(),
    })
}

/// The modules of the project's own support files are part of the runtime, where they are connected
/// with the host. The author's are functions in the sources.
fn js(project: &Project, copy: &Copy, parts: &Path, contract: &Contract) -> Result<Tool, Failure> {
    let folder = copy.project();
    let mut files = Vec::new();
    let mut table = String::new();
    for (number, name) in SUPPORT.iter().enumerate() {
        if let Ok(text) = std::fs::read_to_string(folder.join(name)) {
            files.push(((*name).to_owned(), text));
            table.push_str(&format!(
                "import * as support{number} from \"./{name}\";\nsupport[\"{name}\"] = support{number};\n"
            ));
        }
    }
    let handler = include_str!("../../../js/development.js").replace("// SUPPORT\n", &table);
    files.push(("handler.js".to_owned(), handler));
    tools::write(parts, &files)?;
    tools::write(&parts.join("build/js"), &js_entry(project, &folder)?)?;
    js_tool(copy, contract, parts)
}
