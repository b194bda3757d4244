//! Development builds, which follow a change of an author's files within a second or two.
//!
//! For JavaScript, the component is a runtime that was built and compiled once, and the author's
//! modules in a section after it (`runtime`, `sources`). Calls read them from the host
//! (`wit/development.wit`), so a change builds and compiles nothing. A call is slower, because it
//! evaluates the author's modules. Rust and Python need no such runtime: an ordinary build is
//! quick, and that of Python goes on after the imports of an earlier one.

mod check;
mod modules;
mod runtime;
mod sources;

use std::path::PathBuf;

use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;
use tensorgate_componentize::noted;
use tensorgate_sandbox::{LoadedHandler, SOURCES_SECTION, Sandbox};

use self::sources::Sources;
use crate::build::{build, check_component, expect_module, expect_own_outputs, replace};
use crate::copy::Copy;
use crate::image::{self, Reuse};
use crate::project::{Language, Project};

/// A development build.
pub struct DevelopmentBuild {
    /// The component.
    pub component: Vec<u8>,
    /// Keeps the compiled runtime in memory, for the next load or build with the same sandbox.
    pub runtime: Option<LoadedHandler>,
}

/// The path of a project's development build. No other verb uses it.
pub fn path(project: &Project) -> PathBuf {
    project.component().with_extension("dev.wasm")
}

/// Builds a project for development, and loads the author's modules once. If the runtime for
/// development cannot load the sources, `ui` has a note before the ordinary build, which takes
/// longer.
///
/// # Errors
/// A tool is missing or fails, or a module cannot be loaded.
pub fn build_for_development(
    project: &Project,
    sandbox: &Sandbox,
    ui: &Ui,
) -> Result<DevelopmentBuild, Failure> {
    if project.language == Language::Rust {
        return Ok(DevelopmentBuild {
            component: build(project, true, ui)?,
            runtime: None,
        });
    }
    let folder = project.folder.canonicalize().map_err(|cause| {
        Failure::Input(format!(
            "cannot enter {}: {cause}",
            project.folder.display()
        ))
    })?;
    let copy = Copy::new(&folder)?;
    expect_module(project, &folder, &copy)?;
    if project.language == Language::Python {
        let component = image::component(project, &copy, Reuse::Packages, sandbox, ui)?;
        check_component(project, &component)?;
        return Ok(DevelopmentBuild {
            component,
            runtime: None,
        });
    }
    let sources = match Sources::of(&copy)? {
        Ok(sources) => sources,
        Err(cause) => {
            ui.note(&format!(
                "note: {} has an ordinary build, which takes longer: {cause}",
                project.name
            ));
            return Ok(DevelopmentBuild {
                component: build(project, true, ui)?,
                runtime: None,
            });
        }
    };
    let runtime = runtime::runtime(project, &copy, ui)?;
    let checked = noted(&runtime, SOURCES_SECTION, &sources.archive_to_check());
    let loaded = check::check(project, sandbox, &checked, ui)?;
    Ok(DevelopmentBuild {
        component: noted(&runtime, SOURCES_SECTION, &sources.archive()),
        runtime: Some(loaded),
    })
}

/// Builds a project for development, and writes the component to [`path`].
///
/// # Errors
/// As [`build_for_development`], or the file cannot be written.
pub fn build_file(
    project: &Project,
    sandbox: &Sandbox,
    ui: &Ui,
) -> Result<DevelopmentBuild, Failure> {
    expect_own_outputs(&project.folder)?;
    let built = build_for_development(project, sandbox, ui)?;
    let file = path(project);
    replace(&file, &built.component)
        .map_err(|cause| Failure::Failed(format!("cannot write {}: {cause}", file.display())))?;
    Ok(built)
}
