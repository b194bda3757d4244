//! All hostile guests in one table: each guest, what stops it, how long that took and how much fuel
//! it burnt. After each, another handler answers. The other tests of this folder examine some of
//! them more closely.

use super::lifted::lifted_rows;
use super::machine::machine_rows;
use super::refused::refused_rows;
use super::*;

/// A time limit that no guest here reaches, unless its deadline is what stops it.
pub const PATIENT_MS: u64 = 60_000;
/// How much memory a guest may use where something else stops it, bytes.
const ROOM_BYTES: u64 = 256 << 20;

/// How a guest ends.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// It is stopped by this fault.
    Fault(FaultCause),
    /// It can only harm itself. It answers, and this test does not check the contract.
    Answers,
    /// It never becomes a handler: the error has this text.
    Refused(&'static str),
}

/// One guest of the table.
pub struct Row {
    pub guest: &'static str,
    pub component: Vec<u8>,
    pub budget: Budget,
    pub expected: Expected,
}

impl Row {
    /// The same with this much fuel.
    pub fn with_fuel(self, fuel: u64) -> Self {
        let budget = Budget {
            fuel,
            ..self.budget
        };
        Self { budget, ..self }
    }
}

/// A guest around a body, with a generous time limit.
pub fn row(guest: &'static str, body: &str, expected: FaultCause) -> Row {
    of(guest, preprocess(body), Expected::Fault(expected))
}

/// A guest that is a whole component, with a generous time limit.
pub fn of(guest: &'static str, component: Vec<u8>, expected: Expected) -> Row {
    Row {
        guest,
        component,
        budget: Budget {
            timeout_ms: PATIENT_MS,
            ..BUDGET
        },
        expected,
    }
}

/// The same with a time limit so short that it ends by it.
pub fn hurried(row: Row) -> Row {
    Row {
        budget: BUDGET,
        ..row
    }
}

/// The same with so little fuel that it ends by it.
pub fn starved(row: Row) -> Row {
    row.with_fuel(10_000_000)
}

/// A body that fills its memory with one list of this many bytes and answers with it.
fn long_list(bytes: u32) -> String {
    let pages = (bytes >> 16) + 2;
    format!(
        "(drop (memory.grow (i32.const {pages})))
        (call $tensor (i32.const 2048) (i32.const 1) (i32.const 65536) (i32.const {bytes}))
        (call $ok (i32.const 2048) (i32.const 1))"
    )
}

/// A body that answers with this many tensors without name, dims or data.
fn empty_tensors(count: u32) -> String {
    let pages = ((count * 28) >> 16) + 2;
    format!(
        "(drop (memory.grow (i32.const {pages}))) (call $ok (i32.const 65536) (i32.const {count}))"
    )
}

/// A body that answers with one tensor. Its shape is at 4096, its name at 0 has this length, and
/// its data has this many bytes.
fn tensor(name: i32, dims: i32, bytes: i32) -> String {
    format!(
        "(call $tensor (i32.const 2048) (i32.const 11) (i32.const 65536) (i32.const {bytes}))
        (i32.store offset=4 (i32.const 2048) (i32.const {name}))
        (i32.store offset=12 (i32.const 2048) (i32.const 4096))
        (i32.store offset=16 (i32.const 2048) (i32.const {dims}))
        (call $ok (i32.const 2048) (i32.const 1))"
    )
}

/// Guests with faulty answers.
fn answer_rows() -> Vec<Row> {
    let roomy = |row: Row| Row {
        budget: Budget {
            memory_bytes: ROOM_BYTES,
            ..row.budget
        },
        ..row
    };
    let bad = |guest, body: &str| row(guest, body, FaultCause::BadOutput);
    let answers = |guest, body: &str| of(guest, preprocess(body), Expected::Answers);
    let dim = |dim: i64| {
        format!(
            "(i64.store (i32.const 4096) (i64.const {dim})) {}",
            tensor(1, 1, 4)
        )
    };
    let overflow = format!(
        "(i64.store (i32.const 4096) (i64.const 4611686018427387904)) (i64.store (i32.const 4104) (i64.const 4611686018427387904)) {}",
        tensor(1, 2, 0)
    );
    // A signalling NaN, a quiet one with a payload, an infinity. For the host they are only bytes;
    // the contract rejects them where it says so.
    let nans = format!(
        "(i32.store (i32.const 65536) (i32.const 0x7fa00001)) (i32.store (i32.const 65540) (i32.const 0xffc12345)) (i32.store (i32.const 65544) (i32.const 0x7f800000)) (i64.store (i32.const 4096) (i64.const 3)) {}",
        tensor(1, 1, 12)
    );
    vec![
        roomy(bad("a list of 100 MB", &long_list(100_000_000))),
        roomy(bad("two million empty tensors", &empty_tensors(2_000_000))),
        bad("sixty-five tensors", &empty_tensors(65)),
        bad(
            "false pointers: past memory",
            "(call $ok (i32.const -32) (i32.const 1))",
        ),
        bad("false pointers: the answer itself", "(i32.const -8)"),
        bad(
            "a list whose size overflows",
            "(call $ok (i32.const 2048) (i32.const -1))",
        ),
        bad("an unaligned answer", "(i32.const 1025)"),
        bad("a name of 64 KiB", &tensor(65_536, 0, 4)),
        bad(
            "a name that is no UTF-8",
            &format!(
                "(i32.store8 (i32.const 0) (i32.const 0xff)) {}",
                tensor(1, 0, 4)
            ),
        ),
        bad("a shape of 4096 dims", &tensor(1, 4_096, 4)),
        bad("a dim that no tensor can have", &dim(-1)),
        answers("dims whose product overflows", &overflow),
        answers("NaNs with payloads", &nans),
        answers("a dim of nothing", &dim(0)),
    ]
}

fn rows() -> Vec<Row> {
    let panics = of(
        "a panic in Rust",
        built("hostile_wrong_shape"),
        Expected::Fault(FaultCause::Trap),
    );
    let mut rows = vec![panics];
    rows.extend(machine_rows());
    rows.extend(answer_rows());
    rows.extend(lifted_rows());
    rows.extend(refused_rows());
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn every_guest_of_the_list_is_stopped_by_its_own_bound_and_a_neighbour_answers_after_each() {
    let sandbox = sandbox();
    let minute = Budget {
        timeout_ms: PATIENT_MS,
        ..BUDGET
    };
    let neighbour = load(
        &sandbox,
        "neighbour",
        &built("digit_labels"),
        Role::Postprocess,
        minute,
        &[],
    )
    .unwrap();
    let rows = rows();
    assert!(rows.len() >= 80, "{} guests", rows.len());
    println!(
        "{:<48} {:<14} {:>10} {:>16}",
        "guest", "ends by", "time", "fuel"
    );
    let mut wrong = Vec::new();
    for row in rows {
        let guest = row.guest;
        let started = Instant::now();
        let (said, fuel_used, right) = run(&sandbox, row).await;
        let took = started.elapsed().as_secs_f64() * 1e3;
        println!(
            "{guest:<48} {:<14} {took:>7.1} ms {fuel_used:>16}",
            said.split(':').next().unwrap()
        );
        if !right {
            wrong.push(format!("{guest}: {said}"));
        }
        neighbour::label(&neighbour, 7).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How a guest ended, how much fuel it burnt, and whether that was expected.
async fn run(sandbox: &Sandbox, row: Row) -> (String, u64, bool) {
    let Row {
        guest,
        component,
        budget,
        expected,
    } = row;
    let lie = [("lie", "panic")];
    let handler = match (
        load(sandbox, guest, &component, Role::Preprocess, budget, &lie),
        expected,
    ) {
        (Ok(handler), _) => handler,
        (Err(fault), Expected::Refused(text)) => {
            let fault = fault.to_string();
            let right = fault.contains(text);
            return (format!("refused: {fault}"), 0, right);
        }
        (Err(fault), _) => return (format!("refused: {fault}"), 0, false),
    };
    match (handler.preprocess("request", tensors()).await, expected) {
        (Ok(called), expected) => (
            "answers".to_owned(),
            called.fuel_used,
            matches!(expected, Expected::Answers),
        ),
        (
            Err(HandlerError::Fault {
                cause,
                detail,
                fuel_used,
            }),
            expected,
        ) => {
            let right = matches!(expected, Expected::Fault(expected) if expected == cause);
            (
                format!("{}: {detail}", cause.name()),
                fuel_used,
                right && fuel_used <= budget.fuel,
            )
        }
        (Err(other), _) => (format!("{other:?}"), 0, false),
    }
}
