//! Triton's configuration of a model, `config.pbtxt`: which backend loads the model, and which
//! files of its folder.
//!
//! A configuration is safe if its backend loads the file of a format and no option leads to code
//! or out of the folder. The file itself has a verdict of its own. Without a backend Triton goes by
//! the names of files, and code among them is found by the scan of each.

use std::io;

use super::magic::read_at;
use super::names::is_plain_path;
use super::source::finish;
use super::{Input, Limits, Report, Verdict, rules};

mod schema;
mod servers;
#[cfg(test)]
mod tests;
mod text_format;

use schema::Message;
use servers::{
    ACCELERATOR_OPTIONS, ACCELERATORS, AGENTS, BACKENDS, LIBRARIES, MODEL_ENDINGS, PARAMETERS,
    PLATFORMS, PYTHON_ENVIRONMENT,
};

const RULE: &str = "triton-config";
/// The rule of code in Python, which only the Python backend runs.
const PYTHON: &str = rules::TRITON_PYTHON;
/// The rule of native libraries and programs.
const LIBRARY: &str = "triton-library";
/// The rule of paths that leave the folder of the model.
const PATH: &str = "triton-path";
/// The rule of what is not known to be plain data.
const OPTION: &str = "triton-option";
/// The longest configuration, bytes. Real ones have a few KB.
const MAX_BYTES: usize = 1 << 20;
/// The most parameters that are on no list and kept for the end.
const MAX_PARAMETERS: usize = 64;
/// What a path begins with that Triton resolves to the folder of the model.
const MODEL_FOLDER: &str = "$$TRITON_MODEL_DIRECTORY/";
/// The name of the file. Others are configurations by their first field.
const FILE_NAME: &str = "config.pbtxt";
/// The platform of models in a row.
const ENSEMBLE: &str = "ensemble";

/// Whether a text of protocol buffers is a configuration: by its name, in lower case, or because it
/// begins with a field that other messages do not have.
pub(super) fn is_config(name: &str, head: &[u8]) -> bool {
    let is_comment = |line: &&[u8]| line.is_empty() || line.starts_with(b"#");
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let line = lines.find(|line| !is_comment(line)).unwrap_or_default();
    let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
    let length = line.iter().take_while(is_part).count();
    let field = line
        .get(..length)
        .and_then(|word| str::from_utf8(word).ok());
    name == FILE_NAME || field.is_some_and(|field| Message::Config.field(field).is_some())
}

/// Scans a configuration.
///
/// # Errors
/// The input cannot be read.
pub(super) fn scan(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("triton config");
    let most = limits.header_bytes.min(MAX_BYTES);
    let bytes_and_one = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let bytes = read_at(input, 0, bytes_and_one)?;
    if bytes.len() > most {
        let detail = format!("longer than the {most} bytes that are read of a text");
        report.add(Verdict::Unknown, 0, RULE, &detail);
        return Ok(report);
    }
    let mut config = Config {
        report: &mut report,
        runs_python: false,
        ensemble_at: None,
        has_steps: false,
        parameter: Parameter::default(),
        unlisted: Vec::new(),
    };
    let walked = text_format::walk(&bytes, &mut config);
    config.conclude();
    finish(report, walked)
}

/// A parameter of the model.
#[derive(Default)]
struct Parameter {
    at: u64,
    key: String,
    value: String,
}

/// Judges what a configuration names.
struct Config<'r> {
    report: &'r mut Report,
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

impl text_format::Watch for Config<'_> {
    fn text(&mut self, message: Message, field: &'static str, text: String, at: u64) {
        match (message, field) {
            (Message::Config, "backend") => self.backend(&text, at),
            (Message::Config, "platform") => self.platform(&text, at),
            (Message::Config, "runtime") => self.runtime(&text, at),
            (Message::Config, "default_model_filename") | (Message::FileName, "value") => {
                self.model_file(&text, at);
            }
            (Message::Output, "label_filename")
            | (Message::WarmupInput, "input_data_file")
            | (Message::InitialState, "data_file") => self.path(&text, at),
            (Message::Operations, _) => {
                let detail = format!("the backend loads the native library {text:?}");
                self.add(Verdict::Executable, at, LIBRARY, &detail);
            }
            (Message::Agent, "name") => {
                self.listed("the repository agent", &AGENTS, &text, at);
            }
            (Message::Accelerator, "name") => {
                self.listed("the accelerator", &ACCELERATORS, &text, at);
            }
            (Message::AcceleratorParameter, "key") => {
                self.listed("the accelerator's option", &ACCELERATOR_OPTIONS, &text, at);
            }
            (Message::Parameter, _) => {
                self.parameter.at = at;
                self.parameter.key = text;
            }
            (Message::ParameterValue, _) => self.parameter.value = text,
            _ => {}
        }
    }

    fn end(&mut self, message: Message, _: u64) {
        match message {
            Message::Parameter => {
                let parameter = std::mem::take(&mut self.parameter);
                self.parameter(parameter);
            }
            Message::Ensemble => self.has_steps = true,
            _ => {}
        }
    }
}

impl Config<'_> {
    fn add(&mut self, verdict: Verdict, at: u64, rule: &'static str, detail: &str) {
        self.report.add(verdict, at, rule, detail);
    }

    fn backend(&mut self, name: &str, at: u64) {
        if name == "python" {
            self.runs_python = true;
            let detail = "the Python backend runs the model.py of this folder";
            self.add(Verdict::Executable, at, PYTHON, detail);
        } else if leads_elsewhere(name) {
            let detail = format!("Triton loads the backend {name:?} by a path");
            self.add(Verdict::Executable, at, PATH, &detail);
        } else {
            self.listed("the backend", &BACKENDS, name, at);
        }
    }

    fn platform(&mut self, name: &str, at: u64) {
        self.ensemble_at = (name == ENSEMBLE).then_some(at);
        self.listed("the platform", &PLATFORMS, name, at);
    }

    fn runtime(&mut self, name: &str, at: u64) {
        if name.ends_with(".py") {
            let detail = format!("Triton runs the Python code {name:?}");
            self.add(Verdict::Executable, at, PYTHON, &detail);
        } else if leads_elsewhere(name) {
            let detail = format!("Triton loads the backend {name:?} by a path");
            self.add(Verdict::Executable, at, PATH, &detail);
        } else {
            let library = name.strip_prefix("libtriton_");
            let backend = library.and_then(|library| library.strip_suffix(".so"));
            self.listed("the runtime", &BACKENDS, backend.unwrap_or(name), at);
        }
    }

    /// A name that is safe only if it is on a list.
    fn listed(&mut self, what: &str, names: &[&str], name: &str, at: u64) {
        if !name.is_empty() && !names.contains(&name) {
            let detail = format!("{what} {name:?} may load code: it is not on the list");
            self.add(Verdict::Unknown, at, OPTION, &detail);
        }
    }

    /// A file of the folder that the backend loads as the model.
    fn model_file(&mut self, name: &str, at: u64) {
        self.path(name, at);
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        if ending == "py" {
            let detail = format!("Triton runs the Python code {name:?}");
            self.add(Verdict::Executable, at, PYTHON, &detail);
        } else if !name.is_empty() && !MODEL_ENDINGS.contains(&ending) {
            let detail = format!("{name:?} is loaded as a model, and its name says something else");
            self.add(Verdict::Unknown, at, OPTION, &detail);
        }
    }

    /// A file that Triton reads below the folder of the model.
    fn path(&mut self, path: &str, at: u64) {
        if !path.is_empty() && !is_plain_path(path) {
            let detail = format!("Triton opens {path:?}, which is no path below the folder");
            self.add(Verdict::Executable, at, PATH, &detail);
        }
    }

    fn parameter(&mut self, parameter: Parameter) {
        let Parameter { at, key, value } = parameter;
        let name = key.to_ascii_lowercase();
        if name == PYTHON_ENVIRONMENT {
            let detail = "the Python backend unpacks an environment and runs its interpreter";
            self.add(Verdict::Executable, at, PYTHON, detail);
            self.path(value.strip_prefix(MODEL_FOLDER).unwrap_or(&value), at);
        } else if LIBRARIES.contains(&name.as_str()) {
            let detail = format!("the backend runs the native code {value:?}");
            self.add(Verdict::Executable, at, LIBRARY, &detail);
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
            self.add(Verdict::Unknown, at, RULE, detail);
        }
        let unlisted = std::mem::take(&mut self.unlisted);
        for (at, key) in unlisted.iter().filter(|_| !self.runs_python) {
            let detail = format!("the parameter {key:?} may load code: it is not on the list");
            self.report.add(Verdict::Unknown, *at, OPTION, &detail);
        }
    }
}

/// Whether a name is a path.
fn leads_elsewhere(name: &str) -> bool {
    name.contains(['/', '\\']) || name == ".."
}
