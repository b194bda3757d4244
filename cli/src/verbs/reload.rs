//! The `reload` verb: has a running `tensorgate up` read its policy again, and says what became of
//! it. With `--accept`, one version may make models unready that are ready now.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use serde::Serialize;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::policy_file::PolicyFile;
use tensorgate_cli_common::state_folder::StateFolder;
use tensorgate_cli_common::ui::{Ui, printable_lines};

use crate::stack::requests::{Answer, Request, answer_to, send, withdraw};
use crate::stack::running::Running;

/// Longest time to an answer: the gate may compile handlers, and Envoy apply a large policy.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Interval between looks for the answer.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Longest name of a version, characters.
const MAX_GENERATION_CHARS: usize = 64;

/// Have the running gate read its policy again, as on SIGHUP, and wait for the result.
#[derive(Args)]
#[command(
    after_help = "A change that would make ready models unready is held: `up`, `status` and this command name the models and the causes. It comes into force once the models are ready for it, or with --accept and its exact version. If the files have another version by then, that one is judged anew.\n\nExits 0 if the policy of the files is in force, 1 if it is held or no gate answers, and 2 for wrong usage.\n\nExample: tensorgate reload\nExample: tensorgate reload --accept 7d0c1fd2b7f7a4e1"
)]
pub struct Reload {
    #[command(flatten)]
    policy: PolicyFile,
    #[command(flatten)]
    state: StateFolder,
    /// Put this version in force even if it makes ready models unready.
    #[arg(long, value_name = "GENERATION", value_parser = generation)]
    accept: Option<String>,
}

/// What became of the policy.
#[derive(Serialize)]
struct Outcome<'a> {
    /// Whether the policy of the files is in force.
    reloaded: bool,
    /// The version in force.
    generation: &'a str,
    /// The valid version that is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
}

impl Reload {
    /// Asks the gate and prints the result.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let policy = self.policy.named();
        let state = self.state.find_for(policy.as_deref())?;
        let running = Running::find_own(&state)?
            .filter(|running| running.listen.is_some())
            .ok_or_else(|| none_runs(&state))?;
        if let Some(why) = policy.and_then(|policy| running.mismatch(&policy)) {
            return Err(Failure::Input(why));
        }
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let request = Request {
            id: format!("{}-{}", std::process::id(), since.as_nanos()),
            accept: self.accept,
        };
        send(&state, &request)?;
        let answer = wait(&state, &request, running.pid);
        if answer.is_err() {
            withdraw(&state);
        }
        print(ui, &request, &answer?)
    }
}

/// Waits for the answer of the gate with this process id.
fn wait(state: &Path, request: &Request, pid: u32) -> Result<Answer, Failure> {
    let started = Instant::now();
    while started.elapsed() < ANSWER_TIMEOUT {
        if let Some(answer) = answer_to(state, request) {
            return Ok(answer);
        }
        // Its description is empty while it is replaced.
        let is_it = |running: Running| running.pid == pid || running.pid == 0;
        if !Running::find(state)?.is_some_and(is_it) {
            return Err(none_runs(state));
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Err(Failure::Failed(format!(
        "the gate has not answered within {} s: see its output, and `tensorgate status`",
        ANSWER_TIMEOUT.as_secs()
    )))
}

fn print(ui: &Ui, request: &Request, answer: &Answer) -> Result<(), Failure> {
    let Answer {
        id: _,
        in_force,
        waiting,
        why,
    } = answer;
    let accept = request.accept.as_ref();
    let other = accept.filter(|accept| why.is_none() && *accept != in_force);
    if ui.json {
        ui.json_line(&Outcome {
            reloaded: why.is_none(),
            generation: in_force,
            waiting: waiting.as_deref(),
            why: why.as_deref(),
        });
    } else {
        ui.line(&text(in_force, waiting.as_deref(), why.as_deref()));
        if let Some(other) = other {
            ui.note(&format!("{other} is no longer the version of the files"));
        }
    }
    if why.is_none() && other.is_none() {
        Ok(())
    } else {
        Err(Failure::No)
    }
}

fn text(in_force: &str, waiting: Option<&str>, why: Option<&str>) -> String {
    let Some(why) = why else {
        return format!("policy {in_force} is in force");
    };
    let waiting = waiting.map(|waiting| format!(" {waiting}"));
    format!(
        "held: policy{}, and {in_force} stays in force:\n{}",
        waiting.unwrap_or_default(),
        printable_lines(why)
    )
}

fn none_runs(state: &Path) -> Failure {
    Failure::Failed(format!(
        "no gate is up with the state folder {}: name its folder with --state",
        state.display()
    ))
}

/// The name of a version.
fn generation(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if text.is_empty() || text.chars().count() > MAX_GENERATION_CHARS || !text.chars().all(fits) {
        return Err(
            "expected the version of a held policy, as `tensorgate status` shows it".into(),
        );
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_policy_is_shown_with_its_causes() {
        assert_eq!(text("a", None, None), "policy a is in force");
        let expected = "held: policy b, and a stays in force:\none\ntwo";
        assert_eq!(text("a", Some("b"), Some("one\ntwo")), expected);
        let expected = "held: policy, and a stays in force:\nline 3: wrong";
        assert_eq!(text("a", None, Some("line 3: wrong")), expected);
    }

    #[test]
    fn a_version_is_one_word() {
        assert_eq!(
            generation("7d0c1fd2b7f7a4e1"),
            Ok("7d0c1fd2b7f7a4e1".into())
        );
        let long = "a".repeat(65);
        for wrong in ["", "a b", "../x", long.as_str()] {
            assert!(generation(wrong).is_err(), "{wrong}");
        }
    }
}
