//! Triton's configuration of a model, `config.pbtxt`: which backend loads the model, and which
//! files of its folder.
//!
//! A configuration is safe if its backend loads the file of a format and no option leads to code
//! or out of the folder. The file itself has a verdict of its own. Without a backend Triton goes by
//! the names of files, and code among them is found by the scan of each.

use std::io;

use super::names::is_plain_path;
use super::rules::{
    Rule, TRITON_CONFIG, TRITON_LIBRARY, TRITON_OPTION, TRITON_PATH, TRITON_PYTHON,
};
use super::source::finish;
use super::text_format::{self, Watch};
use super::{Input, Limits, Report, Verdict};

mod schema;
mod servers;
#[cfg(test)]
mod tests;

use schema::CONFIG;
use servers::{
    ACCELERATOR_OPTIONS, ACCELERATORS, AGENTS, BACKENDS, LIBRARIES, MODEL_ENDINGS, PARAMETERS,
    PLATFORMS, PYTHON_ENVIRONMENT,
};

/// The most parameters that are on no list and stay for the end.
const MAX_PARAMETERS: usize = 64;
/// What a path begins with that Triton resolves to the folder of the model.
const MODEL_FOLDER: &str = "$$TRITON_MODEL_DIRECTORY/";

/// Whether a text of protocol buffers is a configuration: by its name, in lower case, or because it
/// begins with a field that other messages do not have.
pub(super) fn is_config(name: &str, head: &[u8]) -> bool {
    let first = text_format::first_field(head);
    name == "config.pbtxt" || CONFIG.iter().any(|field| field.name() == first)
}

/// Scans a configuration.
///
/// # Errors
/// The input cannot be read.
pub(super) fn scan(input: &mut dyn Input, _: &Limits) -> io::Result<Report> {
    let mut config = Config {
        report: Report::new("triton config"),
        runs_python: false,
        ensemble_at: None,
        has_steps: false,
        parameter: Parameter::default(),
        unlisted: Vec::new(),
    };
    let walked = text_format::walk(input, CONFIG, TRITON_CONFIG, &mut config);
    config.conclude();
    finish(config.report, walked)
}

/// A parameter of the model.
#[derive(Default)]
struct Parameter {
    at: u64,
    key: String,
    value: String,
}

/// Judges what a configuration names.
struct Config {
    report: Report,
    /// Whether the Python backend loads the model, so that parameters are data of its code.
    runs_python: bool,
    /// Where the platform is an ensemble.
    ensemble_at: Option<u64>,
    /// Whether the models of the ensemble are there.
    has_steps: bool,
    parameter: Parameter,
    /// Parameters on no list, and where they are.
    unlisted: Vec<(u64, String)>,
}

impl Watch for Config {
    fn text(&mut self, path: &[&'static str], text: String, at: u64) {
        match path {
            ["backend"] => self.backend(&text, at),
            ["platform"] => {
                self.ensemble_at = (text == "ensemble").then_some(at);
                self.listed("the platform", &PLATFORMS, &text, at);
            }
            ["runtime"] => self.runtime(&text, at),
            ["default_model_filename"] | ["cc_model_filenames", "value"] => {
                self.model_file(&text, at);
            }
            [.., "label_filename" | "input_data_file" | "data_file"] => self.path(&text, at),
            ["model_operations", _] => {
                let detail = format!("the backend loads the native library {text:?}");
                self.add(Verdict::Executable, at, TRITON_LIBRARY, &detail);
            }
            [_, "agents", "name"] => self.listed("the repository agent", &AGENTS, &text, at),
            [_, "execution_accelerators", _, "name"] => {
                self.listed("the accelerator", &ACCELERATORS, &text, at);
            }
            [_, "execution_accelerators", _, _, "key"] => {
                self.listed("the accelerator's option", &ACCELERATOR_OPTIONS, &text, at);
            }
            ["parameters", "key"] => {
                self.parameter.at = at;
                self.parameter.key = text;
            }
            ["parameters", ..] => self.parameter.value = text,
            _ => {}
        }
    }

    fn end(&mut self, path: &[&'static str]) {
        match path {
            ["parameters"] => {
                let parameter = std::mem::take(&mut self.parameter);
                self.parameter(parameter);
            }
            ["ensemble_scheduling"] => self.has_steps = true,
            _ => {}
        }
    }
}

impl Config {
    fn add(&mut self, verdict: Verdict, at: u64, rule: &'static Rule, detail: &str) {
        self.report.add(verdict, at, rule, detail);
    }

    fn backend(&mut self, name: &str, at: u64) {
        if name == "python" {
            self.runs_python = true;
            let detail = "the Python backend runs the model.py of this folder";
            self.add(Verdict::Executable, at, TRITON_PYTHON, detail);
        } else {
            self.library(name, name, at);
        }
    }

    /// A backend that Triton loads by this name, or from a file.
    fn library(&mut self, name: &str, backend: &str, at: u64) {
        if name.contains(['/', '\\']) || name == ".." {
            let detail = format!("Triton loads the backend {name:?} by a path");
            self.add(Verdict::Executable, at, TRITON_PATH, &detail);
        } else {
            self.listed("the backend", &BACKENDS, backend, at);
        }
    }

    fn runtime(&mut self, name: &str, at: u64) {
        if name.ends_with(".py") {
            self.python(name, at);
        } else {
            let library = name.strip_prefix("libtriton_");
            let backend = library.and_then(|library| library.strip_suffix(".so"));
            self.library(name, backend.unwrap_or(name), at);
        }
    }

    fn python(&mut self, name: &str, at: u64) {
        let detail = format!("Triton runs the Python code {name:?}");
        self.add(Verdict::Executable, at, TRITON_PYTHON, &detail);
    }

    /// A name that is safe only if it is on a list.
    fn listed(&mut self, what: &str, names: &[&str], name: &str, at: u64) {
        if !name.is_empty() && !names.contains(&name) {
            let detail = format!("{what} {name:?} may load code: it is not on the list");
            self.add(Verdict::Unknown, at, TRITON_OPTION, &detail);
        }
    }

    /// A file of the folder that the backend loads as the model.
    fn model_file(&mut self, name: &str, at: u64) {
        self.path(name, at);
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        if ending == "py" {
            self.python(name, at);
        } else if !name.is_empty() && !MODEL_ENDINGS.contains(&ending) {
            let detail = format!("{name:?} is loaded as a model, and its name says something else");
            self.add(Verdict::Unknown, at, TRITON_OPTION, &detail);
        }
    }

    /// A file that Triton reads below the folder of the model.
    fn path(&mut self, path: &str, at: u64) {
        if !path.is_empty() && !is_plain_path(path) {
            let detail = format!("Triton opens {path:?}, which is no path below the folder");
            self.add(Verdict::Executable, at, TRITON_PATH, &detail);
        }
    }

    fn parameter(&mut self, parameter: Parameter) {
        let Parameter { at, key, value } = parameter;
        let name = key.to_ascii_lowercase();
        if name == PYTHON_ENVIRONMENT {
            let detail = "the Python backend unpacks an environment and runs its interpreter";
            self.add(Verdict::Executable, at, TRITON_PYTHON, detail);
            self.path(value.strip_prefix(MODEL_FOLDER).unwrap_or(&value), at);
        } else if LIBRARIES.contains(&name.as_str()) {
            let detail = format!("the backend runs the native code {value:?}");
            self.add(Verdict::Executable, at, TRITON_LIBRARY, &detail);
        } else {
            // ONNX Runtime's backend reads options of its CUDA accelerator here, too.
            let mut listed = PARAMETERS.iter().chain(&ACCELERATOR_OPTIONS);
            if !listed.any(|it| *it == name) && self.unlisted.len() < MAX_PARAMETERS {
                self.unlisted.push((at, key));
            }
        }
    }

    /// Adds what only the whole tells: an ensemble without models, which no server accepts, and
    /// parameters that a backend may follow. Those of a Python model go to its code.
    fn conclude(&mut self) {
        if let Some(at) = self.ensemble_at.filter(|_| !self.has_steps) {
            let detail = "an ensemble without ensemble_scheduling";
            self.add(Verdict::Unknown, at, TRITON_CONFIG, detail);
        }
        let unlisted = std::mem::take(&mut self.unlisted);
        for (at, key) in unlisted.iter().filter(|_| !self.runs_python) {
            let detail = format!("the parameter {key:?} may load code: it is not on the list");
            self.report
                .add(Verdict::Unknown, *at, TRITON_OPTION, &detail);
        }
    }
}
