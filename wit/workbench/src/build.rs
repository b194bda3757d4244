//! Builds a project into its component, with the tools of its language and without a network.
//!
//! The component imports a handler's own interfaces, and what a host links of WASI. For JavaScript,
//! the tensor kit is composed into it.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;
use tensorgate_componentize::{componentize, fused, refusal, surface};

use crate::build_cache::{BuildCache, Key};
use crate::build_error;
use crate::contract::{Contract, REACH_JS, contract, granted};
use crate::copy::Copy;
use crate::image::{self, Reuse};
use crate::initialise::initialised;
use crate::kit;
use crate::project::{Language, Project, World};
use crate::runner;
use crate::steps::step;
use crate::tools::{self, RUST_TARGET, RUSTUP, Tool};
use crate::wit_version::{self, WitVersion};

/// Stack of a Rust handler, bytes. The default of 1 MiB would have to be cleared after every call.
const STACK_BYTES: usize = 256 << 10;

/// Builds a project and returns the component, which is written to [`Project::component`]. With
/// `may_reuse`, what the tools made earlier of the same inputs is used. `ui` names the steps.
///
/// # Errors
/// A tool is missing or fails, or the result is not a handler.
pub fn build(project: &Project, may_reuse: bool, ui: &Ui) -> Result<Vec<u8>, Failure> {
    let folder = project.folder.canonicalize().map_err(|cause| {
        Failure::Input(format!(
            "cannot enter {}: {cause}",
            project.folder.display()
        ))
    })?;
    expect_own_outputs(&folder)?;
    let built = match project.language {
        Language::Rust => rust(project, &folder, ui)?,
        Language::Python => {
            let reuse = if may_reuse {
                Reuse::All
            } else {
                Reuse::Nothing
            };
            let copy = Copy::new(&folder)?;
            expect_module(project, &folder, &copy)?;
            let sandbox = runner::sandbox().map_err(Failure::Failed)?;
            image::component(project, &copy, reuse, &sandbox, ui)?
        }
        Language::Js => with_kit(js(project, &folder, may_reuse, ui)?, ui)?,
    };
    check_component(project, &built)?;
    let file = project.component();
    replace(&file, &built)
        .map_err(|cause| Failure::Failed(format!("cannot write {}: {cause}", file.display())))?;
    Ok(built)
}

/// Checks that a component is a handler of its world, which a host accepts.
pub fn check_component(project: &Project, component: &[u8]) -> Result<(), Failure> {
    let surface = surface(component).map_err(|fault| {
        Failure::Failed(format!("the tools did not produce a component: {fault}"))
    })?;
    let foreign = surface.foreign();
    if !foreign.is_empty() {
        return Err(Failure::Failed(format!(
            "the component {}",
            refusal(&foreign)
        )));
    }
    if let Some(advice) = wit_version::unknown(&surface.imports) {
        return Err(Failure::Failed(advice));
    }
    if !surface
        .exports
        .iter()
        .any(|name| name == project.world.name())
    {
        return Err(Failure::Failed(format!(
            "the component does not export {}, the function of its world",
            project.world.name()
        )));
    }
    Ok(())
}

/// Checks that the outputs of a build stay in the project's folder.
pub fn expect_own_outputs(folder: &Path) -> Result<(), Failure> {
    if std::fs::symlink_metadata(folder.join("build")).is_ok_and(|found| found.is_symlink()) {
        return Err(Failure::Input(
            "build is a symbolic link: a project's component must stay in its own folder; remove the link".to_owned(),
        ));
    }
    Ok(())
}

/// Writes a temporary file beside the target and renames it.
pub fn replace(file: &Path, content: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let beside = file.with_extension("wasm.new");
    // Removes an existing file first. It could be a symbolic link out of the project.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut written = std::fs::File::create_new(&beside)?;
    written.write_all(content)?;
    written.sync_all()?;
    std::fs::rename(&beside, file)
}

/// Builds a copy of a project in JavaScript. The tool executes the untrusted handler code at build
/// time, to snapshot its initialised state.
fn js(project: &Project, folder: &Path, may_reuse: bool, ui: &Ui) -> Result<Vec<u8>, Failure> {
    let copy = Copy::new(folder)?;
    expect_module(project, folder, &copy)?;
    let root = copy.project();
    tools::write(&root.join("build/js"), &js_entry(project, &root)?)?;
    let tool = js_tool(&copy, &contract(project, &root)?, &root)?;
    // Before the tool runs the handler's code, which can change the copy.
    let key = key(project, &copy, &tool)?;
    let cache = BuildCache::open();
    if may_reuse && let Some(made) = cache.as_ref().and_then(|cache| cache.get(&key)) {
        return Ok(made);
    }
    let what = format!("building {} with {}", project.name, tool.name);
    let fix = tools::setup_fix(project.language);
    step(ui, &what, "up to a minute", || tool.run(&fix))
        .map_err(|failure| tool_failure(failure, &copy, folder))?;
    let made = read(&copy.made())?;
    if let Some(cache) = cache {
        cache.put(&key, &made);
    }
    Ok(made)
}

/// The failure of a tool that built a copy. It names the project that the author knows.
pub fn tool_failure(failure: Failure, copy: &Copy, folder: &Path) -> Failure {
    match failure {
        Failure::Failed(text) => Failure::Failed(build_error::js_message(&text.replace(
            &copy.project().display().to_string(),
            &folder.display().to_string(),
        ))),
        other => other,
    }
}

/// A digest of all that a tool is given. What is done with its output is done in each build, so
/// this program's own version is no part of it.
fn key(project: &Project, copy: &Copy, tool: &Tool) -> Result<Key, Failure> {
    let mut key = Key::new(&tools::versions(project.language));
    key.add_arguments(tool.command.get_args(), copy.root());
    key.add_environment(std::env::var_os);
    key.add_folder(&copy.project()).map_err(|cause| {
        Failure::Failed(format!(
            "cannot read the copy of {}: {cause}",
            project.folder.display()
        ))
    })?;
    Ok(key)
}

/// Checks that the module exists whose functions the host calls.
pub fn expect_module(project: &Project, folder: &Path, copy: &Copy) -> Result<(), Failure> {
    let (module, package) = match project.language {
        // cargo has its own message.
        Language::Rust => return Ok(()),
        Language::Python => ("handler.py", Some("handler/__init__.py")),
        Language::Js => ("handler.js", None),
    };
    let exists = |file: &str| copy.project().join(file).is_file();
    if exists(module) || package.is_some_and(exists) {
        return Ok(());
    }
    Err(Failure::Input(format!(
        "{} has no {module}: the host calls {} in this file",
        folder.display(),
        project.world.name()
    )))
}

/// Merges the modules of `QuickJS` into one, which saves a third of an empty call, and adds the
/// tensor kit. A component that cannot be merged is used unchanged.
pub fn with_kit(component: Vec<u8>, ui: &Ui) -> Result<Vec<u8>, Failure> {
    step(ui, "merging the modules of the component", "", || {
        kit::compose(&fused(&component).unwrap_or(component))
    })
}

fn rust(project: &Project, folder: &Path, ui: &Ui) -> Result<Vec<u8>, Failure> {
    if !tools::has_rust_target()? {
        return Err(Failure::Failed(format!(
            "Rust's target {RUST_TARGET} is not installed: run `tensorgate handler setup --lang rust` once, with a network"
        )));
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| folder.join("target"), PathBuf::from);
    let mut cargo = tools::cargo();
    cargo
        .command
        .args(["build", "--quiet", "--offline", "--release", "--lib"])
        .args(["--target", RUST_TARGET, "--target-dir"])
        .arg(&target)
        .current_dir(folder)
        // The component's digest is pinned in policies, so earlier builds, paths and user names
        // must not affect the bytes.
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_ENCODED_RUSTFLAGS", rust_flags(folder)?);
    let what = format!("building {} with cargo", project.name);
    let built = step(ui, &what, "minutes the first time", || cargo.run(RUSTUP));
    built.map_err(|failure| match failure {
        Failure::Failed(output) if output.contains("--offline") => {
            Failure::Failed(build_error::rust_message(format!(
                "{output}\na crate is missing: run `tensorgate handler setup --lang rust`, or `cargo fetch` for crates that you added, once with a network"
            )))
        }
        Failure::Failed(output) => Failure::Failed(build_error::rust_message(output)),
        other => other,
    })?;
    let core = target
        .join(RUST_TARGET)
        .join("release")
        .join(format!("{}.wasm", project.name.replace('-', "_")));
    let core = read(&core)?;
    let core = step(ui, "running its initialisation", "", || initialised(core))?;
    componentize(&core).map_err(|fault| Failure::Failed(format!("the component {fault}")))
}

/// Compiler flags, as `CARGO_ENCODED_RUSTFLAGS` takes them.
fn rust_flags(folder: &Path) -> Result<OsString, Failure> {
    let mut flags: Vec<OsString> = vec![
        "-Cstrip=symbols".into(),
        // The sandbox supports SIMD and counts a vector instruction as one.
        "-Ctarget-feature=+simd128".into(),
        format!("-Clink-arg=-zstack-size={STACK_BYTES}").into(),
        // The module itself, which is initialised before it becomes a component.
        "-Clink-arg=--skip-wit-component".into(),
        remap(folder, "."),
    ];
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    if let Some(home) = home {
        flags.push(remap(&home, "cargo"));
        // The folder's name contains the registry's name.
        for registry in std::fs::read_dir(home.join("registry/src"))
            .into_iter()
            .flatten()
            .flatten()
        {
            flags.push(remap(&registry.path(), "crates"));
        }
    }
    let sysroot = tools::rust_sysroot()?;
    flags.push(remap(&sysroot.join("lib/rustlib/src/rust"), "rust"));
    Ok(flags.join(&OsString::from("\u{1f}")))
}

fn remap(from: &Path, to: &str) -> OsString {
    let mut flag = OsString::from("--remap-path-prefix=");
    flag.push(from);
    flag.push("=");
    flag.push(to);
    flag
}

/// The modules in `build/js`, which connect a JavaScript handler with its world.
pub fn js_entry(project: &Project, folder: &Path) -> Result<Vec<(String, String)>, Failure> {
    let world = match project.world {
        World::Preprocess => include_str!("../../js/entry-preprocess.js"),
        World::Postprocess => include_str!("../../js/entry-postprocess.js"),
    };
    let with_kit = if kit::is_used(folder) {
        include_str!("../../js/entry-kit.js")
    } else {
        ""
    };
    // Without these lines, the module assumes that it runs in a unit test.
    let mut capabilities = String::new();
    if folder.join(REACH_JS).is_file() {
        capabilities.push_str(include_str!("../../js/entry-reach.js"));
        for interface in granted(project) {
            capabilities.push_str(match interface {
                "fetch" => include_str!("../../js/entry-fetch.js"),
                _ => include_str!("../../js/entry-lookup.js"),
            });
        }
    }
    let version = WitVersion::of_project(folder)?;
    let own = match version {
        WitVersion::V0_1 => include_str!("../../js/entry-0.1.js"),
        WitVersion::V0_2 => include_str!("../../js/entry-0.2.js"),
    };
    // Modules are evaluated in the order of their imports. The handler's own may keep
    // `Math.random`, so it is replaced first.
    let text = format!(
        "import \"./random.js\";\n{with_kit}{capabilities}{own}{}{world}",
        include_str!("../../js/entry.js")
    );
    let text = version.applied(&text);
    let check = include_str!("../../js/world_check.js");
    let random = include_str!("../../js/random.js");
    let results = include_str!("../../js/results.js");
    let story = include_str!("../../js/story.js");
    Ok(vec![
        ("entry.js".to_owned(), text),
        ("world_check.js".to_owned(), check.to_owned()),
        ("random.js".to_owned(), random.to_owned()),
        ("results.js".to_owned(), results.to_owned()),
        ("story.js".to_owned(), story.to_owned()),
    ])
}

/// componentize-qjs for a copy, with the folder of all modules. Its `build/js` has the entry.
pub fn js_tool(copy: &Copy, contract: &Contract, folder: &Path) -> Result<Tool, Failure> {
    let mut tool = tools::componentize_qjs()?;
    tool.command
        .arg("--wit")
        .arg(&contract.folder)
        .args(["-n", &contract.world, "--sync", "--js"])
        .arg(folder.join("build/js/entry.js"))
        .arg("--module-root")
        .arg(folder)
        .arg("-o")
        .arg(copy.made());
    Ok(tool)
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|cause| {
        Failure::Failed(format!(
            "the tools did not write {}: {cause}",
            file.display()
        ))
    })
}
