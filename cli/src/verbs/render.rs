//! `render`: a policy as another system's configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::load::{Loaded, load};
use crate::render::envoy::{Places, bootstrap};
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

/// An Envoy bootstrap with the gate filter in front of the sandbox host, to standard output or with `-o` as envoy.yaml beside
/// bundle.json (the policy as gate and host read it).
#[derive(Args)]
#[command(
    after_help = "Envoy needs the context key, 64 hex digits, in TENSORGATE_CONTEXT_KEY, and the host the same in a file.\n\nExample: tensorgate render -c gate.yaml envoy -o /etc/tensorgate --validate"
)]
struct Envoy {
    /// Write envoy.yaml and bundle.json into this folder.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Listen here instead of where the policy says.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// The folder that gate.wasm lies in on Envoy's machine.
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
    /// Where outcomes are logged.
    #[arg(long, value_name = "PATH", default_value = "/dev/stdout")]
    access_log: PathBuf,
    /// Have Envoy itself validate the result (the filter included: gate.wasm must be there).
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
        let places = Places {
            listen: self.listen,
            gate_wasm: self.filters.join("gate.wasm"),
            host_socket: self.host_socket,
            admin_socket: self.admin_socket,
            access_log: self.access_log,
        };
        let node = bootstrap(&loaded.policy, &loaded.bundle, &places)
            .map_err(|error| Failure::Input(error.to_string()))?;
        let text = if ui.json {
            serde_json::to_string_pretty(&node)
                .map_err(|error| Failure::Failed(error.to_string()))?
        } else {
            node.to_yaml()
        };
        if self.validate {
            stack::envoy::validate(&text)?;
        }
        match self.output {
            None => ui.line(text.trim_end()),
            Some(folder) => {
                let bundle = serde_json::to_string_pretty(&loaded.bundle)
                    .map_err(|error| Failure::Failed(error.to_string()))?;
                std::fs::create_dir_all(&folder).map_err(|error| cannot_write(&folder, &error))?;
                write(&folder.join("envoy.yaml"), &text)?;
                write(&folder.join("bundle.json"), &format!("{bundle}\n"))?;
            }
        }
        Ok(())
    }
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text).map_err(|error| cannot_write(file, &error))
}

fn cannot_write(file: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("cannot write {}: {error}", file.display()))
}
