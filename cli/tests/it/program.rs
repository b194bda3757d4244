//! Running `tensorgate`, and where its files are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Value, json};
pub use tensorgate_client::run::{Ran, Scratch, free_port, tree};
use tensorgate_policy::{Compiled, FilterConfiguration};

pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tensorgate"))
}

/// The demo's policy.
pub fn digits() -> PathBuf {
    tree().join("examples/policies/digits/gate.yaml")
}

/// Runs `explain` on one message, with further arguments.
pub fn explain_file(policy: &Path, message: &Path, more: &[&str]) -> Ran {
    let mut arguments: Vec<&OsStr> = vec![
        "explain".as_ref(),
        "-c".as_ref(),
        policy.as_os_str(),
        "--http".as_ref(),
        message.as_os_str(),
    ];
    arguments.extend(more.iter().map(OsStr::new));
    run(&arguments)
}

/// What `explain` says about one message as JSON, and its exit code.
pub fn explain_json(policy: &Path, message: &Path, more: &[&str]) -> (i32, Value) {
    let ran = explain_file(policy, message, &[more, &["--json"]].concat());
    let line = serde_json::from_str(&ran.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", ran.stdout, ran.stderr));
    (ran.code, line)
}

/// A key of the demo's policy.
pub fn key(client: &str) -> String {
    let file = tree().join(format!("examples/policies/digits/keys/{client}.key"));
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

/// The folder of gate.wasm, which `make filters` builds.
pub fn filters() -> PathBuf {
    let folder = std::env::var_os("TENSORGATE_FILTERS").map_or_else(
        || binary().parent().unwrap().parent().unwrap().join("filters"),
        PathBuf::from,
    );
    assert!(
        folder.join("gate.wasm").is_file(),
        "no gate.wasm in {}: run `make filters`",
        folder.display()
    );
    folder
}

/// A module that accepts every configuration and lets every request through.
const MODULE: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "malloc") (param i32) (result i32) i32.const 0)
    (func (export "proxy_on_context_create") (param i32 i32))
    (func (export "proxy_on_vm_start") (param i32 i32) (result i32) i32.const 1)
    (func (export "proxy_on_configure") (param i32 i32) (result i32) i32.const 1))"#;

/// A folder with a small gate.wasm. For tests of processes and configurations, which need an Envoy
/// that loads some module: Envoy takes seconds to compile the real one.
pub fn small_filters() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("small-filters");
        std::fs::create_dir_all(&folder).unwrap();
        let module = wat::parse_str(MODULE).unwrap();
        // Another run of these tests may read the file.
        let new = folder.join(format!("{}.new", std::process::id()));
        std::fs::write(&new, module).unwrap();
        std::fs::rename(new, folder.join("gate.wasm")).unwrap();
        folder
    });
    &FOLDER
}

pub fn run<I: AsRef<OsStr>>(arguments: &[I]) -> Ran {
    run_in(Path::new("."), arguments)
}

/// The same in a folder.
pub fn run_in<I: AsRef<OsStr>>(folder: &Path, arguments: &[I]) -> Ran {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(folder);
    Ran::from_command(command.env("NO_COLOR", "1"))
}

/// The same with text on standard input.
pub fn run_with<I: AsRef<OsStr>>(arguments: &[I], input: &str) -> Ran {
    use std::io::Write as _;
    let mut child = Command::new(binary())
        .args(arguments)
        .env("NO_COLOR", "1")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not read its input may have ended by now.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap().into()
}

/// Renders a policy below a folder; the run, and the host's policy if there is one.
pub fn rendered(scratch: &Scratch, policy: &Path) -> (Ran, Option<Compiled>) {
    let folder = scratch.path().join("out");
    let ran = run(&[
        "render".as_ref(),
        "-c".as_ref(),
        policy.as_os_str(),
        "envoy".as_ref(),
        "-o".as_ref(),
        folder.as_os_str(),
    ]);
    let there = folder.join("bundle.bin");
    (ran, there.is_file().then(|| host_policy(&there)))
}

/// The host's policy in a file.
pub fn host_policy(file: &Path) -> Compiled {
    Compiled::load(&std::fs::read(file).unwrap()).unwrap()
}

/// The host's policy in an object of a cluster.
pub fn host_policy_in(config_map: &Value) -> Compiled {
    let encoded = config_map["binaryData"]["bundle.bin"].as_str().unwrap();
    Compiled::load(&STANDARD.decode(encoded).unwrap()).unwrap()
}

/// The documents of a YAML stream, as a reader of another program sees them. A plain scalar is a
/// number, a boolean or null if JSON has it.
pub fn yaml_documents(text: &str) -> Vec<Value> {
    let mut documents = Vec::new();
    let mut open: Vec<(Value, Option<String>)> = Vec::new();
    for event in Parser::new_from_str(text) {
        let value = match event.unwrap().0 {
            Event::SequenceStart(..) => {
                open.push((json!([]), None));
                continue;
            }
            Event::MappingStart(..) => {
                open.push((json!({}), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop().unwrap().0,
            Event::Scalar(text, style, ..) => {
                if let Some((Value::Object(_), key @ None)) = open.last_mut() {
                    *key = Some(text.into_owned());
                    continue;
                }
                let plain = (style == ScalarStyle::Plain).then(|| serde_json::from_str(&text));
                plain.and_then(Result::ok).unwrap_or_else(|| json!(text))
            }
            // An alias would be a text that changed its meaning.
            Event::Alias(..) => panic!("an alias in {text}"),
            _ => continue,
        };
        match open.last_mut() {
            Some((Value::Object(map), key)) => {
                let replaced = map.insert(key.take().unwrap(), value);
                assert_eq!(replaced, None, "a key twice in {text}");
            }
            Some((Value::Array(items), _)) => items.push(value),
            _ => documents.push(value),
        }
    }
    documents
}

/// The compiled policy in a filter's configuration.
pub fn compiled(configuration: &str) -> Compiled {
    let encoded: FilterConfiguration<'_> = serde_json::from_str(configuration).unwrap();
    Compiled::load(&encoded.decode().unwrap()).unwrap()
}

/// The compiled policy in a rendered file with one filter.
pub fn compiled_in(rendered: &str) -> Compiled {
    let (_, after) = rendered.split_once("bundle").unwrap();
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    let text = after.trim_start_matches(|c| !is_base64(c));
    let end = text.find(|c| !is_base64(c)).unwrap();
    compiled(&json!({"bundle": text[..end]}).to_string())
}
