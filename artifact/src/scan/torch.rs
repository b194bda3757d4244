//! PyTorch's zip files (weights, TorchScript, packages, exported programs) and its older tar files.
//!
//! Weights are a pickle, `data.pkl`, that refers to storages by persistent identifiers. All other
//! kinds hold programs. PyTorch finds members without regard to case, so names are compared that
//! way.

use std::collections::BTreeMap;
use std::io;

use super::container::{self, Profile, ScanFile};
use super::pickle::{self, Storage};
use super::{Input, Limits, Report, Verdict, input, magic};
use crate::scan::rules;

/// Bytes of a member that is a version, a byte order or an identifier.
const MAX_TEXT_BYTES: u64 = 128;
/// Members with one line of text.
const TEXTS: [&str; 8] = [
    "version",
    "byteorder",
    ".data/version",
    ".data/serialization_id",
    ".format_version",
    ".storage_alignment",
    "archive_format",
    "archive_version",
];
/// Ends of names of modules of Python, of native code, and of sources that are compiled when the
/// model is loaded.
const CODE: [&str; 9] = [
    ".py", ".so", ".dll", ".dylib", ".o", ".cubin", ".ptx", ".cpp", ".hsaco",
];
/// Members of the tar files that PyTorch wrote before version 0.2.
const TAR_MEMBERS: [&str; 4] = ["sys_info", "pickle", "storages", "tensors"];

/// A zip file of PyTorch. All names begin with one folder.
#[derive(Default)]
pub(super) struct Torch {
    root: Option<String>,
    has_weights: bool,
    has_version: bool,
    is_script: bool,
    is_package: bool,
    is_program: bool,
    /// Storages that the pickle refers to, by their keys.
    storages: BTreeMap<String, Storage>,
    /// Members that are storages, with their sizes.
    members: BTreeMap<String, u64>,
}

impl Torch {
    /// The name below the root folder, in lower case.
    fn relative(&self, name: &str) -> Option<String> {
        let (root, relative) = name.split_once('/')?;
        (self.root.as_deref() == Some(root)).then(|| relative.to_ascii_lowercase())
    }

    /// Compares the storages that the pickle refers to with the members. Programs refer to theirs
    /// in other ways, too.
    fn compare_storages(&self, report: &mut Report) {
        if self.is_script || self.is_package || self.is_program {
            return;
        }
        for (key, storage) in &self.storages {
            let bytes = u64::from(storage.element_bytes).checked_mul(storage.elements);
            if self.members.get(key).copied() != bytes || bytes.is_none() {
                let detail = format!(
                    "the storage {key:?} has {} elements of {} bytes, and no member of this size",
                    storage.elements, storage.element_bytes
                );
                report.add(Verdict::Malformed, 0, rules::TORCH_STORAGE, &detail);
            }
        }
        for key in self.members.keys() {
            if !self.storages.contains_key(key) {
                let detail = format!("no tensor uses the storage {key:?}");
                report.add(Verdict::Unknown, 0, rules::TORCH_STORAGE, &detail);
            }
        }
    }
}

impl Profile for Torch {
    fn format(&self) -> &'static str {
        if self.is_script {
            "torchscript"
        } else if self.is_package {
            "torch package"
        } else if self.is_program {
            "torch program"
        } else {
            "torch zip"
        }
    }

    fn observe(&mut self, name: &str) {
        if self.root.is_none() {
            self.root = name.split_once('/').map(|(root, _)| root.to_owned());
        }
        // Not only below the root: a reader may choose another one.
        let name = name.to_ascii_lowercase();
        let Some((_, relative)) = name.split_once('/') else {
            return;
        };
        match relative {
            "data.pkl" => self.has_weights = true,
            "version" | ".data/version" => self.has_version = true,
            "constants.pkl" => self.is_script = true,
            ".data/extern_modules" => self.is_package = true,
            "archive_format" | "serialized_exported_program.json" => self.is_program = true,
            _ if relative.starts_with("code/") => self.is_script = true,
            _ if relative.starts_with("data/aotinductor/") => self.is_program = true,
            _ => {}
        }
    }

    fn matches(&self) -> bool {
        self.has_weights || self.is_script || self.is_package || self.is_program
    }

    fn member(
        &mut self,
        name: &str,
        input: &mut dyn Input,
        limits: &Limits,
        scan_file: ScanFile,
    ) -> io::Result<Report> {
        let Some(relative) = self.relative(name) else {
            let mut report = container::member(name, input, limits, scan_file)?;
            let detail = "not in the folder of the other members";
            report.add(Verdict::Unknown, 0, rules::TORCH_MEMBER, detail);
            return Ok(report);
        };
        match relative.as_str() {
            "data.pkl" | "constants.pkl" | "attributes.pkl" => {
                let (mut report, storages) = pickle::scan_torch(input, limits, self.is_script)?;
                // Members may have the same name, or names that differ by case.
                let count = self.storages.len().saturating_add(storages.len());
                if count > limits.entries {
                    let detail = "the pickles refer to more storages than are compared";
                    report.add(Verdict::Unknown, 0, rules::TORCH_STORAGE, detail);
                } else {
                    self.storages.extend(storages);
                }
                Ok(report)
            }
            text if TEXTS.contains(&text) => scan_text(input),
            storage if is_storage(storage) => {
                if let Some(key) = storage.strip_prefix("data/") {
                    let bytes = input::length(input)?;
                    self.members.insert(key.to_owned(), bytes);
                }
                // No reader interprets the numbers.
                Ok(Report::new("torch storage"))
            }
            // That there is code is evidence of the file, once.
            code if self.is_script && code.starts_with("code/") => {
                Ok(Report::new("torchscript code"))
            }
            code if CODE.iter().any(|end| code.ends_with(end)) => {
                let mut report = Report::new("code");
                let detail = "code that is loaded with the model";
                report.add(Verdict::Executable, 0, rules::TORCH_NATIVE_CODE, detail);
                Ok(report)
            }
            // Torch hands these to the caller that asks for them by name.
            extra if self.is_script && extra.starts_with("extra/") => {
                container::member(name, input, limits, scan_file)
            }
            _ => {
                let mut report = container::member(name, input, limits, scan_file)?;
                let detail = "not a member of files of weights";
                report.add(Verdict::Unknown, 0, rules::TORCH_MEMBER, detail);
                Ok(report)
            }
        }
    }

    fn finish(&mut self, report: &mut Report) {
        self.compare_storages(report);
        if self.is_script {
            let detail = "TorchScript: the file holds a program that runs in the model server";
            report.add(Verdict::Executable, 0, rules::TORCHSCRIPT, detail);
        }
        if self.is_package {
            let detail = "a torch.package: its Python modules are imported";
            report.add(Verdict::Executable, 0, rules::TORCH_PACKAGE, detail);
        }
        if self.is_program {
            let detail = "an exported program, whose graph is not followed";
            report.add(Verdict::Unknown, 0, rules::TORCH_PROGRAM, detail);
        }
        if !self.has_version {
            let detail = "the file has no version";
            report.add(Verdict::Unknown, 0, rules::TORCH_VERSION, detail);
        }
    }
}

/// Whether a member holds the numbers of one storage.
fn is_storage(relative: &str) -> bool {
    let number = relative
        .strip_prefix("data/")
        .or_else(|| relative.strip_prefix("tensors/"))
        .or_else(|| relative.strip_prefix("constants/"));
    number.is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// A line of text.
fn scan_text(input: &mut dyn Input) -> io::Result<Report> {
    let mut report = Report::new("text");
    let text = magic::read_at(input, 0, MAX_TEXT_BYTES.saturating_add(1))?;
    let line = text.strip_suffix(b"\n").unwrap_or(&text);
    let is_line = line.iter().all(u8::is_ascii_graphic);
    if !is_line || u64::try_from(text.len()).map_or(true, |length| length > MAX_TEXT_BYTES) {
        report.add(
            Verdict::Malformed,
            0,
            rules::TORCH_TEXT,
            "not one word of text",
        );
    }
    Ok(report)
}

/// Whether a member of a tar file is one of PyTorch's.
pub(super) fn is_tar_member(name: &str) -> bool {
    TAR_MEMBERS.contains(&name)
}

/// Scans a member of PyTorch's tar file.
///
/// `storages` and `tensors` mix pickles with numbers. Only what comes first is followed.
pub(super) fn tar_member(name: &str, input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let (mut report, _) = pickle::scan_torch(input, limits, false)?;
    if name == "storages" || name == "tensors" {
        let detail = "pickles between numbers, which are not followed";
        report.add(Verdict::Unknown, 0, rules::TORCH_TAR, detail);
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::scan::zip::build::{EMPTY_DICT, File, OS_SYSTEM, zip};
    use crate::scan::{detect, zip};
    use std::io::Cursor;

    /// A dictionary of one tensor: two floats of the storage "0".
    const TENSOR: &[u8] = b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n\
        ((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x02tQ\
        K\0K\x02\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs.";

    fn scan(files: &[(&str, &[u8])]) -> Report {
        let files: Vec<File> = (files.iter())
            .map(|(name, content)| File::stored(name, content))
            .collect();
        zip::scan(
            &mut Cursor::new(zip(&files)),
            &Limits::default(),
            detect::scan,
        )
        .unwrap()
    }

    #[test]
    fn weights_may_have_the_ending_of_a_pickle() {
        let numbers = b"\0\x01\x02\x03\x04\x05\x06\x07";
        let data = File::stored("a/data/0", numbers);
        let version = File::stored("a/version", b"3\n");
        let pickle = File::stored("a/data.pkl", TENSOR);
        let code = File::stored("a/code/m.py", b"class M");
        let weights = zip(&[pickle.clone(), data.clone(), version.clone()]);
        let program = zip(&[pickle, code, data, version]);
        let other = zip(&[File::stored("a.txt", b"a")]);
        for (name, file, expected) in [
            ("random_states_0.pkl", &weights, Verdict::Safe),
            ("a.pickle", &weights, Verdict::Safe),
            ("a.joblib", &weights, Verdict::Malformed),
            ("a.safetensors", &weights, Verdict::Malformed),
            ("a.pkl", &other, Verdict::Malformed),
            ("a.pkl", &program, Verdict::Executable),
        ] {
            let mut file = Cursor::new(file);
            let report = detect::scan(&mut file, name, &Limits::default()).unwrap();
            assert_eq!(report.verdict, expected, "{name}: {:?}", report.findings);
        }
    }

    #[test]
    fn weights_are_safe_and_each_other_member_is_named() {
        let weights = [
            ("a/data.pkl", TENSOR),
            ("a/byteorder", b"little"),
            ("a/data/0", b"\0\x01\x02\x03\x04\x05\x06\x07"),
            ("a/version", b"3\n"),
            (
                "a/.data/serialization_id",
                b"0636457737946401051300000025273995036293",
            ),
        ];
        let report = scan(&weights);
        assert_eq!(
            (report.format, report.verdict),
            ("torch zip", Verdict::Safe)
        );
        for (name, content, rule) in [
            ("a/data/x", b"x".as_slice(), "torch-member"),
            ("a/data/1", b"x", "torch-storage"),
            ("b/data/0", b"x", "torch-member"),
            ("a/.format_version", b"\x80\x02", "torch-text"),
            ("a/model.so", b"\x7fELF", "torch-native-code"),
            ("a/b.py", b"import os", "torch-native-code"),
            ("a/code/m.py", b"class M", "torchscript"),
            ("a/archive_format", b"pt2", "torch-program"),
        ] {
            let mut files = weights.to_vec();
            files.push((name, content));
            let report = scan(&files);
            assert_ne!(report.verdict, Verdict::Safe, "{name}");
            assert!(
                report.findings.iter().any(|finding| finding.rule == rule),
                "{name}"
            );
        }
    }

    #[test]
    fn a_script_is_one_finding_and_its_pickles_have_their_own() {
        // An object with a list of integers and an object.
        let object: &[u8] = b"\x80\x02c__torch__\nNet\n)\x81}(X\x01\0\0\0actorch.jit._pickle\n\
            build_intlist\n]K\x01a\x85RX\x01\0\0\0bc__torch__.torch.nn\nReLU\n)\x81}bub.";
        let script = |pickle: &[u8], more: &[(&str, &[u8])]| {
            let mut files = vec![
                ("a/data.pkl", pickle),
                ("a/constants.pkl", b"\x80\x02)."),
                ("a/code/__torch__.py", b"class Net(Module):\n"),
                ("a/version", b"3"),
            ];
            files.extend(more);
            let rules = scan(&files).findings.into_iter().map(|it| it.rule.name);
            rules.collect::<Vec<_>>()
        };
        assert_eq!(script(object, &[]), ["torchscript"]);
        // A quantized number: what shows memory is less than the program may do.
        let quantized: &[u8] = b"\x80\x02c__torch__\nNet\n)\x81}(X\x01\0\0\0actorch._utils\n\
            _rebuild_qtensor\n((X\x07\0\0\0storagectorch\nQInt8Storage\nX\x01\0\0\x000\
            X\x03\0\0\0cpuK\x01tQK\0))(ctorch\nper_tensor_affine\nG?\xb9\x99\x99\x99\x99\x99\x9a\
            K\0t\x89ccollections\nOrderedDict\n)RtRub.";
        assert_eq!(script(quantized, &[("a/data/0", b"\0")]), ["torchscript"]);
        let noted = [("a/extra/config.txt", b"{}".as_slice())];
        assert_eq!(script(object, &noted), ["torchscript"]);
        for (name, content, rule) in [
            ("a/extra/a.pkl", OS_SYSTEM, "pickle-global"),
            ("a/extra/a", b"\x7fELF", "program"),
            ("a/extra/a.py", b"import os", "torch-native-code"),
            ("a/more/config.txt", b"{}", "torch-member"),
        ] {
            let rules = script(object, &[(name, content)]);
            assert!(rules.contains(&rule), "{name}: {rules:?}");
        }
        for (pickle, rule) in [
            (OS_SYSTEM, "pickle-global"),
            // A function of the program is not called here.
            (b"\x80\x02c__torch__\nf\n)R.", "pickle-call"),
            (
                b"\x80\x02ctorch.jit._pickle\nrestore_type_tag\nX\x01\0\0\0aX\x01\0\0\0b\x86R.",
                "pickle-call",
            ),
            (b"\x80\x02ctorch.jit\nload\n.", "pickle-global"),
        ] {
            let rules = script(pickle, &[]);
            assert!(rules.contains(&rule), "{rule}: {rules:?}");
        }
        let rules = script(object, &[("a/x.so", b"\x7fELF")]);
        assert!(rules.contains(&"torch-native-code"), "{rules:?}");
        // The first line ends in the pickle, and what follows would be a text and a call of it.
        let text: &[u8] = b"\x80\x02c__torch__.vit\nVisionTransformer\n)\x81}b.";
        let files = [
            File::stored("vit/data.pkl", text).with_descriptor(b"PK\x07\x08"),
            File::stored("vit/code/__torch__.py", b""),
            File::stored("vit/version", b"3"),
        ];
        let report =
            detect::scan(&mut Cursor::new(zip(&files)), "vit.pt", &Limits::default()).unwrap();
        let rules: Vec<_> = report.findings.iter().map(|it| it.rule.name).collect();
        assert_eq!(rules, ["torchscript"]);
        // Files of weights have no such classes.
        let report = scan(&[("a/data.pkl", object), ("a/version", b"3")]);
        let is_global = |it: &crate::scan::Finding| it.rule == "pickle-global";
        assert!(report.findings.iter().any(is_global), "{report:?}");
    }

    #[test]
    fn storages_have_the_size_that_the_pickle_gives_them() {
        for (storage, is_malformed) in [(8, false), (7, true), (9, true)] {
            let numbers = vec![0; storage];
            let files = [
                ("a/data.pkl", TENSOR),
                ("a/data/0", numbers.as_slice()),
                ("a/version", b"3"),
            ];
            let verdict = scan(&files).verdict;
            assert_eq!(verdict == Verdict::Malformed, is_malformed, "{storage}");
        }
        let none = scan(&[("a/data.pkl", TENSOR), ("a/version", b"3")]);
        assert_eq!(none.verdict, Verdict::Malformed);
        let unused = scan(&[
            ("a/data.pkl", EMPTY_DICT),
            ("a/data/0", b"1"),
            ("a/version", b"3"),
        ]);
        assert_eq!(unused.verdict, Verdict::Unknown);
    }

    #[test]
    fn pytorch_finds_the_pickle_in_each_case() {
        for name in ["a/data.pkl", "a/DATA.PKL"] {
            let report = scan(&[(name, OS_SYSTEM), ("a/version", b"3")]);
            assert_eq!(report.verdict, Verdict::Executable, "{name}");
            assert_eq!(report.format, "torch zip");
        }
    }
}
