//! Handlers that name the same component: it is compiled once for all of them, and dropped with the
//! last.

use super::*;

/// A guest that answers with no tensors.
const QUIET: &str = "(call $ok (i32.const 0) (i32.const 0))";

fn loaded(sandbox: &Sandbox, component: &[u8], number: u64) -> LoadedHandler {
    // No two have the same limits and configuration.
    let budget = Budget {
        fuel: BUDGET.fuel - number,
        memory_bytes: BUDGET.memory_bytes + (number << 16),
        timeout_ms: 5_000 + number,
    };
    let config = [("number", number.to_string())];
    let config = config.each_ref().map(|(key, value)| (*key, value.as_str()));
    let name = format!("handler-{number}");
    load(sandbox, &name, component, Role::Preprocess, budget, &config).unwrap()
}

#[tokio::test]
async fn a_thousand_handlers_over_one_component_compile_it_once() {
    let sandbox = sandbox();
    let component = preprocess(QUIET);
    let handlers: Vec<_> = (0..1_000)
        .map(|number| loaded(&sandbox, &component, number))
        .collect();
    assert_eq!(sandbox.compilations(), 1);
    let other = preprocess("(call $ok (i32.const 0) (i32.const 0)) (drop (i32.const 1))");
    let different = loaded(&sandbox, &other, 0);
    assert_eq!(sandbox.compilations(), 2, "another component is another");
    for handler in handlers.iter().step_by(333).chain([&different]) {
        assert!(handler.preprocess("request", tensors()).await.is_ok());
    }
}

#[tokio::test]
async fn handlers_that_share_a_component_keep_their_own_limits() {
    let sandbox = sandbox();
    let spin = preprocess(SPIN);
    for (fuel, timeout_ms, expected) in [
        (10_000, 60_000, FaultCause::Fuel),
        (BUDGET.fuel, 50, FaultCause::Deadline),
    ] {
        let budget = Budget {
            fuel,
            timeout_ms,
            ..BUDGET
        };
        let handler = load(&sandbox, "h", &spin, Role::Preprocess, budget, &[]).unwrap();
        let outcome = handler.preprocess("request", tensors()).await;
        assert_eq!(cause(&outcome), Some(expected), "{outcome:?}");
    }
    let small = Budget {
        memory_bytes: 1 << 16,
        ..BUDGET
    };
    let known = loaded(&sandbox, &spin, 0);
    let refused = load(&sandbox, "h", &spin, Role::Preprocess, small, &[]).map(|_| ());
    assert!(
        matches!(refused, Err(LoadFault::Resources { .. })),
        "what it needs is asked of each: {refused:?}"
    );
    drop(known);
}

#[test]
fn two_loads_of_one_component_at_once_compile_it_once() {
    let sandbox = sandbox();
    let component = preprocess(QUIET);
    let start = std::sync::Barrier::new(8);
    let handlers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let (sandbox, component, start) = (&sandbox, &component, &start);
                scope.spawn(move || {
                    start.wait();
                    loaded(sandbox, component, number)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!((handlers.len(), sandbox.compilations()), (8, 1));
}

#[test]
fn an_unused_component_is_dropped_and_an_invalid_one_is_not_cached() {
    let sandbox = sandbox();
    let component = preprocess(QUIET);
    let (one, other) = (
        loaded(&sandbox, &component, 1),
        loaded(&sandbox, &component, 2),
    );
    drop(one);
    let third = loaded(&sandbox, &component, 3);
    assert_eq!(sandbox.compilations(), 1, "one is enough to keep it");
    drop((other, third));
    drop(loaded(&sandbox, &component, 4));
    assert_eq!(sandbox.compilations(), 2, "no holder kept it");
    for expected in [3, 4] {
        let refused = load(
            &sandbox,
            "h",
            b"no component",
            Role::Preprocess,
            BUDGET,
            &[],
        );
        assert!(matches!(refused, Err(LoadFault::Compile { .. })));
        assert_eq!(sandbox.compilations(), expected);
    }
}
