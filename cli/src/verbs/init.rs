//! The `init` verb: writes a first policy, a first key, and an empty list of revoked keys.
//!
//! The policy has the contracts of all models of a server. Bounds that the server does not report
//! stay faults, as `import` leaves them, and are listed. The last lines are a first request to each
//! model.

mod requests;
mod texts;
mod tokenizer;

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::load_error::LoadError;
use tensorgate_cli_common::policy_file::DEFAULT;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_policy::Severity;
use tensorgate_policy_load::load::load;
use tensorgate_policy_text::Located;

use super::import::{Described, Kind, Served, TextModel, plain, section, served};
use super::keys;
use tokenizer::ModelTokens;

/// The policy's listen address.
const LISTEN: &str = "127.0.0.1:8080";
/// Name of the backend of tensors.
const BACKEND: &str = "gpu";
/// Endpoint of a policy that is written without a server.
const ENDPOINT: &str = "http://127.0.0.1:8001";
/// The list of revoked keys, beside the policy.
const REVOKED_KEYS: &str = "revoked-keys.txt";
/// Maximum number of models whose first request is shown.
const MAX_SHOWN_REQUESTS: usize = 16;
/// Content of a list without entries.
const NO_KEYS: &str =
    "# SHA-256 digests of revoked API keys. `tensorgate keys revoke` adds them.\n";
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
    after_help = "The server must list its models (Triton, MLServer and servers of OpenAI's API do) unless --model names them. Without a URL, the policy has an example model to replace. An existing file is never overwritten. An empty list of revoked keys is written beside the policy, for `tensorgate keys revoke`.\n\nThe key is printed once on standard output, and the next steps on standard error. Each bound that the server does not report is a fault of the policy, and is listed. All answers together may take two minutes, and each must name the model that was asked for.\n\nExample: tensorgate init http://127.0.0.1:8000\nExample: tensorgate init --model digits http://127.0.0.1:8080 > app.key"
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
    /// Tokenizer of the model: `tokenizer.json` or `tokenizer_config.json` of Hugging Face, or
    /// their folder. Only its special tokens are looked for in texts, not those of all common
    /// models. For one model of OpenAI's API.
    #[arg(long, value_name = "FILE", requires = "url")]
    tokenizer: Option<PathBuf>,
    /// Name of the first client.
    #[arg(long, value_name = "NAME", default_value = "app")]
    client: String,
    /// Policy file to write.
    #[arg(short, long, value_name = "GATE_YAML", default_value = DEFAULT)]
    config: PathBuf,
}

/// The models of the policy.
struct Models {
    /// The value of `listen`.
    listen: String,
    /// The line of `backends`, with its comment.
    backend: String,
    /// Operations of the grant.
    operations: &'static str,
    /// The names of all.
    names: Vec<String>,
    /// Those of decoupled models, which serve streams alone.
    decoupled: Vec<String>,
    /// The section `models`.
    yaml: String,
    /// A first request to each, as a command.
    requests: Vec<String>,
    /// What the reader should know.
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Written<'a> {
    policy: String,
    revoked_keys: String,
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
        let models = match &self.url {
            None => Models::example(),
            Some(url) => {
                let base = url.trim_end_matches('/');
                let base = base.strip_suffix("/v1").unwrap_or(base);
                match served(self.from, base, &self.model, self.ca.as_deref())? {
                    Served::Tensors(_) if self.tokenizer.is_some() => {
                        return Err(one_text_model(base));
                    }
                    Served::Tensors(described) => Models::of_tensors(base, &described),
                    Served::Texts(listed) => {
                        Models::of_texts(base, &listed, self.tokenizer.as_deref())?
                    }
                }
            }
        };
        let (key, sha256) = keys::generate()?;
        let text = policy(&self.client, &sha256, &models);
        let list = self.config.with_file_name(REVOKED_KEYS);
        let faults = self.write_files(&text, &list)?;
        let errors = faults.iter();
        let errors: Vec<_> = errors
            .filter(|fault| fault.severity == Severity::Error)
            .collect();
        let file = printable(&self.config.display().to_string());
        if ui.json {
            ui.json_line(&Written {
                policy: self.config.display().to_string(),
                revoked_keys: list.display().to_string(),
                client: &self.client,
                key: &key,
                sha256: &sha256,
                models: &models.names,
                fill_in: errors.iter().map(|fault| fault.span.line).collect(),
            });
            return Ok(());
        }
        ui.line(&key);
        ui.note(&format!(
            "wrote {file}, with {} for revoked keys; above is the key of client {} (shown only now)",
            printable(&list.display().to_string()),
            self.client
        ));
        for note in &models.notes {
            ui.note(note);
        }
        for name in &models.decoupled {
            ui.note(&format!(
                "model {} is decoupled, and is served over streams of gRPC: adjust its limits in `decoupled`",
                printable(name)
            ));
        }
        if !errors.is_empty() {
            ui.note("complete what the server does not report:");
        }
        for fault in &errors {
            let (line, path) = (fault.span.line, printable(&fault.path));
            let message = printable(&fault.message);
            ui.note(&format!("  {file}:{line}: {path}: {message}"));
        }
        let mut next = String::from("next:");
        if !faults.is_empty() {
            next.push_str(&format!("\n  tensorgate check {file}"));
        }
        next.push_str(&format!("\n  tensorgate up {file}"));
        if !models.requests.is_empty() {
            next.push_str("\nthen, in another terminal, a first request to each model:");
            next.push_str("\n  KEY=    # the key above");
        }
        for request in models.requests.iter().take(MAX_SHOWN_REQUESTS) {
            next.push_str(&format!("\n  {request}"));
        }
        ui.note(&next);
        Ok(())
    }

    /// Writes the policy, and a list of revoked keys if there is none. Returns what `check` would
    /// report.
    fn write_files(&self, text: &str, list: &Path) -> Result<Vec<Located>, Failure> {
        write(&self.config, text)?;
        let written = match write(list, NO_KEYS) {
            // Its entries are in force from now on.
            Err(_) if list.exists() => Ok(()),
            written => written,
        };
        let faults = written.and_then(|()| match load(&self.config) {
            Ok(loaded) => Ok(loaded.warnings),
            Err(LoadError::Faults(_, faults)) => Ok(faults),
            Err(error) => Err(error.into()),
        });
        if faults.is_err() {
            // The key of this file was not shown.
            let _ = std::fs::remove_file(&self.config);
        }
        faults
    }
}

impl Models {
    /// A model to replace.
    fn example() -> Self {
        let about = format!("replace model {EXAMPLE_NAME} and `endpoints` by those of your server");
        Self {
            listen: format!("{{address: {LISTEN}}}"),
            backend: tensor_backend(ENDPOINT),
            operations: TENSOR_OPERATIONS,
            names: vec![EXAMPLE_NAME.to_owned()],
            decoupled: Vec::new(),
            yaml: EXAMPLE.to_owned(),
            requests: vec![requests::of_example(EXAMPLE_NAME)],
            notes: vec![about],
        }
    }

    /// The models of a server of tensors.
    fn of_tensors(url: &str, served: &[Described]) -> Self {
        let (yaml, _) = section(served, BACKEND);
        let endpoint = grpc_endpoint(url);
        let about = format!(
            "the gate will call the server's gRPC port, {endpoint}: change `endpoints` if it is another one"
        );
        let name = |model: &Described| model.name.clone();
        let decoupled = served.iter().filter(|model| model.decoupled);
        Self {
            listen: format!("{{address: {LISTEN}}}"),
            backend: tensor_backend(&endpoint),
            operations: TENSOR_OPERATIONS,
            names: served.iter().map(name).collect(),
            decoupled: decoupled.map(name).collect(),
            yaml: yaml.join("\n") + "\n",
            requests: served.iter().filter_map(requests::of_tensors).collect(),
            notes: vec![about],
        }
    }

    /// The models of a server with OpenAI's API.
    fn of_texts(
        url: &str,
        listed: &[TextModel],
        tokenizer: Option<&Path>,
    ) -> Result<Self, Failure> {
        let (models, mut notes) = texts::named(listed);
        if models.is_empty() {
            let why = notes.join("\n");
            return Err(Failure::Input(format!("{url}: no model is left\n{why}")));
        }
        let mut tokens = Vec::new();
        if let Some(file) = tokenizer {
            if models.len() != 1 {
                return Err(one_text_model(url));
            }
            let own = ModelTokens::read(file)?;
            tokens = own.tokens;
            notes.extend(own.notes);
        }
        notes.push(format!("the gate will call OpenAI's API at {url}"));
        let (name, endpoint) = (texts::BACKEND, plain(url));
        Ok(Self {
            // A whole answer may take a minute, a streamed one two.
            listen: format!(
                "{{address: {LISTEN}, limits: {{timeout_ms: 61000, stream_ms: 120000}}}}"
            ),
            backend: format!(
                "  {name}: {{kind: openai, endpoints: [{endpoint}], timeout_ms: 60000}}"
            ),
            operations: "infer, stream, metadata",
            names: models.iter().map(|model| model.name.clone()).collect(),
            decoupled: Vec::new(),
            yaml: texts::section(&models, &tokens),
            requests: models.iter().map(requests::of_texts).collect(),
            notes,
        })
    }

    /// The models that have routes in REST.
    fn in_rest(&self) -> impl Iterator<Item = &str> {
        let names = self.names.iter();
        names
            .filter(move |name| !self.decoupled.contains(name))
            .map(String::as_str)
    }
}

/// A tokenizer belongs to one model.
fn one_text_model(url: &str) -> Failure {
    Failure::Input(format!(
        "{url}: --tokenizer is for one model of OpenAI's API: name it with --model"
    ))
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

/// Operations of models that take tensors.
const TENSOR_OPERATIONS: &str = "infer, metadata, ready";

/// The backend of models that take tensors.
fn tensor_backend(endpoint: &str) -> String {
    let endpoint = plain(endpoint);
    format!(
        "  # The server's gRPC port.\n  {BACKEND}: {{kind: open-inference, endpoints: [{endpoint}]}}"
    )
}

/// The policy's text. A decoupled model takes streams and nothing else, so it has its own grant.
fn policy(client: &str, sha256: &str, models: &Models) -> String {
    let client = plain(client);
    let in_rest: Vec<_> = models.in_rest().map(plain).collect();
    let decoupled: Vec<_> = models.decoupled.iter().map(|name| plain(name)).collect();
    let grants = grant("first", &client, &in_rest, models.operations)
        + &grant("streams", &client, &decoupled, "stream, metadata, ready");
    let Models {
        listen,
        backend,
        yaml,
        ..
    } = models;
    format!(
        "# Written by `tensorgate init`. `tensorgate check` reports what is missing.
version: 1
listen: {listen}
clients:
  {client}: {{api_keys: [{{sha256: \"{sha256}\"}}]}}
# `tensorgate keys revoke` adds to this list.
revoked: {{keys_file: {REVOKED_KEYS}}}
backends:
{backend}
grants:
{grants}{yaml}"
    )
}

/// An entry of `grants`; nothing without models.
fn grant(name: &str, client: &str, models: &[String], operations: &str) -> String {
    if models.is_empty() {
        return String::new();
    }
    let models = models.join(", ");
    format!(
        "  - name: {name}
    clients: [{client}]
    models: [{models}]
    operations: [{operations}]
    rate: {{quota: 600, window_s: 60}}    # requests of each client
"
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
