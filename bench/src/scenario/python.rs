//! Handlers in Python with numpy, pandas and scikit-learn: whole calls on fresh instances, compared
//! with the same files in this machine's CPython, and the memory of many calls at once.

mod memory;
mod tasks;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tensorgate_base::payload::Payload;
use tensorgate_sandbox::{CompilerConfig, HandlerOutput, LoadedHandler, Sandbox, SandboxConfig};

use self::memory::MEMORY;
use self::tasks::{Goal, Input, NCHW, TASKS, Task};
use super::sandbox::{Budget, load_component, micros};
use crate::cores::CoreSet;
use crate::figures::{interval, median, quantile};
use crate::lab::Lab;
use crate::outcome::{Failure, Outcome, failure};
use crate::project::{PYTHON, Project};
use crate::report::Report;

/// The handler, which is the same for each task.
const HANDLER: &str = include_str!("../../handlers/python/handler.py");

/// The limits of a call. A busy machine may need long for the first ones.
const BUDGET: Budget = Budget {
    memory: "256MiB",
    timeout_ms: 20_000,
};

/// Largest accepted difference between the results of sandbox and CPython.
const TOLERANCE: f32 = 1e-3;

/// A task whose handler is built.
struct Contestant {
    task: &'static Task,
    component: Vec<u8>,
    inputs: Vec<Input>,
    /// The runs in the sandbox, and those of each peer, one list for each round.
    calls: Vec<Vec<f64>>,
    peers: Vec<Vec<Vec<f64>>>,
    instances: Vec<f64>,
    fuel: u64,
}

impl Contestant {
    /// What a call gets. A call that holds does not end.
    fn payload(&self, holds: bool) -> Payload {
        let inputs = self.inputs.iter().zip(["first", "second"]);
        let mut tensors: Vec<_> = inputs.map(|(input, name)| input.tensor(name)).collect();
        if holds {
            tensors.push(Input::new("UINT8", &[1], vec![0]).tensor("hold"));
        }
        Payload::Tensors(tensors)
    }

    /// The time of the calls relative to that of the first peer, in each round.
    fn ratios(&self) -> Vec<f64> {
        let peer = self.peers.first().into_iter().flatten();
        let rounds = self.calls.iter().zip(peer);
        rounds
            .map(|(calls, peer)| median(calls) / median(peer))
            .collect()
    }
}

/// Runs the scenario.
pub async fn run(lab: &Lab, report: &mut Report) -> Outcome<()> {
    report.section("Handlers in Python with numpy, pandas and scikit-learn", "Measured in the bench's own process with fuel and epochs: the guest thread's time for a whole `preprocess` on a fresh instance, from the input's bytes to the output's, with the end of the instance. An instance is made and dropped. Each task is a file of `handlers/python`. CPython of this machine runs the same file in one process, again and again with the same arrays: a peer without instances, protocol and limits, whose libraries are those of `peers/requirements-python.txt`. Rounds take turns; results agree. What the file does while it is imported, such as fitting a pipeline, is not in either time.");
    let mut contestants = Vec::new();
    for task in &TASKS {
        match component(lab, task)? {
            Ok(component) => contestants.push(Contestant {
                task,
                component,
                inputs: (task.inputs)(),
                calls: Vec::new(),
                peers: vec![Vec::new(); task.peers.len()],
                instances: Vec::new(),
                fuel: 0,
            }),
            Err(why) => {
                report.line(&format!("{}: {why}.", task.title));
                let (Goal::Milliseconds(target) | Goal::Ratio(target)) = task.goal;
                report.absent(target, &why);
                report.absent(MEMORY, &why);
            }
        }
    }
    lab.cores.enter(CoreSet::Subject)?;
    let outcome = times(lab, report, &mut contestants).await;
    lab.cores.enter(CoreSet::Anywhere)?;
    let outcome = match outcome {
        Ok(()) => memory::measure(lab, report, &contestants).await,
        Err(error) => Err(error),
    };
    lab.cores.enter(CoreSet::Load)?;
    outcome
}

/// Builds the handler of the task that a gate has. The inner error says why Python is not
/// available.
pub fn nchw_component(lab: &Lab) -> Outcome<Result<Vec<u8>, String>> {
    component(lab, &NCHW)
}

fn component(lab: &Lab, task: &Task) -> Outcome<Result<Vec<u8>, String>> {
    let project = Project::new(lab, PYTHON, lab.path(task.name))?;
    std::fs::write(project.source(), HANDLER)?;
    std::fs::write(project.source().with_file_name("task.py"), task.source)?;
    project.build(lab)
}

/// A sandbox that has runtimes, for this many calls at once. Builds have put the runtime's code
/// into the cache.
fn sandbox(lab: &Lab, threads: usize) -> Outcome<Sandbox> {
    Ok(Sandbox::new(SandboxConfig {
        threads,
        handlers: TASKS.len(),
        // All calls are of one client.
        is_shared: false,
        compiler: CompilerConfig {
            folder: Some(lab.compiled_code()),
            runtimes: vec![lab.runtimes()],
            ..CompilerConfig::default()
        },
        ..SandboxConfig::default()
    })?)
}

fn load(sandbox: &Sandbox, contestant: &Contestant) -> Outcome<LoadedHandler> {
    let (name, component) = (contestant.task.name, &contestant.component);
    load_component(sandbox, name, component, BUDGET, &BTreeMap::new())
}

async fn times(lab: &Lab, report: &mut Report, contestants: &mut [Contestant]) -> Outcome<()> {
    let (rounds, runs) = if lab.quick { (1, 2) } else { (9, 40) };
    let sandbox = sandbox(lab, 1)?;
    let interpreter = lab.cache.join("bench-python/bin/python");
    let interpreter = interpreter.exists().then_some(interpreter);
    if interpreter.is_none() {
        report.line("CPython with these libraries is not installed (tools/bench-peers.sh).");
    }
    for contestant in &mut *contestants {
        let handler = load(&sandbox, contestant)?;
        for _ in 0..rounds {
            let mut calls = Vec::with_capacity(runs);
            // The first call of a round maps what the last peer has displaced.
            let mut output = call(&handler, contestant).await?;
            for _ in 0..runs {
                let began = Instant::now();
                handler.instantiate()?;
                contestant.instances.push(micros(began.elapsed()));
                output = call(&handler, contestant).await?;
                calls.push(micros(Duration::from_micros(output.ran_us)));
            }
            contestant.fuel = output.fuel_used;
            contestant.calls.push(calls);
            let Some(interpreter) = &interpreter else {
                continue;
            };
            let peers = contestant.task.peers.iter().enumerate();
            for (at, (name, title)) in peers {
                let (times, made) = natively(lab, interpreter, name, contestant, runs)?;
                agree(contestant.task.name, title, &output, &made)?;
                if let Some(peer) = contestant.peers.get_mut(at) {
                    peer.push(times);
                }
            }
        }
    }
    write_rows(report, contestants);
    Ok(())
}

async fn call(handler: &LoadedHandler, contestant: &Contestant) -> Outcome<HandlerOutput> {
    let input = contestant.payload(false);
    Ok(handler.preprocess("bench", input).await?)
}

/// Runs a task in an interpreter of this machine, on the same core. Returns the microseconds of
/// each run, and the result.
fn natively(
    lab: &Lab,
    interpreter: &Path,
    name: &str,
    contestant: &Contestant,
    runs: usize,
) -> Outcome<(Vec<f64>, Vec<u8>)> {
    let result = lab.path("result");
    let mut command = Command::new(interpreter);
    command
        .arg("-B")
        .arg(lab.root.join("bench/peers/python/tasks.py"))
        .args([name, &runs.to_string()])
        .arg(&result);
    for input in &contestant.inputs {
        command.arg(input.argument(lab)?);
    }
    let output = command.output()?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return failure(format!("tasks.py {name}: {errors}"));
    }
    let text = String::from_utf8(output.stdout)?;
    let times: Result<Vec<f64>, _> = text.lines().map(str::parse).collect();
    Ok((times?, std::fs::read(&result)?))
}

/// Compares the results of a task, which are FP32.
fn agree(name: &str, peer: &str, output: &HandlerOutput, expected: &[u8]) -> Outcome<()> {
    let made = output.tensors.first();
    let made = made.and_then(|made| made.data.as_ref().ok());
    let made = made.ok_or_else(|| Failure::from("no result"))?;
    let (made, rest) = made.as_chunks::<4>();
    let (expected, beyond) = expected.as_chunks::<4>();
    let near = |(made, expected): (&[u8; 4], &[u8; 4])| {
        let [made, expected] = [made, expected].map(|bytes| f32::from_le_bytes(*bytes));
        (made - expected).abs() <= TOLERANCE || made.is_nan() && expected.is_nan()
    };
    let are_complete = rest.is_empty() && beyond.is_empty() && made.len() == expected.len();
    if !are_complete || !made.iter().zip(expected).all(near) {
        return failure(format!("{name} has another result {peer}"));
    }
    Ok(())
}

fn write_rows(report: &mut Report, contestants: &[Contestant]) {
    let mut rows = Vec::new();
    for contestant in contestants {
        let task = contestant.task;
        let ratios = contestant.ratios();
        let figures = |all: &[Vec<f64>]| {
            let mut sorted = all.concat();
            sorted.sort_by(f64::total_cmp);
            let shares = [0.5, 0.95, 0.99].into_iter();
            shares.map(move |share| format!("{:.0}", quantile(&sorted, share)))
        };
        let mut row = vec![
            task.title.to_owned(),
            format!("{:.0}", median(&contestant.instances)),
        ];
        row.extend(figures(&contestant.calls));
        if ratios.is_empty() {
            row.extend([String::new(), String::new()]);
        } else {
            let (least, most) = interval(&ratios);
            row.push(format!("{:.2}", median(&ratios)));
            row.push(format!("{least:.2} to {most:.2}"));
        }
        row.push(contestant.fuel.to_string());
        rows.push(row);
        for ((_, title), all) in task.peers.iter().zip(&contestant.peers) {
            if !all.is_empty() {
                let mut row = vec![format!("the same {title}"), String::new()];
                row.extend(figures(all));
                row.extend([String::new(), String::new(), String::new()]);
                rows.push(row);
            }
        }
        match task.goal {
            Goal::Milliseconds(target) => {
                report.reached(target, median(&contestant.calls.concat()) / 1000.0);
            }
            Goal::Ratio(target) if ratios.is_empty() => {
                report.absent(target, "CPython with these libraries is not installed");
            }
            Goal::Ratio(target) => report.reached(target, median(&ratios)),
        }
    }
    report.table(
        &[
            "the task",
            "instance p50 µs",
            "p50 µs",
            "p95 µs",
            "p99 µs",
            "× CPython",
            "95 % of ×",
            "fuel",
        ],
        &rows,
    );
}
