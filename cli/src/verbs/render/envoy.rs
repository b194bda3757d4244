//! `render envoy`: a policy as the configuration of an Envoy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use tensorgate_base::shell::quoted;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_filter_core::root::CONTEXT_KEY_VARIABLE;
use tensorgate_policy::policy::Tls;
use tensorgate_policy_load::load::Loaded;
use tensorgate_settings::bundle::FILE;

use super::next_steps::{ANONYMOUS, NextSteps, request};
use super::remote_host::RemoteHostOptions;
use crate::certificates;
use crate::chain::Chain;
use crate::public_address;
use crate::render::envoy::control_plane::ControlPlane;
use crate::render::envoy::dynamic::Form;
use crate::render::envoy::{Driver, RenderError, RenderOptions, key_sets, render, stats, tls};
use crate::render::local_scheme;
use crate::render::node::Node;
use crate::render::output::{cannot_write, create_folder, write_file};
use crate::render::source_record::SourceRecord;
use crate::stack;

/// An Envoy bootstrap with the gate filter in front of the sandbox host.
///
/// On standard output it is one complete file. With `-o` it is envoy.yaml, with further files
/// beside it. dynamic/ contains the filters, the listener and the clusters, which Envoy watches, so
/// that policy changes need no restart. bundle.bin is the compiled policy for the host. README.txt
/// and gate.yaml.txt say what the folder was rendered from. With TLS, gate-certificate.yaml and
/// client-authorities.yaml refer to the certificate files. With --host, host-certificate.yaml and
/// host-authorities.yaml do.
///
/// Certificate files that exist here are checked now. Files that replace them later are not
/// checked, and Envoy treats an empty file of revocation lists as no list. So check such files
/// before renaming them.
#[derive(Args)]
#[command(
    after_help = "Envoy needs the context key, 64 hex digits, in TENSORGATE_CONTEXT_KEY, and the host needs the same key in a file.\n\nExample: tensorgate render envoy gate.yaml -o /etc/tensorgate --validate"
)]
pub struct Envoy {
    /// Policy file, instead of `-c`.
    #[arg(value_name = "GATE_YAML")]
    pub policy: Option<PathBuf>,
    /// Write envoy.yaml, dynamic/ and bundle.bin into this folder. Files are replaced atomically
    /// by renaming.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// With -o: one complete envoy.yaml; a change of policy replaces it and needs a restart of
    /// Envoy.
    #[arg(long, requires = "output")]
    whole: bool,
    /// With -o: path of dynamic/ on Envoy's machine, if it differs from the output folder.
    #[arg(long, value_name = "DIR", requires = "output")]
    dynamic: Option<PathBuf>,
    /// Load the filters as this control plane does.
    #[arg(long = "as", value_name = "CONTROL_PLANE", default_value = "plain")]
    control_plane: ControlPlane,
    /// Override the policy's listen address.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Filters in order: gate, or some of auth, rate-limit and tensor-guard.
    #[arg(long, value_name = "FILTER,…", default_value = "gate")]
    chain: Chain,
    /// How Envoy runs the filters.
    #[arg(long, value_name = "DRIVER", default_value = "wasm")]
    driver: Driver,
    /// Folder of the filters' modules on Envoy's machine.
    #[arg(long, value_name = "DIR", default_value = "/etc/tensorgate/filters")]
    filters: PathBuf,
    /// Socket of the sandbox host.
    #[arg(long, value_name = "PATH", default_value = "/run/tensorgate/host.sock")]
    host_socket: PathBuf,
    /// Envoy's admin socket.
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/run/tensorgate/envoy-admin.sock"
    )]
    admin_socket: PathBuf,
    /// Address at which Prometheus reads Envoy's counters, at /stats/prometheus. Readers need no
    /// credential.
    #[arg(long, value_name = "ADDR:PORT", default_value_t = stats::DEFAULT_ADDRESS)]
    stats: SocketAddr,
    /// Allow an address of --stats that other machines can reach.
    #[arg(long)]
    admin_public: bool,
    /// The sandbox host's socket for the audit log.
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/run/tensorgate/audit.sock"
    )]
    audit_socket: PathBuf,
    /// The sandbox host's socket for limits shared by gateways.
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/run/tensorgate/limits.sock"
    )]
    limits_socket: PathBuf,
    /// Folder on Envoy's machine that certificate paths of the policy are relative to.
    #[arg(long, value_name = "DIR", default_value = "/etc/tensorgate")]
    tls_dir: PathBuf,
    /// Folder on Envoy's machine of the secret files, which `-o` writes if the policy has TLS, and
    /// with --host.
    #[arg(long, value_name = "DIR", default_value = "/etc/tensorgate")]
    secrets: PathBuf,
    /// Certificate authorities on Envoy's machine, PEM, for key set URLs without authorities in the
    /// policy.
    #[arg(
        long,
        value_name = "FILE",
        default_value = key_sets::SYSTEM_AUTHORITIES[0]
    )]
    system_ca: PathBuf,
    /// No sandbox host is behind the filters: they judge and charge all themselves.
    #[arg(long, conflicts_with = "host")]
    no_host: bool,
    /// Validate the result with Envoy. The modules of the filters must exist.
    #[arg(long)]
    validate: bool,
    #[command(flatten)]
    remote: RemoteHostOptions,
}

impl Envoy {
    /// Renders the policy.
    pub fn run(self, ui: &Ui, loaded: &Loaded) -> Result<(), Failure> {
        public_address::check("--stats", self.stats, self.admin_public)?;
        for open in self.chain.leaves_open(&loaded.version.policy) {
            ui.note(&format!("warning: {open}"));
        }
        let options = RenderOptions {
            control_plane: self.control_plane,
            listen: self.listen,
            driver: self.driver,
            filters: self.filters,
            chain: self.chain.filters().to_vec(),
            host_socket: self.host_socket,
            admin_socket: self.admin_socket,
            ready_socket: None,
            stats: Some(self.stats),
            audit_socket: self.audit_socket,
            limits_socket: self.limits_socket,
            remote_hosts: self.remote.hosts(self.control_plane)?,
            root: self.tls_dir,
            secrets: self.secrets,
            system_authorities: self.system_ca,
            own_cgroup: false,
            sandbox_host: !self.no_host,
        };
        let tls = loaded.version.policy.listen().tls();
        let input = |error: RenderError| Failure::Input(error.to_string());
        let mut secrets = match tls {
            Some(tls) => tls::secrets(tls, &options).map_err(input)?,
            None => Vec::new(),
        };
        if let Some(remote) = &options.remote_hosts {
            secrets.extend(remote.secrets(&options).map_err(input)?);
        }
        let secrets: Vec<(String, String)> = (secrets.into_iter())
            .map(|(name, secret)| (name, secret.to_yaml()))
            .collect();
        if let Some(tls) = tls {
            reject_unusable(ui, tls, &options.root)?;
        }
        let rendered = |form| render(&loaded.version, &options, form).map_err(input);
        let whole = rendered(Form::Whole)?;
        if self.validate {
            // Always one complete file, because Envoy's validation does not read the separate ones.
            stack::envoy::validate(options.driver, &secrets, |folder| {
                let options = RenderOptions {
                    secrets: folder.to_owned(),
                    ..options.clone()
                };
                render(&loaded.version, &options, Form::Whole)
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
        let bundle = loaded.version.for_host().to_bytes();
        let dynamic = folder.join(DYNAMIC);
        let deepest = if self.whole { &folder } else { &dynamic };
        create_folder(deepest)?;
        write_file(&folder.join(FILE), bundle)?;
        for (name, secret) in &secrets {
            write_file(&folder.join(name), secret)?;
        }
        for resource in &written.resources {
            let file = dynamic.join(&resource.file);
            write_file(&file, &spelled(ui, &resource.response())?)?;
        }
        let bootstrap = spelled(ui, &written.bootstrap)?;
        write_file(&folder.join(BOOTSTRAP), &bootstrap)?;
        SourceRecord::of_this_run(loaded).write(&folder)?;
        // Secrets, watched files, the bundle and the bootstrap.
        let files = (secrets.len().saturating_add(written.resources.len())).saturating_add(2);
        next_steps(&options, loaded, &folder).print_of_folder(ui, &folder, files);
        Ok(())
    }
}

/// What to do with the files in a folder.
fn next_steps(options: &RenderOptions, loaded: &Loaded, folder: &Path) -> NextSteps {
    let filters = options.filters.display();
    let mut before = vec![
        format!("{CONTEXT_KEY_VARIABLE} in the environment of Envoy: 64 hex digits"),
        format!("The modules of the filters in {filters}"),
    ];
    if options.remote_hosts.is_none() {
        let socket = options.host_socket.display();
        before.push(format!(
            "The sandbox host at {socket}, with {FILE} and this key"
        ));
    }
    let before = before.iter().map(|need| printable(need)).collect();
    let mut steps = NextSteps::after(before);
    let bootstrap = quoted(folder.join(BOOTSTRAP));
    steps.add("Start Envoy", format!("envoy -c {bootstrap}"));
    let listen = loaded.version.policy.listen();
    let address = options.listen.unwrap_or(listen.address());
    let scheme = local_scheme(listen.tls().is_some());
    steps.add(ANONYMOUS, request(scheme, &address.to_string()));
    steps
}

/// Rejects certificate files that Envoy could not use or would misinterpret, as far as they exist
/// on this machine.
fn reject_unusable(ui: &Ui, tls: &Tls, root: &Path) -> Result<(), Failure> {
    let (here, absent): (Vec<_>, Vec<_>) = certificates::faults(tls, root)
        .into_iter()
        .partition(|unfit| unfit.file.exists());
    for unfit in absent {
        let file = unfit.file.display();
        ui.note(&format!(
            "warning: {}: {file} does not exist here and was not checked",
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

/// Folder of the watched files, below the output folder.
const DYNAMIC: &str = "dynamic";
/// File of the bootstrap in it.
const BOOTSTRAP: &str = "envoy.yaml";

/// The configuration as YAML, or as JSON, which is valid YAML.
fn spelled(ui: &Ui, node: &Node) -> Result<String, Failure> {
    if ui.json {
        serde_json::to_string_pretty(node).map_err(|error| Failure::Failed(error.to_string()))
    } else {
        Ok(node.to_yaml())
    }
}
