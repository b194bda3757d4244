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
use super::{Input, Limits, Report, Verdict, boosters, jinja, keras, yaml};
use crate::scan::rules::{self, Rule};

mod diffusers;
mod engine;
mod forms;
mod keys;
mod logging;
mod module_name;
mod reference;
#[cfg(test)]
mod tests;

use engine::EngineFile;
use forms::{Form, Judgement, Readers};
use keys::{
    BASES, CLASS_KEYS, CODE_CLASSES, CODE_KEYS, CODE_TEXT_KEYS, DATA_TAGS, LIBRARY_KEYS,
    PLAIN_VALUES, PROMPT_FILES, PROSE, SENTENCE_TRANSFORMERS, TAG_PREFIX, TARGETS, TEMPLATE_KEYS,
    TRUST_KEYS, is_one_of,
};
pub(super) use logging::scan_sections;
pub(super) use module_name::{is_module_name, scan_module_name};
use reference::{Reference, is_import_path};

/// What is wrong with a model that does not begin as the programs write it.
const BOOSTER: &str = "a model of XGBoost or CatBoost in a form that they do not write";
/// The longest part of a text in a finding, bytes. A long key is above many texts.
const MAX_SHOWN_BYTES: usize = 200;
/// Where readers of YAML 1.1 break lines and those of 1.2 do not, and a mark within the text.
const ODD_BREAKS: [char; 3] = ['\u{2028}', '\u{2029}', '\u{feff}'];
/// The key of the class in a model of Keras without its weights.
const CLASS_KEY: &[u8] = b"\"class_name\"";
/// Where it stands, bytes.
const CLASS_BYTES: u64 = 4 << 10;

/// The rules of findings in a format.
struct Rules {
    /// Keys that make a loader import code.
    code: &'static Rule,
    target: &'static Rule,
    path: &'static Rule,
    class: &'static Rule,
    /// A text that the closed form of the file does not allow.
    reference: &'static Rule,
}

const JSON: Rules = Rules {
    code: rules::JSON_REMOTE_CODE,
    target: rules::JSON_TARGET,
    path: rules::JSON_PATH,
    class: rules::JSON_CLASS,
    reference: rules::JSON_REFERENCE,
};
const YAML: Rules = Rules {
    code: rules::YAML_REMOTE_CODE,
    target: rules::YAML_TARGET,
    path: rules::YAML_PATH,
    class: rules::YAML_CLASS,
    reference: rules::YAML_REFERENCE,
};

/// Scans a JSON file. `name` is in lower case and without folders.
///
/// # Errors
/// The input cannot be read.
pub fn scan(input: &mut dyn Input, name: &str, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("json");
    let mut is_keras = false;
    let head = read_at(input, 0, CLASS_BYTES)?;
    if head.windows(CLASS_KEY.len()).any(|key| key == CLASS_KEY) {
        let (model, is_model) = keras::bounded_config(input, limits)?;
        if is_model {
            report = model;
            is_keras = true;
        }
    }
    scan_json(report, input, limits, |config| {
        config.set_form(name, true);
        config.is_keras = is_keras;
    })
}

/// Scans a JSON file that is a model of another format, too. Its texts are data, except those that
/// readers of a configuration with this name follow.
///
/// # Errors
/// The input cannot be read.
pub fn scan_model(input: &mut dyn Input, name: &str, limits: &Limits) -> io::Result<Report> {
    scan_json(Report::new("json"), input, limits, |config| {
        config.set_form(name, false);
        config.is_model = true;
    })
}

/// Scans the index of a pipeline of Diffusers, such as `model_index.json`.
///
/// # Errors
/// The input cannot be read.
pub fn scan_pipeline(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    scan_json(Report::new("json"), input, limits, |config| {
        config.needs_library = Some(true);
    })
}

/// Scans a document, and adds to a report.
fn scan_json(
    mut report: Report,
    input: &mut dyn Input,
    limits: &Limits,
    set: impl FnOnce(&mut Config<'_>),
) -> io::Result<Report> {
    let mut source = Source::new(input, rules::JSON_TRUNCATED)?;
    let mut config = Config::new(&mut report, &JSON);
    set(&mut config);
    let walked = json::walk(&mut source, limits, rules::JSON_DOCUMENT, &mut config);
    config.end();
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
        report.add(Verdict::Unknown, 0, rules::YAML_SIZE, &detail);
        return Ok(report);
    }
    // The caller has checked that it is UTF-8.
    let text = String::from_utf8_lossy(&bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let is_odd =
        |c: char| ODD_BREAKS.contains(&c) || (c.is_control() && !matches!(c, '\t' | '\n' | '\r'));
    if text.contains(is_odd) {
        let detail = "readers disagree whether a character ends a line or the text";
        report.add(Verdict::Unknown, 0, rules::YAML_BREAK, detail);
    }
    let mut lines = text.split(['\n', '\r']);
    if lines.any(|line| line.starts_with('%') && !line.starts_with("%YAML")) {
        let detail = "a directive gives tags another name";
        report.add(Verdict::Unknown, 0, rules::YAML_TAG, detail);
        return Ok(report);
    }
    let mut config = Config::new(&mut report, &YAML);
    config.set_form(name, true);
    let walked = yaml::walk(text, &mut config);
    config.end();
    finish(report, walked)
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
}

/// Looks for keys with code, and for texts that the form of the file does not allow.
struct Config<'r> {
    report: &'r mut Report,
    rules: &'static Rules,
    form: Option<&'static Form>,
    /// Whether a reference needs a key of the form.
    is_closed: bool,
    /// Whether the classes of the document are checked as those of Keras.
    is_keras: bool,
    /// Whether the document is also followed as a model of a booster.
    is_model: bool,
    engine: EngineFile,
    levels: Vec<Level>,
    /// A key of code whose value has not been seen.
    code_key: Option<String>,
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
            is_keras: false,
            is_model: false,
            engine: EngineFile::default(),
            levels: Vec::new(),
            code_key: None,
            needs_library: None,
            #[cfg(test)]
            key_bytes: 0,
        }
    }

    /// Adds a finding about a text of the file.
    fn add(&mut self, verdict: Verdict, rule: &'static Rule, text: &str, what: &str) {
        let detail = format!("{:?} {what}", shown(text));
        self.report.add(verdict, 0, rule, &detail);
    }

    /// Adds a text that names code. It is worse if attacks name it.
    fn add_code(&mut self, text: &str, what: &str) {
        let severity = Severity::of_import_path(text.trim());
        let detail = format!("{:?} {what}", shown(text));
        self.report
            .add_executable(severity, 0, self.rules.code, &detail);
    }

    /// Adds the key of code before, whose value says nothing else.
    fn add_code_key(&mut self) {
        if let Some(key) = self.code_key.take() {
            self.add_code(&key, "names or allows code that a loader imports");
        }
    }

    /// Takes the file for one of this name. `is_closed`: a reference needs a key of its form.
    fn set_form(&mut self, name: &str, is_closed: bool) {
        self.form = Form::find(name);
        self.is_closed = is_closed && self.form.is_some();
        self.engine = EngineFile::new(name);
    }

    /// Adds what the end of the document decides.
    fn end(&mut self) {
        self.add_code_key();
        self.engine.end(self.report, self.rules.reference);
    }

    /// Adds a reference that the form of the file does not allow.
    fn add_reference(&mut self, detail: String) {
        if self.engine.has_argument {
            let rule = self.rules.reference;
            self.report.add(Verdict::Unknown, 0, rule, &detail);
        } else {
            self.engine.reference.get_or_insert(detail);
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
            (_, Some(rule)) => (Some(rule.readers), rule.is_below),
            (readers, None) => (readers, readers.is_some()),
        };
        Level {
            key_at: Some(self.levels.len()),
            readers,
            is_below,
            is_template: around.is_template || TEMPLATE_KEYS.iter().any(|it| key.contains(it)),
            is_logging: around.is_logging || logging::SECTIONS.contains(&key),
        }
    }

    /// Checks a text by the form of the file.
    fn check_text(&mut self, key: &str, text: &str) {
        let readers = self.level().readers;
        let judgement = readers.map_or(Judgement::Unlisted, |it| it.judge(text));
        let describe = |detail: &str| format!("{}: {:?}: {detail}", shown(key), shown(text));
        match judgement {
            Judgement::Found(verdict, detail) => {
                let rule = self.rules.reference;
                self.report.add(verdict, 0, rule, &describe(detail));
            }
            Judgement::SavedPath => {
                let detail =
                    describe("readers open this path, which is on the machine that saved it");
                let rule = rules::JSON_SAVED_PATH;
                self.report.add(Verdict::Unknown, 0, rule, &detail);
            }
            Judgement::Model => self.engine.model = Some(describe("vLLM fetches or opens it")),
            Judgement::Unlisted if self.is_closed => {
                let within = || Reference::within_words(text).filter(|_| !is_one_of(&PROSE, key));
                if let Some(reference) = Reference::from_text(text).or_else(within) {
                    self.add_reference(describe(reference.name()));
                }
            }
            Judgement::Unlisted | Judgement::Data => {}
        }
    }

    /// Checks a text that names what builds a logger.
    fn check_logging(&mut self, key: &str, text: &str) {
        let imports = text.trim_start().starts_with("ext://");
        let is_class = key == "class" && self.level().is_logging && text.contains('.');
        if (imports && !logging::STREAMS.contains(&text))
            || (is_class && !logging::CLASSES.contains(&text))
        {
            self.add_code(text, "is imported for a logger");
        }
    }

    /// Checks the first text of a component's list, which is its library.
    fn check_component(&mut self, path: &[String], text: &str) {
        if self.needs_library == Some(true) && diffusers::is_component(path) {
            self.needs_library = Some(false);
            if !diffusers::is_known_library(text) {
                self.add_code(text, "is imported as the library of a component");
            }
        }
    }

    /// Checks a text by keys that readers of files with any name follow.
    fn check_import(&mut self, key: &str, text: &str) {
        let is_path = || is_import_path(text.trim());
        // The type of a module of Sentence Transformers has a check of its own.
        if TARGETS.contains(&key) && is_path() && !text.starts_with(SENTENCE_TRANSFORMERS) {
            let what = "may be a class that a reader imports";
            self.add(Verdict::Unknown, self.rules.target, text, what);
        }
        // Ray Serve imports it from a file of any name.
        if key == "import_path" && is_path() {
            self.add_code(text, "is imported");
        }
        if !BASES.contains(&key) {
            return;
        }
        if text.trim_end().ends_with(".py") {
            self.add_code(text, "is Python that is run");
        } else if text.contains("::") || Reference::from_text(text).is_some_and(Reference::leaves) {
            let what = "is read from elsewhere";
            self.add(Verdict::Unknown, self.rules.path, text, what);
        }
    }

    /// Checks a path that a loader opens below the folder.
    fn check_path(&mut self, verdict: Verdict, path: &str) {
        if leaves_folder(path) {
            self.add(verdict, self.rules.path, path, "is opened by a loader");
        }
    }

    /// Checks a text that names a class or what builds one.
    fn check_class(&mut self, key: &str, text: &str) {
        // The keys of jsonpickle begin so.
        if is_one_of(&CODE_TEXT_KEYS, key) || key.starts_with("py/") {
            let what = "names code that a loader imports, or is a pickle";
            if key.starts_with("__") && PLAIN_VALUES.contains(&text) {
                self.add(Verdict::Unknown, self.rules.class, text, what);
            } else {
                self.add_code(text, what);
            }
        }
        // skops has the class of an object apart from its module.
        if key == "__class__" && Severity::of_import("", text) == Severity::Critical {
            self.add_code(text, "is built");
        }
        if CLASS_KEYS.contains(&key) && !self.is_keras {
            let name = text.rsplit(['>', '.']).next().unwrap_or(text);
            if CODE_CLASSES.contains(&name) {
                self.add_code(text, "is a layer that runs code");
            } else {
                let what = "is a class that is built by its name";
                self.add(Verdict::Unknown, self.rules.class, text, what);
            }
        }
    }

    /// Takes back the key of code before, if this is its value.
    fn pass_code_key(&mut self, path: &[String]) {
        if self.code_key.as_ref() == path.last() {
            self.code_key = None;
        }
    }
}

impl Watch for Config<'_> {
    fn key(&mut self, path: &[String], key: &str) {
        if !self.is_model && boosters::is_model_key(path, key) {
            let rule = self.rules.reference;
            self.report.add(Verdict::Unknown, 0, rule, BOOSTER);
        }
        self.add_code_key();
        let rule = self.form.and_then(|form| form.rule(key));
        if path.is_empty() {
            self.engine.add_key(key, rule);
        }
        let has_rule = rule.is_some();
        if (CODE_KEYS.contains(&key) && !has_rule) || is_one_of(&TRUST_KEYS, key) {
            self.code_key = Some(key.to_owned());
        }
        self.needs_library = self.needs_library.map(|_| true);
        let any_keys = self.level().readers.is_some_and(Readers::any_keys);
        if self.is_closed
            && !any_keys
            && !has_rule
            && let Some(reference) = Reference::from_text(key)
        {
            let detail = format!("the key {:?} is {}", shown(key), reference.name());
            self.add_reference(detail);
        }
    }

    fn enter(&mut self, key: Option<&str>) {
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
        let rule = rules::YAML_TAG;
        // As in `tag:yaml.org,2002:python/object/apply:os.system`.
        let path = tag.rsplit([':', '/']).next().unwrap_or(tag);
        let severity = Severity::of_import_path(path);
        let is_attack = path.contains('.') && severity == Severity::Critical;
        if !tag.contains("python") && !is_attack {
            let detail = "a tag chooses the class of an object";
            return self.report.add(Verdict::Unknown, 0, rule, detail);
        }
        let detail = "a tag that names code of Python: unsafe loaders create its objects";
        self.report.add_executable(severity, 0, rule, detail);
    }

    fn text(&mut self, path: &[String], text: &str) {
        self.check_component(path, text);
        if path.iter().any(|key| LIBRARY_KEYS.contains(&key.as_str())) {
            self.add_code(text, "is about a native library that a server loads");
        }
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
                self.add_code(text, "is imported");
            }
            [class, list] if class == "_class_name" && list == ELEMENT => {
                self.add_code(text, "is a pipeline of code of the folder");
            }
            // The index of shards.
            [map, _] if map == "weight_map" => self.check_path(Verdict::Executable, text),
            // `modules.json` again. Other lists may have paths of data.
            [list, member] if list == ELEMENT && member == "path" => {
                self.check_path(Verdict::Unknown, text);
            }
            _ => {}
        }
        self.check_import(key, text);
        self.check_class(key, text);
        // Releases of LangChain before 0.0.329 render Jinja without a sandbox.
        if key == "template_format" && text == "jinja2" {
            let what = "is rendered without a sandbox by older readers of prompts";
            self.add(Verdict::Executable, rules::PROMPT_TEMPLATE, text, what);
        }
        if PROMPT_FILES.contains(&key) {
            self.check_path(Verdict::Unknown, text);
        }
        let is_fetched = diffusers::REPOSITORY_KEYS.contains(&key) && !text.trim().is_empty();
        if self.needs_library.is_some() && is_fetched {
            let what = "is where a component is fetched from";
            self.add(Verdict::Unknown, self.rules.reference, text, what);
        }
    }

    fn truth(&mut self, path: &[String], value: bool) {
        self.numeral(path, Some(value.into()));
    }

    /// Zero is false for readers in Python.
    fn numeral(&mut self, path: &[String], integer: Option<i64>) {
        let key = path.last().map_or("", String::as_str);
        if integer == Some(0) && is_one_of(&TRUST_KEYS, key) {
            self.pass_code_key(path);
        }
    }

    fn null(&mut self, path: &[String]) {
        self.pass_code_key(path);
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
