//! The tools that make components: where they are, and what brings them. They are pinned by hash, lie in the user's cache folder, and only
//! `setup` goes to the network for them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::project::Language;
use super::template;
use crate::Failure;
use crate::stack::private_dir::PrivateDir;
use crate::ui::Ui;

/// What a Rust handler is compiled for.
pub const RUST_TARGET: &str = "wasm32-unknown-unknown";

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

/// Brings what a language needs, unless it is there. The only thing here that wants a network.
///
/// # Errors
/// If something is missing that this cannot bring, with what to do about it.
pub fn setup(ui: &Ui, language: Language) -> Result<(), Failure> {
    match language {
        Language::Rust => rust(ui),
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
