//! Projects of handlers, which `tensorgate handler` makes, builds and tests.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::lab::Lab;
use crate::outcome::{Outcome, failure};

/// The language of a handler.
#[derive(Clone, Copy, Debug)]
pub struct Language {
    /// Its name after `--lang`.
    pub name: &'static str,
    /// Its name in tables.
    pub title: &'static str,
    /// The file with the handler's source.
    source: &'static str,
}

/// CPython with numpy, the shared runtime.
pub const PYTHON: Language = Language {
    name: "python",
    title: "Python",
    source: "handler.py",
};

/// QuickJS.
pub const JS: Language = Language {
    name: "js",
    title: "JavaScript",
    source: "handler.js",
};

/// Rust, whose standard library imports WASI.
pub const RUST: Language = Language {
    name: "rust",
    title: "Rust",
    source: "src/lib.rs",
};

/// A project on the disk.
pub struct Project {
    language: Language,
    name: String,
    folder: PathBuf,
}

impl Project {
    /// Makes a project with the template's handler and cases in a new folder.
    pub fn new(lab: &Lab, language: Language, folder: PathBuf) -> Outcome<Self> {
        let name = format!("bench-{}", language.name);
        let made = tensorgate(
            lab,
            &[
                "new".as_ref(),
                "--lang".as_ref(),
                language.name.as_ref(),
                "--into".as_ref(),
                folder.as_ref(),
                name.as_ref(),
            ],
        )?;
        expect_success(&made)?;
        Ok(Self {
            language,
            name,
            folder,
        })
    }

    /// The file with the handler's source.
    pub fn source(&self) -> PathBuf {
        self.folder.join(self.language.source)
    }

    /// The component of a development build, below the project's folder.
    pub fn development_component(&self) -> String {
        format!("build/{}.dev.wasm", self.name)
    }

    /// Builds the component. The inner error says why the language is not available.
    pub fn build(&self, lab: &Lab) -> Outcome<Result<Vec<u8>, String>> {
        let built = tensorgate(lab, &["build".as_ref(), self.folder.as_ref()])?;
        let is_missing = String::from_utf8_lossy(&built.stderr).contains("handler setup");
        if is_missing && !built.status.success() {
            return Ok(Err(format!(
                "the tools that build components of {} are not installed (make handler-tools)",
                self.language.title
            )));
        }
        expect_success(&built)?;
        let file = format!("build/{}.wasm", self.name);
        Ok(Ok(std::fs::read(self.folder.join(file))?))
    }

    /// Runs the cases on the last build.
    pub fn test(&self, lab: &Lab) -> Outcome<()> {
        expect_success(&tensorgate(lab, &["test".as_ref(), self.folder.as_ref()])?)
    }
}

/// Runs a verb of `tensorgate handler`.
fn tensorgate(lab: &Lab, arguments: &[&OsStr]) -> Outcome<Output> {
    Ok(Command::new(lab.bin.join("tensorgate"))
        .arg("handler")
        .args(arguments)
        .output()?)
}

fn expect_success(output: &Output) -> Outcome<()> {
    if output.status.success() {
        return Ok(());
    }
    failure(format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}
