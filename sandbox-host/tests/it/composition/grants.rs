//! Handlers of a grant: its clients get their output, and other clients that of the model's
//! handlers.

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::composition::chains::{postprocess, preprocess};
use crate::support::backend::{Act, Backend};
use crate::support::{INFER, context, infer_body, key, policy, start_with};

#[tokio::test]
async fn each_grants_clients_get_what_its_own_handlers_make() {
    let backend = Backend::start(Act::Answer);
    let (times, minus) = (preprocess("f32.mul", "10"), postprocess("f32.sub", "4"));
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    let rule = |name: &str, component: &[u8]| {
        let sha256 = tensorgate_policy::hex(&Sha256::digest(component));
        json!({"component": name, "sha256": sha256, "fuel": 10_000_000, "memory_bytes": 1 << 20, "timeout_ms": 10_000})
    };
    policy["handlers"] =
        json!({"times": rule("times.wasm", &times), "minus": rule("minus.wasm", &minus)});
    let outputs = policy["models"]["vec"]["outputs"].clone();
    policy["clients"]["partner"] = json!({"api_keys": [{"sha256": "04".repeat(32)}]});
    let mut partners = policy["grants"][0].clone();
    partners["name"] = json!("partners");
    partners["clients"] = json!(["partner"]);
    partners["handlers"] = json!({
        "vec": {"preprocess": "times", "postprocess": "minus", "returns": {"outputs": outputs}}
    });
    policy["grants"].as_array_mut().unwrap().push(partners);
    let files: [(&str, &[u8]); 2] = [("times.wasm", &times), ("minus.wasm", &minus)];
    let running = start_with(policy, &files).await;
    running.ready().await;
    for (client, expected) in [("scorer", 2.0), ("partner", 16.0)] {
        let mut context = context("POST", INFER);
        context.client = Some(client.to_owned());
        let contexts = [context.sign(&key())];
        let answer = running
            .gate
            .send("POST", INFER, &contexts, infer_body(&[2.0]))
            .await;
        assert_eq!(answer.status, 200, "{client}: {answer:?}");
        assert_eq!(
            answer.json()["outputs"][0]["data"],
            json!([expected]),
            "{client}"
        );
    }
    running.stop().await;
}
