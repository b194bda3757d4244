//! `handler replay`: captured calls run again in the host's own sandbox. Nothing is asked for anew: what was brought then is brought now.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tensorgate_host::capture::{self, CaptureKey, Captured, FORMAT, Folder, Outcome};
use tensorgate_host::sandbox::{
    Ask, Behalf, Bring, Brought, Busy, Called, FaultCause, HandlerError, Missing, Payload, Role,
    Sandbox,
};
use tensorgate_policy::policy::Handler;
use tensorgate_policy::raw::ByteSize;
use tensorgate_policy::{hex, raw, validate};
use tokio::time::Instant;

use crate::Failure;
use crate::handler::project::read_component;
use crate::handler::runner;
use crate::load::{load, read_at_most};
use crate::ui::{Ui, printable};

/// Largest captured call, bytes: the largest that a policy keeps, as text.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// Time for a call, whatever it had then: how fast a machine is must not show.
const TIMEOUT_MS: u64 = 60_000;

/// Run captured calls again, and say of each whether its answer and its fuel are what they were.
#[derive(Args)]
#[command(
    after_help = "The policy's `capture:` keeps calls. The handler, its configuration, its input and what was brought for it are as they were; its component \
is the policy's, and must be the very one.\n\nExit codes: 0 all are the same, 1 one differs, 2 one cannot be read.\n\n\
Example: tensorgate handler replay captures -c gate.yaml --key capture.key"
)]
pub struct Replay {
    /// A captured call, or a folder of them.
    path: PathBuf,
    /// The policy that has the handlers.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// The key that they were captured under.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(Serialize)]
struct Line<'l> {
    file: String,
    handler: &'l str,
    request_id: &'l str,
    verdict: &'static str,
    detail: String,
}

impl Replay {
    /// Runs them.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let bad = |error: &dyn std::fmt::Display| Failure::Input(error.to_string());
        let key = CaptureKey::read(&self.key).map_err(|error| bad(&error))?;
        let files = if self.path.is_dir() {
            Folder::files(&self.path).map_err(|error| bad(&error))?
        } else {
            vec![self.path.clone()]
        };
        if files.is_empty() {
            return Err(Failure::Input(format!(
                "no captured call in {}",
                self.path.display()
            )));
        }
        let policy = load(&self.config)?.bundle.policy;
        let root = self.config.parent().unwrap_or(Path::new(""));
        let sandbox = runner::sandbox().map_err(|error| Failure::Failed(error.to_string()))?;
        let mut differ = false;
        for file in files {
            let call = read(&file, &key)?;
            let outcome = again(&call, &policy, root, &sandbox);
            let (verdict, detail) = match outcome {
                Ok(None) => ("same", fuel(&call.outcome)),
                Ok(Some(detail)) | Err(detail) => {
                    differ = true;
                    ("differs", detail)
                }
            };
            let line = Line {
                file: file.display().to_string(),
                handler: &call.handler.name,
                request_id: &call.request_id,
                verdict,
                detail,
            };
            if ui.json {
                ui.json_line(&line);
            } else {
                let text = format!(
                    "{verdict:7} {} {} {}: {}",
                    line.file, line.handler, line.request_id, line.detail
                );
                ui.line(&printable(&text));
            }
        }
        if differ { Err(Failure::No) } else { Ok(()) }
    }
}

fn fuel(outcome: &Outcome) -> String {
    match outcome.fuel_used {
        Some(fuel) => format!("{}, {fuel} fuel", outcome.what),
        None => outcome.what.clone(),
    }
}

fn read(file: &Path, key: &CaptureKey) -> Result<Captured, Failure> {
    let failed =
        |cause: &dyn std::fmt::Display| Failure::Input(format!("{}: {cause}", file.display()));
    let content = read_at_most(file, MAX_FILE_BYTES)
        .map_err(|cause| failed(&cause))?
        .ok_or_else(|| failed(&"too large"))?;
    let text = key.open(&content).map_err(|cause| failed(&cause))?;
    let call: Captured = serde_json::from_slice(&text).map_err(|cause| failed(&cause))?;
    if call.format != FORMAT {
        return Err(failed(&format!(
            "of format {}, which is not known here",
            call.format
        )));
    }
    Ok(call)
}

/// In what a call differs from what it was; `Err` if it cannot be run.
fn again(
    call: &Captured,
    policy: &raw::Policy,
    root: &Path,
    sandbox: &Sandbox,
) -> Result<Option<String>, String> {
    let timed = [FaultCause::Deadline, FaultCause::RequestDeadline];
    if timed.iter().any(|cause| cause.name() == call.outcome.what) {
        return Err("time ended it then: that cannot be run again".to_owned());
    }
    let role = capture::role(&call.handler.role)?;
    let (rule, component) = handler(call, policy, root)?;
    let brought = call.brought.iter().map(|came| came.again());
    let brought: BTreeMap<_, _> = brought.collect::<Result<_, _>>()?;
    let loaded = sandbox
        .load(&call.handler.name, &rule, role, &component)
        .map_err(|fault| fault.to_string())?
        .with(Arc::new(Then(brought)));
    let input = call.input.payload()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| error.to_string())?;
    let called: Result<Called, HandlerError> = runtime.block_on(async {
        match (role, input) {
            (Role::Postprocess, Payload::Tensors(outputs)) => {
                loaded.postprocess(&call.request_id, outputs).await
            }
            (_, input) => loaded.preprocess(&call.request_id, input).await,
        }
    });
    let now = Outcome::of(&called).ok_or("it did not run")?;
    if now == call.outcome {
        return Ok(None);
    }
    let (was, is) = (fuel(&call.outcome), fuel(&now));
    let what = if was == is {
        ", and answers otherwise"
    } else {
        ""
    };
    Ok(Some(format!("was {was}, is {is}{what}")))
}

/// The policy's handler with what it had then, and its component.
fn handler(
    call: &Captured,
    policy: &raw::Policy,
    root: &Path,
) -> Result<(Handler, Vec<u8>), String> {
    let facts = &call.handler;
    let mut policy = policy.clone();
    let name = facts.name.as_str();
    let raw = policy.handlers.get_mut(name);
    let raw = raw.ok_or_else(|| format!("the policy has no handler {name:?}"))?;
    let file = root.join(raw.component.as_deref().unwrap_or_default());
    let component = read_component(&file)?;
    let found = hex(&Sha256::digest(&component));
    if found != facts.sha256 {
        return Err(format!(
            "another component: it was {}, the policy has {found}",
            facts.sha256
        ));
    }
    raw.sha256 = Some(found);
    raw.fuel = Some(facts.fuel);
    raw.memory_bytes = Some(ByteSize(facts.memory_bytes));
    raw.timeout_ms = Some(TIMEOUT_MS);
    raw.config.clone_from(&facts.config);
    let (policy, _) = validate::validate(&policy)
        .map_err(|_| "the policy with what the handler had then has faults".to_owned())?;
    let rule = policy.handlers().get(name).cloned();
    Ok((rule.ok_or("no rule came of it")?, component))
}

/// What was brought then.
struct Then(BTreeMap<Ask, Brought>);

impl Bring for Then {
    fn bring<'b>(
        &'b self,
        asks: &'b [Ask],
        _: &'b Behalf,
        _: Option<Instant>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Brought>, Busy>> + Send + 'b>> {
        let brought = asks.iter().map(|ask| {
            let known = self.0.get(ask).cloned();
            known.unwrap_or_else(|| Brought::nothing(ask, Missing::Unavailable))
        });
        Box::pin(std::future::ready(Ok(brought.collect())))
    }
}
