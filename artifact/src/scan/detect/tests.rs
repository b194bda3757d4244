//! Tests of what a file is, by its content and its name.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]
use super::*;
use crate::scan::finding::MAX_FINDINGS;
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
    assert_eq!(finding.rule.name, "program");
    assert_eq!(finding.detail, "elf, which a loader or an interpreter runs");
}

#[test]
fn formats_without_a_scanner_have_a_name_and_say_what_to_do() {
    let ctranslate2 = b"\x06\0\0\0\x10\0TransformerSpec\0\x07\0\0\0";
    let long = [b"\x08\x01\x12\xdb\x2f\x0a".as_slice(), &[b'a'; 8_000]].concat();
    let cases: [(&str, &[u8], &str); 9] = [
        ("model.bin", ctranslate2, "ctranslate2"),
        ("model.plan", b"ptrt\0\0\0\0", "tensorrt"),
        ("rank0.engine", b"\x01\0\0\0", "tensorrt"),
        ("m.pte", b"\x20\0\0\0ET12eh00", "executorch"),
        ("flax_model.msgpack", b"\x82\xa6params\x81\xa1w\xc7", "flax"),
        ("manifest.ocdbt", b"\x0c\xdb\x3a\x2a\0\0\0\0", "ocdbt"),
        ("final.mdl", b"\0B<TransitionModel> \x01\0", "kaldi"),
        ("trees.cbm", b"CBM1\x10\0\0\0", "catboost"),
        // A description that is longer than the head hides the mark.
        ("m.mlmodel", &long, "coreml"),
    ];
    for (name, content, format) in cases {
        let report = scanned(name, content);
        assert_eq!(report.verdict, Verdict::Unknown, "{name}");
        assert_eq!(report.format, format, "{name}");
        assert!(report.findings[0].detail.contains(": "), "{name}");
    }
    // Bytes of another name stay data without a format.
    let other = scanned("model.bin", b"\x06\0\0\0\x10\0Trans");
    assert_eq!(other.format, "unknown");
}

#[test]
fn models_of_catboost_in_json_are_no_configurations() {
    let model = br#"{"features_info":{},"model_info":{"file_with_hosts":"hosts.txt"},
        "oblivious_trees":[{"leaf_values":[0.5],"splits":null}]}"#;
    for name in ["model.json", "trees.json"] {
        let report = scanned(name, model);
        assert_eq!(report.format, "catboost json");
        assert_eq!(report.verdict, Verdict::Safe, "{:?}", report.findings);
    }
    // Another reader may take it, too.
    let both = br#"{"features_info":{},"oblivious_trees":[],"auto_map":{"AutoModel":"m.M"}}"#;
    assert_eq!(scanned("config.json", both).verdict, Verdict::Executable);
}

#[test]
fn models_of_boosters_are_found_whatever_they_begin_with_and_are_called() {
    let learner = r#""learner":{"gradient_booster":{"model":{}}}"#;
    let spaces = " ".repeat(5_000);
    for (name, model) in [
        ("model.json", format!("{{\"a\":\"\",{learner}}}")),
        (
            "model.json",
            format!("{{\"version\":[3]{spaces},{learner}}}"),
        ),
        ("model.json", r#"{"a":1,"oblivious_trees":[]}"#.to_owned()),
        ("model.txt", format!("{{{learner}}}")),
        ("model.jsonl", format!("{{\"a\":1,{learner}}}")),
        (
            "model.txt",
            "tree\nnum_tree_per_iteration=1\nversion=v4\n".to_owned(),
        ),
        ("model.txt", "tree\n\nversion=v4\n".to_owned()),
        ("model.txt", format!("tree\n{}a=1\n", "a\n".repeat(50_000))),
    ] {
        let report = scanned(name, model.as_bytes());
        assert!(report.verdict > Verdict::Safe, "{name}: {report:?}");
    }
    for (name, text) in [
        ("labels.txt", "tree\ncar\n"),
        ("rows.jsonl", "{\"a\":1}\n{\"a\":2}\n"),
        ("config.json", r#"{"a":1,"learner":{"rate":1}}"#),
    ] {
        let report = scanned(name, text.as_bytes());
        assert_eq!(report.verdict, Verdict::Safe, "{name}: {report:?}");
    }
}

#[test]
fn a_file_with_the_name_of_a_program_is_one() {
    for name in ["x.sh", "x.php", "x.py", "x.bat"] {
        for content in [&safetensors()[..], b"GGUF", b"\x93NUMPY"] {
            let report = scanned(name, content);
            assert_ne!(report.verdict, Verdict::Safe, "{name}: {report:?}");
        }
    }
    assert_eq!(scanned("x.sh", &safetensors()).verdict, Verdict::Executable);
    assert_eq!(scanned("__init__.py", b"").verdict, Verdict::Safe);
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
    assert_eq!(report.findings[0].rule.name, "extension");
}

#[test]
fn a_file_that_two_readers_understand_is_malformed() {
    let has_polyglot = |content: &[u8]| {
        let report = scanned("a.safetensors", content);
        assert!(report.verdict >= Verdict::Malformed, "{report:?}");
        report.findings.iter().any(|it| it.rule.name == "polyglot")
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
        let is_empty = report.findings.is_empty();
        assert_eq!(is_empty, expected == Verdict::Safe, "{report:?}");
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

/// The format of a file by its bytes, and how certain it is.
fn found(content: &[u8]) -> (Evidence, &'static str) {
    let limits = Limits::default();
    let mut input = Cursor::new(content);
    let mut file = File::read(&mut input, ("a", "a"), &limits, scan).unwrap();
    let (evidence, format) = by_content(&mut file).unwrap();
    (evidence, format.id)
}

#[test]
fn a_format_is_known_by_its_first_bytes() {
    let mut tar = vec![0_u8; 512];
    tar[..4].copy_from_slice(b"name");
    let sum: u32 = tar.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut wrong_tar = tar.clone();
    wrong_tar[511] = 1;
    let mut safetensors = 2_u64.to_le_bytes().to_vec();
    safetensors.extend(b"{}");
    // The length of this header begins as a pickle does, and no opcode follows.
    let mut looks_pickled = 640_u64.to_le_bytes().to_vec();
    looks_pickled.resize(648, b' ');
    looks_pickled[8] = b'{';
    // The length of another one begins as zlib does.
    let mut looks_packed = looks_pickled.clone();
    looks_packed[..8].copy_from_slice(&376_u64.to_le_bytes());
    let cases: [(&[u8], Evidence, &str); 34] = [
        (b"", Evidence::Mark, "empty"),
        (b"PK\x03\x04", Evidence::Mark, "zip"),
        (b"\x80\x02}q\x00.", Evidence::Mark, "pickle"),
        (b"\x80\x04\x95\x00", Evidence::Mark, "pickle"),
        (b"\x80\x02\x00\x00", Evidence::None, "unknown"),
        (&tar, Evidence::Mark, "tar"),
        (&wrong_tar, Evidence::None, "unknown"),
        (&safetensors, Evidence::Mark, "safetensors"),
        (&looks_pickled, Evidence::Mark, "safetensors"),
        (&looks_packed, Evidence::Mark, "safetensors"),
        // The header would be longer than the file.
        (b"\x03\0\0\0\0\0\0\0{}", Evidence::None, "unknown"),
        (b"\x1c\0\0\0TFL3", Evidence::Mark, "tflite"),
        (b"\x1c\0\0\0ORTM", Evidence::Mark, "ort"),
        (b"\x08\x08\x12\x07pytorch", Evidence::Fields, "onnx"),
        (b"\x08\x01\x12\x80\x01", Evidence::Fields, "saved model"),
        (b"#!/bin/sh\n", Evidence::Mark, "script"),
        (b"\x1bLuaS\0", Evidence::Mark, "lua bytecode"),
        (
            b"\xcb\x0d\r\n\0\0\0\0\0\0\0\0\0\0\0\0\xe3",
            Evidence::Mark,
            "python bytecode",
        ),
        (
            b"]\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0",
            Evidence::Mark,
            "lzma",
        ),
        (b"]\0\0\x10\0\x63\0\0\0\0\0\0\0\0", Evidence::Mark, "lzma"),
        (
            b"]\0\0\x10\0\x63\0\0\0\0\0\0\x3f\0",
            Evidence::None,
            "unknown",
        ),
        // A text with odd ends of lines.
        (
            b"U\r\r\na text of more than thirty-two bytes\0",
            Evidence::None,
            "unknown",
        ),
        (b"{\"a\": 1}", Evidence::Json, "unknown"),
        (b"plain", Evidence::Text, "unknown"),
        (
            b"\x0a\x05\x0a\x01a\x18\x02",
            Evidence::Fields,
            "sentencepiece",
        ),
        // The piece ends elsewhere, or has a text alone.
        (b"\x0a\x06\x0a\x01a\x18\x02", Evidence::None, "unknown"),
        (b"\x0a\x03\x0a\x01a", Evidence::None, "unknown"),
        (b"GIF89a", Evidence::Mark, "picture"),
        (b"RIFF\0\0\0\0WEBP", Evidence::Mark, "picture"),
        (COREML, Evidence::Mark, "coreml"),
        (
            b"\x01\x57\xfb\x80\x8b\x24\x75\x47\xdb",
            Evidence::Mark,
            "tensor bundle",
        ),
        (b"x^\x01", Evidence::None, "unknown"),
        (b"x\x9c", Evidence::Mark, "zlib"),
        (b"{i\x01\0", Evidence::Mark, "ubjson"),
    ];
    for (content, evidence, id) in cases {
        assert_eq!(found(content), (evidence, id), "{content:?}");
    }
}

#[test]
fn endings_of_the_table_are_in_lower_case() {
    for format in FORMATS {
        for ending in format.endings {
            assert_eq!(ending.to_lowercase(), **ending, "{}", format.id);
        }
    }
}

#[test]
fn the_name_decides_where_the_bytes_do_not() {
    for (name, content, format) in [
        ("a.pkl", b"x^\xab\xa8".as_slice(), "zlib"),
        ("a.pt", b"\x01\x02", "pickle"),
        ("a.js", b"GIF89a", "script"),
        ("a.so", b"\x08\x08\x12\x07pytorch", "script"),
        ("model.meta", b"\x08\x08\x12\x07pytorch", "metagraph"),
        ("saved_model_config.pb", b"\x01\x02", "saved model"),
        ("data.xml", b"<a/>", "text"),
        ("._a.onnx", b"\0\x05\x16\x07\0\x02\0\0", "apple double"),
    ] {
        assert_eq!(scanned(name, content).format, format, "{name}");
    }
}

#[test]
fn readers_that_go_by_a_name_are_known() {
    for name in [
        "a.safetensors",
        "a.pkl",
        "a.py",
        "a.toml",
        "a.yaml",
        "a.j2",
        "mlmodel",
        "readme",
        "a.md",
        "requirements.txt",
        "keras_module.txt",
        "checkpoint",
        "entry_points.txt",
        "a.svg",
    ] {
        assert!(has_reader(name), "{name}");
    }
    for name in [
        "w.bin",
        "onnx__matmul_1",
        "encoder.weight",
        "model.onnx_data",
        "a-b 7",
    ] {
        assert!(!has_reader(name), "{name}");
    }
}
