//! What a language's runtime has of WASI: the time, random numbers of the request, and output. A
//! component of each language is built and run.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tensorgate_base::payload::Payload;
use tensorgate_cli_common::user_folders;
use tensorgate_sandbox::{CompilerConfig, LoadedHandler, Sandbox, SandboxConfig};
use tokio::runtime::Runtime;

use super::hostile::{load_with, try_load_with};
use super::{Project, limits_of, lines, story};

/// Writes output. Fails if the clock stands at the time of the build or before it, and answers with
/// random numbers.
const PYTHON: &str = r#"import datetime, logging, random, struct, sys, time, uuid
from tensorgate import Tensor

built = time.time()
logging.basicConfig(level=logging.INFO)


def preprocess(input):
    print("printed")
    print("an error", file=sys.stderr)
    logging.info("logged")
    if time.time() <= built or datetime.datetime.now().timestamp() <= built:
        raise ValueError("the clock stands still")
    numbers = (random.random(), uuid.uuid4().int / 2**128)
    return [Tensor("random", "FP64", (2,), struct.pack("<2d", *numbers))]
"#;

/// The same. `performance` counts milliseconds, which do not advance either.
const JS: &str = r#"import { Tensor } from "./tensorgate.js";

const { random } = Math;
const built = Date.now();

export function preprocess() {
  console.log("printed", { count: 1 });
  console.warn("a warning");
  if (performance.now() !== performance.now()) throw new Error("the clock advances");
  if (Date.now() <= built) throw new Error("the clock stands still");
  const numbers = Float64Array.of(random(), Math.random());
  return [new Tensor("random", "FP64", [2], new Uint8Array(numbers.buffer))];
}
"#;

/// Panics with a body. Fails without a clock, and with a file, an environment or a thread. The
/// order of a hash map's keys is random.
const RUST: &str = r#"use std::collections::HashMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tensorgate_handler::ndarray::Array1;
use tensorgate_handler::{Error, Payload, Preprocess, Tensor, export_preprocess};

/// A time of 2023.
const PAST_SECONDS: u64 = 1_700_000_000;

struct Handler;

impl Preprocess for Handler {
    fn preprocess(input: Payload) -> Result<Vec<Tensor>, Error> {
        if let Payload::Raw(_) = input {
            panic!("a body");
        }
        println!("printed");
        eprintln!("an error");
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        if now.map_or(0, |now| now.as_secs()) < PAST_SECONDS {
            return Err(Error::fault("no clock"));
        }
        let _ = Instant::now().elapsed();
        let is_alone = std::fs::read("/etc/passwd").is_err()
            && std::fs::write("file", "text").is_err()
            && std::env::vars().next().is_none()
            && std::thread::Builder::new().spawn(|| {}).is_err();
        if !is_alone {
            return Err(Error::fault("a file, the environment or a thread"));
        }
        let numbers: HashMap<i64, ()> = (0..64).map(|number| (number, ())).collect();
        let order: Vec<i64> = numbers.into_keys().collect();
        Ok(vec![Tensor::from_array("random", Array1::from(order))?])
    }
}

export_preprocess!(Handler);
"#;

/// The answer to a request with this ID.
fn answer(runtime: &Runtime, handler: &LoadedHandler, request: &str) -> String {
    let called = runtime.block_on(handler.preprocess(request, Payload::Tensors(vec![])));
    match called {
        Ok(called) => format!("{:?}", called.tensors),
        Err(error) => panic!("{error:?}"),
    }
}

/// Limits that no call here reaches.
const LIMITS: &str = "limits: {fuel: 500000000, memory_bytes: 256MiB, timeout_ms: 10000}";

/// Checks the levels and texts of the lines that `test` shows for a case. The case fails, because
/// the answer is random.
fn shows(project: &Project, expected: &[(&str, &str)]) {
    project.edit("handler.yaml", &limits_of(project.folder()), LIMITS);
    let case = json!({"input": {"tensors": []}, "expect": {"tensors": []}});
    project.write("cases/output.json", &case.to_string());
    let ran = project.verb("test", &["--only", "output"]);
    assert_eq!(ran.code, 1, "{}", story(&ran));
    let result = lines(&ran).remove(0);
    let log = result["log"].as_array().unwrap();
    let text = |line: &Value, field: &str| line[field].as_str().unwrap().to_owned();
    let found = log
        .iter()
        .map(|line| (text(line, "level"), text(line, "message")));
    let expected = expected
        .iter()
        .map(|(level, text)| ((*level).to_owned(), (*text).to_owned()));
    assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

/// Checks that a panic in [`RUST`] is reported with its line.
fn names_the_line_of_its_panic(runtime: &Runtime, handler: &LoadedHandler) {
    let body = Payload::Raw {
        content_type: "text/plain".to_owned(),
        data: Vec::<u8>::new().into(),
    };
    let called = runtime.block_on(handler.preprocess("a", body));
    let fault = format!("{:?}", called.map(|_| ()).unwrap_err());
    let before = RUST.lines().take_while(|line| !line.contains("panic!"));
    let panic = format!("panicked at src/lib.rs:{}:", before.count() + 1);
    assert!(fault.contains(&panic), "{panic} {fault}");
}

/// A sandbox with the user's code and runtimes.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new(SandboxConfig {
        // `test` below compiles nothing again.
        compiler: CompilerConfig {
            folder: user_folders::compiled_code(),
            runtimes: user_folders::runtimes().into_iter().collect(),
            ..CompilerConfig::default()
        },
        // A busy machine may have no core for a call at once.
        queue_wait_ms: 60_000,
        ..SandboxConfig::default()
    });
    sandbox.unwrap()
}

fn rule(memory_bytes: usize) -> Value {
    json!({"fuel": 500_000_000, "memory_bytes": memory_bytes, "timeout_ms": 60_000})
}

#[test]
fn handlers_in_python_share_code_and_no_call_sees_another() {
    let source = |text: &str| {
        format!(
            "import numpy as np\nfrom tensorgate import Tensor\nCOUNT = np.zeros(1 << 20, np.int64)\n\ndef preprocess(input):\n    COUNT[:] += 1\n    return [Tensor.of_items(\"{text}\", [str(COUNT.sum())])]\n"
        )
    };
    let [one, two] = ["one", "two"].map(|name| {
        let project = Project::unbuilt(name, "python", "preprocess");
        project.write("handler.py", &source(name));
        project.compiled()
    });
    let sandbox = sandbox();
    let refused = try_load_with(&sandbox, &one, rule(32 << 20)).map(|_| ());
    let refused = format!("{:?}", refused.unwrap_err());
    assert!(refused.contains("raise it to more than"), "{refused}");
    let [one, two] = [one, two].map(|component| load_with(&sandbox, &component, rule(256 << 20)));
    let [of_one, of_two] =
        [&one, &two].map(|handler| handler.code_bytes().collect::<BTreeMap<_, _>>());
    let shared: Vec<_> = of_one
        .keys()
        .filter(|code| of_two.contains_key(*code))
        .collect();
    assert_eq!((of_one.len(), of_two.len(), shared.len()), (2, 2, 1));
    assert!(of_one[shared[0]] > 200 << 20, "{of_one:?}");
    // From the fifth call on, the pages are mapped that all calls write.
    let runtime = Runtime::new().unwrap();
    let first = answer(&runtime, &one, "a");
    for _ in 0..8 {
        assert_eq!(answer(&runtime, &one, "a"), first);
    }
}

#[test]
fn a_call_has_output_and_the_time_and_random_numbers_of_its_request() {
    let sandbox = sandbox();
    let runtime = Runtime::new().unwrap();
    let printed = ("info", "printed");
    let error = ("warn", "an error");
    let logged = ("info", "INFO:root:logged");
    let object = ("info", r#"printed {"count":1}"#);
    let warning = ("warn", "a warning");
    for (name, lang, file, source, output) in [
        (
            "time-py",
            "python",
            "handler.py",
            PYTHON,
            &[printed, error, logged][..],
        ),
        ("time-js", "js", "handler.js", JS, &[object, warning]),
        ("time-rs", "rust", "src/lib.rs", RUST, &[printed, error]),
    ] {
        let project = Project::unbuilt(name, lang, "preprocess");
        project.write(file, source);
        let component = project.compiled();
        let handler = load_with(&sandbox, &component, rule(256 << 20));
        let [first, again, other] = ["a", "a", "b"].map(|id| answer(&runtime, &handler, id));
        assert_eq!(first, again, "{lang}");
        assert_ne!(first, other, "{lang}");
        shows(&project, output);
        if lang == "rust" {
            names_the_line_of_its_panic(&runtime, &handler);
        }
    }
}
