//! `model confirm`: an operator tells the gate that a model's server has loaded the verified files.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tensorgate_base::unix_time::now_unix_ms;
use tensorgate_cli_common::replace::update_locked;
use tensorgate_cli_common::state_folder::StateFolder;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_cli_common::{Failure, runtime};
use tensorgate_judge::model_version::model_version;
use tensorgate_verified_models::{AWAITING_LOAD, Confirmation, ConfirmationFile, confirm_options};
use tokio::time::{Instant, sleep};

use crate::stack::probe::{CUT, Response, Target, send_request};
use crate::stack::running::Running;
use crate::stack::site::bundle_file;
use crate::verbs::status::in_force;

/// Timeout for the gate. It reads the file four times a second, unless a process hangs.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Interval between queries.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How a reason begins that is about the server, and not about the files.
const ABOUT_SERVER: &str = "backend ";

/// Confirm that a model's server has loaded the verified files, after they had changed.
///
/// The gate sends a model no requests when its files changed, even once they are verified again:
/// the server may have loaded others meanwhile. It goes on when it sees the server restart, or when
/// you confirm a load that began after the files were verified.
#[derive(Args)]
#[command(
    after_help = "/readyz and the gate's log show the digest and the number of the wait. \
The audit log has who confirmed it.\n\n\
Exit codes: 0 the gate accepts it, 1 it does not, 2 invalid usage or input.\n\n\
Example: tensorgate model confirm risk@1 --digest 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 --wait 1764154106000"
)]
pub struct Confirm {
    /// Model and version in the policy.
    #[arg(value_name = "MODEL@VERSION")]
    model: String,
    /// Digest of the verified manifest whose files were loaded, 64 hex digits.
    #[arg(long, value_name = "SHA256")]
    digest: String,
    /// Number of the wait that /readyz shows. After another change it is another one.
    #[arg(long, value_name = "NUMBER")]
    wait: u64,
    #[command(flatten)]
    state: StateFolder,
}

/// The result.
#[derive(Serialize)]
struct Confirmed<'a> {
    model: &'a str,
    version: &'a str,
    digest: &'a str,
    by: &'a str,
    /// Why the model is not ready for another reason; `null` if it is ready.
    unready: Option<String>,
}

impl Confirm {
    /// Writes the confirmation, and waits until the gate accepts it.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let (model, version) = self.model.rsplit_once('@').ok_or_else(|| {
            Failure::Input("expected a model and its version, such as risk@1".to_owned())
        })?;
        let confirmation = Confirmation {
            model: model.to_owned(),
            version: version.to_owned(),
            digest: self.digest.to_ascii_lowercase(),
            wait: self.wait,
            by: format!("user {}", rustix::process::getuid().as_raw()),
            unix_ms: now_unix_ms(),
        };
        if confirmation.digest().is_none() {
            return Err(Failure::Input("a digest has 64 hex digits".to_owned()));
        }
        let state = self.state.find()?;
        let gate = Running::find_own(&state)?;
        let target = gate.and_then(|gate| gate.admin).map(Target::Tcp);
        let target = target.ok_or_else(|| {
            Failure::Failed(format!(
                "no gate of `tensorgate up` uses the state folder {}: name it with --state",
                printable(&state.display().to_string())
            ))
        })?;
        let prefix = prefix(&state, model, version)?;
        let accepted = accepted(&target, &prefix, &state, &confirmation);
        let unready = runtime()?.block_on(accepted)?;
        if ui.json {
            ui.json_line(&Confirmed {
                model,
                version,
                digest: &confirmation.digest,
                by: &confirmation.by,
                unready,
            });
            return Ok(());
        }
        let name = printable(&self.model);
        ui.line(&match unready {
            None => format!("{name}: the gate sends it requests again"),
            Some(why) => format!(
                "{name}: the gate accepts the load; the model is not ready: {}",
                printable(&why)
            ),
        });
        Ok(())
    }
}

/// How the gate's lines about a model version begin.
fn prefix(state: &Path, model: &str, version: &str) -> Result<String, Failure> {
    let policy = in_force(state).ok_or_else(|| {
        Failure::Input(format!(
            "{} has no policy in force: name the gate's state folder with --state",
            state.display()
        ))
    })?;
    let mut models = policy.models().iter();
    let known = models.find(|known| known.name() == model);
    let known = known.filter(|known| known.versions().iter().any(|known| known == version));
    let known = known.ok_or_else(|| {
        let name = printable(&format!("{model}@{version}"));
        Failure::Input(format!("the policy in force has no model {name}"))
    })?;
    Ok(format!("{}: ", model_version(known, version)))
}

/// Writes the confirmation if the gate waits for it, and waits until it is accepted. Returns why
/// the model is not ready all the same.
async fn accepted(
    target: &Target,
    prefix: &str,
    state: &Path,
    confirmation: &Confirmation,
) -> Result<Option<String>, Failure> {
    let why = cause(target, prefix).await?;
    let why = why.ok_or_else(|| Failure::Failed("the model awaits no load: it is ready".into()))?;
    let refused = |cause: &str| Err(Failure::Failed(format!("{cause}: {}", printable(&why))));
    if !why.starts_with(AWAITING_LOAD) {
        return refused("the model awaits no load");
    }
    if !why.contains(&confirmation.digest) {
        return refused("the verified files have another digest");
    }
    let options = confirm_options(&confirmation.digest, confirmation.wait);
    if !why.contains(&format!("{options}`")) {
        return refused("the files changed again, and the gate awaits another load");
    }
    let file = ConfirmationFile::beside(&bundle_file(state));
    update_locked(&file, ConfirmationFile::read, |content| {
        content.add(confirmation.clone());
        Ok(())
    })?;
    let give_up = Instant::now().checked_add(TIMEOUT);
    loop {
        sleep(POLL_INTERVAL).await;
        match cause(target, prefix).await? {
            None => return Ok(None),
            Some(why) if why.starts_with(ABOUT_SERVER) => return Ok(Some(why)),
            Some(why) if !why.starts_with(AWAITING_LOAD) => {
                return Err(Failure::Failed(format!(
                    "the files have changed meanwhile: {}",
                    printable(&why)
                )));
            }
            Some(why) if give_up.is_none_or(|give_up| Instant::now() >= give_up) => {
                return Err(Failure::Failed(format!(
                    "the gate does not accept it, and its log says why: {}",
                    printable(&why)
                )));
            }
            Some(_) => {}
        }
    }
}

/// Why a model version is not ready. `None` if it is.
async fn cause(target: &Target, prefix: &str) -> Result<Option<String>, Failure> {
    let response = send_request(target, "GET", "/readyz").await;
    let Response { body, .. } =
        response.map_err(|error| Failure::Failed(format!("the gate does not answer: {error}")))?;
    let mut lines = body.lines().skip(1);
    if let Some(cause) = lines.find_map(|line| line.strip_prefix(prefix)) {
        return Ok(Some(cause.to_owned()));
    }
    if body.lines().any(|line| line == CUT) {
        let cause = "too many models are not ready: the gate does not list this one";
        return Err(Failure::Failed(cause.to_owned()));
    }
    Ok(None)
}
