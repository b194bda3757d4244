//! Rows on the audit log of the second gate: why it sends no requests to a model.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::process::Command;

use crate::processes::{ours, run};
use crate::signed_models::{FOREIGN_CODE, HOSTILE_TEMPLATE, RENAMED_PICKLE, TAMPERED, UNSIGNED};
use crate::table::{Answer, Table};

/// The title of each row, the model, and a part of the cause.
const ROWS: [(&str, &str, &str); 5] = [
    (
        "audit log: the changed model",
        TAMPERED,
        "has other content",
    ),
    (
        "audit log: the model without a signature",
        UNSIGNED,
        "cannot read the signature",
    ),
    (
        "audit log: the signed model with a pickle",
        RENAMED_PICKLE,
        "imports os.system",
    ),
    (
        "audit log: the model with a hostile template",
        HOSTILE_TEMPLATE,
        "an attribute whose name is computed",
    ),
    (
        "audit log: the model that names code",
        FOREIGN_CODE,
        "readers import, run, install or fetch it",
    ),
];

/// Plays and prints the rows. `state`: the gate's state folder. Lines from before `started` are
/// those of earlier runs.
pub async fn play(state: &Path, started: Instant, table: &mut Table) {
    for (title, model, expected) in ROWS {
        let answer = match cause(state, started, model).await {
            Ok(cause) => {
                let is_expected = cause.contains(expected);
                Answer {
                    answer: "rejected".to_owned(),
                    // The cause also has the path of the model, which is too long for the table.
                    reason: if is_expected {
                        expected.to_owned()
                    } else {
                        cause
                    },
                    is_expected,
                }
            }
            Err(error) => Answer::none(&error),
        };
        table.add(title, expected, &answer);
    }
}

/// Why the files of a model were rejected, as `tensorgate audit query` lists it.
async fn cause(state: &Path, started: Instant, model: &str) -> Result<String> {
    // Rounded up: the files may be rejected in the first second.
    let seconds = started.elapsed().as_secs().saturating_add(1);
    let since = format!("{seconds}s");
    let mut command = Command::new(ours("tensorgate")?);
    command.args(["audit", "query", "--json", "--events=artifact"]);
    command.args(["--model", model, "--since", &since]);
    command.arg("--state").arg(state);
    let lines = run(command).await?;
    let detail = |line: &str| {
        let event: Value = serde_json::from_str(line).ok()?;
        let is_rejected = event.get("action")?.as_str()? == "rejected";
        let detail = event.get("detail")?.as_str()?;
        is_rejected.then(|| detail.to_owned())
    };
    let cause = lines.lines().find_map(detail);
    cause.context("the audit log has no rejection")
}
