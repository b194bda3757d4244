//! `render`: a policy as another system's configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use tensorgate_policy::policy::Tls;

use crate::certificates;
use crate::chain::Chain;
use crate::load::{Loaded, load};
use crate::render::envoy::control_plane::ControlPlane;
use crate::render::envoy::dynamic::Form;
use crate::render::envoy::{Places, key_sets, render, tls};
use crate::render::node::Node;
use crate::replace::{Mode, replace};
use crate::ui::Ui;
use crate::{Failure, stack};

/// Write a policy as another system's configuration. The same input gives the same bytes.
#[derive(Args)]
pub struct Render {
    /// The policy.
    #[arg(short = 'c', long = "config", value_name = "GATE_YAML")]
    config: PathBuf,
    #[command(subcommand)]
    target: Target,
}

#[derive(Subcommand)]
enum Target {
    Envoy(Envoy),
}

/// An Envoy bootstrap with the gate filter in front of the sandbox host.
///
/// To standard output it is one whole file. With `-o` it is envoy.yaml, and beside it what a change of policy moves without a restart: in
/// dynamic/ each filter, the listener and the clusters, in files that Envoy follows; and bundle.json, the policy as the host
/// reads it; with TLS also gate-certificate.yaml and client-authorities.yaml, which say where certificates are. Those that are here are looked at now; of what
/// is renamed into their place later Envoy takes an empty file of revocation lists for none, so rename none there that was not looked at.
#[derive(Args)]
#[command(
    after_help = "Envoy needs the context key, 64 hex digits, in TENSORGATE_CONTEXT_KEY, and the host the same in a file.\n\nExample: tensorgate render -c gate.yaml envoy -o /etc/tensorgate --validate"
)]
struct Envoy {
    /// Write envoy.yaml, dynamic/ and bundle.json into this folder. Each file replaces the one before by renaming.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// With -o: one whole envoy.yaml that a change of policy must replace and Envoy restart for.
    #[arg(long, requires = "output")]
    whole: bool,
    /// With -o: the folder of dynamic/ on Envoy's machine, if it is not the one that is written.
    #[arg(long, value_name = "DIR", requires = "output")]
    dynamic: Option<PathBuf>,
    /// Load the filters as this control plane does.
    #[arg(long = "as", value_name = "CONTROL_PLANE", default_value = "plain")]
    control_plane: ControlPlane,
    /// Listen here instead of where the policy says.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Filters in order: gate, or auth, rate-limit and tensor-guard, all or some of them.
    #[arg(long, value_name = "FILTER,…", default_value = "gate")]
    chain: Chain,
    /// The folder that the filters' modules lie in on Envoy's machine.
    #[arg(long, value_name = "DIR", default_value = "/etc/tensorgate/filters")]
    filters: PathBuf,
    /// The sandbox host's socket.
    #[arg(long, value_name = "PATH", default_value = "/run/tensorgate/host.sock")]
    host_socket: PathBuf,
    /// Envoy's admin socket.
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/run/tensorgate/envoy-admin.sock"
    )]
    admin_socket: PathBuf,
    /// The sandbox host's socket for the audit log.
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/run/tensorgate/audit.sock"
    )]
    audit_socket: PathBuf,
    /// The sandbox host's socket for what gateways share.
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/run/tensorgate/limits.sock"
    )]
    limits_socket: PathBuf,
    /// The folder on Envoy's machine that certificates of the policy are relative to.
    #[arg(long, value_name = "DIR", default_value = "/etc/tensorgate")]
    tls_dir: PathBuf,
    /// The folder on Envoy's machine of the files that say so; written with `-o` where the policy has TLS.
    #[arg(long, value_name = "DIR", default_value = "/etc/tensorgate")]
    secrets: PathBuf,
    /// The authorities that Envoy's machine believes, PEM: for key sets by URL whose policy names none.
    #[arg(
        long,
        value_name = "FILE",
        default_value = key_sets::SYSTEM_AUTHORITIES[0]
    )]
    system_ca: PathBuf,
    /// Have Envoy itself validate the result (the filters included: their modules must be there).
    #[arg(long)]
    validate: bool,
}

impl Render {
    /// Renders.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let loaded = load(&self.config)?;
        let Target::Envoy(envoy) = self.target;
        envoy.run(ui, &loaded)
    }
}

impl Envoy {
    fn run(self, ui: &Ui, loaded: &Loaded) -> Result<(), Failure> {
        for open in self.chain.leaves_open(&loaded.policy) {
            ui.note(&format!("warning: {open}"));
        }
        let places = Places {
            control_plane: self.control_plane,
            listen: self.listen,
            filters: self.filters,
            chain: self.chain.filters().to_vec(),
            host_socket: self.host_socket,
            admin_socket: self.admin_socket,
            audit_socket: self.audit_socket,
            limits_socket: self.limits_socket,
            root: self.tls_dir,
            secrets: self.secrets,
            system_authorities: self.system_ca,
        };
        let tls = loaded.policy.listen().tls();
        let secrets: Vec<(String, String)> = match tls {
            Some(tls) => tls::secrets(tls, &places)
                .map_err(|error| Failure::Input(error.to_string()))?
                .into_iter()
                .map(|(name, secret)| (name, secret.to_yaml()))
                .collect(),
            None => Vec::new(),
        };
        if let Some(tls) = tls {
            refuse_unfit(ui, tls, &places.root)?;
        }
        let rendered = |form| {
            render(&loaded.policy, &loaded.bundle, &places, form)
                .map_err(|error| Failure::Input(error.to_string()))
        };
        let whole = rendered(Form::Whole)?;
        if self.validate {
            // Whole, whatever is written: Envoy's validation looks up nothing.
            stack::envoy::validate(&secrets, |folder| {
                let places = Places {
                    secrets: folder.to_owned(),
                    ..places.clone()
                };
                render(&loaded.policy, &loaded.bundle, &places, Form::Whole)
                    .map(|whole| whole.bootstrap.to_yaml())
            })?;
        }
        let Some(folder) = self.output else {
            ui.line(spelled(ui, &whole.bootstrap)?.trim_end());
            return Ok(());
        };
        let written = if self.whole {
            whole
        } else {
            let there = match self.dynamic {
                Some(there) => there,
                None => std::path::absolute(folder.join(DYNAMIC))
                    .map_err(|error| cannot_write(&folder, &error))?,
            };
            rendered(Form::Watched(&there))?
        };
        let bundle = serde_json::to_string_pretty(&loaded.bundle)
            .map_err(|error| Failure::Failed(error.to_string()))?;
        let dynamic = folder.join(DYNAMIC);
        let deepest = if self.whole { &folder } else { &dynamic };
        std::fs::create_dir_all(deepest).map_err(|error| cannot_write(deepest, &error))?;
        write(&folder, "bundle.json", &format!("{bundle}\n"))?;
        for (name, secret) in &secrets {
            write(&folder, name, secret)?;
        }
        for resource in &written.resources {
            write(
                &dynamic,
                &resource.file,
                &spelled(ui, &resource.response())?,
            )?;
        }
        write(&folder, "envoy.yaml", &spelled(ui, &written.bootstrap)?)
    }
}

/// Refuses files of certificates that Envoy could not use, or would take for less than they are, as far as this machine has them.
fn refuse_unfit(ui: &Ui, tls: &Tls, root: &Path) -> Result<(), Failure> {
    let (here, absent): (Vec<_>, Vec<_>) = certificates::faults(tls, root)
        .into_iter()
        .partition(|unfit| unfit.file.exists());
    for unfit in absent {
        let file = unfit.file.display();
        ui.note(&format!(
            "warning: {}: {file} is not here to be looked at",
            unfit.path
        ));
    }
    if here.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = here
        .iter()
        .map(|unfit| format!("{unfit} ({})", unfit.fix))
        .collect();
    Err(Failure::Input(lines.join("\n")))
}

/// The folder of what Envoy follows, in the output's.
const DYNAMIC: &str = "dynamic";

/// As YAML, or as JSON, which is YAML too.
fn spelled(ui: &Ui, node: &Node) -> Result<String, Failure> {
    if ui.json {
        serde_json::to_string_pretty(node).map_err(|error| Failure::Failed(error.to_string()))
    } else {
        Ok(node.to_yaml())
    }
}

/// Replaces a file: whoever reads it gets the old one whole or the new one.
fn write(folder: &Path, name: &str, text: &str) -> Result<(), Failure> {
    let file = folder.join(name);
    replace(&file, text, Mode::Of(READABLE)).map_err(|error| cannot_write(&file, &error))
}

/// A rendered file holds digests of keys, and no secret: Envoy and the host may run as other users.
const READABLE: u32 = 0o644;

fn cannot_write(file: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("cannot write {}: {error}", file.display()))
}
