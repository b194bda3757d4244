//! Guests that use WASI, as ordinary toolchains build them: what they print reaches the log, and
//! what they want more of is denied or ended by its own bound.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

use serde_json::Value;
use tensorgate_sandbox::{CallCapture, CallContext, CapturedCall, FinishedCall, WasiInputs};

use super::*;
use crate::support::folder;

/// The parts of WASI that these guests import.
const WASI: &str = "
package wasi:io@0.2.0 {
    interface error { resource error; }
    interface poll {
        resource pollable { ready: func() -> bool; block: func(); }
        poll: func(in: list<borrow<pollable>>) -> list<u32>;
    }
    interface streams {
        use error.{error};
        use poll.{pollable};
        variant stream-error { last-operation-failed(error), closed }
        resource output-stream {
            blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
            subscribe: func() -> pollable;
            write-zeroes: func(len: u64) -> result<_, stream-error>;
        }
    }
}
package wasi:cli@0.2.0 {
    interface environment { get-environment: func() -> list<tuple<string, string>>; }
    interface exit { exit: func(status: result); }
    interface stdout {
        use wasi:io/streams@0.2.0.{output-stream};
        get-stdout: func() -> output-stream;
    }
    interface stderr {
        use wasi:io/streams@0.2.0.{output-stream};
        get-stderr: func() -> output-stream;
    }
}
package wasi:clocks@0.2.0 {
    interface monotonic-clock {
        use wasi:io/poll@0.2.0.{pollable};
        now: func() -> u64;
        subscribe-duration: func(when: u64) -> pollable;
    }
    interface wall-clock {
        record datetime { seconds: u64, nanoseconds: u32 }
        now: func() -> datetime;
    }
}
package wasi:random@0.2.0 {
    interface random {
        get-random-bytes: func(len: u64) -> list<u8>;
        get-random-u64: func() -> u64;
    }
}
package wasi:filesystem@0.2.0 {
    interface types {
        resource descriptor { is-same-object: func(other: borrow<descriptor>) -> bool; }
    }
    interface preopens {
        use types.{descriptor};
        get-directories: func() -> list<tuple<descriptor, string>>;
    }
}
";

/// The world's imports of WASI.
const INTERFACES: &str = "
    import wasi:io/poll@0.2.0;
    import wasi:io/streams@0.2.0;
    import wasi:cli/environment@0.2.0;
    import wasi:cli/exit@0.2.0;
    import wasi:cli/stdout@0.2.0;
    import wasi:cli/stderr@0.2.0;
    import wasi:clocks/monotonic-clock@0.2.0;
    import wasi:clocks/wall-clock@0.2.0;
    import wasi:random/random@0.2.0;
    import wasi:filesystem/types@0.2.0;
    import wasi:filesystem/preopens@0.2.0;
";

/// The functions of WASI in the core module, a function that exits below many frames, and texts.
const FUNCTIONS: &str = r#"
    (import "wasi:io/poll@0.2.0" "poll" (func $poll (param i32 i32 i32)))
    (import "wasi:io/poll@0.2.0" "[method]pollable.ready" (func $ready (param i32) (result i32)))
    (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
    (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush" (func $write (param i32 i32 i32 i32)))
    (import "wasi:io/streams@0.2.0" "[method]output-stream.subscribe" (func $writable (param i32) (result i32)))
    (import "wasi:io/streams@0.2.0" "[method]output-stream.write-zeroes" (func $zeroes (param i32 i64 i32)))
    (import "wasi:io/streams@0.2.0" "[resource-drop]output-stream" (func $close (param i32)))
    (import "wasi:cli/environment@0.2.0" "get-environment" (func $environment (param i32)))
    (import "wasi:cli/exit@0.2.0" "exit" (func $exit (param i32)))
    (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
    (import "wasi:cli/stderr@0.2.0" "get-stderr" (func $stderr (result i32)))
    (import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $monotonic (result i64)))
    (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $after (param i64) (result i32)))
    (import "wasi:clocks/wall-clock@0.2.0" "now" (func $wall (param i32)))
    (import "wasi:random/random@0.2.0" "get-random-bytes" (func $random (param i64 i32)))
    (import "wasi:random/random@0.2.0" "get-random-u64" (func $number (result i64)))
    (import "wasi:filesystem/types@0.2.0" "[method]descriptor.is-same-object" (func $same (param i32 i32) (result i32)))
    (import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $folders (param i32)))
    (data (i32.const 256) "hello\0aworld\ff\fe\0aboom\0a")
    (func $deep (param $n i32)
        (if (i32.eqz (local.get $n)) (then (call $exit (i32.const 0))))
        (call $deep (i32.sub (local.get $n) (i32.const 1))))
"#;

/// A guest around a body, which may call all of [`FUNCTIONS`].
fn guest(body: &str) -> Vec<u8> {
    let own = include_str!("../../../../wit/0.1/handler.wit");
    let world = "world preprocess {";
    let wit = own.replace(world, &format!("{world}{INTERFACES}"));
    preprocess_with_imports(body, FUNCTIONS, &format!("{wit}{WASI}"))
}

/// Answers with no tensors.
const DONE: &str = "(call $ok (i32.const 2048) (i32.const 0))";

/// Answers with the eight bytes at 512 as a number.
const NUMBER: &str = "(call $tensor (i32.const 2048) (i32.const 4) (i32.const 512) (i32.const 8)) (call $ok (i32.const 2048) (i32.const 1))";

/// A year in nanoseconds.
const YEAR: &str = "(i64.const 31536000000000000)";

/// The longest time that a call may take, because it may run at low priority on a busy machine.
fn patient() -> Budget {
    Budget {
        timeout_ms: 60_000,
        ..BUDGET
    }
}

pub fn number(outcome: Result<HandlerOutput, HandlerError>) -> u64 {
    let output = outcome.unwrap();
    let data = output.tensors[0].data.as_ref().unwrap();
    u64::from_le_bytes(data[..].try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_use_of_wasi_is_ended_by_its_own_bound() {
    use FaultCause::{Fuel, Trap};
    let starved = Budget {
        fuel: 500_000,
        ..patient()
    };
    let small = Budget {
        memory_bytes: 256 << 10,
        ..patient()
    };
    let forever = |body: &str| format!("(loop $l {body} (br $l)) (unreachable)");
    for (name, body, budget, cause, text) in [
        (
            "a poll of more than the guest's memory",
            format!("(call $poll (i32.const 0) (i32.const 32768) (i32.const 520)) {DONE}"),
            small,
            Trap,
            "too much data",
        ),
        (
            "random numbers for ever",
            forever("(drop (call $number))"),
            starved,
            Fuel,
            "fuel",
        ),
        (
            "more random bytes than a host has",
            format!("(call $random (i64.const -1) (i32.const 512)) {DONE}"),
            patient(),
            Trap,
            "65536 bytes",
        ),
        (
            "a poll for ever",
            format!(
                "(i32.store (i32.const 512) (call $after (i64.const 0))) {}",
                forever("(call $poll (i32.const 512) (i32.const 1) (i32.const 520))")
            ),
            starved,
            Fuel,
            "fuel",
        ),
        (
            "a timer that is asked for ever",
            format!(
                "(local.set $i (call $after {YEAR})) {}",
                forever("(drop (call $ready (local.get $i)))")
            ),
            starved,
            Fuel,
            "fuel",
        ),
        (
            "a sleep of a year",
            format!("(call $block (call $after {YEAR})) {DONE}"),
            patient(),
            Trap,
            "cannot sleep",
        ),
        (
            "a poll for a year",
            format!(
                "(i32.store (i32.const 512) (call $after {YEAR})) (call $poll (i32.const 512) (i32.const 1) (i32.const 520)) {DONE}"
            ),
            patient(),
            Trap,
            "cannot sleep",
        ),
        (
            "a poll for nothing",
            format!("(call $poll (i32.const 512) (i32.const 0) (i32.const 520)) {DONE}"),
            patient(),
            Trap,
            "cannot sleep",
        ),
        (
            "zeroes without end",
            format!("(call $zeroes (call $stdout) (i64.const -1) (i32.const 512)) {DONE}"),
            patient(),
            Trap,
            "65536 bytes",
        ),
        (
            "pollables for ever",
            forever("(drop (call $after (i64.const 1)))"),
            patient(),
            Trap,
            "",
        ),
        (
            "a stream that is closed twice",
            format!(
                "(call $close (local.tee $i (call $stdout))) (call $close (local.get $i)) {DONE}"
            ),
            patient(),
            Trap,
            "unknown handle",
        ),
        (
            "a file that was never opened",
            format!("(drop (call $same (i32.const 1) (i32.const 1))) {DONE}"),
            patient(),
            Trap,
            "unknown handle",
        ),
        (
            "exit",
            format!("(call $exit (i32.const 0)) {DONE}"),
            patient(),
            Trap,
            "called exit",
        ),
        (
            "exit below many frames",
            format!("(call $deep (i32.const 100)) {DONE}"),
            patient(),
            Trap,
            "called exit",
        ),
    ] {
        check(name, &guest(&body), budget, cause, text).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_finds_no_variable_and_no_folder() {
    for list in ["$environment", "$folders"] {
        let body = format!(
            "(call {list} (i32.const 512)) (if (i32.load (i32.const 516)) (then (unreachable))) {DONE}"
        );
        let outcome = call(&guest(&body), patient(), &[], tensors()).await;
        assert!(outcome.is_ok(), "{list}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_clocks_show_the_time_of_the_request() {
    let body = format!(
        "(call $wall (i32.const 512)) (local.set $i (i32.const 100000))
        (loop $l (local.set $i (i32.sub (local.get $i) (i32.const 1))) (br_if $l (local.get $i)))
        (call $wall (i32.const 544))
        (if (i64.ne (i64.load (i32.const 512)) (i64.load (i32.const 544))) (then (unreachable)))
        (if (i32.ne (i32.load (i32.const 520)) (i32.load (i32.const 552))) (then (unreachable)))
        (if (i64.ne (call $monotonic) (call $monotonic)) (then (unreachable)))
        {NUMBER}"
    );
    let handler = load(
        &sandbox_of_one_client(),
        "clock",
        &guest(&body),
        Role::Preprocess,
        patient(),
        &[],
    )
    .unwrap();
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_234_567);
    let context = CallContext {
        at: Some(at),
        ..CallContext::default()
    };
    let earlier = handler.with_context(context);
    assert_eq!(number(earlier.preprocess("r", tensors()).await), 1_234);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let read = number(handler.preprocess("r", tensors()).await);
    assert!(
        (now.as_secs()..now.as_secs() + 60).contains(&read),
        "{read}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn random_numbers_are_those_of_the_request_and_of_the_host() {
    let component = guest(&format!(
        "(i64.store (i32.const 512) (call $number)) {NUMBER}"
    ));
    let loaded = |sandbox: &Sandbox| {
        load(
            sandbox,
            "random",
            &component,
            Role::Preprocess,
            patient(),
            &[],
        )
        .unwrap()
    };
    let (one, other) = (
        loaded(&sandbox_of_one_client()),
        loaded(&sandbox_of_one_client()),
    );
    let first = number(one.preprocess("a", tensors()).await);
    assert_eq!(number(one.preprocess("a", tensors()).await), first);
    assert_ne!(number(one.preprocess("b", tensors()).await), first);
    assert_ne!(number(other.preprocess("a", tensors()).await), first);
}

/// What captured calls got from WASI.
#[derive(Debug, Default)]
struct Captures(Mutex<Vec<Option<WasiInputs>>>);

impl CallCapture for Captures {
    fn capture(&self, ran: FinishedCall<'_>) -> Option<Arc<dyn CapturedCall>> {
        self.0.lock().unwrap().push(ran.wasi);
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_time_and_seed_give_the_same_answer_on_another_host() {
    let component = guest(&format!(
        "(call $wall (i32.const 544))
        (i64.store (i32.const 512) (i64.xor (call $number) (i64.xor (i64.load (i32.const 544)) (call $monotonic))))
        {NUMBER}"
    ));
    let captures = Arc::new(Captures::default());
    let captured = |component: &[u8], context| {
        let loaded = load(
            &sandbox_of_one_client(),
            "captured",
            component,
            Role::Preprocess,
            patient(),
            &[],
        );
        loaded.unwrap().with_context(context)
    };
    let first = captured(
        &component,
        CallContext {
            capture: Some(captures.clone()),
            ..CallContext::default()
        },
    );
    let first = first.preprocess("a", tensors()).await.unwrap();
    let inputs = captures.0.lock().unwrap().pop().unwrap().unwrap();
    let again = captured(
        &component,
        CallContext {
            at: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(inputs.unix_ms)),
            seed: Some(inputs.seed),
            ..CallContext::default()
        },
    );
    let again = again.preprocess("a", tensors()).await.unwrap();
    assert_eq!(again.fuel_used, first.fuel_used);
    assert_eq!(number(Ok(again)), number(Ok(first)));

    // A component without WASI gets nothing that a capture would have to store.
    let plain = captured(
        &preprocess("(call $ok (local.get 1) (local.get 2))"),
        CallContext {
            capture: Some(captures.clone()),
            ..CallContext::default()
        },
    );
    assert!(plain.preprocess("a", tensors()).await.is_ok());
    assert_eq!(captures.0.lock().unwrap().pop(), Some(None));
}

/// The file with all log lines of handlers, of the whole test program.
pub fn handler_log() -> &'static PathBuf {
    static LOG: OnceLock<PathBuf> = OnceLock::new();
    LOG.get_or_init(|| {
        let file = folder().join("handlers.log");
        let log = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_env_filter("tensorgate::handler=info")
            .with_writer(Arc::new(File::create(&file).unwrap()))
            .finish();
        // Guests log on threads of the sandbox.
        tracing::subscriber::set_global_default(log).unwrap();
        file
    })
}

/// The level and the text of each log line of a request.
pub fn logged(request_id: &str) -> Vec<(String, String)> {
    let log = std::fs::read_to_string(handler_log()).unwrap();
    log.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["request_id"] == request_id)
        .map(|line| {
            let field = |name: &str| line[name].as_str().unwrap().to_owned();
            (field("level"), field("message"))
        })
        .collect()
}

async fn printed(request_id: &str, body: &str, budget: Budget) -> (LoadedHandler, bool) {
    handler_log();
    let component = guest(body);
    let handler = load(
        &sandbox_of_one_client(),
        "printer",
        &component,
        Role::Preprocess,
        budget,
        &[],
    )
    .unwrap();
    let outcome = handler.preprocess(request_id, tensors()).await;
    (handler, outcome.is_ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_prints_is_in_the_log_under_its_request() {
    let body = format!(
        "(local.set $i (call $stdout))
        (call $block (call $writable (local.get $i)))
        (call $write (local.get $i) (i32.const 256) (i32.const 8) (i32.const 512))
        (call $write (local.get $i) (i32.const 264) (i32.const 3) (i32.const 512))
        (call $write (call $stderr) (i32.const 262) (i32.const 8) (i32.const 512))
        {DONE}"
    );
    let (_, answered) = printed("wasi-prints", &body, patient()).await;
    assert!(answered);
    let line = |level: &str, text: &str| (level.to_owned(), text.to_owned());
    assert_eq!(
        logged("wasi-prints"),
        [
            line("INFO", "hello"),
            line("WARN", "world\u{fffd}\u{fffd}"),
            // It has no line break, and ends with the call.
            line("INFO", "world"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_output_are_cut_and_counted() {
    // Ten megabytes without a line break.
    let body = format!(
        "(local.set $i (i32.const 160))
        (loop $l
            (call $write (call $stdout) (i32.const 65536) (i32.const 65536) (i32.const 512))
            (local.set $i (i32.sub (local.get $i) (i32.const 1)))
            (br_if $l (local.get $i)))
        {DONE}"
    );
    let (_, answered) = printed("wasi-long", &body, patient()).await;
    assert!(answered);
    let lines = logged("wasi-long");
    assert_eq!(lines.len(), 1);
    assert!(lines[0].1.ends_with("(cut from 10485760 bytes)"));

    let starved = Budget {
        fuel: 2_000_000,
        ..patient()
    };
    let body = "(local.set $i (call $stdout))
        (loop $l
            (call $write (local.get $i) (i32.const 256) (i32.const 6) (i32.const 512))
            (br $l))
        (unreachable)";
    let (handler, answered) = printed("wasi-flood", body, starved).await;
    assert!(!answered);
    assert_eq!(logged("wasi-flood").len(), 100);
    assert!(handler.take_dropped_log_lines() > 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_quotes_what_the_guest_wrote_to_stderr() {
    let body =
        "(call $write (call $stderr) (i32.const 270) (i32.const 5) (i32.const 512)) (unreachable)";
    let text = "boom; then the handler stopped at `unreachable`";
    check("stderr", &guest(body), patient(), FaultCause::Trap, text).await;
}
