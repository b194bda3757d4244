//! Configuration files in the folder of a Hugging Face model: JSON, chat templates and Python.
//!
//! A few keys make loaders import code: from the folder, from another repository, or by a path of
//! a class. The index of a pipeline of Diffusers imports the library of each component. Any other
//! JSON is data.

use std::io;

use super::json::{self, ELEMENT, Watch};
use super::names::leaves_folder;
use super::source::{Source, Stop, finish};
use super::{Input, Limits, Report, Verdict, jinja};

/// Keys with names of code that a loader imports, unless their value is null.
const CODE_KEYS: [&str; 5] = [
    "auto_map",
    "custom_pipelines",
    "custom_pipeline",
    "parent_library",
    "loader_module",
];
/// Keys whose text names code or is a pickle. Vocabularies may have them as tokens with a number.
const CODE_TEXT_KEYS: [&str; 6] = [
    // Hydra calls the function of this name, and Lightning builds the class.
    "_target_",
    "class_path",
    // A repository with a function that Transformers calls.
    "custom_generate",
    // The schema of skops names a class by its module, and what builds it.
    "__loader__",
    "__module__",
    // Stable Baselines has pickles as texts here.
    ":serialized:",
];
/// A key whose text is the path of a class for some readers, and the name of a target for others.
const TARGET: &str = "target";
/// The key of a component's library and class in the index of a modular pipeline.
const TYPE_HINT: &str = "type_hint";
/// Libraries of components that Diffusers imports without a file of the folder.
const LIBRARIES: [&str; 3] = ["diffusers", "transformers", "onnxruntime.training"];
/// Modules of `diffusers.pipelines` with classes of components, from releases 0.21 to 0.42.
const PIPELINES: [&str; 34] = [
    "ace_step",
    "alt_diffusion",
    "audioldm2",
    "audio_diffusion",
    "blip_diffusion",
    "cosmos",
    "deepfloyd_if",
    "flux",
    "hunyuan_video",
    "ideogram4",
    "kandinsky",
    "kolors",
    "latent_diffusion",
    "ltx",
    "ltx2",
    "marigold",
    "musicldm",
    "paint_by_example",
    "shap_e",
    "spectrogram_diffusion",
    "stable_audio",
    "stable_audio_3",
    "stable_cascade",
    "stable_diffusion",
    "stable_diffusion_3",
    "stable_diffusion_safe",
    "stable_diffusion_xl",
    "stable_video_diffusion",
    "text_to_video_synthesis",
    "unclip",
    "unidiffuser",
    "versatile_diffusion",
    "vq_diffusion",
    "wuerstchen",
];
/// How the keys of jsonpickle begin.
const JSONPICKLE: &str = "py/";
/// The key of the classes of a model that Keras builds from JSON.
const CLASS_KEYS: [&str; 2] = ["class_name", "registered_name"];
/// Classes of Keras that run code of the file or load another one.
const CODE_CLASSES: [&str; 3] = ["Lambda", "TFSMLayer", "TorchModuleWrapper"];
const RULE: &str = "json-document";
/// The rule of keys that make a loader import code.
const CODE: &str = "json-remote-code";

/// Scans a JSON file.
///
/// # Errors
/// The input cannot be read.
pub fn scan(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    scan_config(input, limits, false)
}

/// Scans the index of a pipeline of Diffusers, such as `model_index.json`.
///
/// # Errors
/// The input cannot be read.
pub fn scan_pipeline(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    scan_config(input, limits, true)
}

fn scan_config(input: &mut dyn Input, limits: &Limits, is_pipeline: bool) -> io::Result<Report> {
    let mut report = Report::new("json");
    let mut source = Source::new(input, "json-truncated")?;
    let mut config = Config {
        report: &mut report,
        code_key: None,
        needs_library: is_pipeline.then_some(true),
    };
    let walked = json::walk(&mut source, limits, RULE, &mut config);
    config.add_code_key();
    finish(report, walked)
}

/// Scans a chat template in a file of its own, such as `chat_template.jinja`.
///
/// # Errors
/// The input cannot be read.
pub fn scan_template(input: &mut dyn Input, _: &Limits) -> io::Result<Report> {
    let mut report = Report::new("jinja");
    let mut source = Source::new(input, "jinja-truncated")?;
    let walked = read_template(&mut source, &mut report);
    finish(report, walked)
}

fn read_template(source: &mut Source<'_>, report: &mut Report) -> Result<(), Stop> {
    let bytes = usize::try_from(source.length()).ok();
    let Some(bytes) = bytes.filter(|bytes| *bytes <= jinja::MAX_BYTES) else {
        let detail = format!("the template has {} bytes", source.length());
        return Err(Stop::unknown(0, jinja::RULE, detail));
    };
    let template = source.read_bytes(bytes)?;
    jinja::check(&template, 0, report);
    Ok(())
}

/// The report for a file of Python code, whatever is in it. A loader with `trust_remote_code`
/// imports it.
pub fn python() -> Report {
    let mut report = Report::new("python");
    let detail = "a model folder with Python code";
    report.add(Verdict::Executable, 0, "python-code", detail);
    report
}

/// Looks for keys with code.
struct Config<'r> {
    report: &'r mut Report,
    /// A key of code whose value has not been seen.
    code_key: Option<&'static str>,
    /// In the index of a pipeline: whether the next text of a list is a library.
    needs_library: Option<bool>,
}

impl Config<'_> {
    fn code(&mut self, detail: &str) {
        self.report.add(Verdict::Executable, 0, CODE, detail);
    }

    /// Adds the key of code before, whose value is not null.
    fn add_code_key(&mut self) {
        if let Some(key) = self.code_key.take() {
            self.code(&format!("{key} names code that a loader imports"));
        }
    }

    /// Checks the first text of a component's list, which is its library.
    fn component(&mut self, path: &[String], text: &str) {
        let is_component = match path {
            [_, list] => list == ELEMENT,
            [.., key, list] => key == TYPE_HINT && list == ELEMENT,
            _ => false,
        };
        if self.needs_library != Some(true) || !is_component {
            return;
        }
        self.needs_library = Some(false);
        if !LIBRARIES.contains(&text) && !PIPELINES.contains(&text) {
            let component = path.first().map_or("", String::as_str);
            self.code(&format!(
                "the component {component} is imported from {text}"
            ));
        }
    }

    /// Checks a path that a loader opens below the folder.
    fn path(&mut self, verdict: Verdict, path: &str) {
        if leaves_folder(path) {
            let detail = format!("a loader opens {path:?}, which leaves the folder");
            self.report.add(verdict, 0, "json-path", &detail);
        }
    }
}

impl Watch for Config<'_> {
    fn key(&mut self, _: &[String], key: &str) {
        self.add_code_key();
        self.code_key = CODE_KEYS.into_iter().find(|known| *known == key);
        self.needs_library = self.needs_library.map(|_| true);
    }

    fn text(&mut self, path: &[String], text: &str) {
        self.component(path, text);
        let key = path.iter().rev().find(|key| *key != ELEMENT);
        let key = key.map_or("", String::as_str);
        // Some files have a list of named templates.
        let has_template = path.iter().any(|key| key.contains("chat_template"));
        if has_template && key != "name" {
            jinja::check(text.as_bytes(), 0, self.report);
        }
        match path {
            // `modules.json` of Sentence Transformers has a path of a class.
            [list, kind]
                if list == ELEMENT
                    && kind == "type"
                    && text.contains('.')
                    && !text.starts_with("sentence_transformers.") =>
            {
                self.code(&format!("the type {text} is imported"));
            }
            [class, list] if class == "_class_name" && list == ELEMENT => {
                self.code(&format!("the pipeline {text} is code of the folder"));
            }
            // The index of shards.
            [map, _] if map == "weight_map" => self.path(Verdict::Executable, text),
            // `modules.json` again. Other lists may have paths of data.
            [list, member] if list == ELEMENT && member == "path" => {
                self.path(Verdict::Unknown, text);
            }
            _ => {}
        }
        if key == TARGET && is_import_path(text) {
            let detail = format!("the target {text} may be a class that a reader imports");
            self.report.add(Verdict::Unknown, 0, "json-target", &detail);
        }
        if CODE_TEXT_KEYS.contains(&key) || key.starts_with(JSONPICKLE) {
            self.code(&format!(
                "{key} names code that a loader imports, or is a pickle"
            ));
        }
        if key == "trust_remote_code" {
            self.code("trust_remote_code is set");
        }
        if CLASS_KEYS.contains(&key) {
            let name = text.rsplit(['>', '.']).next().unwrap_or(text);
            if CODE_CLASSES.contains(&name) {
                self.code(&format!("the layer {text} runs code"));
            } else {
                let detail = format!("the class {text} is built by name");
                self.report.add(Verdict::Unknown, 0, "json-class", &detail);
            }
        }
    }

    fn truth(&mut self, path: &[String], value: bool) {
        if value && path.last().is_some_and(|key| key == "trust_remote_code") {
            self.code("trust_remote_code is set");
        }
    }

    fn number(&mut self, path: &[String]) {
        let key = path.iter().rev().find(|key| *key != ELEMENT);
        if key.is_some_and(|key| key == "trust_remote_code") {
            self.code("trust_remote_code is set");
        }
    }

    fn null(&mut self, path: &[String]) {
        if self.code_key == path.last().map(String::as_str) {
            self.code_key = None;
        }
    }
}

/// Whether a text can be the path of a class: names of Python with dots between.
fn is_import_path(text: &str) -> bool {
    let is_name = |name: &str| {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        name.chars().all(is_part) && !name.is_empty()
    };
    text.contains('.') && text.split('.').all(is_name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io::Cursor;

    fn verdict(document: &str) -> Verdict {
        let mut file = Cursor::new(document.as_bytes().to_vec());
        scan(&mut file, &Limits::default()).unwrap().verdict
    }

    #[test]
    fn keys_with_code_are_executable_wherever_they_are() {
        for document in [
            r#"{"auto_map":{"AutoModel":"modeling.Model"}}"#,
            r#"{"a":[{"auto_map":{}}]}"#,
            r#"{"\u0061uto_map":{}}"#,
            r#"{"custom_pipelines":{"x":{"impl":"x.X"}}}"#,
            r#"{"_target_":"os.system"}"#,
            r#"{"class_path":"os.system"}"#,
            r#"{"custom_generate":"a/b"}"#,
            r#"{"trust_remote_code":true}"#,
            r#"{"weight_map":{"a":"../b.bin"}}"#,
            r#"{"trust_remote_code":"yes"}"#,
            r#"{"trust_remote_code":1}"#,
            r#"{"trust_remote_code":-1}"#,
            r#"{"trust_remote_code":0.5}"#,
            r#"{"model":{"_target_":"os.system"}}"#,
            r#"{"__loader__":"MethodNode"}"#,
            r#"{"__module__":"os","__class__":"system"}"#,
            r#"{"policy_class":{":serialized:":"gAQu"}}"#,
            r#"{"py/object":"os.system"}"#,
            r#"{"weight_map":{"a":"../../x.bin"}}"#,
            r#"{"weight_map":{"a":"/tmp/x.bin"}}"#,
            r#"{"weight_map":{"a":"C:\\x.bin"}}"#,
            r#"{"auto_mapping":{"parent_library":"os"}}"#,
            r#"{"chat_template":"{{ ''.__class__ }}"}"#,
            r#"{"chat_template":[{"name":"x","template":"{{ ''.__class__ }}"}]}"#,
            r#"{"chat_template":"\u007b{ ''.__class__ }}"}"#,
            r#"[{"idx":0,"type":"os.system"}]"#,
            r#"{"_class_name":["pipeline","X"]}"#,
            r#"{"layers":[{"class_name":"Lambda"}]}"#,
            r#"{"layers":[{"registered_name":"keras>Lambda"}]}"#,
            r#"{"auto_map":[null]}"#,
            r#"{"auto_map":0,"x":null}"#,
            r#"{"a":{"auto_map":{"auto_map":null}}}"#,
        ] {
            assert_eq!(verdict(document), Verdict::Executable, "{document}");
        }
    }

    #[test]
    fn other_documents_are_data() {
        for document in [
            r#"{"architectures":["LlamaForCausalLM"],"hidden_size":4096,"x":null}"#,
            r#"{"trust_remote_code":false,"chat_template":"{{ messages[0]['role'] }}"}"#,
            r#"{"chat_template":[{"name":"__x__","template":"{{ bos_token }}"}]}"#,
            r#"[{"idx":0,"type":"sentence_transformers.models.Pooling"}]"#,
            r#"{"_class_name":"StableDiffusionPipeline"}"#,
            r#"{"weight_map":{"a/b":"model-00001-of-00002.safetensors"}}"#,
            r#"[{"idx":0,"path":"","type":"sentence_transformers.models.Transformer"}]"#,
            r#"{"trust_remote_code":0,"hidden_size":8}"#,
            // The tokens of a vocabulary.
            r#"{"__module__":7,"_target_":8,"py/object":9}"#,
            // Adapters have this key without a value.
            r#"{"auto_mapping":null}"#,
            r#"{"auto_map":null,"x":[{"custom_pipeline":null}]}"#,
            r#"{"loss":NaN,"target":"x1","targets":"a.b","dtype":{"target":"a b. c"}}"#,
            r#"{"unet":["my_unet","Unet"]}"#,
        ] {
            assert_eq!(verdict(document), Verdict::Safe, "{document}");
        }
        assert_eq!(verdict(r#"{"class_name":"Dense"}"#), Verdict::Unknown);
        assert_eq!(verdict(r#"[{"path":"../x"}]"#), Verdict::Unknown);
        let target = r#"{"model":{"target":"ldm.models.Model","params":{}}}"#;
        assert_eq!(verdict(target), Verdict::Unknown);
        assert_eq!(verdict("{"), Verdict::Malformed);
        assert_eq!(python().verdict, Verdict::Executable);
    }

    #[test]
    fn components_of_a_pipeline_come_from_known_libraries() {
        for (components, expected) in [
            (
                r#""unet":["diffusers","Unet"],"a":[null,null]"#,
                Verdict::Safe,
            ),
            (r#""a":["stable_diffusion","SafetyChecker"]"#, Verdict::Safe),
            (r#""b":[10,20],"c":{"d":["e"]},"f":"g""#, Verdict::Safe),
            (
                r#""a":[null,null,{"type_hint":["diffusers","Unet"],"repo":"a/b"}]"#,
                Verdict::Safe,
            ),
            (r#""unet":["my_unet","Unet"]"#, Verdict::Executable),
            (
                r#""a":["diffusers","X"],"b":["os","system"]"#,
                Verdict::Executable,
            ),
            (r#""unet":[null,"system"]"#, Verdict::Executable),
            (
                r#""a":[null,null,{"type_hint":["os","system"]}]"#,
                Verdict::Executable,
            ),
        ] {
            let document = format!(r#"{{"_class_name":"Pipeline",{components}}}"#);
            let mut file = Cursor::new(document.clone().into_bytes());
            let report = scan_pipeline(&mut file, &Limits::default()).unwrap();
            assert_eq!(report.verdict, expected, "{document}");
        }
    }

    #[test]
    fn templates_in_files_are_checked() {
        let limits = Limits::default();
        for (template, expected) in [
            (b"{{ x }}".to_vec(), Verdict::Safe),
            (b"{{ x.__class__ }}".to_vec(), Verdict::Executable),
            (b"\xff".to_vec(), Verdict::Malformed),
            (vec![b' '; jinja::MAX_BYTES + 1], Verdict::Unknown),
        ] {
            let report = scan_template(&mut Cursor::new(template), &limits).unwrap();
            assert_eq!(report.verdict, expected);
        }
    }
}
