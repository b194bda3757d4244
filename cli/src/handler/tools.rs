//! The tools that make components: where they are, and what brings them. They are pinned by hash, lie in the user's cache folder, and only
//! `setup` goes to the network for them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};
use tensorgate_policy::hex;

use super::project::Language;
use super::template;
use crate::Failure;
use crate::stack::private_dir::PrivateDir;
use crate::ui::Ui;

const WHEELS: &str = include_str!("../../../wit/tools/componentize-py.txt");
const PACKAGE: &str = include_str!("../../../wit/tools/package.json");
const PACKAGE_LOCK: &str = include_str!("../../../wit/tools/package-lock.json");

/// What a Rust handler is compiled for.
pub const RUST_TARGET: &str = "wasm32-unknown-unknown";

/// Written last: a folder without it was left behind half made.
const COMPLETE: &str = ".complete";

/// The end of what a tool said, characters: the rest is in the middle of its story.
const MAX_SAID: usize = 8 << 10;

/// A command ready to be given arguments, and what its tool is called.
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

    /// Runs it and returns what it printed.
    ///
    /// # Errors
    /// If it is not there (`fix` says where it comes from) or failed, with what it said.
    pub fn run(mut self, fix: &str) -> Result<String, Failure> {
        let output = self
            .command
            // What a tool says is for an author; its own inside is not.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .output()
            .map_err(|cause| {
                Failure::Failed(format!("cannot run {}: {cause}; {fix}", self.name))
            })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let mut said = String::from_utf8_lossy(&output.stderr).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stdout));
        let from = said
            .char_indices()
            .nth_back(MAX_SAID)
            .map_or(0, |(at, _)| at);
        let said = said.get(from..).unwrap_or_default().trim_end();
        Err(Failure::Failed(format!(
            "{} failed ({}):\n{said}",
            self.name, output.status
        )))
    }
}

/// cargo, as it is found.
pub fn cargo() -> Tool {
    Tool::new(
        "cargo",
        std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()),
    )
}

/// What to do where cargo is missing.
pub const RUSTUP: &str = "install Rust with rustup";

/// componentize-py, as `setup` installed it, with that environment of Python's in place of any that its author has activated.
///
/// # Errors
/// If it did not.
pub fn componentize_py(environment: &Path) -> Result<Tool, Failure> {
    let folder = made(Language::Python)?;
    let mut tool = Tool::new("componentize-py", folder.join("bin/componentize-py"));
    // It has the handler's own code run, which may write to whatever folder of modules the tool finds: neither to what runs at the next
    // build nor to what is its author's.
    tool.command.env("VIRTUAL_ENV", environment);
    Ok(tool)
}

/// componentize-qjs, as `setup` installed it, in node.
///
/// # Errors
/// If it did not.
pub fn componentize_qjs() -> Result<Tool, Failure> {
    made(Language::Js).map(|folder| qjs(&folder))
}

fn qjs(folder: &Path) -> Tool {
    let mut tool = Tool::new("componentize-qjs", "node");
    tool.command
        .arg(folder.join("node_modules/componentize-qjs/cli.mjs"));
    tool
}

/// The folder of a language's tools, complete.
fn made(language: Language) -> Result<PathBuf, Failure> {
    let folder = folder(language)?;
    if folder.join(COMPLETE).is_file() {
        Ok(folder)
    } else {
        Err(Failure::Failed(format!(
            "what makes components of {0} is not installed: run `tensorgate handler setup --lang {0}` once, with a network",
            language.name()
        )))
    }
}

/// Where a language's tools are, or will be: one folder for each content of their list.
fn folder(language: Language) -> Result<PathBuf, Failure> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .ok_or_else(|| Failure::Input("set HOME or XDG_CACHE_HOME: tools lie there".to_owned()))?;
    let (name, list) = match language {
        Language::Rust => ("cargo", String::new()),
        Language::Python => ("componentize-py", WHEELS.to_owned()),
        Language::Js => ("componentize-qjs", format!("{PACKAGE}{PACKAGE_LOCK}")),
    };
    let mut digest = hex(&Sha256::digest(list));
    digest.truncate(16);
    Ok(cache.join("tensorgate").join(format!("{name}-{digest}")))
}

/// Brings what a language needs, unless it is there. The only thing here that wants a network.
///
/// # Errors
/// If something is missing that this cannot bring, with what to do about it.
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
            // Two that set up at once: the second finds what the first made. Held until this is done.
            let lock = File::create(parent.join(".handler.lock")).map_err(io)?;
            lock.lock().map_err(io)?;
            if folder.join(COMPLETE).is_file() {
                return Ok(());
            }
            ui.note(&format!(
                "setup: installing what makes components of {} into {}",
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

/// The target, and the crates that a new project stands on.
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

/// Whether the compiler has what it needs for the target.
pub fn has_rust_target() -> Result<bool, Failure> {
    let folder = rustc(&["--print", "target-libdir", "--target", RUST_TARGET])?;
    Ok(folder.is_dir())
}

/// Where the compiler lives.
pub fn rust_sysroot() -> Result<PathBuf, Failure> {
    rustc(&["--print", "sysroot"])
}

/// A path that the compiler prints.
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
    // Not `ci`, which refuses a list without those packages that the registry does not have for other systems. What the list has must match it.
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
    // Its part for this system is optional to npm.
    let mut works = qjs(folder);
    works.command.arg("--help");
    works.run("install Node.js 18 or later").map(drop)
}

/// Writes files below a folder, and the folders that they need.
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
