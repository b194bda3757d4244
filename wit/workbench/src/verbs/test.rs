//! The `handler test` verb: runs a project's cases in the host's sandbox, once or after each change
//! of the project.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::{Ui, printable, printable_lines};
use tensorgate_sandbox::{HandlerError, HandlerOutput};

use crate::build::build;
use crate::case::{self, Case, Expected, update, written};
use crate::case_log::CaseLog;
use crate::compare::{carry_difference, differences};
use crate::log_line::LogLine;
use crate::policy_contract::PolicyContract;
use crate::project::{Project, read_component};
use crate::runner::Runner;
use crate::steps::step;
use crate::watch::{BuildInputs, Snapshot};

/// Run a project's cases, each in a fresh instance, within the limits of its handler.yaml.
#[derive(Args)]
#[command(
    after_help = "Runs the output of `tensorgate handler build`, with a warning if a source is newer. With --watch, a changed source is built first, and Ctrl-C ends the command.\nThe log lines of a handler stand below its case.\nExit codes: 0 every case passed or was updated, 1 one failed, 2 invalid usage or input.\n\nExample: tensorgate handler test scale\nExample: tensorgate handler test scale --policy gate.yaml --model images"
)]
pub struct Test {
    /// Project folder.
    #[arg(default_value = ".")]
    project: PathBuf,
    /// Only cases whose name contains this text.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Component to run instead of the built one.
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// Run the cases again whenever a file of the project changes, and build it first if a source
    /// did.
    #[arg(long)]
    watch: bool,
    /// Also print the tensors that each call returned, or the text of its rejection.
    #[arg(long)]
    show: bool,
    /// Rewrite the expected tensors that differ, in the case or in the file that it names. Inputs
    /// are never written.
    #[arg(long, conflicts_with = "watch")]
    update: bool,
    /// Policy with the contract of --model, which each result must keep.
    #[arg(long, value_name = "GATE_YAML", requires = "model")]
    policy: Option<PathBuf>,
    /// Model of --policy.
    #[arg(long, value_name = "NAME", requires = "policy")]
    model: Option<String>,
}

/// How many cases failed, and how many --update rewrote.
#[derive(Default)]
struct Counts {
    failed: usize,
    rewritten: usize,
}

/// The result of one case.
#[derive(Serialize)]
struct Line<'a> {
    case: &'a str,
    ok: bool,
    faults: &'a [String],
    /// Files that --update wrote. The faults are what it changed.
    updated: &'a [PathBuf],
    /// What --show prints of the result.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    returned: Vec<String>,
    fuel: Option<u64>,
    log: &'a [LogLine],
    log_dropped: u64,
}

impl Test {
    /// Runs the cases.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let project = Project::open(&self.project)?;
        if self.watch {
            self.watch(ui, &project)
        } else {
            self.warn_of_older_build(ui, &project);
            self.cases(ui, &project)
        }
    }

    /// Prints a warning if the built component is tested and a source is newer. A folder that
    /// cannot be read is no reason not to run the cases.
    fn warn_of_older_build(&self, ui: &Ui, project: &Project) {
        if self.component.is_some() {
            return;
        }
        let files = Snapshot::take(&self.project, None);
        if files.is_ok_and(|files| files.has_newer_source(project)) {
            ui.note(&format!(
                "warning: a source is newer than {}: the cases run the older build; run `tensorgate handler build` first",
                project.component().display()
            ));
        }
    }

    /// Runs the cases now and after each change. Only an unreadable folder or a closed output ends
    /// this; every other failure is printed, and the next change may repair it.
    fn watch(&self, ui: &Ui, project: &Project) -> Result<(), Failure> {
        let take = || Snapshot::take(&self.project, self.component.as_deref());
        let mut files = take()?;
        let mut built = (files.is_built(project)).then(|| BuildInputs::of(project, &files));
        loop {
            if let Err(failure) = self.round(ui, &files, &mut built) {
                let _ = ui.failure(&failure);
            }
            let waiting = if ui.json {
                serde_json::json!({"waiting": true}).to_string()
            } else {
                format!("waiting for a change of {}", self.project.display())
            };
            if !ui.try_line(&waiting) {
                return Ok(());
            }
            files = files.changed(take)?;
        }
    }

    /// Builds the project if its sources differ from those of the last build, and runs the cases.
    fn round(
        &self,
        ui: &Ui,
        files: &Snapshot,
        built: &mut Option<BuildInputs>,
    ) -> Result<(), Failure> {
        let project = Project::open(&self.project)?;
        let inputs = BuildInputs::of(&project, files);
        if self.component.is_none() && built.as_ref() != Some(&inputs) {
            build(&project, true, ui)?;
            *built = Some(inputs);
        }
        self.cases(ui, &project)
    }

    /// Whether a case was asked for.
    fn selects(&self, case: &Case) -> bool {
        (self.only.as_ref()).is_none_or(|text| case.name.contains(text))
    }

    /// Runs the cases of a project with its component.
    fn cases(&self, ui: &Ui, project: &Project) -> Result<(), Failure> {
        let cases = case::all(project)?;
        let count = cases.iter().filter(|case| self.selects(case)).count();
        if count == 0 {
            return Err(Failure::Input("no case has a matching name".to_owned()));
        }
        let component = match &self.component {
            Some(file) => read_component(file).map_err(Failure::Input)?,
            None => project.built()?,
        };
        let contract = match (&self.policy, &self.model) {
            (Some(file), Some(model)) => {
                Some(PolicyContract::load(file, model, project.world.role())?)
            }
            _ => None,
        };
        let runner = Runner::load(project, &component, ui)?;
        let what = format!("running {count} cases");
        let Counts { failed, rewritten } = step(ui, &what, "", || {
            self.run_cases(ui, project, &runner, contract.as_ref(), &cases)
        })?;
        if !ui.json {
            let updated = if self.update {
                format!(", {rewritten} updated")
            } else {
                String::new()
            };
            ui.line(&format!("{count} cases, {failed} failed{updated}"));
        }
        if failed == 0 {
            Ok(())
        } else {
            Err(Failure::No)
        }
    }

    /// Runs the selected cases, and prints the result of each.
    fn run_cases(
        &self,
        ui: &Ui,
        project: &Project,
        runner: &Runner<'_>,
        contract: Option<&PolicyContract>,
        cases: &[Case],
    ) -> Result<Counts, Failure> {
        let inputs: BTreeSet<PathBuf> = (cases.iter())
            .flat_map(|case| case.input_files.iter().cloned())
            .collect();
        let mut counts = Counts::default();
        for case in cases.iter().filter(|case| self.selects(case)) {
            let handler = runner.for_case(case)?;
            let outcome = runner.call(&handler, case);
            let log = CaseLog::take(&handler);
            let mut faults = judge(&case.expected, &outcome);
            let returned = match &outcome {
                _ if !self.show => Vec::new(),
                Ok(called) => called.tensors.iter().map(written::short).collect(),
                // A fault of the case has the text already.
                Err(error) if faults.is_empty() => vec![error.to_string()],
                Err(_) => Vec::new(),
            };
            let mut updated = Vec::new();
            if let (true, false, Ok(called)) = (self.update, faults.is_empty(), &outcome) {
                match update::update(case, &called.tensors, &inputs) {
                    Ok(files) => updated = files,
                    Err(fault) => faults.push(format!("not updated: {fault}")),
                }
            }
            let mut ok = faults.is_empty() || !updated.is_empty();
            let broken = match (contract, &outcome) {
                (Some(contract), Ok(called)) => {
                    contract.fault(&project.name, &case.input, &called.tensors)
                }
                _ => None,
            };
            // Neither is what --update rewrites.
            for fault in [broken, carry_fault(&case.expected, &outcome)] {
                ok &= fault.is_none();
                faults.extend(fault);
            }
            if !ok {
                counts.failed = counts.failed.saturating_add(1);
            }
            if !updated.is_empty() {
                counts.rewritten = counts.rewritten.saturating_add(1);
            }
            let line = Line {
                case: &case.name,
                ok,
                faults: &faults,
                updated: &updated,
                returned,
                fuel: fuel(&outcome),
                log: &log.lines,
                log_dropped: log.dropped,
            };
            print(ui, &line, &log);
        }
        Ok(counts)
    }
}

/// The fuel that a call used, if the call ran.
fn fuel(outcome: &Result<HandlerOutput, HandlerError>) -> Option<u64> {
    match outcome {
        Ok(called) => Some(called.fuel_used),
        Err(HandlerError::Rejected { fuel_used, .. } | HandlerError::Fault { fuel_used, .. }) => {
            Some(*fuel_used).filter(|fuel| *fuel > 0)
        }
        Err(HandlerError::Overloaded(_) | HandlerError::CircuitOpen(_)) => None,
    }
}

/// Differences between the expected result and the actual one.
fn judge(expected: &Expected, outcome: &Result<HandlerOutput, HandlerError>) -> Vec<String> {
    match (expected, outcome) {
        (
            Expected::Tensors {
                tensors, tolerance, ..
            },
            Ok(called),
        ) => differences(tensors, &called.tensors, *tolerance),
        (Expected::Tensors { .. }, Err(error)) => vec![error.to_string()],
        (Expected::Refused { .. }, Ok(called)) => {
            vec![format!(
                "the call returned {} tensors where a rejection is expected",
                called.tensors.len()
            )]
        }
        (Expected::Refused { cause, message }, Err(error)) => {
            let found = match error {
                HandlerError::Rejected { text, .. } => Some((None, text)),
                HandlerError::Fault { cause, detail, .. } => Some((Some(*cause), detail)),
                HandlerError::Overloaded(_) | HandlerError::CircuitOpen(_) => None,
            };
            match found {
                Some((found, text)) if found == *cause && text.contains(message) => Vec::new(),
                Some((found, text)) if found == *cause => {
                    vec![format!(
                        "the message is {text:?}, which does not contain {message:?}"
                    )]
                }
                _ => vec![format!("the case expects another rejection than: {error}")],
            }
        }
    }
}

/// How the bytes for later handlers differ from those that the case expects, if it says which.
fn carry_fault(
    expected: &Expected,
    outcome: &Result<HandlerOutput, HandlerError>,
) -> Option<String> {
    match (expected, outcome) {
        (
            Expected::Tensors {
                carry: Some(carry), ..
            },
            Ok(called),
        ) => carry_difference(carry, &called.carry),
        _ => None,
    }
}

fn print(ui: &Ui, line: &Line<'_>, log: &CaseLog) {
    if ui.json {
        ui.json_line(line);
        return;
    }
    let mark = match (line.ok, line.updated) {
        (true, []) => ui.paint("1;32", "ok  "),
        (true, _) => ui.paint("1;33", "new "),
        (false, _) => ui.paint("1;31", "FAIL"),
    };
    let fuel = line
        .fuel
        .map(|fuel| format!("  ({fuel} fuel)"))
        .unwrap_or_default();
    ui.line(&format!("{mark} {}{fuel}", line.case));
    for fault in line.faults {
        for line in printable_lines(fault).lines() {
            ui.line(&format!("     {line}"));
        }
    }
    for returned in &line.returned {
        ui.line(&format!("     {}", printable(returned)));
    }
    for file in line.updated {
        ui.line(&format!("     updated {}", file.display()));
    }
    for line in log.text() {
        ui.line(&format!("     {line}"));
    }
}
