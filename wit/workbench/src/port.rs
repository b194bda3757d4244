//! Analyses an existing Python handler for porting. The handler is parsed, never run.
//!
//! A table lists known imports, classes and calls. Each works unchanged, has a replacement, is
//! handled by the policy or the model server, or cannot be ported.

mod archive;
mod lexer;
mod outline;
mod project;
mod rules;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::load::read_at_most;

use self::outline::Outline;
pub use self::project::{files, name_of};
pub use self::rules::Becomes;

/// Largest handler source, bytes. Typical handlers have a few hundred lines.
pub const MAX_SOURCE_BYTES: u64 = 1 << 20;

/// Largest archive, bytes. It contains model weights; only the file list and two files are read.
const MAX_ARCHIVE_BYTES: u64 = 2 << 30;

/// Source text of a handler.
#[derive(Debug)]
pub struct Source {
    /// File name.
    pub file: String,
    /// Source text.
    pub text: String,
    /// Other files in the archive, which are not read.
    pub beside: Vec<String>,
}

impl Source {
    /// Reads a `.py` file, or the handler of a `.mar` archive.
    ///
    /// # Errors
    /// The file is unreadable or too large, is not an archive, or contains no handler.
    pub fn read(file: &Path) -> Result<Self, Failure> {
        let at = |fault: String| Failure::Input(format!("{}: {fault}", file.display()));
        if file.extension().is_some_and(|extension| extension == "mar") {
            let archive = std::fs::File::open(file).map_err(|cause| at(cause.to_string()))?;
            return archive::handler(archive, MAX_ARCHIVE_BYTES).map_err(at);
        }
        let bytes = match read_at_most(file, MAX_SOURCE_BYTES) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(at(format!("larger than {MAX_SOURCE_BYTES} bytes"))),
            Err(cause) => return Err(at(cause.to_string())),
        };
        let text = String::from_utf8(bytes).map_err(|_| at("not text".to_owned()))?;
        let name = file.file_name().unwrap_or_default();
        Ok(Self {
            file: name.to_string_lossy().into_owned(),
            text,
            beside: Vec::new(),
        })
    }
}

/// The framework that a handler was written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Framework {
    /// A class with `preprocess`, `inference` and `postprocess`, or a module with `handle`.
    TorchServe,
    /// A class derived from `kserve.Model`.
    KServe,
    /// `TritonPythonModel` with `execute`.
    Triton,
    /// None of these.
    Unknown,
}

impl Framework {
    /// The framework's usual name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TorchServe => "TorchServe",
            Self::KServe => "KServe",
            Self::Triton => "Triton",
            Self::Unknown => "an unknown framework",
        }
    }
}

/// One name that a handler uses, and its replacement.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Fully qualified name.
    pub name: String,
    /// Source lines of its uses, the first few.
    pub lines: Vec<usize>,
    /// Functions that use it, the first few.
    pub functions: Vec<String>,
    /// How it is ported.
    pub becomes: Becomes,
    /// The replacement, or why there is none.
    pub note: &'static str,
    /// Whether it is imported and has no further use.
    #[serde(skip)]
    imported_only: bool,
}

/// Result of the analysis.
#[derive(Debug, Serialize)]
pub struct Report {
    /// File name of the handler.
    pub file: String,
    /// The framework that it was written for.
    pub framework: Framework,
    /// The handler class, if there is one.
    pub class: Option<String>,
    /// The handler's functions, and the replacement of each.
    pub functions: BTreeMap<String, &'static str>,
    /// Names that the handler uses.
    pub findings: Vec<Finding>,
    /// Other files in the archive.
    pub beside: Vec<String>,
}

/// Maximum number of lines and functions listed per name.
const MAX_LINES: usize = 5;

/// Analyses a handler.
///
/// # Errors
/// The source is not valid Python.
pub fn report(source: Source) -> Result<Report, Failure> {
    let outline = Outline::read(&source.text)
        .map_err(|fault| Failure::Input(format!("{}: {fault}", source.file)))?;
    let framework = framework(&outline);
    let mut found: BTreeMap<String, Finding> = BTreeMap::new();
    for one in &outline.uses {
        let rule = rules::lookup(&one.name);
        let finding = found.entry(one.name.clone()).or_insert_with(|| Finding {
            name: one.name.clone(),
            lines: Vec::new(),
            functions: Vec::new(),
            becomes: rule.becomes,
            note: rule.note,
            imported_only: true,
        });
        finding.imported_only &= one.import;
        if finding.lines.len() < MAX_LINES && !finding.lines.contains(&one.line) {
            finding.lines.push(one.line);
        }
        let more = !one.function.is_empty() && finding.functions.len() < MAX_LINES;
        if more && !finding.functions.contains(&one.function) {
            finding.functions.push(one.function.clone());
        }
    }
    // Omits a module where its members are listed.
    let mut findings: Vec<Finding> = found
        .values()
        .filter(|finding| {
            let below = format!("{}.", finding.name);
            let next = found.range(below.clone()..).next();
            let used = next.is_some_and(|(name, _)| name.starts_with(&below));
            !(finding.imported_only && used)
        })
        .cloned()
        .collect();
    findings.sort_by_key(|finding| {
        let first = finding.lines.first().copied();
        (finding.becomes, finding.note, first)
    });
    let functions = outline.functions.iter().filter_map(|name| {
        let becomes = rules::function_replacement(framework, name)?;
        Some((name.clone(), becomes))
    });
    Ok(Report {
        file: source.file,
        framework,
        functions: functions.collect(),
        class: outline.handling_class(),
        findings,
        beside: source.beside,
    })
}

fn framework(outline: &Outline) -> Framework {
    let has = |function: &str| outline.functions.contains(function);
    let imports = |name: &str| outline.uses.iter().any(|one| within(&one.name, name));
    if outline.classes.contains_key("TritonPythonModel") || imports("triton_python_backend_utils") {
        Framework::Triton
    } else if imports("kserve") || imports("kfserving") {
        Framework::KServe
    } else if imports("ts") || has("handle") || (has("inference") && has("preprocess")) {
        Framework::TorchServe
    } else {
        Framework::Unknown
    }
}

/// Whether a dotted name equals another or is below it.
fn within(name: &str, whole: &str) -> bool {
    name.strip_prefix(whole)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests;
