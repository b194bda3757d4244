//! The `handler replay` verb: runs captured calls again in the host's sandbox.
//!
//! Nothing is fetched: resources come from the capture. The decrypted file is still treated as
//! untrusted. Only the captured component digest runs, within limits that a policy could have.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tensorgate_base::egress_log::ResolveFailure;
use tensorgate_base::payload::{Payload, Role};
use tensorgate_cli_common::policy_file;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_cli_common::{Failure, runtime};
use tensorgate_policy::hex;
use tensorgate_policy::policy::Handler;
use tensorgate_policy_compiler::{raw, validate};
use tensorgate_policy_load::load::load;
use tensorgate_sandbox::capture::{self, Captured, CapturedOutcome, HandlerFacts, folder};
use tensorgate_sandbox::{
    CallContext, CapabilityRequest, EgressBusy, FaultCause, HandlerError, HandlerOutput,
    LoadedHandler, ResolvedResource, ResolvedResources, ResourceResolver, Sandbox,
};
use tensorgate_settings::folders::Folders;
use tensorgate_settings::sealed_capture::CaptureKeys;
use tokio::time::Instant;

use crate::case::captured;
use crate::case_log::{self, CaseLog};
use crate::log_line::LogLine;
use crate::project::read_component;
use crate::runner;

/// Largest captured call, bytes: the largest that a policy keeps, encoded as text, and its
/// metadata.
const MAX_FILE_BYTES: u64 = 96 << 20;
/// Timeout of a call, regardless of the captured one, so that the speed of the machine has no
/// effect.
const TIMEOUT_MS: u64 = 60_000;

/// Run captured calls again, and compare answers and fuel with the captured ones.
#[derive(Args)]
#[command(
    after_help = "The policy's `capture:` records calls. Limits, configuration, input and resolved resources are the captured ones. The component is the policy's handler of the same name, \
or --component, and must have the captured digest. A handler's log lines stand below its call. The argument is always a captured call: a policy is named with -c.\n\nExit codes: 0 all results are equal, 1 one differs or cannot be replayed, 2 one cannot be read.\n\n\
Example: tensorgate handler replay captures -c gate.yaml --key capture.key\n\
Example: tensorgate handler replay captures -c gate.yaml --key capture.key --as-case resize/cases"
)]
pub struct Replay {
    /// Captured call, or folder of captured calls.
    path: PathBuf,
    /// Policy with the handlers; `gate.yaml` in the current folder by default.
    #[arg(short, long, value_name = "GATE_YAML")]
    config: Option<PathBuf>,
    /// Component to run instead of the policy's.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    component: Option<PathBuf>,
    /// File with the capture key, alone or with other keys. Can be repeated.
    #[arg(long, value_name = "FILE", required = true)]
    key: Vec<PathBuf>,
    /// Also run a component with another digest, to compare its results.
    #[arg(long)]
    any_component: bool,
    /// Also write each call as a case of `handler test` into this folder. It has what the client
    /// sent, unencrypted. Only a call with the captured result becomes a case.
    #[arg(long, value_name = "DIR")]
    as_case: Option<PathBuf>,
}

/// The result of one call.
#[derive(Serialize)]
struct Line<'l> {
    file: String,
    handler: &'l str,
    request_id: &'l str,
    client: &'l str,
    model: &'l str,
    verdict: &'static str,
    detail: String,
    was: &'l CapturedOutcome,
    is: Option<CapturedOutcome>,
    /// The case that --as-case wrote.
    case: Option<String>,
    log: &'l [LogLine],
    log_dropped: u64,
}

/// A call that ran again.
struct Replayed {
    outcome: CapturedOutcome,
    called: Result<HandlerOutput, HandlerError>,
}

/// Comparison of a replayed call.
enum Verdict {
    Same,
    Differs(String),
    /// The call did not run, or its result cannot be compared.
    Cannot(String),
}

impl Replay {
    /// Replays the calls.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let bad = |error: &dyn std::fmt::Display| Failure::Input(error.to_string());
        let keys = (self.key.iter())
            .map(|file| CaptureKeys::read(file).map_err(|error| bad(&error)))
            .collect::<Result<Vec<_>, _>>()?;
        let files = if self.path.is_dir() {
            let names = folder::names(&self.path)
                .map_err(|cause| bad(&format!("{}: {cause}", self.path.display())))?;
            names.iter().map(|name| self.path.join(name)).collect()
        } else {
            vec![self.path.clone()]
        };
        if files.is_empty() {
            return Err(bad(&format!("no captured call in {}", self.path.display())));
        }
        let config = match self.component {
            Some(_) => None,
            None => Some(policy_file::or_default(self.config)?),
        };
        let policy = config.as_deref().map(load).transpose()?;
        let components = Components {
            policy: policy.map(|loaded| loaded.version.raw),
            folders: Folders::below(
                (config.as_deref().and_then(Path::parent)).unwrap_or(Path::new("")),
            ),
            file: self.component,
            any: self.any_component,
            read: BTreeMap::new(),
        };
        case_log::collect();
        let mut runner = Runner {
            components,
            sandbox: runner::sandbox().map_err(Failure::Failed)?,
            runtime: runtime()?,
            compiled: BTreeMap::new(),
            log: CaseLog::default(),
        };
        let (count, mut differ, mut unread) = (files.len(), false, 0_usize);
        for file in files {
            // An unreadable file does not prevent the others from running.
            let call = match read(&file, &keys) {
                Ok(call) => call,
                Err(cause) => {
                    ui.note(&printable(&format!("{}: {cause}", file.display())));
                    unread = unread.saturating_add(1);
                    continue;
                }
            };
            let (mut verdict, replayed) = runner.again(&call);
            let mut case = None;
            if let (Some(folder), Verdict::Same, Some(replayed)) =
                (&self.as_case, &verdict, &replayed)
            {
                let name = file.file_stem().unwrap_or_default().to_string_lossy();
                match captured::write(&call, &replayed.called, folder, &name) {
                    Ok(path) => case = Some(path.display().to_string()),
                    Err(cause) => verdict = Verdict::Cannot(format!("become a case: {cause}")),
                }
            }
            differ |= !matches!(verdict, Verdict::Same);
            let log = std::mem::take(&mut runner.log);
            let line = Line {
                file: file.display().to_string(),
                handler: &call.handler.name,
                request_id: &call.request_id,
                client: &call.client,
                model: &call.model,
                verdict: verdict.name(),
                detail: verdict.detail(&call.outcome),
                was: &call.outcome,
                is: replayed.map(|replayed| replayed.outcome),
                case,
                log: &log.lines,
                log_dropped: log.dropped,
            };
            print(ui, &line, &log);
        }
        if unread > 0 {
            let message = format!("{unread} of {count} captured calls cannot be read");
            return Err(Failure::Input(message));
        }
        if differ { Err(Failure::No) } else { Ok(()) }
    }
}

impl Verdict {
    const fn name(&self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Differs(_) => "differs",
            Self::Cannot(_) => "cannot",
        }
    }

    fn detail(&self, captured: &CapturedOutcome) -> String {
        match self {
            Self::Same => shown(captured),
            Self::Differs(detail) | Self::Cannot(detail) => detail.clone(),
        }
    }
}

fn print(ui: &Ui, line: &Line<'_>, log: &CaseLog) {
    if ui.json {
        ui.json_line(line);
        return;
    }
    let Line {
        file,
        handler,
        request_id,
        verdict,
        detail,
        case,
        ..
    } = line;
    let text = format!("{verdict:7} {file} {handler} {request_id}: {detail}");
    ui.line(&printable(&text));
    if let Some(case) = case {
        ui.line(&printable(&format!("        case {case}")));
    }
    for line in log.text() {
        ui.line(&format!("        {line}"));
    }
}

fn shown(outcome: &CapturedOutcome) -> String {
    format!("{}, {} fuel", outcome.what, outcome.fuel_used)
}

fn read(file: &Path, keys: &[CaptureKeys]) -> Result<Captured, String> {
    let content = folder::read(file, MAX_FILE_BYTES).map_err(|cause| cause.to_string())?;
    let mut last = "no key".to_owned();
    for keys in keys {
        match keys.open(content.clone()) {
            Ok(text) => return Captured::decode(&text).map_err(|cause| cause.to_string()),
            Err(cause) => last = cause.to_string(),
        }
    }
    Err(last)
}

/// Source of components.
struct Components {
    policy: Option<raw::Policy>,
    folders: Folders,
    file: Option<PathBuf>,
    any: bool,
    /// Components that were read, with their digests. Many calls use the same few handlers.
    read: BTreeMap<PathBuf, (Arc<[u8]>, String)>,
}

impl Components {
    /// The component of a captured call and its digest. Fails if the digest is another one, unless
    /// that is allowed.
    fn find(&mut self, facts: &HandlerFacts) -> Result<(Arc<[u8]>, String), String> {
        let file = match (&self.file, &self.policy) {
            (Some(file), _) => file.clone(),
            (None, policy) => {
                let handlers = policy.as_ref().map(|policy| &policy.handlers);
                let known = handlers.and_then(|handlers| handlers.get(&facts.name));
                let known =
                    known.ok_or_else(|| format!("the policy has no handler {:?}", facts.name))?;
                let component = known.component.as_deref().unwrap_or_default();
                self.folders
                    .file(component)
                    .map_err(|error| error.to_string())?
            }
        };
        let (component, found) = match self.read.get(&file) {
            Some(read) => read.clone(),
            None => {
                let component: Arc<[u8]> = read_component(&file)?.into();
                let found = hex(&Sha256::digest(&component));
                let read = (component, found);
                self.read.insert(file.clone(), read.clone());
                read
            }
        };
        if found != facts.sha256 && !self.any {
            return Err(format!(
                "the captured component is {}, but {} is {found}: --any-component allows it",
                facts.sha256,
                file.display()
            ));
        }
        Ok((component, found))
    }
}

/// Loaded handlers by component digest. Keeping one alive avoids compiling its component again.
type Compiled = BTreeMap<String, LoadedHandler>;

/// Runs captured calls.
struct Runner {
    components: Components,
    sandbox: Sandbox,
    runtime: tokio::runtime::Runtime,
    compiled: Compiled,
    /// The log lines of the last call.
    log: CaseLog,
}

impl Runner {
    /// Replays a call and compares the result.
    fn again(&mut self, call: &Captured) -> (Verdict, Option<Replayed>) {
        let timed = |outcome: &CapturedOutcome| {
            let timed = [FaultCause::Deadline, FaultCause::RequestDeadline];
            timed.iter().any(|cause| cause.name() == outcome.what)
        };
        if timed(&call.outcome) {
            let why = format!(
                "{}: a call that ended by a timeout cannot be replayed",
                call.outcome.what
            );
            return (Verdict::Cannot(why), None);
        }
        let now = match self.ran(call) {
            Ok(now) if timed(&now.outcome) => {
                let why = format!("the call takes longer than {TIMEOUT_MS} ms here");
                return (Verdict::Cannot(why), Some(now));
            }
            Ok(now) => now,
            Err(why) => return (Verdict::Cannot(why), None),
        };
        if now.outcome == call.outcome {
            return (Verdict::Same, Some(now));
        }
        let (was, is) = (shown(&call.outcome), shown(&now.outcome));
        let what = if was == is {
            ", with another answer"
        } else {
            ""
        };
        let engine = if call.engine == self.sandbox.engine() {
            String::new()
        } else {
            format!(
                "; it was captured on {}, this is {}",
                call.engine,
                self.sandbox.engine()
            )
        };
        let difference = format!("was {was}, is {is}{what}{engine}");
        (Verdict::Differs(difference), Some(now))
    }

    fn ran(&mut self, call: &Captured) -> Result<Replayed, String> {
        let facts = &call.handler;
        let role = capture::role(facts)?;
        let (component, digest) = self.components.find(facts)?;
        let rule = rule(facts, &digest)?;
        let loaded = self
            .sandbox
            .load(&facts.name, &rule, role, &component)
            .map_err(|fault| fault.to_string())?
            .with_resolver(Arc::new(CapturedResources(capture::known(call)?)))
            .with_context(captured_context(call));
        self.compiled.insert(digest, loaded.clone());
        let called = self.runtime.block_on(called(&loaded, role, call));
        self.log = CaseLog::take(&loaded);
        let outcome = capture::outcome(&called).ok_or("the call did not run")?;
        Ok(Replayed { outcome, called })
    }
}

/// The time and the seed of the captured call.
fn captured_context(call: &Captured) -> CallContext {
    let wasi = capture::wasi_inputs(call);
    CallContext {
        at: SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(wasi.unix_ms)),
        seed: Some(wasi.seed),
        request: capture::call_request(call),
        ..CallContext::default()
    }
}

async fn called(
    handler: &LoadedHandler,
    role: Role,
    call: &Captured,
) -> Result<HandlerOutput, HandlerError> {
    match (role, capture::payload(&call.input)) {
        (Role::Postprocess, Payload::Tensors(outputs)) => {
            handler.postprocess(&call.request_id, outputs).await
        }
        (_, input) => handler.preprocess(&call.request_id, input).await,
    }
}

/// The captured handler as the rule of an otherwise empty policy, so that limits no policy may have
/// are rejected. The number of requests is limited as captured. Hosts are placeholders, because
/// nothing is fetched.
fn rule(facts: &HandlerFacts, digest: &str) -> Result<Handler, String> {
    let lookups: serde_json::Map<_, _> = (facts.lookups.iter())
        .map(|(name, max)| {
            let rule = json!({
                "kind": "rest", "endpoint": "https://captured.invalid:443", "path": "/{key}", "features": ["any"], "max_requests": max,
            });
            (name.clone(), rule)
        })
        .collect();
    let fetch =
        (facts.files).map(|max| json!({"hosts": ["captured.invalid"], "max_requests": max}));
    let handler = json!({
        "component": "captured.wasm", "sha256": digest, "fuel": facts.fuel, "memory_bytes": facts.memory_bytes,
        "timeout_ms": TIMEOUT_MS, "config": facts.config, "fetch": fetch, "lookups": lookups.keys().collect::<Vec<_>>(),
        "parameters": facts.parameters,
    });
    let document = json!({"version": 1, "handlers": {&facts.name: handler}, "lookups": lookups});
    let raw: raw::Policy = serde_json::from_value(document).map_err(|error| error.to_string())?;
    let (policy, _) = validate::validate(&raw).map_err(|faults| {
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        format!("the captured handler is invalid: {}", faults.join("; "))
    })?;
    let rule = policy.handlers().get(&facts.name).cloned();
    rule.ok_or_else(|| "the policy has no such handler".to_owned())
}

/// Resources of the captured call.
struct CapturedResources(ResolvedResources);

impl ResourceResolver for CapturedResources {
    fn resolve<'b>(
        &'b self,
        asks: &'b [CapabilityRequest],
        _: &'b CallContext,
        _: Option<Instant>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<ResolvedResource>, EgressBusy>> + Send + 'b>> {
        // A resource that was not captured is unavailable, so a call that requests it differs.
        let resolved = asks.iter().map(|ask| {
            let known = self.0.get(ask).cloned();
            known.unwrap_or_else(|| ResolvedResource::failed(ask, ResolveFailure::Unavailable))
        });
        Box::pin(std::future::ready(Ok(resolved.collect())))
    }
}
