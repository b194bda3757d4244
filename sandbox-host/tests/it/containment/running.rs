//! Guests that run on, allocate without end, trap or log too much.

use super::*;

/// Limits of a guest that must not end by its time limit, however busy the machine is.
const PATIENT: Budget = Budget {
    timeout_ms: 60_000,
    ..BUDGET
};

#[tokio::test(flavor = "multi_thread")]
async fn the_built_guests_are_stopped_by_the_bound_that_they_break() {
    let little_fuel = Budget {
        fuel: 10_000_000,
        timeout_ms: 60_000,
        ..BUDGET
    };
    for (name, input, budget, expected) in [
        ("hostile_loop", tensors(), BUDGET, FaultCause::Deadline),
        ("hostile_loop", tensors(), little_fuel, FaultCause::Fuel),
        (
            "hostile_loop",
            raw(),
            Budget {
                timeout_ms: 60_000,
                ..BUDGET
            },
            FaultCause::HostCalls,
        ),
        (
            "hostile_memory_bomb",
            tensors(),
            Budget {
                timeout_ms: 60_000,
                ..BUDGET
            },
            FaultCause::Memory,
        ),
        // It reports that it got no memory.
        (
            "hostile_memory_bomb",
            raw(),
            Budget {
                timeout_ms: 60_000,
                ..BUDGET
            },
            FaultCause::Memory,
        ),
    ] {
        let outcome = call(&built(name), budget, &[], input).await;
        assert_eq!(cause(&outcome), Some(expected), "{name}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_that_run_on_are_stopped_in_every_function() {
    let little_fuel = Budget {
        fuel: 1_000_000,
        timeout_ms: 60_000,
        ..BUDGET
    };
    let start = preprocess_with(
        "(call $ok (i32.const 0) (i32.const 0))",
        "(func $spin (loop $l (br $l))) (start $spin)",
    );
    check(
        "start function",
        &start,
        BUDGET,
        FaultCause::Deadline,
        "deadline",
    )
    .await;
    check(
        "start function",
        &start,
        little_fuel,
        FaultCause::Fuel,
        "fuel",
    )
    .await;
    check(
        "export",
        &preprocess(SPIN),
        BUDGET,
        FaultCause::Deadline,
        "deadline",
    )
    .await;
    check(
        "realloc",
        &preprocess_with_realloc("(unreachable)", SPIN),
        BUDGET,
        FaultCause::Deadline,
        "deadline",
    )
    .await;
    let after = preprocess_with(
        "(call $ok (i32.const 0) (i32.const 0))",
        "(func (export \"cabi_post_preprocess\") (param i32) (loop $l (br $l)))",
    );
    check(
        "post-return",
        &after,
        BUDGET,
        FaultCause::Deadline,
        "deadline",
    )
    .await;
    // No loop and no call: only the fills themselves, during which it must be stopped.
    let fills = "(memory.fill (i32.const 65536) (i32.const 1) (i32.const 33554432))".repeat(2_000);
    let fills = format!(
        "(drop (memory.grow (i32.const 600))) {fills} (call $ok (i32.const 0) (i32.const 0))"
    );
    check(
        "bulk memory",
        &preprocess(&fills),
        BUDGET,
        FaultCause::Deadline,
        "deadline",
    )
    .await;
    check(
        "bulk memory",
        &preprocess(&fills),
        Budget {
            timeout_ms: 60_000,
            fuel: 1_000_000_000,
            ..BUDGET
        },
        FaultCause::Fuel,
        "fuel",
    )
    .await;
    let calls =
        "(loop $l (call $log (i32.const 1) (i32.const 0) (i32.const 1)) (br $l)) (unreachable)";
    check(
        "host calls",
        &preprocess(calls),
        Budget {
            timeout_ms: 60_000,
            ..BUDGET
        },
        FaultCause::HostCalls,
        "10000",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn traps_and_memory_exhaustion_are_distinguished() {
    let hoard =
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)";
    let table = "(drop (table.grow $table (ref.null func) (i32.const 1000000))) (unreachable)";
    for (name, body, expected, text) in [
        (
            "recursion",
            "(call $recurse (i32.const 0))",
            FaultCause::Stack,
            "stack",
        ),
        (
            "unreachable",
            "(unreachable)",
            FaultCause::Trap,
            "unreachable",
        ),
        (
            "division",
            "(i32.div_u (i32.const 1) (local.get $i))",
            FaultCause::Trap,
            "divide by zero",
        ),
        (
            "out of bounds",
            "(i32.load (i32.const -4))",
            FaultCause::Trap,
            "out of bounds",
        ),
        ("memory", hoard, FaultCause::Memory, "at most 67108864"),
        ("table", table, FaultCause::Memory, "at most 50000"),
    ] {
        check(
            name,
            &preprocess(body),
            Budget {
                timeout_ms: 60_000,
                ..BUDGET
            },
            expected,
            text,
        )
        .await;
    }
}

/// Nothing frees what an exception takes, so it counts as memory.
#[tokio::test(flavor = "multi_thread")]
async fn exceptions_without_end_are_bounded() {
    let throws = "(loop $l (block $caught (try_table (catch $t $caught) (throw $t))) (br $l))";
    let component = preprocess_with(&format!("{throws} (unreachable)"), "(tag $t)");
    check(
        "exceptions",
        &component,
        PATIENT,
        FaultCause::Memory,
        "memory_bytes",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_detail_of_a_trap_says_what_a_handler_lacks_or_logged_last() {
    // Runtimes in builds of older releases name their stub so.
    let clock = preprocess_with(
        "(call $wall_clock_now) (unreachable)",
        "(func $wall_clock_now (unreachable))",
    );
    // Level 3 is an error, the text is "x".
    let panic = preprocess("(call $log (i32.const 3) (i32.const 0) (i32.const 1)) (unreachable)");
    for (name, component, text) in [
        ("clock", clock, "its build has no clock"),
        ("panic", panic, "x; then the handler stopped"),
    ] {
        check(name, &component, PATIENT, FaultCause::Trap, text).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_allocation_that_a_guest_handles_is_no_fault() {
    let polite = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (call $ok (i32.const 0) (i32.const 0))";
    let called = call(&preprocess(polite), PATIENT, &[], tensors())
        .await
        .unwrap();
    assert!(
        (32 << 20..=64 << 20).contains(&called.memory_peak_bytes),
        "{called:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_past_the_bound_are_dropped_and_counted() {
    // A call that fails has its lines and its fuel counted, too.
    let sandbox = sandbox_of_one_client();
    let ok = "(call $ok (i32.const 0) (i32.const 0))";
    let (short, starved) = (
        Budget {
            timeout_ms: 1_000,
            ..BUDGET
        },
        Budget {
            fuel: 1_000_000,
            ..PATIENT
        },
    );
    for (end, budget, expected) in [
        (ok, PATIENT, None),
        ("(unreachable)", PATIENT, Some(FaultCause::Trap)),
        (SPIN, starved, Some(FaultCause::Fuel)),
        (SPIN, short, Some(FaultCause::Deadline)),
    ] {
        let flood = format!(
            "(loop $l
                (call $log (i32.const 0) (i32.const 0) (i32.const 1))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if $l (i32.lt_u (local.get $i) (i32.const 500))))
            {end}"
        );
        let component = preprocess(&flood);
        let role = Role::Preprocess;
        let handler = load(&sandbox, "flood", &component, role, budget, &[]).unwrap();
        let outcome = handler.preprocess("request", tensors()).await;
        assert_eq!(cause(&outcome), expected, "{outcome:?}");
        if let Err(HandlerError::Fault { fuel_used, .. }) = outcome {
            assert!(fuel_used > 500, "{end}: {fuel_used}");
        }
        assert_eq!(handler.take_dropped_log_lines(), 400, "{end}");
        assert_eq!(handler.take_dropped_log_lines(), 0, "{end}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_survives_a_call_and_equal_calls_burn_equal_fuel() {
    // Answers with one UINT8: how often this instance was called, counted in a global and in
    // memory.
    let counting = "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (i32.store8 (i32.const 4096) (global.get $calls))
        (i32.store8 (i32.const 4097) (i32.add (i32.load8_u (i32.const 4098)) (i32.const 1)))
        (i32.store8 (i32.const 4098) (i32.const 41))
        (call $tensor (i32.const 2048) (i32.const 1) (i32.const 4096) (i32.const 2)) (call $ok (i32.const 2048) (i32.const 1))";
    let sandbox = sandbox_of_one_client();
    let guest = load(
        &sandbox,
        "counting",
        &preprocess(counting),
        Role::Preprocess,
        PATIENT,
        &[],
    )
    .unwrap();
    let mut fuel = Vec::new();
    for _ in 0..50 {
        let called = guest.preprocess("request", tensors()).await.unwrap();
        assert_eq!(called.tensors[0].data.as_ref().unwrap().as_ref(), [1, 1]);
        fuel.push(called.fuel_used);
    }
    assert!(
        fuel[0] > 0 && fuel.iter().all(|used| *used == fuel[0]),
        "{fuel:?}"
    );
}

/// Slots are cleared in one way in their resident part, and in another beyond it. Here memory and
/// tables are as large as a call may have.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_survives_a_call_at_any_address() {
    // Looks at every page of memory and at every element of a table, notes what it finds, and
    // leaves something behind.
    let leaving = "
        (drop (table.grow $table (ref.null func) (i32.const 15000)))
        (local.set $i (i32.const 131072))
        (loop $pages
            (i32.store8 (i32.const 4096) (i32.or (i32.load8_u (i32.const 4096)) (i32.load8_u (local.get $i))))
            (i32.store8 (local.get $i) (i32.const 1))
            (local.set $i (i32.add (local.get $i) (i32.const 4096)))
            (br_if $pages (i32.lt_u (local.get $i) (i32.shl (memory.size) (i32.const 16)))))
        (local.set $i (i32.const 0))
        (loop $places
            (i32.store8 (i32.const 4097) (i32.or (i32.load8_u (i32.const 4097)) (i32.eqz (ref.is_null (table.get $table (local.get $i))))))
            (table.set $table (local.get $i) (ref.func $recurse))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $places (i32.lt_u (local.get $i) (table.size $table))))
        (i32.store8 (i32.const 4098) (i32.gt_u (local.get $i) (i32.const 15000)))
        (call $tensor (i32.const 2048) (i32.const 1) (i32.const 4096) (i32.const 3)) (call $ok (i32.const 2048) (i32.const 1))";
    // Memory that grows in each call, and memory that each instance starts with; both alternate in
    // the same slots.
    let sandbox = sandbox_of_one_client();
    let grown = format!("(drop (memory.grow (i32.const 400))) {leaving}");
    let guests = [(grown.as_str(), 2), (leaving, 402), (leaving, 20)].map(|(body, pages)| {
        let component = preprocess_with_pages(body, pages);
        load(
            &sandbox,
            "leaving",
            &component,
            Role::Preprocess,
            PATIENT,
            &[],
        )
        .unwrap()
    });
    for _ in 0..5 {
        for (guest, (pages, grown)) in guests.iter().zip([(402, 400), (402, 0), (20, 0)]) {
            let called = guest.preprocess("request", tensors()).await.unwrap();
            // Nothing in memory, nothing in the table, and all of it was looked at.
            assert_eq!(called.tensors[0].data.as_ref().unwrap().as_ref(), [0, 0, 1]);
            assert_eq!(called.memory_peak_bytes, pages << 16);
            assert_eq!(called.memory_grown_bytes, grown << 16);
            assert_eq!(called.memory_grows, u32::from(grown > 0));
        }
    }
}
