//! The sandbox in this process: a fresh instance, a whole call compared with native code, a runaway
//! handler, and its neighbours.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest as _, Sha256};
use tensorgate_base::payload::{Payload, Role};
use tensorgate_policy::{Tensor, hex};
use tensorgate_policy_compiler::{raw, validate};
use tensorgate_sandbox::{HandlerError, HandlerOutput, LoadedHandler, Sandbox, SandboxConfig};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::cores::CoreSet;
use crate::figures::{median, number, quantile};
use crate::lab::Lab;
use crate::models::{CHANNELS, SIDE, photo, photo_of};
use crate::outcome::{Failure, Outcome, failure};
use crate::policy::read_component;
use crate::project::{Project, RUST};
use crate::report::Report;

/// Deadline of a handler that loops, milliseconds.
const DEADLINE_MS: u64 = 50;

/// A hostile handler.
#[derive(Clone, Copy)]
struct Attack {
    component: &'static str,
    /// The behaviour that its config selects.
    behaviour: &'static str,
    does: &'static str,
    /// Whether the behaviour is triggered by raw bytes.
    raw: bool,
}

/// Each attack by itself, then all together.
const ATTACKS: [Attack; 5] = [
    Attack {
        component: "hostile_loop",
        behaviour: "",
        does: "loops forever",
        raw: false,
    },
    Attack {
        component: "hostile_loop",
        behaviour: "",
        does: "calls its host forever",
        raw: true,
    },
    Attack {
        component: "hostile_memory_bomb",
        behaviour: "",
        does: "hoards memory",
        raw: false,
    },
    Attack {
        component: "hostile_behaviours",
        behaviour: "log",
        does: "logs forever",
        raw: false,
    },
    Attack {
        component: "hostile_behaviours",
        behaviour: "ask-large",
        does: "passes megabytes to its host forever",
        raw: false,
    },
];

/// Calls of each hostile handler that are in flight concurrently.
const AT_ONCE: usize = 8;

/// Turns of each handler whose instances are measured.
const TURNS: usize = 10;

/// The limits of a well-behaved handler.
const BUDGET: Budget = Budget {
    memory: "16MiB",
    timeout_ms: 1_000,
};

/// Runs the scenario.
pub async fn run(lab: &Lab, report: &mut Report) -> Outcome<()> {
    lab.cores.enter(CoreSet::Subject)?;
    let outcome = measure(lab, report).await;
    lab.cores.enter(CoreSet::Load)?;
    outcome
}

async fn measure(lab: &Lab, report: &mut Report) -> Outcome<()> {
    let sandbox = Sandbox::new(SandboxConfig::default())?;
    let none = BTreeMap::new();
    let handler = load(lab, &sandbox, "normalise", &none)?;
    let small = load(lab, &sandbox, "passthrough", &none)?;
    let runs = if lab.quick { 20 } else { 2_000 };

    report.section("The sandbox", "Measured in the bench's own process. An instance is what `LoadedHandler::instantiate` makes and drops: store, limits, memory, start. It is measured for the passthrough handler, which starts with 320 KiB of memory and imports no WASI; for the same source as `tensorgate handler build` makes it, whose standard library imports WASI; and for normalise, which starts with what its call needs. They take turns. A call is the guest thread's time for a whole `preprocess` on a fresh instance, 150,528 bytes in and 602,112 out, with fuel and epochs. Native is the handler's own function compiled for this machine, without vector instructions written by hand, which the handler has for WebAssembly. The ratio is to the second of its two rows, which reuses its output.");
    let with_wasi = passthrough_with_wasi(lab, &sandbox)?;
    let mut started = vec![("a fresh instance, made and dropped", &small)];
    match &with_wasi {
        Ok(handler) => started.push(("the same source with WASI", handler)),
        Err(why) => report.line(&format!("No instance with WASI: {why}.")),
    }
    started.push(("a fresh instance of normalise", &handler));
    let mut instances = instantiated(&started, runs)?;
    if let Some(without_wasi) = instances.first() {
        report.reached("instance-p50", quantile(without_wasi, 0.5));
        report.reached("instance-p99", quantile(without_wasi, 0.99));
    }

    let pixels = photo();
    let count = SIDE.saturating_mul(SIDE).saturating_mul(CHANNELS);
    let (mut fresh, mut native, mut reused) = (Vec::new(), Vec::new(), Vec::new());
    let mut kept = vec![0.0_f32; count];
    let mut fuel = 0;
    for _ in 0..runs.div_euclid(2) {
        let called = handler.preprocess("bench", input(&pixels, SIDE)).await?;
        fresh.push(micros(Duration::from_micros(called.ran_us)));
        fuel = called.fuel_used;
        // As in the handler: a new allocation for each answer.
        let began = Instant::now();
        let mut image = vec![0.0_f32; count];
        normalise::planes(std::hint::black_box(&pixels), &mut image);
        std::hint::black_box(&image);
        native.push(micros(began.elapsed()));
        let began = Instant::now();
        normalise::planes(std::hint::black_box(&pixels), &mut kept);
        std::hint::black_box(&kept);
        reused.push(micros(began.elapsed()));
    }
    let row = |name: &str, samples: &mut Vec<f64>| {
        samples.sort_by(f64::total_cmp);
        vec![
            name.to_owned(),
            format!("{:.1}", quantile(samples, 0.5)),
            format!("{:.1}", quantile(samples, 0.99)),
        ]
    };
    let ratio = median(&fresh) / median(&reused);
    let mut rows: Vec<_> = (started.iter().zip(&mut instances))
        .map(|(&(name, _), samples)| row(name, samples))
        .collect();
    rows.extend([
        row("normalise on a fresh instance", &mut fresh),
        row("the same code native, output allocated", &mut native),
        row("the same code native, output reused", &mut reused),
    ]);
    report.table(&["", "p50 µs", "p99 µs"], &rows);
    report.line(&format!("Fuel of one call: {fuel}."));
    report.reached("handler", ratio);
    hostile(lab, report, &sandbox, &pixels).await
}

/// Times of instances that are made and dropped one after the other, microseconds, ascending. The
/// handlers take turns.
fn instantiated(handlers: &[(&str, &LoadedHandler)], runs: usize) -> Outcome<Vec<Vec<f64>>> {
    let mut all = vec![Vec::new(); handlers.len()];
    for _ in 0..TURNS {
        for ((_, handler), times) in handlers.iter().zip(&mut all) {
            for _ in 0..runs.div_euclid(TURNS) {
                let began = Instant::now();
                handler.instantiate()?;
                times.push(micros(began.elapsed()));
            }
        }
    }
    for times in &mut all {
        times.sort_by(f64::total_cmp);
    }
    Ok(all)
}

/// The passthrough handler for `wasm32-wasip2`. The inner error says why it cannot be built.
fn passthrough_with_wasi(lab: &Lab, sandbox: &Sandbox) -> Outcome<Result<LoadedHandler, String>> {
    let project = Project::new(lab, RUST, lab.path("with-wasi"))?;
    let source = include_str!("../../../examples/handlers/passthrough/src/lib.rs");
    std::fs::write(project.source(), source)?;
    let component = match project.build(lab)? {
        Ok(component) => component,
        Err(why) => return Ok(Err(why)),
    };
    let import = b"wasi:";
    if !component.windows(import.len()).any(|bytes| bytes == import) {
        return failure("passthrough built for wasm32-wasip2 imports no WASI");
    }
    load_component(sandbox, "passthrough", &component, BUDGET, &BTreeMap::new()).map(Ok)
}

/// Loads a handler of `make components` with a time limit of one second.
fn load(
    lab: &Lab,
    sandbox: &Sandbox,
    name: &str,
    config: &BTreeMap<String, String>,
) -> Outcome<LoadedHandler> {
    let component = read_component(&lab.components.join(format!("{name}.wasm")))?;
    let budget = if name.starts_with("hostile_") {
        Budget {
            timeout_ms: DEADLINE_MS,
            ..BUDGET
        }
    } else {
        BUDGET
    };
    load_component(sandbox, name, &component, budget, config)
}

/// The limits of a handler, which has plenty of fuel.
#[derive(Clone, Copy)]
pub struct Budget {
    /// Memory limit, as a policy writes it.
    pub memory: &'static str,
    /// Time limit.
    pub timeout_ms: u64,
}

/// Loads a component with a policy of its own.
pub fn load_component(
    sandbox: &Sandbox,
    name: &str,
    component: &[u8],
    budget: Budget,
    config: &BTreeMap<String, String>,
) -> Outcome<LoadedHandler> {
    let policy: raw::Policy = serde_json::from_value(json!({
        "version": 1,
        "handlers": {name: {
            "component": "handler.wasm", "sha256": hex(&Sha256::digest(component)), "config": config,
            "fuel": 1_000_000_000_000_u64, "memory_bytes": budget.memory, "timeout_ms": budget.timeout_ms,
        }},
    }))?;
    let (policy, _) = validate::validate(&policy).map_err(|faults| format!("{faults:?}"))?;
    let rule = policy
        .handlers()
        .get(name)
        .ok_or_else(|| Failure::from("the policy has no handler"))?;
    Ok(sandbox.load(name, rule, Role::Preprocess, component)?)
}

/// Measures a well-behaved handler beside one that loops.
async fn hostile(lab: &Lab, report: &mut Report, sandbox: &Sandbox, pixels: &[u8]) -> Outcome<()> {
    let (runs, neighbours) = if lab.quick { (2, 10) } else { (40, 4_000) };
    let none = BTreeMap::new();
    let looping = load(lab, sandbox, "hostile_loop", &none)?;
    let mut late = Vec::new();
    for _ in 0..runs {
        let began = Instant::now();
        let outcome = looping.preprocess("bench", input(pixels, SIDE)).await;
        if !matches!(outcome, Err(HandlerError::Fault { .. })) {
            return failure("the loop was not stopped");
        }
        late.push(began.elapsed().as_secs_f64() * 1000.0 - number(usize::try_from(DEADLINE_MS)?));
    }
    late.sort_by(f64::total_cmp);
    report.reached("runaway", quantile(&late, 0.99));

    // Uses every core: the looping handler may occupy all guest threads but one.
    lab.cores.enter(CoreSet::Anywhere)?;
    let sandbox = Sandbox::new(SandboxConfig::default())?;
    let working = load(lab, &sandbox, "normalise", &none)?;
    let row = |what: String, all: &[f64], unit: &str, digits: usize| {
        let figure = |share| format!("{:.digits$} {unit}", quantile(all, share));
        vec![what, figure(0.5), figure(0.99)]
    };
    let what = format!("stopping a loop, after its deadline of {DEADLINE_MS} ms");
    let mut rows = vec![row(what, &late, "ms", 2)];
    let mut worst = 0.0_f64;
    // The clients of the hostile handlers run on a thread of their own, so the neighbour's client
    // does not wait for them.
    let crowd = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let alone = |attack: &Attack| {
        let what = format!(
            "normalise beside {AT_ONCE} calls of one that {}",
            attack.does
        );
        (what, vec![*attack])
    };
    let all = (
        "normalise beside all of these together".to_owned(),
        ATTACKS.to_vec(),
    );
    for (what, attacks) in ATTACKS.iter().map(alone).chain([all]) {
        // Each attack is compared with a quiet period of its own.
        let quiet = latencies(&working, pixels, neighbours).await?;
        let mut attackers = Vec::new();
        for attack in attacks {
            attackers.extend(attackers_of(lab, &sandbox, attack, crowd.handle())?);
        }
        let loud = latencies(&working, pixels, neighbours).await?;
        for attacker in &attackers {
            attacker.abort();
        }
        for attacker in attackers {
            // The task was aborted, as intended. A call that still runs ends within a tick or two.
            if let Ok(outcome) = attacker.await {
                return failure(format!("{what}: not stopped: {outcome:?}"));
            }
        }
        rows.push(row("normalise alone".to_owned(), &quiet, "µs", 0));
        rows.push(row(what, &loud, "µs", 0));
        worst = worst.max(quantile(&loud, 0.99) / quantile(&quiet, 0.99));
    }
    crowd.shutdown_background();
    lab.cores.enter(CoreSet::Subject)?;
    report.table(&["", "p50", "p99"], &rows);
    report.reached("neighbour", worst);
    Ok(())
}

/// Keeps calls of a hostile handler in flight. Each task returns what was not stopped.
fn attackers_of(
    lab: &Lab,
    sandbox: &Sandbox,
    attack: Attack,
    crowd: &Handle,
) -> Outcome<Vec<JoinHandle<Result<HandlerOutput, HandlerError>>>> {
    let config = BTreeMap::from([("behaviour".to_owned(), attack.behaviour.to_owned())]);
    let hostile = load(lab, sandbox, attack.component, &config)?;
    let bad = if attack.raw {
        Payload::Raw {
            content_type: "application/octet-stream".to_owned(),
            data: vec![0_u8; 16].into(),
        }
    } else {
        // The behaviour does not depend on the input: send the smallest one.
        input(&photo_of(1), 1)
    };
    let endless = || {
        let (hostile, bad) = (hostile.clone(), bad.clone());
        crowd.spawn(async move {
            loop {
                // Each call is expected to be stopped. Calls that wait too long in the handler's
                // queue are rejected.
                match hostile.preprocess("bench", bad.clone()).await {
                    Err(HandlerError::Fault { .. } | HandlerError::Overloaded(_)) => {}
                    outcome => return outcome,
                }
            }
        })
    };
    Ok(std::iter::repeat_with(endless).take(AT_ONCE).collect())
}

async fn latencies(handler: &LoadedHandler, pixels: &[u8], count: usize) -> Outcome<Vec<f64>> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        handler.preprocess("bench", input(pixels, SIDE)).await?;
        all.push(micros(began.elapsed()));
    }
    all.sort_by(f64::total_cmp);
    Ok(all)
}

/// A time in microseconds.
pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000_000.0
}

/// A picture as the input of a handler.
pub fn input(pixels: &[u8], side: usize) -> Payload {
    let wide = |dim: usize| i64::try_from(dim).unwrap_or_default();
    Payload::Tensors(vec![Tensor {
        name: "photo".into(),
        datatype: "UINT8".into(),
        shape: vec![1, wide(side), wide(side), wide(CHANNELS)],
        parameters: Vec::new(),
        data: Ok(pixels.to_vec().into()),
    }])
}
