//! The `init` verb: writes a first policy and a first key.
//!
//! The policy has the contracts of all models of a server. Bounds that the server does not report
//! stay faults, as `import` leaves them, and are listed.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::load::{LoadError, load};
use tensorgate_cli_common::policy_file::DEFAULT;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_policy::Severity;

use super::import::{Kind, plain, section, served};
use super::keys;

/// The policy's listen address.
const LISTEN: &str = "127.0.0.1:8080";
/// Name of the backend.
const BACKEND: &str = "gpu";
/// Endpoint of a policy that is written without a server.
const ENDPOINT: &str = "http://127.0.0.1:8001";
/// Name of the model in [`EXAMPLE`].
const EXAMPLE_NAME: &str = "my-model";
/// Contract of a policy that is written without a server.
const EXAMPLE: &str = "models:
  # Replace this contract with the one of your model. `tensorgate import` writes it from a
  # server, or from Triton's config.pbtxt.
  my-model:
    backend: gpu
    versions: [\"1\"]
    protocols: [oip-rest, oip-grpc]
    inputs:
      - {name: input, datatype: FP32, shape: [{name: batch, max: 8}, 4], range: [-10, 10]}
    outputs:
      - {name: output, datatype: FP32, shape: [batch, 2]}
";

/// Write a first policy with the models of a server, and a first key.
#[derive(Args)]
#[command(
    after_help = "The server must list its models (Triton and MLServer do) unless --model names them. Without a URL, the policy has an example model to replace. An existing file is never overwritten.\n\nThe key is printed once on standard output, and the next steps on standard error. Each bound that the server does not report is a fault of the policy, and is listed.\n\nExample: tensorgate init http://127.0.0.1:8000\nExample: tensorgate init --model digits http://127.0.0.1:8080 > app.key"
)]
pub struct Init {
    /// Server: `http://HOST:PORT`, or `https://HOST:PORT`.
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// What the server speaks (default: the server is asked).
    #[arg(long, value_name = "KIND", value_enum, requires = "url")]
    from: Option<Kind>,
    /// Model on the server (default: all that are loaded). Can be repeated.
    #[arg(long, value_name = "NAME", requires = "url")]
    model: Vec<String>,
    /// For https://, trusted certificate authorities instead of the system's, PEM.
    #[arg(long, value_name = "FILE", requires = "url")]
    ca: Option<PathBuf>,
    /// Name of the first client.
    #[arg(long, value_name = "NAME", default_value = "app")]
    client: String,
    /// Policy file to write.
    #[arg(short, long, value_name = "GATE_YAML", default_value = DEFAULT)]
    config: PathBuf,
}

#[derive(Serialize)]
struct Written<'a> {
    policy: String,
    client: &'a str,
    key: &'a str,
    sha256: &'a str,
    models: &'a [String],
    /// Lines of the policy with an error.
    fill_in: Vec<usize>,
}

impl Init {
    /// Writes the policy.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        keys::check_entry(&self.client, None)?;
        if self.config.exists() {
            return Err(exists(&self.config));
        }
        let (endpoint, names, models) = match &self.url {
            None => (
                ENDPOINT.to_owned(),
                vec![EXAMPLE_NAME.to_owned()],
                EXAMPLE.to_owned(),
            ),
            Some(url) => {
                let served = served(self.from, url, &self.model, self.ca.as_deref())?;
                let (models, _) = section(&served, BACKEND);
                let names = served.into_iter().map(|model| model.name).collect();
                (grpc_endpoint(url), names, models.join("\n") + "\n")
            }
        };
        let (key, sha256) = keys::generate()?;
        let text = policy(&self.client, &sha256, &endpoint, &names, &models);
        write(&self.config, &text)?;
        let faults = match load(&self.config) {
            Ok(_) => Vec::new(),
            Err(LoadError::Faults(_, faults)) => faults,
            Err(error) => {
                // The key of this file was not shown.
                let _ = std::fs::remove_file(&self.config);
                return Err(error.into());
            }
        };
        let errors = faults.into_iter();
        let errors: Vec<_> = errors
            .filter(|fault| fault.severity == Severity::Error)
            .collect();
        let file = printable(&self.config.display().to_string());
        if ui.json {
            ui.json_line(&Written {
                policy: self.config.display().to_string(),
                client: &self.client,
                key: &key,
                sha256: &sha256,
                models: &names,
                fill_in: errors.iter().map(|fault| fault.span.line).collect(),
            });
            return Ok(());
        }
        ui.line(&key);
        ui.note(&format!(
            "wrote {file}; above is the key of client {} (shown only now)",
            self.client
        ));
        if self.url.is_some() {
            ui.note(&format!(
                "the gate will call the server's gRPC port, {endpoint}: change `endpoints` if it is another one"
            ));
        }
        if !errors.is_empty() {
            ui.note("fill in what the server did not say:");
        }
        for fault in &errors {
            let (line, message) = (fault.span.line, printable(&fault.message));
            ui.note(&format!("  {file}:{line}: {message}"));
        }
        // A name that needs quotes could mean something to a shell.
        let plain = names.iter().find(|name| plain(name) == **name);
        let model = plain.map_or("MODEL", String::as_str);
        ui.note(&format!(
            "next:\n  tensorgate check {0}\n  tensorgate up {0}\n  curl -H \"x-api-key: KEY\" http://{LISTEN}/v2/models/{model}",
            file
        ));
        Ok(())
    }
}

/// The gRPC endpoint beside a server's HTTP port: the next port, as Triton and MLServer have it.
fn grpc_endpoint(url: &str) -> String {
    let base = url.trim_end_matches('/');
    let next = base.rsplit_once(':').and_then(|(host, port)| {
        let port: u16 = port.parse().ok()?;
        Some(format!("{host}:{}", port.checked_add(1)?))
    });
    next.unwrap_or_else(|| format!("{base}:8001"))
}

/// The policy's text.
fn policy(client: &str, sha256: &str, endpoint: &str, names: &[String], models: &str) -> String {
    let names: Vec<_> = names.iter().map(|name| plain(name)).collect();
    let (client, endpoint, names) = (plain(client), plain(endpoint), names.join(", "));
    format!(
        "# Written by `tensorgate init`. `tensorgate check` reports what is missing.
version: 1
listen: {{address: {LISTEN}}}
clients:
  {client}: {{api_keys: [{{sha256: \"{sha256}\"}}]}}
backends:
  # The server's gRPC port.
  {BACKEND}: {{kind: open-inference, endpoints: [{endpoint}]}}
grants:
  - name: first
    clients: [{client}]
    models: [{names}]
    operations: [infer, metadata, ready]
    rate: {{quota: 600, window_s: 60}}    # requests of each client
{models}"
    )
}

/// Writes a file that does not exist.
fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .and_then(|mut opened| opened.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => exists(file),
        _ => Failure::Failed(format!("cannot write {}: {error}", file.display())),
    })
}

fn exists(file: &Path) -> Failure {
    Failure::Input(format!(
        "{} exists and is not overwritten: choose another file with -c",
        file.display()
    ))
}
