//! The `explain` verb: what the gate would answer to a request, without a running gate. The
//! filter's own code decides, with fresh rate limits, followed by the host's own code.

mod peer;
mod report;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use tensorgate_cli_common::bounded_file::read_at_most;
use tensorgate_cli_common::clock::present;
use tensorgate_cli_common::state_folder::StateFolder;
use tensorgate_cli_common::ui::Ui;
use tensorgate_cli_common::{Failure, policy_file};
use tensorgate_filter_core::keys::document::MAX_DOCUMENT_BYTES;
use tensorgate_filter_core::report::record::Record;
use tensorgate_in_memory_proxy::{InMemoryProxy, Peer, Request, RequestOutcome, Store, compile};
use tensorgate_judge::request as host;
use tensorgate_judge::request::{Unspent, Verifier};
use tensorgate_policy::denial::Shadowed;
use tensorgate_policy::fault::in_one_line;
use tensorgate_policy::policy::Allowance;
use tensorgate_policy::{Denial, FilterTarget, HeaderMode, Now, Policy, Protocol};
use tensorgate_policy_compiler::raw;
use tensorgate_policy_load::load::{Loaded, load};
use tensorgate_wire::Answer;
use tensorgate_wire::context::Key;

use crate::chain::Chain;
use crate::message::{self, Refused};
use crate::render::envoy::bounds::Bounds;
use crate::similar_name::most_similar;
use crate::stack::envoy::context_key;
use crate::verbs::audit::log_of_policy;
use crate::verbs::story;
use report::{list_reasons, print};

/// Largest message file, bytes.
const MAX_MESSAGE_BYTES: u64 = 256 << 20;
/// Largest key set, bytes: the limit of a gate.
const MAX_KEY_SET_BYTES: u64 = MAX_DOCUMENT_BYTES as u64;
/// Reading of the monotonic clock. Rate limits are fresh, so the value does not matter.
const MONOTONIC_NS: u64 = 1_000_000_000;

/// Show what the gate would answer to a request without running one, or, for a request id, what
/// happened to the request.
#[derive(Args)]
#[command(
    after_help = "A message is raw HTTP/1.1: request line, header fields, an empty line, the body. A gRPC call is spelled the same way: \
POST, its path, content-type: application/grpc, and the framed message as the body. Exits 1 if a request is denied.\n\n\
With a REQUEST_ID the answer comes from the audit log; exits 1 if the log does not contain the request. \
The argument is always a request id: a policy is named with -c.\n\n\
Example: tensorgate explain -c gate.yaml --http request.http\n\
Example: tensorgate explain --all\n\
Example: tensorgate explain 3f4f210a-5359-4f12-a75a-c92ea0dcc6fa --state /var/lib/tensorgate"
)]
pub struct Explain {
    /// Request id, from the response header x-request-id, or at least its first six characters.
    #[arg(value_name = "REQUEST_ID")]
    request_id: Option<String>,
    #[command(flatten)]
    state: StateFolder,
    /// Audit log (default: the one in the state folder).
    #[arg(long, value_name = "FILE", requires = "request_id")]
    audit: Option<PathBuf>,
    /// Policy file; `gate.yaml` in the current folder by default.
    #[arg(short = 'c', long = "config", value_name = "GATE_YAML")]
    config: Option<PathBuf>,
    /// File with a message.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["http_dir", "request_id", "all"])]
    http: Option<PathBuf>,
    /// Folder of messages: one JSON line per file, in order of their names, each with fresh rate
    /// limits.
    #[arg(long, value_name = "DIR", conflicts_with = "http")]
    http_dir: Option<PathBuf>,
    /// List every reason for a rejection in order of precedence, with its status codes.
    #[arg(long, conflicts_with_all = ["request_id", "config", "http", "http_dir"])]
    all: bool,
    /// Filters in order, as for `up`.
    #[arg(long, value_name = "FILTER,…", default_value = "gate")]
    chain: Chain,
    /// Client certificate: a PEM file, or its properties `spiffe://…`, `dns:NAME`, `sha256:HEX`,
    /// which can be combined.
    #[arg(long, value_name = "CERTIFICATE")]
    tls_peer: Vec<String>,
    /// Address of the caller.
    #[arg(long, value_name = "ADDR")]
    source: Option<IpAddr>,
    /// Published key set of an issuer; nothing is fetched.
    #[arg(long, value_name = "ISSUER=FILE", value_parser = key_set)]
    jwks: Vec<(String, PathBuf)>,
    /// Time of the request, Unix seconds (default: now).
    #[arg(long, value_name = "UNIX_S")]
    now: Option<u64>,
}

/// The result for one message.
#[derive(Serialize)]
struct Explained {
    file: String,
    verdict: &'static str,
    reason: Option<&'static str>,
    status: u16,
    grpc_status: Option<u8>,
    client: Option<String>,
    model: Option<String>,
    rule: Option<String>,
    detail: String,
    /// Whether special tokens in texts are escaped, so that the model gets other texts.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    escaped: bool,
    /// Rejections by rules in shadow mode.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shadow: Vec<Shadowed>,
    /// The grant's limits that are shared by gateways. They are evaluated as unused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shared_limits: Vec<String>,
    /// The grant's limits that `render` divides by the number of pods. Here they are undivided.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    divided_limits: Vec<&'static str>,
}

impl Explain {
    /// Explains messages, a request id or all reasons.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        if self.all {
            list_reasons(ui);
            return Ok(());
        }
        if let Some(request_id) = &self.request_id {
            self.only_id(request_id)?;
            return story::print(ui, &self.log()?, request_id);
        }
        let loaded = load(&policy_file::or_default(self.config)?)?;
        let now = Now {
            unix_s: self.now.map_or_else(present, Ok)?,
            monotonic_ns: MONOTONIC_NS,
        };
        let files = match (self.http, &self.http_dir) {
            (Some(file), _) => vec![file],
            (None, Some(folder)) => files_in(folder)?,
            (None, None) => return Err(Failure::Input("name a message with --http".into())),
        };
        let peer = peer::from_arguments(&loaded.version.policy, &self.tls_peer, self.source)?;
        for open in self.chain.leaves_open(&loaded.version.policy) {
            ui.note(&format!("warning: {open}"));
        }
        let key_sets = key_sets(&self.jwks)?;
        let gate = Gate::new(&loaded, self.chain, peer, key_sets)?;
        let mut denied = false;
        for file in files {
            let explained = gate.explain(&file, now)?;
            denied |= explained.verdict == "deny";
            if ui.json || self.http_dir.is_some() {
                ui.json_line(&explained);
            } else {
                print(ui, &explained);
            }
        }
        if denied { Err(Failure::No) } else { Ok(()) }
    }

    /// Other verbs take a policy as this argument. A request id has no extension as a file has.
    fn only_id(&self, request_id: &str) -> Result<(), Failure> {
        let file = Path::new(request_id);
        if file.extension().is_some() && file.is_file() {
            return Err(Failure::Input(format!(
                "{request_id} is a file: name a policy with -c, and a message with --http"
            )));
        }
        if self.http.is_some() || self.http_dir.is_some() {
            return Err(Failure::Input(
                "a request id cannot be used with --http or --http-dir: name a policy with -c"
                    .into(),
            ));
        }
        Ok(())
    }

    /// The audit log to search.
    fn log(&self) -> Result<PathBuf, Failure> {
        match &self.audit {
            Some(log) => Ok(log.clone()),
            None => log_of_policy(self.config.clone(), &self.state),
        }
    }
}

/// Parses `ISSUER=FILE`.
fn key_set(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((issuer, file)) if !issuer.is_empty() && !file.is_empty() => {
            Ok((issuer.to_owned(), file.into()))
        }
        _ => Err("expected ISSUER=FILE, such as corp=corp.jwks.json".into()),
    }
}

/// Reads the key set files.
fn key_sets(files: &[(String, PathBuf)]) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let read = |(issuer, file): &(String, PathBuf)| {
        let name = file.display();
        let bytes = read_at_most(file, MAX_KEY_SET_BYTES)
            .map_err(|error| Failure::Input(format!("cannot read {name}: {error}")))?;
        let bytes = bytes.ok_or_else(|| {
            Failure::Input(format!("{name} is larger than {MAX_KEY_SET_BYTES} bytes"))
        })?;
        Ok((issuer.clone(), bytes))
    };
    files.iter().map(read).collect()
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let cannot = |error: std::io::Error| {
        Failure::Input(format!("cannot read {}: {error}", folder.display()))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The two parts of a gate: the filter chain and the host.
struct Gate<'l> {
    loaded: &'l Loaded,
    configuration: String,
    chain: Chain,
    context_key: String,
    peer: Peer,
    /// Published key sets, by issuer.
    key_sets: Vec<(String, Vec<u8>)>,
    host: Verifier,
}

impl<'l> Gate<'l> {
    fn new(
        loaded: &'l Loaded,
        chain: Chain,
        peer: Peer,
        key_sets: Vec<(String, Vec<u8>)>,
    ) -> Result<Self, Failure> {
        let configuration = compile(&loaded.version, FilterTarget::default())
            .map_err(|faults| Failure::Failed(in_one_line(&faults)))?;
        let context_key = context_key()?;
        let key = Key::from_hex(&context_key)
            .map_err(|fault| Failure::Failed(format!("a generated context key {fault}")))?;
        let host = Verifier::new(
            Arc::new(loaded.version.policy.clone()),
            loaded.version.generation.clone(),
            key,
        );
        Ok(Self {
            loaded,
            configuration,
            chain,
            context_key,
            peer,
            key_sets,
            host,
        })
    }

    fn explain(&self, file: &Path, now: Now) -> Result<Explained, Failure> {
        let bytes = read_at_most(file, MAX_MESSAGE_BYTES)
            .map_err(|error| Failure::Input(format!("cannot read {}: {error}", file.display())))?
            .ok_or_else(|| {
                Failure::Input(format!(
                    "{} is larger than {MAX_MESSAGE_BYTES} bytes",
                    file.display()
                ))
            })?;
        let bounds = Bounds::from_limits(self.loaded.version.policy.listen().limits());
        let file = file.display().to_string();
        let request = match message::read(&bytes, &bounds) {
            Ok(request) => request,
            Err(refused) => return Ok(refused_by_envoy(file, refused)),
        };
        let proxy = InMemoryProxy::configured(
            HeaderMode::Hold,
            self.chain.filters(),
            &self.configuration,
            Some(&self.context_key),
            Store::default(),
        );
        let mut proxy = proxy.map_err(|faults| Failure::Failed(in_one_line(&faults)))?;
        proxy.set_peer(self.peer.clone());
        for (issuer, document) in &self.key_sets {
            proxy
                .publish(issuer, document, now)
                .map_err(|why| Failure::Input(format!("--jwks {issuer}: {why}")))?;
        }
        let (outcome, record) = proxy.send(&request, now);
        let explained = match outcome {
            RequestOutcome::Denied(answer) => denied(file, &answer, record),
            RequestOutcome::Forwarded { headers, body } => {
                let judged = self
                    .host
                    .verify(&headers, body.into(), now.unix_s, &Unspent(now));
                match judged {
                    Ok(judged) => {
                        let escaped = escapes(&judged);
                        let record = with_the_hosts(record, &judged, &self.loaded.version.policy);
                        Explained {
                            escaped,
                            ..allowed(file, &request, record)
                        }
                    }
                    Err(refused) => refused_by_host(file, *refused, record),
                }
            }
        };
        // The host alone finds the grants of what no filter reads.
        let grant = explained.rule.as_deref();
        let shared_limits = self.shared_limits(grant);
        let divided = self.loaded.limits_to_divide().into_iter();
        let divided_limits = divided
            .filter(|(name, _)| Some(*name) == grant)
            .map(|(_, limit)| limit)
            .collect();
        let detail = with_near_name(&explained.detail, &self.loaded.version.raw);
        Ok(Explained {
            shared_limits,
            divided_limits,
            detail,
            ..explained
        })
    }

    /// Public names of a grant's limits that are shared by gateways.
    fn shared_limits(&self, grant: Option<&str>) -> Vec<String> {
        let mut grants = self.loaded.version.policy.grants().iter();
        let grant = grants.find(|known| Some(known.name()) == grant);
        let limits = grant.map(|grant| {
            let limits = grant.per_request().chain(grant.per_content());
            let shared = limits.filter(Allowance::is_global);
            shared
                .map(|limit| limit.public_name(grant.name()))
                .collect()
        });
        limits.unwrap_or_default()
    }
}

/// Adds the most similar model to the detail of an unknown one. The filter does not compare names.
fn with_near_name(detail: &str, policy: &raw::Policy) -> String {
    /// Lowest similarity of a suggestion, from 0 to 1.
    const ALIKE: f64 = 0.85;
    let name = detail.strip_prefix("model \"");
    let name = name.and_then(|rest| rest.strip_suffix("\" is not in the policy"));
    let nearest = name.and_then(|name| most_similar(name, policy.models.keys(), ALIKE));
    match nearest {
        Some(known) => format!("{detail}; did you mean {known:?}?"),
        None => detail.to_owned(),
    }
}

/// Adds what the host finds: shadow results of the rules that the filters leave open, and the model
/// and grant of what no filter reads. A stream has those of its last message.
fn with_the_hosts(record: Record, judged: &host::Allowed, policy: &Policy) -> Record {
    let requests = match judged {
        host::Allowed::Server(..) => return record,
        host::Allowed::Model(request) => std::slice::from_ref(&**request),
        host::Allowed::Stream(requests) => requests,
    };
    let last = requests.last();
    let model = last.and_then(|request| policy.model(request.model));
    let grant = last.and_then(|request| policy.grant(request.grant?));
    let shadowed = requests.iter().flat_map(|request| &request.shadowed);
    Record {
        model: model.map(|model| model.name().into()),
        rule: grant.map(|grant| grant.name().into()),
        shadow: shadowed.map(Shadowed::of).collect(),
        ..record
    }
}

/// Whether the model gets a text without the special tokens that the caller wrote.
fn escapes(judged: &host::Allowed) -> bool {
    match judged {
        host::Allowed::Server(..) | host::Allowed::Stream(_) => false,
        host::Allowed::Model(request) => {
            let document = request.document.as_ref();
            document.is_some_and(|document| document.escaped)
        }
    }
}

/// The result for a request that the filters pass on and the host rejects. The host alone counts
/// contents, and judges messages of streams and the bodies that no filter reads. Where it disagrees
/// about a check that both make, one of them has a bug.
fn refused_by_host(file: String, refused: host::DeniedRequest, record: Record) -> Explained {
    let host::DeniedRequest {
        denial,
        protocol,
        caller: _,
        origin,
        body,
    } = refused;
    let answer = Answer::to_denial(&denial, protocol, "");
    let detail = match origin {
        host::DenialOrigin::Disagreement => {
            let cause = &denial.cause;
            format!("the gate accepts the request, the host rejects it: {cause}")
        }
        _ => denial.cause,
    };
    let shadow = match body.shadowed.as_slice() {
        [] => record.shadow,
        shadowed => shadowed.iter().map(Shadowed::of).collect(),
    };
    denied(
        file,
        &answer,
        Record {
            reason: Some(denial.reason),
            model: body.model.map(Into::into).or(record.model),
            rule: body.grant.map(Into::into).or(record.rule),
            detail,
            shadow,
            ..record
        },
    )
}

/// The result for a request that Envoy itself rejects: the local reply.
fn refused_by_envoy(file: String, refused: Refused) -> Explained {
    let protocol = if refused.grpc {
        Protocol::OipGrpc
    } else {
        Protocol::OipRest
    };
    let answer = Answer::to_denial(&Denial::new(refused.reason, ""), protocol, "");
    denied(
        file,
        &answer,
        Record {
            reason: Some(refused.reason),
            detail: refused.detail,
            ..Record::default()
        },
    )
}

fn denied(file: String, answer: &Answer, record: Record) -> Explained {
    let (status, grpc_status) = match answer {
        Answer::Rest { status, .. } => (*status, None),
        Answer::Grpc { status, .. } => (200, Some(*status as u8)),
    };
    let reason = record.reason.map(|reason| reason.name());
    Explained {
        reason,
        ..explained(file, "deny", (status, grpc_status), record)
    }
}

fn allowed(file: String, request: &Request, record: Record) -> Explained {
    let grpc = request
        .headers
        .iter()
        .any(|(name, value)| name == b"content-type" && value.starts_with(b"application/grpc"));
    explained(file, "allow", (200, grpc.then_some(0)), record)
}

/// A result without a reason.
fn explained(
    file: String,
    verdict: &'static str,
    (status, grpc_status): (u16, Option<u8>),
    record: Record,
) -> Explained {
    let Record {
        reason: _,
        overload: _,
        request_id: _,
        client,
        credential: _,
        model,
        operation: _,
        rule,
        detail,
        shadow,
    } = record;
    Explained {
        file,
        verdict,
        reason: None,
        status,
        grpc_status,
        escaped: false,
        client: client.map(Into::into),
        model: model.map(Into::into),
        rule: rule.map(Into::into),
        detail,
        shadow,
        shared_limits: Vec::new(),
        divided_limits: Vec::new(),
    }
}
