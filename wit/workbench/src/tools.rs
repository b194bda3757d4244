//! Build tools for handlers: their paths and their installation.
//!
//! Tools are pinned by hash and kept in the user's cache folder. Only `setup` downloads them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::private_dir::PrivateDir;
use tensorgate_cli_common::ui::Ui;
use tensorgate_cli_common::user_folders;
use tensorgate_policy::hex;

use crate::project::Language;
use crate::template;

const WHEELS: &str = include_str!("../../tools/componentize-py.txt");
const PACKAGE: &str = include_str!("../../tools/package.json");
const PACKAGE_LOCK: &str = include_str!("../../tools/package-lock.json");

/// Compilation target of Rust handlers. With it, the standard library prints, and has clocks and
/// random numbers.
pub const RUST_TARGET: &str = "wasm32-wasip2";

/// Marker of a complete installation, written last.
const COMPLETE: &str = ".complete";

/// Maximum length of a tool's output in error messages, characters. The end is kept.
const MAX_OUTPUT_CHARS: usize = 8 << 10;

/// A command and the name of its tool.
pub struct Tool {
    pub command: Command,
    name: &'static str,
}

impl Tool {
    fn new(name: &'static str, program: impl AsRef<std::ffi::OsStr>) -> Self {
        Self {
            command: Command::new(program),
            name,
        }
    }

    /// Runs the tool and returns its standard output.
    ///
    /// # Errors
    /// The tool is missing (`fix` says how to install it) or failed; the message includes its
    /// output.
    pub fn run(mut self, fix: &str) -> Result<String, Failure> {
        let output = self
            .command
            // Authors need the tool's messages, not its backtraces.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .output()
            .map_err(|cause| {
                Failure::Failed(format!("cannot run {}: {cause}; {fix}", self.name))
            })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let mut messages = String::from_utf8_lossy(&output.stderr).into_owned();
        messages.push_str(&String::from_utf8_lossy(&output.stdout));
        let from = messages
            .char_indices()
            .nth_back(MAX_OUTPUT_CHARS)
            .map_or(0, |(at, _)| at);
        let messages = messages.get(from..).unwrap_or_default().trim_end();
        Err(Failure::Failed(format!(
            "{} failed ({}):\n{messages}",
            self.name, output.status
        )))
    }
}

/// cargo, from `CARGO` or the search path.
pub fn cargo() -> Tool {
    Tool::new(
        "cargo",
        std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()),
    )
}

/// What to do if cargo is missing.
pub const RUSTUP: &str = "install Rust with rustup";

/// componentize-py, as installed by `setup`, with the given Python environment.
///
/// # Errors
/// The tool is not installed.
pub fn componentize_py(environment: &Path) -> Result<Tool, Failure> {
    let folder = made(Language::Python)?;
    let mut tool = Tool::new("componentize-py", folder.join("bin/componentize-py"));
    // The tool runs the handler's untrusted code, which can write to the package folders that the
    // tool finds. An empty environment protects both the tool's own installation and the author's
    // active one.
    tool.command.env("VIRTUAL_ENV", environment);
    Ok(tool)
}

/// componentize-qjs, as installed by `setup`, run by node.
///
/// # Errors
/// The tool is not installed.
pub fn componentize_qjs() -> Result<Tool, Failure> {
    made(Language::Js).map(|folder| qjs(&folder))
}

/// Node.js, from the search path.
pub fn node() -> Tool {
    Tool::new("node", "node")
}

fn qjs(folder: &Path) -> Tool {
    let mut tool = Tool::new("componentize-qjs", "node");
    tool.command
        .arg(folder.join("node_modules/componentize-qjs/cli.mjs"));
    tool
}

/// The folder of a language's tools, if the installation is complete.
fn made(language: Language) -> Result<PathBuf, Failure> {
    let folder = folder(language)?;
    if folder.join(COMPLETE).is_file() {
        Ok(folder)
    } else {
        Err(Failure::Failed(format!(
            "the build tools for {} are not installed: {}",
            language.name(),
            setup_fix(language)
        )))
    }
}

/// What to do if a language's tools are missing.
pub fn setup_fix(language: Language) -> String {
    format!(
        "run `tensorgate handler setup --lang {}` once, with a network",
        language.name()
    )
}

/// The folder of a language's tools. Its name contains a digest of their version list.
fn folder(language: Language) -> Result<PathBuf, Failure> {
    let cache = user_folders::cache().ok_or_else(|| {
        Failure::Input("set HOME or XDG_CACHE_HOME: the build tools are installed there".to_owned())
    })?;
    let name = match language {
        Language::Rust => "cargo",
        Language::Python => "componentize-py",
        Language::Js => "componentize-qjs",
    };
    let mut digest = hex(&Sha256::digest(versions(language)));
    digest.truncate(16);
    Ok(cache.join(format!("{name}-{digest}")))
}

/// The list of versions of a language's tools, each with the digest of its files.
pub fn versions(language: Language) -> String {
    match language {
        Language::Rust => String::new(),
        Language::Python => WHEELS.to_owned(),
        Language::Js => format!("{PACKAGE}{PACKAGE_LOCK}"),
    }
}

/// Installs the tools of a language, unless they are present. Nothing else in this module uses the
/// network.
///
/// # Errors
/// A prerequisite is missing; the message says what to do.
pub fn setup(ui: &Ui, language: Language) -> Result<(), Failure> {
    match language {
        Language::Rust => rust(ui),
        Language::Python | Language::Js => {
            let folder = folder(language)?;
            let parent = folder.parent().unwrap_or(Path::new("."));
            let io = |cause: std::io::Error| {
                Failure::Failed(format!("cannot write {}: {cause}", folder.display()))
            };
            std::fs::create_dir_all(parent).map_err(io)?;
            // Held until the installation is done, so that concurrent runs install only once.
            let lock = File::create(parent.join(".handler.lock")).map_err(io)?;
            lock.lock().map_err(io)?;
            if folder.join(COMPLETE).is_file() {
                return Ok(());
            }
            ui.note(&format!(
                "setup: installing the build tools for {} into {}",
                language.name(),
                folder.display()
            ));
            if folder.exists() {
                std::fs::remove_dir_all(&folder).map_err(io)?;
            }
            std::fs::create_dir_all(&folder).map_err(io)?;
            if language == Language::Python {
                python(&folder)?;
            } else {
                js(&folder)?;
            }
            std::fs::write(folder.join(COMPLETE), "").map_err(io)
        }
    }
}

/// Installs the compilation target, and fetches the crates of a new project.
fn rust(ui: &Ui) -> Result<(), Failure> {
    if !has_rust_target()? {
        ui.note(&format!("setup: adding Rust's target {RUST_TARGET}"));
        let mut rustup = Tool::new("rustup", "rustup");
        rustup.command.args(["target", "add", RUST_TARGET]);
        rustup.run(RUSTUP)?;
    }
    let failed = |cause: std::io::Error| Failure::Failed(format!("cannot make a folder: {cause}"));
    let scratch = PrivateDir::new().map_err(failed)?;
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
    fetch.run(RUSTUP).map(drop)
}

/// Whether the compiler has the compilation target.
pub fn has_rust_target() -> Result<bool, Failure> {
    let folder = rustc(&["--print", "target-libdir", "--target", RUST_TARGET])?;
    Ok(folder.is_dir())
}

/// Root folder of the compiler's installation.
pub fn rust_sysroot() -> Result<PathBuf, Failure> {
    rustc(&["--print", "sysroot"])
}

/// Runs rustc with the arguments and returns the path that it prints.
fn rustc(arguments: &[&str]) -> Result<PathBuf, Failure> {
    let mut rustc = Tool::new("rustc", "rustc");
    rustc.command.args(arguments);
    Ok(PathBuf::from(rustc.run(RUSTUP)?.trim()))
}

fn python(folder: &Path) -> Result<(), Failure> {
    let python = std::env::var_os("TENSORGATE_PYTHON").unwrap_or_else(|| "python3".into());
    let mut venv = Tool::new("python3", python);
    venv.command.args(["-m", "venv"]).arg(folder);
    venv.run("install Python 3.9 or later with its venv module")?;
    write(folder, &[("wheels.txt".to_owned(), WHEELS.to_owned())])?;
    let mut pip = Tool::new("pip", folder.join("bin/python"));
    pip.command
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .args(["--require-hashes", "--no-deps", "--only-binary=:all:", "-r"])
        .arg(folder.join("wheels.txt"));
    pip.run("install Python 3.9 or later with its venv module")
        .map(drop)
}

fn js(folder: &Path) -> Result<(), Failure> {
    write(
        folder,
        &[
            ("package.json".to_owned(), PACKAGE.to_owned()),
            ("package-lock.json".to_owned(), PACKAGE_LOCK.to_owned()),
        ],
    )?;
    let mut npm = Tool::new("npm", "npm");
    // `npm ci` would reject a lock file that lacks the registry's packages for other systems.
    // Packages in the list are still verified by hash.
    npm.command
        .args([
            "install",
            "--no-save",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--prefix",
        ])
        .arg(folder)
        .current_dir(folder);
    npm.run("install Node.js 18 or later with npm")?;
    // npm treats the native package for this system as optional, so its presence is tested.
    let mut works = qjs(folder);
    works.command.arg("--help");
    works.run("install Node.js 18 or later").map(drop)
}

/// Refuses a folder that has entries, or a file in its place, so that nothing is overwritten.
pub fn expect_new_folder(folder: &Path) -> Result<(), Failure> {
    let taken = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if taken || folder.is_file() {
        return Err(Failure::Input(format!(
            "{} already exists and is not empty",
            folder.display()
        )));
    }
    Ok(())
}

/// Writes files below a folder and creates missing folders.
pub fn write(folder: &Path, files: &[(String, String)]) -> Result<(), Failure> {
    for (path, text) in files {
        let file = folder.join(path);
        let parent = file.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&file, text))
            .map_err(|cause| {
                Failure::Failed(format!("cannot write {}: {cause}", file.display()))
            })?;
    }
    Ok(())
}
