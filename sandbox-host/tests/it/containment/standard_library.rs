//! A guest that uses Rust's standard library as if it had a machine of its own. It is built for
//! wasm32-wasip2, as `tensorgate handler build` builds handlers. What it lacks is an error that it
//! can handle, or ends the call with a text that names it.

use std::time::SystemTime;

use tensorgate_sandbox::CallContext;

use super::wasi::{handler_log, logged, number};
use super::*;

/// How a behaviour ends.
#[derive(Clone, Copy)]
enum Ends {
    /// The library returns an error with this text, which the guest reports.
    Denied(&'static str),
    /// One of these faults ends the call, with this text.
    By(&'static [FaultCause], &'static str),
}

use Ends::{By, Denied};
use FaultCause::{Fuel, Reported, Stack, Trap};

/// What the C library says without a folder.
const NO_FILE: &str = "No such file or directory (os error 44)";

/// Each behaviour, and how it ends.
const TABLE: [(&str, Ends); 19] = [
    ("read", Denied(NO_FILE)),
    ("read-relative", Denied(NO_FILE)),
    ("write", Denied(NO_FILE)),
    ("append", Denied(NO_FILE)),
    ("list", Denied(NO_FILE)),
    ("metadata", Denied(NO_FILE)),
    ("create-folder", Denied(NO_FILE)),
    ("remove", Denied(NO_FILE)),
    ("rename", Denied(NO_FILE)),
    ("environment", Denied("no variables and arguments")),
    ("input", Denied("the standard input is empty")),
    ("thread", Denied("(os error 58)")),
    (
        "process",
        Denied("operation not supported on this platform"),
    ),
    ("thread-or-panic", By(&[Trap], "failed to spawn thread")),
    ("sleep", By(&[Trap], "a handler cannot sleep")),
    ("exit", By(&[Trap], "called exit")),
    ("abort", By(&[Trap], "`unreachable`")),
    ("print", By(&[Fuel], "used all its fuel")),
    // Rust keeps its frames in memory, so either bound may be reached first.
    ("recurse", By(&[Stack, Trap], "")),
];

/// More fuel than any behaviour needs that ends.
const BUDGET_OF_ALL: Budget = Budget {
    fuel: 100_000_000,
    timeout_ms: 60_000,
    ..BUDGET
};

/// The guest with a behaviour, at the second 1,234 of its clock.
fn guest(sandbox: &Sandbox, behaviour: &str) -> LoadedHandler {
    let loaded = load(
        sandbox,
        "hostile",
        &built("hostile_wasi"),
        Role::Preprocess,
        BUDGET_OF_ALL,
        &[("behaviour", behaviour)],
    );
    loaded.unwrap().with_context(CallContext {
        at: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_234)),
        ..CallContext::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_standard_library_lacks_is_an_error_or_ends_the_call_by_name() {
    let sandbox = sandbox_of_one_client();
    // While one handler exists, the others need no compilation.
    let _loaded = guest(&sandbox, "");
    let mut wrong = Vec::new();
    for (behaviour, ends) in TABLE {
        let handler = guest(&sandbox, behaviour);
        let outcome = handler.preprocess("request", tensors()).await;
        let again = handler.preprocess("request", tensors()).await;
        let is_expected = match (&outcome, ends) {
            (Err(HandlerError::Fault { cause, detail, .. }), Denied(text)) => {
                *cause == Reported && detail.contains("denied: ") && detail.contains(text)
            }
            (Err(HandlerError::Fault { cause, detail, .. }), By(causes, text)) => {
                causes.contains(cause) && detail.contains(text)
            }
            _ => false,
        };
        if !is_expected || format!("{outcome:?}") != format!("{again:?}") {
            wrong.push(format!("{behaviour}: {outcome:?}, then {again:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clocks_of_the_standard_library_stand_at_the_time_of_the_request() {
    let handler = guest(&sandbox_of_one_client(), "clock");
    assert_eq!(number(handler.preprocess("r", tensors()).await), 1_234);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seeds_of_hash_maps_are_those_of_the_request() {
    let handler = guest(&sandbox_of_one_client(), "hash");
    let first = number(handler.preprocess("a", tensors()).await);
    assert_eq!(number(handler.preprocess("a", tensors()).await), first);
    assert_ne!(number(handler.preprocess("b", tensors()).await), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_println_is_cut_and_counted() {
    handler_log();
    let handler = guest(&sandbox_of_one_client(), "print");
    let outcome = handler.preprocess("println-flood", tensors()).await;
    assert_eq!(cause(&outcome), Some(Fuel), "{outcome:?}");
    assert_eq!(logged("println-flood").len(), 100);
    assert!(handler.take_dropped_log_lines() > 1_000);
}
