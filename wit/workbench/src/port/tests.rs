//! Analyses of typical handlers.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use super::*;
use crate::project::{Language, World};
use crate::template;

fn ported(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/ported")
        .join(name)
}

fn analysed(name: &str) -> Report {
    let Ok(report) = Source::read(&ported(name)).and_then(report) else {
        unreachable!("{name}")
    };
    report
}

fn of(text: &str) -> Option<Report> {
    let source = Source {
        file: "handler.py".to_owned(),
        text: text.to_owned(),
        beside: Vec::new(),
    };
    report(source).ok()
}

/// Names that are ported in a given way, sorted.
fn names(report: &Report, becomes: Becomes) -> Vec<&str> {
    let found = report.findings.iter().filter(|one| one.becomes == becomes);
    let mut names: Vec<&str> = found.map(|one| one.name.as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_torchserve_handler() {
    let report = analysed("torchserve_image.py");
    assert_eq!(report.framework, Framework::TorchServe);
    assert_eq!(report.class.as_deref(), Some("ProductClassifier"));
    let functions: Vec<&str> = report.functions.keys().map(String::as_str).collect();
    assert_eq!(
        functions,
        ["inference", "initialize", "postprocess", "preprocess"]
    );
    assert_eq!(
        names(&report, Becomes::Lost),
        [
            "builtins.open",
            "requests.get",
            "subprocess.run",
            "time.time"
        ]
    );
    assert_eq!(
        names(&report, Becomes::Elsewhere),
        [
            "context.system_properties",
            "self.model",
            "torch.cuda.is_available",
            "torch.device",
            "torch.jit.load",
            "torch.no_grad",
            "ts.torch_handler.base_handler.BaseHandler"
        ]
    );
    for name in [
        "PIL.Image.open",
        "torchvision.transforms.Resize",
        "torch.nn.functional.softmax",
        "torch.topk",
        "logging.getLogger",
    ] {
        assert!(names(&report, Becomes::Replaced).contains(&name), "{name}");
    }
    assert!(names(&report, Becomes::Kept).contains(&"base64.b64decode"));
    let requests = report
        .findings
        .iter()
        .find(|one| one.name == "requests.get")
        .unwrap();
    assert_eq!(
        (requests.lines.as_slice(), requests.functions.as_slice()),
        ([50].as_slice(), ["preprocess".to_owned()].as_slice())
    );
}

#[test]
fn a_kserve_transformer() {
    let report = analysed("kserve_text.py");
    assert_eq!(report.framework, Framework::KServe);
    assert_eq!(report.class.as_deref(), Some("SentimentTransformer"));
    assert!(names(&report, Becomes::Lost).is_empty());
    assert!(names(&report, Becomes::Elsewhere).contains(&"kserve.ModelServer"));
    assert!(
        names(&report, Becomes::Replaced).contains(&"transformers.AutoTokenizer.from_pretrained")
    );
    assert!(names(&report, Becomes::Replaced).contains(&"kserve.InferRequest"));
    assert_eq!(
        names(&report, Becomes::Unknown),
        ["argparse.ArgumentParser"]
    );
}

#[test]
fn a_triton_model() {
    let report = analysed("triton_model.py");
    assert_eq!(report.framework, Framework::Triton);
    assert_eq!(
        names(&report, Becomes::Lost),
        ["builtins.open", "pickle.load"]
    );
    assert_eq!(
        names(&report, Becomes::Elsewhere),
        ["triton_python_backend_utils.InferenceRequest"]
    );
    assert!(report.functions.contains_key("execute"));
}

#[test]
fn hidden_uses_are_reported() {
    let report = of("import os as o, importlib\nf = o.system\ng = getattr(o, 'popen')\n__import__('os').remove('a')\nexec('x')\nimportlib.import_module('socket')\n").unwrap();
    assert_eq!(
        names(&report, Becomes::Lost),
        [
            "builtins.__import__",
            "builtins.exec",
            "builtins.getattr",
            "importlib.import_module",
            "os",
            "os.system"
        ]
    );
    assert_eq!(report.framework, Framework::Unknown);
}

#[test]
fn invalid_python_is_an_error() {
    for text in ["def f(:", "x = 'a", "\"\"\""] {
        assert!(of(text).is_none(), "{text}");
    }
    assert!(of("").is_some());
}

#[test]
fn projects_contain_no_untrusted_text_except_names() {
    let mut report = analysed("torchserve_image.py");
    report.file = "a\"\"\"\nimport os\n*/.py".to_owned();
    for language in Language::ALL {
        for world in [World::Preprocess, World::Postprocess] {
            let files = files(&report, "raise SystemExit", "shop-x", language, world);
            let source = files
                .iter()
                .find(|(path, _)| path == template::source_file(language));
            let (_, source) = source.unwrap();
            assert!(
                !source.contains("\nimport os") && source.contains("is not moved yet"),
                "{source}"
            );
            assert!(source.contains("requests.get"), "{source}");
            let cases: Vec<&str> = files
                .iter()
                .map(|(path, _)| path.as_str())
                .filter(|path| path.starts_with("cases/"))
                .collect();
            assert_eq!(cases, ["cases/not-moved.json"]);
        }
    }
}

#[test]
fn a_files_name_becomes_a_projects() {
    for (file, expected) in [
        ("handler.py", "handler"),
        ("My_Handler-2.py", "my-handler-2"),
        ("../../x.py", "ported"),
        ("9lives.py", "lives"),
        ("---", "ported"),
        ("", "ported"),
        ("日本.py", "ported"),
    ] {
        let name = name_of(file);
        assert_eq!(name, expected, "{file}");
        assert!(crate::project::fit_name(&name).is_ok(), "{name}");
    }
}
