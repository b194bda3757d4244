//! `model scan` on small files that are written here.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::program::{Ran, Scratch, binary, run_in};

/// `os.system("id")`.
const PICKLE: &[u8] = b"cos\nsystem\n(S'id'\ntR.";

/// A safetensors file with one tensor of four bytes.
fn safetensors() -> Vec<u8> {
    let header = br#"{"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}   "#;
    let length = u64::try_from(header.len()).unwrap().to_le_bytes();
    [length.as_slice(), header, &[1, 2, 3, 4]].concat()
}

fn scan(scratch: &Scratch, arguments: &[&str]) -> Ran {
    let arguments: Vec<_> = ["scan"].iter().chain(arguments).copied().collect();
    run_in(scratch.path(), &arguments)
}

/// A field of a message of ONNX with these bytes.
fn field(key: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap();
    [&[key, length][..], value].concat()
}

/// A model of ONNX with a tensor of two floats, which is the content of another file.
fn external(data: &str) -> Vec<u8> {
    let entry = [field(0x0a, b"location"), field(0x12, data.as_bytes())].concat();
    let tensor = [&[0x08, 2, 0x10, 1, 0x70, 1][..], &field(0x6a, &entry)].concat();
    [&[0x08, 8][..], &field(0x3a, &field(0x2a, &tensor))].concat()
}

/// The lines of JSON of a run.
fn lines(ran: &Ran) -> Vec<Value> {
    let lines = ran.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A folder `models` with a file of each kind, in the order of their paths.
fn models(scratch: &Scratch) {
    let folder = scratch.path().join("models");
    std::fs::create_dir_all(folder.join("b")).unwrap();
    std::fs::write(folder.join("a.safetensors"), safetensors()).unwrap();
    std::fs::write(folder.join("b/weights.pkl"), PICKLE).unwrap();
    // Sorts before `b/…` as a text, and after it as a path.
    std::fs::write(folder.join("b.md"), "# Notes\n").unwrap();
    symlink("/etc/hostname", folder.join("c")).unwrap();
    std::fs::write(folder.join("empty.npy"), "").unwrap();
    // Nothing reads from it: to open it would wait, or fail.
    UnixListener::bind(folder.join("socket")).unwrap();
    let fifo = Command::new("mkfifo").arg(folder.join("fifo")).status();
    assert!(fifo.unwrap().success());
}

#[test]
fn each_file_has_a_line_in_the_order_of_the_paths_whatever_the_number_of_jobs() {
    let scratch = Scratch::new();
    models(&scratch);
    let expected = [
        ("models/a.safetensors", "safe", ""),
        ("models/b/weights.pkl", "executable", ""),
        ("models/b.md", "safe", ""),
        ("models/c", "unknown", "link"),
        ("models/empty.npy", "malformed", "empty"),
        ("models/fifo", "unknown", "special"),
        ("models/socket", "unknown", "special"),
    ];
    for jobs in ["1", "8"] {
        let ran = scan(&scratch, &["models", "--json", "--jobs", jobs]);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        let lines = lines(&ran);
        let found: Vec<_> = lines
            .iter()
            .map(|line| {
                (
                    line["path"].as_str().unwrap(),
                    line["verdict"].as_str().unwrap(),
                )
            })
            .collect();
        let paths_and_verdicts = expected.map(|(path, verdict, _)| (path, verdict));
        assert_eq!(found, paths_and_verdicts, "{}", ran.stdout);
        for (line, (_, _, rule)) in lines.iter().zip(expected) {
            if !rule.is_empty() {
                assert_eq!(line["findings"][0]["rule"], rule, "{line}");
            }
        }
    }
}

#[test]
fn a_model_is_scanned_with_the_files_that_hold_its_tensors() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path().join("m")).unwrap();
    scratch.file("m/a.onnx", external("w.data"));
    scratch.file("m/w.data", [0xa5; 8]);
    let ran = scan(&scratch, &["m", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stdout);
    let formats = lines(&ran).into_iter().map(|line| line["format"].clone());
    assert_eq!(formats.collect::<Vec<_>>(), ["onnx", "onnx data"]);
    // Either of them alone is read with what lies beside it, as a loader does.
    for path in ["m/a.onnx", "m/w.data"] {
        assert_eq!(scan(&scratch, &[path]).code, 0, "{path}");
    }
    std::fs::remove_file(scratch.path().join("m/w.data")).unwrap();
    symlink("../w.data", scratch.path().join("m/w.data")).unwrap();
    scratch.file("w.data", [0xa5; 8]);
    let ran = scan(&scratch, &["m", "--json"]);
    let [model, link]: [Value; 2] = lines(&ran).try_into().unwrap();
    assert_eq!(
        (&model["verdict"], &link["verdict"]),
        (&json!("unknown"), &json!("unknown"))
    );
    let detail = model["findings"][0]["detail"].as_str().unwrap();
    assert!(
        detail.contains("is a link, which is not followed"),
        "{detail}"
    );
}

#[test]
fn json_has_the_shape_that_scripts_rely_on() {
    let scratch = Scratch::new();
    scratch.file("a.safetensors", safetensors());
    scratch.file("b.pkl", PICKLE);
    let ran = scan(&scratch, &["a.safetensors", "b.pkl", "--json"]);
    let [safe, executable]: [Value; 2] = lines(&ran).try_into().unwrap();
    let shape = json!({
        "path": "a.safetensors", "format": "safetensors", "verdict": "safe", "findings": [],
    });
    assert_eq!(safe, shape);
    assert_eq!(executable["format"], "pickle");
    let finding = executable["findings"][0].as_object().unwrap();
    let mut members: Vec<_> = finding.keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["detail", "offset", "remedy", "rule", "severity"]);
    // It imports `os`, so it is no estimator. The worst finding is first.
    assert_eq!(
        (&executable["severity"], &finding["severity"]),
        (&json!("critical"), &json!("critical"))
    );
    assert!(finding["remedy"].as_str().unwrap().contains("safetensors"));
    assert!(finding["rule"].as_str().unwrap().starts_with("pickle-"));
    assert!(finding["detail"].as_str().unwrap().contains("os"));
}

#[test]
fn the_text_names_verdicts_evidence_and_totals() {
    let scratch = Scratch::new();
    models(&scratch);
    let ran = scan(&scratch, &["models"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    for expected in [
        "models/a.safetensors: safe (safetensors)\n",
        "models/b/weights.pkl: EXECUTABLE (pickle), critical\n  at 0: pickle-",
        "\n  fix: save tensors as safetensors",
        "models/c: unknown (unknown)\n  at 0: link: ",
        "\n  fix: copy the file in place of the link",
        "7 files: 2 safe, 3 unknown, 1 malformed, 1 executable (1 critical)\n",
    ] {
        assert!(ran.stdout.contains(expected), "{expected}: {}", ran.stdout);
    }
    assert!(ran.stdout.ends_with("(1 critical)\n"), "{}", ran.stdout);
    assert_eq!(ran.stdout.matches("\n  fix: ").count(), 5, "{}", ran.stdout);
}

#[test]
fn the_exit_code_is_that_of_the_worst_file() {
    let scratch = Scratch::new();
    scratch.file("a.safetensors", safetensors());
    scratch.file("b.safetensors", b"PK\x03\x04");
    std::fs::create_dir(scratch.path().join("nothing")).unwrap();
    let cases: [(&[&str], i32); 9] = [
        (&["a.safetensors"], 0),
        (&["a.safetensors", "b.safetensors"], 1),
        (&["a.safetensors", "--max-bytes", "4"], 1),
        (&["missing"], 2),
        (&["nothing"], 2),
        (&["a.safetensors", "--jobs", "0"], 2),
        (&["a.safetensors", "--exceptions", "missing"], 2),
        (&["a.safetensors", "--json", "--sarif", "-"], 2),
        (&[], 2),
    ];
    for (arguments, code) in cases {
        let ran = scan(&scratch, arguments);
        assert_eq!(
            ran.code, code,
            "{arguments:?}: {}{}",
            ran.stdout, ran.stderr
        );
    }
}

#[test]
fn an_exception_accepts_a_file_by_its_digest_until_its_last_day() {
    let scratch = Scratch::new();
    scratch.file("a.pkl", PICKLE);
    let digest = Sha256::digest(PICKLE);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let at = |path: &str, digest: &str, until: &str, more: &str| {
        let file = format!("sha256: \"{digest}\", path: {path}");
        format!("- {{{file}, reason: made by us, until: {until}{more}}}\n")
    };
    let file = |digest: &str, until: &str, more: &str| at("a.pkl", digest, until, more);
    let check = |exceptions: &str, code: i32, expected: &str| {
        scratch.file("exceptions.yaml", exceptions);
        let ran = scan(&scratch, &["a.pkl", "--exceptions", "exceptions.yaml"]);
        let output = format!("{}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.code, code, "{exceptions}: {output}");
        assert!(output.contains(expected), "{exceptions}: {output}");
    };
    let valid = file(&digest, "2999-12-31", "");
    check(&valid, 0, "EXECUTABLE (pickle)");
    check(&valid, 0, "  excepted until 2999-12-31: made by us\n");
    check(&valid, 0, "1 file: 1 executable (1 critical), 1 excepted\n");
    let expired = file(&digest, "2001-12-31", "");
    check(
        &expired,
        1,
        "  exception expired after 2001-12-31: made by us\n",
    );
    check(&file(&"0".repeat(64), "2999-12-31", ""), 1, "EXECUTABLE");
    check(&file(&digest, "2999-12-31", ", rule: x"), 2, "rule");
    check(&file(&digest, "2999-02-30", ""), 2, "[0].until");
    check(&file("abc", "2999-12-31", ""), 2, "[0].sha256");
    // The same content under another name is another file. A list without paths is of old.
    check(&at("b.pkl", &digest, "2999-12-31", ""), 1, "EXECUTABLE");
    check(&at("./a.pkl", &digest, "2999-12-31", ""), 2, "[0].path");
    check(&valid.replace(", path: a.pkl", ""), 2, "[0].path: write");
    check(&format!("{valid}{valid}"), 2, "[1].sha256");
    // The same as JSON.
    let entry = json!([{
        "sha256": digest, "path": "a.pkl", "reason": "made by us", "until": "2999-12-31"
    }]);
    scratch.file("exceptions.json", entry.to_string());
    // The path is that in the model, wherever the model is.
    std::fs::create_dir(scratch.path().join("model")).unwrap();
    scratch.file("model/a.pkl", PICKLE);
    for model in ["a.pkl", "model", "model/a.pkl"] {
        let arguments = [model, "--exceptions", "exceptions.json", "--json"];
        let ran = scan(&scratch, &arguments);
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        let line = &lines(&ran)[0];
        assert_eq!(line["verdict"], "executable");
        assert_eq!(line["excepted"], "made by us");
    }
    scratch.file("model/sitecustomize.pkl", PICKLE);
    let ran = scan(
        &scratch,
        &["model", "--exceptions", "exceptions.json", "--json"],
    );
    assert_eq!(ran.code, 1, "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn sarif_has_a_result_for_each_finding_with_its_level() {
    let scratch = Scratch::new();
    models(&scratch);
    let ran = scan(&scratch, &["models", "--sarif", "-"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let log: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let results = run["results"].as_array().unwrap();
    for (uri, level) in [
        ("models/b/weights.pkl", "error"),
        ("models/c", "warning"),
        ("models/empty.npy", "error"),
    ] {
        let location = |result: &Value| result["locations"][0]["physicalLocation"].clone();
        let mut of_file =
            (results.iter()).filter(|it| location(it)["artifactLocation"]["uri"] == uri);
        let result = of_file.next().unwrap();
        assert_eq!(result["level"], level, "{result}");
        assert!(
            location(result)["region"]["byteOffset"].is_u64(),
            "{result}"
        );
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        let mut of_result = rules.iter().filter(|rule| rule["id"] == result["ruleId"]);
        let rule = of_result.next().unwrap();
        assert!(rule["help"]["text"].is_string(), "{rule}");
        let score = rule["properties"]["security-severity"].as_str().unwrap();
        let is_critical = result["properties"]["severity"] == "critical";
        assert_eq!(score.parse::<f32>().unwrap() > 9.0, is_critical, "{rule}");
    }
    // A safe file has no result.
    assert!(!ran.stdout.contains("a.safetensors"), "{}", ran.stdout);
    // In a file, beside the text.
    let ran = scan(&scratch, &["models", "--sarif", "log.sarif"]);
    assert!(ran.stdout.contains("EXECUTABLE"), "{}", ran.stdout);
    let written = std::fs::read(scratch.path().join("log.sarif")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), log);
}

/// A pickle of an estimator, whose class is imported.
const ESTIMATOR: &[u8] = b"csklearn.linear_model\nRidge\n)R.";

#[test]
fn gits_own_files_and_named_paths_are_left_out_and_listed() {
    let scratch = Scratch::new();
    scratch.file("a.safetensors", safetensors());
    let files: [(&str, &[u8]); 5] = [
        // A fresh clone, in which git's own hooks are scripts.
        (".git/hooks/pre-commit.sample", b"#!/bin/sh\n"),
        (".gitattributes", b"*.bin filter=lfs\n"),
        ("logs/run/weights.pkl", PICKLE),
        ("logs/run/notes", b"\x00"),
        ("sub/.git/hook", b"#!/bin/sh\n"),
    ];
    for (path, content) in files {
        let path = scratch.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    // As `sign` has it: git's own files are those at the top.
    let ran = scan(&scratch, &[".", "--ignore-path", "logs/"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(
        ran.stdout
            .contains("./sub/.git/hook: EXECUTABLE (script), high"),
        "{}",
        ran.stdout
    );
    let ran = scan(
        &scratch,
        &[".", "--ignore-path", "logs/", "--ignore-path", "sub/.git"],
    );
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let expected = "./a.safetensors: safe (safetensors)\n\
        ignored: ./.git/ (git's own), ./.gitattributes (git's own), ./logs/, ./sub/.git/\n\
        1 file: 1 safe\n";
    assert_eq!(ran.stdout, expected);
    assert!(
        ran.stderr.contains("./logs/run/weights.pkl is not scanned"),
        "{}",
        ran.stderr
    );
    let arguments = [
        ".",
        "--ignore-path",
        "logs",
        "--ignore-path",
        "sub",
        "--json",
    ];
    let lines = lines(&scan(&scratch, &arguments));
    let last = json!({
        "path": "./a.safetensors", "format": "safetensors", "verdict": "safe", "findings": [],
        "ignored": ["./.git/", "./.gitattributes", "./logs/", "./sub/"],
        "ignored_models": ["./logs/run/weights.pkl"],
    });
    assert_eq!(lines, [last]);
    let ran = scan(
        &scratch,
        &[
            ".",
            "--ignore-path",
            "logs",
            "--ignore-path",
            "sub",
            "--sarif",
            "-",
        ],
    );
    let log: Value = serde_json::from_str(&ran.stdout).unwrap();
    let notes = &log["runs"][0]["invocations"][0]["toolExecutionNotifications"];
    assert_eq!(notes.as_array().unwrap().len(), 5, "{notes}");
    // What is named itself is scanned, and a path that leads out of the folder is a fault.
    assert_eq!(scan(&scratch, &[".git"]).code, 1);
    assert_eq!(scan(&scratch, &[".gitattributes"]).code, 0);
    for path in ["../x", "/x", "*.pkl", ""] {
        assert_eq!(
            scan(&scratch, &[".", "--ignore-path", path]).code,
            2,
            "{path}"
        );
    }
}

#[test]
fn a_draft_of_exceptions_accepts_nothing_until_it_is_edited() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path().join("models")).unwrap();
    // The name would add an entry if it were written as it is.
    let name = format!(
        "models/a\n- sha256: {}\n  reason: x\n  until: 2999-12-31.pkl",
        "0".repeat(64)
    );
    scratch.file(&name, ESTIMATOR);
    scratch.file("models/attack.pkl", PICKLE);
    scratch.file("models/b.safetensors", safetensors());
    let draft = ["models", "--write-exceptions", "draft.yaml"];
    let ran = scan(&scratch, &draft);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let summary = "draft.yaml: exceptions to review: 1, in comments alone: 1\n";
    assert!(ran.stderr.contains(summary), "{}", ran.stderr);
    let file = scratch.path().join("draft.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.matches("\n- sha256: ").count(), 1, "{text}");
    assert!(
        text.contains("executable, high\n#   at 0: pickle-global: "),
        "{text}"
    );
    assert!(
        text.contains("# models/attack.pkl: executable, critical\n"),
        "{text}"
    );
    // It is never overwritten.
    assert_eq!(scan(&scratch, &draft).code, 2);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let excepted = ["models", "--exceptions", "draft.yaml"];
    let ran = scan(&scratch, &excepted);
    assert_eq!(ran.code, 2, "{}", ran.stdout);
    assert!(ran.stderr.contains("[0].reason"), "{}", ran.stderr);
    let edited = text.replace("reason: \"\"", "reason: ours, loaded in a sandbox");
    scratch.file("draft.yaml", edited);
    let ran = scan(&scratch, &excepted);
    assert_eq!(ran.code, 1, "{}{}", ran.stdout, ran.stderr);
    let totals = "3 files: 1 safe, 2 executable (1 critical), 1 excepted\n";
    assert!(ran.stdout.ends_with(totals), "{}", ran.stdout);
    // Without a refused file there is no draft.
    let ran = scan(
        &scratch,
        &["models/b.safetensors", "--write-exceptions", "none.yaml"],
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(!scratch.path().join("none.yaml").exists());
}

#[test]
fn a_name_in_output_cannot_steer_a_terminal() {
    let scratch = Scratch::new();
    scratch.file("a\u{1b}[2J.pkl", PICKLE);
    let ran = scan(&scratch, &["."]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(!ran.stdout.contains('\u{1b}'), "{:?}", ran.stdout);
    assert!(
        ran.stdout.contains("./a\u{fffd}[2J.pkl: EXECUTABLE"),
        "{:?}",
        ran.stdout
    );
}

#[test]
fn a_scanner_process_serves_no_one_who_starts_it() {
    // Its standard input is no socket here, so it ends without a word.
    let ran = run_in(Path::new("."), &["model-scanner"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
}

/// What the descriptors of a process lead to. Nothing if it has ended.
fn descriptors(process: &str) -> Vec<PathBuf> {
    let open = std::fs::read_dir(format!("/proc/{process}/fd"));
    let open = open.into_iter().flatten().flatten();
    open.filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok())
        .collect()
}

/// The scanner process of a command.
fn scanner_of(command: u32) -> Option<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut names = processes.filter_map(|process| process.file_name().into_string().ok());
    let parent = format!("PPid:\t{command}\n");
    names.find(|process| {
        let read = |file: &str| {
            let path = format!("/proc/{process}/{file}");
            std::fs::read_to_string(path).unwrap_or_default()
        };
        read("status").contains(&parent) && read("cmdline").contains("model-scanner")
    })
}

#[test]
fn a_scanner_process_has_no_descriptor_of_whoever_started_the_command() {
    let scratch = Scratch::new();
    scratch.file("secret", "");
    let secret = scratch.path().join("secret").canonicalize().unwrap();
    // More results than a pipe takes: the command waits, and its scanner process with it.
    let folder = scratch.path().join("models");
    std::fs::create_dir(&folder).unwrap();
    for file in 0..800 {
        let name = format!("{}{file}", "a".repeat(200));
        std::fs::write(folder.join(name), "").unwrap();
    }
    // Programs that this process starts have it, too.
    let _inherited = rustix::fs::open(&secret, OFlags::RDONLY, Mode::empty()).unwrap();
    let mut command = Command::new(binary())
        .args(["scan", "models", "--json", "--jobs", "1"])
        .current_dir(scratch.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(command.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert!(line.contains("empty"), "{line}");
    assert!(descriptors(&command.id().to_string()).contains(&secret));
    let began = Instant::now();
    let open = loop {
        // A process may be replaced by the next one at any time.
        let open = scanner_of(command.id()).map_or_else(Vec::new, |it| descriptors(&it));
        if !open.is_empty() || began.elapsed() > Duration::from_secs(30) {
            break open;
        }
    };
    command.kill().unwrap();
    command.wait().unwrap();
    assert!(!open.is_empty());
    assert!(!open.contains(&secret), "{open:?}");
}
