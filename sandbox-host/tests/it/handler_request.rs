//! What a handler of version 0.2 reads about its request, the bytes that it carries to later
//! handlers, and its own text for callers.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tensorgate_base::payload::{Payload, Role};
use tensorgate_policy::tensor::{Parameter, ParameterValue};
use tensorgate_policy_compiler::{raw, validate};
use tensorgate_sandbox::{
    CallContext, CallRequest, FaultCause, HandlerError, LoadedHandler, RequestFacts, Sandbox,
    SandboxConfig,
};

use crate::support::backend::{Act, Backend};
use crate::support::guests;
use crate::support::{Running, policy, start_with};

const WIT: &str = include_str!("../../../wit/handler.wit");
/// The most bytes that a handler may carry.
const MAX_CARRY_BYTES: usize = 65_536;

/// A component of version 0.2 around the body of its export. `$reject` takes a text for the log and
/// one for the caller.
fn component(world: &str, parameters: &str, body: &str) -> Vec<u8> {
    let module = format!(
        r#"(module
        (import "tensorgate:handler/context@0.2.0" "get" (func $context (param i32)))
        (import "tensorgate:handler/carry@0.2.0" "set" (func $set (param i32 i32)))
        (import "tensorgate:handler/carry@0.2.0" "get" (func $get (param i32)))
        (import "tensorgate:handler/config@0.2.0" "get" (func $config (param i32 i32 i32)))
        (memory (export "memory") 8)
        (global $next (mut i32) (i32.const 65536))
        (data (i32.const 0) "x")
        (data (i32.const 16) "for the log")
        (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
            (local $at i32)
            (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
            (global.set $next (i32.add (local.get $at) (local.get $size)))
            (local.get $at))
        (func $ok (param $tensors i32) (param $count i32) (result i32)
            (i32.store8 (i32.const 1024) (i32.const 0))
            (i32.store (i32.const 1028) (local.get $tensors))
            (i32.store (i32.const 1032) (local.get $count))
            (i32.const 1024))
        (func $reject (param $log i32) (param $log_bytes i32) (param $caller i32) (param $caller_bytes i32) (result i32)
            (i32.store8 (i32.const 1024) (i32.const 1))
            (i32.store8 (i32.const 1028) (i32.const 0))
            (i32.store (i32.const 1032) (local.get $log))
            (i32.store (i32.const 1036) (local.get $log_bytes))
            (i32.store8 (i32.const 1040) (i32.const 1))
            (i32.store (i32.const 1044) (local.get $caller))
            (i32.store (i32.const 1048) (local.get $caller_bytes))
            (i32.const 1024))
        (func (export "{world}") (param {parameters}) (result i32)
            {body}))"#
    );
    guests::component(&module, world, Some(WIT))
}

fn preprocess(body: &str) -> Vec<u8> {
    component("preprocess", "i32 i32 i32 i32 i32", body)
}

fn postprocess(body: &str) -> Vec<u8> {
    component("postprocess", "i32 i32", body)
}

/// A guest that rejects its input, with a text of the request for the log. `at` is the address of
/// the text's address.
fn tells(at: &str) -> Vec<u8> {
    preprocess(&format!(
        "(call $context (i32.const 2048))
        (call $reject (i32.load {at}) (i32.load offset=4 {at}) (i32.const 0) (i32.const 0))"
    ))
}

fn load(component: &[u8]) -> LoadedHandler {
    let sandbox = Sandbox::new(SandboxConfig {
        queue_wait_ms: 30_000,
        ..SandboxConfig::default()
    })
    .unwrap();
    let sha256 = tensorgate_policy::hex(&Sha256::digest(component));
    let document = json!({"version": 1, "handlers": {"h": {
        "component": "h.wasm", "sha256": sha256, "fuel": 1_000_000_000, "memory_bytes": 16 << 20,
        "timeout_ms": 10_000, "parameters": ["priority"],
    }}});
    let raw: raw::Policy = serde_json::from_value(document).unwrap();
    let (policy, _) = validate::validate(&raw).unwrap();
    let rule = &policy.handlers()["h"];
    sandbox
        .load("h", rule, Role::Preprocess, component)
        .unwrap()
}

fn request() -> CallRequest {
    let parameter = |name: &'static str| Parameter {
        name: name.into(),
        value: ParameterValue::Int64(3),
    };
    CallRequest {
        facts: Arc::new(RequestFacts {
            client: "scorer".to_owned(),
            model: "vec".to_owned(),
            version: "7".to_owned(),
            operation: "infer".to_owned(),
            time_unix_ms: 1_780_000_000_123,
            parameters: vec![parameter("secret"), parameter("priority")],
            tensors: vec![("x".to_owned(), vec![2])],
            media_type: None,
            media_bytes: 8,
        }),
        carry: Bytes::new(),
    }
}

fn with_request(component: &[u8]) -> LoadedHandler {
    load(component).with_context(CallContext {
        request: request(),
        ..CallContext::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_reads_the_texts_of_its_request() {
    let first_parameter = "(i32.load (i32.const 2096))";
    for (at, expected) in [
        ("(i32.const 2048)", "request-7"),
        ("(i32.const 2056)", "scorer"),
        ("(i32.const 2064)", "vec"),
        ("(i32.const 2072)", "7"),
        ("(i32.const 2080)", "infer"),
        // The policy does not list the other one.
        (first_parameter, "priority"),
    ] {
        let handler = with_request(&tells(at));
        let outcome = handler
            .preprocess("request-7", Payload::Tensors(Vec::new()))
            .await;
        let Err(HandlerError::Rejected { text, caller, .. }) = &outcome else {
            panic!("{expected}: {outcome:?}")
        };
        assert_eq!((text.as_str(), caller), (expected, &None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_reads_the_numbers_of_its_request() {
    let guest = preprocess(
        "(call $context (i32.const 2048)) (call $set (i32.const 2048) (i32.const 88)) (call $ok (i32.const 0) (i32.const 0))",
    );
    let handler = with_request(&guest);
    assert!(handler.reads_request());
    let called = handler
        .preprocess("r", Payload::Tensors(Vec::new()))
        .await
        .unwrap();
    let long = |at: usize| u64::from_le_bytes(called.carry[at..at + 8].try_into().unwrap());
    let short = |at: usize| u32::from_le_bytes(called.carry[at..at + 4].try_into().unwrap());
    assert_eq!(long(40), 1_780_000_000_123, "time");
    assert_eq!(short(52), 1, "parameters");
    assert_eq!(short(60), 1, "tensors");
    assert_eq!(called.carry[64], 0, "no media type");
    assert_eq!(long(80), 8, "bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn carried_bytes_have_a_limit() {
    let guest = preprocess(
        "(call $set (local.get 3) (local.get 4)) (call $ok (i32.const 0) (i32.const 0))",
    );
    let handler = load(&guest);
    for bytes in [0, 1, MAX_CARRY_BYTES, MAX_CARRY_BYTES + 1] {
        let data = Bytes::from(vec![7; bytes]);
        let body = Payload::Raw {
            content_type: "image/png".to_owned(),
            data: data.clone(),
        };
        match handler.preprocess("r", body).await {
            Ok(called) => assert_eq!(called.carry, data),
            Err(HandlerError::Fault { cause, detail, .. }) => {
                assert!(bytes > MAX_CARRY_BYTES, "{bytes}: {detail}");
                assert_eq!(cause, FaultCause::BadOutput);
                assert!(detail.contains("more than 65536 bytes"), "{detail}");
            }
            Err(error) => panic!("{bytes}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_of_version_0_1_runs_and_reads_nothing() {
    let handler = load(&guests::preprocess(
        "(call $ok (local.get 1) (local.get 2))",
    ));
    assert!(!handler.reads_request());
    let called = handler.preprocess("r", Payload::Tensors(Vec::new())).await;
    assert!(called.unwrap().tensors.is_empty());
}

/// A host whose model has handlers, each with a name, a component and further fields.
async fn start(backend: &Backend, handlers: &[(&str, &[u8], Value)]) -> Running {
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    let model = policy["models"]["vec"].as_object_mut().unwrap();
    let (inputs, outputs) = (model["inputs"].clone(), model["outputs"].clone());
    for (name, _, _) in handlers {
        model.insert((*name).to_owned(), json!(name));
        let (key, rules) = match *name {
            "preprocess" => ("accepts", json!({"inputs": inputs})),
            _ => ("returns", json!({"outputs": outputs})),
        };
        model.insert(key.to_owned(), rules);
    }
    for (name, component, fields) in handlers {
        let sha256 = tensorgate_policy::hex(&Sha256::digest(component));
        let mut rule = json!({"component": format!("{name}.wasm"), "sha256": sha256, "fuel": 1_000_000_000, "memory_bytes": 1 << 20, "timeout_ms": 10_000});
        for (key, value) in fields.as_object().unwrap() {
            rule[key] = value.clone();
        }
        policy["handlers"][*name] = rule;
    }
    let files: Vec<_> = (handlers.iter())
        .map(|(name, component, _)| (format!("{name}.wasm"), *component))
        .collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, file)| (&**name, *file)).collect();
    let running = start_with(policy, &files).await;
    running.ready().await;
    running
}

#[tokio::test]
async fn carried_bytes_belong_to_one_request() {
    let number = "(i32.load offset=20 (local.get 1))";
    // The model does not see the number: the handler before it carries the number past it, unless
    // it is 0.
    let before = preprocess(&format!(
        "(if (f32.ne (f32.load {number}) (f32.const 0)) (then (call $set {number} (i32.const 4))))
        (f32.store {number} (f32.const 0)) (call $ok (local.get 1) (local.get 2))"
    ));
    let after = postprocess(
        "(call $get (i32.const 2048))
        (f32.store (i32.load offset=20 (local.get 0)) (if (result f32) (i32.load (i32.const 2052))
            (then (f32.load (i32.load (i32.const 2048)))) (else (f32.const -1))))
        (call $ok (local.get 0) (local.get 1))",
    );
    let backend = Backend::start(Act::Answer);
    let handlers: [(&str, &[u8], Value); 2] = [
        ("preprocess", &before, json!({})),
        ("postprocess", &after, json!({})),
    ];
    let running = start(&backend, &handlers).await;
    let gate = &running.gate;
    for _ in 0..4 {
        let (five, nothing, six) =
            tokio::join!(gate.infer(&[5.0]), gate.infer(&[0.0]), gate.infer(&[6.0]));
        for (answer, expected) in [(five, 5.0), (nothing, -1.0), (six, 6.0)] {
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.json()["outputs"][0]["data"], json!([expected]));
        }
    }
    running.stop().await;
}

/// A guest that rejects its input, with the policy's text for the caller.
fn rejects() -> Vec<u8> {
    preprocess(
        "(call $config (i32.const 0) (i32.const 1) (i32.const 2048))
        (call $reject (i32.const 16) (i32.const 11) (i32.load (i32.const 2052)) (i32.load (i32.const 2056)))",
    )
}

#[tokio::test]
async fn a_text_for_the_caller_is_passed_on_with_public_errors_only() {
    let rejected = "the input was rejected";
    let hostile = "<script>a(\"b\")</script>\r\nset-cookie: c=d\u{1b}[2J\u{202e}";
    let shown = "<script>a(\"b\")</script> set-cookie: c=d[2J";
    let long = "é".repeat(1_000);
    for (errors, text, expected) in [
        ("public", "row 3 has no label", Some("row 3 has no label")),
        ("private", "row 3 has no label", None),
        ("public", "\r\n\0", None),
        ("public", hostile, Some(shown)),
        ("public", long.as_str(), Some(&*"é".repeat(256))),
    ] {
        let backend = Backend::start(Act::Answer);
        let fields = json!({"errors": errors, "config": {"x": text}});
        let guest = rejects();
        let running = start(&backend, &[("preprocess", guest.as_slice(), fields)]).await;
        let answer = running.gate.infer(&[1.0]).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(answer.reason(), "handler-rejected");
        let error = expected.map_or(rejected.to_owned(), |text| format!("{rejected}: {text}"));
        assert_eq!(answer.json()["error"], json!(error), "{errors} {text:?}");
        assert_eq!(answer.json()["title"], json!(rejected));
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert!(!answer.headers.contains_key("set-cookie"));
        assert!(!String::from_utf8_lossy(&answer.body).contains("for the log"));
        running.stop().await;
    }
}

#[tokio::test]
async fn the_text_of_a_fault_is_never_passed_on() {
    let faults = preprocess(
        "(i32.store8 (i32.const 1024) (i32.const 1)) (i32.store8 (i32.const 1028) (i32.const 1))
        (i32.store (i32.const 1032) (i32.const 16)) (i32.store (i32.const 1036) (i32.const 11))
        (i32.const 1024)",
    );
    let backend = Backend::start(Act::Answer);
    let fields = json!({"errors": "public"});
    let running = start(&backend, &[("preprocess", faults.as_slice(), fields)]).await;
    let answer = running.gate.infer(&[1.0]).await;
    assert_eq!(
        (answer.status, answer.reason()),
        (500, "handler-fault".to_owned())
    );
    assert_eq!(
        answer.json()["error"],
        json!("the request could not be processed")
    );
    running.stop().await;
}
