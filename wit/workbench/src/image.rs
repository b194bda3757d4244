//! Builds handlers for the shared runtime of Python: starts it, imports the author's modules, and
//! makes a component of its memory, whose code the host has already.
//!
//! The memory after the imports of packages is kept, because they take seconds. A build of changed
//! sources goes on from there.

mod interpreter;
mod snapshot;

use std::path::{Path, PathBuf};

use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_componentize::python;
use tensorgate_sandbox::Sandbox;
use tensorgate_settings::folders::MAX_COMPONENT_BYTES;
use wasmtime::{Engine, Module};

use crate::build_cache::{BuildCache, Key};
use crate::build_error;
use crate::copy::Copy;
use crate::image::interpreter::{EXCHANGE_BYTES, Ended, Mounts, run};
use crate::image::snapshot::Snapshot;
use crate::kit;
use crate::project::{Project, World};
use crate::python_imports::{imported_modules, python_files};
use crate::steps::step;
use crate::tools::{self, LIBRARY, SharedRuntime, end_of};

/// Imports the packages that a handler uses.
const PACKAGES: &str = include_str!("../../python/packages.py");

/// Imports the handler.
const BUILD: &str = include_str!("../../python/build.py");

/// The modules that connect a handler with its host, in `build/python` of the copied project.
const MODULES: [(&str, &str); 4] = [
    ("tensorgate_abi.py", include_str!("../../python/abi.py")),
    ("tensorgate_entry.py", include_str!("../../python/entry.py")),
    (
        "tensorgate_pillow.py",
        include_str!("../../python/pillow.py"),
    ),
    (
        "tensorgate_world_check.py",
        include_str!("../../python/world_check.py"),
    ),
];

/// A module of the package for authors that projects with the array kit of earlier releases lack.
const NUMPY_MODULE: &str = "tensorgate/image.py";

/// Maximum number of lines that are shown of what a build printed.
const MAX_NOTES: usize = 100;

/// What a build may take from earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Nothing, but later builds may take what it makes.
    Nothing,
    /// The imports of packages. Only they are kept: sources that are being written change often.
    Packages,
    /// Everything.
    All,
}

/// Builds a copied project.
///
/// # Errors
/// The runtime is not installed, the handler's modules fail, or the component is too large.
pub fn component(
    project: &Project,
    copy: &Copy,
    reuse: Reuse,
    sandbox: &Sandbox,
    ui: &Ui,
) -> Result<Vec<u8>, Failure> {
    let folder = copy.project();
    if !folder.join(NUMPY_MODULE).is_file() {
        return Err(Failure::Input(format!(
            "the folder tensorgate of {} is missing, or is that of the array kit, which handlers in Python no longer have: take the folder of a project that `tensorgate handler new --lang python` creates, and use numpy for arrays",
            project.folder.display()
        )));
    }
    let modules = MODULES.map(|(name, text)| (name.to_owned(), text.to_owned()));
    tools::write(&folder.join("build/python"), &modules)?;
    let build = Build {
        project,
        copy,
        runtime: tools::shared_runtime()?,
        packages: active_packages(),
        empty: copy.empty(),
        reuse,
        sandbox,
        ui,
    };
    let library = build.runtime.library.join(LIBRARY);
    let zip = std::fs::metadata(&library).map_err(|cause| unreadable(&library, &cause))?;
    let state = build.state()?;
    if state.entry == 0 {
        return Err(Failure::Failed("the build made no entry".to_owned()));
    }
    let images = decodes_images(&state);
    let component = python::handler(&python::Image {
        runtime: build.runtime.digest,
        zip_bytes: zip.len(),
        memory: &state.memory,
        exchange: state.exchange,
        entry: state.entry,
        world: match project.world {
            World::Preprocess => python::World::Preprocess,
            World::Postprocess => python::World::Postprocess,
        },
        fetch: project.has_fetch(),
        lookup: project.has_lookups(),
        images,
    })
    .map_err(|fault| Failure::Failed(format!("cannot make the component: {fault}")))?;
    let component = if images {
        kit::compose(&component)?
    } else {
        component
    };
    if component.len() > MAX_COMPONENT_BYTES {
        return Err(Failure::Failed(format!(
            "the component has {} MiB, and a host loads {} MiB: it contains all that the handler's modules import and make. Import fewer packages, or make tables in the call, or `fetch` them",
            component.len() >> 20,
            MAX_COMPONENT_BYTES >> 20
        )));
    }
    Ok(component)
}

/// Whether a handler decodes images: `abi.py` says so in the last byte of the exchange block.
fn decodes_images(state: &Snapshot) -> bool {
    let flag = (state.exchange.checked_add(EXCHANGE_BYTES - 1))
        .and_then(|at| state.memory.get(usize::try_from(at).ok()?));
    flag.is_some_and(|flag| *flag != 0)
}

/// A build of one project.
struct Build<'b> {
    project: &'b Project,
    copy: &'b Copy,
    runtime: SharedRuntime,
    /// The packages of the author's environment, if one is active.
    packages: Option<PathBuf>,
    /// An empty folder.
    empty: PathBuf,
    reuse: Reuse,
    sandbox: &'b Sandbox,
    ui: &'b Ui,
}

impl Build<'_> {
    /// The interpreter after the handler's modules were imported.
    fn state(&self) -> Result<Snapshot, Failure> {
        let (project, folder) = (self.project, self.copy.project());
        let flag = |is_set: bool| if is_set { "True" } else { "False" };
        let script = format!(
            "_world = \"{}\"\n_fetch = {}\n_lookup = {}\n{BUILD}",
            project.world.name(),
            flag(project.has_fetch()),
            flag(project.has_lookups())
        );
        let key = if self.reuse == Reuse::Packages {
            None
        } else {
            self.key("handler", &script)
        };
        let key = key.and_then(|mut key| key.add_folder(&folder).ok().map(|()| key));
        self.kept(key, self.reuse == Reuse::All, || {
            let loaded = self.sandbox.runtime(&self.runtime.digest);
            let code = loaded.map_err(|cause| {
                Failure::Failed(format!("cannot load the runtime for Python: {cause}"))
            })?;
            let from = self.with_packages(&code)?;
            let what = format!("building {}", project.name);
            let finished = step(self.ui, &what, "", || {
                let ran = run(&code, &self.mounts(&folder), from, false, &script);
                ran.map_err(|ended| self.failure(&ended))
            })?;
            if !self.ui.json {
                for line in finished.printed.lines().take(MAX_NOTES) {
                    self.ui.note(&printable(line));
                }
            }
            Ok(finished.state)
        })
    }

    /// The interpreter after the imports of packages that the project names.
    fn with_packages(&self, code: &(Engine, Module)) -> Result<Snapshot, Failure> {
        let folder = self.copy.project();
        let files = python_files(&folder).map_err(|cause| unreadable(&folder, &cause))?;
        let files: Vec<(&str, &[u8])> = files
            .iter()
            .map(|(path, content)| (path.as_str(), content.as_slice()))
            .collect();
        let modules = Vec::from_iter(imported_modules(&files)).join(" ");
        let script = format!("_modules = \"{modules}\"\n{PACKAGES}");
        let key = self.key("packages", &script);
        self.kept(key, self.reuse != Reuse::Nothing, || {
            let what = "importing the packages that the handler uses";
            step(self.ui, what, "some seconds, and once", || {
                let file = &self.runtime.file;
                let bytes = std::fs::read(file).map_err(|cause| unreadable(file, &cause))?;
                let new = python::first_memory(&bytes).and_then(|segments| {
                    let mut imports = code.1.imports();
                    let pages = imports
                        .find_map(|import| import.ty().memory().map(|memory| memory.minimum()));
                    Snapshot::new(&segments, pages?)
                });
                let new = new.ok_or_else(|| {
                    Failure::Failed(format!("{} is damaged: remove it", file.display()))
                })?;
                // They are the same for every project.
                let mounts = self.mounts(&self.empty);
                let ran = run(code, &mounts, new, true, &script);
                ran.map(|finished| finished.state)
                    .map_err(|ended| self.failure(&ended))
            })
        })
    }

    /// The state of an earlier build with the same key, or the one that `work` makes.
    fn kept(
        &self,
        key: Option<Key>,
        may_reuse: bool,
        work: impl FnOnce() -> Result<Snapshot, Failure>,
    ) -> Result<Snapshot, Failure> {
        let entry = key.and_then(|key| Some((key, BuildCache::open()?)));
        if may_reuse
            && let Some((key, cache)) = &entry
            && let Some(state) = (cache.get(key)).and_then(|state| Snapshot::from_bytes(&state))
        {
            return Ok(state);
        }
        let state = work()?;
        if let Some((key, cache)) = entry {
            cache.put(&key, &state.to_bytes());
        }
        Ok(state)
    }

    /// The key of a script that sees the runtime and the packages. `None` if it has none.
    fn key(&self, what: &str, script: &str) -> Option<Key> {
        let mut key = Key::new(what);
        key.add(&self.runtime.digest);
        key.add(PACKAGES.as_bytes());
        key.add(script.as_bytes());
        match &self.packages {
            Some(packages) => key.add_listing(packages).ok().map(|()| key),
            None => Some(key),
        }
    }

    fn mounts<'m>(&'m self, project: &'m Path) -> Mounts<'m> {
        Mounts {
            library: &self.runtime.library,
            project,
            packages: self.packages.as_deref().unwrap_or(&self.empty),
        }
    }

    /// The failure of a script.
    fn failure(&self, ended: &Ended) -> Failure {
        let output = end_of(&ended.output);
        let Some(cause) = &ended.cause else {
            let project = self.copy.project();
            let mut folders = vec![project.as_path()];
            folders.extend(self.packages.as_deref());
            let printed = format!("{}{output}", ended.errors);
            return Failure::Failed(build_error::python_message(&printed, &folders));
        };
        let errors = end_of(&ended.errors);
        let text = format!("cannot import the handler: {cause}\n{errors}\n{output}");
        Failure::Failed(text.trim_end().to_owned())
    }
}

/// The packages folder of the active virtual environment.
fn active_packages() -> Option<PathBuf> {
    let environment = PathBuf::from(std::env::var_os("VIRTUAL_ENV")?);
    let versions = std::fs::read_dir(environment.join("lib")).ok()?;
    let folders = versions
        .flatten()
        .map(|version| version.path().join("site-packages"));
    folders.filter(|folder| folder.is_dir()).max()
}

fn unreadable(path: &Path, cause: &std::io::Error) -> Failure {
    Failure::Failed(format!("cannot read {}: {cause}", path.display()))
}
