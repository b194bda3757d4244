//! Policies for the measured gates, with as many clients and models as a row needs. Every request
//! passes a rate limit that is never reached, so the whole decision is made each time.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tensorgate_identity::api_key::format_key;
use tensorgate_policy::hex;

use crate::models::{CHAT, FLOATS, LARGE, PHOTO, SMALL, STREAMED, THUMB, UNREAD, contract};
use crate::outcome::Outcome;

/// The size and features of a policy.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Number of clients.
    pub clients: usize,
    /// Keys of each client. The first client's keys come first.
    pub keys_each: usize,
    /// Models in addition to the requested ones.
    pub more_models: usize,
    /// Address of the backend.
    pub upstream: SocketAddr,
    /// The handler's component, if the policy includes the model with a handler.
    pub handler: Option<Component>,
    /// Further models, each with a handler that uses the same component.
    pub more_handlers: usize,
    /// Components for the first of those models. Their bytes differ, so each is compiled.
    pub own_components: Vec<Component>,
    /// Entries for `issuers`, and the `jwt` part of the client that uses them.
    pub issuers: Option<(Value, Value)>,
    /// Whether lockouts for wrong credentials are configured.
    pub lockout: bool,
    /// Number of trusted proxies in front of the gate.
    pub trusted_hops: u32,
    /// The limits of the grant for the requested models.
    pub limits: Limits,
    /// Further grants, each of one client and one model (see [`further_grant`]).
    pub more_grants: usize,
    /// A value for `listen.judge`; `judge_bytes` has its default if absent.
    pub judge: Option<&'static str>,
    /// A value for `hold_bytes` other than the default.
    pub hold_bytes: Option<&'static str>,
    /// The host's `buffered_bytes`.
    pub buffered_bytes: &'static str,
    /// Whether the policy includes the model of OpenAI's API.
    pub chat: bool,
    /// Whether the anomaly rules run.
    pub has_watch: bool,
    /// Whether the host also prints every line of the audit log.
    pub has_export: bool,
    /// Whether the output of the model with small requests has class scores.
    pub has_scores: bool,
}

/// The limits of a grant. No limit is ever reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limits {
    /// Nothing.
    None,
    /// A rate limit.
    Rate,
    /// Rate, cost, daily budget and concurrency limits for the client, the grant and the model.
    All,
}

impl Limits {
    /// As members of a grant.
    fn of_grant(self) -> Map<String, Value> {
        // The burst is one second. That is longer than a worker may be descheduled between its
        // reading of the clock and its update of the bucket.
        let rate = json!({"quota": 1_000_000, "window_s": 1, "burst": 1_000_000});
        let mut members = Map::new();
        if self != Self::None {
            members.insert("rate".to_owned(), rate);
        }
        if self == Self::All {
            let plenty = 1_000_000_000_000_u64;
            let cost = json!({"elements": plenty, "window_s": 60});
            members.insert("cost".to_owned(), cost);
            let budget = json!({"elements": plenty, "per": "day"});
            members.insert("budget".to_owned(), budget);
            members.insert("concurrency".to_owned(), json!(100));
        }
        members
    }
}

/// Models of [`Shape::more_models`] that one client has further grants for.
pub const GRANTS_A_CLIENT: usize = 100;

/// The YAML alias by which further models reuse the first one.
const ALIAS: &str = "*more";

/// A policy's text. It is JSON except for the anchor of the first further model and the aliases of
/// the others. The anchor comes first in name order.
pub fn text(policy: &Value) -> String {
    let alias = format!("\"{ALIAS}\"");
    let first = "\"more-0\":{";
    let anchored = first.replace('{', " &more {");
    let json = policy.to_string();
    json.replacen(first, &anchored, 1)
        .replace(&alias, &format!(" {ALIAS}"))
}

/// The client and the model of a further grant, by its number.
pub fn further_grant(number: usize) -> (usize, String) {
    let model = number.checked_rem(GRANTS_A_CLIENT).unwrap_or_default();
    let client = number.checked_div(GRANTS_A_CLIENT).unwrap_or_default();
    (client, format!("more-{model}"))
}

/// A component in the policy's folder.
#[derive(Clone, Debug)]
pub struct Component {
    /// Its file, relative to the policy.
    pub file: String,
    /// Its digest.
    pub sha256: String,
    /// The memory limit of its handlers, as a policy writes it.
    pub memory_bytes: &'static str,
}

impl Component {
    /// Copies a component next to a policy.
    pub fn copy(from: &Path, folder: &Path) -> Outcome<Self> {
        Self::write(&read_component(from)?, folder, "normalise.wasm".to_owned())
    }

    /// Copies a component and appends a custom section with a number. Nothing reads the number, but
    /// the component's digest differs.
    pub fn other(from: &Path, folder: &Path, number: u16) -> Outcome<Self> {
        let mut bytes = read_component(from)?;
        // A custom section of three bytes: the length of its name, which is zero, and the number.
        bytes.extend([0, 3, 0]);
        bytes.extend(number.to_le_bytes());
        Self::write(&bytes, folder, format!("normalise-{number}.wasm"))
    }

    /// Writes a component in Python, which brings the memory of its interpreter.
    pub fn in_python(bytes: &[u8], folder: &Path) -> Outcome<Self> {
        Ok(Self {
            memory_bytes: "256MiB",
            ..Self::write(bytes, folder, "python.wasm".to_owned())?
        })
    }

    fn write(bytes: &[u8], folder: &Path, file: String) -> Outcome<Self> {
        std::fs::write(folder.join(&file), bytes)?;
        Ok(Self {
            file,
            sha256: hex(&Sha256::digest(bytes)),
            memory_bytes: "16MiB",
        })
    }
}

/// Reads a component that `make components` builds.
pub fn read_component(component: &Path) -> Outcome<Vec<u8>> {
    std::fs::read(component)
        .map_err(|error| format!("{}: {error}; run make components", component.display()).into())
}

/// The key with that number. Where each client has one key, it is that client's.
pub fn key(client: usize) -> String {
    let mut random = [0x5a; 20];
    for (to, from) in random.iter_mut().zip(client.to_le_bytes()) {
        *to = from;
    }
    format_key(&random)
}

/// The name of the client that has a token instead of a key.
pub const TOKEN_CLIENT: &str = "token";

impl Shape {
    /// Ten clients and the requested models.
    pub fn plain(upstream: SocketAddr) -> Self {
        Self {
            clients: 10,
            keys_each: 1,
            more_models: 0,
            upstream,
            handler: None,
            more_handlers: 0,
            own_components: Vec::new(),
            issuers: None,
            lockout: false,
            trusted_hops: 0,
            limits: Limits::Rate,
            more_grants: 0,
            judge: None,
            hold_bytes: None,
            buffered_bytes: "2GiB",
            chat: false,
            has_watch: true,
            has_export: false,
            has_scores: false,
        }
    }

    /// The policy as JSON, which is valid YAML. The first further model is written out, and the
    /// others use an alias, as [`text`] expects.
    pub fn to_json(&self) -> Value {
        let mut clients: Map<String, Value> = (0..self.clients)
            .map(|number| {
                let first = number.saturating_mul(self.keys_each);
                let keys: Vec<Value> = (first..first.saturating_add(self.keys_each))
                    .map(|number| {
                        let digest = hex(&Sha256::digest(key(number).as_bytes()));
                        json!({"sha256": digest})
                    })
                    .collect();
                (format!("client-{number}"), json!({"api_keys": keys}))
            })
            .collect();
        let mut models: Map<String, Value> = [SMALL, LARGE, FLOATS, UNREAD, STREAMED]
            .iter()
            .map(|name| ((*name).to_owned(), contract(name)))
            .collect();
        if self.limits == Limits::All
            && let Some(small) = models.get_mut(SMALL)
        {
            insert(small, "limits", json!({"concurrency": 100}));
        }
        let output = models.get_mut(SMALL);
        let output = output.and_then(|small| small.pointer_mut("/outputs/0"));
        if let Some(output) = output.filter(|_| self.has_scores) {
            insert(output, "role", json!("class-scores"));
        }
        for number in 0..self.more_models {
            let model = match number {
                0 => contract(SMALL),
                _ => json!(ALIAS),
            };
            models.insert(format!("more-{number}"), model);
        }
        let mut limits = json!({
            "body_bytes": "300MiB", "buffered_bytes": self.buffered_bytes, "timeout_ms": 60_000, "stream_ms": 120_000,
            "connections": 1024, "streams_per_connection": 128,
        });
        if let Some(bytes) = self.hold_bytes {
            insert(&mut limits, "hold_bytes", json!(bytes));
        }
        let mut listen = json!({
            "address": "127.0.0.1:0", "trusted_hops": self.trusted_hops, "limits": limits,
        });
        if let Some(judge) = self.judge {
            insert(&mut listen, "judge", json!(judge));
        }
        let mut policy = json!({
            "version": 1,
            "listen": listen,
            "backends": {"upstream": {
                "kind": "open-inference", "endpoints": [format!("http://{}", self.upstream)],
                "max_in_flight": 256, "queue": 256, "timeout_ms": 30_000,
            }},
        });
        if self.chat {
            models.insert(CHAT.to_owned(), contract(CHAT));
            let backend = json!({
                "kind": "openai", "endpoints": [format!("http://{}", self.upstream)],
                "max_in_flight": 256, "queue": 256, "timeout_ms": 30_000,
            });
            if let Some(backends) = policy.get_mut("backends") {
                insert(backends, CHAT, backend);
            }
        }
        if let Some(component) = &self.handler {
            models.insert(PHOTO.to_owned(), contract(PHOTO));
            models.insert(THUMB.to_owned(), contract(THUMB));
            let rule = json!({
                "component": component.file, "sha256": component.sha256,
                "fuel": 50_000_000, "memory_bytes": component.memory_bytes, "timeout_ms": 2_000,
            });
            let mut handlers = Map::new();
            handlers.insert("normalise".to_owned(), rule.clone());
            for number in 0..self.more_handlers {
                let name = format!("normalise-{number}");
                let mut model = contract(PHOTO);
                insert(&mut model, "preprocess", json!(name));
                models.insert(format!("photo-{number}"), model);
                let mut rule = rule.clone();
                if let Some(own) = self.own_components.get(number) {
                    insert(&mut rule, "component", json!(own.file));
                    insert(&mut rule, "sha256", json!(own.sha256));
                }
                handlers.insert(name, rule);
            }
            insert(&mut policy, "handlers", Value::Object(handlers));
        }
        if let Some((issuers, jwt)) = &self.issuers {
            insert(&mut policy, "issuers", issuers.clone());
            clients.insert(TOKEN_CLIENT.to_owned(), json!({"jwt": jwt}));
        }
        if !self.has_watch {
            insert(&mut policy, "watch", json!({"enabled": false}));
        }
        if self.has_export {
            insert(&mut policy, "audit", json!({"export": {"stdout": true}}));
        }
        if self.lockout {
            insert(&mut policy, "lockout", json!({}));
        }
        insert(
            &mut policy,
            "groups",
            json!({"all": clients.keys().collect::<Vec<_>>()}),
        );
        insert(&mut policy, "grants", self.grants(models.keys()));
        insert(&mut policy, "clients", Value::Object(clients));
        insert(&mut policy, "models", Value::Object(models));
        policy
    }

    /// Grants for every client and every model. Further models that have grants of their own are
    /// excluded.
    fn grants<'a>(&self, models: impl Iterator<Item = &'a String>) -> Value {
        let shared: Vec<&String> = models
            .filter(|model| self.more_grants == 0 || !model.starts_with("more-"))
            .collect();
        let mut all = json!({
            "name": "bench", "clients": ["group:all"], "models": shared, "operations": ["infer"],
        });
        for (name, value) in self.limits.of_grant() {
            insert(&mut all, &name, value);
        }
        // Without a rate: 100,000 grants with a rate would exceed the limit on nodes of a document.
        let further = (0..self.more_grants).map(|number| {
            let (client, model) = further_grant(number);
            json!({
                "name": format!("g{number}"), "clients": [format!("client-{client}")], "models": [model],
                "operations": ["infer"],
            })
        });
        std::iter::once(all).chain(further).collect()
    }
}

/// Sets a member of a mapping of a policy.
pub fn insert(policy: &mut Value, key: &str, value: Value) {
    if let Some(map) = policy.as_object_mut() {
        map.insert(key.to_owned(), value);
    }
}
