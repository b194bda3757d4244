//! The whole list at once: each hostile guest, the bound that stops it, how long that took and what it burnt, printed as a
//! table. The other tests of this folder look at each more closely.

use super::*;

/// Longer than any guest here may take that is not stopped by its deadline.
const PATIENT_MS: u64 = 60_000;
/// What a guest may hoard where memory is not what stops it, bytes.
const ROOM_BYTES: u64 = 256 << 20;

/// A body that fills its memory with one list of this many bytes and answers it.
fn long_list(bytes: u32) -> String {
    let pages = (bytes >> 16) + 2;
    format!(
        "(drop (memory.grow (i32.const {pages})))
        (call $tensor (i32.const 2048) (i32.const 1) (i32.const 65536) (i32.const {bytes}))
        (call $ok (i32.const 2048) (i32.const 1))"
    )
}

/// A body that answers this many tensors without name, dims or data.
fn empty_tensors(count: u32) -> String {
    let pages = ((count * 28) >> 16) + 2;
    format!(
        "(drop (memory.grow (i32.const {pages}))) (call $ok (i32.const 65536) (i32.const {count}))"
    )
}

struct Row {
    guest: &'static str,
    component: Vec<u8>,
    budget: Budget,
    input: Payload,
    expected: FaultCause,
}

fn row(guest: &'static str, body: &str, expected: FaultCause) -> Row {
    Row {
        guest,
        component: preprocess(body),
        budget: Budget {
            timeout_ms: PATIENT_MS,
            ..BUDGET
        },
        input: tensors(),
        expected,
    }
}

fn rows() -> Vec<Row> {
    let small = Budget {
        fuel: 10_000_000,
        timeout_ms: PATIENT_MS,
        ..BUDGET
    };
    let roomy = Budget {
        memory_bytes: ROOM_BYTES,
        timeout_ms: PATIENT_MS,
        ..BUDGET
    };
    let start = "(func $spin (loop $l (br $l))) (start $spin)";
    let flood =
        "(loop $l (call $log (i32.const 1) (i32.const 0) (i32.const 1)) (br $l)) (unreachable)";
    let panics = Row {
        guest: "panic",
        component: built("hostile_wrong_shape"),
        ..row("", "(unreachable)", FaultCause::Trap)
    };
    vec![
        Row {
            budget: BUDGET,
            ..row("loop, little time", SPIN, FaultCause::Deadline)
        },
        Row {
            budget: small,
            ..row("loop, little fuel", SPIN, FaultCause::Fuel)
        },
        Row {
            component: preprocess_with("(call $ok (i32.const 0) (i32.const 0))", start),
            budget: BUDGET,
            ..row(
                "start function that loops",
                "(unreachable)",
                FaultCause::Deadline,
            )
        },
        row(
            "memory",
            "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)",
            FaultCause::Memory,
        ),
        row(
            "table",
            "(drop (table.grow $table (ref.null func) (i32.const 1000000))) (unreachable)",
            FaultCause::Memory,
        ),
        row(
            "deep recursion",
            "(call $recurse (i32.const 0))",
            FaultCause::Stack,
        ),
        Row {
            budget: roomy,
            ..row(
                "a list of 100 MB",
                &long_list(100_000_000),
                FaultCause::BadOutput,
            )
        },
        Row {
            budget: roomy,
            ..row(
                "two million empty tensors",
                &empty_tensors(2_000_000),
                FaultCause::BadOutput,
            )
        },
        row(
            "false pointers: past memory",
            "(call $ok (i32.const -32) (i32.const 1))",
            FaultCause::BadOutput,
        ),
        row(
            "false pointers: the answer itself",
            "(i32.const -8)",
            FaultCause::BadOutput,
        ),
        Row {
            component: preprocess_with_realloc("(unreachable)", "(i32.const -16)"),
            ..row(
                "false pointers: its allocator",
                "(unreachable)",
                FaultCause::BadOutput,
            )
        },
        panics,
        row("log flood", flood, FaultCause::HostCalls),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_guest_of_the_list_is_stopped_by_its_own_bound() {
    println!(
        "{:<36} {:<14} {:>10} {:>16}",
        "guest", "cause", "time", "fuel"
    );
    let sandbox = sandbox();
    for row in rows() {
        let Row {
            guest,
            component,
            budget,
            input,
            expected,
        } = row;
        let lie = [("lie", "panic")];
        let handler = load(&sandbox, guest, &component, Role::Preprocess, budget, &lie).unwrap();
        let started = Instant::now();
        let outcome = handler.preprocess("request", input).await;
        let took = started.elapsed();
        let Err(HandlerError::Fault {
            cause, fuel_used, ..
        }) = &outcome
        else {
            panic!("{guest}: {outcome:?}");
        };
        println!(
            "{guest:<36} {:<14} {:>7.1} ms {fuel_used:>16}",
            cause.name(),
            took.as_secs_f64() * 1e3
        );
        assert_eq!(*cause, expected, "{guest}: {outcome:?}");
        assert!(
            *fuel_used <= budget.fuel,
            "{guest}: it burnt more than it may"
        );
    }
}

#[test]
fn what_reaches_out_is_refused_at_load_by_the_name_that_it_asks_for() {
    println!("{:<36} refused at load", "import");
    for import in [
        "wasi:filesystem/types@0.2.0",
        "wasi:filesystem/preopens@0.2.0",
        "wasi:sockets/tcp@0.2.0",
        "wasi:sockets/instance-network@0.2.0",
        "wasi:http/outgoing-handler@0.2.0",
        "wasi:cli/environment@0.2.0",
        "wasi:random/random@0.2.0",
        "evil:corp/anything@1.0.0",
    ] {
        let text = format!(
            "(component (import \"{import}\" (instance (export \"f\" (func (result u64))))))"
        );
        let component = wat::parse_str(text).unwrap();
        match load(&sandbox(), "h", &component, Role::Preprocess, BUDGET, &[]).map(|_| ()) {
            Err(LoadFault::Import { import: named, .. }) => {
                println!("{import:<36} imports {named}");
                assert_eq!(named, import);
            }
            other => panic!("{import}: {other:?}"),
        }
    }
}
