//! Handlers by language: start-up time of a fresh instance, and the cost of the same task inside
//! and outside the sandbox.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use tensorgate_sandbox::{LoadedHandler, Sandbox, SandboxConfig};

use super::sandbox::{Budget, input, load_component, micros};
use crate::cores::CoreSet;
use crate::figures::{median, quantile};
use crate::lab::Lab;
use crate::models::{SIDE, photo, photo_of};
use crate::outcome::{Failure, Outcome, failure};
use crate::policy::read_component;
use crate::project::{JS, Language, PYTHON, Project};
use crate::report::Report;

/// A handler: its language and source, and its two targets (start-up with the first call, and the
/// task).
struct Contestant {
    language: Language,
    source: &'static str,
    start: &'static str,
    job: &'static str,
}

const IN_PYTHON: Contestant = Contestant {
    language: PYTHON,
    source: include_str!("../../handlers/handler.py"),
    start: "python-start",
    job: "python-nchw",
};

const IN_JS: Contestant = Contestant {
    language: JS,
    source: include_str!("../../handlers/handler.js"),
    start: "js-start",
    job: "js-nchw",
};

const CONTESTANTS: [Contestant; 2] = [IN_PYTHON, IN_JS];

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
    name: String,
    does: Does,
    jobs: Vec<f64>,
    fuel: Option<u64>,
}

enum Does {
    Handler(Box<LoadedHandler>),
    /// An interpreter of this machine, and which of its implementations.
    Outside(std::path::PathBuf, &'static str),
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
        "Handlers by language",
        "Measured in the bench's own process with fuel and epochs. An instance is made and dropped. A first call is an instance and a `preprocess` of 2×2 pixels that returns its input (in Rust it performs the task). The task is a whole `preprocess` of 224×224×3 bytes to FP32 NCHW on a fresh instance. Python is CPython and JavaScript QuickJS, each with the tensor kit in its component, as `tensorgate handler build` makes it. Plain is without the kit: a list comprehension for each channel, or a loop over a typed array. Outside the sandbox, an interpreter of this machine (the KServe peer's) runs the same list code, and numpy.",
    );
    let sandbox = Sandbox::new(SandboxConfig::default())?;
    let rust = read_component(&lab.components.join("normalise.wasm"))?;
    let load = |component: &[u8], how: &str| {
        let config = BTreeMap::from([("how".to_owned(), how.to_owned())]);
        load_component(&sandbox, "normalise", component, BUDGET, &config)
    };
    let way = |name: String, does: Does| Way {
        name,
        does,
        jobs: Vec::new(),
        fuel: None,
    };
    let mut ways = vec![way(
        "Rust".to_owned(),
        Does::Handler(Box::new(load(&rust, "kit")?)),
    )];
    let mut starts = Vec::new();
    let first = ways.first().and_then(Way::handler);
    let first = first.ok_or_else(|| Failure::from("no handler in Rust"))?;
    starts.push(start(lab, "Rust", first).await?.0);
    for contestant in &CONTESTANTS {
        let title = contestant.language.title;
        let component = match build(lab, contestant)? {
            Ok(component) => component,
            Err(why) => {
                report.line(&format!("{title}: {why}"));
                report.absent(contestant.start, &why);
                report.absent(contestant.job, &why);
                continue;
            }
        };
        let kit = load(&component, "kit")?;
        let (row, first_call_us) = start(lab, title, &load(&component, "start")?).await?;
        starts.push(row);
        report.reached(contestant.start, first_call_us / 1000.0);
        ways.push(way(
            format!("{title}, the kit"),
            Does::Handler(Box::new(kit)),
        ));
        let title = format!("{title}, plain");
        ways.push(way(
            title,
            Does::Handler(Box::new(load(&component, "plain")?)),
        ));
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
    let interpreter = lab.cache.join("bench-kserve/bin/python");
    if interpreter.exists() {
        for (name, how) in [
            ("CPython outside, plain", "plain"),
            ("CPython outside, numpy", "numpy"),
        ] {
            ways.push(way(
                name.to_owned(),
                Does::Outside(interpreter.clone(), how),
            ));
        }
    } else {
        report.line("No interpreter with numpy is installed (tools/bench-peers.sh).");
    }
    jobs(lab, &mut ways).await?;
    tell(report, &ways);
    Ok(())
}

impl Way {
    const fn handler(&self) -> Option<&LoadedHandler> {
        match &self.does {
            Does::Handler(handler) => Some(handler),
            Does::Outside(..) => None,
        }
    }

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
    let file = lab.path("photo");
    std::fs::write(&file, &pixels)?;
    let mut image = vec![0.0_f32; pixels.len()];
    normalise::planes(&pixels, &mut image);
    for _ in 0..rounds {
        for way in &mut *ways {
            match &way.does {
                Does::Handler(handler) => {
                    for _ in 0..runs {
                        let called = handler.preprocess("bench", input(&pixels, SIDE)).await?;
                        way.jobs
                            .push(micros(std::time::Duration::from_micros(called.ran_us)));
                        way.fuel = Some(called.fuel_used);
                        let made = called
                            .tensors
                            .first()
                            .and_then(|made| made.data.as_ref().ok());
                        let made = made.ok_or_else(|| Failure::from("no image"))?;
                        agree(&way.name, made, &image)?;
                    }
                }
                Does::Outside(interpreter, how) => {
                    outside(lab, interpreter, how, &file, runs, &mut way.jobs)?;
                }
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

/// Runs the task in an interpreter of this machine, on the same core.
fn outside(
    lab: &Lab,
    interpreter: &Path,
    how: &str,
    photo: &Path,
    runs: usize,
    jobs: &mut Vec<f64>,
) -> Outcome<()> {
    let output = Command::new(interpreter)
        .arg(lab.root.join("bench/peers/python/planes.py"))
        .arg(how)
        .arg(photo)
        .arg(runs.to_string())
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return failure(format!("planes.py {how}: {said}"));
    }
    let text = String::from_utf8(output.stdout)?;
    for line in text.lines().take(runs) {
        jobs.push(line.parse()?);
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
                way.name.clone(),
                format!("{:.0}", quantile(&sorted, 0.5)),
                format!("{:.0}", quantile(&sorted, 0.99)),
                format!("{:.1}", way.p50() / rust),
                way.fuel.map_or_else(String::new, |fuel| fuel.to_string()),
            ]
        })
        .collect();
    report.table(&["the task", "p50 µs", "p99 µs", "× Rust", "fuel"], &rows);
    for contestant in &CONTESTANTS {
        let kit = format!("{}, the kit", contestant.language.title);
        if let Some(way) = ways.iter().find(|way| way.name == kit) {
            let figure = match contestant.language.name {
                "python" => way.p50() / 1000.0,
                _ => way.p50() / rust,
            };
            report.reached(contestant.job, figure);
        }
    }
}

/// Builds the component of the handler in Python, whose configuration may be empty. The inner error
/// says why the language is not available.
pub fn python_component(lab: &Lab) -> Outcome<Result<Vec<u8>, String>> {
    build(lab, &IN_PYTHON)
}

/// Builds a component from a new project with the bench's handler. The inner error says why the
/// language is not available.
fn build(lab: &Lab, contestant: &Contestant) -> Outcome<Result<Vec<u8>, String>> {
    let folder = lab.path(contestant.language.name);
    let project = Project::new(lab, contestant.language, folder)?;
    std::fs::write(project.source(), contestant.source)?;
    project.build(lab)
}
