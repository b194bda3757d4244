//! `handler replay`: captured calls run again in the host's own sandbox. Nothing is asked for anew: what was brought then is brought now. A file is opened by a
//! key and then still only believed as far as a policy would go: what runs is the component of the digest that was captured, within the bounds that a policy can have.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tensorgate_host::capture::{CaptureKeys, Captured, HandlerFacts, Outcome, folder};
use tensorgate_host::config::Folders;
use tensorgate_host::sandbox::{
    CallContext, CapabilityRequest, EgressBusy, FaultCause, LoadedHandler, Payload, ResolveFailure,
    ResolvedResource, ResolvedResources, ResourceResolver, Role, Sandbox,
};
use tensorgate_policy::policy::Handler;
use tensorgate_policy::{hex, raw, validate};
use tokio::time::Instant;

use crate::Failure;
use crate::handler::project::read_component;
use crate::handler::runner;
use crate::load::load;
use crate::ui::{Ui, printable};

/// Largest captured call, bytes: the largest that a policy keeps, as text, and its facts.
const MAX_FILE_BYTES: u64 = 96 << 20;
/// Time for a call, whatever it had then: how fast a machine is must not show.
const TIMEOUT_MS: u64 = 60_000;

/// Run captured calls again, and say of each whether its answer and its fuel are what they were.
#[derive(Args)]
#[command(
    after_help = "The policy's `capture:` keeps calls. Bounds, configuration, input and what was brought are as they were; the component is the policy's handler of that name, \
or --component, and must be the very one.\n\nExit codes: 0 all are the same, 1 one differs or cannot be run again, 2 one cannot be read.\n\n\
Example: tensorgate handler replay captures -c gate.yaml --key capture.key"
)]
pub struct Replay {
    /// A captured call, or a folder of them.
    path: PathBuf,
    /// The policy that has the handlers.
    #[arg(
        short,
        long,
        value_name = "FILE",
        required_unless_present = "component"
    )]
    config: Option<PathBuf>,
    /// A component, whatever a policy has.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    component: Option<PathBuf>,
    /// The file with the key that they were captured under, beside others or alone. Repeatable.
    #[arg(long, value_name = "FILE", required = true)]
    key: Vec<PathBuf>,
    /// Run on where the component is another one, to see what it makes of the same calls.
    #[arg(long)]
    any_component: bool,
}

/// What came of one.
#[derive(Serialize)]
struct Line<'l> {
    file: String,
    handler: &'l str,
    request_id: &'l str,
    client: &'l str,
    model: &'l str,
    verdict: &'static str,
    detail: String,
    was: &'l Outcome,
    is: Option<Outcome>,
}

/// How a call came out the second time.
enum Verdict {
    Same,
    Differs(String),
    /// It did not run, or says nothing if it did.
    Cannot(String),
}

impl Replay {
    /// Runs them.
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
        let policy = self.config.as_deref().map(load).transpose()?;
        let components = Components {
            policy: policy.map(|loaded| loaded.bundle.policy),
            folders: Folders::below(
                (self.config.as_deref().and_then(Path::parent)).unwrap_or(Path::new("")),
            ),
            file: self.component,
            any: self.any_component,
            read: BTreeMap::new(),
        };
        let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
        let mut runner = Runner {
            components,
            sandbox: runner::sandbox().map_err(|error| failed(&error))?,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .map_err(|error| failed(&error))?,
            compiled: BTreeMap::new(),
        };
        let (count, mut differ, mut unread) = (files.len(), false, 0_usize);
        for file in files {
            // One that cannot be read keeps no other from being run.
            let call = match read(&file, &keys) {
                Ok(call) => call,
                Err(cause) => {
                    ui.note(&printable(&format!("{}: {cause}", file.display())));
                    unread = unread.saturating_add(1);
                    continue;
                }
            };
            let (verdict, is) = runner.again(&call);
            differ |= !matches!(verdict, Verdict::Same);
            tell(ui, &file, &call, verdict, is);
        }
        if unread > 0 {
            let told = format!("{unread} of {count} captured calls cannot be read");
            return Err(Failure::Input(told));
        }
        if differ { Err(Failure::No) } else { Ok(()) }
    }
}

fn tell(ui: &Ui, file: &Path, call: &Captured, verdict: Verdict, is: Option<Outcome>) {
    let (verdict, detail) = match verdict {
        Verdict::Same => ("same", shown(&call.outcome)),
        Verdict::Differs(detail) => ("differs", detail),
        Verdict::Cannot(detail) => ("cannot", detail),
    };
    let line = Line {
        file: file.display().to_string(),
        handler: &call.handler.name,
        request_id: &call.request_id,
        client: &call.client,
        model: &call.model,
        verdict,
        detail,
        was: &call.outcome,
        is,
    };
    if ui.json {
        ui.json_line(&line);
    } else {
        let Line {
            file,
            handler,
            request_id,
            detail,
            ..
        } = &line;
        let text = format!("{verdict:7} {file} {handler} {request_id}: {detail}");
        ui.line(&printable(&text));
    }
}

fn shown(outcome: &Outcome) -> String {
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

/// Where components are.
struct Components {
    policy: Option<raw::Policy>,
    folders: Folders,
    file: Option<PathBuf>,
    any: bool,
    /// Those that were read, and their digests: many calls are of few handlers.
    read: BTreeMap<PathBuf, (Arc<[u8]>, String)>,
}

impl Components {
    /// A handler's component and its digest, if it is the one that was called; or why not.
    fn of(&mut self, facts: &HandlerFacts) -> Result<(Arc<[u8]>, String), String> {
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
                "another component: it was {}, {} is {found}",
                facts.sha256,
                file.display()
            ));
        }
        Ok((component, found))
    }
}

/// Components by digest: one is compiled once as long as a handler that was loaded from it is kept.
type Compiled = BTreeMap<String, LoadedHandler>;

/// What calls are run by.
struct Runner {
    components: Components,
    sandbox: Sandbox,
    runtime: tokio::runtime::Runtime,
    compiled: Compiled,
}

impl Runner {
    /// A call a second time: whether it came out as it did, and how.
    fn again(&mut self, call: &Captured) -> (Verdict, Option<Outcome>) {
        let timed = |outcome: &Outcome| {
            let timed = [FaultCause::Deadline, FaultCause::RequestDeadline];
            timed.iter().any(|cause| cause.name() == outcome.what)
        };
        if timed(&call.outcome) {
            let told = format!(
                "{}: time ended it, and time cannot be had again",
                call.outcome.what
            );
            return (Verdict::Cannot(told), None);
        }
        let now = match self.ran(call) {
            Ok(now) if timed(&now) => {
                let told = format!("it takes longer than {TIMEOUT_MS} ms here");
                return (Verdict::Cannot(told), Some(now));
            }
            Ok(now) => now,
            Err(told) => return (Verdict::Cannot(told), None),
        };
        if now == call.outcome {
            return (Verdict::Same, Some(now));
        }
        let (was, is) = (shown(&call.outcome), shown(&now));
        let what = if was == is {
            ", and answers otherwise"
        } else {
            ""
        };
        let engine = if call.engine == self.sandbox.engine() {
            String::new()
        } else {
            format!(
                "; it ran on {}, this is {}",
                call.engine,
                self.sandbox.engine()
            )
        };
        let told = format!("was {was}, is {is}{what}{engine}");
        (Verdict::Differs(told), Some(now))
    }

    fn ran(&mut self, call: &Captured) -> Result<Outcome, String> {
        let facts = &call.handler;
        let role = facts.role()?;
        let (component, digest) = self.components.of(facts)?;
        let rule = rule(facts, &digest)?;
        let loaded = self
            .sandbox
            .load(&facts.name, &rule, role, &component)
            .map_err(|fault| fault.to_string())?
            .with_resolver(Arc::new(Then(call.known()?)));
        self.compiled.insert(digest, loaded.clone());
        let called = self.runtime.block_on(called(&loaded, role, call));
        Outcome::from_call(&called).ok_or_else(|| "it did not run".to_owned())
    }
}

async fn called(
    handler: &LoadedHandler,
    role: Role,
    call: &Captured,
) -> Result<tensorgate_host::sandbox::HandlerOutput, tensorgate_host::sandbox::HandlerError> {
    match (role, call.input.payload()) {
        (Role::Postprocess, Payload::Tensors(outputs)) => {
            handler.postprocess(&call.request_id, outputs).await
        }
        (_, input) => handler.preprocess(&call.request_id, input).await,
    }
}

/// The handler with the bounds that it had, as a policy that has nothing else: what no policy may have is refused. What it may ask for is how much; of
/// whom says nothing, for nobody is asked.
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
    });
    let document = json!({"version": 1, "handlers": {&facts.name: handler}, "lookups": lookups});
    let raw: raw::Policy = serde_json::from_value(document).map_err(|error| error.to_string())?;
    let (policy, _) = validate::validate(&raw).map_err(|faults| {
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        format!("no policy can have such a handler: {}", faults.join("; "))
    })?;
    let rule = policy.handlers().get(&facts.name).cloned();
    rule.ok_or_else(|| "no rule came of it".to_owned())
}

/// What was brought then.
struct Then(ResolvedResources);

impl ResourceResolver for Then {
    fn resolve<'b>(
        &'b self,
        asks: &'b [CapabilityRequest],
        _: &'b CallContext,
        _: Option<Instant>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<ResolvedResource>, EgressBusy>> + Send + 'b>> {
        // What was not asked for then is not there: whoever asks for it differs.
        let brought = asks.iter().map(|ask| {
            let known = self.0.get(ask).cloned();
            known.unwrap_or_else(|| ResolvedResource::failed(ask, ResolveFailure::Unavailable))
        });
        Box::pin(std::future::ready(Ok(brought.collect())))
    }
}
