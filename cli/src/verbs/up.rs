//! The `up` verb: runs Envoy with the gate, the sandbox host and the embedded backends until it is
//! stopped.

mod held_lines;
mod printed_changes;
mod printed_warnings;
mod process_lines;
mod projects;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tensorgate_cli_common::load_error::LoadError;
use tensorgate_cli_common::policy_file::PolicyFile;
use tensorgate_cli_common::state_folder::HOST_LOG;
use tensorgate_cli_common::ui::{Ui, printable, printable_lines};
use tensorgate_cli_common::{Failure, last_gate, runtime, user_folders};
use tensorgate_policy::Severity;
use tensorgate_policy_load::load::{Loaded, load};
use tensorgate_settings::admin::DEFAULT_ADDRESS;
use tensorgate_settings::sources::SourceState;
use tensorgate_watch::gate_status::GateStatus;

use crate::chain::Chain;
use crate::duration::total_ms;
use crate::files;
use crate::public_address;
use crate::render::envoy::Driver;
use crate::render::envoy::control_plane::ControlPlane;
use crate::stack::certificates::CertificateEvent;
use crate::stack::follow::Sources;
use crate::stack::front::Front;
use crate::stack::options::Options;
use crate::stack::plan::plan;
use crate::stack::process_event::ProcessEvent;
use crate::stack::reload::{ReloadError, Reloaded};
use crate::stack::run::run;
use crate::stack::watch::Watch;
use held_lines::{held_lines, unshown};
use printed_changes::PrintedChanges;
use printed_warnings::PrintedWarnings;
use projects::Projects;

/// Start the gate with a policy and run it until Ctrl-C or SIGTERM.
#[derive(Args)]
#[command(
    after_help = "Prints one line when a request has passed the filter, and one for the result of each change of the policy. A process that ends unexpectedly is started again, and both are a line. After five such ends of Envoy and the host within a minute the gate ends, with exit code 1. A line is also printed when a model, a backend, a circuit, a client's block or the audit log changes its state, and for each alert. A step that takes more than a second, such as the compilation of a handler, is named on standard error, except with --json. A backend that is down does not delay the start or a change; models that need it are listed after each.\n\nChanged files are read once they have stayed the same for 0.4 seconds, or immediately on SIGHUP. Requests in flight finish under the old policy. A policy with faults, or one that Envoy or the host rejects, is held, and so is a component that differs from its sha256: the policy in force stays, but revocations of the change take effect (entries of revocation lists; clients, keys and grants that a valid policy no longer has, and contracts that only tighten). A change that would make ready models unready is held, too, until they are ready for it or `tensorgate reload --accept` accepts it; with `reload: {hold: off}` in the policy it is not. With --dev, a handler whose component is in the `build` folder of a project is built for development when a file of the project changes, and its digest is written into the policy. Build it once more with `tensorgate handler build` before you ship: no other gate loads such a build.\n\nCertificates, authorities and revocation lists of the listener are reloaded when they change; if they are invalid, the previous ones stay. SIGHUP from a closing terminal stops the gate instead.\n\nEnvoy is $ENVOY, else the one that `make setup` installed, else the one in PATH.\n\nExample: tensorgate up gate.yaml --dev"
)]
pub struct Up {
    #[command(flatten)]
    policy: PolicyFile,
    /// Follow the projects of handlers: build them after each change, and print their log lines.
    /// Also more detail in the logs, and no second compilation of what `tensorgate handler`
    /// compiled. Only while the gate and its admin address are on loopback.
    #[arg(long)]
    dev: bool,
    /// Folder for logs and rendered configuration; only one running gate per folder. Default:
    /// `tensorgate` in `$XDG_STATE_HOME` or `~/.local/state`.
    #[arg(long, value_name = "DIR", env = "TENSORGATE_STATE")]
    state: Option<PathBuf>,
    /// Have Envoy load the filters as this control plane does.
    #[arg(long = "as", value_name = "CONTROL_PLANE", default_value = "plain")]
    control_plane: ControlPlane,
    /// Filters in order: gate, or some of auth, rate-limit and tensor-guard.
    #[arg(long, value_name = "FILTER,…", default_value = "gate")]
    chain: Chain,
    /// How Envoy runs the filters.
    #[arg(long, value_name = "DRIVER", default_value = "wasm")]
    driver: Driver,
    /// Folder of the filters' modules (default: `filters` or `../filters` beside the program).
    #[arg(long, value_name = "DIR", env = "TENSORGATE_FILTERS")]
    filters: Option<PathBuf>,
    /// Override the policy's listen address; port 0 lets the system choose.
    #[arg(long, value_name = "ADDR:PORT", env = "TENSORGATE_LISTEN")]
    listen: Option<SocketAddr>,
    /// Address of the host's console and of /healthz, /readyz and /metrics; port 0 lets the system
    /// choose. At an address that other machines can reach, only these three paths are served, and
    /// the console at a port of loopback, which `up` prints.
    #[arg(long, value_name = "ADDR:PORT", env = "TENSORGATE_ADMIN", default_value_t = DEFAULT_ADDRESS)]
    admin: SocketAddr,
    /// Address at which Prometheus reads Envoy's counters, at /stats/prometheus (default: none).
    /// Readers need no credential.
    #[arg(long, value_name = "ADDR:PORT")]
    stats: Option<SocketAddr>,
    /// Allow addresses of --admin and --stats that other machines can reach.
    #[arg(long)]
    admin_public: bool,
    /// Serve the console at --admin, public or not, to readers with the secret in this file only:
    /// as a bearer token, or as the password of HTTP's Basic scheme.
    #[arg(long, value_name = "FILE")]
    console_public: Option<PathBuf>,
    /// Number of Envoy's worker threads (default: one per core).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: Option<u16>,
}

#[derive(Serialize)]
struct ReadyLine<'a> {
    ready: String,
    generation: &'a str,
    admin: String,
    console: String,
    state: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    unready: &'a [String],
}

#[derive(Serialize)]
struct ReloadedLine<'a> {
    reloaded: bool,
    generation: &'a str,
    was: &'a str,
    took_ms: u64,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    unready: &'a [String],
}

#[derive(Serialize)]
struct TightenedLine<'a> {
    tightened: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    was: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
}

#[derive(Serialize)]
struct HeldLine<'a> {
    held: &'a [SourceState],
}

#[derive(Serialize)]
struct CertificatesLine<'a> {
    certificates: &'a str,
    taken: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
}

#[derive(Serialize)]
struct RefusedLine<'a> {
    reloaded: bool,
    serving: &'a str,
    why: &'a str,
}

impl Up {
    /// Runs the gate until it is stopped.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let config = self.policy.find()?;
        let root = root(&config)?;
        let projects = if self.dev {
            let policy = load(&config)?.version.policy;
            Projects::build(ui, &policy, (&config, &root))
        } else {
            Projects::default()
        };
        let mut watch = Watch::new([config.clone()]);
        let loaded = loop {
            watch.begin();
            let loaded = load(&config)?.verify_signatures(&root)?;
            // Repeats the read with all files watched, because new ones may have changed before.
            if watch.follow(loaded.files(&root)) {
                break loaded;
            }
        };
        watch.accept();
        let loaded = files::check(loaded, &root, Severity::Error)?;
        let mut printed = PrintedWarnings::default();
        ui.faults(&loaded.source, printed.fresh(&loaded.warnings));
        let options = self.options(&loaded, root)?;
        for open in self.chain.leaves_open(&loaded.version.policy) {
            ui.note(&format!("warning: {open}"));
        }
        let mut plan = plan(&loaded, &options)?;
        if let Err(failure) = last_gate::record(&config, &options.state) {
            let why = printable(&failure.to_string());
            ui.note(&format!(
                "note: commands beside the policy need --state: {why}"
            ));
        }
        // A single thread, the main one: the kernel kills child processes when the thread that
        // started them ends.
        let runtime = runtime()?;
        let mut front = Operator {
            ui,
            config: &config,
            options: &options,
            printed,
            held: Vec::new(),
            changes: PrintedChanges::default(),
            projects,
            generation: loaded.version.generation.clone(),
            admin: plan.admin,
        };
        let sources = Sources { watch, loaded };
        runtime.block_on(run(&mut plan, sources, &mut front))
    }

    fn options(&self, loaded: &Loaded, root: PathBuf) -> Result<Options, Failure> {
        let listen = self
            .listen
            .unwrap_or(loaded.version.policy.listen().address());
        let mut addresses = [listen, self.admin].into_iter();
        if self.dev
            && let Some(public) = addresses.find(|address| !address.ip().is_loopback())
        {
            return Err(Failure::Input(format!(
                "--dev requires loopback addresses, but the gate would listen on {public}"
            )));
        }
        public_address::check("--admin", self.admin, self.admin_public)?;
        if let Some(stats) = self.stats {
            public_address::check("--stats", stats, self.admin_public)?;
        }
        let state = self
            .state
            .clone()
            .or_else(user_folders::state)
            .ok_or_else(|| {
                Failure::Input("HOME is not set: give a folder for logs with --state".into())
            })?;
        let filters = self
            .filters
            .clone()
            .or_else(default_filters)
            .unwrap_or_default();
        Ok(Options {
            root,
            state: absolute(&state)?,
            driver: self.driver,
            filters: absolute(&filters)?,
            chain: self.chain.clone(),
            control_plane: self.control_plane,
            listen: self.listen,
            admin: self.admin,
            admin_public: self.admin_public,
            console_public: (self.console_public.as_deref()).map(absolute).transpose()?,
            stats: self.stats,
            concurrency: self.concurrency,
            dev: self.dev,
        })
    }
}

/// Folder that the policy's paths are relative to.
fn root(config: &Path) -> Result<PathBuf, Failure> {
    Ok(absolute(config)?
        .parent()
        .map_or_else(|| PathBuf::from("/"), Path::to_owned))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::Input(format!("{}: {error}", path.display())))
}

/// The folder of the filters' modules of this installation. A release has it beside the program,
/// cargo's target folder and `PREFIX/bin` have it one level up.
fn default_filters() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?;
    let beside = folder.join("filters");
    if beside.is_dir() {
        return Some(beside);
    }
    Some(folder.parent()?.join("filters"))
}

/// The command's user interface.
struct Operator<'a> {
    ui: &'a Ui,
    config: &'a Path,
    options: &'a Options,
    /// Warnings are printed once, not on every reload.
    printed: PrintedWarnings,
    /// Held changes that were printed after the last outcome of a change.
    held: Vec<SourceState>,
    /// What the host said of itself, as far as it was printed.
    changes: PrintedChanges,
    /// The projects of handlers, with `--dev`.
    projects: Projects,
    generation: String,
    /// Admin address of the host.
    admin: SocketAddr,
}

impl Operator<'_> {
    /// Prints a note for each cause why a model is not ready.
    fn warn_unready(&self, unready: &[String]) {
        for cause in unready {
            let cause = printable(cause);
            self.ui.note(&format!("warning: not ready: {cause}"));
        }
    }

    /// Prints that a change was not put in force, and why unless a line `held` has just said it.
    fn refused(&mut self, serving: &str, why: &str) {
        let held = std::mem::take(&mut self.held);
        if self.ui.json {
            self.ui.json_line(&RefusedLine {
                reloaded: false,
                serving,
                why,
            });
        } else {
            let why = match unshown(&held, why) {
                "" => String::new(),
                why => format!(":\n{}", printable_lines(why)),
            };
            self.ui.note(&format!(
                "not reloaded, policy {serving} stays in force{why}"
            ));
        }
    }
}

impl Front for Operator<'_> {
    fn policy(&self) -> &Path {
        self.config
    }

    /// Prints the readiness line, and a note for each cause why a model is not ready.
    fn ready(&mut self, url: &str, unready: &[String]) {
        self.changes.warned(unready);
        let (ui, options) = (self.ui, self.options);
        let host_log = options.state.join(HOST_LOG);
        self.projects.follow(ui, self.config, &host_log);
        let (generation, state) = (&self.generation, options.state.display());
        let admin = self.admin;
        if ui.json {
            ui.json_line(&ReadyLine {
                ready: url.to_owned(),
                generation,
                admin: format!("http://{admin}"),
                console: format!("http://{admin}/"),
                state: state.to_string(),
                unready,
            });
        } else {
            ui.line(&format!(
                "tensorgate ready: {url} (policy {generation}, console http://{admin}/, admin http://{admin}, logs in {state})"
            ));
            self.warn_unready(unready);
        }
    }

    fn load(&self) -> Result<Loaded, LoadError> {
        load(self.config)?.verify_signatures(&self.options.root)
    }

    fn files(&self, loaded: &Loaded) -> Vec<PathBuf> {
        loaded.files(&self.options.root)
    }

    fn faulty(&mut self, error: LoadError, serving: &str) {
        match error {
            LoadError::Faults(source, faults) => {
                self.ui.faults(&source, self.printed.fresh(&faults));
            }
            other => {
                let _ = self.ui.failure(&other.into());
            }
        }
        self.refused(serving, "");
    }

    fn loaded(&mut self, loaded: &Loaded) {
        let fresh = self.printed.fresh(&loaded.warnings);
        self.ui.faults(&loaded.source, fresh);
    }

    fn tightened(&mut self, outcome: Result<Reloaded, &str>) {
        let ui = self.ui;
        match outcome {
            Ok(Reloaded {
                generation,
                was,
                took,
            }) if ui.json => ui.json_line(&TightenedLine {
                tightened: true,
                generation: Some(&generation),
                was: Some(&was),
                took_ms: Some(total_ms(took)),
                why: None,
            }),
            Ok(Reloaded {
                generation,
                was,
                took,
            }) => ui.line(&format!(
                "tightened: policy {generation} instead of {was} ({} ms)",
                total_ms(took)
            )),
            Err(why) if ui.json => ui.json_line(&TightenedLine {
                tightened: false,
                generation: None,
                was: None,
                took_ms: None,
                why: Some(why),
            }),
            Err(why) => ui.note(&format!(
                "{}: revocations are NOT in force everywhere, and are retried every 5 seconds:\n{}",
                ui.paint("1;31", "error"),
                printable_lines(why)
            )),
        }
    }

    fn held(&mut self, held: &[SourceState]) {
        if self.ui.json {
            return self.ui.json_line(&HeldLine { held });
        }
        for line in held_lines(held) {
            self.ui.note(&line);
        }
        self.held = held.to_vec();
    }

    fn process(&mut self, event: &ProcessEvent) {
        process_lines::print(self.ui, event, &self.options.state);
    }

    fn progress(&self, line: &str) {
        if !self.ui.json {
            self.ui.note(&printable(line));
        }
    }

    fn failed(&mut self, failure: &Failure) {
        let _ = self.ui.failure(failure);
    }

    fn certificates(&mut self, news: &CertificateEvent) {
        let (what, revoked, fault) = match news {
            CertificateEvent::Taken { what, revoked } => (what.fields(), *revoked, None),
            CertificateEvent::Unconfirmed { what, why } => {
                let unconfirmed = "written, but Envoy has not confirmed that it loaded them";
                (what.fields(), None, Some((unconfirmed, why)))
            }
            CertificateEvent::Kept { what, why } => {
                let kept = "not loaded, the previous ones stay in force";
                (what.fields(), None, Some((kept, why)))
            }
        };
        if self.ui.json {
            return self.ui.json_line(&CertificatesLine {
                certificates: what,
                taken: fault.is_none(),
                revoked,
                why: fault.map(|(_, why)| why.as_str()),
            });
        }
        match fault {
            Some((fault, why)) => self
                .ui
                .note(&format!("{what} {fault}:\n{}", printable_lines(why))),
            None => {
                let revoked = revoked.map(|count| format!(", {count} certificates revoked"));
                self.ui
                    .line(&format!("{what} renewed{}", revoked.unwrap_or_default()));
            }
        }
    }

    fn changed(&mut self, status: &GateStatus) {
        self.changes.print(self.ui, status);
    }

    /// Prints the result, and as at the start a note for each cause why a model is not ready.
    fn reloaded(&mut self, outcome: Result<(Reloaded, Vec<String>), ReloadError>, serving: &str) {
        let (reloaded, unready) = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return self.refused(serving, &error.to_string()),
        };
        self.changes.warned(&unready);
        let Reloaded {
            generation,
            was,
            took,
        } = reloaded;
        let took_ms = total_ms(took);
        if self.ui.json {
            return self.ui.json_line(&ReloadedLine {
                reloaded: true,
                generation: &generation,
                was: &was,
                took_ms,
                unready: &unready,
            });
        }
        if generation == was {
            self.ui
                .line(&format!("reloaded: policy {generation}, nothing changed"));
        } else {
            self.ui.line(&format!(
                "reloaded: policy {generation} instead of {was} ({took_ms} ms)"
            ));
        }
        self.warn_unready(&unready);
    }
}
