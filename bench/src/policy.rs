//! Policies for the gates that are measured: as many clients and models as a row asks for, every request allowed by a rate that is
//! never reached, so that the whole decision is made each time.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tensorgate_identity::api_key::format_key;
use tensorgate_policy::hex;

use crate::models::{FLOATS, LARGE, PHOTO, SMALL, STREAMED, UNREAD, contract};
use crate::outcome::Outcome;

/// What a policy has beside the rules.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Clients with one key each.
    pub clients: usize,
    /// Models beside those that are asked for.
    pub more_models: usize,
    /// Where the backend listens.
    pub upstream: SocketAddr,
    /// The handler's component, if the policy has the model with one.
    pub handler: Option<Component>,
    /// More models with a handler of their own each, the same component.
    pub more_handlers: usize,
    /// Entries for `issuers`, and the `jwt` part of the client that has one.
    pub issuers: Option<(Value, Value)>,
    /// Whether wrong credentials are bounded.
    pub lockout: bool,
}

/// A component in the folder of the policy.
#[derive(Clone, Debug)]
pub struct Component {
    /// Its file, relative to the policy.
    pub file: String,
    /// Its digest.
    pub sha256: String,
}

impl Component {
    /// Copies a component next to a policy.
    pub fn copy(from: &Path, folder: &Path) -> Outcome<Self> {
        let bytes = std::fs::read(from)
            .map_err(|error| format!("{}: {error}; run make components", from.display()))?;
        let file = "normalise.wasm".to_owned();
        std::fs::write(folder.join(&file), &bytes)?;
        Ok(Self {
            file,
            sha256: hex(&Sha256::digest(&bytes)),
        })
    }
}

/// The key of the client with that number.
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
    /// Ten clients, the models that are asked for.
    pub fn plain(upstream: SocketAddr) -> Self {
        Self {
            clients: 10,
            more_models: 0,
            upstream,
            handler: None,
            more_handlers: 0,
            issuers: None,
            lockout: false,
        }
    }

    /// The policy as JSON, which is YAML.
    pub fn to_json(&self) -> Value {
        let mut clients: Map<String, Value> = (0..self.clients)
            .map(|number| {
                let digest = hex(&Sha256::digest(key(number).as_bytes()));
                (
                    format!("client-{number}"),
                    json!({"api_keys": [{"sha256": digest}]}),
                )
            })
            .collect();
        let mut models: Map<String, Value> = [SMALL, LARGE, FLOATS, UNREAD, STREAMED]
            .iter()
            .map(|name| ((*name).to_owned(), contract(name)))
            .collect();
        for number in 0..self.more_models {
            models.insert(format!("more-{number}"), contract(SMALL));
        }
        let mut policy = json!({
            "version": 1,
            "listen": {
                "address": "127.0.0.1:0",
                "limits": {
                    "body_bytes": "300MiB", "buffered_bytes": "2GiB", "timeout_ms": 60_000, "stream_ms": 120_000,
                    "connections": 1024, "streams_per_connection": 128,
                },
            },
            "backends": {"upstream": {
                "kind": "open-inference", "endpoints": [format!("http://{}", self.upstream)],
                "max_in_flight": 256, "queue": 256, "timeout_ms": 30_000,
            }},
        });
        if let Some(component) = &self.handler {
            models.insert(PHOTO.to_owned(), contract(PHOTO));
            let rule = json!({
                "component": component.file, "sha256": component.sha256,
                "fuel": 50_000_000, "memory_bytes": "16MiB", "timeout_ms": 2_000,
            });
            let mut handlers = Map::new();
            handlers.insert("normalise".to_owned(), rule.clone());
            for number in 0..self.more_handlers {
                let name = format!("normalise-{number}");
                let mut model = contract(PHOTO);
                insert(&mut model, "preprocess", json!(name));
                models.insert(format!("photo-{number}"), model);
                handlers.insert(name, rule.clone());
            }
            insert(&mut policy, "handlers", Value::Object(handlers));
        }
        if let Some((issuers, jwt)) = &self.issuers {
            insert(&mut policy, "issuers", issuers.clone());
            clients.insert(TOKEN_CLIENT.to_owned(), json!({"jwt": jwt}));
        }
        if self.lockout {
            insert(&mut policy, "lockout", json!({}));
        }
        let names: Vec<&String> = clients.keys().collect();
        let everything: Vec<&String> = models.keys().collect();
        insert(&mut policy, "groups", json!({"all": names}));
        insert(
            &mut policy,
            "grants",
            json!([{
                "name": "bench", "clients": ["group:all"], "models": everything, "operations": ["infer"],
                // Never reached: the burst is a second, longer than a worker may be kept from its core between its look at the clock and the bucket.
                "rate": {"quota": 1_000_000, "window_s": 1, "burst": 1_000_000},
            }]),
        );
        insert(&mut policy, "clients", Value::Object(clients));
        insert(&mut policy, "models", Value::Object(models));
        policy
    }
}

fn insert(policy: &mut Value, key: &str, value: Value) {
    if let Some(map) = policy.as_object_mut() {
        map.insert(key.to_owned(), value);
    }
}
