//! A handler that may fetch, with names whose addresses the test chooses, and the results.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tensorgate_base::egress_log::EgressRecord;
use tensorgate_base::payload::{Payload, Role};
use tensorgate_client::pki::Authority;
use tensorgate_host::egress::Egress;
use tensorgate_net::resolve::{Resolve, Resolving};
use tensorgate_policy_compiler::{raw, validate};
use tensorgate_sandbox::{
    CallContext, HandlerError, HandlerOutput, LoadFault, LoadedHandler, Sandbox, SandboxConfig,
};
use tensorgate_telemetry::metrics::Metrics;

use super::guests;
use super::origin::{Origin, Says};

/// Names and their addresses, one answer after the other; the last one stays.
#[derive(Default)]
pub struct Names(Mutex<Vec<(String, Vec<Vec<IpAddr>>)>>);

impl Names {
    pub fn of(names: &[(&str, &[&[&str]])]) -> Arc<Self> {
        let parsed = names.iter().map(|(name, answers)| {
            let answers = answers.iter().map(|answer| {
                let addresses = answer.iter().map(|address| address.parse().unwrap());
                addresses.collect()
            });
            ((*name).to_owned(), answers.collect())
        });
        Arc::new(Self(Mutex::new(parsed.collect())))
    }

    /// Every name resolves to this machine.
    pub fn local() -> Arc<Self> {
        Self::of(&[
            ("a.example", &[&["127.0.0.1"]]),
            ("b.example", &[&["127.0.0.1"]]),
        ])
    }
}

impl Resolve for Names {
    fn resolve<'r>(&'r self, host: &'r str, _: &'r Arc<str>) -> Resolving<'r> {
        Box::pin(async move {
            let mut names = self.0.lock().unwrap();
            let known = names.iter_mut().find(|(name, _)| name == host);
            let (_, answers) = known.ok_or_else(|| std::io::Error::other("no such name"))?;
            if answers.len() > 1 {
                return Ok(answers.remove(0));
            }
            Ok(answers[0].clone())
        })
    }
}

/// The deadline of a call and of a fetch: the longest that a policy may set. A call that computes
/// for more than 2 ms has low priority, and on a busy machine takes many times its CPU time.
const TIMEOUT_MS: u64 = 60_000;

/// A handler that may fetch, as a policy allows.
pub struct Site {
    pub sandbox: Sandbox,
    folder: PathBuf,
    pub authority: Authority,
}

impl Site {
    pub fn new() -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tg-fetch-{}-{number}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir(&folder).unwrap();
        let authority = Authority::new("test").unwrap();
        std::fs::write(folder.join("ca.pem"), &authority.pem).unwrap();
        let sandbox = Sandbox::new(SandboxConfig {
            threads: 2,
            handlers: 2,
            max_memory_bytes: 64 << 20,
            ..SandboxConfig::default()
        });
        Self {
            sandbox: sandbox.unwrap(),
            folder,
            authority,
        }
    }

    pub fn origin(&self, says: Says) -> Origin {
        let names = ["dns:a.example", "dns:b.example"];
        Origin::start(&self.authority.issue(1, &names).unwrap(), says)
    }

    /// Loads the guest; `over` is merged into a fetch rule for `a.example` at a port.
    pub fn load(
        &self,
        ports: &[u16],
        over: &Value,
        config: &Value,
        names: Arc<Names>,
    ) -> Result<LoadedHandler, LoadFault> {
        let mut fetch = json!({
            "hosts": ["a.example"], "ports": ports, "max_bytes": 1000, "timeout_ms": TIMEOUT_MS, "max_requests": 4,
            "content_types": ["image/png"], "allow_private": ["127.0.0.0/8"], "ca": "ca.pem",
        });
        for (name, value) in over.as_object().unwrap() {
            fetch[name] = value.clone();
        }
        let component = guests::built("hostile_fetch");
        let sha256 = tensorgate_policy::hex(&Sha256::digest(&component));
        let handler = json!({"component": "h.wasm", "sha256": sha256, "fuel": 1_000_000_000_000_u64, "timeout_ms": TIMEOUT_MS, "config": config, "fetch": fetch});
        let raw: raw::Policy =
            serde_json::from_value(json!({"version": 1, "handlers": {"h": handler}})).unwrap();
        let policy = validate::validate(&raw).unwrap().0;
        let rule = &policy.handlers()["h"];
        let loaded = self.sandbox.load("h", rule, Role::Preprocess, &component)?;
        let resolver: Arc<dyn Resolve> = names;
        let reach =
            Egress::from_policy("h", rule, &self.folder, &resolver, &Metrics::new()).unwrap();
        Ok(loaded.with_resolver(reach.unwrap()))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// What the guest reports as fetched, and what the host logs.
pub async fn ask(
    handler: &LoadedHandler,
    urls: &str,
) -> (Result<HandlerOutput, HandlerError>, Vec<EgressRecord>) {
    let behalf = CallContext {
        client: Arc::from("scorer"),
        ..CallContext::default()
    };
    let ledger = behalf.egress_log.clone();
    let body = Payload::Raw {
        content_type: "text/plain".to_owned(),
        data: Bytes::copy_from_slice(urls.as_bytes()),
    };
    let called = handler.with_context(behalf).preprocess("r", body).await;
    (called, ledger.entries())
}

/// The elements of the one tensor.
pub fn came(called: &HandlerOutput) -> Vec<String> {
    let mut data = called.tensors[0].data.as_ref().unwrap().as_ref();
    let mut items = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<4>() {
        let (item, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        items.push(String::from_utf8_lossy(item).into_owned());
        data = rest;
    }
    items
}

pub fn png(body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: image/png\r\nset-cookie: a=b\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}
