//! Tests of what a file is, by its content and its name.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]
use super::*;
use crate::scan::hdf5::build::Writer;
use std::io::Cursor;

fn scanned(name: &str, content: &[u8]) -> Report {
    scan(&mut Cursor::new(content), name, &Limits::default()).unwrap()
}

/// A safetensors file with one tensor.
fn safetensors() -> Vec<u8> {
    let header = br#"{"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}   "#;
    let mut file = u64::try_from(header.len()).unwrap().to_le_bytes().to_vec();
    file.extend(header);
    file.extend([1, 2, 3, 4]);
    file
}

/// A model of Core ML: its version, a description, and a neural network as field 500.
const COREML: &[u8] = b"\x08\x04\x12\x03\x0a\x01a\xa2\x1f\x00";

/// `os.system("id")` as a pickle of protocol 0, which is a text.
const TEXT_PICKLE: &[u8] = b"cos\nsystem\n(S'id'\ntR.";

#[test]
fn the_finding_of_a_program_names_its_kind_and_what_runs_it() {
    let report = scanned("model", b"\x7fELF\x02\x01\x01\0");
    let [finding] = report.findings.as_slice() else {
        unreachable!("one finding: {report:?}");
    };
    assert_eq!(finding.rule, "program");
    assert_eq!(finding.detail, "elf, which a loader or an interpreter runs");
}

#[test]
fn names_of_models_and_weights_are_known() {
    for name in [
        "model.safetensors",
        "pytorch_model.BIN",
        "model.onnx",
        "model.onnx.data",
        "model.onnx_data",
        "a.gguf",
        "a.pt",
        "checkpoint.pth.tar",
        "saved_model.pb",
        "variables.data-00000-of-00001",
        "spiece.model",
        "model.graphdef",
        "model.LITE",
        "booster.bst",
        "trees.cbm",
    ] {
        assert!(is_model_name(name), "{name}");
    }
    for name in [
        "bin",
        "README.md",
        "config.json",
        "vocab.txt",
        "model.sig",
        "logs.tar.gz",
        "notes.zip",
        "model.safetensors.metadata",
        "modeling.py",
    ] {
        assert!(!is_model_name(name), "{name}");
    }
}

#[test]
fn a_name_only_makes_the_verdict_worse() {
    let own = safetensors();
    let booster = br#"{"version":[2,1,0],"learner":{"attributes":{}}}"#;
    let hydra = br#"{"learner":{"attributes":{"_target_":"os.system"}}}"#;
    let pipeline = br#"{"_class_name":"P","unet":["my_unet","U"]}"#;
    let cases: [(&str, &[u8], Verdict, &str); 59] = [
        ("a.safetensors", &own, Verdict::Safe, "safetensors"),
        ("a", &own, Verdict::Safe, "safetensors"),
        ("a.gguf", &own, Verdict::Malformed, "safetensors"),
        ("A.GGUF", &own, Verdict::Malformed, "safetensors"),
        ("README.md", b"# A model\n", Verdict::Safe, "text"),
        ("LICENSE", b"Apache License\n", Verdict::Safe, "text"),
        ("notes.md", b"[a link](b)\n", Verdict::Safe, "text"),
        ("model.py", b"import os\n", Verdict::Executable, "script"),
        ("run", b"#!/bin/sh\nid\n", Verdict::Executable, "script"),
        ("a.txt", b"\x7fELF\x02", Verdict::Executable, "elf"),
        ("thing", b"some words\n", Verdict::Unknown, "text"),
        ("a.safetensors", b"", Verdict::Malformed, "empty"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", Verdict::Malformed, "hdf5"),
        ("a.bin", &Writer::new().file(), Verdict::Safe, "hdf5"),
        ("a.gz", b"\x1f\x8b\x08\0", Verdict::Unknown, "gzip"),
        (
            "a.safetensors",
            b"\x1f\x8b\x08\0",
            Verdict::Malformed,
            "gzip",
        ),
        ("model.pkl", TEXT_PICKLE, Verdict::Executable, "pickle"),
        ("model.pt", TEXT_PICKLE, Verdict::Executable, "pickle"),
        ("thing", TEXT_PICKLE, Verdict::Executable, "text"),
        ("a.txt", TEXT_PICKLE, Verdict::Executable, "text"),
        ("words.txt", b"cat\ndog\n", Verdict::Safe, "text"),
        ("LICENSE", b"\xa9 A. Author\n", Verdict::Safe, "text"),
        ("LICENSE-APACHE-2.0", b"terms\n", Verdict::Safe, "text"),
        ("MODEL_LICENSE", b"terms\n", Verdict::Safe, "text"),
        ("LICENSE-2.0", TEXT_PICKLE, Verdict::Executable, "text"),
        ("LICENSE.model", b"terms\n", Verdict::Unknown, "text"),
        ("tokenizer.model", b"IQ== 0\n", Verdict::Safe, "text"),
        ("tokenizer.model", TEXT_PICKLE, Verdict::Executable, "text"),
        ("LICENSE.py", b"terms\n", Verdict::Executable, "script"),
        ("checklist.chk", b"0a1b  a.pth\n", Verdict::Safe, "text"),
        ("README.md", b"\xff\xfe#\0 \0a\0", Verdict::Safe, "text"),
        (
            "README.md",
            b"\xff\xfe#\0\0\0",
            Verdict::Malformed,
            "unknown",
        ),
        ("thing", b"\xa9 A. Author\n", Verdict::Unknown, "unknown"),
        (
            "requirements.txt",
            b"e\xe9\n",
            Verdict::Malformed,
            "unknown",
        ),
        (
            "keras_module.txt",
            b"os\xe9\n",
            Verdict::Malformed,
            "unknown",
        ),
        (
            "CITATION.cff",
            b"cff-version: 1.2.0\n",
            Verdict::Safe,
            "yaml",
        ),
        ("a.svg", b"<svg/>\n", Verdict::Unknown, "text"),
        ("requirements.txt", b"evil\n", Verdict::Unknown, "text"),
        ("conda.yaml", b"a: 1\n", Verdict::Unknown, "text"),
        ("setup.cfg", b"[options]\n", Verdict::Unknown, "text"),
        ("pyproject.toml", b"[project]\n", Verdict::Unknown, "text"),
        ("net.cfg", b"[net]\n", Verdict::Unknown, "text"),
        ("net.conf", b"[net]\n", Verdict::Unknown, "text"),
        ("a.cfg", b"[loggers]\n", Verdict::Executable, "text"),
        ("a.conf", b"x\r[handlers]\r", Verdict::Executable, "text"),
        ("a.ini", b"[formatters]\n", Verdict::Executable, "text"),
        ("entry_points.txt", b"[x]\n", Verdict::Executable, "text"),
        ("MLmodel", b"code: code\n", Verdict::Executable, "yaml"),
        ("MLmodel", b"mlflow_version: 2.9.2\n", Verdict::Safe, "yaml"),
        ("CONFIG.JSON", b"{\"x\":\"a.b\"}", Verdict::Unknown, "json"),
        ("a.json", booster, Verdict::Safe, "xgboost json"),
        ("config.json", hydra, Verdict::Executable, "xgboost json"),
        ("Model_Index.json", pipeline, Verdict::Executable, "json"),
        (
            "old.joblib",
            b"ZF0x12         x\x9c",
            Verdict::Unknown,
            "joblib zlib",
        ),
        ("a.mlmodel", COREML, Verdict::Unknown, "coreml"),
        ("a.onnx", COREML, Verdict::Malformed, "coreml"),
        ("other.yaml", b"a: 1\n", Verdict::Safe, "yaml"),
        ("blob", b"\x01\x02\x03", Verdict::Unknown, "unknown"),
        (
            "keras_metadata.pb",
            b"\x0a\x02\x22\x00",
            Verdict::Unknown,
            "tensorflow saved model",
        ),
    ];
    for (name, content, expected, format) in cases {
        let report = scanned(name, content);
        let found = (report.verdict, report.format);
        assert_eq!(found, (expected, format), "{name}: {report:?}");
    }
    let report = scanned("a.gguf", &own);
    assert_eq!(report.findings[0].rule, "extension");
}

#[test]
fn a_file_that_two_readers_understand_is_malformed() {
    let has_polyglot = |content: &[u8]| {
        let report = scanned("a.safetensors", content);
        assert!(report.verdict >= Verdict::Malformed, "{report:?}");
        report.findings.iter().any(|it| it.rule == "polyglot")
    };
    // A zip behind the tensors: a central directory of one entry, and the end record.
    let mut entry = b"PK\x01\x02".to_vec();
    entry.resize(46, 0);
    entry[28] = 1;
    entry.push(b'a');
    let mut end = b"PK\x05\x06\0\0\0\0\x01\0\x01\0".to_vec();
    end.extend(u32::try_from(entry.len()).unwrap().to_le_bytes());
    end.extend([0; 6]);
    let zip = [safetensors(), entry, end].concat();
    assert!(has_polyglot(&zip));
    // The checksum of a tar header stands in the header of the tensors.
    let mut tar = safetensors();
    tar.resize(1_024, 0);
    tar[257..262].copy_from_slice(b"ustar");
    assert!(has_polyglot(&tar));
    let mut hdf5 = safetensors();
    hdf5.resize(512, 0);
    hdf5.extend(b"\x89HDF\r\n\x1a\n");
    assert!(has_polyglot(&hdf5));
    // The length of the header is opcodes: PROTO and BINFLOAT, which takes the brace along, or
    // SHORT_BINSTRING without a protocol.
    for (header_bytes, begin) in [(0x47_0480_u64, 11), (0x2055, 2 + 0x20)] {
        let mut pickle = header_bytes.to_le_bytes().to_vec();
        pickle.push(b'{');
        pickle.resize(begin, b' ');
        // A break after the call, and more bytes.
        pickle.extend(TEXT_PICKLE.strip_suffix(b".").unwrap());
        pickle.resize(8 + usize::try_from(header_bytes).unwrap(), b' ');
        assert!(has_polyglot(&pickle), "{header_bytes}");
    }
}

#[test]
fn an_empty_file_is_what_its_name_lets_it_be() {
    for (name, expected) in [
        (".gitkeep", Verdict::Safe),
        ("README", Verdict::Safe),
        ("merges.txt", Verdict::Safe),
        ("conda.yaml", Verdict::Safe),
        ("__init__.py", Verdict::Safe),
        ("a", Verdict::Unknown),
        ("a.bin", Verdict::Unknown),
        ("a.lock", Verdict::Safe),
        ("a.so", Verdict::Unknown),
        ("a.gguf", Verdict::Malformed),
        ("config.json", Verdict::Malformed),
        ("a.pkl", Verdict::Malformed),
        ("a.pbtxt", Verdict::Malformed),
        ("config.pbtxt", Verdict::Safe),
    ] {
        let report = scanned(name, b"");
        assert_eq!(report.verdict, expected, "{name}");
        let format = match (expected, name) {
            (Verdict::Safe, "config.pbtxt") => "triton config",
            (Verdict::Safe, _) => "text",
            _ => "empty",
        };
        assert_eq!(report.format, format, "{name}");
        let rules: Vec<_> = report.findings.iter().map(|it| it.rule).collect();
        assert_eq!(rules.is_empty(), expected == Verdict::Safe, "{rules:?}");
    }
}

#[test]
fn a_text_whose_pickle_is_not_followed_to_its_end_is_malformed() {
    let call = TEXT_PICKLE;
    let long = format!("S'{}'\n", "a".repeat(1 << 20));
    let persistent = format!("{}{long}", "P\n0".repeat(MAX_FINDINGS));
    for begin in [
        "I+1\n",
        "I010\n",
        "L0x10\n",
        "I1_0\n",
        "F1_0\n",
        "S'x'\np01\n",
        "S'x'\np4294967296\n",
        "S'x'\np0\n.g0\n",
        long.as_str(),
        persistent.as_str(),
    ] {
        let report = scanned("a.txt", &[begin.as_bytes(), b"0".as_slice(), call].concat());
        let shown = begin.get(..9).unwrap_or(begin);
        assert!(report.verdict >= Verdict::Malformed, "{shown}");
    }
    for text in ["I added 1 bed\n", "F1 score\n", "Large\n", "I3 apples\n"] {
        let verdict = scanned("a.txt", text.as_bytes()).verdict;
        assert_eq!(verdict, Verdict::Safe, "{text}");
    }
}

#[test]
fn a_pickle_that_torch_reads_as_a_tar_is_malformed() {
    // One value of bytes, with a checksum that only Python reads in its place.
    let mut pickle = b"\x80\x03B\0\x02\0\0".to_vec();
    pickle.resize(7 + 512, 0);
    pickle.push(b'.');
    assert_eq!(scanned("a.pt", &pickle).verdict, Verdict::Safe);
    let sum = pickle[..512]
        .iter()
        .map(|byte| u64::from(*byte))
        .sum::<u64>()
        + 8 * 32;
    let mut binary = sum.to_be_bytes();
    binary[0] = 0x80;
    let texts = [
        format!("\t{sum:06o}\0"),
        format!("+{sum:06o}\0"),
        format!("0_{sum:05o}\0"),
    ];
    let fields = texts.iter().map(String::as_bytes);
    for field in fields.chain([binary.as_slice()]) {
        pickle[148..156].copy_from_slice(field);
        let report = scanned("a.pt", &pickle);
        assert!(report.verdict >= Verdict::Malformed, "{report:?}");
    }
}

#[test]
fn names_of_tensorflow_are_read_as_its_formats() {
    // An ONNX model without nodes.
    let model = b"\x08\x07\x3a\x00\x42\x02\x10\x0d";
    for (name, is_safe) in [
        ("model.onnx", true),
        ("model.pb", true),
        ("saved_model.pb", false),
        ("model.ckpt.meta", false),
    ] {
        let report = scanned(name, model);
        assert_eq!(
            report.verdict == Verdict::Safe,
            is_safe,
            "{name}: {report:?}"
        );
    }
}
