//! Handlers in JavaScript and Rust: start-up time of a fresh instance, and the cost of the same
//! task. Those in Python have a scenario of their own.

use std::collections::BTreeMap;
use std::time::Instant;

use tensorgate_sandbox::{LoadedHandler, Sandbox, SandboxConfig};

use super::sandbox::{Budget, input, load_component, micros};
use crate::cores::CoreSet;
use crate::figures::{median, quantile};
use crate::lab::Lab;
use crate::models::{SIDE, photo, photo_of};
use crate::outcome::{Failure, Outcome, failure};
use crate::policy::read_component;
use crate::project::{JS, Project};
use crate::report::Report;

/// The name of the handler in JavaScript with the tensor kit.
const KIT: &str = "JavaScript, the kit";

/// The targets of the handler in JavaScript: start-up with the first call, and the task.
const START: &str = "js-start";
const TASK: &str = "js-nchw";

/// The budget that an interpreter needs for the task without the tensor kit.
const BUDGET: Budget = Budget {
    memory: "128MiB",
    timeout_ms: 20_000,
};

/// Pixels a side of the picture in a first call.
const SMALL_SIDE: usize = 2;

/// Largest accepted difference between the languages' floats.
const TOLERANCE: f32 = 1e-4;

/// One way to run the task.
struct Way {
    name: &'static str,
    handler: LoadedHandler,
    jobs: Vec<f64>,
    fuel: u64,
}

/// Runs the scenario.
pub async fn run(lab: &Lab, report: &mut Report) -> Outcome<()> {
    lab.cores.enter(CoreSet::Subject)?;
    let outcome = measure(lab, report).await;
    lab.cores.enter(CoreSet::Load)?;
    outcome
}

async fn measure(lab: &Lab, report: &mut Report) -> Outcome<()> {
    report.section(
        "Handlers in JavaScript and Rust",
        "Measured in the bench's own process with fuel and epochs. An instance is made and dropped. A first call is an instance and a `preprocess` of 2×2 pixels that returns its input (in Rust it performs the task). The task is a whole `preprocess` of 224×224×3 bytes to FP32 NCHW on a fresh instance. JavaScript is QuickJS with the tensor kit in its component, as `tensorgate handler build` makes it. Plain is without the kit: a loop over a typed array.",
    );
    let sandbox = Sandbox::new(SandboxConfig::default())?;
    let rust = read_component(&lab.components.join("normalise.wasm"))?;
    let load = |component: &[u8], how: &str| {
        let config = BTreeMap::from([("how".to_owned(), how.to_owned())]);
        load_component(&sandbox, "normalise", component, BUDGET, &config)
    };
    let way = |name, handler| Way {
        name,
        handler,
        jobs: Vec::new(),
        fuel: 0,
    };
    let handler = load(&rust, "kit")?;
    let mut starts = vec![start(lab, "Rust", &handler).await?.0];
    let mut ways = vec![way("Rust", handler)];
    match build(lab)? {
        Ok(component) => {
            let (row, first_call_us) = start(lab, JS.title, &load(&component, "start")?).await?;
            starts.push(row);
            report.reached(START, first_call_us / 1000.0);
            ways.push(way(KIT, load(&component, "kit")?));
            ways.push(way("JavaScript, plain", load(&component, "plain")?));
        }
        Err(why) => {
            report.line(&format!("{}: {why}", JS.title));
            report.absent(START, &why);
            report.absent(TASK, &why);
        }
    }
    report.table(
        &[
            "",
            "instance p50 µs",
            "p99 µs",
            "first call p50 µs",
            "p99 µs",
            "its fuel",
        ],
        &starts,
    );
    jobs(lab, &mut ways).await?;
    tell(report, &ways);
    Ok(())
}

impl Way {
    fn p50(&self) -> f64 {
        median(&self.jobs)
    }
}

/// Measures instantiation and first calls of a handler: a row, and the median of the first calls.
async fn start(lab: &Lab, name: &str, handler: &LoadedHandler) -> Outcome<(Vec<String>, f64)> {
    let runs = if lab.quick { 5 } else { 1_000 };
    let (mut instances, mut calls, mut fuel) = (Vec::new(), Vec::new(), 0);
    let pixels = photo_of(SMALL_SIDE);
    for _ in 0..runs {
        let began = Instant::now();
        handler.instantiate()?;
        instances.push(micros(began.elapsed()));
        let called = handler
            .preprocess("bench", input(&pixels, SMALL_SIDE))
            .await?;
        calls.push(micros(std::time::Duration::from_micros(called.ran_us)));
        fuel = called.fuel_used;
    }
    instances.sort_by(f64::total_cmp);
    calls.sort_by(f64::total_cmp);
    let figure = |all: &[f64], share| format!("{:.0}", quantile(all, share));
    let row = vec![
        name.to_owned(),
        figure(&instances, 0.5),
        figure(&instances, 0.99),
        figure(&calls, 0.5),
        figure(&calls, 0.99),
        fuel.to_string(),
    ];
    Ok((row, quantile(&calls, 0.5)))
}

/// Runs the task in each way in turn. All results must agree.
async fn jobs(lab: &Lab, ways: &mut [Way]) -> Outcome<()> {
    let (rounds, runs) = if lab.quick { (1, 1) } else { (5, 40) };
    let pixels = photo();
    let mut image = vec![0.0_f32; pixels.len()];
    normalise::planes(&pixels, &mut image);
    for _ in 0..rounds {
        for way in &mut *ways {
            for _ in 0..runs {
                let called = (way.handler)
                    .preprocess("bench", input(&pixels, SIDE))
                    .await?;
                way.jobs
                    .push(micros(std::time::Duration::from_micros(called.ran_us)));
                way.fuel = called.fuel_used;
                let made = called
                    .tensors
                    .first()
                    .and_then(|made| made.data.as_ref().ok());
                let made = made.ok_or_else(|| Failure::from("no image"))?;
                agree(way.name, made, &image)?;
            }
        }
    }
    Ok(())
}

fn agree(name: &str, made: &[u8], image: &[f32]) -> Outcome<()> {
    let (numbers, rest) = made.as_chunks::<4>();
    let near = |(found, expected): (&[u8; 4], &f32)| {
        (f32::from_le_bytes(*found) - expected).abs() <= TOLERANCE
    };
    if !rest.is_empty() || numbers.len() != image.len() || !numbers.iter().zip(image).all(near) {
        return failure(format!(
            "{name} returns another image than the handler in Rust"
        ));
    }
    Ok(())
}

fn tell(report: &mut Report, ways: &[Way]) {
    let Some(rust) = ways.first().map(Way::p50) else {
        return;
    };
    let rows: Vec<Vec<String>> = ways
        .iter()
        .map(|way| {
            let mut sorted = way.jobs.clone();
            sorted.sort_by(f64::total_cmp);
            vec![
                way.name.to_owned(),
                format!("{:.0}", quantile(&sorted, 0.5)),
                format!("{:.0}", quantile(&sorted, 0.99)),
                format!("{:.1}", way.p50() / rust),
                way.fuel.to_string(),
            ]
        })
        .collect();
    report.table(&["the task", "p50 µs", "p99 µs", "× Rust", "fuel"], &rows);
    if let Some(way) = ways.iter().find(|way| way.name == KIT) {
        report.reached(TASK, way.p50() / rust);
    }
}

/// Builds a component from a new project with the bench's handler. The inner error says why
/// JavaScript is not available.
fn build(lab: &Lab) -> Outcome<Result<Vec<u8>, String>> {
    let project = Project::new(lab, JS, lab.path(JS.name))?;
    std::fs::write(project.source(), include_str!("../../handlers/handler.js"))?;
    project.build(lab)
}
