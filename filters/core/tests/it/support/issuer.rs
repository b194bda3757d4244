//! A policy with an issuer whose keys are fetched, tokens of that issuer, and workers that fetch on
//! demand.

use serde_json::{Value, json};
use tensorgate_filter_core::host::{Fields, HttpResponse};
use tensorgate_in_memory_proxy::{InMemoryProxy, Request, Store, Stream};
use tensorgate_policy::{Now, Reason};
use tensorgate_vectors::sign::{Signer, jwks, token};

use super::{CONTEXT_KEY, NOW, bundle, close, deliver, field, rest};

pub const WORKERS: usize = 4;
pub const REFRESH_S: u64 = 300;
pub const STALE_S: u64 = 3_600;
pub const COOL_DOWN_S: u64 = 10;
/// Maximum number of waiting requests of one worker.
pub const ROOM: usize = 64;

/// The policy of these tests, with an issuer whose keys are fetched.
pub fn policy() -> String {
    let mut bundle: Value = serde_json::from_str(&bundle()).unwrap();
    let policy = &mut bundle["policy"];
    policy["issuers"] = json!({"corp": {
        "issuer": "https://login.example.com", "audiences": ["tensorgate"],
        "algorithms": ["EdDSA", "ES256", "RS256"], "max_lifetime_s": 100_000,
        "jwks": {"url": "https://login.example.com:8443/keys?p=1", "refresh_s": REFRESH_S, "stale_s": STALE_S}
    }});
    policy["clients"]["web"] = json!({"jwt": {"issuer": "corp", "subject": "svc-web"}});
    policy["grants"][0]["clients"] = json!(["scorer", "web"]);
    bundle.to_string()
}

pub fn worker(store: &Store) -> InMemoryProxy {
    InMemoryProxy::worker(policy().as_bytes(), CONTEXT_KEY, store.clone())
        .unwrap_or_else(|faults| panic!("{faults:#?}"))
}

pub fn at(seconds: u64) -> Now {
    at_ms(seconds * 1_000)
}

pub fn at_ms(ms: u64) -> Now {
    Now {
        unix_s: NOW.unix_s + ms / 1_000,
        monotonic_ns: NOW.monotonic_ns + ms * 1_000_000,
    }
}

/// The published keys of these names.
pub fn document(kids: &[&str]) -> Vec<u8> {
    let mut set = jwks();
    let keys = set["keys"].as_array_mut().unwrap();
    keys.retain(|key| kids.contains(&key["kid"].as_str().unwrap()));
    set.to_string().into_bytes()
}

pub fn good(document: &[u8]) -> HttpResponse {
    HttpResponse {
        headers: Fields::from_iter([(":status", "200"), ("content-type", "application/json")]),
        body: document.to_vec(),
    }
}

/// An inference with a token of this key.
pub fn by(kid: &str) -> Request {
    signed(kid, key_of(kid).1, true)
}

/// The same with a token that does not name its key.
pub fn unnamed(kid: &str) -> Request {
    unnamed_by(kid, key_of(kid).1)
}

/// The same with the signature of another key.
pub fn unnamed_by(kid: &str, signer: Signer) -> Request {
    signed(kid, signer, false)
}

fn key_of(kid: &str) -> (&'static str, Signer) {
    match kid {
        "rsa" => ("RS256", Signer::Rsa),
        "ec" => ("ES256", Signer::Ec),
        _ => ("EdDSA", Signer::Ed),
    }
}

fn signed(kid: &str, signer: Signer, is_named: bool) -> Request {
    let (algorithm, _) = key_of(kid);
    let claims = json!({
        "iss": "https://login.example.com", "sub": "svc-web", "aud": "tensorgate", "exp": NOW.unix_s + 50_000
    });
    let mut header = json!({"alg": algorithm});
    if is_named {
        header["kid"] = json!(kid);
    }
    let token = token(&header.to_string(), &claims.to_string(), signer).unwrap();
    let mut request = rest("m");
    request.headers.retain(|(name, _)| name != b"x-api-key");
    request
        .headers
        .push(field("authorization", format!("Bearer {token}")));
    request
}

/// A worker that has fetched these keys.
pub fn with_keys(store: &Store, kids: &[&str]) -> InMemoryProxy {
    let mut proxy = worker(store);
    fetch(&mut proxy, at(0), Some(&good(&document(kids))));
    proxy
}

/// Makes a worker fetch, which must be due now.
pub fn fetch(proxy: &mut InMemoryProxy, now: Now, answered: Option<&HttpResponse>) {
    proxy.tick(now);
    let asked = core::mem::take(&mut proxy.world.http_calls);
    assert_eq!(asked.len(), 1, "one fetch is due");
    proxy.answer(asked[0].token, answered, now);
}

pub fn send(proxy: &mut InMemoryProxy, request: &Request, now: Now) -> Stream {
    let mut stream = proxy.open(now);
    deliver(&mut stream, request);
    stream
}

/// Outcome of a request that does not wait.
pub fn outcome(proxy: &mut InMemoryProxy, request: &Request, now: Now) -> Result<(), Reason> {
    let stream = send(proxy, request, now);
    assert!(!stream.waits());
    verdict(stream)
}

pub fn verdict(stream: Stream) -> Result<(), Reason> {
    let played = close(stream);
    match played.reason() {
        Some(reason) => Err(reason),
        None => {
            assert!(played.allowed(), "neither allowed nor refused");
            Ok(())
        }
    }
}
