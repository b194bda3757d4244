//! The `check` verb: reports every fault of a policy at once. The faults come from the loader and
//! from validation, and with `--live` from the issuers and servers themselves.

mod compilers;
mod exceptions;
mod handler_memory;
mod hidden_alerts;
mod live;
mod servers;
mod shared_connections;

use std::num::NonZeroUsize;
use std::path::Path;

use clap::Args;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::clock::{present, today};
use tensorgate_cli_common::policy_file::PolicyFile;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_policy::values::KeyFormat;
use tensorgate_policy::{Fault, Policy, Severity};
use tensorgate_policy_compiler::raw;
use tensorgate_policy_load::load::load;
use tensorgate_policy_text::path::push_key;
use tensorgate_settings::handler_memory::parse_size;

use super::import::Reach;
use super::keys::has_expired;
use crate::files;

/// Hex digits of a digest in a warning.
const SHORT: usize = 12;

/// Report every fault of a policy at once, with its position and a fix.
#[derive(Args)]
#[command(
    after_help = "Exits 0 if the policy can be enforced, even with warnings, and 2 if not. Required signatures of handlers are verified. Components are compared with their sha256 and with what their model calls; a missing one is a warning here and an error of `up`. So are manifests of models; model files are not read. \
Files with certificates, keys and passwords are read as `up` and the host read them. --no-files skips components, manifests and these files. With --live, a server that contradicts a contract is an error and one that does not answer a warning; embedded backends are not asked, because `up` starts them.\n\nExample: tensorgate check gate.yaml --json"
)]
pub struct Check {
    #[command(flatten)]
    policy: PolicyFile,
    /// Do not read components, manifests, and files with certificates, keys and passwords, for
    /// machines that lack them.
    #[arg(long)]
    no_files: bool,
    /// Ask the servers of the policy for their models and compare the contracts. Also read the
    /// discovery documents of issuers whose keys are at a URL, and compare that URL.
    #[arg(long)]
    live: bool,
    /// With `--live`, also read documents at private addresses. Servers are asked at the addresses
    /// of the policy, whichever they are.
    #[arg(long, requires = "live")]
    allow_private: bool,
    /// The memory that the host gives to all handlers together (`--handler-memory` of the host),
    /// such as 512MiB. Handlers that can need more are an error. Without it they are compared with
    /// half of the memory of this machine, and more is a warning.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    handler_memory: Option<usize>,
    /// The most concurrent calls of one handler (`--handler-threads` of the host), for that
    /// comparison. The default is the processors of this machine.
    #[arg(long, value_name = "N")]
    handler_threads: Option<NonZeroUsize>,
}

impl Check {
    /// Checks the policy.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let file = self.policy.find()?;
        let root = file.parent().unwrap_or_else(|| Path::new(""));
        let mut loaded = load(&file)?.verify_signatures(root)?;
        if !self.no_files {
            loaded = files::check(loaded, root, Severity::Warning)?;
        }
        if self.live {
            let reach = Reach::of_documents(self.allow_private);
            let mut faults = live::faults(&loaded.version.policy, root, reach);
            faults.extend(servers::faults(&loaded.version, root)?);
            faults.extend(compilers::faults(&loaded.version.policy, root));
            loaded = loaded.unless(faults)?;
        }
        let mut ended = expired(&loaded.version.raw, &today());
        ended.extend(handler_memory::fault(
            &loaded.version.policy,
            self.handler_memory,
            self.handler_threads,
        ));
        ended.extend(exceptions::faults(&loaded.version.raw, present()?));
        let loaded = loaded.unless(ended)?;
        ui.faults(&loaded.source, &loaded.warnings);
        if !ui.json {
            let mut notes = hidden_alerts::notes(&loaded.version.raw);
            notes.extend(needs_host(&loaded.version.policy));
            notes.extend(shared_connections::notes(&loaded.version.policy));
            if loaded.version.policy.has_host_limits() {
                notes.push("limits of users, sources and models are counted by sandbox hosts: the filter needs one behind it".to_owned());
            }
            for note in notes {
                ui.note(&printable(&format!("note: {note}")));
            }
            let warnings = match loaded.warnings.len() {
                0 => String::new(),
                1 => ", 1 warning".into(),
                count => format!(", {count} warnings"),
            };
            let files = match loaded.read.len() {
                0 => String::new(),
                1 => ", with 1 file that it names".into(),
                count => format!(", with {count} files that it names"),
            };
            let keys = keys(&loaded.version.policy);
            let divided = match loaded.limits_to_divide().len() {
                0 => String::new(),
                1 => ", 1 limit that `render` divides by the number of pods".into(),
                count => format!(", {count} limits that `render` divides by the number of pods"),
            };
            ui.line(&format!(
                "{}: ok, generation {}{files}{keys}{divided}{warnings}",
                file.display(),
                loaded.version.generation
            ));
        }
        Ok(())
    }
}

/// A warning for each API key that has expired. Validation has no clock.
fn expired(policy: &raw::Policy, today: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, client) in &policy.clients {
        for (index, key) in client.api_keys.iter().enumerate() {
            if !has_expired(key, today) {
                continue;
            }
            let mut path = "clients".to_owned();
            push_key(&mut path, name);
            path.push_str(&format!(".api_keys[{index}].not_after"));
            let sha256 = key.sha256.as_deref().unwrap_or_default();
            let short = sha256.get(..SHORT).unwrap_or(sha256);
            faults.push(Fault {
                severity: Severity::Warning,
                path,
                message: format!("the key with the digest {short}… has expired"),
                fix: Some("remove it, or set a later not_after".into()),
            });
        }
    }
    faults
}

/// A note about grants whose messages of streams wait for a service, which only a host does. A
/// filter without one refuses such a policy, and validation does not know where a filter runs.
fn needs_host(policy: &Policy) -> Option<String> {
    let grants = policy.grants().iter().filter(|grant| grant.messages_wait());
    let names: Vec<_> = grants.map(|grant| grant.name()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "messages of streams wait for limits of scope global ({}): the filter needs a sandbox host behind it, or the grant `scope: local`",
            names.join(", ")
        )
    })
}

/// The number of API keys in a policy, and their required format. Digests do not show the format.
fn keys(policy: &Policy) -> String {
    let keys = policy.api_keys();
    let any = keys.iter().filter(|key| key.format() == KeyFormat::Any);
    match (keys.len(), any.count()) {
        (0, _) => String::new(),
        (1, 0) => ", 1 API key (made by tensorgate: tg_…)".into(),
        (1, _) => ", 1 API key (of any format)".into(),
        (count, 0) => format!(", {count} API keys (made by tensorgate: tg_…)"),
        (count, any) if any == count => format!(", {count} API keys (of any format)"),
        (count, any) => {
            let own = count.saturating_sub(any);
            format!(", {count} API keys ({own} made by tensorgate: tg_…, {any} of any format)")
        }
    }
}
