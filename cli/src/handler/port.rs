//! What becomes of a handler in Python: read, never run. Its imports, classes and calls are looked up in a table that says what moves
//! as it is, what there is another name for, what the policy or the model server does here, and what cannot move and why.

mod archive;
mod lexer;
mod outline;
mod project;
mod rules;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use self::outline::Outline;
pub use self::project::{files, name_of};
pub use self::rules::Becomes;
use crate::Failure;
use crate::load::read_at_most;

/// Largest handler, bytes of text: theirs have hundreds of lines.
pub const MAX_SOURCE_BYTES: u64 = 1 << 20;

/// Largest archive, bytes. Weights lie in it; only its list of files and two of them are read.
const MAX_ARCHIVE_BYTES: u64 = 2 << 30;

/// A handler's text, and where it comes from.
#[derive(Debug)]
pub struct Source {
    /// Its file's name.
    pub file: String,
    /// It.
    pub text: String,
    /// What an archive holds beside it: nothing of that is read.
    pub beside: Vec<String>,
}

impl Source {
    /// Reads a `.py`, or the handler of a `.mar`.
    ///
    /// # Errors
    /// If the file cannot be read, is too large, is no archive, or holds no handler.
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

/// What a handler was written for.
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
    /// As its makers write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TorchServe => "TorchServe",
            Self::KServe => "KServe",
            Self::Triton => "Triton",
            Self::Unknown => "nothing that this version knows",
        }
    }
}

/// One thing that a handler uses, and what becomes of it.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Its full name, as imported.
    pub name: String,
    /// Lines on which it stands, the first few.
    pub lines: Vec<usize>,
    /// In which functions, the first few.
    pub functions: Vec<String>,
    /// What becomes of it.
    pub becomes: Becomes,
    /// Where it is now, or why it cannot be anywhere.
    pub note: &'static str,
    /// It is imported, and nothing is known of what for.
    #[serde(skip)]
    imported_only: bool,
}

/// Everything that is told of a handler.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Its file's name.
    pub file: String,
    /// What it was written for.
    pub framework: Framework,
    /// The class that handles, if there is one.
    pub class: Option<String>,
    /// Its functions, and what each becomes.
    pub functions: BTreeMap<String, &'static str>,
    /// What it uses.
    pub findings: Vec<Finding>,
    /// What an archive holds beside it.
    pub beside: Vec<String>,
}

/// Lines and functions told of one thing.
const MAX_LINES: usize = 5;

/// Reads a handler's text and says what becomes of it.
///
/// # Errors
/// If it is no Python that can be read.
pub fn report(source: Source) -> Result<Report, Failure> {
    let outline = Outline::read(&source.text)
        .map_err(|fault| Failure::Input(format!("{}: {fault}", source.file)))?;
    let framework = framework(&outline);
    let mut found: BTreeMap<String, Finding> = BTreeMap::new();
    for one in &outline.uses {
        let rule = rules::of(&one.name);
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
    // A module is told by what is used of it, where something is.
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
        let becomes = rules::of_function(framework, name)?;
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

/// Whether a dotted name is another, or below it.
fn within(name: &str, whole: &str) -> bool {
    name.strip_prefix(whole)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests;
