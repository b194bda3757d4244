//! A model's configuration: objects that name a class, a module and arguments, at any depth.
//!
//! The text is walked as a stream. Depth is bounded by the JSON reader (128), and only the keys of
//! open objects are in memory.
//!
//! The walk in `json.rs` passes single values on and forgets them. Here an object is judged at its
//! end, by its class, module and arguments together, so each value is returned to the object around
//! it.

use std::collections::HashSet;
use std::fmt;
use std::io;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::builtin;
use crate::scan::names::leaves_folder;
use crate::scan::rules::{self, Rule};
use crate::scan::source::{Source, finish};
use crate::scan::{Input, Report, Severity, Verdict, json};

/// Keys that an object may have.
const MAX_KEYS: usize = 4_096;
/// Characters of a text that are compared and shown.
const MAX_TEXT_CHARS: usize = 200;
/// The greatest whole number in a configuration. Keras makes arrays of such sizes before it reads
/// the weights.
const MAX_SIZE: u64 = 1 << 31;
/// From here on a number without a point is read as a float.
const MAX_FLOAT: f64 = 18_446_744_073_709_551_616.0;
/// Keys of whole numbers that are no sizes. The address of an object in memory numbers it.
const NO_SIZES: [&str; 2] = ["seed", "shared_object_id"];
/// Arguments of layers that are a value, or else the path of a file that is read.
const PATHS: [&str; 12] = [
    "file_path",
    "filename",
    "filepath",
    "fname",
    "idf_weights",
    "merges",
    "model_path",
    "origin",
    "proto",
    "url",
    "vocabulary",
    "vocabulary_file",
];

/// Walks a configuration. The second part is whether its outermost object names a class.
pub(super) fn scan(input: &mut dyn Input) -> io::Result<(Report, bool)> {
    let mut walk = Walk {
        report: Report::new("keras config"),
        path: "$".to_owned(),
        is_model: false,
    };
    let rule = rules::KERAS_CONFIG;
    let mut source = Source::new(input, rule)?;
    // The caller has bounded the whole text.
    let walked = json::read_into(&mut source, Node(&mut walk), usize::MAX, rule);
    let report = finish(walk.report, walked.map(|_| ()))?;
    Ok((report, walk.is_model))
}

struct Walk {
    report: Report,
    /// Where the walk is, as a JSON path.
    path: String,
    is_model: bool,
}

/// A value, as far as the object around it needs it.
enum Value {
    Null,
    Text {
        /// Its first characters.
        start: String,
        /// Whether all of it is a path that leaves its folder.
        leaves_folder: bool,
    },
    Other,
}

impl Value {
    fn text(self) -> Option<String> {
        match self {
            Self::Text { start, .. } => Some(start),
            Self::Null | Self::Other => None,
        }
    }
}

/// Those members of an object that name what is built.
#[derive(Default)]
struct Object {
    class: Option<String>,
    module: Option<String>,
    registered: Option<String>,
    config: Option<String>,
}

impl Walk {
    fn add(&mut self, verdict: Verdict, rule: &'static Rule, detail: &str) {
        let detail = format!("{}: {detail}", self.path);
        self.report.add(verdict, 0, rule, &detail);
    }

    /// What a model imports from a module.
    fn add_import(&mut self, severity: Severity, rule: &'static Rule, detail: &str) {
        let detail = format!("{}: {detail}", self.path);
        self.report.add_executable(severity, 0, rule, &detail);
    }

    /// A number that can be a size.
    fn size(&mut self, is_large: bool) {
        let key = self.path.rsplit('.').next().unwrap_or_default();
        if is_large && !NO_SIZES.contains(&key) {
            let detail = format!("a number above {MAX_SIZE}, of which a layer can be the size");
            self.add(Verdict::Unknown, rules::KERAS_SIZE, &detail);
        }
    }

    /// A member of an object that means something by itself.
    fn member(&mut self, key: &str, value: &Value) {
        if matches!(
            (key, value),
            ("class_name", Value::Null | Value::Other) | ("module", Value::Other)
        ) {
            let detail = "a class or a module that is not a name";
            self.add(Verdict::Malformed, rules::KERAS_CLASS, detail);
        }
        let Value::Text {
            start: text,
            leaves_folder,
        } = value
        else {
            return;
        };
        if PATHS.contains(&key) && !text.is_empty() {
            let detail = format!("reads the file {text:?}");
            self.add(Verdict::Executable, rules::KERAS_PATH, &detail);
        }
        // Keras makes paths from names of layers (CVE-2026-12479).
        if key == "name" && *leaves_folder {
            let detail = format!("the name {text:?} leaves the folder of the weights");
            self.add(Verdict::Executable, rules::KERAS_NAME, &detail);
        }
        if key == "function_type" && text == "lambda" {
            let detail = "a function from the file";
            self.add(Verdict::Executable, rules::KERAS_CODE, detail);
        }
        // A function of a `Lambda` of older versions, which stands in no object of its own.
        if key == "module" && Severity::of_import(text, "") == Severity::Critical {
            let detail = format!("imports {text:?}");
            self.add_import(Severity::Critical, rules::KERAS_MODULE, &detail);
        }
    }

    /// All members of an object.
    fn object(&mut self, object: &Object) {
        let Some(class) = object.class.as_deref() else {
            return;
        };
        self.is_model |= self.path == "$";
        let module = object.module.as_deref();
        let module_name = module.unwrap_or_default();
        if class == "function" {
            let name = object.config.as_deref().unwrap_or_default();
            if !builtin::is_function(module, name) {
                let detail = format!("the function {name:?} of {module_name:?}");
                let severity = Severity::of_import(module_name, name);
                self.add_import(severity, rules::KERAS_FUNCTION, &detail);
            }
            return;
        }
        let full_name =
            module.map_or_else(|| class.to_owned(), |module| format!("{module}.{class}"));
        let registered = object.registered.as_deref();
        if let Some(registered) = registered.filter(|registered| *registered != class) {
            let detail = format!("{full_name} is the custom object {registered:?}");
            self.add(Verdict::Executable, rules::KERAS_CUSTOM_OBJECT, &detail);
        }
        if let Some((verdict, rule, reason)) = builtin::class_fault(module, class) {
            let detail = format!("{full_name} {reason}");
            if verdict == Verdict::Executable {
                self.add_import(Severity::of_import(module_name, class), rule, &detail);
            } else {
                self.add(verdict, rule, &detail);
            }
        }
    }
}

/// A value of the text.
struct Node<'w>(&'w mut Walk);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _value: bool) -> Result<Value, E> {
        Ok(Value::Other)
    }

    // The reader passes on only negative numbers here.
    fn visit_i64<E>(self, _value: i64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        self.0.size(value > MAX_SIZE);
        Ok(Value::Other)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        self.0.size(value >= MAX_FLOAT);
        Ok(Value::Other)
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text {
            start: value.chars().take(MAX_TEXT_CHARS).collect(),
            leaves_folder: leaves_folder(value),
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let length = self.0.path.len();
        for index in 0_u64.. {
            self.0.path.push_str(&format!("[{index}]"));
            if items.next_element_seed(Node(&mut *self.0))?.is_none() {
                break;
            }
            self.0.path.truncate(length);
        }
        self.0.path.truncate(length);
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let length = self.0.path.len();
        let mut keys = HashSet::new();
        let mut object = Object::default();
        while let Some(key) = members.next_key::<String>()? {
            self.0.path.push('.');
            self.0.path.extend(key.chars().take(MAX_TEXT_CHARS));
            let value = members.next_value_seed(Node(&mut *self.0))?;
            self.0.member(&key, &value);
            match key.as_str() {
                "class_name" => object.class = value.text(),
                "module" => object.module = value.text(),
                "registered_name" => object.registered = value.text(),
                "config" => object.config = value.text(),
                _ => {}
            }
            // Readers differ in which of two members with the same name they take.
            if !keys.insert(key) {
                return Err(A::Error::custom("a name occurs twice in an object"));
            }
            if keys.len() > MAX_KEYS {
                return Err(A::Error::custom("an object has too many members"));
            }
            self.0.path.truncate(length);
        }
        self.0.object(&object);
        Ok(Value::Other)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io::Cursor;

    fn verdict(text: &str) -> (Verdict, Option<&'static str>, String) {
        let (report, _) = scan(&mut Cursor::new(text.as_bytes().to_vec())).unwrap();
        let first = report.findings.first();
        let detail = first.map_or_else(String::new, |finding| finding.detail.clone());
        (
            report.verdict,
            first.map(|finding| finding.rule.name),
            detail,
        )
    }

    /// A model with one more member in the configuration of its second layer.
    fn model(member: &str) -> String {
        format!(
            r#"{{"module": "keras", "class_name": "Sequential", "registered_name": "Sequential",
            "config": {{"name": "m", "layers": [
                {{"module": "keras.layers", "class_name": "InputLayer", "config": {{}},
                  "registered_name": null}},
                {{"module": "keras.layers", "class_name": "Dense", "registered_name": null,
                  "config": {{"units": 2, "rate": -0.5, "trainable": true, "activation": "relu",
                  "loss": {{"module": "builtins", "class_name": "function",
                    "config": "mean_squared_error", "registered_name": "mean_squared_error"}},
                  "dtype": {{"module": "keras", "class_name": "DTypePolicy",
                    "config": {{"name": "float32"}}, "registered_name": null}}
                  {member}}}}}
            ]}}, "compile_config": {{"optimizer": {{"module": "keras.optimizers",
                "class_name": "Adam", "config": {{}}, "registered_name": null}}}}}}"#
        )
    }

    #[test]
    fn a_model_of_builtin_classes_is_data() {
        assert_eq!(verdict(&model("")), (Verdict::Safe, None, String::new()));
        let list = model(r#", "vocabulary": ["a", "b"], "idf_weights": null, "max": Infinity"#);
        assert_eq!(verdict(&list).0, Verdict::Safe);
        for (class, module) in [
            ("Add", "keras.src.ops.numpy"),
            ("Cast", "keras.src.ops.core"),
            ("Int8QuantizationConfig", "keras.quantizers"),
        ] {
            let object = format!(r#", "f": {{"class_name": "{class}", "module": "{module}"}}"#);
            assert_eq!(verdict(&model(&object)).0, Verdict::Safe, "{class}");
        }
        // Its module has classes that are not on the list.
        let other = r#", "f": {"class_name": "New", "module": "keras.src.ops.numpy"}"#;
        assert_eq!(verdict(&model(other)).0, Verdict::Unknown);
    }

    #[test]
    fn what_runs_or_reads_is_found_at_any_depth() {
        for (member, rule) in [
            (
                r#""f": [[{"class_name": "Lambda", "module": "keras.layers"}]]"#,
                "keras-code",
            ),
            (
                r#""f": {"class_name": "__lambda__", "config": {"value": "4wEA"}}"#,
                "keras-code",
            ),
            (
                r#""f": {"class_name": "TFSMLayer", "module": "keras.layers"}"#,
                "keras-code",
            ),
            (
                r#""f": {"class_name": "Switch", "module": "keras.src.ops.core"}"#,
                "keras-code",
            ),
            (r#""function_type": "lambda""#, "keras-code"),
            (
                r#""function_type": "function", "function": "system", "module": "os""#,
                "keras-module",
            ),
            (
                r#""f": {"class_name": "A", "module": "os"}"#,
                "keras-module",
            ),
            (
                r#""f": {"class_name": "Dense", "module": "keras.src.utils"}"#,
                "keras-module",
            ),
            (
                r#""f": {"class_name": "function", "module": "keras.utils", "config": "get_file"}"#,
                "keras-function",
            ),
            (
                r#""f": {"class_name": "function", "module": "builtins", "config": "eval"}"#,
                "keras-function",
            ),
            (
                r#""f": {"class_name": "Dense", "module": "keras.layers",
                    "registered_name": "mine>Dense"}"#,
                "keras-custom-object",
            ),
            (r#""vocabulary": "/etc/passwd""#, "keras-path"),
            (r#""name": "../../a""#, "keras-name"),
            (r#""name": "/tmp/a""#, "keras-name"),
        ] {
            let (verdict, found, detail) = verdict(&model(&format!(", {member}")));
            assert_eq!(
                (verdict, found),
                (Verdict::Executable, Some(rule)),
                "{member}"
            );
            assert!(detail.starts_with("$.config.layers[1].config."), "{detail}");
        }
        let long = format!(r#", "name": "{}/../../a""#, "b".repeat(MAX_TEXT_CHARS));
        let (found, rule, _) = verdict(&model(&long));
        assert_eq!((found, rule), (Verdict::Executable, Some("keras-name")));
    }

    #[test]
    fn sizes_are_bounded() {
        for (member, expected) in [
            (r#""filters": 2147483648"#, Verdict::Safe),
            (r#""filters": 2147483649"#, Verdict::Unknown),
            (r#""filters": 1000000000000000000000"#, Verdict::Unknown),
            (r#""shape": [4, [2, 99999999999]]"#, Verdict::Unknown),
            (r#""seed": 99999999999, "mask_value": -1e9"#, Verdict::Safe),
            (r#""shared_object_id": 140117303390224"#, Verdict::Safe),
        ] {
            let found = verdict(&model(&format!(", {member}"))).0;
            assert_eq!(found, expected, "{member}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_safe() {
        for (text, expected) in [
            (
                r#"{"class_name": "New", "module": "keras.layers"}"#,
                Verdict::Unknown,
            ),
            (r#"{"class_name": "New"}"#, Verdict::Unknown),
            (r#"{"class_name": "mine>Dense"}"#, Verdict::Unknown),
            (r#"{"class_name": "Dense"}"#, Verdict::Safe),
            (r#"{"class_name": 1}"#, Verdict::Malformed),
            (
                r#"{"class_name": "Dense", "module": ["os"]}"#,
                Verdict::Malformed,
            ),
            (r#"{"a": 1, "a": 2}"#, Verdict::Malformed),
            (r#"{"a": 1} {"#, Verdict::Malformed),
            (r#"{"a": "#, Verdict::Malformed),
            ("", Verdict::Malformed),
        ] {
            assert_eq!(verdict(text).0, expected, "{text}");
        }
        assert_eq!(verdict(&"[".repeat(100_000)).0, Verdict::Malformed);
        let keys: Vec<String> = (0..5_000).map(|key| format!("\"{key}\": 0")).collect();
        assert_eq!(
            verdict(&format!("{{{}}}", keys.join(","))).0,
            Verdict::Malformed
        );
        let (report, is_model) = scan(&mut Cursor::new(b"{}".to_vec())).unwrap();
        assert_eq!((report.verdict, is_model), (Verdict::Safe, false));
    }
}
