//! The loop of a handler's author: the time from an edit until a gate of `up --dev` answers with
//! it, and the time of `handler test`.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::reload::{in_force, start};
use crate::cores::CoreSet;
use crate::figures::quantile;
use crate::lab::{Lab, Server};
use crate::models::{SMALL, json_shot};
use crate::outcome::{Outcome, failure};
use crate::policy::{Shape, insert, key};
use crate::project::{JS, Language, PYTHON, Project, RUST};
use crate::report::Report;

/// An edit of the template's handler.
struct Edit {
    language: Language,
    /// What it is in tables.
    title: &'static str,
    /// Lines that are put before the template's.
    imports: &'static str,
    /// The text that accepts one tensor.
    before: &'static str,
    /// The text that rejects it.
    after: &'static str,
    /// The target.
    target: &'static str,
}

const EDITS: [Edit; 4] = [
    Edit {
        language: PYTHON,
        title: "Python, numpy",
        imports: "",
        before: "len(input) != 1",
        after: "len(input) == 1",
        target: "edit-python",
    },
    Edit {
        language: PYTHON,
        title: "Python, pandas and scikit-learn",
        imports: "import pandas\nimport sklearn.preprocessing\n",
        before: "len(input) != 1",
        after: "len(input) == 1",
        target: "edit-pandas",
    },
    Edit {
        language: JS,
        title: JS.title,
        imports: "",
        before: "input.length !== 1",
        after: "input.length === 1",
        target: "edit-js",
    },
    Edit {
        language: RUST,
        title: RUST.title,
        imports: "",
        before: "let [image] =",
        after: "let [image, _] =",
        target: "edit-rust",
    },
];

/// The target of `handler test`.
const TEST: &str = "handler-test";
/// The handler's name in the policy.
const HANDLER: &str = "edited";
/// The project's folder, beside the policy.
const FOLDER: &str = "project";
/// Interval between two requests that look for an edit.
const INTERVAL: Duration = Duration::from_millis(10);

/// Runs the scenario.
pub async fn run(lab: &Lab, report: &mut Report) -> Outcome<()> {
    // As an author's tools, which use every core.
    lab.cores.enter(CoreSet::Anywhere)?;
    let outcome = measure(lab, report).await;
    lab.cores.enter(CoreSet::Load)?;
    outcome
}

async fn measure(lab: &Lab, report: &mut Report) -> Outcome<()> {
    report.section("Edits of a handler", "`tensorgate up --dev` runs with the handler of a new project, and a line of its source changes. The time is from the write to the first response of the changed handler, through gate and host. It includes the build, the new digest in the policy, its reload, and half a second or more in which both files have to settle. The first build is not counted. `handler test` runs the four cases of the project; the component was compiled in an earlier run. All cores are used.");
    let (edits, tests) = if lab.quick { (2, 2) } else { (20, 20) };
    let upstream = Server::start(lab, "upstream").await?;
    let (mut rows, mut slowest) = (Vec::new(), None);
    for edit in &EDITS {
        let folder = lab.folder(edit.language.name)?;
        let project = Project::new(lab, edit.language, folder.join(FOLDER))?;
        let template = std::fs::read_to_string(project.source())?;
        std::fs::write(project.source(), format!("{}{template}", edit.imports))?;
        if let Err(why) = project.build(lab)? {
            report.line(&format!("{}: {why}.", edit.title));
            report.absent(edit.target, &why);
            report.absent(TEST, &why);
            continue;
        }
        let tested = tested(lab, &project, tests)?;
        let live = edited(lab, edit, &project, &folder, upstream.tcp()?, edits).await?;
        let seconds = |times: &[f64], share| format!("{:.2}", quantile(times, share));
        rows.push(vec![
            edit.title.to_owned(),
            seconds(&live, 0.5),
            seconds(&live, 1.0),
            seconds(&tested, 0.5),
            seconds(&tested, 1.0),
        ]);
        report.reached(edit.target, quantile(&live, 0.5));
        let test = quantile(&tested, 0.5);
        slowest = Some(slowest.map_or(test, |other: f64| other.max(test)));
    }
    report.table(
        &[
            "",
            "edit to live, p50 s",
            "slowest s",
            "`handler test`, p50 s",
            "slowest s",
        ],
        &rows,
    );
    if let Some(test) = slowest {
        report.reached(TEST, test);
    }
    Ok(())
}

/// Seconds of `handler test`, ascending. A first run, which compiles the component, is not counted.
fn tested(lab: &Lab, project: &Project, runs: usize) -> Outcome<Vec<f64>> {
    project.test(lab)?;
    let mut all = Vec::with_capacity(runs);
    for _ in 0..runs {
        let started = Instant::now();
        project.test(lab)?;
        all.push(started.elapsed().as_secs_f64());
    }
    all.sort_by(f64::total_cmp);
    Ok(all)
}

/// Seconds from an edit to the first response of the edited handler, ascending.
async fn edited(
    lab: &Lab,
    edit: &Edit,
    project: &Project,
    folder: &Path,
    upstream: SocketAddr,
    edits: usize,
) -> Outcome<Vec<f64>> {
    let file = project.source();
    let accepts = std::fs::read_to_string(&file)?;
    let rejects = accepts.replace(edit.before, edit.after);
    if rejects == accepts {
        return failure(format!("the template has no text {:?}", edit.before));
    }
    let component = format!("{FOLDER}/{}", project.development_component());
    let policy = policy(upstream, &component);
    std::fs::write(folder.join("gate.yaml"), policy.to_string())?;
    let (_up, gate) = start(lab, folder, CoreSet::Anywhere, &["--dev"]).await?;
    let shot = json_shot(SMALL)?.with("x-api-key", &key(0))?;
    in_force(gate, &shot, 200, INTERVAL).await?;
    let mut all = Vec::with_capacity(edits);
    for number in 0..edits {
        let (text, status) = if number % 2 == 0 {
            (&rejects, 400)
        } else {
            (&accepts, 200)
        };
        let began = Instant::now();
        std::fs::write(&file, text)?;
        in_force(gate, &shot, status, INTERVAL).await?;
        all.push(began.elapsed().as_secs_f64());
    }
    all.sort_by(f64::total_cmp);
    Ok(all)
}

/// A policy whose small model has the handler before it. `up --dev` writes its digest.
fn policy(upstream: SocketAddr, component: &str) -> Value {
    let mut shape = Shape::plain(upstream);
    // Half of the requests are rejected, which is no attack.
    shape.has_watch = false;
    let mut policy = shape.to_json();
    let handler = json!({
        "component": component, "sha256": "0".repeat(64),
        "fuel": 200_000_000, "memory_bytes": "256MiB", "timeout_ms": 1_000,
    });
    insert(&mut policy, "handlers", json!({HANDLER: handler}));
    if let Some(model) = policy.pointer_mut(&format!("/models/{SMALL}")) {
        let inputs = json!([{"name": "image", "datatype": "FP32", "shape": [2, 1, 8, 8]}]);
        insert(model, "accepts", json!({"inputs": inputs}));
        insert(model, "preprocess", json!(HANDLER));
    }
    policy
}
