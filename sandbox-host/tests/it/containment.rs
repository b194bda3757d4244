//! Every hostile guest is stopped by the bound that it breaks, with that bound's name, while other
//! handlers answer.

mod answers;
mod behaviours;
mod fairness;
use crate::support::guests;
mod lifted;
mod machine;
mod neighbour;
mod pace;
mod queue;
mod refusals;
mod refused;
mod running;
mod sharing;
mod standard_library;
mod table;
mod wasi;

use std::time::{Duration, Instant};

use bytes::Bytes;
use tensorgate_base::payload::{Payload, Role};
use tensorgate_policy::Tensor;
use tensorgate_sandbox::{
    FaultCause, HandlerError, HandlerOutput, LoadFault, LoadedHandler, Overload, Sandbox,
    SandboxConfig,
};

use guests::{
    BUDGET, Budget, SPIN, built, component, load, policy, preprocess, preprocess_with,
    preprocess_with_imports, preprocess_with_pages, preprocess_with_realloc,
};

fn sandbox() -> Sandbox {
    Sandbox::new(SandboxConfig {
        queue_wait_ms: 30_000,
        ..SandboxConfig::default()
    })
    .unwrap()
}

/// The same, where long calls keep their priority: on a busy machine they end as on an idle one.
fn sandbox_of_one_client() -> Sandbox {
    Sandbox::new(SandboxConfig {
        queue_wait_ms: 30_000,
        is_shared: false,
        ..SandboxConfig::default()
    })
    .unwrap()
}

/// A handler with long calls, for whose threads a queue of this length waits.
fn crowded(name: &str, guest: &str, threads: usize, queue: usize) -> LoadedHandler {
    let sandbox = Sandbox::new(SandboxConfig {
        threads,
        queue,
        queue_wait_ms: 60_000,
        ..SandboxConfig::default()
    })
    .unwrap();
    let minute = Budget {
        timeout_ms: 60_000,
        ..BUDGET
    };
    let wat = preprocess(guest);
    load(&sandbox, name, &wat, Role::Preprocess, minute, &[]).unwrap()
}

fn tensors() -> Payload {
    let image = Tensor {
        name: "image".into(),
        datatype: "FP32".into(),
        shape: vec![1, 1, 8, 8],
        parameters: vec![],
        data: Ok(vec![0; 256].into()),
    };
    Payload::Tensors(vec![image])
}

fn raw() -> Payload {
    Payload::Raw {
        content_type: "image/png".into(),
        data: Bytes::from_static(b"no png"),
    }
}

fn cause(outcome: &Result<HandlerOutput, HandlerError>) -> Option<FaultCause> {
    match outcome {
        Err(HandlerError::Fault { cause, .. }) => Some(*cause),
        _ => None,
    }
}

fn overload(outcome: &Result<HandlerOutput, HandlerError>) -> Option<Overload> {
    match outcome {
        Err(HandlerError::Overloaded(overload)) => Some(*overload),
        _ => None,
    }
}

async fn call(
    component: &[u8],
    budget: Budget,
    config: &[(&str, &str)],
    input: Payload,
) -> Result<HandlerOutput, HandlerError> {
    load(
        &sandbox_of_one_client(),
        "hostile",
        component,
        Role::Preprocess,
        budget,
        config,
    )
    .unwrap()
    .preprocess("request", input)
    .await
}

/// Calls a guest and expects a fault whose detail contains a text, and no backtrace.
async fn check(name: &str, component: &[u8], budget: Budget, expected: FaultCause, text: &str) {
    let outcome = call(component, budget, &[], tensors()).await;
    assert_eq!(cause(&outcome), Some(expected), "{name}: {outcome:?}");
    let Err(HandlerError::Fault { detail, .. }) = outcome else {
        panic!("{name}: {outcome:?}")
    };
    assert!(detail.contains(text), "{name}: {detail}");
    assert!(!detail.contains("backtrace"), "{name}: {detail}");
}
