//! A whole host: a request whose handler fetches, and its audit record.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tensorgate_client::pki::Authority;

use super::origin::{Origin, Says};
use super::support::{
    self, INFER,
    backend::{Act, Backend},
};
use super::{guests, site::png};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_record_of_a_request_lists_its_fetches() {
    let authority = Authority::new("test").unwrap();
    let leaf = authority.issue(1, &["dns:localhost"]).unwrap();
    let origin = Origin::start(&leaf, Says::new(&[("/picture", &png("12345"))]));
    let port = origin.address.port();
    let component = guests::built("hostile_fetch");
    let digest = tensorgate_policy::hex(&Sha256::digest(&component));

    let backend = Backend::start(Act::Answer);
    let mut policy = support::policy(&backend.uri(), json!({}), json!({}));
    policy["handlers"]["h"] = json!({
        "component": "h.wasm", "sha256": digest, "timeout_ms": 5000,
        "config": {"urls": format!("https://localhost:{port}/picture\nhttps://elsewhere.example/secret")},
        "fetch": {
            "hosts": ["localhost"], "ports": [port], "content_types": ["image/png"], "ca": "ca.pem",
            "allow_private": ["127.0.0.0/8", "::1/128"],
        },
    });
    let model = &mut policy["models"]["vec"];
    model["preprocess"] = json!("h");
    model["accepts"] = json!({"inputs": model["inputs"]});
    let files: [(&str, &[u8]); 2] = [("h.wasm", &component), ("ca.pem", authority.pem.as_bytes())];
    let host = support::start_with(policy, &files).await;
    host.ready().await;

    // The model does not accept what the guest makes of the files. The request is rejected, and its
    // record lists what was fetched.
    let answer = host
        .gate
        .call("POST", INFER, support::infer_body(&[1.0]))
        .await;
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (500, "handler-fault")
    );
    let lines = host.audited();
    let line = lines.iter().find(|line| line["model"] == "vec").unwrap();
    let mut reached: Vec<Value> = line["reached"].as_array().unwrap().clone();
    reached.sort_by_key(|entry| entry["host"].as_str().unwrap().to_owned());
    let [refused, fetched] = reached.as_slice() else {
        panic!("{line}")
    };
    assert_eq!(
        (&refused["outcome"], &refused["handler"]),
        (&json!("refused"), &json!("h"))
    );
    assert!(
        refused["status"].is_null() && refused["bytes"] == 0,
        "{refused}"
    );
    assert_eq!(
        (
            &fetched["host"],
            &fetched["outcome"],
            &fetched["status"],
            &fetched["bytes"]
        ),
        (&json!("localhost"), &json!("ok"), &json!(200), &json!(5))
    );
    assert!(fetched["took_us"].as_u64().unwrap() > 0);
    assert!(
        !line.to_string().contains("picture"),
        "a URL's path may hold what a client sent: {line}"
    );

    // And it is counted by its outcome.
    let counted = host.metrics();
    for outcome in ["ok", "refused"] {
        let series = format!(
            "tensorgate_host_handler_asks_total{{handler=\"h\",lookup=\"\",outcome=\"{outcome}\"}} 1"
        );
        assert!(counted.lines().any(|line| line == series), "{counted}");
    }
    let seconds = "tensorgate_host_handler_ask_seconds_count{handler=\"h\",lookup=\"\"} 2";
    assert!(counted.lines().any(|line| line == seconds), "{counted}");
    host.stop().await;
}
