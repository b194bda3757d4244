//! Features that a handler looks up, from real servers over TLS: what is sent, what arrives, and
//! what is rejected.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tensorgate_base::egress_log::EgressRecord;
use tensorgate_base::payload::{Payload, Role};
use tensorgate_client::pki::Authority;
use tensorgate_host::egress::Egress;
use tensorgate_net::resolve::{Resolve, Resolving};
use tensorgate_policy_compiler::{raw, validate};
use tensorgate_sandbox::{
    CallContext, FaultCause, HandlerError, HandlerOutput, LoadFault, Sandbox, SandboxConfig,
};
use tensorgate_telemetry::metrics::Metrics;

use crate::support::guests;
use crate::support::origin;
use origin::{Origin, Says};

/// Every name resolves to this machine, or to the address that a test gives.
struct Here(&'static str);

impl Resolve for Here {
    fn resolve<'r>(&'r self, _: &'r str, _: &'r Arc<str>) -> Resolving<'r> {
        Box::pin(std::future::ready(Ok(vec![self.0.parse().unwrap()])))
    }
}

struct Site {
    sandbox: Sandbox,
    folder: PathBuf,
    authority: Authority,
}

impl Site {
    fn new() -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tg-look-{}-{number}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir(&folder).unwrap();
        let authority = Authority::new("test").unwrap();
        std::fs::write(folder.join("ca.pem"), &authority.pem).unwrap();
        let token = folder.join("token");
        std::fs::write(&token, "s3cret\n").unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
        let sandbox = Sandbox::new(SandboxConfig {
            threads: 1,
            handlers: 1,
            max_memory_bytes: 64 << 20,
            ..SandboxConfig::default()
        });
        Self {
            sandbox: sandbox.unwrap(),
            folder,
            authority,
        }
    }

    fn origin(&self, answers: &[(&str, &str)]) -> Origin {
        let leaf = self.authority.issue(1, &["dns:features.example"]).unwrap();
        Origin::start(&leaf, Says::new(answers))
    }

    /// One call of the guest with a configuration. `over` is merged into the usual lookup.
    async fn call(
        &self,
        port: u16,
        over: &Value,
        config: &Value,
        address: &'static str,
    ) -> (Result<HandlerOutput, HandlerError>, Vec<EgressRecord>) {
        let mut lookup = json!({
            "kind": "feast", "endpoint": format!("https://features.example:{port}"), "entity": "customer",
            "features": ["stats:age", "stats:balance"], "timeout_ms": 5000, "allow_private": ["127.0.0.0/8"],
            "tls": {"ca": "ca.pem"}, "bearer_file": "token",
        });
        for (name, value) in over.as_object().unwrap() {
            if value.is_null() {
                lookup.as_object_mut().unwrap().remove(name);
            } else {
                lookup[name] = value.clone();
            }
        }
        let component = guests::built("hostile_lookup");
        let sha256 = tensorgate_policy::hex(&Sha256::digest(&component));
        let raw: raw::Policy = serde_json::from_value(json!({
            "version": 1, "lookups": {"customers": lookup},
            "handlers": {"h": {"component": "h.wasm", "sha256": sha256, "timeout_ms": 5000, "config": config, "lookups": ["customers"]}},
        }))
        .unwrap();
        let policy = validate::validate(&raw)
            .unwrap_or_else(|faults| panic!("{faults:?}"))
            .0;
        let rule = &policy.handlers()["h"];
        let loaded = self
            .sandbox
            .load("h", rule, Role::Preprocess, &component)
            .unwrap();
        let resolver: Arc<dyn Resolve> = Arc::new(Here(address));
        let reach = Egress::from_policy("h", rule, &self.folder, &resolver, &Metrics::new())
            .unwrap()
            .unwrap();
        let behalf = CallContext::default();
        let ledger = behalf.egress_log.clone();
        let handler = loaded.with_resolver(reach).with_context(behalf);
        let called = handler.preprocess("r", Payload::Tensors(Vec::new())).await;
        (called, ledger.entries())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn ok(body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

fn numbers(called: &HandlerOutput) -> Vec<Option<f64>> {
    let data = called.tensors[0].data.as_ref().unwrap();
    let numbers = data
        .chunks_exact(8)
        .map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap()));
    numbers
        .map(|number| (!number.is_nan()).then_some(number))
        .collect()
}

const FEAST: &str = r#"{"metadata": {"feature_names": ["customer", "stats__balance", "stats__age"]}, "results": [
    {"values": ["a", "b"]}, {"values": [10.5, null]}, {"values": [41, 7]}]}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feast_gets_the_hosts_credential_and_results_are_in_request_order() {
    let site = Site::new();
    let origin = site.origin(&[("/get-online-features", &ok(FEAST))]);
    let port = origin.address.port();
    let config =
        json!({"lookup": "customers", "features": "stats:age\nstats:balance", "keys": "a\nb"});
    let (called, told) = site.call(port, &json!({}), &config, "127.0.0.1").await;
    let called = called.unwrap();
    assert_eq!(numbers(&called), [Some(41.0), Some(7.0), Some(10.5), None]);
    let asked = origin.asked().remove(0);
    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
    for line in [
        "POST /get-online-features HTTP/1.1".to_owned(),
        format!("host: features.example:{port}"),
        "authorization: Bearer s3cret".to_owned(),
        "content-type: application/json".to_owned(),
    ] {
        assert!(head.lines().any(|found| found == line), "{line}: {head}");
    }
    let body: Value = serde_json::from_str(body).unwrap();
    let expected = json!({"features": ["stats:age", "stats:balance"], "entities": {"customer": ["a", "b"]}, "full_feature_names": true});
    assert_eq!(body, expected);
    assert_eq!(
        (
            told.len(),
            told[0].lookup.as_str(),
            told[0].outcome.as_str()
        ),
        (1, "customers", "ok")
    );
    assert_eq!(
        (told[0].host.as_str(), told[0].status),
        ("features.example", Some(200))
    );
    assert!(!format!("{told:?}").contains("s3cret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_key_is_sent_in_the_path_and_answered_with_an_object() {
    let site = Site::new();
    let origin = site.origin(&[(
        "/v1/customers/42/features?of=model",
        &ok(r#"{"age": 5, "other": "text"}"#),
    )]);
    let port = origin.address.port();
    let over = json!({"kind": "rest", "entity": null, "key": "int", "path": "/v1/customers/{key}/features?of=model", "features": ["age", "other", "balance"]});
    for (features, keys, expected) in [
        ("age\nbalance", "42", Ok(vec![Some(5.0), None])),
        ("other", "42", Err("wrong-type")),
        ("age", "42/../7", Err("refused")),
        ("age", "042", Err("refused")),
        ("age", "42\n43", Err("refused")),
        ("age", "", Err("refused")),
        ("secret", "42", Err("refused")),
        ("", "42", Err("refused")),
        ("age", "43", Err("unavailable")),
    ] {
        let config = json!({"lookup": "customers", "features": features, "keys": keys});
        let (called, told) = site.call(port, &over, &config, "127.0.0.1").await;
        let found = match &called {
            Ok(called) => Ok(numbers(called)),
            Err(HandlerError::Rejected { text, .. }) => Err(text.as_str()),
            Err(other) => panic!("{keys:?}: {other}"),
        };
        assert_eq!(found, expected, "{features:?} {keys:?} {told:?}");
    }
    let asked = origin.asked();
    assert!(
        asked
            .iter()
            .all(|head| head.starts_with("GET /v1/customers/4")),
        "{asked:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_answers_and_private_addresses_of_a_lookup_are_errors() {
    let site = Site::new();
    let config = json!({"lookup": "customers", "features": "stats:age", "keys": "a"});
    let good = r#"{"metadata": {"feature_names": ["stats__age"]}, "results": [{"values": [1]}]}"#;
    let html = good.len();
    for (answer, over, address, expected) in [
        (ok(good), json!({}), "127.0.0.1", None),
        (ok(good), json!({"allow_private": null}), "127.0.0.1", Some("refused")),
        (ok(good), json!({}), "169.254.169.254", Some("refused")),
        (ok(good), json!({}), "::ffff:127.0.0.1", Some("refused")),
        (ok(good), json!({"max_bytes": 20}), "127.0.0.1", Some("too-large")),
        (ok(good), json!({"endpoint": "https://other.example:PORT"}), "127.0.0.1", Some("unavailable")),
        (ok(r#"{"metadata": {"feature_names": ["stats__age"]}, "results": [{"values": [1, 2]}]}"#), json!({}), "127.0.0.1", Some("wrong-type")),
        (ok(r#"{"metadata": {}, "metadata": {}}"#), json!({}), "127.0.0.1", Some("wrong-type")),
        (ok(&"[".repeat(1000)), json!({}), "127.0.0.1", Some("wrong-type")),
        (ok("{}{}"), json!({}), "127.0.0.1", Some("wrong-type")),
        (format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {html}\r\n\r\n{good}"), json!({}), "127.0.0.1", Some("wrong-type")),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(), json!({}), "127.0.0.1", Some("not-found")),
        ("HTTP/1.1 302 Found\r\nlocation: https://features.example/\r\ncontent-length: 0\r\n\r\n".to_owned(), json!({}), "127.0.0.1", Some("unavailable")),
    ] {
        let origin = site.origin(&[("/get-online-features", &answer)]);
        let port = origin.address.port();
        let over = over.to_string().replace("PORT", &port.to_string());
        let over = serde_json::from_str(&over).unwrap();
        let (called, told) = site.call(port, &over, &config, address).await;
        let found = match &called {
            Ok(_) => None,
            Err(HandlerError::Rejected { text, .. }) => Some(text.as_str()),
            Err(other) => panic!("{answer}: {other}"),
        };
        assert_eq!(found, expected, "{over} {address} {answer}");
        assert_eq!(told[0].outcome, expected.unwrap_or("ok"), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lookups_are_limited_to_the_policys_names_and_number() {
    let site = Site::new();
    let origin = site.origin(&[(
        "/get-online-features",
        &ok(r#"{"metadata": {"feature_names": ["stats__age"]}, "results": [{"values": [1]}]}"#),
    )]);
    let port = origin.address.port();
    for (config, fits) in [
        (json!({"times": "4"}), true),
        (json!({"times": "5"}), false),
        (json!({"lookup": "others"}), false),
        (json!({"long": "257"}), false),
        (json!({"keys": "a\n".repeat(257)}), false),
    ] {
        let mut all = json!({"lookup": "customers", "features": "stats:age", "keys": "a"});
        for (name, value) in config.as_object().unwrap() {
            all[name] = value.clone();
        }
        let (called, told) = site.call(port, &json!({}), &all, "127.0.0.1").await;
        assert!(told.len() <= 4, "{config}");
        match called {
            Ok(_) => assert!(fits, "{config}"),
            Err(HandlerError::Fault { cause, .. }) => {
                assert!(
                    !fits && cause == FaultCause::Capabilities,
                    "{config}: {cause}"
                );
            }
            Err(other) => panic!("{config}: {other}"),
        }
    }
    let component = guests::built("hostile_lookup");
    let policy = guests::policy(&Sha256::digest(&component), guests::BUDGET, &[]);
    let fault = (site.sandbox)
        .load("h", &policy.handlers()["h"], Role::Preprocess, &component)
        .map(|_| ())
        .unwrap_err();
    assert!(
        matches!(
            fault,
            LoadFault::Ungranted {
                grant: "lookups",
                ..
            }
        ),
        "{fault}"
    );
}
