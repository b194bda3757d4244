//! Tests of models and files of tensors beside each other, in a folder on the disk.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{
    create_dir_all, hard_link, read_dir, remove_dir_all, remove_file, symlink_metadata, write,
};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tensorgate_artifact::scan::external_data::{
    DataIndex, ONNX_DATA, OPENVINO_DATA as OPENVINO_DATA_FORMAT, scan_data_file,
};
use tensorgate_artifact::scan::{Limits, detect};

use super::*;

/// A folder of a test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tg-beside-{name}-{}", std::process::id()));
        drop(remove_dir_all(&path));
        create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, content: &[u8]) {
        write(self.0.join(name), content).unwrap();
    }

    /// The reports on all files, by their names.
    fn reports(&self) -> BTreeMap<String, FileReport> {
        let mut reports = BTreeMap::new();
        for name in self.names().unwrap().into_owned() {
            let Ok(file) = self.open(&name) else {
                continue;
            };
            let bytes = file.metadata().unwrap().len();
            let report = scan_in_folder((&file, &name, bytes), self, &mut scan_here);
            reports.insert(name, report);
        }
        reports
    }

    fn verdict(&self, name: &str) -> Verdict {
        self.reports().remove(name).unwrap().verdict
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = remove_dir_all(&self.0);
    }
}

impl Beside for Folder {
    fn names(&self) -> Result<Cow<'_, [String]>, String> {
        let names = read_dir(&self.0).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        Ok(Cow::Owned(names.collect()))
    }

    fn open(&self, name: &str) -> Result<File, String> {
        let path = self.0.join(name);
        match symlink_metadata(&path) {
            Ok(state) if state.is_file() => Ok(File::open(path).unwrap()),
            Ok(_) => Err("is a link, which is not followed".to_owned()),
            Err(_) => Err("is not there".to_owned()),
        }
    }
}

/// What a scanner process does.
fn scan_here(input: &ScanInput<'_>) -> FileReport {
    let mut file = input.file.try_clone().unwrap();
    let limits = Limits::default();
    if input.indexes.is_empty() {
        let report = detect::scan(&mut file, input.name, &limits).unwrap();
        return report.into();
    }
    let indexes = input.indexes.iter();
    let indexes = indexes.map(|it| DataIndex::new(it.kind, it.file.try_clone().unwrap()));
    let mut indexes: Vec<_> = indexes.collect();
    let report = scan_data_file(&mut file, input.name, &mut indexes, &limits).unwrap();
    report.into()
}

/// A field of a message with these bytes.
fn field(key: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap();
    [&[key, length][..], value].concat()
}

/// A model with a tensor of so many floats at the beginning of a file.
fn model(data: &str, floats: u8) -> Vec<u8> {
    model_of(&tensor(data, floats))
}

/// A model with a graph of these bytes.
fn model_of(graph: &[u8]) -> Vec<u8> {
    [&[0x08, 8][..], &field(0x3a, graph)].concat()
}

/// A tensor of so many floats at the beginning of a file, as a field of a graph.
fn tensor(data: &str, floats: u8) -> Vec<u8> {
    let entry = [field(0x0a, b"location"), field(0x12, data.as_bytes())].concat();
    let head = [0x08, floats, 0x10, 1, 0x70, 1];
    let tensor = [&head[..], &field(0x6a, &entry)].concat();
    field(0x2a, &tensor)
}

#[test]
fn a_model_and_its_data_are_safe_together() {
    let folder = Folder::new("safe");
    folder.write("a.onnx", &model("w.data", 2));
    folder.write("b.onnx", &model("w.data", 2));
    folder.write("w.data", &[0xa5; 8]);
    for (name, report) in folder.reports() {
        assert_eq!(report.verdict, Verdict::Safe, "{name}: {report:?}");
        assert!(report.findings.is_empty() && report.data_files.is_empty());
        let format = if name == "w.data" { ONNX_DATA } else { "onnx" };
        assert_eq!(report.format, format);
    }
    // A byte more that no tensor has: neither is safe.
    folder.write("w.data", &[0xa5; 9]);
    for (name, report) in folder.reports() {
        assert_eq!(report.verdict, Verdict::Unknown, "{name}: {report:?}");
        let detail = &report.findings.first().unwrap().detail;
        assert!(
            detail.contains("no tensor lies in these 1 bytes"),
            "{detail}"
        );
    }
    // A model that says where a tensor is that is not there makes none of them safe.
    folder.write("w.data", &[0xa5; 8]);
    folder.write("b.onnx", &model("w.data", 3));
    for name in ["a.onnx", "b.onnx"] {
        assert_eq!(folder.verdict(name), Verdict::Unknown, "{name}");
    }
    assert_eq!(folder.verdict("w.data"), Verdict::Malformed);
}

/// A folder that counts how often its names are read.
struct Counted<'a>(&'a Folder, Cell<usize>);

impl Beside for Counted<'_> {
    fn names(&self) -> Result<Cow<'_, [String]>, String> {
        self.1.set(self.1.get().saturating_add(1));
        self.0.names()
    }

    fn open(&self, name: &str) -> Result<File, String> {
        self.0.open(name)
    }
}

#[test]
fn the_names_of_a_folder_are_read_once_for_a_model() {
    let folder = Folder::new("names");
    let graph = [tensor("v.data", 2), tensor("w.data", 2)].concat();
    folder.write("m.onnx", &model_of(&graph));
    folder.write("v.data", &[0xa5; 8]);
    folder.write("w.data", &[0xa5; 8]);
    let counted = Counted(&folder, Cell::new(0));
    let file = folder.open("m.onnx").unwrap();
    let report = scan_in_folder((&file, "m.onnx", 0), &counted, &mut scan_here);
    assert_eq!(report.verdict, Verdict::Safe, "{report:?}");
    assert_eq!(counted.1.get(), 1);
}

#[test]
fn a_file_that_is_no_data_of_its_own_makes_no_model_safe() {
    type Make = fn(&Folder, &str);
    let cases: [(&str, Make, &str); 8] = [
        ("w.data", |_, _| (), "is not there"),
        (
            "w.data",
            |folder, name| symlink("/etc/hostname", folder.0.join(name)).unwrap(),
            "is a link",
        ),
        (
            "w.data",
            |folder, name| {
                folder.write("other", &[0xa5; 8]);
                hard_link(folder.0.join("other"), folder.0.join(name)).unwrap();
            },
            "hard link",
        ),
        (
            "w.data",
            |folder, name| folder.write(name, b"cos\nsystem\n(S'id'\ntR."),
            "is executable",
        ),
        (
            "pytorch_model.bin",
            |folder, name| folder.write(name, &[0xa5; 8]),
            "readers of other formats go by its name",
        ),
        (
            "modeling.py",
            |folder, name| folder.write(name, b"import os; os.system('id')"),
            "is executable",
        ),
        (
            "w.npy",
            |folder, name| folder.write(name, &[0xa5; 8]),
            "is malformed",
        ),
        ("m.onnx", |_, _| (), "is known only"),
    ];
    for (name, make, part) in cases {
        let folder = Folder::new("other");
        folder.write("m.onnx", &model(name, 2));
        make(&folder, name);
        let reports = folder.reports();
        let report = reports.get("m.onnx").unwrap();
        assert_eq!(report.verdict, Verdict::Unknown, "{name}: {report:?}");
        let detail = &report.findings.first().unwrap().detail;
        assert!(detail.contains(part), "{detail}");
        for (name, report) in &reports {
            assert_ne!(report.verdict, Verdict::Safe, "{name}: {report:?}");
        }
    }
}

#[test]
fn a_model_that_is_not_looked_at_is_not_safe() {
    let folder = Folder::new("many");
    folder.write("w.data", &[0xa5; 8]);
    for index in 0..MAX_INDEXES {
        folder.write(&format!("{index}.onnx"), &model("w.data", 2));
    }
    assert_eq!(folder.verdict("w.data"), Verdict::Safe);
    // By its content it is a model, and no name says so to a file of tensors.
    folder.write("m", &model("w.data", 100));
    let report = folder.reports().remove("m").unwrap();
    assert_eq!(report.verdict, Verdict::Unknown);
    assert!(report.findings.first().unwrap().detail.contains(".onnx"));
    folder.write("one-more.onnx", &model("w.data", 2));
    for (name, report) in folder.reports() {
        assert_eq!(report.verdict, Verdict::Unknown, "{name}");
        let mut findings = report.findings.iter();
        assert!(findings.any(|finding| finding.detail.contains("more than 64")));
    }
}

/// A model of OpenVINO with a constant of so many bytes.
fn openvino(bytes: u8) -> String {
    format!(
        "<net version=\"11\"><layers><layer id=\"0\" type=\"Const\" version=\"opset1\">\
         <data element_type=\"u8\" shape=\"{bytes}\" offset=\"0\" size=\"{bytes}\"/>\
         </layer></layers></net>"
    )
}

#[test]
fn a_model_of_openvino_and_its_constants_are_safe_together() {
    let folder = Folder::new("openvino");
    folder.write("model.xml", openvino(8).as_bytes());
    folder.write("model.bin", &[0xa5; 8]);
    let plain = "<net version=\"11\"><layers></layers></net>";
    folder.write("plain.xml", plain.as_bytes());
    folder.write("plain.bin", b"");
    for (name, report) in folder.reports() {
        assert_eq!(report.verdict, Verdict::Safe, "{name}: {report:?}");
        assert!(report.findings.is_empty() && report.data_files.is_empty());
        let is_data = name
            .rsplit_once('.')
            .is_some_and(|(_, ending)| ending == "bin");
        let format = if is_data {
            OPENVINO_DATA_FORMAT
        } else {
            "openvino"
        };
        assert_eq!(report.format, format);
    }
    type Change = fn(&Folder);
    let changes: [(Change, Verdict, &str); 5] = [
        (
            |it| it.write("model.bin", &[0xa5; 9]),
            Verdict::Unknown,
            "no tensor lies",
        ),
        (
            |it| it.write("model.bin", &[0xa5; 7]),
            Verdict::Malformed,
            "is malformed",
        ),
        (
            |it| it.write("model.bin", b""),
            Verdict::Malformed,
            "is malformed",
        ),
        (
            |it| {
                it.write("model.bin", &[0xa5; 8]);
                hard_link(it.0.join("model.bin"), it.0.join("other")).unwrap();
            },
            Verdict::Unknown,
            "hard link",
        ),
        (
            |it| {
                remove_file(it.0.join("model.bin")).unwrap();
                symlink("/etc/hostname", it.0.join("model.bin")).unwrap();
            },
            Verdict::Unknown,
            "is a link",
        ),
    ];
    for (change, verdict, part) in changes {
        change(&folder);
        let reports = folder.reports();
        let finding = reports.get("model.xml").unwrap().findings.first().unwrap();
        assert_eq!(finding.rule, OPENVINO_DATA.name);
        assert!(finding.detail.contains(part), "{}", finding.detail);
        // A link is not opened.
        if let Some(data) = reports.get("model.bin") {
            assert_eq!(data.verdict, verdict, "{data:?}");
        }
    }
    remove_file(folder.0.join("model.bin")).unwrap();
    let reports = folder.reports();
    let finding = reports.get("model.xml").unwrap().findings.first().unwrap();
    assert!(
        finding.detail.contains("is not there"),
        "{}",
        finding.detail
    );
}
