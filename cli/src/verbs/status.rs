//! The `status` verb: what runs with a state folder, which policy version is in force, which
//! changes are held, which models are ready, and what happened in the last minutes. The running
//! gate's own reports are shown.

mod gate_lines;
mod processes;
mod watch;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::{Deserialize, Serialize};
use tensorgate_cli_common::policy_file::PolicyFile;
use tensorgate_cli_common::state_folder::StateFolder;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_cli_common::{Failure, runtime};
use tensorgate_judge::model_version::model_version;
use tensorgate_policy::Policy;
use tensorgate_settings::admin::GatewayStatus;
use tensorgate_settings::sources::{SourceState, Sources};
use tensorgate_watch::gate_status::GateStatus;

use crate::stack::gate_changes::ask_status;
use crate::stack::probe::{CUT, Response, Target, causes, send_request};
use crate::stack::process_event::ProcessEnd;
use crate::stack::running::Running;
use crate::stack::site::bundle;

/// Why a host says nothing of its policy at an address that other machines can reach.
const WITHHELD: &str = "this address of the host serves probes and metrics only: ask its loopback \
     address, in a pod port 9904 (kubectl port-forward POD 9902:9904)";

/// Show what runs, the policy version in force, held changes, the state of models, the outcomes of
/// the last five minutes, and what is wrong.
#[derive(Args)]
#[command(
    after_help = "A gate is found by its state folder: the one of the last `up` with the policy, which is gate.yaml in the current folder unless one is named. With a named policy, the gate must run it.\n\nWith --admin, a host is asked at the address of its admin server, as through `kubectl port-forward`.\n\nExits 0 if the gate is up and ready, and 1 if not. A model that is not ready does not change that. With --watch, exits 0 after Ctrl-C.\n\nExample: tensorgate status --json\nExample: tensorgate status --watch\nExample: tensorgate status --admin http://127.0.0.1:9902"
)]
pub struct Status {
    #[command(flatten)]
    policy: PolicyFile,
    #[command(flatten)]
    state: StateFolder,
    /// Admin server of a host, in place of a state folder.
    #[arg(long, value_name = "URL", value_parser = admin, conflicts_with_all = ["policy", "config"])]
    admin: Option<SocketAddr>,
    /// Show it again every two seconds, until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

/// Where a gate is found.
enum Location {
    /// At a host's admin server.
    Admin(SocketAddr),
    /// At a state folder. The policy must be the gate's.
    State(PathBuf, Option<PathBuf>),
}

impl Location {
    async fn report(&self) -> Result<Report, Failure> {
        match self {
            Self::Admin(admin) => Ok(Report::of_host(*admin).await),
            Self::State(state, policy) => Report::new(state, policy.as_deref()).await,
        }
    }
}

/// The status of a gate.
#[derive(Default, Serialize)]
struct Report {
    /// None of a host that is asked at its admin server.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<PathBuf>,
    /// Whether the processes run.
    up: bool,
    /// Whether the gate accepts requests.
    ready: bool,
    pid: Option<u32>,
    listen: Option<String>,
    admin: Option<String>,
    policy: Option<PathBuf>,
    /// The policy version in force.
    version: Option<String>,
    held: Vec<SourceState>,
    revocations_held: Option<String>,
    /// The gateways that sent requests, with the policy version of each.
    gateways: Vec<GatewayStatus>,
    models: Vec<ModelState>,
    /// The last unexpected ends of processes, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ends: Vec<ProcessEnd>,
    /// Why the gate is not ready.
    why: Vec<String>,
    /// What the host says of the last minutes and of what is wrong. `null` if it does not answer.
    gate: Option<GateStatus>,
}

/// The state of a model's version.
#[derive(Serialize)]
struct ModelState {
    model: String,
    version: String,
    /// `null` if the host has cut its list.
    ready: Option<bool>,
    why: Vec<String>,
}

/// The needed fields of the host's `/generations`.
#[derive(Deserialize)]
struct Generations {
    serving: String,
    /// An older host lists none.
    #[serde(default)]
    gateways: Vec<GatewayStatus>,
    #[serde(flatten)]
    sources: Sources,
}

impl Status {
    /// Prints the status.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let location = match self.admin {
            Some(admin) => Location::Admin(admin),
            None => {
                let policy = self.policy.named();
                Location::State(self.state.find_for(policy.as_deref())?, policy)
            }
        };
        let runtime = runtime()?;
        if self.watch {
            return runtime.block_on(watch::watch(ui, &location));
        }
        let report = runtime.block_on(location.report())?;
        if ui.json {
            ui.json_line(&report);
        } else {
            print(ui, &report);
        }
        if report.ready {
            Ok(())
        } else {
            Err(Failure::No)
        }
    }
}

impl Report {
    /// Asks the gate with this state folder. With `policy`, another policy's gate does not count.
    async fn new(state: &Path, policy: Option<&Path>) -> Result<Self, Failure> {
        let mut report = Self {
            state: Some(state.to_owned()),
            ..Self::default()
        };
        let Some(running) = Running::find(state)? else {
            report.why = vec!["no gate runs with this state folder".into()];
            return Ok(report);
        };
        if let Some(why) = policy.and_then(|policy| running.mismatch(policy)) {
            report.why = vec![why];
            return Ok(report);
        }
        report.up = true;
        report.pid = Some(running.pid).filter(|pid| *pid != 0);
        report.ends = running.ends;
        report.policy = Some(running.policy).filter(|policy| !policy.as_os_str().is_empty());
        report.admin = running.admin.map(|admin| format!("http://{admin}"));
        let (Some(admin), Some(listen)) = (running.admin, running.listen) else {
            report.why = vec!["it is starting".into()];
            return Ok(report);
        };
        report.listen = Some(listen);
        report.ask(admin, in_force(state).as_deref()).await;
        Ok(report)
    }

    /// Asks the host with this admin server.
    async fn of_host(admin: SocketAddr) -> Self {
        let mut report = Self {
            admin: Some(format!("http://{admin}")),
            ..Self::default()
        };
        report.ask(admin, None).await;
        report
    }

    /// Asks a host for its state. Without its policy, causes why models are not ready are among
    /// all causes.
    async fn ask(&mut self, admin: SocketAddr, policy: Option<&Policy>) {
        let target = Target::Tcp(admin);
        // At the same time, because a frozen host lets each of them time out.
        let (readyz, sources, gate) = tokio::join!(
            send_request(&target, "GET", "/readyz"),
            send_request(&target, "GET", "/generations"),
            ask_status(&target, None),
        );
        self.gate = gate;
        let is_withheld = sources.as_ref().is_ok_and(Response::is_withheld);
        match sources.map(|said| serde_json::from_str::<Generations>(&said.body)) {
            Ok(Ok(Generations {
                serving,
                gateways,
                sources,
            })) => {
                self.gateways = gateways;
                self.version = sources.in_force.or(Some(serving));
                self.held = sources.held;
                self.revocations_held = sources.revocations_held;
            }
            _ if is_withheld => self.why.push(WITHHELD.into()),
            _ => self.why.push("the host reports no policy".into()),
        }
        match readyz {
            Ok(Response { ok, body, .. }) => {
                self.up = true;
                let mut lines = causes(&body);
                self.models = models(policy, &mut lines);
                self.ready = ok && self.why.is_empty();
                self.why.append(&mut lines);
            }
            Err(error) => self.why.push(format!("the host does not answer: {error}")),
        }
    }
}

/// The model versions of the policy in force. Causes why one is not ready are moved out of `lines`.
fn models(policy: Option<&Policy>, lines: &mut Vec<String>) -> Vec<ModelState> {
    let mut states = Vec::new();
    let cut = lines.iter().any(|line| line == CUT);
    for model in policy.iter().flat_map(|policy| policy.models()) {
        for version in model.versions() {
            let prefix = format!("{}: ", model_version(model, version));
            let mut why = Vec::new();
            lines.retain(|line| match line.strip_prefix(&prefix) {
                Some(cause) => {
                    why.push(cause.to_owned());
                    false
                }
                None => true,
            });
            states.push(ModelState {
                model: model.name().to_owned(),
                version: version.clone(),
                ready: match (why.is_empty(), cut) {
                    (false, _) => Some(false),
                    (true, false) => Some(true),
                    (true, true) => None,
                },
                why,
            });
        }
    }
    states
}

/// The policy that the host has.
pub(super) fn in_force(state: &Path) -> Option<Arc<Policy>> {
    Some(bundle(state).ok()??.policy)
}

fn print(ui: &Ui, report: &Report) {
    let line = |name: &str, text: &str| ui.line(&format!("{name}: {}", printable(text)));
    let gate = match (report.up, report.ready) {
        (_, true) => ui.paint("1;32", "ready"),
        (true, false) => ui.paint("1;31", "not ready"),
        (false, false) => ui.paint("1;31", "not running"),
    };
    let pid = report.pid.map(|pid| format!(" (pid {pid})"));
    ui.line(&format!("gate: {gate}{}", pid.unwrap_or_default()));
    for why in &report.why {
        line("why", why);
    }
    if let Some(state) = &report.state {
        line("state", &state.display().to_string());
    }
    for (name, text) in [("listen", &report.listen), ("admin", &report.admin)] {
        if let Some(text) = text {
            line(name, text);
        }
    }
    let version = report.version.as_deref();
    if let Some(policy) = &report.policy {
        let version = version.unwrap_or("unknown");
        line(
            "policy",
            &format!("{}, version {version}", policy.display()),
        );
    } else if let Some(version) = version {
        line("policy", &format!("version {version}"));
    }
    for SourceState { file, why } in &report.held {
        for why in why.lines() {
            line("held", &format!("{}: {why}", file.display()));
        }
    }
    if let Some(why) = &report.revocations_held {
        line("revocations NOT in force", &why.replace('\n', "; "));
    }
    for gateway in &report.gateways {
        let name = format!("gateway {}", printable(&gateway.gateway));
        line(&name, &describe(gateway));
    }
    for state in &report.models {
        let ready = match state.ready {
            Some(true) => "ready".to_owned(),
            None => "unknown".to_owned(),
            Some(false) => format!("not ready: {}", state.why.join("; ")),
        };
        line(
            &format!("model {} version {}", state.model, state.version),
            &ready,
        );
    }
    processes::print_ends(ui, &report.ends, report.state.as_deref());
    if let Some(status) = &report.gate {
        for (name, text) in gate_lines::lines(status, report.held.is_empty()) {
            line(&name, &text);
        }
    }
}

/// The address of an admin server, from `http://HOST:PORT`.
fn admin(url: &str) -> Result<SocketAddr, String> {
    let server = url.strip_prefix("http://").unwrap_or(url);
    let addresses = server.trim_end_matches('/').to_socket_addrs();
    let address = addresses.ok().and_then(|mut addresses| addresses.next());
    address.ok_or_else(|| "expected an address such as http://127.0.0.1:9902".to_owned())
}

/// The policy version of a gateway.
fn describe(gateway: &GatewayStatus) -> String {
    let GatewayStatus {
        gateway: _,
        generation,
        known,
        last_seen_s,
    } = gateway;
    let unknown = if *known {
        ""
    } else {
        " (not loaded by the host, whose newest decides)"
    };
    format!("policy {generation}{unknown}, last seen {last_seen_s} s ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_with_a_version_that_the_host_does_not_have_stands_out() {
        let described = |known| {
            describe(&GatewayStatus {
                gateway: "uid 1".to_owned(),
                generation: "g1".to_owned(),
                known,
                last_seen_s: 7,
            })
        };
        assert_eq!(described(true), "policy g1, last seen 7 s ago");
        let unknown = "policy g1 (not loaded by the host, whose newest decides), last seen 7 s ago";
        assert_eq!(described(false), unknown);
    }
}
