//! What a language's runtime has of WASI: the time, random numbers of the request, and output. A
//! component of each language is built and run.

use serde_json::{Value, json};
use tensorgate_base::payload::Payload;
use tensorgate_cli_common::user_folders;
use tensorgate_sandbox::{CompilerConfig, LoadedHandler, Sandbox, SandboxConfig};
use tokio::runtime::Runtime;
use wasmtime::component::{Component, Linker, Resource, ResourceType};
use wasmtime::{Engine, Store, Trap};

use super::hostile::load;
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
const LIMITS: &str = "limits: {fuel: 500000000, memory_bytes: 64MiB, timeout_ms: 10000}";

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

#[test]
fn a_call_has_output_and_the_time_and_random_numbers_of_its_request() {
    let sandbox = Sandbox::new(SandboxConfig {
        // `test` below compiles nothing again.
        compiler: CompilerConfig {
            folder: user_folders::compiled_code(),
            ..CompilerConfig::default()
        },
        // A busy machine may have no core for a call at once.
        queue_wait_ms: 60_000,
        ..SandboxConfig::default()
    });
    let sandbox = sandbox.unwrap();
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
        let handler = load(&sandbox, &component, "");
        let [first, again, other] = ["a", "a", "b"].map(|id| answer(&runtime, &handler, id));
        assert_eq!(first, again, "{lang}");
        assert_ne!(first, other, "{lang}");
        shows(&project, output);
        if lang == "rust" {
            names_the_line_of_its_panic(&runtime, &handler);
        }
    }
}

/// A component that imports sockets between other interfaces. Its function needs a socket for 1
/// and 2, and calls an interface that stays.
const SOCKETS: &str = r#"(component
  (type $poll (instance (export "pollable" (type (sub resource)))))
  (import "wasi:io/poll@0.2.9" (instance $poll (type $poll)))
  (type $network (instance (export "network" (type (sub resource)))))
  (import "wasi:sockets/network@0.2.9" (instance $network (type $network)))
  (alias export $network "network" (type $socket))
  (alias export $poll "pollable" (type $pollable))
  (type $tcp (instance
    (alias outer 1 $socket (type $outer))
    (export "network" (type $named (eq $outer)))
    (type $borrowed (borrow $named))
    (export "connect" (func (param "network" $borrowed) (result u32)))))
  (import "wasi:sockets/tcp@0.2.9" (instance $tcp (type $tcp)))
  (type $clock (instance
    (alias outer 1 $pollable (type $outer))
    (export "pollable" (type $named (eq $outer)))
    (type $owned (own $named))
    (export "subscribe" (func (result $owned)))
    (export "double" (func (param "value" u32) (result u32)))))
  (import "wasi:clocks/monotonic-clock@0.2.9" (instance $clock (type $clock)))
  (alias export $tcp "connect" (func $connect))
  (core func $connect (canon lower (func $connect)))
  (alias export $clock "double" (func $double))
  (core func $double (canon lower (func $double)))
  (core func $drop_socket (canon resource.drop $socket))
  (core func $drop_pollable (canon resource.drop $pollable))
  (core module $main
    (import "host" "connect" (func $connect (param i32) (result i32)))
    (import "host" "double" (func $double (param i32) (result i32)))
    (import "host" "drop-socket" (func $drop_socket (param i32)))
    (import "host" "drop-pollable" (func $drop_pollable (param i32)))
    (func (export "run") (param i32) (result i32)
      (if (i32.eq (local.get 0) (i32.const 1)) (then (drop (call $connect (i32.const 0)))))
      (if (i32.eq (local.get 0) (i32.const 2)) (then (call $drop_socket (i32.const 0))))
      (call $double (local.get 0))))
  (core instance $main (instantiate $main (with "host" (instance
    (export "connect" (func $connect)) (export "double" (func $double))
    (export "drop-socket" (func $drop_socket)) (export "drop-pollable" (func $drop_pollable))))))
  (func $run (param "value" u32) (result u32) (canon lift (core func $main "run")))
  (export "run" (func $run)))"#;

/// CPython's C library imports sockets, and a host refuses them.
#[test]
fn imports_of_sockets_become_functions_that_trap() {
    let component = wat::parse_str(SOCKETS).unwrap();
    let made = tensorgate_componentize::without(&component, "wasi:sockets/").unwrap();
    let surface = tensorgate_componentize::surface(&made).unwrap();
    let left = ["wasi:io/poll@0.2.9", "wasi:clocks/monotonic-clock@0.2.9"];
    assert_eq!(surface.imports, left);
    assert_eq!(surface.exports, ["run"]);
    // What has none is unchanged.
    let again = tensorgate_componentize::without(&made, "wasi:sockets/").unwrap();
    assert_eq!(again, made);

    let engine = Engine::default();
    let mut linker = Linker::<()>::new(&engine);
    let pollable = ResourceType::host::<()>();
    let mut poll = linker.instance(left[0]).unwrap();
    poll.resource("pollable", pollable, |_, _| Ok(())).unwrap();
    let mut clock = linker.instance(left[1]).unwrap();
    clock.resource("pollable", pollable, |_, _| Ok(())).unwrap();
    clock
        .func_wrap("subscribe", |_, ()| Ok((Resource::<()>::new_own(0),)))
        .unwrap();
    clock
        .func_wrap("double", |_, (value,): (u32,)| Ok((value.wrapping_mul(2),)))
        .unwrap();
    let component = Component::new(&engine, &made).unwrap();
    let outcomes = [1, 2, 3].map(|value: u32| {
        let mut store = Store::new(&engine, ());
        let instance = linker.instantiate(&mut store, &component).unwrap();
        let run = instance.get_typed_func::<(u32,), (u32,)>(&mut store, "run");
        let outcome = run.unwrap().call(&mut store, (value,));
        outcome.map_err(|error| *error.downcast_ref::<Trap>().unwrap())
    });
    let [connect, drop_socket, double] = outcomes;
    assert_eq!(connect.unwrap_err(), Trap::UnreachableCodeReached);
    assert_eq!(drop_socket.unwrap_err(), Trap::UnreachableCodeReached);
    assert_eq!(double.unwrap(), (6,));
}
