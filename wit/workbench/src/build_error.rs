//! The message of a failed build: the author's own error and the lines that led to it, without the
//! frames of the tool.
//!
//! Python and componentize-qjs run the handler's modules in a sandbox. They print an exception
//! there among their own frames. An import that a component cannot have gets a sentence about what
//! to use instead.

mod hint;
mod js_hints;
mod python_hints;
mod rust_hints;

use std::path::Path;

use crate::build_error::hint::hint;
use crate::build_error::js_hints::JS;
use crate::build_error::python_hints::PYTHON;
use crate::build_error::rust_hints::RUST;

/// The first word of an error by `world_check.py` or `world_check.js`. Its text needs no traceback.
const MISMATCH: &str = "WorldMismatch: ";

/// What precedes an error of JavaScript: the tool's own step.
const JS_STEP: &str = "Failed to evaluate user JavaScript module: ";

/// What begins each traceback of Python.
const TRACEBACK: &str = "Traceback (most recent call last):\n";

/// A frame of the project's modules in a traceback, as `wit/python/build.py` prints it.
const PYTHON_FRAME: &str = "  File \"/0/";

/// The error of a module that ended the interpreter without a text.
const NO_TEXT: &str = "a module of the handler ended the interpreter while it was imported";

/// The folder of the build's own modules in a stack of JavaScript.
const JS_ENTRY: &str = "/build/js/";

/// Maximum number of frames in a message: the innermost of Python, which prints the outermost
/// first, and the first of JavaScript.
const MAX_FRAMES: usize = 8;

/// What precedes the module of a failed import in JavaScript.
const JS_IMPORT: &str = "Error resolving module '";

/// What follows the name of a global that JavaScript lacks.
const JS_UNDEFINED: &str = " is not defined";

/// What precedes the name of a crate in an error of cargo.
const CRATE_ERRORS: [&str; 3] = [
    "could not compile `",
    "failed to run custom build command for `",
    "no matching package named `",
];

/// The ends of the names of compiled Python modules.
const COMPILED_ENDS: [&str; 3] = [".so", ".pyd", ".dylib"];

/// The sentence for a file of compiled code in the project.
const COMPILED_FILE: &str = "is compiled code, which a component cannot run: use a version of the package in the handler's own language";

/// What to do about a package of Python that no hint names.
const ADD_PACKAGE: &str = "the runtime has numpy, pandas, scipy and scikit-learn. Another package must be pure Python: install it into the active virtual environment, or copy it into the project's folder";

/// An error of the author's code.
struct AuthorError {
    text: String,
    /// The author's lines that led to it, one a string.
    frames: Vec<String>,
    /// What the handler's modules printed.
    printed: String,
}

/// The message for the author of JavaScript, from what a failed tool printed.
pub fn js_message(failure: &str) -> String {
    match js_error(failure) {
        Some(error) => message(error, js_fix),
        None => failure.to_owned(),
    }
}

/// The message for the author of Python, from what the interpreter printed. `folders`: where it
/// looked for modules.
pub fn python_message(printed: &str, folders: &[&Path]) -> String {
    match python_error(printed) {
        Some(error) => message(error, |text| python_fix(text, folders)),
        None if printed.trim().is_empty() => NO_TEXT.to_owned(),
        None => printed.trim().to_owned(),
    }
}

/// The text of an error, the author's lines and what to do about it.
fn message(error: AuthorError, fix: impl Fn(&str) -> Option<String>) -> String {
    if let Some(mismatch) = error.text.strip_prefix(MISMATCH) {
        return mismatch.to_owned();
    }
    let fix = fix(&error.text);
    let mut message = error.text;
    for frame in &error.frames {
        message.push_str("\n  ");
        message.push_str(frame);
    }
    if let Some(fix) = fix {
        message.push_str("\nfix: ");
        message.push_str(&fix);
    }
    if !error.printed.is_empty() {
        message.push_str("\nprinted:\n");
        message.push_str(&error.printed);
    }
    message
}

/// The message for the author whose JavaScript a development component cannot load, from the text
/// of the call's fault, which is one line.
pub fn loading_message(fault: &str) -> String {
    // A stack stands after an escaped line break, and the error's class before its text.
    let error = fault.split("\\n").next().unwrap_or(fault);
    let text = error.split_once(": ").map_or(error, |(_, text)| text);
    match js_fix(text) {
        Some(fix) => format!("{fault}\nfix: {fix}"),
        None => fault.to_owned(),
    }
}

/// The last line of Python's traceback, which may be several if the exception's text is.
fn python_error(failure: &str) -> Option<AuthorError> {
    let (traceback, causes) = failure.rsplit_once("\nCaused by:\n")?;
    let lines: Vec<&str> = causes
        .lines()
        .map_while(|line| {
            let text = line.strip_prefix("    ");
            text.or_else(|| line.is_empty().then_some(line))
        })
        .collect();
    let text = lines.join("\n").trim().to_owned();
    let printed: Vec<&str> = causes.lines().skip(lines.len()).collect();
    (!text.is_empty()).then(|| AuthorError {
        text,
        frames: python_frames(traceback),
        printed: printed.join("\n").trim().to_owned(),
    })
}

/// The innermost frames of the project's modules in the last traceback.
fn python_frames(traceback: &str) -> Vec<String> {
    let (_, last) = traceback.rsplit_once(TRACEBACK).unwrap_or_default();
    let mut frames: Vec<String> = last.lines().filter_map(python_frame).collect();
    frames.split_off(frames.len().saturating_sub(MAX_FRAMES))
}

/// A frame as `file:line in function`. The place of a syntax error is no frame: its text has it.
fn python_frame(line: &str) -> Option<String> {
    let (file, rest) = line.strip_prefix(PYTHON_FRAME)?.split_once("\", line ")?;
    let (number, function) = rest.split_once(", in ")?;
    Some(match function {
        "<module>" => format!("{file}:{number}"),
        _ => format!("{file}:{number} in {function}"),
    })
}

/// What cargo printed, with a sentence for the first crate that a component cannot contain.
pub fn rust_message(output: String) -> String {
    let known = CRATE_ERRORS.iter().find_map(|start| {
        output.split(start).skip(1).find_map(|rest| {
            let name = rest.split(['`', ' ']).next()?;
            hint(RUST, name)
        })
    });
    match known {
        Some(fix) => format!("{output}\nfix: {fix}"),
        None => output,
    }
}

/// What to do about a Python module that a component lacks, which was looked for in these folders.
fn python_fix(error: &str, folders: &[&Path]) -> Option<String> {
    let module = python_module(error)?;
    let package = module.split('.').next().unwrap_or(&module);
    if let Some(known) = hint(PYTHON, package) {
        return Some(known);
    }
    if let Some(file) = (folders.iter()).find_map(|folder| compiled_file(&module, folder)) {
        return Some(format!("{file} {COMPILED_FILE}"));
    }
    (error.starts_with("ModuleNotFoundError: ")).then(|| ADD_PACKAGE.to_owned())
}

/// The dotted name of a Python module that could not be imported.
fn python_module(error: &str) -> Option<String> {
    if let Some(named) = error.strip_prefix("ModuleNotFoundError: No module named '") {
        return Some(named.split_once('\'')?.0.to_owned());
    }
    let named = error.strip_prefix("ImportError: cannot import name '")?;
    let (name, rest) = named.split_once("' from ")?;
    // A module that is still being imported is called so before its name.
    let (_, package) = rest.split_once('\'')?;
    Some(format!("{}.{name}", package.split_once('\'')?.0))
}

/// The compiled file of a Python module in the project, by its path there.
fn compiled_file(module: &str, project: &Path) -> Option<String> {
    let (package, name) = module.rsplit_once('.').unwrap_or(("", module));
    let folder = package.replace('.', "/");
    let entries = std::fs::read_dir(project.join(&folder)).ok()?;
    entries.flatten().find_map(|entry| {
        let file = entry.file_name().to_str()?.to_owned();
        let is_compiled = file.strip_prefix(name)?.starts_with('.')
            && COMPILED_ENDS.iter().any(|end| file.ends_with(end));
        is_compiled.then(|| match folder.as_str() {
            "" => file,
            _ => format!("{folder}/{file}"),
        })
    })
}

/// What to do about a JavaScript module or global that a component lacks.
fn js_fix(error: &str) -> Option<String> {
    let Some(rest) = error.strip_prefix(JS_IMPORT) else {
        return hint(JS, error.strip_suffix(JS_UNDEFINED)?);
    };
    let (module, _) = rest.split_once('\'')?;
    if module.ends_with(".node") {
        return Some(format!("{module} {COMPILED_FILE}"));
    }
    if module.starts_with(['.', '/']) {
        return None;
    }
    let module = module.strip_prefix("node:").unwrap_or(module);
    // The package is before the first slash, or before the second in `@scope/package`.
    let package = if module.starts_with('@') {
        module.splitn(3, '/').take(2).collect::<Vec<_>>().join("/")
    } else {
        module.split('/').next().unwrap_or(module).to_owned()
    };
    Some(hint(JS, &package).unwrap_or_else(|| {
        "a component has only modules of plain JavaScript: put the package into node_modules beside handler.js"
            .to_owned()
    }))
}

/// The text of a JavaScript error, and the author's frames of its stack.
fn js_error(failure: &str) -> Option<AuthorError> {
    let (_, rest) = failure.split_once(JS_STEP)?;
    let (_, error) = rest.split_once(": ")?;
    let error = error.strip_prefix("Error: ").unwrap_or(error);
    let (text, stack) = (error.split_once("\n    at "))
        .unwrap_or_else(|| (error.lines().next().unwrap_or_default(), ""));
    let frames = stack
        .lines()
        .enumerate()
        .map_while(|(index, line)| {
            if index == 0 {
                Some(line)
            } else {
                line.strip_prefix("    at ")
            }
        })
        .filter(|frame| !frame.contains(JS_ENTRY))
        .take(MAX_FRAMES)
        .map(|frame| format!("at {frame}"));
    (!text.is_empty()).then(|| AuthorError {
        text: text.to_owned(),
        frames: frames.collect(),
        printed: String::new(),
    })
}

#[cfg(test)]
mod tests;
