//! Configurations in JSON and YAML, chat templates and Python in the folder of a model.
//!
//! A file that known readers look for by its name has a closed form: a text that may name code, a
//! repository, an address or a file elsewhere is allowed only under keys of its table. In every
//! file, some keys make loaders import code wherever they are. The index of a pipeline of Diffusers
//! imports the library of each component. Any other text is data.

use std::io;

use super::json::{self, ELEMENT, Watch};
use super::magic::read_at;
use super::names::leaves_folder;
use super::severity::Severity;
use super::source::{Source, finish};
use super::{Input, Limits, Report, Verdict, jinja, yaml};

mod diffusers;
mod forms;
mod keys;
mod logging;
mod module_name;
mod reference;
#[cfg(test)]
mod tests;

use forms::{Form, Judgement, Readers};
use keys::{
    BASES, CLASS_KEYS, CODE_CLASSES, CODE_KEYS, CODE_TEXT_KEYS, DATA_TAGS, IMPORT_PATH, JSONPICKLE,
    PROSE, SENTENCE_TRANSFORMERS, TAG_PREFIX, TARGETS, TEMPLATE_KEYS, TRUST_KEYS,
};
pub(super) use logging::scan_sections;
pub(super) use module_name::{is_module_name, scan_module_name};
use reference::{Reference, is_import_path};

/// The longest part of a text in a finding, bytes. A long key is above many texts.
const MAX_SHOWN_BYTES: usize = 200;
/// Where readers of YAML 1.1 break lines and those of 1.2 do not, and a mark within the text.
const ODD_BREAKS: [char; 3] = ['\u{2028}', '\u{2029}', '\u{feff}'];

/// The rules of findings in a format.
struct Rules {
    /// Keys that make a loader import code.
    code: &'static str,
    target: &'static str,
    path: &'static str,
    class: &'static str,
    /// A text that the closed form of the file does not allow.
    reference: &'static str,
}

const JSON: Rules = Rules {
    code: "json-remote-code",
    target: "json-target",
    path: "json-path",
    class: "json-class",
    reference: "json-reference",
};
const YAML: Rules = Rules {
    code: "yaml-remote-code",
    target: "yaml-target",
    path: "yaml-path",
    class: "yaml-class",
    reference: "yaml-reference",
};

/// Scans a JSON file. `name` is in lower case and without folders.
///
/// # Errors
/// The input cannot be read.
pub fn scan(input: &mut dyn Input, name: &str, limits: &Limits) -> io::Result<Report> {
    scan_json(input, limits, |config| {
        config.form = Form::find(name);
        config.is_closed = true;
    })
}

/// Scans a JSON file that is a model of another format, too. Its texts are data, except those that
/// readers of a configuration with this name follow.
///
/// # Errors
/// The input cannot be read.
pub fn scan_model(input: &mut dyn Input, name: &str, limits: &Limits) -> io::Result<Report> {
    scan_json(input, limits, |config| config.form = Form::find(name))
}

/// Scans the index of a pipeline of Diffusers, such as `model_index.json`.
///
/// # Errors
/// The input cannot be read.
pub fn scan_pipeline(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    scan_json(input, limits, |config| config.needs_library = Some(true))
}

fn scan_json(
    input: &mut dyn Input,
    limits: &Limits,
    set: impl FnOnce(&mut Config<'_>),
) -> io::Result<Report> {
    let mut report = Report::new("json");
    let mut source = Source::new(input, "json-truncated")?;
    let mut config = Config::new(&mut report, &JSON);
    set(&mut config);
    let walked = json::walk(&mut source, limits, "json-document", &mut config);
    config.add_code_key();
    finish(report, walked)
}

/// Whether a file of this name is YAML without the ending of it. `name` is in lower case.
pub(super) fn is_yaml(name: &str) -> bool {
    name == "mlmodel"
}

/// Scans a text in YAML. `name` is in lower case and without folders.
///
/// # Errors
/// The input cannot be read.
pub fn scan_yaml(input: &mut dyn Input, name: &str, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("yaml");
    let most = limits.header_bytes.min(yaml::MAX_BYTES);
    let bytes_and_one = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let bytes = read_at(input, 0, bytes_and_one)?;
    if bytes.len() > most {
        let detail = format!("longer than the {most} bytes that are read of a text");
        report.add(Verdict::Unknown, 0, "yaml-size", &detail);
        return Ok(report);
    }
    // The caller has checked that it is UTF-8.
    let text = String::from_utf8_lossy(&bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let is_odd =
        |c: char| ODD_BREAKS.contains(&c) || (c.is_control() && !matches!(c, '\t' | '\n' | '\r'));
    if text.contains(is_odd) {
        let detail = "readers disagree whether a character ends a line or the text";
        report.add(Verdict::Unknown, 0, "yaml-break", detail);
    }
    let mut lines = text.split(['\n', '\r']);
    if lines.any(|line| line.starts_with('%') && !line.starts_with("%YAML")) {
        let detail = "a directive gives tags another name";
        report.add(Verdict::Unknown, 0, "yaml-tag", detail);
        return Ok(report);
    }
    let mut config = Config::new(&mut report, &YAML);
    config.form = Form::find(name);
    config.is_closed = true;
    let walked = yaml::walk(text, &mut config);
    config.add_code_key();
    finish(report, walked)
}

/// The report for a file of Python code, whatever is in it. A loader with `trust_remote_code`
/// imports it.
pub fn python() -> Report {
    let mut report = Report::new("python");
    let detail = "a model folder with Python code";
    report.add(Verdict::Executable, 0, "python-code", detail);
    report
}

/// What is known about the values at a level of the document.
#[derive(Clone, Copy, Default)]
struct Level {
    /// Where the key of the level is in the path. Elements of a list have that of the list.
    key_at: Option<usize>,
    /// What readers do with texts by the form of the file.
    readers: Option<Readers>,
    /// Whether this holds for all levels below.
    is_below: bool,
    /// Whether texts are chat templates.
    is_template: bool,
    /// Whether classes are those of loggers.
    is_logging: bool,
    /// Whether a true value lets a reader fetch code.
    is_trust: bool,
}

/// Looks for keys with code, and for texts that the form of the file does not allow.
struct Config<'r> {
    report: &'r mut Report,
    rules: &'static Rules,
    form: Option<&'static Form>,
    /// Whether a reference needs a key of the form.
    is_closed: bool,
    levels: Vec<Level>,
    /// A key of code whose value has not been seen.
    code_key: Option<&'static str>,
    /// In the index of a pipeline: whether the next text of a list is a library.
    needs_library: Option<bool>,
    /// Bytes of keys that were looked at, for tests of the work.
    #[cfg(test)]
    key_bytes: usize,
}

impl<'r> Config<'r> {
    fn new(report: &'r mut Report, rules: &'static Rules) -> Self {
        Self {
            report,
            rules,
            form: None,
            is_closed: false,
            levels: Vec::new(),
            code_key: None,
            needs_library: None,
            #[cfg(test)]
            key_bytes: 0,
        }
    }

    fn code(&mut self, detail: &str) {
        let rule = self.rules.code;
        self.report.add(Verdict::Executable, 0, rule, detail);
    }

    /// Adds the key of code before, whose value is not null.
    fn add_code_key(&mut self) {
        if let Some(key) = self.code_key.take() {
            self.code(&format!("{key} names code that a loader imports"));
        }
    }

    fn level(&self) -> Level {
        self.levels.last().copied().unwrap_or_default()
    }

    /// The key of the values at this level.
    fn innermost<'p>(&self, path: &'p [String]) -> &'p str {
        let key_at = self.level().key_at;
        let key = key_at.and_then(|key_at| path.get(key_at));
        key.map_or("", String::as_str)
    }

    /// The level below a key.
    fn level_below(&mut self, key: &str) -> Level {
        #[cfg(test)]
        {
            self.key_bytes = self.key_bytes.saturating_add(key.len());
        }
        let around = self.level();
        let rule = self.form.and_then(|form| form.rule(key));
        let inherited = around.readers.filter(|_| around.is_below);
        let (readers, is_below) = match (inherited, rule) {
            // Nothing below can take back that readers follow a text.
            (Some(readers), _) if readers.follow() => (Some(readers), true),
            (_, Some(rule)) => (Some(rule.readers), rule.is_below()),
            (readers, None) => (readers, readers.is_some()),
        };
        Level {
            key_at: Some(self.levels.len()),
            readers,
            is_below,
            is_template: around.is_template || TEMPLATE_KEYS.iter().any(|it| key.contains(it)),
            is_logging: around.is_logging || logging::SECTIONS.contains(&key),
            is_trust: TRUST_KEYS.contains(&key),
        }
    }

    /// Checks a key of a map whose form is closed.
    fn check_key(&mut self, key: &str) {
        let any_keys = self.level().readers.is_some_and(Readers::any_keys);
        let Some(form) = self.form.filter(|_| self.is_closed && !any_keys) else {
            return;
        };
        if form.rule(key).is_some() {
            return;
        }
        if let Some(reference) = Reference::from_text(key) {
            let detail = format!("the key {:?} is {}", shown(key), reference.name());
            let rule = self.rules.reference;
            self.report.add(Verdict::Unknown, 0, rule, &detail);
        }
    }

    /// Checks a text by the form of the file.
    fn check_text(&mut self, key: &str, text: &str) {
        if self.form.is_none() {
            return;
        }
        let readers = self.level().readers;
        let (verdict, detail) = match readers.map_or(Judgement::Unlisted, |it| it.judge(text)) {
            Judgement::Found(verdict, detail) => (verdict, detail),
            Judgement::Unlisted if self.is_closed => {
                let mut reference = Reference::from_text(text);
                if !PROSE.contains(&key) {
                    reference = reference.or_else(|| Reference::within_words(text));
                }
                match reference {
                    Some(reference) => (Verdict::Unknown, reference.name()),
                    None => return,
                }
            }
            Judgement::Unlisted | Judgement::Data => return,
        };
        let detail = format!("{}: {:?}: {detail}", shown(key), shown(text));
        self.report.add(verdict, 0, self.rules.reference, &detail);
    }

    /// Checks a text that names what builds a logger.
    fn check_logging(&mut self, key: &str, text: &str) {
        let imports = text.trim_start().starts_with(logging::IMPORT_SCHEME);
        if imports && !logging::STREAMS.contains(&text) {
            self.code(&format!("{:?} is imported", shown(text)));
        }
        let is_class = key == "class" && self.level().is_logging && text.contains('.');
        if is_class && !logging::CLASSES.contains(&text) {
            self.code(&format!(
                "the class {:?} is built for a logger",
                shown(text)
            ));
        }
    }

    /// Checks the first text of a component's list, which is its library.
    fn component(&mut self, path: &[String], text: &str) {
        if self.needs_library != Some(true) || !diffusers::is_component(path) {
            return;
        }
        self.needs_library = Some(false);
        if !diffusers::is_known_library(text) {
            let component = path.first().map_or("", String::as_str);
            let (component, library) = (shown(component), shown(text));
            self.code(&format!(
                "the component {component} is imported from {library}"
            ));
        }
    }

    /// Checks a text by keys that readers of files with any name follow.
    fn check_import(&mut self, key: &str, text: &str) {
        let is_path = || is_import_path(text.trim());
        // The type of a module of Sentence Transformers has a check of its own.
        if TARGETS.contains(&key) && is_path() && !text.starts_with(SENTENCE_TRANSFORMERS) {
            let detail = format!(
                "the {key} {} may be a class that a reader imports",
                shown(text)
            );
            self.report
                .add(Verdict::Unknown, 0, self.rules.target, &detail);
        }
        if key == IMPORT_PATH && is_path() {
            self.code(&format!("{:?} is imported", shown(text)));
        }
        if !BASES.contains(&key) {
            return;
        }
        if text.trim_end().ends_with(".py") {
            self.code(&format!("the base {:?} is Python that is run", shown(text)));
        } else if text.contains("::") || Reference::from_text(text).is_some_and(Reference::leaves) {
            let detail = format!("the base {:?} is read from elsewhere", shown(text));
            self.report
                .add(Verdict::Unknown, 0, self.rules.path, &detail);
        }
    }

    /// Checks a path that a loader opens below the folder.
    fn path(&mut self, verdict: Verdict, path: &str) {
        if leaves_folder(path) {
            let detail = format!("a loader opens {:?}, which leaves the folder", shown(path));
            self.report.add(verdict, 0, self.rules.path, &detail);
        }
    }
}

impl Watch for Config<'_> {
    fn key(&mut self, _: &[String], key: &str) {
        self.add_code_key();
        let has_rule = self.form.is_some_and(|form| form.rule(key).is_some());
        let code_key = CODE_KEYS.into_iter().find(|known| *known == key);
        self.code_key = code_key.filter(|_| !has_rule);
        self.needs_library = self.needs_library.map(|_| true);
        self.check_key(key);
    }

    fn enter(&mut self, key: Option<&str>) {
        // For Python, a list or map with anything in it is true.
        if self.level().is_trust {
            self.code("a key that trusts remote code has values");
        }
        let level = match key {
            Some(key) => self.level_below(key),
            None => self.level(),
        };
        self.levels.push(level);
    }

    fn leave(&mut self) {
        self.levels.pop();
    }

    fn tag(&mut self, tag: &str) {
        let name = tag.strip_prefix(TAG_PREFIX);
        if name.is_some_and(|name| DATA_TAGS.contains(&name)) {
            return;
        }
        let rule = "yaml-tag";
        if !tag.contains("python") {
            let detail = "a tag chooses the class of an object";
            return self.report.add(Verdict::Unknown, 0, rule, detail);
        }
        // As in `tag:yaml.org,2002:python/object/apply:os.system`.
        let path = tag.rsplit([':', '/']).next().unwrap_or(tag);
        let detail = "a tag with the name of Python: unsafe loaders create its objects";
        self.report
            .add_executable(Severity::of_import_path(path), 0, rule, detail);
    }

    fn text(&mut self, path: &[String], text: &str) {
        self.component(path, text);
        let key = self.innermost(path);
        self.check_text(key, text);
        self.check_logging(key, text);
        // Some files have a list of named templates.
        let is_name = matches!(path, [.., list, name] if list == ELEMENT && name == "name");
        if self.level().is_template && !is_name {
            jinja::check(text.as_bytes(), 0, self.report);
        }
        match path {
            // `modules.json` of Sentence Transformers has a path of a class.
            [list, kind]
                if list == ELEMENT
                    && kind == "type"
                    && text.contains('.')
                    && !text.starts_with(SENTENCE_TRANSFORMERS) =>
            {
                self.code(&format!("the type {} is imported", shown(text)));
            }
            [class, list] if class == "_class_name" && list == ELEMENT => {
                self.code(&format!(
                    "the pipeline {} is code of the folder",
                    shown(text)
                ));
            }
            // The index of shards.
            [map, _] if map == "weight_map" => self.path(Verdict::Executable, text),
            // `modules.json` again. Other lists may have paths of data.
            [list, member] if list == ELEMENT && member == "path" => {
                self.path(Verdict::Unknown, text);
            }
            _ => {}
        }
        self.check_import(key, text);
        let is_fetched = diffusers::REPOSITORY_KEYS.contains(&key) && !text.trim().is_empty();
        if self.needs_library.is_some() && is_fetched {
            let detail = format!("a component is fetched from {:?}", shown(text));
            let rule = self.rules.reference;
            self.report.add(Verdict::Unknown, 0, rule, &detail);
        }
        if CODE_TEXT_KEYS.contains(&key) || key.starts_with(JSONPICKLE) {
            let key = shown(key);
            self.code(&format!(
                "{key} names code that a loader imports, or is a pickle"
            ));
        }
        if TRUST_KEYS.contains(&key) {
            self.code(&format!("{key} is set"));
        }
        if CLASS_KEYS.contains(&key) {
            let name = text.rsplit(['>', '.']).next().unwrap_or(text);
            if CODE_CLASSES.contains(&name) {
                self.code(&format!("the layer {} runs code", shown(text)));
            } else {
                let detail = format!("the class {} is built by name", shown(text));
                let rule = self.rules.class;
                self.report.add(Verdict::Unknown, 0, rule, &detail);
            }
        }
    }

    fn truth(&mut self, path: &[String], value: bool) {
        if value {
            self.number(path);
        }
    }

    fn number(&mut self, path: &[String]) {
        let key = self.innermost(path);
        if TRUST_KEYS.contains(&key) {
            self.code(&format!("{key} is set"));
        }
    }

    fn null(&mut self, path: &[String]) {
        if self.code_key == path.last().map(String::as_str) {
            self.code_key = None;
        }
    }
}

/// The beginning of a text of the file, for a finding.
fn shown(text: &str) -> &str {
    let mut end = text.len().min(MAX_SHOWN_BYTES);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}
